"""Stage 10 by library calls: cdist, einsum, where, float64 inside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .assigner import Assignment
from .blocks import ConvModule
from .boxes import make_anchors
from .losses import DetectionLoss, pad_targets

COCO_SIGMAS = (26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89)


class KeypointHead(nn.ModuleList):
    def __init__(self, channels: tuple[int, int, int], num_keypoints: int, dims: int):
        super().__init__()
        width = sorted((channels[0] // 4, num_keypoints * dims))[-1]
        for c in channels:
            branch = nn.Sequential()
            branch.append(ConvModule(c, width, 3))
            branch.append(ConvModule(width, width, 3))
            branch.append(nn.Conv2d(width, num_keypoints * dims, kernel_size=(1, 1)))
            self.append(branch)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        return list(map(nn.Module.__call__, self, maps))


class PoseYOLO(nn.Module):
    """Given; the judge uses the reference's."""


class PoseParts(NamedTuple):
    """Given; the judge uses the reference's."""

    total: Tensor


def decode_keypoints(raw: Tensor, anchors: Tensor, strides: Tensor) -> Tensor:
    points, visibility = raw.tensor_split((2,), dim=-1)
    corner = torch.sub(anchors, 0.5).mul(strides)[:, None]
    return torch.cat([torch.addcmul(corner, points, 2 * strides[:, None]), torch.special.expit(visibility)], dim=-1)


def keypoint_similarity(predicted: Tensor, truth: Tensor, area: Tensor, sigmas: Tensor) -> Tensor:
    distance = torch.linalg.vector_norm((predicted[..., :2] - truth[..., :2]).double(), dim=-1)
    scale = 2 * sigmas.double() * area.double().clamp(min=1e-12)[..., None].sqrt()  # a length
    similarity = torch.exp(-0.5 * (distance / scale) ** 2)
    seen = truth[..., 2].bool().expand(similarity.shape)
    return torch.where(seen, similarity, torch.nan).nanmean(dim=-1).nan_to_num(0.0).to(predicted.dtype)


class KeypointLoss:
    def __init__(self, sigmas: Sequence[float]):
        self.sigmas = torch.as_tensor(sigmas, dtype=torch.float32)

    def __call__(self, predicted: Tensor, truth: Tensor, area: Tensor) -> tuple[Tensor, Tensor]:
        seen = truth[..., 2].sign().double()
        squared = F.mse_loss(predicted[..., :2].double(), truth[..., :2].double(), reduction="none").sum(dim=-1)
        variance = torch.outer(area.double().clamp(min=1e-12), self.sigmas.to(area.device).double() ** 2) * 4
        missed = -torch.expm1(-squared / variance / 2)
        share = seen / seen.sum(dim=1, keepdim=True).clamp(min=1)
        points = torch.einsum("pk,pk->", missed, share) / len(seen)
        visibility = nn.BCEWithLogitsLoss()(predicted[..., 2].double(), seen) if predicted.shape[-1] > 2 else points * 0
        return points.to(predicted.dtype), visibility.to(predicted.dtype)


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
        default = {(17, 3): [s / 1000 for s in COCO_SIGMAS]}.get(model.keypoint_shape, [1 / count] * count)
        sigmas = default if sigmas is None else sigmas
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
        assigned, extra = self.assigned, {"pose": raw.new_zeros(()), "visibility": raw.new_zeros(())}
        positive = assigned.foreground
        if torch.count_nonzero(positive):
            anchors, strides = make_anchors([m.shape[2:] for m in maps], self.strides, raw.device)
            # which row each slot holds: the objects once more, each with its own number for a class
            numbered = targets[:, :6].clone()
            numbered[:, 1] = torch.arange(len(targets))
            rows = pad_targets(numbered, len(raw))[0].gather(1, assigned.gt_index)[positive]
            # everything in pixels: the similarity does not mind the unit, as long as it is one
            stride = strides[:, None].expand(len(raw), -1, raw.shape[2], 1)[positive]
            start = (anchors - 0.5)[:, None].expand(len(raw), -1, raw.shape[2], 2)[positive]
            points, logits = raw[positive].tensor_split((2,), dim=-1)
            area = (assigned.boxes[..., 2:] - assigned.boxes[..., :2])[positive].prod(dim=1)
            truth = targets[rows, 6:].reshape(len(rows), -1, 3)
            judged = self.keypoint_loss(torch.cat(((2 * points + start) * stride, logits), dim=-1), truth, area)
            extra = dict(zip(extra, judged))
        extra["pose"] = extra["pose"] * self.pose_gain
        extra["visibility"] = extra["visibility"] * self.visibility_gain
        parts = found._asdict() | extra
        parts["total"] = torch.stack([found.total, *extra.values()]).sum()
        return PoseParts(**parts)
