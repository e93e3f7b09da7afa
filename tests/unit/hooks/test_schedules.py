"""The schedule of the keypoint loss's σ: its values, its log, and what it refuses."""

import csv

import pytest
import torch
from torch import nn

from tests.unit.data.test_bad_data import make
from yolostudy import data, hooks
from yolostudy.data.loader import make_loader
from yolostudy.losses import DetectionLoss
from yolostudy.network import YOLO
from yolostudy.pose import PoseLoss, PoseYOLO
from yolostudy.training import train


class Remember(hooks.Hook):
    def __init__(self):
        self.seen = []

    def after_step(self, trainer):
        self.seen.append((trainer.loss.keypoint_loss.sigmas.tolist(), trainer.metrics["sigma"]))


@pytest.fixture
def posed(tmp_path):
    """Two steps an epoch on three images with three keypoints an object."""
    opened = data.open_set(make(tmp_path, "voc", pose=True))
    torch.manual_seed(0)
    model = PoseYOLO(2, keypoint_shape=(3, 3))
    return model, PoseLoss(model), make_loader(opened, 64, 2, pose_targets=True)


def test_it_falls_geometrically_is_logged_and_the_model_learns_with_it(posed, tmp_path):
    model, loss, loader = posed
    remember = Remember()
    steps = [hooks.SigmaSchedule(0.2, 0.05), remember, hooks.Results(tmp_path / "results.csv")]
    trainer = train(model, loss, loader, steps, epochs=2)
    expected = [0.2 * 0.25 ** (step / 4) for step in range(4)]
    for (sigmas, logged), value in zip(remember.seen, expected, strict=True):
        assert sigmas == pytest.approx([value] * 3) and logged == pytest.approx(value)
    rows = list(csv.DictReader((tmp_path / "results.csv").open()))
    assert [float(row["sigma"]) for row in rows] == pytest.approx(expected[1::2], rel=1e-5)
    assert all(float(row["pose"]) > 0 and float(row["visibility"]) > 0 for row in rows)
    assert trainer.parts.pose > 0


def test_the_ends_and_the_middle():
    schedule = hooks.SigmaSchedule(0.2, 0.05)
    assert [float(schedule.at(progress)) for progress in (0, 0.5, 1)] == pytest.approx([0.2, 0.1, 0.05])
    each = hooks.SigmaSchedule(0.2, [0.05, 0.1, 0.2])
    assert each.at(0).tolist() == pytest.approx([0.2] * 3) and each.at(1).tolist() == pytest.approx([0.05, 0.1, 0.2])


def test_it_finds_the_loss_within_another_and_the_loss_changes(posed):
    model, loss, loader = posed
    batch = next(iter(loader))
    maps = model(batch.images.float() / 255)

    class Around(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = loss

    trainer = type("Trainer", (), {"loss": Around(), "progress": 0.0, "metrics": {}})()
    values = []
    for trainer.progress in (0.0, 1.0):
        hooks.SigmaSchedule(0.2, 0.05).before_step(trainer)
        values.append(float(loss(maps, batch.targets).pose))
    assert values[1] > values[0]  # a smaller σ asks for more


def test_what_it_refuses(posed):
    model, loss, loader = posed
    for wrong in (0, -0.1, float("nan"), [0.1, 0, 0.1]):
        with pytest.raises(ValueError, match="Give positive numbers"):
            hooks.SigmaSchedule(end=wrong)
    with pytest.raises(ValueError, match="has 2 sigmas for 3 keypoints"):
        train(model, loss, loader, [hooks.SigmaSchedule(end=[0.1, 0.1])], epochs=1)
    plain = YOLO(2)
    with pytest.raises(TypeError, match="DetectionLoss has no keypoint_loss"):
        train(plain, DetectionLoss(plain), loader, [hooks.SigmaSchedule()], epochs=1)
