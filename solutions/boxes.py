"""Anchor points, distributions, boxes: how a raw map becomes detections.

An anchor point is the centre of one position of an output map. Each position predicts how far the
four edges of its object lie from that point. Each distance is a distribution over R bins; its
expectation is the distance in units of the stride.

Sources: Ultralytics 8.4.190 `utils/tal.py`, `utils/metrics.py`, `utils/nms.py`; distributions: Li
et al. 2020, Generalized Focal Loss, section 3.2; complete IoU: Zheng et al. 2020, Distance-IoU
Loss, equations 9 to 11.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .network import STRIDES

CLASS_OFFSET = 7680  # pixels by which NMS shifts each class away from the one before, as in Ultralytics' NMS


def make_anchors(
    sizes: Sequence[tuple[int, int]], strides: Sequence[int] = STRIDES, device: torch.device | None = None
) -> tuple[Tensor, Tensor]:
    """The anchor points of all levels, row by row, finest level first.

    Args:
        sizes: (H, W) of each output map.
        strides: pixels per position of each map.
        device: device of both results.

    Returns:
        anchors (A, 2): x, y of each centre, in units of its stride.
        strides (A, 1): that stride in pixels.
    """
    # BEGIN SOLUTION
    anchors, anchor_strides = [], []
    for (height, width), stride in zip(sizes, strides, strict=True):
        rows = torch.arange(height, device=device) + 0.5
        columns = torch.arange(width, device=device) + 0.5
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        anchors.append(torch.stack((x, y), dim=-1).reshape(-1, 2))  # (H·W, 2)
        anchor_strides.append(torch.full((height * width, 1), float(stride), device=device))
    return torch.cat(anchors), torch.cat(anchor_strides)
    # END SOLUTION


def expected_distance(logits: Tensor, reg_max: int = 16) -> Tensor:
    """The expectation of each of the four distributions: Σ i · softmax(logits)_i.

    Args:
        logits: (..., 4·R), R bins for left, then top, right and bottom.

    Returns:
        (..., 4) distances in units of the stride, within 0 … R - 1, on the device of the logits.
    """
    # BEGIN SOLUTION
    bins = torch.arange(reg_max, dtype=logits.dtype, device=logits.device)
    return logits.unflatten(-1, (4, reg_max)).softmax(dim=-1) @ bins
    # END SOLUTION


def distance_to_box(anchors: Tensor, distances: Tensor) -> Tensor:
    """Build boxes from anchor points and the distances of their edges.

    Args:
        anchors: (..., 2) x, y.
        distances: (..., 4) left, top, right, bottom, in the unit of the anchors.

    Returns:
        (..., 4) x1 y1 x2 y2, in the same unit.
    """
    # BEGIN SOLUTION
    left_top, right_bottom = distances.chunk(2, dim=-1)
    return torch.cat((anchors - left_top, anchors + right_bottom), dim=-1)
    # END SOLUTION


def box_to_distance(anchors: Tensor, boxes: Tensor, reg_max: int = 16) -> Tensor:
    """The way back: the distances of the edges from the anchor points, in the range of R bins.

    Args:
        anchors: (..., 2) x, y in units of the stride.
        boxes: (..., 4) x1 y1 x2 y2 in units of the stride.
        reg_max: R.

    Returns:
        (..., 4) left, top, right, bottom, clamped to 0 … R - 1 - 0.01, so that there is always a
        bin above.
    """
    # BEGIN SOLUTION
    left_top, right_bottom = boxes.chunk(2, dim=-1)
    return torch.cat((anchors - left_top, right_bottom - anchors), dim=-1).clamp(0, reg_max - 1 - 0.01)
    # END SOLUTION


def box_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Intersection over union of every box with every other.

    Args:
        boxes: (n, 4). others: (m, 4). Both x1 y1 x2 y2.

    Returns:
        (n, m) within 0 … 1; 0 where both areas are 0.
    """
    # BEGIN SOLUTION
    left_top = torch.maximum(boxes[:, None, :2], others[None, :, :2])  # (n, m, 2)
    right_bottom = torch.minimum(boxes[:, None, 2:], others[None, :, 2:])  # (n, m, 2)
    intersection = (right_bottom - left_top).clamp(min=0).prod(dim=-1)  # (n, m)
    area, other_area = ((b[:, 2:] - b[:, :2]).prod(dim=-1) for b in (boxes, others))
    union = area[:, None] + other_area[None, :] - intersection
    return intersection / union.clamp(min=torch.finfo(union.dtype).tiny)
    # END SOLUTION


def complete_iou(boxes: Tensor, others: Tensor, eps: float = 1e-7) -> Tensor:
    """Complete IoU of each box with its partner.

    The IoU, minus a term for the distance of the centres, minus a term for the difference of the
    aspect ratios:

        CIoU = IoU - ρ² / c² - α·v
        v = 4/π² · (atan(w₂/h₂) - atan(w₁/h₁))²
        α = v / (1 - IoU + v)

    ρ is the distance of the centres, c the diagonal of the smallest box around both.

    Args:
        boxes, others: (..., 4) x1 y1 x2 y2, both in the same unit.
        eps: added to every divisor (heights, union, c², that of α), so that equal boxes give 1 and
            boxes without area give no NaN.

    Returns:
        (...) at most 1; below 0 if the boxes are far apart. α is a constant in the backward pass.
    """
    # BEGIN SOLUTION
    x1, y1, x2, y2 = boxes.unbind(-1)
    u1, v1, u2, v2 = others.unbind(-1)
    width, height = x2 - x1, y2 - y1 + eps
    other_width, other_height = u2 - u1, v2 - v1 + eps

    intersection = (x2.minimum(u2) - x1.maximum(u1)).clamp(min=0) * (y2.minimum(v2) - y1.maximum(v1)).clamp(min=0)
    union = width * height + other_width * other_height - intersection + eps
    iou = intersection / union

    hull_width, hull_height = x2.maximum(u2) - x1.minimum(u1), y2.maximum(v2) - y1.minimum(v1)
    diagonal = hull_width.square() + hull_height.square() + eps  # c², of the smallest box around both
    distance = ((u1 + u2 - x1 - x2).square() + (v1 + v2 - y1 - y2).square()) / 4  # ρ², between the centres

    aspect = (4 / math.pi**2) * (torch.atan(other_width / other_height) - torch.atan(width / height)).square()
    with torch.no_grad():
        alpha = aspect / (1 - iou + aspect + eps)
    return iou - (distance / diagonal + alpha * aspect)
    # END SOLUTION


def non_maximum_suppression(
    boxes: Tensor, scores: Tensor, classes: Tensor, iou_threshold: float = 0.7, max_detections: int = 300
) -> Tensor:
    """Greedy NMS: keep the best box of every heap.

    Keep the box with the highest score, drop the boxes of its class that overlap it by more than
    the threshold, and repeat with the rest.

    Args:
        boxes: (n, 4) pixels. scores: (n,). classes: (n,).
        iou_threshold: a box whose IoU with a kept box is larger than this is dropped.
        max_detections: stop after this number of kept boxes.

    Returns:
        (kept,) int64 indices into the input, best score first; (0,) if no box is kept.
    """
    # BEGIN SOLUTION
    shifted = boxes + classes[:, None] * CLASS_OFFSET  # boxes of different classes never overlap
    waiting = scores.argsort(descending=True, stable=True)
    kept = []
    while len(waiting) and len(kept) < max_detections:
        best, waiting = waiting[0], waiting[1:]
        kept.append(best)
        overlap = box_iou(shifted[best][None], shifted[waiting])[0]  # (len(waiting),)
        waiting = waiting[overlap <= iou_threshold]
    return torch.stack(kept) if kept else waiting[:0]
    # END SOLUTION


def flatten_maps(maps: Sequence[Tensor]) -> Tensor:
    """Three raw maps (B, 4·R + C, H, W) as one (B, A, 4·R + C), in the order of `make_anchors`."""
    return torch.cat([m.flatten(2) for m in maps], dim=2).transpose(1, 2)


def decode(maps: Sequence[Tensor], reg_max: int = 16, strides: Sequence[int] = STRIDES) -> tuple[Tensor, Tensor]:
    """Boxes (B, A, 4) in pixels and class scores (B, A, C) in 0…1 of every position."""
    anchors, anchor_strides = make_anchors([m.shape[2:] for m in maps], strides, maps[0].device)
    logits = flatten_maps(maps).float()
    distances = expected_distance(logits[..., : 4 * reg_max], reg_max)
    boxes = distance_to_box(anchors, distances) * anchor_strides
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
        score_threshold: leave out detections that score this or less.
        iou_threshold, max_detections: see `non_maximum_suppression`.
        multi_label: make a detection of every class above the threshold, as evaluation wants, not
            only of the best class.

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
        # NMS takes one box at a time: a CPU is faster at that than a graphics card
        found, score, label = boxes[anchor].cpu(), score.cpu(), label.cpu()
        kept = non_maximum_suppression(found, score, label, iou_threshold, max_detections)
        detections.append(torch.cat((found[kept], score[kept, None], label[kept, None].float()), dim=1))
    return detections
