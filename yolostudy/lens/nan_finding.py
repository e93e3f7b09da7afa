"""What the NaN microscope found, as plain numbers and as sentences: where, by which operation, out of what, and what became of it."""

from __future__ import annotations

import itertools
import linecache
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType

BIRTH, SPREAD, CONSTANT, OUTSIDE, UNINITIALISED = "birth", "spread", "constant", "outside", "uninitialised"
SHOWN = 10  # operations of a chain that are written or drawn; the middle of a longer one is folded


@dataclass(frozen=True, slots=True)
class Place:
    """A line of source. `columns` mark the operation in it, from and to, (0, 0) where it is not known; `module` is "name (class)" or ""."""

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
        """File and line, as far as a person needs them."""
        path = Path(self.file)
        return f"{'cell' if 'ipykernel_' in self.file else '/'.join(path.parts[-2:])}:{self.line}"


@dataclass(frozen=True, slots=True)
class Value:
    """One tensor (or number) that went into an operation or came out of it.

    Attributes:
        low, high: the range of its finite values; NaN where it has none. nans, infs: how many others it holds.
        origin: number of the event that made those; -1 where none is known.
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
    """An operation that gave something non-finite. `kind` says how it came to: BIRTH, SPREAD, CONSTANT, OUTSIDE or UNINITIALISED."""

    number: int
    kind: str
    phase: str  # "forward" (everything outside autograd) or "backward"
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
        """Whether it is a cause. An infinity that somebody wrote or passed in on purpose, such as a mask of -inf, is none yet."""
        return self.kind in (BIRTH, UNINITIALISED) or (self.kind in (CONSTANT, OUTSIDE) and self.has_nan)


@dataclass(frozen=True, slots=True)
class Finding:
    """The first cause.

    Attributes:
        event: the operation; for OUTSIDE the first one that saw the value, for UNINITIALISED the one that made the buffer.
        chain: what became non-finite because of it, in order, itself first: up to the loss where that is reached, else all of it.
        reaches: "the loss", "the gradients", "the weights", "" where no loss was seen, or "neither the loss nor a gradient".
        infinities: harmless infinities that the operation was given, such as the filling of a mask, by the operation that wrote them.
        parameters: names of those with a non-finite gradient, in a backward pass.
    """

    event: Event
    chain: tuple[Event, ...]
    reaches: str = ""
    infinities: tuple[Event, ...] = ()
    parameters: tuple[str, ...] = field(default=())

    kind = property(lambda self: self.event.kind)
    phase = property(lambda self: self.event.phase)
    op = property(lambda self: self.event.op)
    file = property(lambda self: self.event.place.file)
    line = property(lambda self: self.event.place.line)
    source = property(lambda self: self.event.place.source)
    inputs = property(lambda self: self.event.inputs)

    @property
    def headline(self) -> str:
        what = "NaN" if self.event.has_nan else "infinity"
        if self.kind == OUTSIDE:
            names = ", ".join(value.name for value in self.inputs if not value.finite)
            return f"{what} came in from outside as {names} of {self.op}, the first operation that saw it"
        if self.kind == UNINITIALISED:
            return f"memory from {self.op} was read before anything was written to it"
        if self.kind == CONSTANT:
            return f"{what} written as a constant: {self.op}"
        where = "the gradient of " if self.phase == "backward" else ""
        return f"{what} born in {where}{self.op}"

    @property
    def why(self) -> str:
        """One sentence on the cause where the numbers tell it, else ""."""
        from .nan_reasons import reason

        return reason(self.event)

    @property
    def path(self) -> tuple[Event, ...]:
        """The shortest way through the chain from the cause to its end."""
        return shortest(self.chain)

    def __str__(self) -> str:
        place = self.event.place
        lines = [self.headline, f"  {place.short} in {place.function}" + (f", module {place.module}" if place.module else "")]
        lines.append(f"      {place.source}")
        if place.columns[1]:
            lines.append(f"      {' ' * place.columns[0]}{'^' * (place.columns[1] - place.columns[0])}")
        values = [*shown(self.inputs), *shown(self.event.outputs)]
        wide = max([len(value.name) for value in values], default=0)
        lines += [f"  {value.name.ljust(wide)}  {value}" for value in values]
        lines += [f"  {event.op} at {event.place.short} wrote the infinity: {event.place.source}" for event in self.infinities]
        if self.why:
            lines.append(f"  {self.why}")
        if self.reaches:
            lines.append(f"  It reached {self.reaches}" + (", by these steps:" if len(self.chain) > 1 else "."))
        for event in folded(self.path)[1:]:
            text = f"… {-event} more" if isinstance(event, int) else f"{event.op.ljust(18)} {event.place.short}  {event.place.source}"
            lines.append(f"    {text}")
        if self.parameters:
            more = f" and {len(self.parameters) - 4} more" if len(self.parameters) > 4 else ""
            lines.append(f"  Non-finite gradients: {', '.join(self.parameters[:4])}{more}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"Finding({self.headline}; {self.event.place.short})"


def shown(values: Sequence[Value], most: int = 6) -> list[Value]:
    """Those to write down: of a long list, as an optimizer has it, the first few, non-finite ones first."""
    return list(values) if len(values) <= most else sorted(values, key=lambda value: value.finite)[:most]


def descendants(events: Sequence[Event], start: int, end: int | None) -> tuple[Event, ...]:
    """The events that `start` led to, itself first; only those that lead on to `end`, where it is given."""
    reached = {start}
    for event in events[start + 1 :]:
        if event.parents & reached:
            reached.add(event.number)
    if end is not None:
        reached &= ancestors(events, end)
    return tuple(events[number] for number in sorted(reached | {start}))


def ancestors(events: Sequence[Event], end: int) -> set[int]:
    """The numbers of the events that `end` came from, and its own."""
    found, todo = set(), [end]
    while todo:
        number = todo.pop()
        if number not in found:
            found.add(number)
            todo += events[number].parents
    return found


def shortest(chain: Sequence[Event]) -> tuple[Event, ...]:
    """The shortest way from the first event of a chain to its last; where the last does not come from the first, to the farthest."""
    before: dict[int, int] = {chain[0].number: -1}
    depth = {chain[0].number: 0}
    by_number = {event.number: event for event in chain}
    for event in chain[1:]:
        known = [parent for parent in event.parents if parent in depth]
        if known:
            best = min(known, key=depth.__getitem__)
            before[event.number], depth[event.number] = best, depth[best] + 1
    at = chain[-1].number if chain[-1].number in depth else max(depth, key=depth.__getitem__)
    way = []
    while at >= 0:
        way.append(by_number[at])
        at = before[at]
    return tuple(reversed(way))


def folded(path: Sequence[Event], most: int = SHOWN) -> list[Event | int]:
    """A path with its middle, where it is too long, as one negative number: so many are left out."""
    if len(path) <= most:
        return list(path)
    head, tail = most - most // 3 - 1, most // 3
    return [*path[:head], -(len(path) - head - tail), *path[-tail:]]
