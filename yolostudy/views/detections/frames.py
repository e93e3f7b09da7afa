"""Boxes and keypoints, painted into the pixels of an image."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from ...canvas import style


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
    radius, dark, paper = 2 * line, style.rgb(style.INK), style.rgb(style.PAPER)
    fraction = 4  # bits after the point in OpenCV's coordinates
    points = np.rint(keypoints[..., :2] * 2**fraction).astype(int)

    def disc(point: list[int], radius: int, colour: tuple[int, int, int]) -> None:
        cv2.circle(image, point, radius * 2**fraction, colour, -1, cv2.LINE_AA, fraction)

    for joints, visibility in zip(points, keypoints[..., 2], strict=True):
        for start, end in skeleton:
            if visibility[start] > 0 and visibility[end] > 0:
                for colour, width in ((dark, line + 2), (paper, line)):
                    cv2.line(image, joints[start].tolist(), joints[end].tolist(), colour, width, cv2.LINE_AA, fraction)
        for number, (point, visible) in enumerate(zip(joints.tolist(), visibility, strict=True)):
            if visible > 0:
                disc(point, radius + line, paper)
                disc(point, radius, style.rgb(style.cycle(number)))
                if visible < 2:
                    disc(point, radius - line, paper)
