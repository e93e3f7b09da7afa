"""Records of the NaN microscope: operations with a non-finite result, and which led to which."""

from __future__ import annotations

import itertools
import linecache
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType

BIRTH, SPREAD, CONSTANT, OUTSIDE, UNINITIALISED = "birth", "spread", "constant", "outside", "uninitialised"


@dataclass(frozen=True, slots=True)
class Place:
    """A line of source.

    Attributes:
        columns: where the operation begins and ends in `source`; (0, 0) where that is not known.
        module: "name (class)" of the module that was running, or "".
    """

    file: str
    line: int
    function: str
    source: str
    columns: tuple[int, int] = (0, 0)
    module: str = ""

    @classmethod
    def of(cls, code: CodeType, line: int, instruction: int, module: str = "") -> Place:
        text = linecache.getline(code.co_filename, line).rstrip()
        first, last, start, stop = next(itertools.islice(code.co_positions(), instruction // 2, None), (None,) * 4)
        indent = len(text) - len(text.lstrip())
        marked = first == last == line and None not in (start, stop) and text.isascii()  # columns count bytes
        columns = (max(0, start - indent), max(0, stop - indent)) if marked else (0, 0)
        return cls(code.co_filename, line, code.co_name, text.strip(), columns, module)

    @property
    def short(self) -> str:
        """The last folder, file and line: "nan/events.py:12"."""
        path = Path(self.file)
        return f"{'cell' if 'ipykernel_' in self.file else '/'.join(path.parts[-2:])}:{self.line}"


@dataclass(frozen=True, slots=True)
class Value:
    """One tensor or number, an input or output of an operation.

    Attributes:
        low, high: the range of its finite values; NaN where it has none.
        nans, infs: how many values are NaN, how many infinite.
        origin: number of the event that made the non-finite values; -1 where none is known.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    device: str
    low: float
    high: float
    nans: int = 0
    infs: int = 0
    origin: int = -1

    @property
    def finite(self) -> bool:
        return not (self.nans or self.infs)

    def __str__(self) -> str:
        span = f"{self.low:.4g}" if self.low == self.high else f"{self.low:.4g} … {self.high:.4g}"
        rest = [] if math.isnan(self.low) else [span]
        rest += [f"{count} {word}" for count, word in ((self.nans, "NaN"), (self.infs, "infinite")) if count]
        kind = f"{self.dtype} {'×'.join(map(str, self.shape)) or 'scalar'}" if self.dtype != "number" else "number"
        return f"{kind}{'' if self.device == 'cpu' else ' on ' + self.device}: {', '.join(rest) or 'empty'}"


@dataclass(frozen=True, slots=True)
class Event:
    """An operation with a non-finite result.

    Attributes:
        kind: how the result became non-finite.
            BIRTH: all inputs were finite. SPREAD: an input came from an earlier event.
            CONSTANT: a number in the call was non-finite. UNINITIALISED: memory was read before it
            was written. OUTSIDE: an input was non-finite that the microscope had not seen before.
        phase: "backward" for a gradient; "forward" for everything else.
    """

    number: int
    kind: str
    phase: str
    op: str
    place: Place
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]

    @property
    def parents(self) -> set[int]:
        return {value.origin for value in self.inputs if value.origin >= 0}

    @property
    def has_nan(self) -> bool:
        return any(value.nans for value in self.outputs)

    @property
    def counts(self) -> bool:
        """Whether it is a cause.

        An infinity that somebody wrote on purpose, such as a mask of -inf, is not yet one.
        """
        return self.kind in (BIRTH, UNINITIALISED) or (self.kind in (CONSTANT, OUTSIDE) and self.has_nan)


def descendants(events: Sequence[Event], start: int, end: int | None) -> tuple[Event, ...]:
    """The events that `start` led to, `start` first.

    Args:
        end: keep only events that lead on to this one; None keeps all.
    """
    reached = {start}
    for event in events[start + 1 :]:
        if event.parents & reached:
            reached.add(event.number)
    if end is not None:
        reached &= ancestors(events, end)
    return tuple(events[number] for number in sorted(reached | {start}))


def ancestors(events: Sequence[Event], end: int) -> set[int]:
    """The numbers of `end` and of all events that led to it."""
    found, todo = set(), [end]
    while todo:
        number = todo.pop()
        if number not in found:
            found.add(number)
            todo += events[number].parents
    return found


def shortest_path(chain: Sequence[Event]) -> tuple[Event, ...]:
    """The shortest path from the first event of a chain to its last.

    Where the last does not come from the first, the path goes to the event that lies deepest.
    """
    before: dict[int, int] = {chain[0].number: -1}
    depth = {chain[0].number: 0}
    by_number = {event.number: event for event in chain}
    for event in chain[1:]:
        known = [parent for parent in event.parents if parent in depth]
        if known:
            best = min(known, key=depth.__getitem__)
            before[event.number], depth[event.number] = best, depth[best] + 1
    at = chain[-1].number if chain[-1].number in depth else max(depth, key=depth.__getitem__)
    path = []
    while at >= 0:
        path.append(by_number[at])
        at = before[at]
    return tuple(reversed(path))
