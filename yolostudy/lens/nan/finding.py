"""The finding of the NaN microscope, as numbers and as sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from .events import CONSTANT, OUTSIDE, UNINITIALISED, Event, Value, shortest_path
from .reasons import reason

MAX_EVENTS = 10  # of a chain, as text or as picture; the middle of a longer chain is folded


@dataclass(frozen=True, slots=True)
class Finding:
    """The first cause of a NaN or an infinity.

    Attributes:
        event: the operation. For OUTSIDE it is the first operation that read the value, for
            UNINITIALISED the one that reserved the memory.
        chain: `event` and what became non-finite because of it, in order. It ends at the loss where
            the loss was reached.
        reaches: "the loss", "the gradients", "the weights", "neither the loss nor a gradient", or
            "" where no loss was seen.
        infinities: operations that wrote an infinity on purpose, such as a mask, which then went
            into `event`.
        parameters: names of the parameters with a non-finite gradient.
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
        return reason(self.event)

    @property
    def path(self) -> tuple[Event, ...]:
        """The shortest path through the chain, from the cause to its end."""
        return shortest_path(self.chain)

    def __str__(self) -> str:
        place = self.event.place
        lines = [
            self.headline,
            f"  {place.short} in {place.function}" + (f", module {place.module}" if place.module else ""),
        ]
        lines.append(f"      {place.source}")
        if place.columns[1]:
            lines.append(f"      {' ' * place.columns[0]}{'^' * (place.columns[1] - place.columns[0])}")
        values = [*selected(self.inputs), *selected(self.event.outputs)]
        wide = max([len(value.name) for value in values], default=0)
        lines += [f"  {value.name.ljust(wide)}  {value}" for value in values]
        lines += [
            f"  {event.op} at {event.place.short} wrote the infinity: {event.place.source}" for event in self.infinities
        ]
        if self.why:
            lines.append(f"  {self.why}")
        if self.reaches:
            lines.append(f"  It reached {self.reaches}" + (", by these steps:" if len(self.chain) > 1 else "."))
        for event in folded(self.path)[1:]:
            text = (
                f"… {-event} more"
                if isinstance(event, int)
                else f"{event.op.ljust(18)} {event.place.short}  {event.place.source}"
            )
            lines.append(f"    {text}")
        if self.parameters:
            more = f" and {len(self.parameters) - 4} more" if len(self.parameters) > 4 else ""
            lines.append(f"  Non-finite gradients: {', '.join(self.parameters[:4])}{more}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"Finding({self.headline}; {self.event.place.short})"


def selected(values: Sequence[Value], most: int = 6) -> list[Value]:
    """At most `most` values to show. Of a longer list, non-finite values come first."""
    return list(values) if len(values) <= most else sorted(values, key=lambda value: value.finite)[:most]


def folded(path: Sequence[Event], most: int = MAX_EVENTS) -> list[Event | int]:
    """A path whose middle, where it is too long, is one negative number: -n for n events."""
    if len(path) <= most:
        return list(path)
    head, tail = most - most // 3 - 1, most // 3
    return [*path[:head], -(len(path) - head - tail), *path[-tail:]]
