"""A loss, batches, and pictures for the tests of this folder."""

import numpy as np
import torch

from yolostudy.losses import DetectionLoss

CLASSES = 3


class Outline:
    """As much of a detector as its loss looks at."""

    num_classes, reg_max, strides = CLASSES, 16, (8, 16, 32)


def a_loss(**gains):
    return DetectionLoss(Outline(), **gains)


def a_batch(seed: int = 0, batch: int = 3, side: int = 96, empty: bool = False):
    """Maps as a half-trained network gives them, and targets; image 1 has no object."""
    generator = torch.Generator().manual_seed(seed)
    maps = [torch.randn(batch, 64 + CLASSES, side // s, side // s, generator=generator) for s in (8, 16, 32)]
    centre = torch.rand(5, 2, generator=generator) * (side - 40) + 20
    half = torch.rand(5, 2, generator=generator) * 12 + 8
    image = torch.tensor([2.0, 0, 0, 2, 2])[:, None]
    label = torch.randint(0, CLASSES, (5, 1), generator=generator)
    targets = torch.cat((image, label, centre - half, centre + half), 1)
    return maps, targets[:0] if empty else targets


def noise(side=96):
    return np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)


def smooth(side=96):
    return np.broadcast_to(np.linspace(60, 200, side).astype(np.uint8)[:, None, None], (side, side, 3))
