"""What the NaN microscope found, as plain numbers and as sentences: where, by which operation, out
of what, and what became of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from .events import CONSTANT, OUTSIDE, UNINITIALISED, Event, Value, shortest
from .reasons import reason

SHOWN = 10  # operations of a chain that are written or drawn; the middle of a longer one is folded


@dataclass(frozen=True, slots=True)
class Finding:
    """The first cause.

    Attributes:
        event: the operation; for OUTSIDE the first one that saw the value, for UNINITIALISED the
            one that made the buffer.
        chain: what became non-finite because of it, in order, itself first: up to the loss where
            that is reached, else all of it.
        reaches: "the loss", "the gradients", "the weights", "" where no loss was seen, or "neither
            the loss nor a gradient".
        infinities: harmless infinities that the operation was given, such as the filling of a mask,
            by the operation that wrote them.
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
        return reason(self.event)

    @property
    def path(self) -> tuple[Event, ...]:
        """The shortest way through the chain from the cause to its end."""
        return shortest(self.chain)

    def __str__(self) -> str:
        place = self.event.place
        lines = [
            self.headline,
            f"  {place.short} in {place.function}" + (f", module {place.module}" if place.module else ""),
        ]
        lines.append(f"      {place.source}")
        if place.columns[1]:
            lines.append(f"      {' ' * place.columns[0]}{'^' * (place.columns[1] - place.columns[0])}")
        values = [*shown(self.inputs), *shown(self.event.outputs)]
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


def shown(values: Sequence[Value], most: int = 6) -> list[Value]:
    """Those to write down: of a long list, as an optimizer has it, the first few, non-finite ones
    first.
    """
    return list(values) if len(values) <= most else sorted(values, key=lambda value: value.finite)[:most]


def folded(path: Sequence[Event], most: int = SHOWN) -> list[Event | int]:
    """A path with its middle, where it is too long, as one negative number: so many are left out."""
    if len(path) <= most:
        return list(path)
    head, tail = most - most // 3 - 1, most // 3
    return [*path[:head], -(len(path) - head - tail), *path[-tail:]]
