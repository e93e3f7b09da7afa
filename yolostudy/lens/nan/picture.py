"""A finding as a picture: inputs, the operation that made the NaN, and each step to the loss."""

from __future__ import annotations

import math

from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from ...canvas import style
from .events import Event
from .finding import MAX_EVENTS, Finding, folded, selected

ROW_HEIGHT, BOX_LEFT, BOX_WIDTH = 46, 92, 780  # pixels
MADE, SPREADS, FINE = "#fbdcd3", "#fbf0cf", "#d3eee2"  # fills of the boxes


@style.house()
def draw_finding(finding: Finding) -> style.StudyFigure:
    """Rows from top to bottom, with an arrow from each operation to those that it spoiled.

    Green: finite inputs. Red: the operation that made a non-finite value of them. Yellow below it:
    where that value went. Yellow above it: an infinity that was written on purpose. A long path is
    folded in its middle.

    `numbers`: kind, op and line of the cause; rows drawn; folded, the operations left out; reaches.
    """
    rows = _rows(finding)
    height = ROW_HEIGHT * len(rows) + 64
    figure, axes = style.figure(height=height / style.DPI)
    figure.set_layout_engine("none")
    axes.set_position((0, 0, 1, 1))
    axes.set(xlim=(0, style.WIDTH * style.DPI), ylim=(height, 0))
    axes.axis("off")
    axes.text(12, 22, _cut(finding.headline, 92), fontsize=12, weight="bold", va="center")
    at = {}
    for number, (key, colour, title, where, text) in enumerate(rows):
        top = 42 + ROW_HEIGHT * number
        at[key] = top + (ROW_HEIGHT - 8) / 2
        if colour is None:
            axes.text(BOX_LEFT + 12, at[key], title, va="center", fontsize=9, color=style.FAINT)
            continue
        look = dict(boxstyle="round,pad=0,rounding_size=6", facecolor=colour, edgecolor=style.INK, linewidth=0.9)
        axes.add_patch(FancyBboxPatch((BOX_LEFT, top), BOX_WIDTH, ROW_HEIGHT - 8, **look))
        axes.text(BOX_LEFT + 10, top + 12, title, va="center", fontsize=9.5, weight="bold")
        axes.text(BOX_LEFT + BOX_WIDTH - 10, top + 12, where, va="center", ha="right", fontsize=8.5)
        axes.text(BOX_LEFT + 10, top + 27, text, va="center", fontsize=8.5, family="DejaVu Sans Mono")
    for start, end in _arrows(finding, rows):
        bend = min(0.5, 26 / max(1, at[end] - at[start]) + 0.12)
        arrow = dict(
            connectionstyle=f"arc3,rad={bend}", arrowstyle="-|>", mutation_scale=10, color=style.FAINT, linewidth=1.2
        )
        axes.add_patch(FancyArrowPatch((BOX_LEFT - 2, at[start]), (BOX_LEFT - 2, at[end]), **arrow))
    if finding.reaches:
        axes.text(12, height - 10, f"It reached {finding.reaches}.", va="bottom", fontsize=9)
    numbers = {"kind": finding.kind, "op": finding.op, "line": finding.line, "rows": len(rows)}
    numbers |= {"folded": sum(-key for key, colour, *_ in rows if colour is None), "reaches": finding.reaches}
    return figure.with_numbers(numbers)


def _rows(finding: Finding) -> list[tuple]:
    """Key, fill (None for a fold), and the three texts of each row."""
    rows = []
    for event in finding.infinities[:3]:
        rows.append(
            (event.number, SPREADS, f"{event.op}: an infinity on purpose", event.place.short, _cut(event.place.source))
        )
    for index, value in enumerate(selected(finding.inputs)):
        if not (value.finite and value.dtype == "number"):  # the source shows a finite number
            rows.append(
                (("input", index, value.origin), FINE if value.finite else SPREADS, value.name, "", _cut(str(value)))
            )
    for event in _path(finding):
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


def _path(finding: Finding) -> list[Event | int]:
    """The whole chain where it is short, else the shortest path through it."""
    return list(finding.chain) if len(finding.chain) <= MAX_EVENTS else folded(finding.path)


def _arrows(finding: Finding, rows: list[tuple]) -> list[tuple]:
    path, keys = _path(finding), {row[0] for row in rows}
    values = [row[0] for row in rows if isinstance(row[0], tuple)]
    arrows = [(key, finding.event.number) for key in values] + [(key[2], key) for key in values if key[2] in keys]
    for before, event in zip([None, *path], path):
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
