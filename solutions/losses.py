"""What the detector is told: a box loss, a distribution loss and a class loss, weighed by the
assignment.

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
    """The sum, and what it is the sum of; each a scalar tensor, averaged over the batch's target
    scores, gains included.
    """

    total: Tensor
    box: Tensor
    cls: Tensor
    dfl: Tensor


class DistributionFocalLoss:
    """Cross-entropy against the two bins around a real-valued distance, each in proportion to its
    nearness.

    DFL(p, y) = -((i + 1 - y) · log p_i + (y - i) · log p_{i+1}),   i = floor(y)
    """

    def __call__(self, logits: Tensor, distances: Tensor) -> Tensor:
        """The loss of each distribution.

        Args:
            logits: (..., R). distances: (...) in bins, within 0 … R - 1.01.

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
    """Complete-IoU loss of the foreground's boxes, and the distribution loss of their four edges,
    both weighed by the target score.

    Args:
        reg_max: R, bins of each distribution.
    """

    def __init__(self, reg_max: int = 16):
        self.reg_max = reg_max
        self.distribution_loss = DistributionFocalLoss()

    def __call__(self, logits: Tensor, anchors: Tensor, target_boxes: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Both losses, summed over the foreground.

        Args:
            logits: (P, 4·R) raw distributions of the P foreground anchors.
            anchors: (P, 2) and target_boxes: (P, 4), in units of each anchor's stride.
            weight: (P,) sum of the anchor's target scores.

        Returns:
            Two scalars, not yet divided by the sum of the target scores. With P = 0 they are 0 and
            still have a gradient.
        """
        # BEGIN SOLUTION
        boxes = distance_to_box(anchors, expected_distance(logits, self.reg_max))
        box = ((1 - complete_iou(boxes, target_boxes)) * weight).sum()
        distances = box_to_distance(anchors, target_boxes, self.reg_max)  # (P, 4)
        dfl = (self.distribution_loss(logits.unflatten(-1, (4, self.reg_max)), distances).mean(dim=-1) * weight).sum()
        return box, dfl
        # END SOLUTION


def pad_targets(targets: Tensor, batch_size: int) -> tuple[Tensor, Tensor, Tensor]:
    """A batch's objects, image after image, as one padded block.

    Args:
        targets: (N, 6) image index, class, x1 y1 x2 y2 in pixels; N may be 0.
        batch_size: B.

    Returns:
        labels (B, G) int64, boxes (B, G, 4), mask (B, G) bool, where G is the largest number of
        objects in one image, at least 1.
        Padding is 0 and False. So is the mask of a box whose coordinates sum to 0 or less:
        Ultralytics takes it for padding.
    """
    # BEGIN SOLUTION
    image = targets[:, 0].long()
    order = image.argsort(stable=True)
    targets, image = targets[order], image[order]
    counts = torch.bincount(image, minlength=batch_size)  # (B,)
    first = counts.cumsum(0) - counts  # where each image's rows begin
    place = torch.arange(len(image), device=targets.device) - first[image]
    block = targets.new_zeros(batch_size, max(1, int(counts.max())), 5)
    block[image, place] = targets[:, 1:]
    labels, boxes = block[..., 0].long(), block[..., 1:]
    return labels, boxes, boxes.sum(dim=-1) > 0
    # END SOLUTION


class DetectionLoss(nn.Module):
    """The whole loss of a YOLOv8 detector.

    Args:
        model: the detector; read for num_classes, reg_max and strides, not kept.
        box_gain, cls_gain, dfl_gain: weights of the three parts.

    Shape:
        three raw maps, targets (N, 6) image index, class, x1 y1 x2 y2 in pixels -> `LossParts`

    No gradient flows through the assignment, whatever the assigner: it is given detached scores and
    boxes. Maps may come in half precision, as autocast makes them; the loss is computed in float32.
    The three sums are divided by the sum of all target scores over all processes, at least 1, over
    the number of processes. Ultralytics multiplies its loss by the batch size before the backward
    pass; this one does not.
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
        # (A, 2) in strides, (A, 1)
        anchors, steps = make_anchors([m.shape[2:] for m in maps], self.strides, logits.device)
        labels, boxes, mask = pad_targets(targets, len(logits))

        # the assignment is a target: no gradient flows through it
        predicted = distance_to_box(anchors, expected_distance(box_logits.detach(), self.reg_max)) * steps
        assigned = self.assigner(class_logits.detach().sigmoid(), predicted, anchors * steps, labels, boxes, mask)
        total, processes = sum_over_processes(assigned.scores.sum())
        share = total.clamp(min=1) / processes  # gradients are averaged over processes afterwards

        # the background counts too
        cls = F.binary_cross_entropy_with_logits(class_logits, assigned.scores, reduction="sum")
        image, anchor = assigned.foreground.nonzero(as_tuple=True)  # (P,) each
        box, dfl = self.box_loss(
            box_logits[image, anchor],
            anchors[anchor],
            assigned.boxes[image, anchor] / steps[anchor],
            assigned.scores[image, anchor].sum(dim=-1),
        )
        parts = {"box": box / share, "cls": cls / share, "dfl": dfl / share}
        # END SOLUTION
        parts = {name: part * self.gains[name] for name, part in parts.items()}
        return LossParts(sum(parts.values()), **parts)


def sum_over_processes(value: Tensor) -> tuple[Tensor, int]:
    """The sum of a number over all processes of a distributed run, and how many they are; the
    number itself and 1 without one.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return value, 1
    value = value.clone()
    torch.distributed.all_reduce(value)
    return value, torch.distributed.get_world_size()
