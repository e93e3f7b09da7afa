"""Points, outlines and the matrices that move them."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np


def matrix(centre: Sequence[float], size: float, angle: float, stretch: float = 1.0) -> np.ndarray:
    """The (2, 3) matrix that takes points round the origin to image pixels round `centre`.

    Args:
        size: pixels for one unit.
        angle: clockwise in the image, in radians.
        stretch: extra factor across, which widens the wing span of an aircraft.
    """
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c * size * stretch, -s * size, centre[0]], [s * size * stretch, c * size, centre[1]]])


def transform(points: np.ndarray, m: np.ndarray) -> np.ndarray:
    """Apply a (2, 3) matrix to points (..., 2)."""
    return points @ m[:, :2].T + m[:, 2]


def rectangle(x: float, y: float, width: float, height: float) -> np.ndarray:
    """(4, 2) corners of an upright rectangle round (x, y)."""
    corners = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
    return corners * [width, height] + [x, y]


def arc(x: float, y: float, radius: float, start: float, end: float) -> np.ndarray:
    """(48, 2) points of an arc round (x, y), from angle `start` to `end` in radians."""
    angle = np.linspace(start, end, 48)
    return np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle)], 1)


def fixed_point(points: np.ndarray) -> np.ndarray:
    """Pixels as OpenCV's drawing functions take them: int32 with four bits of fraction.

    Our first pixel spans 0 to 1. OpenCV counts from the middle of a pixel, hence the half.
    """
    return np.round((points - 0.5) * 16).astype(np.int32)


def fill(mask: np.ndarray, *polygons: np.ndarray) -> None:
    """Add polygons (n, 2) in image pixels to a uint8 mask, with smooth edges."""
    for polygon in polygons:
        cv2.fillPoly(mask, [fixed_point(polygon)], 255, cv2.LINE_AA, 4)


def overlap(corner: Sequence[int], shape: tuple[int, int], side: int) -> tuple[slice, slice, slice, slice]:
    """The part of a patch that lies inside a picture of `side` pixels.

    Args:
        corner: (x, y) of the patch's first pixel in the picture.
        shape: (h, w) of the patch.

    Returns:
        rows and columns of the picture, then rows and columns of the patch.
    """
    (x, y), (h, w) = corner, shape
    top, left, bottom, right = max(y, 0), max(x, 0), min(y + h, side), min(x + w, side)
    return slice(top, bottom), slice(left, right), slice(top - y, bottom - y), slice(left - x, right - x)
