"""Stage 6 dense: masks, one-hot targets, torch's own cross-entropy, float64 inside."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .assigner import TaskAlignedAssigner
from .boxes import box_to_distance, complete_iou, distance_to_box, expected_distance, flatten_maps, make_anchors


class LossParts(NamedTuple):
    """The loss and its parts."""

    total: Tensor
    box: Tensor
    cls: Tensor
    dfl: Tensor


class DistributionFocalLoss:
    def __call__(self, logits: Tensor, distances: Tensor) -> Tensor:
        lower = distances.floor()
        flat = logits.flatten(0, -2)

        def entropy(bins: Tensor) -> Tensor:
            return F.cross_entropy(flat, bins.long().flatten(), reduction="none").view_as(distances)

        return entropy(lower) * (lower + 1 - distances) + entropy(lower + 1) * (distances - lower)


class BoxLoss:
    def __init__(self, reg_max: int = 16):
        self.reg_max = reg_max
        self.distribution_loss = DistributionFocalLoss()

    def __call__(self, logits: Tensor, anchors: Tensor, target_boxes: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        logits, anchors, target_boxes, weight = (
            logits.double(),
            anchors.double(),
            target_boxes.double(),
            weight.double(),
        )
        overlap = complete_iou(target_boxes, distance_to_box(anchors, expected_distance(logits, self.reg_max)))
        reach = box_to_distance(anchors, target_boxes, self.reg_max)
        # a hat function around the distance: 1 at the bin itself, 0 one bin away
        bins = torch.arange(self.reg_max, device=logits.device)
        share = (1 - (reach[..., None] - bins).abs()).clamp(min=0)  # (P, 4, R)
        log_p = logits.view(-1, 4, self.reg_max).log_softmax(dim=-1)
        dfl = -torch.einsum("per,per,p->", share, log_p, weight) / 4
        return torch.dot(weight, 1 - overlap), dfl


def pad_targets(targets: Tensor, batch_size: int) -> tuple[Tensor, Tensor, Tensor]:
    belongs = targets[:, 0].long()[None] == torch.arange(batch_size, device=targets.device)[:, None]  # (B, N)
    slots = max(1, max(belongs.sum(dim=1).tolist()))
    images = [
        F.pad(targets[own, 1:].flip(0), (0, 0, 0, slots - int(own.sum()))) for own in belongs
    ]  # the last object first: any order will do
    block = torch.stack(images)
    real = block[..., 1:].sum(dim=-1).gt(0)
    return block[..., 0].long(), block[..., 1:], real


class DetectionLoss(nn.Module):
    def __init__(self, model: nn.Module, box_gain: float = 7.5, cls_gain: float = 0.5, dfl_gain: float = 1.5):
        super().__init__()
        self.reg_max, self.strides = model.reg_max, model.strides
        self.gains = {"box": box_gain, "cls": cls_gain, "dfl": dfl_gain}
        self.assigner = TaskAlignedAssigner(model.num_classes)
        self.box_loss = BoxLoss(model.reg_max)

    def forward(self, maps: list[Tensor], targets: Tensor) -> LossParts:
        flat = flatten_maps([level.float() for level in maps])
        box_logits, class_logits = flat[..., : 4 * self.reg_max], flat[..., 4 * self.reg_max :]
        anchors, strides = make_anchors([level.shape[2:] for level in maps], self.strides, flat.device)
        labels, boxes, mask = pad_targets(targets, flat.shape[0])

        seen = distance_to_box(anchors, expected_distance(box_logits, self.reg_max)).detach()
        assigned = self.assigner(
            scores=torch.sigmoid(class_logits).detach(),
            boxes=seen * strides,
            anchors=anchors * strides,
            gt_labels=labels,
            gt_boxes=boxes,
            gt_mask=mask,
        )
        weight = assigned.scores.sum(dim=-1)  # (B, A)
        total, processes = sum_over_processes(weight.sum())
        normaliser = torch.maximum(total, torch.ones_like(total)) / processes

        cls = F.binary_cross_entropy(class_logits.double().sigmoid(), assigned.scores.double(), reduction="none").sum()
        positive = assigned.foreground
        box, dfl = self.box_loss(
            box_logits[positive],
            anchors.expand(len(flat), -1, -1)[positive],
            (assigned.boxes / strides)[positive],
            weight[positive],
        )
        parts = {"box": box / normaliser, "cls": cls / normaliser, "dfl": dfl / normaliser}
        parts = {name: part * self.gains[name] for name, part in parts.items()}
        return LossParts(sum(parts.values()), **parts)


def sum_over_processes(value: Tensor) -> tuple[Tensor, int]:
    """Sum a number over all processes of a distributed run; how many they are."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return value, 1
    value = value.clone()
    torch.distributed.all_reduce(value)
    return value, torch.distributed.get_world_size()
