"""The way of a NaN as a picture: what went into the operation that made it, that operation, and
each step to the loss below it.
"""

from __future__ import annotations

import math

from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from ...canvas import style
from .events import Event
from .finding import SHOWN, Finding, folded, shown

ROW, LEFT, WIDE = 46, 92, 780  # pixels: height of a row, where the boxes begin, and how wide they are
MADE, SPREADS, FINE = "#fbdcd3", "#fbf0cf", "#d3eee2"


@style.house()
def draw_finding(finding: Finding) -> style.StudyFigure:
    """Rows from top to bottom, and an arrow from each operation to those that it spoiled.

    Green: finite values that went in. Red: the operation that made something non-finite of them.
    Yellow: where it went; above the red row, an infinity that was written on purpose. A long way is
    folded in its middle.
    """
    rows = _rows(finding)
    height = ROW * len(rows) + 64
    figure, axes = style.figure(height=height / style.DPI)
    figure.set_layout_engine("none")
    axes.set_position((0, 0, 1, 1))
    axes.set(xlim=(0, style.WIDTH * style.DPI), ylim=(height, 0))
    axes.axis("off")
    axes.text(12, 22, _cut(finding.headline, 92), fontsize=12, weight="bold", va="center")
    at = {}
    for number, (key, colour, title, where, text) in enumerate(rows):
        top = 42 + ROW * number
        at[key] = top + (ROW - 8) / 2
        if colour is None:
            axes.text(LEFT + 12, at[key], title, va="center", fontsize=9, color=style.FAINT)
            continue
        look = dict(boxstyle="round,pad=0,rounding_size=6", facecolor=colour, edgecolor=style.INK, linewidth=0.9)
        axes.add_patch(FancyBboxPatch((LEFT, top), WIDE, ROW - 8, **look))
        axes.text(LEFT + 10, top + 12, title, va="center", fontsize=9.5, weight="bold")
        axes.text(LEFT + WIDE - 10, top + 12, where, va="center", ha="right", fontsize=8.5)
        axes.text(LEFT + 10, top + 27, text, va="center", fontsize=8.5, family="DejaVu Sans Mono")
    for start, end in _arrows(finding, rows):
        bend = min(0.5, 26 / max(1, at[end] - at[start]) + 0.12)
        arrow = dict(
            connectionstyle=f"arc3,rad={bend}", arrowstyle="-|>", mutation_scale=10, color=style.FAINT, linewidth=1.2
        )
        axes.add_patch(FancyArrowPatch((LEFT - 2, at[start]), (LEFT - 2, at[end]), **arrow))
    if finding.reaches:
        axes.text(12, height - 10, f"It reached {finding.reaches}.", va="bottom", fontsize=9)
    return figure


def _rows(finding: Finding) -> list[tuple]:
    """Key, colour (None for a fold), and the three texts of each row."""
    rows = []
    for event in finding.infinities[:3]:
        rows.append(
            (event.number, SPREADS, f"{event.op}: an infinity on purpose", event.place.short, _cut(event.place.source))
        )
    for index, value in enumerate(shown(finding.inputs)):
        if not (value.finite and value.dtype == "number"):  # the source shows those
            rows.append(
                (("input", index, value.origin), FINE if value.finite else SPREADS, value.name, "", _cut(str(value)))
            )
    for event in _way(finding):
        if isinstance(event, int):
            rows.append((event, None, f"… {-event} more operations", "", ""))
            continue
        kind = MADE if event.number == finding.event.number else SPREADS
        module = f"  {event.place.module}" if event.place.module else ""
        rows.append(
            (
                event.number,
                kind,
                f"{event.op}{_counts(event)}",
                f"{event.place.short}{_cut(module, 44)}",
                _cut(event.place.source),
            )
        )
    return rows


def _way(finding: Finding) -> list[Event | int]:
    """The whole chain where it is short, else the shortest way through it."""
    return list(finding.chain) if len(finding.chain) <= SHOWN else folded(finding.path)


def _arrows(finding: Finding, rows: list[tuple]) -> list[tuple]:
    way, keys = _way(finding), {row[0] for row in rows}
    values = [row[0] for row in rows if isinstance(row[0], tuple)]
    arrows = [(key, finding.event.number) for key in values] + [(key[2], key) for key in values if key[2] in keys]
    for before, event in zip([None, *way], way):
        if isinstance(event, int):
            arrows.append((before.number, event))
        elif isinstance(before, int):
            arrows.append((before, event.number))
        else:
            arrows += [(parent, event.number) for parent in sorted(event.parents & keys)]
    return arrows


def _counts(event: Event) -> str:
    nans, infs = (sum(getattr(value, name) for value in event.outputs) for name in ("nans", "infs"))
    size = sum(math.prod(value.shape) for value in event.outputs)
    return "".join(f", {count} of {size} {word}" for count, word in ((nans, "NaN"), (infs, "infinite")) if count)


def _cut(text: str, most: int = 104) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
