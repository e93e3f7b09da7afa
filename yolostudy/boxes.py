"""Anchor points, distributions, boxes: how a raw map becomes detections.

An anchor point is the centre of one position of an output map. A position says how far the four
edges of its object lie from that point, each distance as a distribution over R bins whose
expectation counts, in units of the stride.

Sources: Ultralytics 8.4.190 `utils/tal.py`, `utils/metrics.py`, `utils/nms.py`; distributions: Li
et al. 2020, Generalized Focal Loss, section 3.2; complete IoU: Zheng et al. 2020, Distance-IoU
Loss, equations 9 to 11.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

STRIDES = (8, 16, 32)
# pixels between the planes on which boxes of different classes are compared, as in Ultralytics' NMS
CLASS_OFFSET = 7680


def make_anchors(
    sizes: Sequence[tuple[int, int]], strides: Sequence[int] = STRIDES, device: torch.device | None = None
) -> tuple[Tensor, Tensor]:
    """The anchor points of all levels, row by row, finest level first.

    Args:
        sizes: (H, W) of each output map.
        strides: pixels per position of each.
        device: where both are made.

    Returns:
        anchors (A, 2): x, y of each centre, in units of its stride. strides (A, 1): that stride in
        pixels.
    """
    raise NotImplementedError("exercise boxes.make_anchors: course/04_boxes.ipynb")


def expected_distance(logits: Tensor, reg_max: int = 16) -> Tensor:
    """The expectation of each of the four distributions: Σ i · softmax(logits)_i.

    Args:
        logits: (..., 4·R), R bins for left, then top, right and bottom.

    Returns:
        (..., 4) distances in units of the stride, each within 0 … R - 1, on the device of the
        logits.
    """
    raise NotImplementedError("exercise boxes.expected_distance: course/04_boxes.ipynb")


def distance_to_box(anchors: Tensor, distances: Tensor) -> Tensor:
    """Boxes from anchor points and the distances of their edges.

    Args:
        anchors: (..., 2) x, y.
        distances: (..., 4) left, top, right, bottom, in the anchors' unit.

    Returns:
        (..., 4) x1 y1 x2 y2, in the same unit.
    """
    raise NotImplementedError("exercise boxes.distance_to_box: course/04_boxes.ipynb")


def box_to_distance(anchors: Tensor, boxes: Tensor, reg_max: int = 16) -> Tensor:
    """The way back: how far the edges lie from the anchor points, within what R bins can say.

    Args:
        anchors: (..., 2) x, y in units of the stride.
        boxes: (..., 4) x1 y1 x2 y2 in units of the stride.

    Returns:
        (..., 4) left, top, right, bottom, clamped to 0 … R - 1 - 0.01 so that the bin above always
        exists.
    """
    raise NotImplementedError("exercise boxes.box_to_distance: course/04_boxes.ipynb")


def box_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Intersection over union of every box with every other.

    Args:
        boxes: (n, 4). others: (m, 4). Both x1 y1 x2 y2.

    Returns:
        (n, m) within 0 … 1; 0 where both areas are 0.
    """
    raise NotImplementedError("exercise boxes.box_iou: course/04_boxes.ipynb")


def complete_iou(boxes: Tensor, others: Tensor, eps: float = 1e-7) -> Tensor:
    """Complete IoU of each box with its partner: IoU, less the distance of the centres, less the
    difference of the aspect ratios.

        CIoU = IoU - ρ² / c² - α·v,    v = 4/π² · (atan(w₂/h₂) - atan(w₁/h₁))²,    α = v / (1 - IoU + v)

    Args:
        boxes, others: (..., 4) x1 y1 x2 y2, in any unit that both share.
        eps: keeps every divisor (heights, union, c², that of α) from being 0: equal boxes give 1,
            boxes without area no NaN.

    Returns:
        (...) at most 1; below 0 where the boxes are far apart. α counts as a constant in the
        backward pass.
    """
    raise NotImplementedError("exercise boxes.complete_iou: course/04_boxes.ipynb")


def non_maximum_suppression(
    boxes: Tensor, scores: Tensor, classes: Tensor, iou_threshold: float = 0.7, max_detections: int = 300
) -> Tensor:
    """Keep the best box of every heap: best score first, and out with all that overlap it and are
    of its class.

    Args:
        boxes: (n, 4) pixels. scores: (n,). classes: (n,).
        iou_threshold: a box that overlaps a better one by more than this goes.
        max_detections: stop after that many.

    Returns:
        (kept,) int64 indices into the input, best score first; (0,) where there is none.
    """
    raise NotImplementedError("exercise boxes.non_maximum_suppression: course/04_boxes.ipynb")


def flatten_maps(maps: Sequence[Tensor]) -> Tensor:
    """Three raw maps (B, 4·R + C, H, W) as one (B, A, 4·R + C), in the order of `make_anchors`."""
    return torch.cat([m.flatten(2) for m in maps], dim=2).transpose(1, 2)


def decode(maps: Sequence[Tensor], reg_max: int = 16, strides: Sequence[int] = STRIDES) -> tuple[Tensor, Tensor]:
    """Boxes (B, A, 4) in pixels and class scores (B, A, C) in 0…1 of every position, nothing left
    out.
    """
    anchors, steps = make_anchors([m.shape[2:] for m in maps], strides, maps[0].device)
    logits = flatten_maps(maps).float()
    boxes = distance_to_box(anchors, expected_distance(logits[..., : 4 * reg_max], reg_max)) * steps
    return boxes, logits[..., 4 * reg_max :].sigmoid()


@torch.no_grad()
def predict(
    maps: Sequence[Tensor],
    score_threshold: float = 0.25,
    iou_threshold: float = 0.7,
    max_detections: int = 300,
    reg_max: int = 16,
    multi_label: bool = False,
) -> list[Tensor]:
    """Detections of each image, after decoding and suppression.

    Args:
        maps: the network's three raw maps.
        score_threshold: leave out what scores at most this.
        multi_label: every class above the threshold makes a detection (what evaluation wants), not
            only the best one.

    Returns:
        Per image (n, 6) on the CPU: x1 y1 x2 y2 in pixels, score, class; best score first.
    """
    detections = []
    for boxes, scores in zip(*decode(maps, reg_max), strict=True):  # (A, 4), (A, C)
        if multi_label:
            anchor, label = (scores > score_threshold).nonzero(as_tuple=True)
            score = scores[anchor, label]
        else:
            best, label = scores.max(dim=-1)
            anchor = (best > score_threshold).nonzero(as_tuple=True)[0]
            score, label = best[anchor], label[anchor]
        # suppression goes one box at a time, which a processor does sooner than a graphics card
        found, score, label = boxes[anchor].cpu(), score.cpu(), label.cpu()
        kept = non_maximum_suppression(found, score, label, iou_threshold, max_detections)
        detections.append(torch.cat((found[kept], score[kept, None], label[kept, None].float()), dim=1))
    return detections
