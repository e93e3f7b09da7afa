"""A batch of noise for benchmarks: the time of a step does not depend on what the images show."""

from __future__ import annotations

from types import SimpleNamespace

import torch


def noise_batch(images: int, side: int, objects: int = 3, classes: int = 20) -> SimpleNamespace:
    """Images (B, 3, side, side) uint8 in channels-last memory, and targets (N, 6).

    Args:
        images: B. side: in pixels. objects: in each image.
    """
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (images, 3, side, side), dtype=torch.uint8, generator=generator)
    corner = torch.rand(images * objects, 2, generator=generator) * side * 0.6
    extent = torch.rand(images * objects, 2, generator=generator) * side * 0.3 + 8
    image = torch.arange(images).repeat_interleave(objects)[:, None]
    label = torch.randint(0, classes, (images * objects, 1), generator=generator)
    targets = torch.cat((image, label, corner, corner + extent), dim=1).float()
    return SimpleNamespace(images=pixels.contiguous(memory_format=torch.channels_last), targets=targets)
