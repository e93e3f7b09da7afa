"""Stage 5 dense, as Ultralytics' assigner: masks for indices, float64 inside."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .boxes import complete_iou


class Assignment(NamedTuple):
    """What each anchor has to predict."""

    labels: Tensor
    boxes: Tensor
    scores: Tensor
    foreground: Tensor
    gt_index: Tensor


def anchors_inside(anchors: Tensor, gt_boxes: Tensor, gt_mask: Tensor, min_side: float = 16.0) -> Tensor:
    sides = gt_boxes[:, :, 2:] - gt_boxes[:, :, :2]
    grown = torch.maximum(sides, torch.full_like(sides, min_side))
    corner = gt_boxes[:, :, :2] - (grown - sides) / 2
    distances = torch.cat(
        (anchors[None, None] - corner[:, :, None], (corner + grown)[:, :, None] - anchors[None, None]), dim=-1
    )
    return (distances.amin(dim=-1) > 0).logical_and(gt_mask.unsqueeze(-1))  # (B, G, A)


def alignment(
    scores: Tensor,
    boxes: Tensor,
    gt_labels: Tensor,
    gt_boxes: Tensor,
    candidates: Tensor,
    alpha: float = 0.5,
    beta: float = 6.0,
) -> tuple[Tensor, Tensor]:
    one_hot = torch.nn.functional.one_hot(gt_labels, scores.shape[-1]).double()  # (B, G, C)
    own_score = torch.einsum("bgc,bac->bga", one_hot, scores.double())
    shape = (*candidates.shape, 4)
    overlaps = complete_iou(gt_boxes.double()[:, :, None].expand(shape), boxes.double()[:, None].expand(shape)).relu()
    overlaps = overlaps * candidates
    return own_score**alpha * overlaps**beta, overlaps


def top_candidates(metric: Tensor, candidates: Tensor, k: int = 10) -> Tensor:
    rank = metric.masked_fill(~candidates, -1.0).argsort(dim=-1, descending=True).argsort(dim=-1)
    return (rank < k) & candidates


def resolve_conflicts(positive: Tensor, overlaps: Tensor) -> Tensor:
    disputed = positive.sum(dim=1, keepdim=True) > 1  # (B, 1, A)
    best = overlaps.argmax(dim=1)  # (B, A)
    winner = torch.nn.functional.one_hot(best, positive.shape[1]).transpose(1, 2).bool()
    return torch.where(disputed, winner, positive)


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

        foreground = positive.any(dim=1)  # (B, A)
        gt_index = positive.int().argmax(dim=1)  # (B, A), 0 on the background
        labels = gt_labels.gather(1, gt_index)
        # the background gets the first box: meaningless
        target_boxes = gt_boxes.gather(1, gt_index[..., None].expand(-1, -1, 4))

        metric = metric * positive
        # (B, G, 1)
        scale = (overlaps * positive).amax(dim=-1, keepdim=True) / (metric.amax(dim=-1, keepdim=True) + self.eps)
        strength = (metric * scale).amax(dim=1)  # (B, A)
        target_scores = torch.nn.functional.one_hot(labels, self.num_classes) * strength[..., None]
        return Assignment(labels, target_boxes, target_scores.to(scores.dtype), foreground, gt_index)
