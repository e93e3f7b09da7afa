"""Slides and assigners for the tests of this folder."""

from types import SimpleNamespace

import numpy as np
import torch

from solutions import assigner as reference
from yolostudy.views.assigner import slides, steps

SIDE, CLASSES = 64, 3
TRUTH = torch.tensor([[6.0, 6, 42, 40], [14, 10, 52, 46], [2, 50, 10, 56]])  # two that overlap, and one below 16 pixels
LABELS = torch.tensor([0, 2, 1])


def grid():
    """Anchors (84, 2) and strides (84,) of three levels over the picture, written down without the
    course's own function.
    """
    anchors, strides = [], []
    for stride in (8, 16, 32):
        for y in range(SIDE // stride):
            for x in range(SIDE // stride):
                anchors.append([(x + 0.5) * stride, (y + 0.5) * stride])
                strides.append(float(stride))
    return torch.tensor(anchors), torch.tensor(strides)


def seen(noise=6.0, seed=0, number=2):
    """A slide as a half-trained network would give it: boxes near the first or second truth, scores
    that differ everywhere.
    """
    generator = torch.Generator().manual_seed(seed)
    anchors, strides = grid()
    nearest = (anchors[:, None] - (TRUTH[:number, :2] + TRUTH[:number, 2:]) / 2).norm(dim=-1).argmin(dim=1)
    # half of the way to the middle of all objects, so that several claim the anchors between them
    boxes = (
        TRUTH[:number][nearest].lerp(TRUTH[:number].mean(dim=0), 0.5)
        + torch.randn(len(anchors), 4, generator=generator) * noise
    )
    scores = torch.rand(len(anchors), CLASSES, generator=generator)
    image = np.broadcast_to(np.linspace(60, 200, SIDE)[:, None], (SIDE, SIDE, 3)).astype(np.uint8)
    return slides.Slide(image, scores, boxes, anchors, strides, LABELS[:number], TRUTH[:number], ("A1", "A2", "A3"))


def with_(**functions):
    """The reference with some functions exchanged."""
    return SimpleNamespace(**{name: functions.get(name, getattr(reference, name)) for name in steps.FUNCTION.values()})


def everywhere(anchors, gt_boxes, gt_mask, min_side=16.0):
    return torch.ones(*gt_mask.shape, len(anchors), dtype=torch.bool)


def stub(*arguments):
    raise NotImplementedError("exercise assigner.anchors_inside: course/05_assigner.ipynb")
