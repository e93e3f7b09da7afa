"""Transferring weights: names, shares and refusals. That the numbers then agree is tested in tests/parity."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from yolostudy.hooks import load_weights, save_weights
from yolostudy.network import YOLO
from yolostudy.weights import CONSTANTS, LAYERS, TransferError, export_key, rename_key, transfer, widen_classes


def exported(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {export_key(name): tensor.clone() for name, tensor in model.state_dict().items()}


def test_names_go_there_and_back():
    names = list(YOLO(3).state_dict())
    assert [rename_key(export_key(name)) for name in names] == names
    assert all(export_key(name).startswith("model.") for name in names)
    assert len({export_key(name) for name in names}) == len(names)


def test_a_layer_number_is_not_taken_for_the_beginning_of_another():
    assert rename_key("model.1.conv.weight") == "backbone.down2.conv.weight"
    assert rename_key("model.12.cv1.conv.weight") == "neck.csp_c.cv1.conv.weight"
    assert rename_key("model.22.cv2.1.2.bias") == "head.box.1.2.bias"
    assert rename_key("model.22.dfl.conv.weight") is None
    assert rename_key("something.else") == "something.else"
    assert len(set(LAYERS.values())) == len(LAYERS)


def test_a_whole_transfer_copies_everything_and_keeps_the_models_type():
    source, target = YOLO(3), YOLO(3)
    report = transfer(
        {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in exported(source).items()},
        target,
    )
    assert (
        report.share == 1
        and len(report.matched) == 354
        and not (report.missing or report.unexpected or report.wrong_shape)
    )
    wanted = source.state_dict()
    for name, tensor in target.state_dict().items():
        assert tensor.dtype == wanted[name].dtype
        torch.testing.assert_close(tensor, wanted[name], rtol=1e-3, atol=1e-4)


def test_the_backbone_alone_leaves_the_rest_as_it_was():
    source, target = YOLO(80), YOLO(3)
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    report = transfer(exported(source), target, part="backbone")
    assert report.share == 1 and report.missing == [] and report.unexpected == []
    for name, tensor in target.state_dict().items():
        assert torch.equal(tensor, source.state_dict()[name] if name.startswith("backbone.") else before[name])


def test_other_classes_are_named_as_wrong_shapes():
    report = transfer(exported(YOLO(80)), YOLO(3), minimum_share=0.5)
    assert {name.split(".")[0] for name in report.wrong_shape} == {"head"} and 0.5 < report.share < 1
    assert "wrong shape" in str(report)


def test_a_shifted_checkpoint_is_an_error_and_changes_nothing():
    """Museum row 37: a layer inserted, all later names one off, and the log says "162 of 419
    transferred".
    """
    shifted = {}
    for key, tensor in exported(YOLO(3)).items():
        _, number, rest = key.split(".", 2)
        shifted[f"model.{int(number) + (int(number) > 3)}.{rest}"] = tensor
    target = YOLO(3)
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    with pytest.raises(
        TransferError, match=r"only \d+\.\d% of the weights fit.*First missing: .*part='backbone'"
    ) as caught:
        transfer(shifted, target)
    assert caught.value.report.share < 0.9 and caught.value.report.missing
    assert all(torch.equal(tensor, before[name]) for name, tensor in target.state_dict().items())


def test_an_unknown_part_is_refused():
    with pytest.raises(ValueError, match="choose all or backbone"):
        transfer({}, YOLO(3), part="head")


@given(st.sampled_from(sorted(LAYERS.values())), st.text(min_size=1))
def test_whatever_follows_the_layer_stays(layer, rest):
    assert rename_key(export_key(f"{layer}.{rest}")) == f"{layer}.{rest}"


@given(st.sampled_from(sorted(LAYERS)), st.text(min_size=1))
def test_whatever_follows_the_number_stays(number, rest):
    if (key := f"model.{number}.{rest}") not in CONSTANTS and not rest.startswith(("cv2.", "cv3.")):
        assert rename_key(key) == f"{LAYERS[number]}.{rest}" and export_key(rename_key(key)) == key


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.sampled_from(["whole", "missing", "reshaped"]), min_size=6, max_size=6),
    st.floats(0, 1),
    st.integers(0, 3),
)
def test_every_name_is_accounted_for_once(fates, minimum_share, extra):
    model = nn.ModuleDict(
        {"backbone": nn.ModuleDict({"stem": nn.BatchNorm2d(3)}), "head": nn.Conv2d(2, 5, 1, bias=False)}
    )
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fate = dict(zip(before, fates, strict=True))
    table = {
        name: tensor + 1 if fate[name] == "whole" else torch.ones(7)
        for name, tensor in before.items()
        if fate[name] != "missing"
    }
    table |= {f"extra.{number}": torch.ones(1) for number in range(extra)}
    share = sum(tensor.numel() for name, tensor in before.items() if fate[name] == "whole") / sum(
        t.numel() for t in before.values()
    )
    try:
        report = transfer(table, model, minimum_share=minimum_share)
    except TransferError as error:
        report = error.report
        assert share < minimum_share
    else:
        assert share >= minimum_share
    assert {name: "whole" for name in report.matched} | {name: "missing" for name in report.missing} | {
        name: "reshaped" for name in report.wrong_shape
    } == fate
    assert len(report.unexpected) == extra and report.share == pytest.approx(share)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name] + (fate[name] == "whole" and share >= minimum_share))


# ---- other classes -------------------------------------------------------------------------------


@pytest.mark.parametrize("theirs", [False, True], ids=["our names", "their names"])
def test_classes_go_by_their_names(theirs):
    old, new, model = ("a", "b", "c"), ("d", "c", "a", "e"), YOLO(4)
    source = YOLO(3)
    for level in source.head.cls:
        nn.init.normal_(level[-1].bias)
    table = exported(source) | {CONSTANTS[0]: torch.arange(16.0)} if theirs else source.state_dict()
    keys, before = [*table], {name: tensor.clone() for name, tensor in model.state_dict().items()}
    report = transfer(widen_classes(table, old, new, model), model, minimum_share=1.0)
    assert len(report.matched) == 354 and not report.unexpected and [*table] == keys
    for level in range(3):
        for kind in ("weight", "bias"):
            mine, own = model.state_dict()[f"head.cls.{level}.2.{kind}"], before[f"head.cls.{level}.2.{kind}"]
            known = source.state_dict()[f"head.cls.{level}.2.{kind}"]
            assert torch.equal(mine, torch.stack([own[0], known[2], known[0], own[3]]))
    assert torch.equal(model.backbone.stem.conv.weight, source.backbone.stem.conv.weight)


def test_nano_is_as_wide_for_10_classes_as_for_20_and_not_for_80():
    widths = {classes: YOLO(classes).head.cls[0][0].conv.out_channels for classes in (1, 10, 20, 64, 65, 80)}
    assert widths == {1: 64, 10: 64, 20: 64, 64: 64, 65: 65, 80: 80}


def test_class_names_that_do_not_belong_are_refused():
    weights, model = YOLO(3).state_dict(), YOLO(2)
    with pytest.raises(
        ValueError,
        match=r"head.cls.0.2.weight has 3 classes in the weights and 2 in the model, but 2 and 2 class names",
    ):
        widen_classes(weights, ["a", "b"], ["a", "b"], model)
    with pytest.raises(ValueError, match=r"but 3 and 1 class names"):
        widen_classes(weights, ["a", "b", "c"], ["a"], model)
    with pytest.raises(ValueError, match=r"has 0 classes in the weights"):
        widen_classes({}, ["a"], ["a", "b"], model)
    names = [str(number) for number in range(80)]
    with pytest.raises(ValueError, match=r"80 channels wide in the weights and 64 in the model.*part='backbone'"):
        widen_classes(YOLO(80).state_dict(), names, names[:2], model)


def test_saved_weights_come_back_with_their_card(tmp_path):
    model, card = YOLO(2), {"classes": ["a", "b"], "map50": 0.5}
    save_weights(tmp_path / "full.safetensors", model, card)
    save_weights(tmp_path / "half.safetensors", model, card, half=True)
    weights, read = load_weights(tmp_path / "full.safetensors")
    assert read == card and all(torch.equal(weights[name], tensor) for name, tensor in model.state_dict().items())
    assert (tmp_path / "half.safetensors").stat().st_size < 0.6 * (tmp_path / "full.safetensors").stat().st_size < 16e6


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    class Hostile:
        def __reduce__(self):
            return (print, ("this ran",))

    torch.save({"model": Hostile()}, tmp_path / "hostile.pt")
    with pytest.raises(ValueError, match=r"hostile.pt: cannot be read as weights"):
        load_weights(tmp_path / "hostile.pt")
    (tmp_path / "torn.safetensors").write_bytes(b"\x00" * 50)
    with pytest.raises(ValueError, match=r"torn.safetensors: cannot be read as weights"):
        load_weights(tmp_path / "torn.safetensors")
