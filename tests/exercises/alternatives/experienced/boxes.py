"""Stage 4 as somebody writes it with a year of PyTorch, who knows torchvision."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import batched_nms

from .network import STRIDES


def make_anchors(
    sizes: Sequence[tuple[int, int]], strides: Sequence[int] = STRIDES, device: torch.device | None = None
) -> tuple[Tensor, Tensor]:
    anchors, stride_column = [], []
    for (h, w), stride in zip(sizes, strides):
        xs = torch.arange(w, device=device) + 0.5
        ys = torch.arange(h, device=device) + 0.5
        gx, gy = torch.meshgrid(xs, ys, indexing="xy")
        anchors.append(torch.stack((gx, gy), dim=-1).reshape(-1, 2))
        stride_column.append(torch.full((h * w, 1), stride, device=device))
    return torch.cat(anchors), torch.cat(stride_column)


def expected_distance(logits: Tensor, reg_max: int = 16) -> Tensor:
    probabilities = logits.unflatten(-1, (4, reg_max)).softmax(dim=-1)
    bins = torch.arange(reg_max, device=logits.device)
    return (probabilities * bins).sum(dim=-1)


def distance_to_box(anchors: Tensor, distances: Tensor) -> Tensor:
    left_top, right_bottom = distances.chunk(2, dim=-1)
    return torch.cat([anchors - left_top, anchors + right_bottom], dim=-1)


def box_to_distance(anchors: Tensor, boxes: Tensor, reg_max: int = 16) -> Tensor:
    x1y1, x2y2 = boxes.chunk(2, -1)
    return torch.cat((anchors - x1y1, x2y2 - anchors), -1).clamp(0, reg_max - 1 - 0.01)


def box_iou(boxes: Tensor, others: Tensor) -> Tensor:
    area1 = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    area2 = (others[:, 2] - others[:, 0]) * (others[:, 3] - others[:, 1])
    top_left = torch.max(boxes[:, None, :2], others[None, :, :2])
    bottom_right = torch.min(boxes[:, None, 2:], others[None, :, 2:])
    inter = (bottom_right - top_left).clamp(min=0).prod(dim=2)
    union = area1[:, None] + area2[None, :] - inter
    return torch.where(union > 0, inter / union, torch.zeros_like(inter))


def complete_iou(boxes: Tensor, others: Tensor, eps: float = 1e-7) -> Tensor:
    x1, y1, x2, y2 = boxes.unbind(-1)
    u1, v1, u2, v2 = others.unbind(-1)
    w1, h1, w2, h2 = x2 - x1, y2 - y1, u2 - u1, v2 - v1
    inter = (torch.min(x2, u2) - torch.max(x1, u1)).clamp(0) * (torch.min(y2, v2) - torch.max(y1, v1)).clamp(0)
    iou = inter / (w1 * h1 + w2 * h2 - inter + eps)
    cw = torch.max(x2, u2) - torch.min(x1, u1)
    ch = torch.max(y2, v2) - torch.min(y1, v1)
    c2 = cw**2 + ch**2 + eps
    rho2 = ((u1 + u2 - x1 - x2) ** 2 + (v1 + v2 - y1 - y2) ** 2) / 4
    v = 4 / math.pi**2 * (torch.atan(w2 / (h2 + eps)) - torch.atan(w1 / (h1 + eps))) ** 2
    with torch.no_grad():
        alpha = v / (1 - iou + v + eps)
    return iou - rho2 / c2 - alpha * v


def non_maximum_suppression(
    boxes: Tensor, scores: Tensor, classes: Tensor, iou_threshold: float = 0.7, max_detections: int = 300
) -> Tensor:
    return batched_nms(boxes, scores, classes, iou_threshold)[:max_detections]
