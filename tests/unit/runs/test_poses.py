"""Predicting and measuring poses: the boxes of the plain detector, each with its own keypoints."""

import numpy as np
import pytest
import torch

from tests.unit.data.test_bad_data import POSE, make
from yolostudy import data
from yolostudy.boxes import decode, make_anchors, predict
from yolostudy.data.loader import make_loader
from yolostudy.metrics import evaluate
from yolostudy.pose import PoseYOLO, decode_keypoints, predict_poses
from yolostudy.runs.poses import validate_poses
from yolostudy.training import Precision


def lively_maps(
    model: PoseYOLO, images: int = 3, height: int = 64, width: int = 96, seed: int = 0
) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    channels = 4 * model.reg_max + model.num_classes + model.keypoint_shape[0] * model.keypoint_shape[1]
    return [torch.randn(images, channels, height // s, width // s, generator=generator) for s in model.strides]


@pytest.mark.parametrize("shape", [(4, 3), (4, 2), (1, 3)])
@pytest.mark.parametrize(
    ("threshold", "overlap", "most"), [(0.25, 0.7, 300), (0.8, 0.3, 300), (0.1, 0.9, 5), (1, 0.7, 9)]
)
def test_the_boxes_are_those_of_predict_and_each_has_the_keypoints_of_its_position(shape, threshold, overlap, most):
    model = PoseYOLO(3, keypoint_shape=shape)
    maps = lively_maps(model)
    found = predict_poses(maps, model, threshold, overlap, most)
    detector_maps, raw = model.split(maps)
    anchors, strides = make_anchors([m.shape[2:] for m in maps])
    keypoints = decode_keypoints(raw, anchors, strides)
    boxes, _ = decode(detector_maps, model.reg_max)
    expected = predict(detector_maps, threshold, overlap, most, model.reg_max)
    for image, (rows, wanted) in enumerate(zip(found, expected, strict=True)):
        assert rows.shape == (len(wanted), 6 + shape[0] * shape[1])
        assert torch.equal(rows[:, :6], wanted)
        for row in rows:
            position = (boxes[image] == row[:4]).all(dim=1).nonzero()[0, 0]
            assert torch.equal(row[6:], keypoints[image, position].flatten())
    assert (sum(map(len, found)) > 0) == (threshold < 1)


@pytest.mark.parametrize("pose_targets", [True, False])
def test_both_measures_come_from_the_same_predictions(tmp_path, pose_targets):
    opened = data.open_set(make(tmp_path, "voc", pose=True))
    loader = make_loader(opened, 64, 2, pose_targets=pose_targets)
    torch.manual_seed(0)
    model = PoseYOLO(2, keypoint_shape=(3, 3)).train()
    result = validate_poses(model, loader, Precision("cpu", "fp32"), opened.class_names, 0.1, POSE, 1e-4)
    assert model.training
    truths = [np.column_stack([batch_classes, boxes]) for batch_classes, boxes in boxes_of(loader)]
    again = []
    with torch.no_grad():
        model.eval()
        for batch in loader:
            again += predict_poses(model(batch.images.float() / 255), model, 1e-4, max_detections=100)
    assert sum(map(len, again)) > 0
    assert result.boxes.map50 == evaluate([rows[:, :6] for rows in again], truths, opened.class_names).map50
    assert result.map50 == result.boxes.map50 and result.map50_95 == result.boxes.map50_95
    assert result.keypoints.groups[0].truths == 6 and [own.name for own in result.keypoints.per_keypoint] == list(POSE)
    text = str(result)
    assert "AP50-95" in text and "left wing tip" in text and "sigma 0.1 (as given)" in text


def boxes_of(loader):
    for batch in loader:
        for index in range(len(batch)):
            rows = batch.targets[batch.targets[:, 0] == index]
            yield rows[:, 1].numpy(), rows[:, 2:6].numpy()


class Oracle(torch.nn.Module):
    """Answers with the truth: at the position under each object's centre, its class, and its keypoints exactly."""

    def __init__(self, targets: torch.Tensor, shape: tuple[int, int]):
        super().__init__()
        self.model, self.targets = PoseYOLO(2, keypoint_shape=shape), targets
        self.reg_max, self.split, self.strides = self.model.reg_max, self.model.split, self.model.strides

    def forward(self, images):
        maps = []
        for stride in self.strides:
            side = images.shape[-1] // stride
            m = torch.zeros(len(images), 66 + 9, side, side)
            m[:, 64:66] = -20
            for row in self.targets if stride == 8 else ():
                image, label = int(row[0]), int(row[1])
                x, y = ((row[2] + row[4]) / 2 / 8).int(), ((row[3] + row[5]) / 2 / 8).int()
                cell = m[image, :, y, x]
                cell[64 + label] = 5
                centre = torch.stack((x, y)) + 0.5
                edges = torch.cat((centre - row[2:4] / 8, row[4:6] / 8 - centre))  # left, top, right, bottom
                for edge, distance in enumerate(edges.tolist()):
                    low = int(distance)
                    bins = torch.full((16,), -30.0)  # expected value between two bins
                    bins[low] = np.log(max(1 - (distance - low), 1e-9))
                    bins[low + 1] = np.log(max(distance - low, 1e-9))
                    cell[16 * edge : 16 * edge + 16] = bins
                points = row[6:].reshape(-1, 3)
                raw = torch.cat(((points[:, :2] / 8 - torch.stack((x, y))) / 2, points[:, 2:]), dim=1)
                cell[66:] = raw.flatten()
            maps.append(m)
        return maps


def test_a_perfect_answer_has_ap_one_and_no_error(tmp_path):
    opened = data.open_set(make(tmp_path, "voc", pose=True))
    loader = make_loader(opened, 128, 3, pose_targets=True)
    (batch,) = loader
    result = validate_poses(Oracle(batch.targets, (3, 3)), loader, Precision("cpu", "fp32"))
    assert result.map50_95 == pytest.approx(1) and result.keypoints.ap == pytest.approx(1)
    assert result.keypoints.matched == 6 and result.keypoints.median_error < 1e-3 and result.keypoints.mean_error < 1e-3


def test_a_set_without_keypoints_is_refused(tmp_path):
    loader = make_loader(data.open_set(make(tmp_path, "voc")), 64, 3)
    with pytest.raises(ValueError, match="This loader gives no keypoints"):
        validate_poses(PoseYOLO(2, keypoint_shape=(3, 3)), loader)
