"""What a flip of the image does to the names of its keypoints, and what a turn does not.

A coordinate x of an image that is w pixels wide becomes w - x: coordinates count from the image's
edge, not from the middle of the first pixel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ...canvas import drawing, style
from ..detections.joints import SKELETON, mark_keypoints
from .looks import names_of


@dataclass(frozen=True, slots=True)
class Move:
    """A way to move an image: its pixels, its points, and whether left and right change places."""

    image: Callable[[np.ndarray], np.ndarray]
    points: Callable[[np.ndarray, int, int], np.ndarray]  # (…, 2), width, height
    mirrors: bool


MOVES = {
    "as it is": Move(lambda image: image, lambda xy, w, h: xy, False),
    "flipped left-right": Move(lambda image: image[:, ::-1], lambda xy, w, h: np.array([w, 0]) + xy * (-1, 1), True),
    "flipped up-down": Move(lambda image: image[::-1], lambda xy, w, h: np.array([0, h]) + xy * (1, -1), True),
    "turned by 90°": Move(np.rot90, lambda xy, w, h: np.array([0, w]) + xy[..., ::-1] * (1, -1), False),
}
ROWS = ("names stay", "names exchanged")


@style.house()
def draw_flip(
    image: np.ndarray,
    keypoints: np.ndarray,
    flip_index: Sequence[int],
    names: Sequence[str] | None = None,
    skeleton: Sequence[tuple[int, int]] = SKELETON,
) -> style.StudyFigure:
    """An image flipped and turned, above with an identity flip index, below with the given one.

    A flip exchanges left and right, whichever axis it mirrors. A turn exchanges nothing. Frames of
    wrong pictures are orange-red and dashed.

    Its numbers: (row, move) -> "keypoints" (n, K, 3), and "wrong", the number of visible keypoints
    with another's name; rows are "names stay" and "names exchanged".

    Args:
        keypoints: (n, K, 3) x y visibility in pixels, or (K, 3) of one object.
        flip_index: (K,): in a mirrored image, keypoint k takes the place of flip_index[k].
    """
    points = np.array(keypoints, float).reshape(-1, *np.shape(keypoints)[-2:])
    flip_index = list(flip_index)
    if sorted(flip_index) != list(range(points.shape[1])):
        raise ValueError(f"the flip index {flip_index} does not exchange {points.shape[1]} keypoints.")
    names, numbers = names_of(points.shape[1], names), {}
    tallest = max(image.shape[:2]) / min(image.shape[:2])  # of a picture or of the turned one
    figure, panels = style.figure(2, len(MOVES), height=1.3 + 4.3 * tallest)
    for row, way in enumerate(ROWS):
        for axes, (title, move) in zip(panels[row], MOVES.items()):
            height, width = image.shape[:2]
            moved = np.concatenate([move.points(points[..., :2], width, height), points[..., 2:]], axis=-1)
            named = moved[:, flip_index] if row else moved
            true = moved[:, flip_index] if move.mirrors else moved
            wrong = int((named != true).any(axis=-1)[named[..., 2] > 0].sum())
            numbers[way, title] = {"keypoints": named, "wrong": wrong}
            _draw_moved(axes, move.image(image), named, skeleton, wrong)
            if row == 0:
                axes.set_title(title, fontsize=10)
        panels[row, 0].set_ylabel(way, weight="bold", fontsize=10)
    handles = [
        panels[0, 0].plot([], [], "o", color=style.cycle(k), markersize=8, label=name)[0]
        for k, name in enumerate(names)
    ]
    figure.legend(handles, names, loc="outside lower center", ncols=len(names))
    return figure.with_numbers(numbers)


def _draw_moved(axes, image: np.ndarray, points: np.ndarray, skeleton: Sequence[tuple[int, int]], wrong: int) -> None:
    # few greys: eight photographs would leave too few colours for the marks
    drawing.ground(axes, drawing.pale(image, shades=12, darkest=96), interpolation="nearest")
    mark_keypoints(axes, points, skeleton, size=6.5)
    axes.set(xticks=[], yticks=[])
    total = int((points[..., 2] > 0).sum())
    axes.set_xlabel(f"wrong: {wrong} of {total} names" if wrong else "correct", fontsize=9, weight="bold")
    height, width = image.shape[:2]
    look = dict(colour=style.FALSE_ALARM, linestyle=(0, (3, 2))) if wrong else dict(colour=style.HIT)
    drawing.frame(axes, (0, 0, width, height), linewidth=4, **look)
