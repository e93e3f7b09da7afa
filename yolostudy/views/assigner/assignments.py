"""The assignment of every box, from network to network."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ...canvas import drawing, style
from .marks import mark, mark_size, pale, show
from .slides import Slide
from .steps import ALPHA, BETA, BoxAssignment, of_box, run_steps


@dataclass(frozen=True, slots=True, eq=False)
class Assignments:
    """The assignment of every box on several slides of one picture.

    Attributes:
        slides: name -> slide.
        boxes: name of the slide -> the assignment of each of its boxes.
    """

    slides: Mapping[str, Slide]
    boxes: Mapping[str, tuple[BoxAssignment, ...]]

    def mean(self, what: str) -> tuple[float, ...]:
        """The mean of `scores` or `overlaps` over the kept anchors of each slide."""
        kept = [np.concatenate([getattr(box, what)[box.kept] for box in boxes]) for boxes in self.boxes.values()]
        return tuple(float(values.mean()) if len(values) else math.nan for values in kept)

    @property
    def lost(self) -> tuple[int, ...]:
        """Number of anchors on each slide that were among the best of a box and went to another."""
        return tuple(sum(int(box.lost.sum()) for box in boxes) for boxes in self.boxes.values())


def assign_all(slides: Mapping[str, Slide], reference) -> Assignments:
    """The assignment of every box of every slide."""
    boxes = {}
    for name, slide in slides.items():
        found, _ = run_steps(reference, slide)
        boxes[name] = tuple(of_box(slide, box, found) for box in range(len(slide.truth)))
    return Assignments(dict(slides), boxes)


@style.house()
def draw_assignments(numbers: Assignments) -> style.StudyFigure:
    """One column for each slide, one colour for each box.

    Above, the picture with the anchors of each box; below, the candidates of the box by overlap and
    score. The grey lines below join points of equal metric: 0.001, 0.01, 0.1, 0.5.
    """
    width, gap, left, heading, between, foot = style.WIDTH * style.DPI, 12, 52, 26, 34, 46
    columns = len(numbers.slides)
    side = (width - left - 8 - (columns - 1) * gap) / columns
    figure, axes_at = drawing.by_pixel(width, heading + side + between + side * 0.8 + foot)
    for column, (name, slide) in enumerate(numbers.slides.items()):
        x = left + column * (side + gap)
        axes, plane = axes_at(x, heading, side, side), axes_at(x, heading + side + between, side, side * 0.8)
        show(axes, pale(slide.image))
        axes.set_title(name, fontsize=10.5, pad=5)
        _draw_plane(plane, first=column == 0)
        size = mark_size(slide, side / slide.image.shape[1], share=0.5, largest=8)
        for number, box in enumerate(numbers.boxes[name]):
            look = dict(color=style.cycle(number), edgecolors=style.INK, linewidths=0.4)
            drawing.frame(axes, slide.truth[number], style.cycle(number), linewidth=1.6, zorder=2)
            mark(axes, slide, box.kept, size, zorder=3, **look)
            rest, faint = box.candidates & ~box.kept, dict(color=style.cycle(number), alpha=0.35, linewidths=0)
            plane.scatter(box.overlaps[rest], box.scores[rest], s=7, zorder=3, clip_on=False, **faint)
            plane.scatter(box.overlaps[box.kept], box.scores[box.kept], s=20, zorder=4, clip_on=False, **look)
    return figure.with_numbers(numbers)


def _draw_plane(axes, first: bool) -> None:
    """Overlap and score as axes, with lines of equal metric; only the first names its scores."""
    overlap, score = np.meshgrid(np.linspace(0.001, 1, 120), np.linspace(0.001, 1, 120))
    metric, equal = score**ALPHA * overlap**BETA, (0.001, 0.01, 0.1, 0.5)
    lines = axes.contour(overlap, score, metric, equal, colors=style.FAINT, linewidths=0.7)
    axes.clabel(lines, fmt="%g", fontsize=7)
    axes.set(xlim=(-0.04, 1.04), ylim=(-0.04, 1.04), xlabel="IoU (complete)", xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_ylabel("score of the true class") if first else axes.set_yticklabels([])
