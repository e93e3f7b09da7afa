"""Anchor points over an image, and the distances from an anchor point to the edges of a box."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ...canvas import drawing, style
from .asking import ask, checked

EDGES = ("left", "top", "right", "bottom")
DIRECTION = np.array([[-1, 0], [0, -1], [1, 0], [0, 1]])  # from the anchor point to each edge
# alignment of the text at the tip of each arrow
ALIGNED = (("right", "center"), ("center", "bottom"), ("left", "center"), ("center", "top"))


def anchor_survey(
    box: Sequence[float],
    image_size: tuple[int, int],
    make_anchors: Callable | None = None,
    box_to_distance: Callable | None = None,
) -> dict:
    """The anchor points of each level, and how the nearest one would describe a box.

    Args:
        box: x1 y1 x2 y2 in pixels.
        image_size: (H, W) in pixels, divisible by the strides.
        make_anchors, box_to_distance: the functions to ask; by default those of `yolostudy.boxes`.

    Returns:
        box, image_size, strides; and a list with one entry for each level of points (n, 2) in
        pixels, inside (number of points within the box), nearest (index of the point nearest to the
        middle of the box), anchor (2,) in pixels, distances (4,) in units of the stride.
    """
    import torch

    from ...boxes import STRIDES

    sizes = [(image_size[0] // stride, image_size[1] // stride) for stride in STRIDES]
    count = sum(height * width for height, width in sizes)
    anchors, strides = ask("make_anchors", make_anchors, None, sizes, STRIDES)
    anchors, strides = checked("make_anchors", anchors, (count, 2)), checked("make_anchors", strides, (count, 1))
    numbers = {key: [] for key in ("points", "inside", "nearest", "anchor", "distances")}
    target, start = torch.tensor([float(value) for value in box]), 0
    for (height, width), stride in zip(sizes, STRIDES, strict=True):
        level = slice(start, start := start + height * width)
        points = (anchors[level] * strides[level]).double().numpy()
        within = ((points > target[:2].numpy()) & (points < target[2:].numpy())).all(axis=1)
        nearest = int(np.square(points - (target[:2] + target[2:]).numpy() / 2).sum(axis=1).argmin())
        distances = ask(
            "box_to_distance", box_to_distance, (1, 4), anchors[level][nearest][None].float(), target[None] / stride
        )
        numbers["points"].append(points)
        numbers["inside"].append(int(within.sum()))
        numbers["nearest"].append(nearest)
        numbers["anchor"].append(points[nearest])
        numbers["distances"].append(distances[0].double().numpy())
    return {"box": target.tolist(), "image_size": tuple(image_size), "strides": STRIDES, **numbers}


@style.house()
def draw_anchors(numbers: dict, image: np.ndarray | None = None) -> style.StudyFigure:
    """One picture for each level, with the four distances of one anchor point.

    Points within the box are coloured.
    """
    height, width = numbers["image_size"]
    x1, y1, x2, y2 = numbers["box"]
    figure, panels = style.figure(1, len(numbers["strides"]), height=3.5, squeeze=False)
    for level, axes in enumerate(panels[0]):
        stride, points = numbers["strides"][level], numbers["points"][level]
        drawing.ground(axes, image, 0.45)
        axes.set(
            xlim=(0, width),
            ylim=(height, 0),
            xlabel="x in pixels",
            title=f"stride {stride}: {len(points)} anchor points",
        )
        within = ((points > (x1, y1)) & (points < (x2, y2))).all(axis=1)
        axes.plot(*points[~within].T, ".", color=style.INK, markersize=2.5, alpha=0.75)
        axes.plot(*points[within].T, ".", color=style.CYCLE[1], markersize=5)
        drawing.frame(axes, numbers["box"], style.TRUTH, linewidth=2.2)
        anchor, distances = numbers["anchor"][level], numbers["distances"][level]
        for direction, distance, (ha, va) in zip(DIRECTION, distances, ALIGNED, strict=True):
            tip = anchor + distance * stride * direction
            drawing.arrow(axes, anchor, tip, style.INK, 1.6)
            note = dict(facecolor=style.PAPER, edgecolor="none", alpha=0.8, pad=1.0)
            place = np.clip(tip + 2.5 * direction, (0.09 * width, 0.05 * height), (0.91 * width, 0.95 * height))
            axes.text(*place, f"{distance:.2f}", ha=ha, va=va, fontsize=9, weight="bold", bbox=note)
        axes.plot(*anchor, "o", color=style.CYCLE[1], markeredgecolor=style.INK, markersize=7)
    panels[0][0].set_ylabel("y in pixels")
    drawing.settle(*panels[0])
    return figure.with_numbers(numbers)
