"""Letterbox: an image of any shape resized into a batch's shape, and the way back for its boxes.

Source: as in Ultralytics' YOLOv8; the pixels are the same, which a test checks.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

GRAY = 114  # the padding that the YOLO family trains with; about the mean of natural images

Size = tuple[int, int]  # (height, width)


class Placement(NamedTuple):
    """Where an image lies in its letterbox: letterboxed = original · scale + pad.

    The resized image has whole pixels, so each axis has its own exact scale. The two scales differ
    by less than a pixel over the whole image.
    """

    scale_x: float
    scale_y: float
    pad_x: int
    pad_y: int

    def to_letterbox(self, boxes):
        """Boxes (…, 4 or more) of the original image -> boxes in the letterbox.

        Takes numpy arrays and tensors. Columns after the fourth are unchanged.
        """
        moved = boxes * 1.0  # a copy, for arrays and tensors alike
        moved[..., 0:4:2] = moved[..., 0:4:2] * self.scale_x + self.pad_x
        moved[..., 1:4:2] = moved[..., 1:4:2] * self.scale_y + self.pad_y
        return moved

    def to_original(self, boxes):
        """Boxes or predictions (…, 4 or more) in the letterbox -> pixels of the original image."""
        moved = boxes * 1.0
        moved[..., 0:4:2] = (moved[..., 0:4:2] - self.pad_x) / self.scale_x
        moved[..., 1:4:2] = (moved[..., 1:4:2] - self.pad_y) / self.scale_y
        return moved


def as_size(image_size: int | Size) -> Size:
    """640 -> (640, 640). (384, 640) is unchanged, height first."""
    return (image_size, image_size) if isinstance(image_size, int) else (int(image_size[0]), int(image_size[1]))


def fit_inside(width: int, height: int, size: Size) -> tuple[Placement, Size]:
    """The placement of an image in a letterbox of `size`, and the image's (height, width) there."""
    ratio = min(size[0] / height, size[1] / width)
    inner = max(round(height * ratio), 1), max(round(width * ratio), 1)
    return Placement(inner[1] / width, inner[0] / height, (size[1] - inner[1]) // 2, (size[0] - inner[0]) // 2), inner


def letterbox(image: np.ndarray, image_size: int | Size, out: np.ndarray | None = None) -> tuple[np.ndarray, Placement]:
    """Resize an image without changing its aspect, and centre it on gray.

    Args:
        image: (h, w, 3) uint8.
        image_size: side, or (H, W).
        out: (H, W, 3) uint8 to write into, for example a row of a cache.

    Returns:
        (H, W, 3) uint8, and the `Placement` that takes predictions back to pixels of `image`.
    """
    size = as_size(image_size)
    placement, inner = fit_inside(image.shape[1], image.shape[0], size)
    if image.shape[:2] != inner:
        image = cv2.resize(image, inner[::-1], interpolation=cv2.INTER_LINEAR)
    out = np.empty((*size, 3), np.uint8) if out is None else out
    if inner != size:
        out[:] = GRAY
    out[placement.pad_y : placement.pad_y + inner[0], placement.pad_x : placement.pad_x + inner[1]] = image
    return out, placement
