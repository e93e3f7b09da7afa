"""Stage 10 in loops: one position, object or keypoint at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .assigner import Assignment
from .blocks import ConvModule
from .boxes import make_anchors
from .losses import DetectionLoss

COCO_SIGMAS = (26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89)


class KeypointHead(nn.ModuleList):
    def __init__(self, channels: tuple[int, int, int], num_keypoints: int, dims: int):
        super().__init__()
        numbers = 0
        for _ in range(num_keypoints):
            numbers += dims
        width = channels[0] // 4
        if width < numbers:
            width = numbers
        for level in range(3):
            first = ConvModule(channels[level], width, 3)
            second = ConvModule(width, width, 3)
            third = nn.Conv2d(width, numbers, 1)
            self.append(nn.Sequential(first, second, third))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        found = []
        for level in range(3):
            x = maps[level]
            for layer in self[level]:
                x = layer(x)
            found.append(x)
        return found


class PoseYOLO(nn.Module):
    """Given; the judge uses the reference's."""


class PoseParts(NamedTuple):
    """Given; the judge uses the reference's."""

    total: Tensor


def decode_keypoints(raw: Tensor, anchors: Tensor, strides: Tensor) -> Tensor:
    positions = []
    for position in range(raw.shape[-3]):
        (left, top), stride = (anchors[position] - 0.5).tolist(), float(strides[position])
        own = raw[..., position, :, :]
        columns = [(own[..., 0] * 2 + left) * stride, (own[..., 1] * 2 + top) * stride]
        for number in range(2, raw.shape[-1]):
            columns.append(1 / (1 + torch.exp(-own[..., number])))
        positions.append(torch.stack(columns, dim=-1))
    return torch.stack(positions, dim=-3)


def keypoint_similarity(predicted: Tensor, truth: Tensor, area: Tensor, sigmas: Tensor) -> Tensor:
    total, count = torch.zeros_like(area), torch.zeros_like(area)
    for k, sigma in enumerate(sigmas.tolist()):
        labelled = (truth[..., k, 2] > 0).to(area.dtype)
        dx = predicted[..., k, 0] - truth[..., k, 0]
        dy = predicted[..., k, 1] - truth[..., k, 1]
        variance = (2 * sigma) ** 2 * area + 1e-12
        total = total + labelled * torch.exp(-(dx * dx + dy * dy) / (2 * variance))
        count = count + labelled
    return total / torch.where(count > 0, count, 1)


class KeypointLoss:
    def __init__(self, sigmas: Sequence[float]):
        self.sigmas = torch.as_tensor(sigmas, dtype=torch.float32)

    def __call__(self, predicted: Tensor, truth: Tensor, area: Tensor) -> tuple[Tensor, Tensor]:
        objects, count, dims = predicted.shape
        points = visibility = predicted.sum() * 0
        for p in range(objects):
            labelled = [k for k in range(count) if truth[p, k, 2] > 0]
            for k in labelled:
                squared = (predicted[p, k, 0] - truth[p, k, 0]) ** 2 + (predicted[p, k, 1] - truth[p, k, 1]) ** 2
                spread = 8 * float(self.sigmas[k]) ** 2 * (float(area[p]) + 1e-9)
                points = points + (1 - torch.exp(-squared / spread)) / len(labelled)
            if dims == 3:
                for k in range(count):
                    logit = predicted[p, k, 2]
                    visibility = visibility + F.softplus(-logit if k in labelled else logit)
        return points / objects, visibility / (objects * count)


class PoseLoss(DetectionLoss):
    def __init__(
        self,
        model: PoseYOLO,
        sigmas: Sequence[float] | None = None,
        pose_gain: float = 12.0,
        visibility_gain: float = 1.0,
        **gains: float,
    ):
        super().__init__(model, **gains)
        count = model.keypoint_shape[0]
        if sigmas is None:
            sigmas = []
            for k in range(count):
                sigmas.append(COCO_SIGMAS[k] / 1000 if model.keypoint_shape == (17, 3) else 1 / count)
        if len(sigmas) != count or min(sigmas) <= 0:
            raise ValueError(f"sigmas takes {count} positive numbers, one for each keypoint; these are {list(sigmas)}")
        self.split, self.keypoint_loss = model.split, KeypointLoss(sigmas)
        self.pose_gain, self.visibility_gain = pose_gain, visibility_gain
        self.assigned: Assignment | None = None
        assign = self.assigner

        def remember(*arguments: Tensor) -> Assignment:
            self.assigned = assign(*arguments)
            return self.assigned

        self.assigner = remember

    def forward(self, maps: Sequence[Tensor], targets: Tensor) -> PoseParts:
        detector_maps, raw = self.split(maps)
        found = super().forward(detector_maps, targets[:, :6])
        anchors, strides = make_anchors([m.shape[2:] for m in maps], self.strides)
        predictions, truths, areas = [], [], []
        for image in range(len(raw)):
            objects = [row for row in range(len(targets)) if int(targets[row, 0]) == image]
            for position in range(len(anchors)):
                if not self.assigned.foreground[image, position]:
                    continue
                row = targets[objects[int(self.assigned.gt_index[image, position])]]
                stride = float(strides[position])
                corner = anchors[position] - 0.5
                own = raw[image, position]
                predictions.append(torch.cat((2 * own[:, :2] + corner, own[:, 2:]), dim=1))
                keypoints = row[6:].reshape(-1, 3)
                truths.append(torch.cat((keypoints[:, :2] / stride, keypoints[:, 2:]), dim=1))
                x1, y1, x2, y2 = (self.assigned.boxes[image, position] / stride).tolist()
                areas.append(math.prod((x2 - x1, y2 - y1)))
        pose, visibility = torch.tensor(0.0), torch.tensor(0.0)
        if areas:
            pose, visibility = self.keypoint_loss(torch.stack(predictions), torch.stack(truths), torch.tensor(areas))
        pose, visibility = self.pose_gain * pose, self.visibility_gain * visibility
        total = found.box + pose + visibility + found.cls + found.dfl
        return PoseParts(total=total, box=found.box, pose=pose, visibility=visibility, cls=found.cls, dfl=found.dfl)
