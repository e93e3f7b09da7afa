"""The targets of a batch as one padded block."""

from __future__ import annotations

import numpy as np
from matplotlib.patches import Rectangle

from ...canvas import style
from .looks import GREY
from .watching import as_array


@style.house()
def draw_padding(targets, labels, boxes, mask) -> style.StudyFigure:
    """The rows of a batch's targets on the left, the padded block on the right.

    Each image has its colour; padding is hatched. Its numbers: rows, images, places (for each
    image), padding (places that hold nothing).

    Args:
        targets: (N, 6).
        labels, boxes, mask: (B, G), (B, G, 4), (B, G), the result of `pad_targets`.
    """
    targets, labels, boxes, mask = (as_array(value) for value in (targets, labels, boxes, mask))
    batch, room = labels.shape
    tall = max(len(targets), batch, 1)
    figure, (left, right) = style.figure(1, 2, height=0.42 * tall + 0.95, width_ratios=(1, max(1.0, 0.62 * room)))
    for row, target in enumerate(targets):
        text = f"image {target[0]:g}, " + _content(target[1], target[2:])
        _draw_cell(left, 0, row, text, style.cycle(int(target[0])))
    for image in range(batch):
        for place in range(room):
            text = _content(labels[image, place], boxes[image, place]) if mask[image, place] else ""
            _draw_cell(right, place, image, text, style.cycle(image))
    left.set(xlim=(0, 1), ylim=(tall, 0), xticks=[], yticks=[], title=f"targets: {len(targets)} rows")
    right.set(
        xlim=(0, room), ylim=(tall, 0), xticks=np.arange(room) + 0.5, xticklabels=[f"place {k}" for k in range(room)]
    )
    right.set(
        yticks=np.arange(batch) + 0.5,
        yticklabels=[f"image {b}" for b in range(batch)],
        title=f"one block of {batch} × {room}",
    )
    for axis in (left, right):
        axis.grid(False)
        axis.tick_params(length=0)
        axis.spines[:].set_visible(False)
    padding = int((mask == 0).sum())
    return figure.with_numbers({"rows": len(targets), "images": batch, "places": room, "padding": padding})


def _content(label: float, box: np.ndarray) -> str:
    return f"class {label:g}:  " + "  ".join(f"{value:g}" for value in box)


def _draw_cell(axis, x: float, y: float, text: str, colour: str) -> None:
    """One row of targets; without a text it is padding."""
    ground = dict(facecolor=colour, edgecolor=style.PAPER)
    look = ground if text else dict(facecolor=style.PAPER, hatch="////", edgecolor=GREY)
    axis.add_patch(Rectangle((x + 0.02, y + 0.06), 0.96, 0.88, linewidth=0.8, **look))
    if text:
        axis.text(x + 0.5, y + 0.5, text, ha="center", va="center", fontsize=8.5, color=style.ink_on(colour))
