"""Training engines side by side: the moments of one step, in the order in which a trace has them."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

from matplotlib.patches import FancyBboxPatch

from ...canvas import drawing, style
from ...lens.calls.browser import Page
from ...lens.calls.tree import milliseconds
from .names import colour_of, course_engine

WIDE, ROW, GAP, TOP, INDENT = 196, 27, 28, 34, 9  # pixels: a column, a row, between columns, the titles, a level
# Where a moment would stand if all engines went the same way; the marks of torch stand between.
_PLACES = {"after_backward": ("backward",), "after_step": ("optimizer.step",)}


def record_engines(engines: Sequence[str] = ()) -> dict[str, object]:
    """Record one epoch of one step in each engine: key of the engine -> tree of calls.

    It takes about five seconds, nearly all of it in Ultralytics.

    Args:
        engines: keys of `course/engines/names.py` ENGINES; by default all that can be run here.
    """
    traced = course_engine("traced")
    return {engine: traced.record(engine) for engine in engines or traced.ENGINES}


def moments_of(trees: Mapping[str, object]) -> dict[str, list]:
    """The named moments in each tree, in the order in which they began: engine -> list of `Seen`.

    Errors: ValueError for an unknown engine, and for a tree in which none of its names was called.
    """
    names, traced = course_engine("names"), course_engine("traced")
    found = {}
    for engine, tree in trees.items():
        if engine not in names.ENGINES:
            raise ValueError(f"there is no engine {engine!r}; name the tree one of {', '.join(names.ENGINES)}.")
        found[engine] = traced.seen(tree, engine) if hasattr(tree, "calls") else []
        if not found[engine]:
            raise ValueError(
                f"the tree of {engine!r} holds no moment of {names.ENGINES[engine]}: record its train() with "
                "`trace.record`, and do not fold it."
            )
    return found


def first_calls(calls: Sequence) -> list:
    """The first call of each name and class: one step stands for all."""
    first: dict[tuple[str, str], object] = {}
    for call in calls:
        first.setdefault((call.name, call.owner if call.moment in ("run_step", "train") else ""), call)
    return list(first.values())


def _places(columns: Mapping[str, Sequence]) -> dict[str, int]:
    """The row of each moment: the table's order, with as many rows as the engine with most calls needs."""
    order = [part for moment in course_engine("names").MOMENTS for part in (*_PLACES.get(moment, ()), moment)]
    rows, row = {}, 0
    for moment in order:
        rows[moment] = row
        row += max(1, *(sum(call.moment == moment for call in calls) for calls in columns.values()))
    return rows


def _layout(columns: Mapping[str, Sequence]) -> dict[str, list[int]]:
    """The row of every call: its moment's, or the next free one where an engine's order is another."""
    places, layout = _places(columns), {}
    for engine, calls in columns.items():
        row, layout[engine] = -1, []
        for call in calls:
            row = max(row + 1, places[call.moment])
            layout[engine].append(row)
    return layout


@style.house()
def three_engines(trees: Mapping[str, object] | None = None) -> style.StudyFigure:
    """The moments of one step in every engine, each column from top to bottom in the order of its trace.

    One colour and one line across the columns is one moment. A name further right was called by the
    one above it. White is what torch does. Where an engine has no name, a reason is written.

    `numbers`: engine -> the names in their order, and engine -> the moments.

    Args:
        trees: key of the engine -> tree of calls, as `record_engines` gives it; by default it is
            called.
    """
    columns = {engine: first_calls(calls) for engine, calls in moments_of(trees or record_engines()).items()}
    layout, titles = _layout(columns), course_engine("names").ENGINES
    rows = max(max(lines) for lines in layout.values()) + 1
    width, height = len(columns) * (WIDE + GAP) - GAP + 12, TOP + rows * ROW + 6
    figure, axes_at = drawing.by_pixel(width, height)
    axes = axes_at(0, 0, width, height)
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.axis("off")
    _join(axes, columns, layout)
    for number, (engine, calls) in enumerate(columns.items()):
        left = 6 + number * (WIDE + GAP)
        axes.text(left, 16, titles[engine], fontsize=11, weight="bold", va="center")
        for call, row in zip(calls, layout[engine]):
            _box(axes, call, left + INDENT * call.level, TOP + row * ROW, WIDE - INDENT * call.level)
        _reasons(axes, engine, calls, layout[engine], _places(columns), left)
    said = {engine: [call.name for call in calls] for engine, calls in columns.items()}
    moments = {engine: [call.moment for call in calls] for engine, calls in columns.items()}
    return figure.with_numbers({"names": said, "moments": moments})


def _box(axes, call, left: float, top: float, wide: float) -> None:
    ground = colour_of(call.moment)
    box = dict(boxstyle="round,pad=0,rounding_size=4", facecolor=ground, edgecolor=style.FAINT, linewidth=0.8)
    axes.add_patch(FancyBboxPatch((left, top), wide, ROW - 6, zorder=3, **box))
    shown = f"{call.owner}.{call.name}" if call.moment == "run_step" and call.owner != "Trainer" else call.name
    size = 8.5 if len(shown) < 24 else 7.5
    weight = "normal" if ground == style.PAPER else "bold"
    where = dict(fontsize=size, va="center", color=style.ink_on(ground), weight=weight, zorder=4)
    axes.text(left + 6, top + (ROW - 6) / 2, f"torch: {shown}" if ground == style.PAPER else shown, **where)


def _reasons(axes, engine: str, calls: Sequence, rows: Sequence[int], places: Mapping[str, int], left: float) -> None:
    """Why an engine has no name for a moment, where its row is free."""
    names = course_engine("names")
    for moment, row in places.items():
        if moment in names.MOMENTS and not names.MOMENTS[moment][engine] and row not in rows:
            middle = TOP + row * ROW + (ROW - 6) / 2
            look = dict(fontsize=7.5, va="center", style="italic", color=style.INK, zorder=4)
            ground = dict(facecolor=style.PAPER, edgecolor="none", pad=1.5)
            axes.text(left + 6, middle, names.why_none(moment, engine), bbox=ground, **look)


def _join(axes, columns: Mapping[str, Sequence], layout: Mapping[str, Sequence[int]]) -> None:
    """A line in the moment's colour from each column to the next one that has the moment."""
    engines = list(columns)
    first = [{call.moment: row for call, row in reversed([*zip(columns[e], layout[e])])} for e in engines]
    for number, here in enumerate(first):
        for moment, row in here.items():
            later = next((other for other in range(number + 1, len(first)) if moment in first[other]), None)
            if later is None or colour_of(moment) == style.PAPER:
                continue
            start, end = 6 + number * (WIDE + GAP) + WIDE, 6 + later * (WIDE + GAP)
            heights = [
                TOP + line * ROW + (ROW - 6) / 2 for line in (row, row, first[later][moment], first[later][moment])
            ]
            axes.plot(
                (start - 4, end - GAP + 4, end - 4, end + 60), heights, color=colour_of(moment), linewidth=3.5, zorder=1
            )


def engines_page(trees: Mapping[str, object] | None = None) -> Page:
    """The same as a page: every seen call with its time, nested as it was called.

    `numbers`: calls of all trees that are shown, and rows as many.

    Args:
        trees: as for `three_engines`.
    """
    columns, titles = moments_of(trees or record_engines()), course_engine("names").ENGINES
    parts = []
    for engine, calls in columns.items():
        lines = "".join(_line(call) for call in calls)
        parts.append(f"<div style='min-width:200px'><b>{html.escape(titles[engine])}</b>{lines}</div>")
    text = f"<div style='display:flex;gap:14px;font-size:12px;overflow-x:auto'>{''.join(parts)}</div>"
    shown = sum(map(len, columns.values()))
    return Page(text, {"calls": shown, "rows": shown, "shown": shown})


def _line(call) -> str:
    ground = colour_of(call.moment)
    look = f"margin:2px 0 2px {call.level}em;padding:1px 6px;border-radius:4px;border:1px solid {style.FAINT}"
    look += f";background:{ground};color:{style.ink_on(ground)}"
    owner = html.escape(call.owner or "torch")
    time = milliseconds(call.end - call.start)
    return f"<div style='{look}' title='{owner}.{html.escape(call.name)}, {time}'>{html.escape(call.name)}</div>"
