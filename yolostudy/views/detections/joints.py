"""Keypoints on axes, in the colours that `paint_keypoints` gives them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...canvas import style

SKELETON = ((0, 1), (2, 3))  # of planes: nose to tail, wing tip to wing tip
PERSON = ((0, 1), (0, 2), (1, 3), (2, 4), (5, 6), (5, 7), (7, 9), (6, 8), (8, 10), (5, 11), (6, 12), (11, 12))
PERSON += ((11, 13), (13, 15), (12, 14), (14, 16))  # of COCO's 17 keypoints


def skeleton_of(count: int) -> tuple[tuple[int, int], ...]:
    """The pairs of keypoints to join: those of planes for 4, of COCO's people for 17, else none."""
    return {4: SKELETON, 17: PERSON}.get(count, ())


def as_keypoints(rows: np.ndarray, count: int) -> np.ndarray:
    """The keypoints of predictions, in the form in which they are painted.

    Args:
        rows: (n, 6 + K·d) x1 y1 x2 y2 score class, then x y [visibility in 0…1] of each keypoint.
        count: K.

    Returns:
        (n, K, 3) x y visibility; 2 where the probability of being visible is above one half or not
        predicted, else 0.
    """
    points = np.asarray(rows, float)[:, 6:].reshape(len(rows), count, -1)
    seen = points[..., 2:] > 0.5 if points.shape[2] == 3 else np.ones((*points.shape[:2], 1))
    return np.concatenate((points[..., :2], 2 * seen), axis=2)


def mark_keypoints(
    axes,
    keypoints: np.ndarray,
    skeleton: Sequence[tuple[int, int]] = (),
    colours: Sequence[str] | None = None,
    size: float = 8,
    lines: Sequence[str] | None = None,
) -> None:
    """Mark the keypoints of each object: visible ones filled, occluded ones hollow.

    Args:
        keypoints: (n, K, 3) x y visibility (0 absent, 1 occluded, 2 visible), in the axes' units.
        skeleton: pairs of keypoints to join by a line.
        colours: (n,) one for each object; by default each kind of keypoint has its own.
        size: of a mark, in points.
        lines: (n,) colours of the skeletons; by default those of the objects, else dark.
    """
    for row, joints in enumerate(np.asarray(keypoints, float)):
        own = style.INK if colours is None else colours[row]
        line = own if lines is None else lines[row]
        for start, end in skeleton:
            if joints[start, 2] > 0 and joints[end, 2] > 0:
                at = joints[[start, end], :2].T
                axes.plot(*at, color=style.PAPER, linewidth=3.4, solid_capstyle="round")
                axes.plot(*at, color=line, linewidth=1.6, solid_capstyle="round")
        for number, (x, y, visible) in enumerate(joints):
            if visible > 0:
                colour = style.cycle(number) if colours is None else own
                filled = colour if visible >= 2 else style.PAPER
                axes.plot(x, y, "o", markersize=size + 3, color=style.PAPER, markeredgewidth=0)
                axes.plot(x, y, "o", markersize=size, color=filled, markeredgecolor=colour, markeredgewidth=2)
