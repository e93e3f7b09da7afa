"""An assignment on paper: its four steps for one box, and its target scores."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.lines import Line2D

from ...canvas import drawing, style
from .marks import levels, mark, mark_size, pale, show
from .slides import Slide
from .steps import FUNCTION, STEPS, AssignmentComparison, BoxAssignment

HEADINGS = {
    "candidates": "1  inside the box",
    "metric": "2  metric",
    "top": "3  the best {k}",
    "kept": "4  conflicts resolved",
}
COLOURS = {"candidates": style.CYCLE[0], "top": style.CYCLE[4], "kept": style.HIT}


@style.house()
def draw_microscope(found: AssignmentComparison, scene: bool = True) -> style.StudyFigure:
    """The four steps of one box; mine, where there is a mine, above the reference.

    Positions where the two differ are ringed.

    Args:
        scene: with the whole picture and its numbered boxes above.
    """
    width, gap, left, right, heading = style.WIDTH * style.DPI, 10, 26, 8, 24
    side = (width - left - right - 3 * gap) / 4
    strip, bar, legend = (216 if scene else 0), 34, 48  # pixels: the scene, the scale of the metric, the legend
    height = strip + len(found.by_name) * (side + heading) + bar + (0 if scene else legend)
    figure, axes_at = drawing.by_pixel(width, height)

    scale = _metric_scale(found)
    if scene:
        _draw_scene(axes_at(left, 4, strip - 16, strip - 16), found.slide, found.box)
        beside = left + strip + 8
        _write_summary(axes_at(beside, 4, width - beside - right, strip - 16 - legend), found)
        _draw_legend(axes_at(beside, strip - 12 - legend, width - beside - right, legend), found, columns=3)
    for number, (name, own) in enumerate(found.by_name.items()):
        top = strip + number * (side + heading) + heading
        middle = 1 - (top + side / 2) / height
        figure.text(15 / width, middle, name, rotation=90, ha="center", va="center", weight="bold", fontsize=11)
        for column, step in enumerate(STEPS):
            axes = axes_at(left + column * (side + gap), top, side, side)
            _draw_step(axes, found, own, step, scale, side)
            axes.set_title(_heading(found, own, step), fontsize=9.5, pad=4)
    bottom = strip + len(found.by_name) * (side + heading)
    bar_axes = axes_at(left + side + gap + 8, bottom + 8, side - 16, 9)
    colour_bar = figure.colorbar(scale, cax=bar_axes, orientation="horizontal")
    colour_bar.ax.tick_params(labelsize=8, length=2, pad=2)
    most = scale.norm.vmax
    colour_bar.set_ticks([0, most / 2, most], labels=["0", f"{most / 2:.2g}", f"{most:.2g}"])
    colour_bar.outline.set_visible(False)
    if not scene:
        _draw_legend(axes_at(left, bottom + bar, width - left - right, legend), found, columns=4)
    return figure.with_numbers(found)


def _metric_scale(found: AssignmentComparison) -> ScalarMappable:
    seen = np.concatenate([own.metric[np.isfinite(own.metric)] for own in found.by_name.values()])
    return ScalarMappable(Normalize(0, float(seen.max()) if seen.size and seen.max() > 0 else 1.0), style.HEAT_ON_PAPER)


def _window(found: AssignmentComparison) -> tuple[float, float, float]:
    """Middle x, middle y and half side of the square that the panels show.

    It holds the box with room around it, and the anchors outside that a wrong assigner takes.
    """
    x1, y1, x2, y2 = found.slide.truth[found.box].tolist()
    middle = (x1 + x2) / 2, (y1 + y2) / 2
    half = max(x2 - x1, y2 - y1) * 0.62 + 6
    if found.mine is not None:
        taken = found.slide.anchors.numpy()[found.mine.kept | found.mine.top]
        if len(taken):
            half = max(half, float(np.abs(taken - middle).max()) + 6)
    return *middle, min(half, max(found.slide.image.shape[:2]))


def _draw_scene(axes, slide: Slide, box: int) -> None:
    show(axes, slide.image)
    for number, truth in enumerate(slide.truth):
        chosen = number == box
        drawing.frame(
            axes, truth, style.TRUTH if chosen else style.PAPER, linewidth=2.4 if chosen else 1.2, zorder=2 + chosen
        )
        label = dict(color=style.PAPER, backgroundcolor=style.TRUTH if chosen else style.INK, fontsize=8, weight="bold")
        text = axes.text(
            float(truth[0]) + 1, float(truth[1]) + 1, f"{number + 1}", va="top", ha="left", zorder=5, **label
        )
        text.get_bbox_patch().set(boxstyle="square,pad=0.15", linewidth=0)


def _write_summary(axes, found: AssignmentComparison) -> None:
    axes.axis("off")
    height = axes.figure.bbox.height * axes.get_position().height
    axes.set(xlim=(0, 1), ylim=(height, 0))  # pixels downwards
    axes.text(0, 12, f"box {found.slide.title(found.box)}", weight="bold", fontsize=12, va="center")
    metric = f"metric = score$^{{{found.alpha:g}}}$ · IoU$^{{{found.beta:g}}}$,  k = {found.k}"
    axes.text(0, 37, metric, fontsize=10, va="center")
    if found.mine is None:
        return
    total = found.positions_that_differ
    told = (
        ["mine and the reference agree" if not total else f"mine and the reference differ at {total} positions"]
        if found.differ
        else []
    )
    told += [f"{FUNCTION[step]}: {problem}" for step, problem in found.mine.trouble.items()]
    for line, text in enumerate(told):
        axes.text(0, 62 + 19 * line, shortened(text, 86), fontsize=9, va="center")


def _heading(found: AssignmentComparison, own: BoxAssignment, step: str) -> str:
    heading, count = HEADINGS[step].format(k=found.k), own.counts[step]
    return heading if count is None else f"{heading}: {count}{' above 0' if step == 'metric' else ''}"


def shortened(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _draw_step(
    axes, found: AssignmentComparison, own: BoxAssignment, step: str, scale: ScalarMappable, side: float
) -> None:
    slide, (x, y, half) = found.slide, _window(found)
    show(axes, pale(slide.image))
    axes.set(xlim=(x - half, x + half), ylim=(y + half, y - half))
    for number, truth in enumerate(slide.truth):
        if number != found.box:
            drawing.frame(axes, truth, style.FAINT, linewidth=1, linestyle=(0, (3, 2)), zorder=1)
    drawing.frame(axes, slide.truth[found.box], style.TRUTH, linewidth=2, zorder=2)
    if step in own.trouble:
        _write_trouble(axes, own.trouble[step])
        return
    size = mark_size(slide, side / (2 * half))
    taken = {"candidates": own.candidates, "metric": own.metric != 0, "top": own.top, "kept": own.kept}[step]
    mark(axes, slide, ~taken, 0.4 * size, c=style.FAINT, linewidths=0, zorder=3)
    # drawn from the smallest metric up: the highest must not hide under its neighbours
    order = np.flatnonzero(taken)[np.argsort(own.metric[taken], kind="stable")]
    face = dict(values=own.metric, cmap=scale.cmap, norm=scale.norm) if step == "metric" else dict(c=COLOURS[step])
    mark(axes, slide, order, size, edgecolors=style.INK, linewidths=0.5, zorder=4, **face)
    if step == "kept":
        mark(axes, slide, own.lost, size, marker="x", c=style.INK, linewidths=1.3, zorder=5)
        for anchor in np.flatnonzero(own.lost & (own.owner >= 0)):
            label = dict(
                xytext=(size * 0.5, size * 0.3), textcoords="offset points", fontsize=7, weight="bold", zorder=7
            )
            axes.annotate(f"{own.owner[anchor] + 1}", slide.anchors[anchor].tolist(), **label)
    if step in found.differ:
        ring = dict(marker="o", facecolors="none", edgecolors=style.FALSE_ALARM, linewidths=1.4, zorder=6)
        mark(axes, slide, found.differ[step], size, wider=5, **ring)


def _write_trouble(axes, text: str) -> None:
    """A sentence in place of a step that gave no result."""
    ground = dict(boxstyle="round,pad=0.5", facecolor=style.PAPER, edgecolor=style.FALSE_ALARM)
    look = dict(transform=axes.transAxes, ha="center", va="center", fontsize=8.5, bbox=ground, zorder=8)
    axes.text(0.5, 0.5, textwrap.fill(shortened(text, 120), 25), **look)


def _draw_legend(axes, found: AssignmentComparison, columns: int) -> None:
    axes.axis("off")
    ink = dict(linestyle="none", markeredgecolor=style.INK, markeredgewidth=0.5)

    def entry(label: str, **look) -> Line2D:
        return Line2D([], [], label=label, **look)

    entries = [
        entry(f"stride {stride:g}", marker=sign, markerfacecolor=style.PAPER, markersize=5 + 1.8 * number, **ink)
        for number, (stride, sign, _) in enumerate(levels(found.slide))
    ]
    entries += [
        entry(label, marker="o", markerfacecolor=COLOURS[step], markersize=6, **ink)
        for step, label in (("candidates", "candidate"), ("top", f"one of the best {found.k}"), ("kept", "kept"))
    ]
    lost = dict(marker="x", color=style.INK, linestyle="none", markersize=6)
    entries.append(entry("lost to the box of that number", **lost))
    if found.mine is not None:
        ring = dict(
            marker="o", markerfacecolor="none", markeredgecolor=style.FALSE_ALARM, markeredgewidth=1.5, linestyle="none"
        )
        entries.append(entry("mine and the reference differ", markersize=10, **ring))
    spacing = dict(columnspacing=1.6, handletextpad=0.4, borderaxespad=0)
    axes.legend(handles=entries, loc="center left", ncols=columns, fontsize=9, **spacing)


@style.house()
def draw_target_scores(assignments: Mapping[str, AssignmentComparison]) -> style.StudyFigure:
    """The reference's chosen anchors as bars: their metric, and their target score.

    Its numbers: name -> the target scores, best metric first.
    """
    figure, axes = style.figure(1, len(assignments), squeeze=False, sharey=True, height=2.6)
    for axis, (name, found) in zip(axes[0], assignments.items()):
        own = found.reference
        place = np.arange(len(own.chosen)) + 1
        axis.bar(place - 0.2, own.metric[own.chosen], width=0.4, color=style.FAINT, label="metric")
        axis.bar(place + 0.2, own.targets, width=0.4, color=style.HIT, label="target score")
        best = float(own.overlaps[own.chosen].max(initial=0))
        axis.axhline(best, color=style.TRUTH, linewidth=1.2, linestyle=(0, (4, 2)), label="best overlap")
        axis.set(
            title=name,
            xlabel="chosen anchor, best first",
            ylim=(0, 1.02),
            xticks=place[::3],
            xlim=(0.3, max(found.k, 1) + 0.7),
        )
        axis.grid(axis="x", visible=False)
    axes[0, 0].set_ylabel("0 to 1")
    axes[0, 0].legend(loc="upper right")
    return figure.with_numbers({name: found.reference.targets for name, found in assignments.items()})
