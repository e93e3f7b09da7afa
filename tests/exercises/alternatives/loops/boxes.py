"""Stage 4 in loops, one number at a time, float64 where it is allowed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .network import STRIDES


def make_anchors(
    sizes: Sequence[tuple[int, int]], strides: Sequence[int] = STRIDES, device: torch.device | None = None
) -> tuple[Tensor, Tensor]:
    points, anchor_strides = [], []
    for level in range(len(sizes)):
        rows, columns = sizes[level]
        for row in range(rows):
            for column in range(columns):
                points.append([column + 0.5, row + 0.5])
                anchor_strides.append([strides[level]])  # whole numbers do as well
    return torch.tensor(points, device=device), torch.tensor(anchor_strides, device=device)


def expected_distance(logits: Tensor, reg_max: int = 16) -> Tensor:
    sides = []
    for side in range(4):
        own = logits[..., side * reg_max : (side + 1) * reg_max].double()
        weights = torch.exp(own - own.amax(dim=-1, keepdim=True))
        total = sum(weights[..., i] for i in range(reg_max))
        sides.append(sum(i * weights[..., i] for i in range(1, reg_max)) / total)
    return torch.stack(sides, dim=-1).to(logits.dtype)


def distance_to_box(anchors: Tensor, distances: Tensor) -> Tensor:
    x, y = anchors[..., 0], anchors[..., 1]
    left, top, right, bottom = (distances[..., i] for i in range(4))
    return torch.stack([x - left, y - top, x + right, y + bottom], dim=-1)


def box_to_distance(anchors: Tensor, boxes: Tensor, reg_max: int = 16) -> Tensor:
    x, y = anchors[..., 0], anchors[..., 1]
    x1, y1, x2, y2 = (boxes[..., i] for i in range(4))
    sides = [x - x1, y - y1, x2 - x, y2 - y]
    highest = torch.tensor(reg_max - 1.01, dtype=boxes.dtype, device=boxes.device)
    return torch.stack([torch.minimum(torch.relu(side), highest) for side in sides], dim=-1)


def box_iou(boxes: Tensor, others: Tensor) -> Tensor:
    result = boxes.new_zeros(len(boxes), len(others))
    for i, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        for j, (u1, v1, u2, v2) in enumerate(others.tolist()):
            width, height = min(x2, u2) - max(x1, u1), min(y2, v2) - max(y1, v1)
            if width > 0 and height > 0:
                shared = width * height
                result[i, j] = shared / ((x2 - x1) * (y2 - y1) + (u2 - u1) * (v2 - v1) - shared)
    return result


def complete_iou(boxes: Tensor, others: Tensor, eps: float = 1e-7) -> Tensor:
    a, b = boxes.double(), others.double()
    zero = torch.zeros((), dtype=a.dtype, device=a.device)

    def width(box: Tensor) -> Tensor:
        return box[..., 2] - box[..., 0]

    def height(box: Tensor) -> Tensor:
        return box[..., 3] - box[..., 1]

    shared = torch.cat((torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])), dim=-1)
    around = torch.cat((torch.minimum(a[..., :2], b[..., :2]), torch.maximum(a[..., 2:], b[..., 2:])), dim=-1)
    inter = torch.maximum(width(shared), zero) * torch.maximum(height(shared), zero)
    iou = inter / (width(a) * height(a) + width(b) * height(b) - inter).clamp(min=eps)

    offset = (a[..., :2] + a[..., 2:]) / 2 - (b[..., :2] + b[..., 2:]) / 2
    closeness = (offset * offset).sum(-1) / (width(around) ** 2 + height(around) ** 2).clamp(min=eps)

    turn = torch.atan2(width(a), height(a)) - torch.atan2(width(b), height(b))
    shape = turn.pow(2) * 4 / (math.pi * math.pi)
    alpha = (shape / (1 - iou + shape).clamp(min=eps)).detach()
    return (iou - closeness - alpha * shape).to(boxes.dtype)


def non_maximum_suppression(
    boxes: Tensor, scores: Tensor, classes: Tensor, iou_threshold: float = 0.7, max_detections: int = 300
) -> Tensor:
    kept: list[int] = []
    for candidate in sorted(range(len(scores)), key=lambda i: -float(scores[i])):
        rivals = [k for k in kept if classes[k] == classes[candidate]]
        if all(float(box_iou(boxes[[k]], boxes[[candidate]])) <= iou_threshold for k in rivals):
            kept.append(candidate)
        if len(kept) == max_detections:
            break
    return torch.tensor(kept, dtype=torch.long, device=boxes.device)
