"""Props of the rooms: raw maps and targets of two small images, and a data set of one image."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor

# the attributes of a network that the loss reads
DETECTOR = SimpleNamespace(num_classes=3, reg_max=16, strides=(8, 16, 32))
# image, class, x1 y1 x2 y2
TARGETS = torch.tensor([[0, 1, 40, 40, 88, 104], [1, 2, 16, 4, 60, 30], [1, 0, 70, 64, 120, 120.0]])


def raw_maps(images: int = 2, side: int = 128) -> list[Tensor]:
    """Maps as of an untrained network: three of (B, 67, H/s, W/s), class logits around -2."""
    drawn = torch.Generator().manual_seed(1)
    maps = [torch.randn(images, 67, side // stride, side // stride, generator=drawn) for stride in DETECTOR.strides]
    for level in maps:
        level[:, 64:] -= 2
    return [level.requires_grad_() for level in maps]


def words(parts) -> str:
    return "   ".join(f"{name} {value.item():.4g}" for name, value in parts._asdict().items())


def inside(course, targets: Tensor = TARGETS, maps: list[Tensor] | None = None) -> SimpleNamespace:
    """Run a loss; keep its assignment and the arguments of its box loss."""
    loss, kept = course.losses.DetectionLoss(DETECTOR), SimpleNamespace()
    assigner, box_loss = loss.assigner, loss.box_loss

    def assign(*given):
        kept.given, kept.assigned = given, assigner(*given)
        return kept.assigned

    def place(logits, anchors, boxes, weight):
        kept.logits, kept.anchors, kept.boxes, kept.weight = logits, anchors, boxes, weight
        return box_loss(logits, anchors, boxes, weight)

    loss.assigner, loss.box_loss = assign, place
    kept.parts = loss(maps or raw_maps(), targets)
    return kept


def span(value: Tensor) -> str:
    return f"{value.min():.4g} … {value.max():.4g}" if value.numel() else "none"


def yolo_set(folder: Path, line: str, labels: str = "labels") -> Path:
    """Write a data set in YOLO's layout: one image of 100 × 80 pixels, one label line.

    Returns its data.yaml.
    """
    import cv2
    import numpy as np

    for name in ("images", labels):
        (folder / name / "train").mkdir(parents=True)
    cv2.imwrite(str(folder / "images" / "train" / "a.png"), np.full((80, 100, 3), 114, np.uint8))
    (folder / labels / "train" / "a.txt").write_text(line + "\n")
    (folder / "data.yaml").write_text("path: .\ntrain: images/train\nnames: [airliner, fighter]\n")
    return folder / "data.yaml"
