"""A recorded program as a tree: folded, searched, with the source of any call, and exported.

A tree is the `Call` that `yolostudy.trace.record` returns, or any object with its attributes.
`fold` turns calls of one function from one place into one row, so that 6,000 calls fit on a screen.

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

MAX_ARGUMENT = 110  # characters of one argument in a line of text


@dataclass(slots=True, eq=False)
class CallRow:
    """Calls of one function from one place: one row of the tree.

    Attributes:
        function, owner: as in a Call; pictures show `name`.
        place: file and line, the file within its package: "ultralytics/utils/loss.py:498".
        path, line: the file itself, to read its source.
        arguments, result: of the first call.
        seconds: the time of all these calls, with the calls inside them.
        count: how many calls.
        total: how many calls, with all calls inside them.
        children: the rows inside, in the order of their first calls.
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
    children: list[CallRow] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The name as written, with the class of the object where that is another one.

        "v8DetectionLoss.__call__ of v8PoseLoss": the object is a v8PoseLoss, which inherits it.
        """
        written = self.function.rpartition(".")[0].rpartition(".")[2]
        return self.function if self.owner in ("", written) else f"{self.function} of {self.owner}"

    @property
    def total(self) -> int:
        return self.count + sum(child.total for child in self.children)

    def __repr__(self) -> str:
        return f"CallRow({self.name} × {self.count}, {self.total} calls)"


def fold(*calls) -> CallRow:
    """Calls of one function as one row, with everything inside them folded in the same way."""
    first = calls[0]
    row = CallRow(first.function, first.owner, place(first), first.file, first.line, first.arguments, first.result)
    row.seconds, row.count = sum(call.seconds for call in calls), len(calls)
    alike: dict[tuple, list] = {}
    for inner in (inner for call in calls for inner in call.calls):
        alike.setdefault((inner.function, inner.owner, inner.file, inner.line), []).append(inner)
    row.children = [fold(*group) for group in alike.values()]
    return row


def place(call) -> str:
    """File and line where a call is defined, without this machine's folders; "" for the root."""
    parts = PurePath(call.file).parts
    depth = call.module.count(".") + 1 + (parts[-1:] == ("__init__.py",))
    return f"{'/'.join(parts[-depth:])}:{call.line}" if call.file else ""


def walk(
    row: CallRow, depth: int = 0, above: tuple[CallRow, ...] = ()
) -> Iterator[tuple[CallRow, int, tuple[CallRow, ...]]]:
    """Every row with its depth and the rows above it, from top to bottom."""
    yield row, depth, above
    for child in row.children:
        yield from walk(child, depth + 1, (*above, row))


def find(row: CallRow, text: str) -> list[tuple[CallRow, tuple[CallRow, ...]]]:
    """The rows whose name or place contains `text` in any case, each with the rows above it."""
    wanted = text.lower()
    return [(found, above) for found, _, above in walk(row) if wanted in f"{found.name} {found.place}".lower()]


def source(row: CallRow, limit: int = 60) -> str:
    """At most `limit` lines of the function's source; "" where the file cannot be read."""
    lines = linecache.getlines(row.path)[max(0, row.line - 1) :]
    if not lines:
        return ""
    block = inspect.getblock(lines)
    more = f"\n# … {len(block) - limit} more lines" if len(block) > limit else ""
    return inspect.cleandoc("\n" + "".join(block[:limit])) + more


def say(value: object, limit: int = MAX_ARGUMENT) -> str:
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


def rows_of(root: CallRow, chain: Sequence) -> list[CallRow]:
    """The rows of a folded tree that hold a chain of calls, in its order; empty where none do."""

    def follow(row: CallRow, rest: Sequence) -> list[CallRow]:
        if (rest[0].function, rest[0].owner, rest[0].line) != (row.function, row.owner, row.line):
            return []
        if len(rest) == 1:
            return [row]
        return next(([row, *found] for child in row.children if (found := follow(child, rest[1:]))), [])

    return next((found for row, *_ in walk(root) if (found := follow(row, chain))), []) if chain else []


def as_row(tree) -> CallRow:
    """A tree as a row: folded, unless it is a row already."""
    return tree if isinstance(tree, CallRow) else fold(tree)


row_name = CallRow.name.fget  # it needs a function and an owner, so it works for a Call as well


# Exports
# --------------------------------------------------------------------------------------------------


def as_text(tree, depth: int = 6, arguments: bool = False, times: bool = True) -> str:
    """The folded tree, one row a line. Calls below `depth` levels are counted."""
    lines = []

    def write(row: CallRow, level: int, lead: str, last: bool) -> None:
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

    write(as_row(tree), 0, "", True)
    return "\n".join(lines)


def as_json(tree) -> str:
    """Every call with all that is known of it, nested and not folded."""

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
    """Every call as an event of Chrome's trace format.

    Open the file at chrome://tracing or ui.perfetto.dev.
    """
    events, waiting = [], [tree]
    while waiting:
        call = waiting.pop()
        details = {"place": place(call), **_finite(call.arguments), "returns": _finite(call.result)}
        event = {
            "name": row_name(call),
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
    """A flowchart: of the given chain, or of at most `depth` levels of the folded tree."""
    lines = ["flowchart TD" if not chain else "flowchart LR"]

    def box(number: int, name: str, note: str = "") -> str:
        text = "<br/>".join(filter(None, (name, note))).replace('"', "#quot;")
        return f'    n{number}["{text}"]'

    if chain:
        lines += [box(number, row_name(call), place(call)) for number, call in enumerate(chain)]
        return "\n".join([*lines, *(f"    n{number} --> n{number + 1}" for number in range(len(chain) - 1))])
    numbers: dict[int, int] = {}
    for row, level, above in walk(as_row(tree)):
        if level <= depth:
            numbers[id(row)] = number = len(numbers)
            lines.append(box(number, row.name, f"{row.count} ×" if row.count > 1 else ""))
            lines += [f"    n{numbers[id(above[-1])]} --> n{number}"] if above else []
    return "\n".join(lines)


def _finite(value: object) -> object:
    """A value for JSON, which has no NaN."""
    if isinstance(value, dict):
        return {key: _finite(own) for key, own in value.items()}
    if isinstance(value, list):
        return [_finite(own) for own in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
