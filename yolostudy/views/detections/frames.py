"""Boxes and keypoints, painted into the pixels of an image."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from ...canvas import style

FRACTION = 4  # bits after the point in OpenCV's coordinates


def paint_frame(image: np.ndarray, box: np.ndarray, colour: str, outside: int, inside: int, dash: int = 0) -> None:
    """Colour the pixels from `outside` out of the box to `inside` within it.

    Args:
        dash: length of a dash in pixels, with a gap of half that length after each; 0 for a solid
            line.
    """
    height, width = image.shape[:2]
    # A box that crosses the border is framed along the border, so that one sees that it goes on.
    x1, x2 = (int(value) for value in np.clip(np.rint(box[[0, 2]]), outside, max(outside, width - outside)))
    y1, y2 = (int(value) for value in np.clip(np.rint(box[[1, 3]]), outside, max(outside, height - outside)))
    left, top, right, bottom = max(0, x1 - outside), max(0, y1 - outside), x2 + outside, y2 + outside
    inside_x, inside_y = min(inside, (x2 - x1 + 1) // 2), min(inside, (y2 - y1 + 1) // 2)
    paint_colour = style.rgb(colour)
    bars = (  # rows, columns, axis along which a bar runs
        (slice(top, y1 + inside_y), slice(left, right), 1),
        (slice(y2 - inside_y, bottom), slice(left, right), 1),
        (slice(top, bottom), slice(left, x1 + inside_x), 0),
        (slice(top, bottom), slice(x2 - inside_x, right), 0),
    )
    for rows, columns, axis in bars:
        bar = image[max(0, rows.start) : rows.stop, max(0, columns.start) : columns.stop]
        if dash:
            drawn = np.arange(bar.shape[axis]) % (dash + dash // 2) < dash
            bar[(slice(None), drawn) if axis == 1 else (drawn,)] = paint_colour
        else:
            bar[...] = paint_colour


def paint_keypoints(image: np.ndarray, keypoints: np.ndarray, skeleton: Sequence[tuple[int, int]], line: int) -> None:
    """Paint the keypoints of each object: visible ones filled, occluded ones hollow.

    Args:
        keypoints: (n, K, 3) x y visibility.
        skeleton: pairs of keypoints to join.
        line: width in pixels.
    """
    dark, paper = style.rgb(style.INK), style.rgb(style.PAPER)
    _paint_skeleton(image, keypoints, skeleton, ((dark, line + 2), (paper, line)))
    for joints in keypoints:
        for number, (x, y, visible) in enumerate(joints):
            if visible > 0:
                _disc(image, (x, y), 3 * line, paper)
                _disc(image, (x, y), 2 * line, style.rgb(style.cycle(number)))
                if visible < 2:
                    _disc(image, (x, y), line, paper)


def paint_truth_keypoints(
    image: np.ndarray, keypoints: np.ndarray, skeleton: Sequence[tuple[int, int]], line: int
) -> None:
    """Paint where the keypoints truly are: a purple ring with room for a predicted keypoint.

    Args: those of `paint_keypoints`.
    """
    truth, paper = style.rgb(style.TRUTH), style.rgb(style.PAPER)
    _paint_skeleton(image, keypoints, skeleton, ((paper, line + 2), (truth, line)))
    for x, y in keypoints[keypoints[..., 2] > 0][:, :2]:
        for colour, width in ((paper, 2 * line), (truth, line)):
            _disc(image, (x, y), 5 * line, colour, width)


def _paint_skeleton(
    image: np.ndarray,
    keypoints: np.ndarray,
    skeleton: Sequence[tuple[int, int]],
    strokes: Sequence[tuple[tuple[int, int, int], int]],
) -> None:
    """Join keypoints that are both there, with strokes (colour, width) on top of each other."""
    for joints in keypoints:
        for start, end in skeleton:
            if joints[start, 2] > 0 and joints[end, 2] > 0:
                ends = [_fixed(joints[number, :2]) for number in (start, end)]
                for colour, width in strokes:
                    cv2.line(image, *ends, colour, width, cv2.LINE_AA, FRACTION)


def _disc(
    image: np.ndarray, point: Sequence[float], radius: int, colour: tuple[int, int, int], width: int = -1
) -> None:
    """A filled disc, or a ring of that width."""
    cv2.circle(image, _fixed(point), radius * 2**FRACTION, colour, width, cv2.LINE_AA, FRACTION)


def _fixed(point: Sequence[float]) -> list[int]:
    """A point as OpenCV takes it."""
    return np.rint(np.asarray(point) * 2**FRACTION).astype(int).tolist()
