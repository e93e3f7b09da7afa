"""Stage 5 in loops: image by image, box by box, anchor by anchor."""

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
    inside = torch.zeros(*gt_boxes.shape[:2], len(anchors), dtype=torch.bool)
    for image, boxes in enumerate(gt_boxes.tolist()):
        for row, (x1, y1, x2, y2) in enumerate(boxes):
            if not gt_mask[image, row]:
                continue
            if x2 - x1 < min_side:
                x1, x2 = (x1 + x2 - min_side) / 2, (x1 + x2 + min_side) / 2
            if y2 - y1 < min_side:
                y1, y2 = (y1 + y2 - min_side) / 2, (y1 + y2 + min_side) / 2
            for number, (x, y) in enumerate(anchors.tolist()):
                inside[image, row, number] = x1 < x < x2 and y1 < y < y2
    return inside


def alignment(
    scores: Tensor,
    boxes: Tensor,
    gt_labels: Tensor,
    gt_boxes: Tensor,
    candidates: Tensor,
    alpha: float = 0.5,
    beta: float = 6.0,
) -> tuple[Tensor, Tensor]:
    metric = torch.zeros(candidates.shape)
    overlaps = torch.zeros(candidates.shape)
    for image, row, anchor in torch.nonzero(candidates).tolist():
        overlap = float(complete_iou(boxes[image, anchor].double(), gt_boxes[image, row].double()))
        overlap = max(overlap, 0.0)
        score = float(scores[image, anchor, int(gt_labels[image, row])])
        overlaps[image, row, anchor] = overlap
        metric[image, row, anchor] = score**alpha * overlap**beta
    return metric, overlaps


def top_candidates(metric: Tensor, candidates: Tensor, k: int = 10) -> Tensor:
    chosen = torch.zeros(candidates.shape, dtype=torch.bool)
    for image in range(metric.shape[0]):
        for row in range(metric.shape[1]):
            allowed = [anchor for anchor in range(metric.shape[2]) if candidates[image, row, anchor]]
            allowed.sort(key=lambda anchor: -float(metric[image, row, anchor]))
            for anchor in allowed[:k]:
                chosen[image, row, anchor] = True
    return chosen


def resolve_conflicts(positive: Tensor, overlaps: Tensor) -> Tensor:
    resolved = torch.zeros_like(positive)
    for image in range(positive.shape[0]):
        for anchor in range(positive.shape[2]):
            wanting = [row for row in range(positive.shape[1]) if positive[image, row, anchor]]
            if wanting:
                asked = wanting if len(wanting) == 1 else range(positive.shape[1])
                winner = max(asked, key=lambda row: float(overlaps[image, row, anchor]))
                resolved[image, winner, anchor] = True
    return resolved


class TaskAlignedAssigner:
    def __init__(self, num_classes: int, k: int = 10, alpha: float = 0.5, beta: float = 6.0, eps: float = 1e-9):
        self.num_classes, self.k, self.alpha, self.beta, self.eps = num_classes, k, alpha, beta, eps

    @torch.no_grad()
    def __call__(
        self, scores: Tensor, boxes: Tensor, anchors: Tensor, gt_labels: Tensor, gt_boxes: Tensor, gt_mask: Tensor
    ) -> Assignment:
        inside = anchors_inside(anchors, gt_boxes, gt_mask)
        metric, overlaps = alignment(scores, boxes, gt_labels, gt_boxes, inside, alpha=self.alpha, beta=self.beta)
        chosen = top_candidates(metric, inside, k=self.k)
        owned = resolve_conflicts(chosen, overlaps)

        images, count = scores.shape[0], scores.shape[1]
        labels = torch.zeros(images, count, dtype=torch.int64)
        index = torch.zeros(images, count, dtype=torch.int64)
        foreground = torch.zeros(images, count, dtype=torch.bool)
        target_boxes = torch.zeros(images, count, 4)
        target_scores = torch.zeros(images, count, self.num_classes)
        for image in range(images):
            for row in range(gt_boxes.shape[1]):
                mine = [anchor for anchor in range(count) if owned[image, row, anchor]]
                if not mine:
                    continue
                best_metric = max(float(metric[image, row, anchor]) for anchor in mine)
                best_overlap = max(float(overlaps[image, row, anchor]) for anchor in mine)
                for anchor in mine:
                    foreground[image, anchor] = True
                    index[image, anchor] = row
                    labels[image, anchor] = gt_labels[image, row]
                    target_boxes[image, anchor] = gt_boxes[image, row]
                    scaled = float(metric[image, row, anchor]) / (best_metric + self.eps) * best_overlap
                    target_scores[image, anchor, int(gt_labels[image, row])] = scaled
        return Assignment(labels, target_boxes, target_scores, foreground, index)
