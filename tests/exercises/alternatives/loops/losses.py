"""Stage 6 in loops: one object, edge or level at a time."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .assigner import TaskAlignedAssigner
from .boxes import box_to_distance, complete_iou, distance_to_box, expected_distance, make_anchors


class LossParts(NamedTuple):
    """The loss and its parts."""

    total: Tensor
    box: Tensor
    cls: Tensor
    dfl: Tensor


class DistributionFocalLoss:
    def __call__(self, logits: Tensor, distances: Tensor) -> Tensor:
        bins = logits.shape[-1]
        rows, wanted = logits.reshape(-1, bins), distances.reshape(-1)
        losses = []
        for row, distance in zip(rows, wanted.tolist()):
            below = math.floor(distance)
            log_p = row - row.logsumexp(dim=0)
            losses.append((distance - below - 1) * log_p[below] + (below - distance) * log_p[below + 1])
        return torch.stack(losses).reshape(distances.shape) if losses else logits.sum(dim=-1)


class BoxLoss:
    def __init__(self, reg_max: int = 16):
        self.reg_max = reg_max
        self.distribution_loss = DistributionFocalLoss()

    def __call__(self, logits: Tensor, anchors: Tensor, target_boxes: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        box = dfl = logits.sum() * 0
        for number in range(len(logits)):
            own, anchor, target = logits[number], anchors[number], target_boxes[number]
            predicted = distance_to_box(anchor, expected_distance(own, self.reg_max))
            box = box + weight[number] * (1 - complete_iou(target, predicted))
            reach = box_to_distance(anchor, target, self.reg_max)
            edges = [
                self.distribution_loss(own[e * self.reg_max : (e + 1) * self.reg_max][None], reach[e][None])[0]
                for e in range(4)
            ]
            dfl = dfl + weight[number] * sum(edges) / 4
        return box, dfl


def pad_targets(targets: Tensor, batch_size: int) -> tuple[Tensor, Tensor, Tensor]:
    objects: list[list[list[float]]] = [[] for _ in range(batch_size)]
    for image, *rest in targets.tolist():
        if sum(rest[1:]) > 0:
            objects[int(image)].append(rest)
    slots = max(1, *map(len, objects))
    labels = torch.zeros(batch_size, slots, dtype=torch.int64)
    boxes = torch.zeros(batch_size, slots, 4)
    mask = torch.zeros(batch_size, slots, dtype=torch.bool)
    for image, own in enumerate(objects):
        for slot, (label, *box) in enumerate(own):
            labels[image, slot], boxes[image, slot], mask[image, slot] = int(label), torch.tensor(box), True
    return labels, boxes, mask


class DetectionLoss(nn.Module):
    def __init__(self, model: nn.Module, box_gain: float = 7.5, cls_gain: float = 0.5, dfl_gain: float = 1.5):
        super().__init__()
        self.reg_max, self.strides = model.reg_max, model.strides
        self.gains = {"box": box_gain, "cls": cls_gain, "dfl": dfl_gain}
        self.assigner = TaskAlignedAssigner(model.num_classes)
        self.box_loss = BoxLoss(model.reg_max)

    def forward(self, maps: list[Tensor], targets: Tensor) -> LossParts:
        cut = 4 * self.reg_max
        distributions = torch.cat([level[:, :cut].flatten(2).transpose(1, 2) for level in maps], dim=1)
        classes = torch.cat([level[:, cut:].flatten(2).transpose(1, 2) for level in maps], dim=1)
        distributions, classes = distributions.to(torch.float32), classes.to(torch.float32)
        anchors, strides = make_anchors([level.shape[-2:] for level in maps], self.strides)
        labels, boxes, mask = pad_targets(targets, batch_size=maps[0].shape[0])

        with torch.no_grad():
            found = distance_to_box(anchors, expected_distance(distributions, self.reg_max)) * strides
            target = self.assigner(classes.sigmoid(), found, anchors * strides, labels, boxes, mask)
            everything, processes = sum_over_processes(target.scores.sum())
            normaliser = max(float(everything), 1.0) / processes

        cls = sum(F.softplus(one).sum() - (one * wanted).sum() for one, wanted in zip(classes, target.scores))
        box = dfl = torch.zeros(())
        for image in range(len(classes)):
            positive = target.foreground[image]
            if not positive.any():
                continue
            more_box, more_dfl = self.box_loss(
                distributions[image, positive],
                anchors[positive],
                target.boxes[image, positive] / strides[positive],
                target.scores[image, positive].sum(dim=1),
            )
            box, dfl = box + more_box, dfl + more_dfl
        parts = {"dfl": dfl / normaliser, "box": box / normaliser, "cls": cls / normaliser}
        parts = {name: part * self.gains[name] for name, part in parts.items()}
        return LossParts(sum(parts.values()), **parts)


def sum_over_processes(value: Tensor) -> tuple[Tensor, int]:
    """Sum a number over all processes of a distributed run; how many they are."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return value, 1
    value = value.clone()
    torch.distributed.all_reduce(value)
    return value, torch.distributed.get_world_size()
