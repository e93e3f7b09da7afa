"""The key-mapping board: its numbers against the transfer's report, its picture, its search, and
that it follows a renaming.
"""

from base64 import b64decode

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from solutions import weights as reference
from yolostudy import views
from yolostudy.canvas import style
from yolostudy.views.weights import key_board, key_map

OURS = ("backbone.stem.conv", "backbone.stem.bn", "neck.csp_c.cv1", "head.box.0", "head.cls.0")
THEIRS = ("model.0.conv", "model.0.bn", "model.12.cv1", "model.22.cv2.0", "model.22.cv3.0")


def model_of(names=OURS) -> nn.Module:
    model = nn.Module()
    for name in names:
        inner = model
        *path, last = name.split(".")
        for word in path:
            if word not in inner._modules:
                inner.add_module(word, nn.Module())
            inner = inner._modules[word]
        inner.add_module(last, nn.Linear(2, 3))
    return model


def table() -> dict[str, torch.Tensor]:
    own = model_of().state_dict()
    return {
        key: tensor
        for theirs, ours in zip(THEIRS, OURS)
        for key, tensor in ((f"{theirs}.{word}", own[f"{ours}.{word}"]) for word in ("weight", "bias"))
    } | {"model.22.dfl.conv.weight": torch.zeros(1, 16, 1, 1)}


CHANGES = st.sampled_from(["keep", "drop", "reshape", "stranger"])


@settings(max_examples=60, deadline=None)
@given(st.lists(CHANGES, min_size=10, max_size=10), st.sampled_from(["all", "backbone"]))
def test_the_board_agrees_with_the_report(changes, part):
    """Whatever is missing, strange or of another shape: transfer is the other opinion."""
    state = {}
    for change, (key, tensor) in zip(changes, table().items()):
        if change == "reshape":
            tensor = torch.zeros(5, 2)
        if change != "drop":
            state[f"{key}.x" if change == "stranger" else key] = tensor
    state |= {"model.22.dfl.conv.weight": torch.zeros(1), "fc.weight": torch.zeros(2)}
    report = reference.transfer(state, model_of(), part, minimum_share=0.0)
    found = views.map_keys(state, model_of(), reference.rename_key, part)
    for fate, names in (("matched", report.matched), ("missing", report.missing), ("wrong shape", report.wrong_shape)):
        assert [key.name for key in found.search(fate=fate)] == names or {
            k.name for k in found.search(fate=fate)
        } == set(names)
        assert found.fates[fate] == len(names)
    assert {key.name for key in found.search(fate="unexpected")} == set(report.unexpected)
    assert found.share == pytest.approx(report.share)
    offered = [key.key for key in found.keys if key.key is not None]
    assert offered == [*state], "each key of the checkpoint stands there once"
    assert sorted(key.name for key in found.keys if key.own_shape is not None) == sorted(model_of().state_dict()), (
        "and each of the model's"
    )


def test_layers_are_folded_and_a_head_is_parted_into_its_branches():
    found = views.map_keys(table(), model_of(), reference.rename_key)
    pairs = {(key.layer, key.own_layer) for key in found.search(fate="matched")}
    assert pairs == {
        ("model.0", "backbone.stem"),
        ("model.12", "neck.csp_c"),
        ("model.22.cv2", "head.box"),
        ("model.22.cv3", "head.cls"),
    }
    aside = found.search(fate=key_map.ASIDE)
    assert [(key.key, key.name, key.own_layer) for key in aside] == [("model.22.dfl.conv.weight", None, "")]
    assert found.fates == {"matched": 10, "wrong shape": 0, "missing": 0, "unexpected": 0, key_map.ASIDE: 1}
    assert found.share == 1 and str(found) == "10 matched, 1 not asked for; 100.0% of the numbers fit"


def test_of_two_keys_with_one_name_the_last_counts():
    state = {"model.0.conv.weight": torch.zeros(9), "backbone.stem.conv.weight": torch.zeros(3, 2)}
    found = views.map_keys(state, model_of(OURS[:1]), reference.rename_key)
    assert [(key.key, key.fate) for key in found.keys if key.key] == [
        ("model.0.conv.weight", "unexpected"),
        ("backbone.stem.conv.weight", "matched"),
    ]
    report = reference.transfer(state, model_of(OURS[:1]), minimum_share=0)
    assert found.share == pytest.approx(report.share) and found.fates["matched"] == len(report.matched)


def texts(figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_the_picture_has_a_line_for_each_meeting_and_every_share():
    state = table() | {"model.22.cv3.0.weight": torch.zeros(7, 2), "model.30.conv.weight": torch.zeros(4)}
    del state["model.12.cv1.weight"]
    found = views.map_keys(state, model_of(), reference.rename_key)
    figure = views.draw_keys(found)
    assert len(style.as_png(figure)) <= style.MAX_BYTES
    lines = {(line.get_color(), tuple(line.get_ydata())) for line in figure.axes[0].lines}
    green, purple = key_board.COLOURS["matched"], key_board.COLOURS["wrong shape"]
    assert lines == {(green, (0, 0)), (green, (1, 1)), (green, (2, 2)), (green, (3, 3)), (purple, (3, 3))}
    seen = texts(figure)
    assert {"8 matched", "1 wrong shape", "1 missing", "1 unexpected", "1 not asked for"} <= {*seen}
    shares = [float(text.removesuffix("%")) for text in seen if text.endswith("%")]
    assert shares == pytest.approx([40, 20, 20, 20]) and "73.3% fit" in seen
    assert views.draw_keys(views.map_keys({}, nn.Module())).axes  # nothing on either side


def test_the_board_searches_on_both_sides_and_by_fate():
    state = table()
    del state["model.22.cv3.0.bias"]
    board = views.KeyBoard(state, model_of(), reference.rename_key)
    assert board.listing.value == "" and len(board.hits) == len(board.numbers.keys)
    board.text.value = "model.22"
    assert {key.own_layer for key in board.hits} == {"head.box", "head.cls", ""}
    board.text.value = "head.cls"
    assert [(key.key, key.name) for key in board.hits] == [
        ("model.22.cv3.0.weight", "head.cls.0.weight"),
        (None, "head.cls.0.bias"),
    ]
    assert "3 × 2" in board.listing.value and "more" not in board.listing.value
    pale = {text.get_text() for text in board.figure.axes[0].texts if text.get_alpha() not in (None, 1.0)}
    assert {"backbone.stem", "model.0", "head.box"} <= pale and not {"head.cls", "model.22.cv3"} & pale
    board.fate.value = "missing"
    assert [key.name for key in board.hits] == ["head.cls.0.bias"]
    board.text.value = "no such thing"
    assert board.hits == () and "no such name" in board.listing.value
    bundle = board._repr_mimebundle_()
    assert bundle["text/plain"] == "KeyBoard" and len(b64decode(bundle["image/png"])) <= style.MAX_BYTES


def test_a_long_list_is_cut_and_says_so():
    names = [f"backbone.stem.{number}" for number in range(key_board.MAX_LISTED)]
    board = views.KeyBoard(model_of(names).state_dict(), model_of(names), lambda key: key)
    board.text.value = "stem"
    assert (
        board.listing.value.count("<tr>") == key_board.MAX_LISTED + 1
        and f"and {key_board.MAX_LISTED} more" in board.listing.value
    )


def test_the_board_follows_the_course_and_says_what_went_wrong(monkeypatch):
    from yolostudy import weights

    monkeypatch.setattr(weights, "rename_key", lambda key: key)
    board = views.KeyBoard(table(), model_of())
    assert board.numbers.fates["unexpected"] == 11
    before = board.picture.value
    board.follow()
    assert board.picture.value is before, "nothing has changed, so nothing is drawn"
    monkeypatch.setattr(weights, "rename_key", reference.rename_key)
    board.follow()
    assert board.numbers.share == 1 and board.picture.value != before

    def broken(key):
        raise NotImplementedError("exercise weights.rename_key")

    monkeypatch.setattr(weights, "rename_key", broken)
    before = board.picture.value
    board.follow()
    assert "NotImplementedError: exercise weights.rename_key" in board.message.value and board.picture.value == before
    board.update(lambda key: None)
    assert board.message.value == "" and board.numbers.fates["missing"] == 10
    monkeypatch.setattr(weights, "rename_key", reference.rename_key)
    board.follow()
    assert board.numbers.fates["missing"] == 10, "one that was given by hand stays"


def test_in_a_notebook_the_board_follows_after_each_cell(monkeypatch):
    import IPython
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    from yolostudy import weights

    shell = InteractiveShell(config=Config(HistoryManager={"enabled": False}))
    shell.kernel = "what tells a notebook from a terminal"
    monkeypatch.setattr(IPython, "get_ipython", lambda: shell)
    monkeypatch.setattr(weights, "rename_key", lambda key: key)
    board = views.KeyBoard(table(), model_of())
    monkeypatch.setattr(weights, "rename_key", reference.rename_key)
    assert board.numbers.share == 0
    shell.run_cell("pass")
    assert board.numbers.share == 1
