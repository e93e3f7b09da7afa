"""What an assigner sees: a picture, its truth, and the predictions of a network on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

import numpy as np


@dataclass(frozen=True, slots=True, eq=False)
class Slide:
    """One picture, its truth, and what a network predicts at each of A anchor points.

    Attributes:
        image: (H, W, 3) uint8.
        scores (A, C), boxes (A, 4), anchors (A, 2), strides (A,): tensors; boxes and anchors in
            pixels of the picture.
        labels (G,), truth (G, 4): tensors; truth in pixels.
        names: of the classes; may be empty.
    """

    image: np.ndarray
    scores: object
    boxes: object
    anchors: object
    strides: object
    labels: object
    truth: object
    names: tuple[str, ...] = ()

    def name(self, box: int) -> str:
        """`2: A7`; the pictures count boxes from 1."""
        label = int(self.labels[box])
        return f"{box + 1}: {self.names[label] if label < len(self.names) else f'class {label}'}"

    def title(self, box: int) -> str:
        """`2: A7, 36 × 34 px`."""
        x1, y1, x2, y2 = self.truth[box].tolist()
        return f"{self.name(box)}, {x2 - x1:.0f} × {y2 - y1:.0f} px"


def make_slide(
    image: np.ndarray,
    maps: Sequence,
    truth: np.ndarray,
    class_names: Sequence[str] = (),
    boxes: ModuleType | None = None,
) -> Slide:
    """A slide from three raw maps.

    Args:
        image: (H, W, 3) uint8, as the network saw it.
        maps: (1, 4·R + C, H/s, W/s) each, s = 8, 16, 32.
        truth: (G, 5) class x1 y1 x2 y2 in pixels.
        boxes: the module that decodes the maps; by default `yolostudy.boxes` of the edition in use.

    Errors: ValueError for a picture without objects, and for maps of several images.
    """
    import torch

    if boxes is None:
        from ... import boxes
    truth = torch.as_tensor(np.asarray(truth, np.float32).reshape(-1, 5))
    if not len(truth):
        raise ValueError("microscope: this picture shows no object, so nothing is assigned. Choose another.")
    if any(len(level) != 1 for level in maps):
        raise ValueError(
            f"microscope: the maps hold {len(maps[0])} images; give those of one, for example [m[:1] for m in maps]."
        )
    maps = [level.detach() for level in maps]
    decoded, scores = boxes.decode(maps)
    anchors, strides = boxes.make_anchors([level.shape[2:] for level in maps])
    return Slide(
        image,
        scores[0],
        decoded[0],
        anchors * strides,
        strides[:, 0],
        truth[:, 0].long(),
        truth[:, 1:],
        tuple(class_names),
    )
