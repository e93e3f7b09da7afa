"""A recorded program as a tree: folded, searched, with the source of any call; and the same tree
for other programs to read.

A tree is what `yolostudy.trace.record` returns; anything with the attributes of its `Call` will do.
`fold` makes one row of the calls of one function from one place, so that 6,000 calls fit on a
screen; every view begins with it.

Formats: the Trace Event Format of Chrome (events of phase X, microseconds), which chrome://tracing
and Perfetto open; Mermaid's flowchart, which JupyterLab and GitHub draw inside a Markdown cell.
"""

from __future__ import annotations

import inspect
import json
import linecache
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

from matplotlib.patches import FancyBboxPatch

from ...canvas import style

ROWS = 24  # of a picture, and of the list of the widget
SHORT = 110  # characters that one argument may take in a line of text


@dataclass(slots=True, eq=False)
class Row:
    """Calls of one function from one place: one row of the tree.

    Attributes:
        function, owner: as in a Call; `name` is what the views write.
        place: file and line, the file as its package knows it: "ultralytics/utils/loss.py:498".
        path, line: the file itself, for its source.
        arguments, result: of the first of the calls.
        seconds, inside: in all of them together, and how much of it in the rows below.
        count: how many calls; `total` with all below.
        children: in the order in which they were first called.
    """

    function: str
    owner: str
    place: str
    path: str
    line: int
    arguments: dict
    result: object
    seconds: float = 0.0
    count: int = 0
    children: list[Row] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The name as written, with the class of the object where it is another:

        `v8DetectionLoss.__call__ of v8PoseLoss`.
        """
        written = self.function.rpartition(".")[0].rpartition(".")[2]
        return self.function if self.owner in ("", written) else f"{self.function} of {self.owner}"

    @property
    def total(self) -> int:
        return self.count + sum(child.total for child in self.children)

    @property
    def own_seconds(self) -> float:
        return max(0.0, self.seconds - sum(child.seconds for child in self.children))

    def __repr__(self) -> str:
        return f"Row({self.name} × {self.count}, {self.total} calls)"


def fold(*calls) -> Row:
    """The calls, which are of one function, as one row, with everything below them folded likewise."""
    first = calls[0]
    row = Row(first.function, first.owner, place(first), first.file, first.line, first.arguments, first.result)
    row.seconds, row.count = sum(call.seconds for call in calls), len(calls)
    alike: dict[tuple, list] = {}
    for inner in (inner for call in calls for inner in call.calls):
        alike.setdefault((inner.function, inner.owner, inner.file, inner.line), []).append(inner)
    row.children = [fold(*group) for group in alike.values()]
    return row


def place(call) -> str:
    """Where a call is defined, without the folders of this machine; "" where there is no file, as
    for the root.
    """
    parts = PurePath(call.file).parts
    depth = call.module.count(".") + 1 + (parts[-1:] == ("__init__.py",))
    return f"{'/'.join(parts[-depth:])}:{call.line}" if call.file else ""


def walk(row: Row, depth: int = 0, above: tuple[Row, ...] = ()) -> Iterator[tuple[Row, int, tuple[Row, ...]]]:
    """Every row with its depth and the rows above it, in the order of the text."""
    yield row, depth, above
    for child in row.children:
        yield from walk(child, depth + 1, (*above, row))


def find(row: Row, text: str) -> list[tuple[Row, tuple[Row, ...]]]:
    """The rows whose name or place has `text` in it, whatever the case, each with the rows above
    it.
    """
    wanted = text.lower()
    return [(found, above) for found, _, above in walk(row) if wanted in f"{found.name} {found.place}".lower()]


def source(row: Row, limit: int = 60) -> str:
    """The source of a row's function, at most `limit` lines of it; "" where the file cannot be
    read.
    """
    lines = linecache.getlines(row.path)[max(0, row.line - 1) :]
    if not lines:
        return ""
    block = inspect.getblock(lines)
    more = f"\n# … {len(block) - limit} more lines" if len(block) > limit else ""
    return inspect.cleandoc("\n" + "".join(block[:limit])) + more


def say(value: object, limit: int = SHORT) -> str:
    """A summary, as `trace.summarize` makes it, in one line."""
    if isinstance(value, dict):
        text = "{" + ", ".join(f"{key}: {say(own, limit)}" for key, own in value.items()) + "}"
    elif isinstance(value, (list, tuple)):
        text = "[" + ", ".join(say(own, limit) for own in value) + "]"
    elif isinstance(value, str) and PurePath(value).is_absolute():
        text = f"…/{PurePath(value).name}"  # the folders are those of this machine
    else:
        text = str(value) if not isinstance(value, float) else f"{value:.4g}"
    return text if len(text) <= limit else text[: limit - 1] + "…"


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.0995 else f"{seconds * 1000:.1f} ms"


# Exports
# --------------------------------------------------------------------------------------------------


def as_text(tree, depth: int = 6, arguments: bool = False, times: bool = True) -> str:
    """The folded tree, one row a line, at most `depth` levels of it; what lies deeper is counted."""
    lines = []

    def write(row: Row, level: int, lead: str, last: bool) -> None:
        branch = "" if not level else lead + ("└─ " if last else "├─ ")
        shown = level < depth or not row.children
        more = "" if shown else f"  … {row.total - row.count} calls inside"
        count, time = f" × {row.count}" if row.count > 1 else "", f"  {milliseconds(row.seconds)}" if times else ""
        lines.append(f"{branch}{row.name}{count}{time}{more}")
        below = "" if not level else lead + ("   " if last else "│  ")
        if arguments and (row.arguments or row.result is not None):
            bar = "│  " if shown and row.children else "   "
            lines.extend(f"{below}{bar}    {name} = {say(value)}" for name, value in row.arguments.items())
            lines.append(f"{below}{bar}    → {say(row.result)}")
        for child in row.children if shown else ():
            write(child, level + 1, below, child is row.children[-1])

    write(_row(tree), 0, "", True)
    return "\n".join(lines)


def as_json(tree) -> str:
    """Every call with everything that is known of it, nested, nothing folded."""

    def plain(call) -> dict:
        facts = {"function": call.function, "owner": call.owner, "module": call.module, "place": place(call)}
        facts |= {
            "arguments": _finite(call.arguments),
            "result": _finite(call.result),
            "start": call.start,
            "seconds": call.seconds,
        }
        return {**facts, "calls": [plain(inner) for inner in call.calls]}

    return json.dumps(plain(tree), ensure_ascii=False)


def as_chrome(tree) -> str:
    """Every call as an event of Chrome's trace format: open the file at chrome://tracing or
    ui.perfetto.dev.
    """
    events, waiting = [], [tree]
    while waiting:
        call = waiting.pop()
        details = {"place": place(call), **_finite(call.arguments), "returns": _finite(call.result)}
        event = {
            "name": _row_name(call),
            "cat": call.module or "record",
            "ph": "X",
            "pid": 1,
            "tid": 1,
            "args": details,
        }
        events.append(event | {"ts": (call.start - tree.start) * 1e6, "dur": call.seconds * 1e6})
        waiting += reversed(call.calls)
    return json.dumps({"traceEvents": events, "displayTimeUnit": "ms"}, ensure_ascii=False)


def as_mermaid(tree, depth: int = 4, chain: Sequence = ()) -> str:
    """The folded tree as a flowchart, at most `depth` levels of it; or, if one is given, a chain of
    calls.
    """
    lines = ["flowchart TD" if not chain else "flowchart LR"]

    def box(number: int, name: str, note: str = "") -> str:
        text = "<br/>".join(filter(None, (name, note))).replace('"', "#quot;")
        return f'    n{number}["{text}"]'

    if chain:
        lines += [box(number, _row_name(call), place(call)) for number, call in enumerate(chain)]
        return "\n".join([*lines, *(f"    n{number} --> n{number + 1}" for number in range(len(chain) - 1))])
    numbers: dict[int, int] = {}
    for row, level, above in walk(_row(tree)):
        if level <= depth:
            numbers[id(row)] = number = len(numbers)
            lines.append(box(number, row.name, f"{row.count} ×" if row.count > 1 else ""))
            lines += [f"    n{numbers[id(above[-1])]} --> n{number}"] if above else []
    return "\n".join(lines)


def _row(tree) -> Row:
    return tree if isinstance(tree, Row) else fold(tree)


_row_name = Row.name.fget  # needs a function and an owner, which a Call has as well


def _finite(value: object) -> object:
    """For JSON, which knows no NaN."""
    if isinstance(value, dict):
        return {key: _finite(own) for key, own in value.items()}
    if isinstance(value, list):
        return [_finite(own) for own in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


# Pictures
# --------------------------------------------------------------------------------------------------


def rows_of(root: Row, chain: Sequence) -> list[Row]:
    """The rows of a folded tree in which a chain of calls lies, from its first to its last; empty
    where it lies in none.
    """

    def follow(row: Row, rest: Sequence) -> list[Row]:
        if (rest[0].function, rest[0].owner, rest[0].line) != (row.function, row.owner, row.line):
            return []
        if len(rest) == 1:
            return [row]
        return next(([row, *found] for child in row.children if (found := follow(child, rest[1:]))), [])

    return next((found for row, *_ in walk(root) if (found := follow(row, chain))), []) if chain else []


def outline(tree, chain: Sequence = (), rows: int = ROWS, depth: int = 6) -> list[tuple[Row, int, bool]]:
    """The rows worth a picture: those of the chain and what stands beside them first, then the ones
    that take longest.

    Returns:
        (row, depth, on the chain) in the order of the text.
    """
    root = _row(tree)
    marked = set(map(id, rows_of(root, chain)))
    listed = [(row, level, above) for row, level, above in walk(root) if level <= depth or id(row) in marked]
    ranks = sorted(
        listed,
        key=lambda item: (id(item[0]) not in marked, not item[2] or id(item[2][-1]) not in marked, -item[0].seconds),
    )
    kept: set[int] = set()
    for row, _, above in ranks:
        needed = {id(row), *map(id, above)} - kept
        if len(kept) + len(needed) <= rows:
            kept |= needed
    return [(row, level, id(row) in marked) for row, level, _ in listed if id(row) in kept]


@style.house()
def draw_tree(tree, chain: Sequence = (), rows: int = ROWS, depth: int = 6) -> tuple[style.StudyFigure, dict]:
    """The tree as an indented list, a bar of time beside each row, the chain marked; and its
    numbers.

    Args:
        tree: a Call, or a Row from `fold`.
        chain: calls as `trace.path_between` gives them.
    """
    shown = outline(tree, chain, rows, depth)
    whole = max((row.seconds for row, *_ in shown), default=0.0) or 1.0
    figure, (names, bars) = style.figure(1, 2, height=0.55 + 0.24 * len(shown), width_ratios=(3.1, 1), sharey=True)
    for axes in (names, bars):
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.grid(False)
    names.axis("off")
    names.set_xlim(0, 100)
    for number, (row, level, marked) in enumerate(shown):
        colour, weight = (style.CYCLE[0], "bold") if marked else (style.INK, "normal")
        text = f"{row.name}{f' × {row.count}' if row.count > 1 else ''}"
        names.text(2.6 * level, number, text, va="center", fontsize=8.5, color=colour, weight=weight)
        hidden = (
            row.total
            - row.count
            - sum(child.total for child in row.children if any(child is other for other, *_ in shown))
        )
        if hidden:
            names.text(100, number, f"+ {hidden} inside", va="center", ha="right", fontsize=7.5, color=style.FAINT)
        bars.barh(
            number,
            row.seconds * 1000,
            height=0.62,
            color=style.CYCLE[0] if marked else style.BAND["backbone"],
            edgecolor=style.FAINT,
        )
        bars.text((row.seconds + 0.015 * whole) * 1000, number, milliseconds(row.seconds), va="center", fontsize=7.5)
    bars.set(xlim=(0, 1.35 * whole * 1000), yticks=[])
    bars.set_xlabel("time with all calls inside (ms)", fontsize=8.5)
    bars.tick_params(labelsize=8)
    bars.locator_params(axis="x", nbins=4)
    return figure, {
        "rows": len(shown),
        "marked": [row.name for row, _, marked in shown if marked],
        "calls": _row(tree).total,
    }


@style.house()
def draw_chain(chain: Sequence, width: int = 120) -> tuple[style.StudyFigure, dict]:
    """A chain from the top down: who calls whom, where it is written, and what is handed over; and
    its numbers.

    A dict is written out where it first appears; where the same is handed on, only its name is.
    """
    blocks, known = [], []
    for call in chain:
        text = []
        for name, value in call.arguments.items():
            if isinstance(value, dict) and value in known:
                text.append(f"{name}: the same dict of {len(value)}")
            elif isinstance(value, dict) and value:
                known.append(value)
                text += [
                    f"{name}: a dict of {len(value)}",
                    *(f"    {key}: {say(own, width - 14)}" for key, own in value.items()),
                ]
            elif value not in ({}, []):
                text.append(f"{name} = {say(value, width - len(name))}")
        blocks.append((call, text))
    line, gap, head = 0.19, 0.28, 0.34  # inches
    heights = [head + line * len(text) for _, text in blocks]
    height = max(0.5, sum(heights) + gap * (len(blocks) - 1) + 0.1)
    figure, axes = style.figure(height=height)
    figure.set_layout_engine("none")
    axes.set_position((0, 0, 1, 1))
    axes.set(xlim=(0, style.WIDTH), ylim=(height, 0))
    axes.axis("off")
    top = 0.05
    for number, ((call, text), tall) in enumerate(zip(blocks, heights)):
        face = style.BAND["head" if number in (0, len(blocks) - 1) else "backbone"]
        look = dict(boxstyle="round,pad=0,rounding_size=0.06", facecolor=face, edgecolor=style.INK, linewidth=0.9)
        axes.add_patch(FancyBboxPatch((0.1, top), style.WIDTH - 0.2, tall, **look))
        axes.text(0.22, top + 0.18, _row_name(call), va="center", fontsize=10, weight="bold")
        axes.text(style.WIDTH - 0.22, top + 0.18, place(call), va="center", ha="right", fontsize=8)
        for index, words in enumerate(text):
            axes.text(0.34, top + 0.38 + line * index, words, va="center", fontsize=8)
        if number < len(blocks) - 1:
            arrow = dict(arrowstyle="-|>", color=style.FAINT, linewidth=1.4)
            axes.annotate("", (0.8, top + tall + gap), (0.8, top + tall), arrowprops=arrow)
            axes.text(0.92, top + tall + gap / 2, "calls", va="center", fontsize=8)
        top += tall + gap
    return figure, {"names": [_row_name(call) for call in chain], "places": [place(call) for call in chain]}
