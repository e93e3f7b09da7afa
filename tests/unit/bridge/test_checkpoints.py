"""Any file of weights is opened, and nothing in it runs; Ultralytics reads the same numbers."""

import builtins
import copy
import os
import pickle
import shutil
import sys

import numpy as np
import pytest
import torch
from torch import nn

from yolostudy.bridge import checkpoints, scenes
from yolostudy.bridge import ultralytics as oracle
from yolostudy.data.planes import KEYPOINTS
from yolostudy.hooks import Averaging, save_weights
from yolostudy.network import YOLO
from yolostudy.pose import PoseYOLO
from yolostudy.weights import transfer


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """best.pt of one epoch of Ultralytics' own trainer: half precision, averaged, no optimizer."""
    path = tmp_path_factory.mktemp("trained") / "best.pt"
    with scenes.trainer("detect") as trainer:
        trainer.train()
        shutil.copy(trainer.best, path)
        shutil.copy(trainer.last, path.with_name("last.pt"))
    return path


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """What `YOLO("yolov8n.yaml").save(...)` writes."""
    oracle.load()
    from ultralytics import YOLO as Theirs

    path = tmp_path_factory.mktemp("saved") / "yolov8n.pt"
    Theirs("yolov8n.yaml").save(path)
    return path


def equal(weights: dict, expected: dict) -> bool:
    return [*weights] == [*expected] and all(torch.equal(weights[name], expected[name]) for name in expected)


# ---- what Ultralytics saves ----------------------------------------------------------------------


def test_a_saved_network_is_read_as_ultralytics_reads_it(saved, monkeypatch):
    expected = oracle.state_dict_for(saved)
    monkeypatch.setitem(sys.modules, "ultralytics", None)  # an import of it would raise
    weights, card = checkpoints.load(saved)
    assert equal(weights, expected) and len(weights) == 355
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32, torch.int64}
    assert (card["kind"], card["num_classes"], card["classes"][:2]) == ("detect", 80, ["0", "1"])
    assert card["preset"] == {"size": "n", "image_size": 640}


def test_what_its_trainer_leaves_is_read_with_its_classes(trained, monkeypatch):
    expected = oracle.state_dict_for(trained)
    monkeypatch.setitem(sys.modules, "ultralytics", None)
    weights, card = checkpoints.load(trained)
    assert equal(weights, expected)
    assert card["classes"] == [f"A{number}" for number in range(1, 21)] and card["preset"] == {
        "size": "n",
        "image_size": 64,
    }
    assert card["args"]["optimizer"] == "SGD" and card["args"]["epochs"] == 1


def test_the_average_is_read_where_there_is_one(tmp_path):
    model, average = oracle.build("n", 2, seed=1), oracle.build("n", 2, seed=2)
    torch.save(
        {"epoch": 3, "model": model, "ema": average, "optimizer": {"state": {}}, "train_args": {"imgsz": 320}},
        tmp_path / "a.pt",
    )
    weights, card = checkpoints.load(tmp_path / "a.pt")
    assert equal(weights, oracle.state_dict_for(average)) and card["preset"]["image_size"] == 320
    torch.save({"model": model, "ema": None}, tmp_path / "b.pt")
    assert equal(checkpoints.load(tmp_path / "b.pt")[0], oracle.state_dict_for(model))
    torch.save(model, tmp_path / "c.pt")
    assert equal(checkpoints.load(tmp_path / "c.pt")[0], oracle.state_dict_for(model))


def test_what_older_checkpoints_hold_is_read(tmp_path):
    """A method of a layer, numpy's numbers, a path, a namespace, the module names of 8.0."""
    from pathlib import Path
    from types import SimpleNamespace

    model = oracle.build("n", 2, seed=1)
    expected = oracle.state_dict_for(model)
    model.model[0].before = model.model[0].forward
    model.model[0].register_buffer("scratch", torch.ones(3), persistent=False)
    extra = {"fitness": np.float64(0.5), "where": Path("runs"), "more": SimpleNamespace(a=1)}
    torch.save({"model": model, "train_metrics": extra}, tmp_path / "old.pt")
    weights, card = checkpoints.load(tmp_path / "old.pt")
    assert equal(weights, expected) and card["kind"] == "detect"


def test_nothing_of_the_real_classes_is_made(saved, monkeypatch):
    """Not even when they are on torch's list for the whole process, as Ultralytics puts them."""
    oracle.load()
    from ultralytics.nn.tasks import DetectionModel

    before = torch.serialization.get_safe_globals()
    torch.serialization.add_safe_globals([DetectionModel, nn.Sequential])
    monkeypatch.setattr(
        DetectionModel, "__setstate__", lambda *_: pytest.fail("code of the file's class ran"), raising=False
    )
    try:
        network = checkpoints._read_pickle(saved)["model"]
        assert isinstance(network, checkpoints.Inert) and isinstance(
            vars(network)["_modules"]["model"], checkpoints.Inert
        )
        assert {DetectionModel, nn.Sequential} <= {*torch.serialization.get_safe_globals()}
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


# ---- state dicts, and files of this course -------------------------------------------------------


@pytest.mark.parametrize(
    "wrap",
    [lambda t: t, lambda t: {"model": t}, lambda t: {"state_dict": t, "epoch": 3}],
    ids=["bare", "model", "state"],
)
@pytest.mark.parametrize("new", [True, False], ids=["zip", "before torch 1.6"])
def test_state_dicts(tmp_path, wrap, new):
    table = {"a.weight": torch.arange(6.0).reshape(2, 3).half(), "a.count": torch.tensor(3)}
    torch.save(wrap(table), tmp_path / "a.pth", _use_new_zipfile_serialization=new)
    weights, card = checkpoints.load(tmp_path / "a.pth")
    assert equal(weights, {"a.weight": torch.arange(6.0).reshape(2, 3), "a.count": torch.tensor(3)}) and card == {}


def test_files_of_this_course(tmp_path):
    model, card = YOLO(2), {"classes": ["a", "b"], "preset": {"size": "n"}}
    save_weights(tmp_path / "a.safetensors", model, card, half=True)
    weights, read = checkpoints.load(tmp_path / "a.safetensors")
    assert read == card and {tensor.dtype for tensor in weights.values()} == {torch.float32, torch.int64}
    averaging = Averaging(copy.deepcopy(model))
    for parameter in averaging.average.model.parameters():
        parameter.data += 1
    torch.save(
        {"model": model.state_dict(), "hooks": {"Averaging": averaging.state_dict(), "Other": {}}}, tmp_path / "last.pt"
    )
    assert equal(checkpoints.load(tmp_path / "last.pt")[0], averaging.average.model.state_dict())
    torch.save({"model": model.state_dict(), "hooks": {"Other": {}}}, tmp_path / "last.pt")
    assert equal(checkpoints.load(tmp_path / "last.pt")[0], model.state_dict())


# ---- hostile and broken files --------------------------------------------------------------------


class Call:
    """Pickles as a call of `function` on opening."""

    def __init__(self, function, *arguments, state=None):
        self.call = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.call


def touch(path) -> str:
    return f"open({str(path)!r}, 'w').close()"


HOSTILE = {
    "a shell": (lambda mark: Call(os.system, f"touch {mark}"), r"would call (posix|nt)\.system"),
    "eval": (lambda mark: Call(eval, touch(mark)), r"would call builtins\.eval"),
    "exec": (lambda mark: Call(exec, touch(mark)), r"would call builtins\.exec"),
    "import": (lambda mark: Call(__import__, "antigravity"), r"would call builtins\.__import__"),
    "open": (lambda mark: Call(open, str(mark), "w"), r"would call _?io\.open"),
    "getattr of a module": (lambda mark: Call(getattr, builtins, "eval"), r"cannot be read as weights|cannot pickle"),
    "getattr of a class": (lambda mark: Call(getattr, nn.Conv2d, "__init__"), r"would call getattr for '__init__'"),
    "getattr of a string": (lambda mark: Call(getattr, "text", "format"), r"would call getattr for 'format'"),
    "getattr with a default": (
        lambda mark: Call(getattr, nn.Conv2d, "forward", 1),
        r"would call getattr for 'forward'",
    ),
    "another torch.load": (lambda mark: Call(torch.load, str(mark)), r"would call torch\.serialization\.load"),
    "torch.hub": (lambda mark: Call(torch.hub.load, str(mark)), r"would call torch\.hub\.load"),
    "numpy's arrays": (lambda mark: np.ones(3), r"would call numpy\.\w+\.multiarray\._reconstruct"),
    "a class of torch beside nn": (
        lambda mark: Call(torch.utils.data.DataLoader, [1]),
        r"would call torch\.utils\.data",
    ),
}


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("place", ["alone", "beside a real network", "in a layer's state"])
def test_a_hostile_pickle_is_refused_and_named(kind, place, tmp_path, monkeypatch):
    make, sentence = HOSTILE[kind]
    mark, path = tmp_path / "it-ran", tmp_path / "hostile.pt"
    network = nn.Sequential(nn.Conv2d(3, 4, 1))
    bad = make(mark)
    if place == "in a layer's state":
        network[0].bad = bad
    content = bad if place == "alone" else {"model": network, "date": bad if place == "beside a real network" else ""}
    try:
        torch.save(content, path)
    except TypeError as error:  # a module cannot be pickled at all
        assert "cannot pickle" in str(error)
        return
    with pytest.raises(ValueError, match=sentence) as caught:
        checkpoints.load(path)
    assert (
        str(caught.value).startswith(f"{path}: cannot be read as weights: ")
        and len(str(caught.value).splitlines()) == 1
    )
    assert not mark.exists() and "antigravity" not in sys.modules


@pytest.mark.parametrize("way", ["another protocol", "before torch 1.6", "no torch file"])
def test_other_ways_in_are_shut_too(way, tmp_path):
    mark, path = tmp_path / "it-ran", tmp_path / "hostile.pt"
    content = {"model": Call(eval, touch(mark))}
    if way == "another protocol":
        torch.save(content, path, pickle_protocol=4)
    elif way == "before torch 1.6":
        torch.save(content, path, _use_new_zipfile_serialization=False)
    else:
        path.write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(ValueError, match=r"hostile.pt: cannot be read as weights"):
        checkpoints.load(path)
    assert not mark.exists()


def test_an_inert_thing_never_does_anything(tmp_path):
    """A name under torch.nn.modules may be any function: it becomes a record, without look-up."""
    import types

    module = types.ModuleType("ultralytics.nn.hostile")
    ran = []

    def strike(*arguments):
        ran.append(arguments)

    strike.__module__, strike.__qualname__ = module.__name__, "strike"
    module.strike = strike
    sys.modules[module.__name__] = module
    try:
        torch.save({"model": {"a": torch.ones(1)}, "extra": Call(strike, 1, 2)}, tmp_path / "a.pt")
        weights, _ = checkpoints.load(tmp_path / "a.pt")
    finally:
        del sys.modules[module.__name__]
    assert not ran and torch.equal(weights["a"], torch.ones(1))


def endless():
    network = nn.Sequential(nn.Conv2d(1, 1, 1))
    network._modules["again"] = network
    return network


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"model": "a name"}, r"it holds a str where a network or a table of tensors should be"),
        ([1, 2], r"it holds a list where"),
        ({"a": torch.ones(1), "b": 3}, r"'b' is int, no tensor"),
        ({"model": {1: torch.ones(1)}}, r"1 is Tensor, no tensor|1 is no name"),
        (endless(), r"recursion"),
    ],
    ids=["a string", "a list", "a number among tensors", "a number for a name", "a network within itself"],
)
def test_what_holds_no_weights_is_said(content, sentence, tmp_path):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=sentence):
        checkpoints.load(tmp_path / "a.pt")


def test_broken_files_are_named(saved, tmp_path):
    whole = saved.read_bytes()
    script = torch.jit.script(nn.Sequential(nn.Conv2d(1, 1, 1)))
    script.save(str(tmp_path / "script.pt"))
    for name, content in {
        "empty.pt": b"",
        "text.pt": b"<!DOCTYPE html>",
        "torn.pt": whole[: len(whole) // 2],
        "empty.safetensors": b"",
        "torn.safetensors": b"\x00" * 50,
        "script.pt": (tmp_path / "script.pt").read_bytes(),
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=rf"{name}: cannot be read as weights: .+\. Give a .safetensors file"):
            checkpoints.load(tmp_path / name)
    with pytest.raises(FileNotFoundError, match=r"nowhere.pt: there is no such weights file"):
        checkpoints.load(tmp_path / "nowhere.pt")


# ---- the way back: what is refused (that it agrees is tested in tests/parity) --------------------


def test_what_is_no_whole_detector_is_not_made():
    weights = YOLO(3).state_dict()
    with pytest.raises(ValueError, match=r"do not fit a YOLOv8n of 2 classes: size mismatch for model.22"):
        checkpoints.make(weights, ["a", "b"])
    backbone = {name: tensor for name, tensor in weights.items() if name.startswith("backbone.")}
    with pytest.raises(ValueError, match=r"162 names differ, such as model.12.*A backbone alone cannot be exported"):
        checkpoints.make(backbone, ["a", "b", "c"])
    with pytest.raises(ValueError, match=r"1 names differ, such as fc.weight"):
        checkpoints.make(weights | {"fc.weight": torch.ones(1)}, ["a", "b", "c"])


# ---- pose ----------------------------------------------------------------------------------------

POINTS = ("nose", "tail", "left tip", "right tip")


def a_pose_network(shape=(4, 3), seed: int = 1) -> PoseYOLO:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return PoseYOLO(2, keypoint_shape=shape).eval()


def test_what_the_pose_trainer_leaves_is_read_with_its_keypoints(tmp_path, monkeypatch):
    with scenes.trainer("pose") as trainer:
        trainer.train()
        shutil.copy(trainer.best, tmp_path / "best.pt")
    expected = oracle.state_dict_for(tmp_path / "best.pt")
    monkeypatch.setitem(sys.modules, "ultralytics", None)
    weights, card = checkpoints.load(tmp_path / "best.pt")
    assert equal(weights, expected) and len(weights) == 397
    assert (card["kind"], card["keypoint_shape"], card["num_classes"]) == ("pose", [4, 3], 20)
    assert (card["keypoint_names"], card["flip_index"]) == ([*KEYPOINTS], [0, 1, 3, 2])


def test_names_of_keypoints_that_are_none():
    """Numbers are written where nobody gave names; and classes may disagree."""
    names_of = checkpoints.names_of_keypoints
    assert names_of({0: ["0", "1"], 1: ["0", "1"]}) == names_of(None) == names_of({}) == ()
    assert names_of({0: ["a", "b"], 1: ["b", "a"]}) == ()
    assert names_of({0: ["a", "b"], 1: ["a", "b"]}) == ("a", "b")


@pytest.mark.parametrize(("shape", "points"), [((4, 3), POINTS), ((4, 2), ()), ((17, 3), ())])
@torch.no_grad()
def test_a_pose_network_there_and_back(shape, points, tmp_path):
    oracle.load()
    from ultralytics import YOLO as Theirs
    from ultralytics.nn.tasks import PoseModel

    ours, images = a_pose_network(shape), torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    torch.save(checkpoints.make(ours.state_dict(), ["a", "b"], "n", 160, shape, points), tmp_path / "a.pt")
    opened = Theirs(tmp_path / "a.pt")
    assert type(opened.model) is PoseModel and (opened.task, opened.overrides["imgsz"]) == ("pose", 160)
    assert opened.model.kpt_shape == [*shape] and opened.names == {0: "a", 1: "b"}
    for level, wanted in zip(oracle.raw_maps(opened.model.eval(), images), ours(images), strict=True):
        torch.testing.assert_close(level, wanted, rtol=0, atol=1e-5)
    result = opened.predict(np.zeros((64, 96, 3), np.uint8), conf=1e-6, verbose=False)[0]
    assert result.keypoints.shape[1:] == shape and len(result.keypoints) > 0
    weights, card = checkpoints.load(tmp_path / "a.pt")
    assert (card["kind"], card["keypoint_shape"]) == ("pose", [*shape])
    assert card.get("keypoint_names", []) == [*points]
    back = PoseYOLO(2, keypoint_shape=tuple(card["keypoint_shape"]))
    assert transfer(weights, back, minimum_share=1.0).unexpected == []
    assert all(torch.equal(tensor, ours.state_dict()[name]) for name, tensor in back.state_dict().items())


def test_what_is_no_whole_pose_network_is_not_made():
    weights = a_pose_network().state_dict()
    with pytest.raises(ValueError, match=r"2 keypoint names are given, and the keypoint shape is \(4, 3\)"):
        checkpoints.make(weights, ["a", "b"], keypoint_shape=(4, 3), keypoint_names=["x", "y"])
    with pytest.raises(ValueError, match=r"4 keypoint names are given, and the keypoint shape is None"):
        checkpoints.make(weights, ["a", "b"], keypoint_names=POINTS)
    with pytest.raises(ValueError, match=r"not those of a YOLOv8n detector: 42 names differ, such as model.22.cv4"):
        checkpoints.make(weights, ["a", "b"])
    with pytest.raises(ValueError, match=r"do not fit a YOLOv8n of 2 classes: size mismatch for model.22.cv4"):
        checkpoints.make(weights, ["a", "b"], keypoint_shape=(5, 3))
    with pytest.raises(ValueError, match=r"not those of a YOLOv8n pose network: 36 names differ"):
        checkpoints.make(YOLO(2).state_dict(), ["a", "b"], keypoint_shape=(4, 3))
