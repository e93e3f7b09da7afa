"""The loss of the detector: box loss, distribution loss and class loss, weighed by the assignment.

    raw maps ── boxes, scores ── assigner ── targets
        │                                      │
        └── class loss on every anchor ────────┤
        └── box and distribution loss on the foreground

Units: the assigner works in pixels; the box and distribution losses in units of the stride, because
bins count strides.

Sources: Ultralytics 8.4.190 `utils/loss.py`, classes DFLoss, BboxLoss, v8DetectionLoss, and its
gains in `cfg/default.yaml`; Li et al. 2020, Generalized Focal Loss, equation 6.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .assigner import TaskAlignedAssigner
from .boxes import box_to_distance, complete_iou, distance_to_box, expected_distance, flatten_maps, make_anchors


class LossParts(NamedTuple):
    """The loss and its three parts, each a scalar tensor.

    A part is the sum over the batch, divided by the sum of the target scores, times its gain.
    """

    total: Tensor  # the sum of the three parts
    box: Tensor
    cls: Tensor
    dfl: Tensor


class DistributionFocalLoss:
    """Cross-entropy against the two bins around a real-valued distance; the nearer weighs more.

    DFL(p, y) = -((i + 1 - y) · log p_i + (y - i) · log p_{i+1}),   i = floor(y)
    """

    def __call__(self, logits: Tensor, distances: Tensor) -> Tensor:
        """The loss of each distribution.

        Args:
            logits: (..., R).
            distances: (...) in bins, within 0 … R - 1.01.

        Returns:
            (...) at least 0.
        """
        # BEGIN SOLUTION
        lower = distances.long()
        upper_weight = distances - lower
        log_p = F.log_softmax(logits, dim=-1)
        at_lower = log_p.gather(-1, lower[..., None])[..., 0]
        at_upper = log_p.gather(-1, lower[..., None] + 1)[..., 0]
        return -(at_lower * (1 - upper_weight) + at_upper * upper_weight)
        # END SOLUTION


class BoxLoss:
    """Complete-IoU loss and distribution loss of the foreground, weighed by the target score.

    The first is 1 - CIoU of the decoded box, the second the mean over the four edges.

    Args:
        reg_max: R, bins of each distribution.
    """

    def __init__(self, reg_max: int = 16):
        self.reg_max = reg_max
        self.distribution_loss = DistributionFocalLoss()

    def __call__(self, logits: Tensor, anchors: Tensor, target_boxes: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Compute both losses, summed over the foreground.

        Args:
            logits: (P, 4·R) raw distributions of the P foreground anchors.
            anchors: (P, 2) in units of each anchor's stride.
            target_boxes: (P, 4) in units of each anchor's stride.
            weight: (P,) sum of the anchor's target scores.

        Returns:
            box, dfl: two scalars, not yet divided by the sum of the target scores. With P = 0 they
            are 0 and still have a gradient.
        """
        # BEGIN SOLUTION
        boxes = distance_to_box(anchors, expected_distance(logits, self.reg_max))
        box = ((1 - complete_iou(boxes, target_boxes)) * weight).sum()
        distances = box_to_distance(anchors, target_boxes, self.reg_max)  # (P, 4)
        edges = logits.unflatten(-1, (4, self.reg_max))  # (P, 4, R)
        dfl = (self.distribution_loss(edges, distances).mean(dim=-1) * weight).sum()
        return box, dfl
        # END SOLUTION


def pad_targets(targets: Tensor, batch_size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Arrange the objects of a batch in one padded block, image by image.

    G is the largest number of objects in one image, at least 1.

    Args:
        targets: (N, 6) image index, class, x1 y1 x2 y2 in pixels; N may be 0; rows in any order.
        batch_size: B.

    Returns:
        labels (B, G) int64 and boxes (B, G, 4): 0 on padding.
        mask (B, G) bool: False on padding. It is False too for a box whose coordinates sum to 0 or
        less, because Ultralytics takes such a box for padding.
    """
    # BEGIN SOLUTION
    image = targets[:, 0].long()
    order = image.argsort(stable=True)
    targets, image = targets[order], image[order]
    counts = torch.bincount(image, minlength=batch_size)  # (B,)
    first = counts.cumsum(0) - counts  # (B,) where each image's rows begin
    place = torch.arange(len(image), device=targets.device) - first[image]
    block = targets.new_zeros(batch_size, max(1, int(counts.max())), 5)
    block[image, place] = targets[:, 1:]
    labels, boxes = block[..., 0].long(), block[..., 1:]
    return labels, boxes, boxes.sum(dim=-1) > 0
    # END SOLUTION


class DetectionLoss(nn.Module):
    """The whole loss of a YOLOv8 detector.

    Args:
        model: the detector. Its num_classes, reg_max and strides are read; it is not kept.
        box_gain, cls_gain, dfl_gain: weights of the three parts.

    Shape:
        three raw maps, targets (N, 6) image index, class, x1 y1 x2 y2 in pixels -> `LossParts`

    - No gradient flows through the assignment, whatever the assigner does: it gets detached scores
      and boxes.
    - Maps may come in half precision, as autocast makes them; the loss is computed in float32.
    - The normaliser of the three sums is T / n: T is the sum of all target scores over all
      processes, at least 1, and n the number of processes.
    - Ultralytics multiplies its loss by the batch size before the backward pass. This one does not.
    """

    def __init__(self, model: nn.Module, box_gain: float = 7.5, cls_gain: float = 0.5, dfl_gain: float = 1.5):
        super().__init__()
        self.reg_max, self.strides = model.reg_max, model.strides
        self.gains = {"box": box_gain, "cls": cls_gain, "dfl": dfl_gain}
        self.assigner = TaskAlignedAssigner(model.num_classes)
        self.box_loss = BoxLoss(model.reg_max)

    def forward(self, maps: list[Tensor], targets: Tensor) -> LossParts:
        # BEGIN SOLUTION
        logits = flatten_maps(maps).float()  # (B, A, 4·R + C)
        box_logits, class_logits = logits.split((4 * self.reg_max, logits.shape[-1] - 4 * self.reg_max), dim=-1)
        sizes = [m.shape[2:] for m in maps]
        anchors, strides = make_anchors(sizes, self.strides, logits.device)  # (A, 2) in strides, (A, 1) in pixels
        labels, boxes, mask = pad_targets(targets, len(logits))

        # the assignment is a target: no gradient flows through it
        predicted = distance_to_box(anchors, expected_distance(box_logits.detach(), self.reg_max)) * strides
        assigned = self.assigner(class_logits.detach().sigmoid(), predicted, anchors * strides, labels, boxes, mask)
        total, processes = sum_over_processes(assigned.scores.sum())
        # distributed training averages the gradients over the processes: here only their part of the total counts
        normaliser = total.clamp(min=1) / processes

        # every anchor takes part: the background has to learn that it is background
        cls = F.binary_cross_entropy_with_logits(class_logits, assigned.scores, reduction="sum")
        image, anchor = assigned.foreground.nonzero(as_tuple=True)  # (P,) each
        box, dfl = self.box_loss(
            box_logits[image, anchor],
            anchors[anchor],
            assigned.boxes[image, anchor] / strides[anchor],
            assigned.scores[image, anchor].sum(dim=-1),
        )
        parts = {"box": box / normaliser, "cls": cls / normaliser, "dfl": dfl / normaliser}
        # END SOLUTION
        parts = {name: part * self.gains[name] for name, part in parts.items()}
        return LossParts(sum(parts.values()), **parts)


def sum_over_processes(value: Tensor) -> tuple[Tensor, int]:
    """Sum a number over all processes of a distributed run.

    Returns the sum and the number of processes; the number itself and 1 if the run has one process.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return value, 1
    value = value.clone()
    torch.distributed.all_reduce(value)
    return value, torch.distributed.get_world_size()
