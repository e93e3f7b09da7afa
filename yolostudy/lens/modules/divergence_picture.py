"""A divergence as a picture: a bar for each layer."""

from __future__ import annotations

import itertools
import math

import numpy as np

from ...canvas import style
from .divergence import Divergence, LayerDifference


@style.house()
def draw_divergence(result: Divergence) -> style.StudyFigure:
    """A bar for each layer: green and short below the tolerance, orange above it.

    The strip under the bars names the parts of a.

    `numbers`: layers drawn; agree, how many of them; first, the name of the first that differs, or
    None, and its relative difference.
    """
    rows = [row for row in result.rows if row.leaf or row is result.first]
    figure, axes = style.figure(height=3.3)
    floor, at = result.tolerance / 1e3, np.arange(len(rows))
    top = max([100 * result.tolerance, *(3 * row.relative for row in rows if math.isfinite(row.relative))])
    for wrong, colour, label in ((False, style.HIT, "agrees"), (True, style.FALSE_ALARM, "differs")):
        here = [(x, min(max(row.relative, 30 * floor), top)) for x, row in zip(at, rows) if row.differs == wrong]
        if here:
            axes.bar(
                *zip(*((x, height - floor) for x, height in here)), bottom=floor, width=0.9, color=colour, label=label
            )
    axes.axhline(result.tolerance, color=style.INK, linestyle=(0, (4, 3)), linewidth=1.2, label="tolerance")
    axes.set(yscale="log", ylim=(floor, top * 20), xlim=(-0.6, len(rows) - 0.4), ylabel="relative difference")
    axes.set_title(f"{sum(not row.differs for row in rows)} of {len(rows)} pairs agree")
    starts = [x for x, row in enumerate(rows) if x == 0 or _part(row) != _part(rows[x - 1])]
    shades, spread = (style.BAND["backbone"], style.BAND["top-down"]), [*starts, len(rows)]
    for number, (start, end) in enumerate(itertools.pairwise(spread)):
        axes.axvspan(start - 0.5, end - 0.5, ymax=0.05, color=shades[number % 2], zorder=3)
    few = len(starts) <= 40
    axes.set_xticks([(start + end - 1) / 2 for start, end in itertools.pairwise(spread)] if few else [])
    axes.set_xticklabels(
        [_part(rows[start]) for start in starts] if few else [],
        rotation=55,
        ha="right",
        rotation_mode="anchor",
        fontsize=8,
    )
    axes.grid(axis="x", visible=False)
    axes.tick_params(axis="x", length=0)
    if result.first is not None:
        x = rows.index(result.first)
        side = "right" if x > len(rows) / 2 else "left"
        note = f"{result.first.name or 'the whole'} ({result.first.kind})"
        arrow = dict(arrowstyle="-|>", color=style.INK)
        height = min(max(result.first.relative, 30 * floor), top)
        axes.annotate(
            note, (x, height), (x, top * 6), ha=side, va="center", fontsize=10, weight="bold", arrowprops=arrow
        )
    axes.legend(loc="lower right", bbox_to_anchor=(1, 0.98), ncols=3)
    first = result.first
    numbers = {"layers": len(rows), "agree": sum(not row.differs for row in rows)}
    return figure.with_numbers(numbers | {"first": first and first.name, "relative": first.relative if first else 0.0})


def _part(row: LayerDifference) -> str:
    """The first two words of the path to the layer: what fits under the strip."""
    return ".".join(row.name.split(".")[:-1][:2]) or row.name
