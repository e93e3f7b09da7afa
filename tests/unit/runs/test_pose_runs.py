"""Pose runs from the preset to the painted picture: train, resume, measure, predict, be taught."""

import csv

import numpy as np
import pytest
import torch

from tests import tiny
from yolostudy import data, hooks, runs
from yolostudy.bridge.pose_distillation import PoseDistillationLoss
from yolostudy.data.loader import read_image
from yolostudy.data.records import DataError
from yolostudy.pose import PoseYOLO
from yolostudy.runs import detector as detectors
from yolostudy.runs import presets
from yolostudy.runs.presets import PresetError

SAMPLE = str(data.DATASETS / "sample")
JOINTS = ["nose", "tail", "left wing tip", "right wing tip"]


def preset(**overrides) -> presets.Preset:
    """Two steps an epoch of 64-pixel images of the shipped sample."""
    return presets.load("planes.nano.pose", **(tiny.QUICK | {"data": SAMPLE, "batch": 8, "epochs": 2} | overrides))


def rows(folder) -> list[dict[str, str]]:
    with (folder / "results.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return runs.train(preset(), tmp_path_factory.mktemp("runs") / "first")


def test_a_run_logs_keypoints_and_saves_what_is_needed_to_use_it(trained):
    assert isinstance(trained.trainer.model, PoseYOLO)
    first, last = rows(trained.folder)
    assert {"pose", "visibility", "sigma", "oks_ap", "pixels"} <= first.keys() and "feature" not in first
    assert 0.2 > float(first["sigma"]) > float(last["sigma"]) > 0.05
    _, card = hooks.load_weights(trained.folder / "best.safetensors")
    assert card["keypoint_names"] == JOINTS and card["keypoint_shape"] == [4, 3] and card["flip_index"] == [0, 1, 3, 2]
    assert {"oks_ap", "pixels", "map50"} <= card.keys()


def test_the_sigma_of_the_loss_and_of_the_metric_are_two_keys(trained):
    weights = str(trained.folder / "last.safetensors")
    for given, expected in ((0.0, 0.05), (0.25, 0.25)):
        evaluation, _ = runs.val(preset(weights=weights, metric_sigma=given))
        assert np.allclose(evaluation.keypoints.sigmas, expected)
    run = runs.prepare(preset(sigma=0.3, sigma_final=0.3), trained.folder.parent / "other")
    run.trainer.call("before_train")
    assert torch.allclose(run.trainer.loss.keypoint_loss.sigmas, torch.tensor(0.3))


def test_a_resumed_run_ends_with_the_same_weights(trained, tmp_path):
    class Interrupt(hooks.Hook):
        def after_step(self, trainer):
            if trainer.steps == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runs.train(preset(), tmp_path / "broken", [Interrupt()])
    runs.train(preset(), tmp_path / "broken")
    both = [hooks.load_weights(folder / "last.safetensors")[0] for folder in (trained.folder, tmp_path / "broken")]
    assert all(torch.equal(both[0][name], both[1][name]) for name in both[0])


def test_a_detector_of_the_file_places_keypoints_in_pixels_of_the_image():
    weights = data.DATASETS / "weights" / "planes-n-mini-pose.safetensors"
    image = read_image(data.open_set("sample", "test").records[0].image)
    side = image.shape[0]
    found = runs.Detector(weights, side)(image)
    assert found.shape[1] == 6 + 4 * 3
    wide = np.full((side, 2 * side, 3), 114, np.uint8)
    wide[:, side // 2 : side // 2 + side] = image
    moved = runs.Detector(weights, 2 * side)(
        wide
    )  # the same scale, with half an image of padding above and at the left
    nearest = np.abs(moved[:, None, :2] - [side / 2, 0] - found[None, :, :2]).sum(-1).argmin(0)
    points, others = (rows[:, 6:].reshape(-1, 4, 3)[..., :2] for rows in (found, moved[nearest]))
    assert np.median(np.linalg.norm(points - (others - [side / 2, 0]), axis=-1)) < 2


def test_predict_paints_skeletons_with_the_truth_beside(trained):
    detector = runs.Detector(data.DATASETS / "weights" / "planes-n-mini-pose.safetensors")
    images = [record.image for record in data.open_set("sample", "test").records[:2]]
    painted = dict(detectors.predict(detector, images))
    plain = dict(detectors.predict(runs.Detector(detectors.default_weights()), images))
    for name, own in painted.items():
        assert own.truths == plain[name].truths > 0
        assert not np.array_equal(own.image, plain[name].image)


def test_the_detector_of_a_pose_file_is_measured_as_a_detector_too(trained):
    weights = str(data.DATASETS / "weights" / "planes-n-mini-pose.safetensors")
    plain = presets.load("planes.nano", data=SAMPLE, **(tiny.QUICK | {"image_size": 160, "weights": weights}))
    posed = preset(weights=weights, image_size=160)
    evaluation, _ = runs.val(plain)
    both, _ = runs.val(posed)
    assert evaluation.map50 == both.map50 > 0.8


def test_a_teacher_adds_its_keypoints_to_the_loss_and_the_log(trained, tmp_path):
    teacher = str(trained.folder / "last.safetensors")
    run = runs.train(preset(teacher=teacher, feature="cwd", response="bernoulli", epochs=1), tmp_path / "taught")
    assert isinstance(run.trainer.loss, PoseDistillationLoss)
    (row,) = rows(tmp_path / "taught")
    assert {"pose", "feature", "response", "keypoint"} <= row.keys() and float(row["sigma"]) > 0
    alone = runs.prepare(preset(teacher=teacher, keypoint_gain=0.0, feature="cwd"), tmp_path / "alone")
    assert alone.trainer.loss.response is None


def test_what_does_not_fit_is_refused(trained, tmp_path):
    set_without = tiny.make(tmp_path / "tiny")
    with pytest.raises(DataError, match="no keypoints, which task=pose needs"):
        runs.prepare(preset(data=str(set_without)), tmp_path / "run")
    with pytest.raises(PresetError, match="task=points: unknown"):
        presets.load("planes.nano", task="points")
    with pytest.raises(ValueError, match="a detector"):
        runs.prepare(preset(teacher=str(detectors.default_weights())), tmp_path / "run")
    with pytest.raises(ValueError, match="positive"):
        runs.prepare(preset(sigma=0.0), tmp_path / "run")
