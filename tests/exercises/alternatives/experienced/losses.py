"""Stage 6 as somebody with a year of PyTorch writes it: no loop over images."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .assigner import TaskAlignedAssigner
from .boxes import box_to_distance, complete_iou, distance_to_box, expected_distance, flatten_maps, make_anchors


class LossParts(NamedTuple):
    total: Tensor
    box: Tensor
    cls: Tensor
    dfl: Tensor


class DistributionFocalLoss:
    def __call__(self, logits: Tensor, distances: Tensor) -> Tensor:
        low = distances.long()
        weight_high = distances - low
        weight_low = 1 - weight_high
        flat = logits.reshape(-1, logits.shape[-1])
        loss_low = F.cross_entropy(flat, low.reshape(-1), reduction="none").view(low.shape)
        loss_high = F.cross_entropy(flat, (low + 1).reshape(-1), reduction="none").view(low.shape)
        return loss_low * weight_low + loss_high * weight_high


class BoxLoss:
    def __init__(self, reg_max: int = 16):
        self.reg_max = reg_max
        self.distribution_loss = DistributionFocalLoss()

    def __call__(self, logits: Tensor, anchors: Tensor, target_boxes: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        pred_boxes = distance_to_box(anchors, expected_distance(logits, self.reg_max))
        box = ((1.0 - complete_iou(pred_boxes, target_boxes)) * weight).sum()
        target = box_to_distance(anchors, target_boxes, self.reg_max)
        dfl = self.distribution_loss(logits.view(-1, 4, self.reg_max), target).mean(dim=-1)
        return box, (dfl * weight).sum()


def pad_targets(targets: Tensor, batch_size: int) -> tuple[Tensor, Tensor, Tensor]:
    image = targets[:, 0].long()
    counts = torch.bincount(image, minlength=batch_size)
    G = max(1, int(counts.max()))
    labels = torch.zeros(batch_size, G, dtype=torch.long, device=targets.device)
    boxes = torch.zeros(batch_size, G, 4, dtype=targets.dtype, device=targets.device)
    for i in range(batch_size):
        rows = targets[image == i]
        labels[i, : len(rows)] = rows[:, 1].long()
        boxes[i, : len(rows)] = rows[:, 2:]
    return labels, boxes, boxes.sum(dim=-1) > 0


class DetectionLoss(nn.Module):
    def __init__(self, model: nn.Module, box_gain: float = 7.5, cls_gain: float = 0.5, dfl_gain: float = 1.5):
        super().__init__()
        self.reg_max, self.strides = model.reg_max, model.strides
        self.gains = {"box": box_gain, "cls": cls_gain, "dfl": dfl_gain}
        self.assigner = TaskAlignedAssigner(model.num_classes)
        self.box_loss = BoxLoss(model.reg_max)

    def forward(self, maps: list[Tensor], targets: Tensor) -> LossParts:
        batch_size = maps[0].shape[0]
        pred = flatten_maps([m.float() for m in maps])
        pred_dist, pred_cls = pred.split([4 * self.reg_max, pred.shape[-1] - 4 * self.reg_max], dim=-1)
        anchors, strides = make_anchors([m.shape[-2:] for m in maps], self.strides, pred.device)

        pred_boxes = distance_to_box(anchors, expected_distance(pred_dist, self.reg_max)) * strides
        gt_labels, gt_boxes, gt_mask = pad_targets(targets, batch_size)
        assigned = self.assigner(
            pred_cls.detach().sigmoid(), pred_boxes.detach(), anchors * strides, gt_labels, gt_boxes, gt_mask
        )

        score_sum, world_size = sum_over_processes(assigned.scores.sum())
        norm = max(score_sum, 1) / world_size
        cls_loss = F.binary_cross_entropy_with_logits(pred_cls, assigned.scores, reduction="sum")
        fg = assigned.foreground
        box_loss, dfl_loss = self.box_loss(
            pred_dist[fg],
            anchors.expand(batch_size, -1, -1)[fg],
            (assigned.boxes / strides)[fg],
            assigned.scores.sum(-1)[fg],
        )
        parts = {"box": box_loss / norm, "cls": cls_loss / norm, "dfl": dfl_loss / norm}
        parts = {name: part * self.gains[name] for name, part in parts.items()}
        return LossParts(sum(parts.values()), **parts)


def sum_over_processes(value: Tensor) -> tuple[Tensor, int]:
    return value, 1
