"""Stage 5 as somebody with a year of PyTorch writes it: broadcasting, no index lists."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .boxes import complete_iou


class Assignment(NamedTuple):
    labels: Tensor
    boxes: Tensor
    scores: Tensor
    foreground: Tensor
    gt_index: Tensor


def anchors_inside(anchors: Tensor, gt_boxes: Tensor, gt_mask: Tensor, min_side: float = 16.0) -> Tensor:
    x1, y1, x2, y2 = gt_boxes.unbind(-1)
    cx, cy = (x1 + x2) / 2, (y1 + y2) / 2
    w, h = (x2 - x1).clamp(min=min_side), (y2 - y1).clamp(min=min_side)
    x1, x2 = (cx - w / 2).unsqueeze(-1), (cx + w / 2).unsqueeze(-1)
    y1, y2 = (cy - h / 2).unsqueeze(-1), (cy + h / 2).unsqueeze(-1)
    ax, ay = anchors[:, 0], anchors[:, 1]
    inside = (ax > x1) & (ax < x2) & (ay > y1) & (ay < y2)
    return inside & gt_mask.unsqueeze(-1)


def alignment(
    scores: Tensor,
    boxes: Tensor,
    gt_labels: Tensor,
    gt_boxes: Tensor,
    candidates: Tensor,
    alpha: float = 0.5,
    beta: float = 6.0,
) -> tuple[Tensor, Tensor]:
    B, A, _ = scores.shape
    G = gt_labels.shape[1]
    index = gt_labels.long().unsqueeze(-1).expand(B, G, A)
    cls = scores.transpose(1, 2).gather(1, index)  # (B, G, A)
    ious = complete_iou(gt_boxes[:, :, None, :].expand(B, G, A, 4), boxes[:, None, :, :].expand(B, G, A, 4))
    overlaps = ious.clamp(min=0) * candidates
    metric = cls.pow(alpha) * overlaps.pow(beta) * candidates
    return metric, overlaps


def top_candidates(metric: Tensor, candidates: Tensor, k: int = 10) -> Tensor:
    k = min(k, metric.shape[-1])
    values = metric.masked_fill(~candidates, -1.0)
    top, index = values.topk(k, dim=-1)
    chosen = torch.zeros_like(candidates)
    chosen.scatter_(-1, index, top >= 0)
    return chosen


def resolve_conflicts(positive: Tensor, overlaps: Tensor) -> Tensor:
    best = torch.nn.functional.one_hot(overlaps.argmax(dim=1), overlaps.shape[1]).transpose(1, 2).bool()
    disputed = positive.sum(dim=1, keepdim=True) > 1
    return torch.where(disputed, best, positive)


class TaskAlignedAssigner:
    def __init__(self, num_classes: int, k: int = 10, alpha: float = 0.5, beta: float = 6.0, eps: float = 1e-9):
        self.num_classes, self.k, self.alpha, self.beta, self.eps = num_classes, k, alpha, beta, eps

    @torch.no_grad()
    def __call__(
        self, scores: Tensor, boxes: Tensor, anchors: Tensor, gt_labels: Tensor, gt_boxes: Tensor, gt_mask: Tensor
    ) -> Assignment:
        candidates = anchors_inside(anchors, gt_boxes, gt_mask)
        metric, overlaps = alignment(scores, boxes, gt_labels, gt_boxes, candidates, self.alpha, self.beta)
        positive = resolve_conflicts(top_candidates(metric, candidates, self.k), overlaps)

        foreground = positive.any(dim=1)
        gt_index = positive.float().argmax(dim=1)
        labels = gt_labels.gather(1, gt_index)
        target_boxes = gt_boxes.gather(1, gt_index.unsqueeze(-1).expand(-1, -1, 4))

        metric = metric * positive
        best_metric = metric.amax(dim=-1, keepdim=True)
        best_overlap = (overlaps * positive).amax(dim=-1, keepdim=True)
        weight = (metric / (best_metric + self.eps) * best_overlap).sum(dim=1)  # (B, A)
        one_hot = torch.nn.functional.one_hot(labels, self.num_classes).to(weight.dtype)
        return Assignment(labels, target_boxes, one_hot * weight.unsqueeze(-1), foreground, gt_index)
