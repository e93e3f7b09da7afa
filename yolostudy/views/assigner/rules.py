"""Fixed rules of assignment beside the task-aligned one.

Sources: anchor boxes: Lin et al. 2017, Focal Loss, section 4; centre sampling and the ranges of the
levels: Tian et al. 2019, FCOS, section 3.2, and its code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.lines import Line2D

from ...canvas import drawing, style
from ...canvas.overlap import iou
from .marks import levels, mark, mark_size, pale, show
from .slides import Slide
from .steps import assign_box


@dataclass(frozen=True, slots=True, eq=False)
class Rules:
    """The anchors that each of three rules gives to one box: name -> (A,) bool."""

    slide: Slide
    box: int
    taken: Mapping[str, np.ndarray]

    @property
    def counts(self) -> dict[str, int]:
        return {name: int(mask.sum()) for name, mask in self.taken.items()}


def compare_rules(slide: Slide, reference, box: int = 0) -> Rules:
    """Two fixed rules beside the task-aligned one.

    *An anchor box fits*: a square of 4 strides around the point overlaps the truth by an IoU of at
    least 0.5 (RetinaNet's anchor of scale 1 and ratio 1).

    *Near the centre*: the point lies inside the box and within 1.5 strides of its centre, on the
    level whose range holds the farthest edge: 0 to 64 pixels at stride 8, 64 to 128 at 16, above
    at 32 (FCOS with centre sampling).
    """
    anchors, strides, truth = (
        tensor.numpy().astype(float) for tensor in (slide.anchors, slide.strides, slide.truth[box])
    )
    half = 2 * strides[:, None]  # of a square of 4 strides
    fits = iou(np.concatenate((anchors - half, anchors + half), axis=1), truth[None])[:, 0] >= 0.5

    edges = np.concatenate((anchors - truth[:2], truth[2:] - anchors), axis=1)  # (A, 4)
    away = np.abs(anchors - (truth[:2] + truth[2:]) / 2).max(axis=1)
    farthest, finest, coarsest = edges.max(axis=1), strides.min(), strides.max()
    low, high = np.where(strides == finest, 0, 4 * strides), np.where(strides == coarsest, np.inf, 8 * strides)
    centre = (edges.min(axis=1) > 0) & (away < 1.5 * strides) & (farthest >= low) & (farthest <= high)
    aligned = assign_box(slide, reference, box=box).reference.kept
    return Rules(slide, box, {"an anchor box fits": fits, "near the centre": centre, "task-aligned": aligned})


@style.house()
def draw_rules(numbers: Rules) -> style.StudyFigure:
    """The three rules side by side: one box, one picture, three answers."""
    width, gap, heading, foot = style.WIDTH * style.DPI, 12, 26, 34
    side = (width - 16 - 2 * gap) / 3
    figure, axes_at = drawing.by_pixel(width, heading + side + foot)
    slide, box = numbers.slide, numbers.slide.truth[numbers.box]
    x1, y1, x2, y2 = box.tolist()
    x, y, half = (x1 + x2) / 2, (y1 + y2) / 2, max(x2 - x1, y2 - y1) * 0.75
    size = mark_size(slide, side / (2 * half))
    for column, (name, taken) in enumerate(numbers.taken.items()):
        axes = axes_at(8 + column * (side + gap), heading, side, side)
        show(axes, pale(slide.image))
        axes.set(xlim=(x - half, x + half), ylim=(y + half, y - half))
        drawing.frame(axes, box, style.TRUTH, linewidth=2, zorder=2)
        mark(axes, slide, ~taken, 0.4 * size, c=style.FAINT, linewidths=0, zorder=3)
        mark(axes, slide, taken, size, c=style.HIT, edgecolors=style.INK, linewidths=0.5, zorder=4)
        axes.set_title(f"{name}: {int(taken.sum())}", fontsize=10.5, pad=5)
    look = dict(linestyle="none", color=style.HIT, markeredgecolor=style.INK, markeredgewidth=0.5)
    marks = [Line2D([], [], marker=sign, label=f"stride {stride:g}", **look) for stride, sign, _ in levels(slide)]
    figure.legend(handles=marks, loc="lower center", ncols=len(marks), borderaxespad=0.4)
    return figure.with_numbers(numbers)
