"""A loss while it works: what its assigner and its box loss are given, and what they give.

The loss is not written a second time: a copy of it runs on the maps and is watched.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ...assigner import Assignment
    from ...losses import LossParts


class Seen:
    """What was seen while a loss worked.

    Attributes:
        parts: what the loss returned.
        assigner_input: name -> tensor; the ground truths without padding.
        assignment: what the assigner returned.
        box_calls: for each call of the box loss "anchors", "target boxes", "weight", and "box" and
            "dfl": the loss of each anchor, (P,).
        distances: for each call of the distribution loss, its distances.
    """

    parts: LossParts
    assignment: Assignment
    assigner_input: dict

    def __init__(self):
        self.box_calls, self.distances = [], []


def watch_loss(loss, maps: Sequence, targets) -> Seen:
    """Run a copy of a `DetectionLoss` and keep what its parts were given and gave."""
    seen, watched, box_loss = Seen(), copy.copy(loss), copy.copy(loss.box_loss)
    if hasattr(box_loss, "distribution_loss"):
        vars(box_loss)["distribution_loss"] = _WatchedDistributionLoss(loss.box_loss.distribution_loss, seen)
    # Put into the copy's own attributes: Python finds them before the submodules, which both copies
    # share.
    vars(watched)["assigner"] = _WatchedAssigner(loss.assigner, seen)
    vars(watched)["box_loss"] = _WatchedBoxLoss(box_loss, seen)
    seen.parts = watched.forward([level.detach() for level in maps], targets)
    return seen


class _Watched:
    """Stands in for an object and keeps all of its attributes."""

    def __init__(self, inner, seen: Seen):
        self.inner, self.seen = inner, seen

    def __getattr__(self, name: str):
        return getattr(self.inner, name)


class _WatchedAssigner(_Watched):
    def __call__(self, scores, boxes, anchors, gt_labels, gt_boxes, gt_mask):
        self.seen.assigner_input = {
            "scores": scores,
            "boxes": boxes,
            "anchors": anchors,
            "ground truths": gt_boxes[gt_mask.bool()],
        }
        self.seen.assignment = self.inner(scores, boxes, anchors, gt_labels, gt_boxes, gt_mask)
        return self.seen.assignment


class _WatchedBoxLoss(_Watched):
    """Box and DFL loss are linear in the weights of the anchors.

    So the part of an anchor is its weight times the derivative with respect to it.
    """

    def __call__(self, logits, anchors, target_boxes, weight):
        import torch

        with torch.enable_grad():
            weight = weight.detach().requires_grad_()
            sums = dict(zip(("box", "dfl"), self.inner(logits.detach(), anchors, target_boxes, weight), strict=True))
            call = {"anchors": anchors, "target boxes": target_boxes, "weight": weight.detach()}
            for name, value in sums.items():
                slope = (
                    torch.autograd.grad(value, weight, retain_graph=True, allow_unused=True)[0]
                    if value.requires_grad
                    else None
                )
                call[name] = torch.zeros_like(call["weight"]) if slope is None else slope * call["weight"]
        self.seen.box_calls.append(call)
        return tuple(value.detach() for value in sums.values())


class _WatchedDistributionLoss(_Watched):
    def __call__(self, logits, distances):
        self.seen.distances.append(distances.detach())
        return self.inner(logits, distances)


def as_array(tensor) -> np.ndarray:
    """A tensor or a list as float64."""
    return tensor.detach().cpu().double().numpy() if hasattr(tensor, "detach") else np.asarray(tensor, float)
