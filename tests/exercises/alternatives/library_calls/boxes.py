"""Stage 4 with cartesian_prod, einsum, conv1d and torchvision."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torchvision
from torch import Tensor
from torch.nn import functional as F

from .network import STRIDES


def make_anchors(
    sizes: Sequence[tuple[int, int]], strides: Sequence[int] = STRIDES, device: torch.device | None = None
) -> tuple[Tensor, Tensor]:
    grids = [
        torch.cartesian_prod(torch.arange(h, device=device), torch.arange(w, device=device)).flip(1) + 0.5
        for h, w in sizes
    ]
    lengths = torch.tensor([h * w for h, w in sizes])
    anchor_strides = torch.tensor(strides, dtype=torch.float32).repeat_interleave(lengths).unsqueeze(1).to(device)
    return torch.cat(grids, dim=0), anchor_strides


def expected_distance(logits: Tensor, reg_max: int = 16) -> Tensor:
    # what Ultralytics does: a 1 x 1 convolution whose weights are the bins
    flat = logits.reshape(-1, 4, reg_max)
    probabilities = (flat - flat.logsumexp(dim=-1, keepdim=True)).exp()
    weight = torch.linspace(0, reg_max - 1, reg_max, dtype=logits.dtype, device=logits.device).view(1, reg_max, 1)
    return F.conv1d(probabilities.transpose(1, 2), weight).reshape(*logits.shape[:-1], 4)


def distance_to_box(anchors: Tensor, distances: Tensor) -> Tensor:
    signs = torch.tensor([-1.0, -1.0, 1.0, 1.0], dtype=distances.dtype, device=distances.device)
    return torch.cat((anchors, anchors), dim=-1) + distances * signs


def box_to_distance(anchors: Tensor, boxes: Tensor, reg_max: int = 16) -> Tensor:
    signs = boxes.new_tensor([1.0, 1.0, -1.0, -1.0])
    distances = (anchors.repeat_interleave(2, dim=-1)[..., [0, 2, 1, 3]] - boxes) * signs
    return distances.clamp(min=0.0).clamp(max=reg_max - 1.01)


def box_iou(boxes: Tensor, others: Tensor) -> Tensor:
    return torchvision.ops.box_iou(boxes, others).nan_to_num(0.0)


def complete_iou(boxes: Tensor, others: Tensor, eps: float = 1e-7) -> Tensor:
    size, other_size = boxes[..., 2:] - boxes[..., :2], others[..., 2:] - others[..., :2]
    shift = (boxes[..., :2] + size / 2) - (others[..., :2] + other_size / 2)
    near = torch.min(boxes, others)
    far = torch.max(boxes, others)

    overlap = F.relu(near[..., 2:] - far[..., :2]).prod(-1)
    union = size.prod(-1) + other_size.prod(-1) - overlap
    iou = overlap / (union + eps)

    diagonal = torch.einsum("...i,...i->...", far[..., 2:] - near[..., :2], far[..., 2:] - near[..., :2])
    penalty = torch.einsum("...i,...i->...", shift, shift) / (diagonal + eps)

    # h/w in both instead of w/h in both: the difference only changes its sign
    angle, other_angle = (torch.atan((s[..., 1] + eps) / (s[..., 0] + eps)) for s in (size, other_size))
    v = ((angle - other_angle) * 2 / math.pi) ** 2
    alpha = v.detach() / (1 - iou.detach() + v.detach() + eps)
    return iou - penalty - alpha * v


def non_maximum_suppression(
    boxes: Tensor, scores: Tensor, classes: Tensor, iou_threshold: float = 0.7, max_detections: int = 300
) -> Tensor:
    return torchvision.ops.batched_nms(boxes, scores, classes, iou_threshold)[:max_detections]
