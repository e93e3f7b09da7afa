"""What the pictures of keypoints have in common: the similarity, a window around an object."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...canvas import drawing

AREA_SHARE = 0.53  # the metric takes this share of a box for the object: Ultralytics' PoseValidator
PLANES = ("nose", "tail", "left wing tip", "right wing tip")


def spread(sigma: float, area: float) -> float:
    """The distance at which a keypoint's similarity is exp(-1/2): 2 · σ · √area, in pixels."""
    return 2 * sigma * float(np.sqrt(area))


def area_of(box: Sequence[float]) -> float:
    """Width times height of x1 y1 x2 y2."""
    x1, y1, x2, y2 = (float(value) for value in box)
    return (x2 - x1) * (y2 - y1)


def names_of(count: int, names: Sequence[str] | None) -> tuple[str, ...]:
    """Names of K keypoints: those given, those of planes where there are four, else numbers."""
    if names is None:
        return PLANES if count == len(PLANES) else tuple(map(str, range(count)))
    if len(names) != count:
        raise ValueError(f"{len(names)} names were given for {count} keypoints; one for each is needed.")
    return tuple(names)


def window(axes, image: np.ndarray, box: Sequence[float], margin: float) -> None:
    """Show the image in a square around the box.

    Args:
        margin: on each side of the box's longer side, in pixels.
    """
    drawing.ground(axes, image, 0.35)
    x1, y1, x2, y2 = (float(value) for value in box)
    half = max(x2 - x1, y2 - y1) / 2 + margin
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    axes.set(xlim=(x - half, x + half), ylim=(y + half, y - half))
