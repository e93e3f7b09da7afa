"""The builders take plain values, make missing planes, and say what cannot be trained."""

import inspect
import re
from pathlib import Path

import pytest
import torch

from tests import tiny
from yolostudy import data, hooks, runs
from yolostudy.data.augment import Augmentation
from yolostudy.network import YOLO
from yolostudy.runs import builders, folders, presets

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Names of the planes made, in an empty data sets folder. Real ones would take minutes."""
    found = []

    def make(folder, profile):
        found.append(folder.name)
        tiny.make(folder)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(data, "datasets_folder", lambda: tmp_path / "datasets")
    monkeypatch.setattr("yolostudy.data.planes.make", make, raising=False)
    monkeypatch.setattr(data, "find", lambda name: place if (place := tmp_path / "datasets" / name).exists() else None)
    monkeypatch.setattr(data, "open_set", lambda name, split, **_: (name, split))
    return found


def test_planes_that_are_missing_are_made_once(made):
    assert runs.open_data("planes-mini", "small") == ("planes-mini", "small")
    assert made == ["planes-mini"]
    runs.open_data("planes-mini", "validation")
    assert made == ["planes-mini"]


@pytest.mark.parametrize("name", ["planes", "planes-huge", "mar20", "elsewhere/planes-mini"])
def test_nothing_else_is_made(made, name):
    runs.open_data(name)
    assert not made


def test_benchmarks_make_the_planes_that_they_need():
    for file in BENCHMARKS.glob("*.py"):
        assert not re.search(r"open_set\(.planes", file.read_text("utf-8")), f"{file.name}: use runs.open_data"


def test_no_builder_takes_a_preset():
    for name, builder in inspect.getmembers(builders, inspect.isfunction):
        if builder.__module__ == builders.__name__:
            assert "preset" not in inspect.signature(builder).parameters, name


def test_a_loader_for_training_shuffles_and_leaves_a_short_batch_out(tmp_path):
    found = data.open_set(tiny.make(tmp_path / "tiny", {"train": 10}))
    names = [record.image.name for record in found.records]
    plain = runs.build_loader(found, 64, 4, workers=0)
    assert [record.image.name for batch in plain for record in batch.records] == names
    training = runs.build_loader(found, 64, 4, Augmentation(), workers="0")
    seen = [record.image.name for batch in training for record in batch.records]
    assert len(seen) == 8 and seen != names[:8]


def test_the_same_seed_builds_the_same_network():
    first, second, other = (builders.build_model(3, seed=seed).state_dict() for seed in (5, 5, 6))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    assert not torch.equal(first["backbone.stem.conv.weight"], other["backbone.stem.conv.weight"])


def test_weights_of_another_size_are_refused_with_the_remedy(tmp_path):
    hooks.save_weights(tmp_path / "s.safetensors", YOLO(2, "s"), {"classes": ["a", "b"], "preset": {"size": "s"}})
    with pytest.raises(presets.PresetError, match=r"are of size s, and the model has size n. Add size=s, or start"):
        builders.start_from(builders.build_model(2), tmp_path / "s.safetensors", ["a", "b"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a CUDA card")
def test_a_device_that_is_not_there_is_refused_with_the_remedy():
    assert builders.choose_device() == torch.device("cpu")
    with pytest.raises(presets.PresetError, match=r"torch finds no CUDA card on this machine. Leave the key out"):
        builders.choose_device("cuda:0")


def test_losses_are_chosen_by_a_word():
    assert builders.feature_loss("") is None and builders.response_loss("", ["a"], ["a"]) is None
    assert builders.response_loss("softmax", ["a", "b"], ["b"], 2.0).temperature == 2.0
    with pytest.raises(presets.PresetError, match="response=hard: unknown; choose bernoulli, softmax, or leave it"):
        builders.response_loss("hard", ["a"], ["a"])


def test_run_folders_count_up_and_are_found_again(tmp_path, monkeypatch):
    monkeypatch.setenv("YOLOSTUDY_HOME", str(tmp_path))
    for wanted in ("name", "name-2", "name-3"):
        folder = folders.new_run("name")
        assert folder == tmp_path / "runs" / wanted
        folder.mkdir(parents=True)
        (folder / "preset.json").write_text("{}")
    assert folders.new_predictions() == tmp_path / "runs" / "predict-1"
    assert folders.find_run("name-2") == folders.find_run(str(tmp_path / "runs" / "name-2"))
    with pytest.raises(presets.PresetError, match="there is no run 'other' under"):
        folders.find_run(name="other")
