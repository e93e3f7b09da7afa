"""Which anchor answers for which object: task-aligned assignment.

No rule fixes in advance which position should find an object. During training the network's own
predictions decide: among the anchor points inside a ground-truth box, those that already score its
class well and place its box well become its positives.

    candidates (inside a box) -> metric -> the k best of each box -> conflicts resolved -> targets

Sources: Feng et al. 2021, TOOD, section 3.2; Ultralytics 8.4.190 `utils/tal.py`, class
TaskAlignedAssigner.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .boxes import complete_iou


class Assignment(NamedTuple):
    """What each anchor has to predict.

    On the background labels, boxes and gt_index are meaningless, and scores are 0.
    """

    labels: Tensor  # (B, A) int64: class
    boxes: Tensor  # (B, A, 4) pixels
    scores: Tensor  # (B, A, C) soft targets in 0…1
    foreground: Tensor  # (B, A) bool: whether the anchor is a positive
    gt_index: Tensor  # (B, A) int64: row of its ground truth in 0 … G - 1


def anchors_inside(anchors: Tensor, gt_boxes: Tensor, gt_mask: Tensor, min_side: float = 16.0) -> Tensor:
    """Find the anchor points that lie strictly inside each ground-truth box.

    Args:
        anchors: (A, 2) pixels.
        gt_boxes: (B, G, 4) pixels.
        gt_mask: (B, G) bool, False on padding.
        min_side: pixels; a shorter side of a box is enlarged to this length about its centre, so
            that a tiny object finds an anchor too.

    Returns:
        (B, G, A) bool; all False for padding.
    """
    raise NotImplementedError("exercise assigner.anchors_inside: course/05_assigner.ipynb")


def alignment(
    scores: Tensor,
    boxes: Tensor,
    gt_labels: Tensor,
    gt_boxes: Tensor,
    candidates: Tensor,
    alpha: float = 0.5,
    beta: float = 6.0,
) -> tuple[Tensor, Tensor]:
    """Measure how well each candidate already does both tasks: score^alpha · CIoU^beta.

    Args:
        scores: (B, A, C) in 0…1.
        boxes: (B, A, 4) predicted, pixels.
        gt_labels: (B, G).
        gt_boxes: (B, G, 4) pixels.
        candidates: (B, G, A) bool; where it is False, both results are 0.
        alpha, beta: exponents of score and overlap.

    Returns:
        metric (B, G, A): the product.
        overlaps (B, G, A): the complete IoU, clamped at 0.
    """
    raise NotImplementedError("exercise assigner.alignment: course/05_assigner.ipynb")


def top_candidates(metric: Tensor, candidates: Tensor, k: int = 10) -> Tensor:
    """Choose the k candidates of each ground truth that have the highest metric.

    Args:
        metric: (B, G, A).
        candidates: (B, G, A) bool.
        k: how many to choose; fewer if there are fewer candidates.

    Returns:
        (B, G, A) bool; True only for candidates, even if every metric is 0.
    """
    raise NotImplementedError("exercise assigner.top_candidates: course/05_assigner.ipynb")


def resolve_conflicts(positive: Tensor, overlaps: Tensor) -> Tensor:
    """Leave each anchor to one ground truth at most.

    An anchor that several ground truths have chosen goes to the one with the largest overlap. All
    ground truths of the image take part in this, even those that have not chosen the anchor.

    Args:
        positive: (B, G, A) bool: which anchors each ground truth has chosen.
        overlaps: (B, G, A).

    Returns:
        (B, G, A) bool with at most one True for each anchor.
    """
    raise NotImplementedError("exercise assigner.resolve_conflicts: course/05_assigner.ipynb")


class TaskAlignedAssigner:
    """Assign ground truths to anchors by how well the network already detects them.

    Args:
        num_classes: C.
        k: maximum number of positives for each ground truth.
        alpha, beta: exponents of score and overlap.
        eps: added to the divisor of the normalisation, which may be 0.
    """

    def __init__(self, num_classes: int, k: int = 10, alpha: float = 0.5, beta: float = 6.0, eps: float = 1e-9):
        self.num_classes, self.k, self.alpha, self.beta, self.eps = num_classes, k, alpha, beta, eps

    @torch.no_grad()
    def __call__(
        self, scores: Tensor, boxes: Tensor, anchors: Tensor, gt_labels: Tensor, gt_boxes: Tensor, gt_mask: Tensor
    ) -> Assignment:
        """Assign the ground truths of a batch.

        Args:
            scores: (B, A, C) in 0…1.
            boxes: (B, A, 4) predicted, pixels.
            anchors: (A, 2) pixels.
            gt_labels: (B, G) int64.
            gt_boxes: (B, G, 4) pixels.
            gt_mask: (B, G) bool, False on padding. G is at least 1: in a batch without objects each
                image has one row of padding.

        Returns:
            An `Assignment`. The target score of a positive is its scaled metric: the highest metric
            among a ground truth's positives becomes the largest overlap among them (TOOD, section
            3.2: the normalised t).
        """
        raise NotImplementedError("exercise assigner.TaskAlignedAssigner: course/05_assigner.ipynb")
