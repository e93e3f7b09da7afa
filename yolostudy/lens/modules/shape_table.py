"""A table of shapes, written while a network runs: what went into each module and what came out.

A network that stops at an error leaves its table behind. The row where it stopped is marked, with
the operation that failed, the line of code that called it, and what the two sides expected of each
other.
"""

from __future__ import annotations

import contextlib
import html
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ...canvas import style
from ..module_calls import ModuleCall, in_mode, watch_modules

Shape = tuple[int, ...]


@dataclass(slots=True)
class LayerShapes:
    """The shapes of one call of a module.

    Attributes:
        name, kind: of the module.
        depth: how deep the module lies; 0 for the network itself.
        given, made: shapes of all tensors in and out; `made` is None where the call raised.
        parameters: how many numbers the module and all modules inside it hold.
        repeated: whether the module ran before; its parameters are counted there.
        leaf: whether it called no other module.
        broke: whether it is the innermost call that an exception ended.
    """

    name: str
    kind: str
    depth: int
    given: tuple[Shape, ...]
    parameters: int
    repeated: bool = False
    made: tuple[Shape, ...] | None = None
    leaf: bool = True
    broke: bool = False

    @property
    def output(self) -> Shape | None:
        """Shape of the first output tensor."""
        return self.made[0] if self.made else None


@dataclass(frozen=True, slots=True)
class Break:
    """Where a network stopped at an error.

    Attributes:
        name: of the innermost module that was running.
        error: class and first line of the exception.
        operation: the torch function that failed, with the shapes of its arguments, or "".
        place, source: file and line that called it, and the text of that line.
        expected: what the two sides expected, as a sentence; "" where nothing is known beyond the
            error.
    """

    name: str
    error: str
    operation: str
    place: str
    source: str
    expected: str

    def __str__(self) -> str:
        where = f"{self.name or 'the network'} stopped at an error: {self.error}"
        lines = [
            where,
            self.expected,
            self.operation and f"operation: {self.operation}",
            self.place and f"{self.place}: {self.source}",
        ]
        return "\n".join(line for line in lines if line)


class Shapes:
    """The table, as text and as HTML.

    Attributes:
        rows: in the order in which the calls began.
        broken: a `Break`, or None.
        depth: how deep the table shows.
    """

    def __init__(self, rows: list[LayerShapes], broken: Break | None, depth: int):
        self.rows, self.broken, self.depth = rows, broken, depth

    @property
    def shown(self) -> list[LayerShapes]:
        """The rows down to `depth`, and the one that broke, however deep it lies."""
        return [row for row in self.rows if row.depth <= self.depth or row.broke]

    def _cells(self, row: LayerShapes) -> tuple[str, ...]:
        made = "stopped here" if row.broke else "did not return" if row.made is None else _written(row.made)
        count = "as above" if row.repeated and row.parameters else f"{row.parameters:,}" if row.parameters else ""
        return (row.name or "(network)", row.kind, _written(row.given), made, count)

    def __str__(self) -> str:
        lines = [("module", "type", "in", "out", "parameters"), *(self._cells(row) for row in self.shown)]
        widths = [max(map(len, column)) for column in zip(*lines)]
        text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines]
        text = [(">" if row is not None and row.broke else " ") + line for row, line in zip([None, *self.shown], text)]
        return "\n".join([*text, *([str(self.broken)] if self.broken else [])])

    def __repr__(self) -> str:
        return f"Shapes({len(self.rows)} calls, {self.broken.error if self.broken else 'ran to the end'})"

    def _repr_html_(self) -> str:
        cell = "style='text-align:left; padding:2px 12px'"
        head = "".join(f"<th {cell}>{title}</th>" for title in ("module", "type", "in", "out", "parameters"))
        body = ""
        for row in self.shown:
            mark = f" style='background:{style.MISS}; color:{style.INK}'" if row.broke else ""
            cells = [html.escape(text) for text in self._cells(row)]
            cells[0] = "&nbsp;" * 3 * max(0, row.depth - 1) + cells[0]
            body += f"<tr{mark}>" + "".join(f"<td {cell}>{text}</td>" for text in cells) + "</tr>"
        if self.broken:
            body += f"<tr><td {cell} colspan='5'>{html.escape(str(self.broken)).replace(chr(10), '<br>')}</td></tr>"
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def shapes(model, *inputs, depth: int = 2, watch: Callable[[LayerShapes], None] | None = None) -> Shapes:
    """Run a network and write down the shapes of every module. An exception ends the table.

    Args:
        model: any `nn.Module`. It runs in evaluation mode, without gradients; afterwards its mode
            is as before.
        inputs: what it is called with.
        depth: how deep the table shows: 2 shows `backbone.sppf`, not the convolutions in it. `rows`
            has them all.
        watch: called with each row when its call returns, for a table that grows while a slow
            network runs.
    """
    import torch

    rows: dict[ModuleCall, LayerShapes] = {}
    counted: set = set()

    def enter(call: ModuleCall, given) -> None:
        module, depth = call.module, 0
        if call.parent is not None:
            rows[call.parent].leaf, depth = False, rows[call.parent].depth + 1
        count = sum(parameter.numel() for parameter in module.parameters())
        rows[call] = LayerShapes(call.name, type(module).__name__, depth, _shapes(given), count, module in counted)
        counted.add(module)

    def leave(call: ModuleCall, output) -> None:
        rows[call].made = _shapes(output)
        if watch is not None:
            watch(rows[call])

    broken, refused = None, []
    with in_mode(model, False), watch_modules(model, enter, leave) as calls:
        try:
            with torch.no_grad(), _refusals(refused):
                model(*inputs)
        except Exception as error:
            if calls.broken is not None:
                rows[calls.broken].broke = True
            broken = _explained(error, calls.broken.name if calls.broken else "", refused)
    return Shapes(list(rows.values()), broken, depth)


def _refusals(refused: list):
    """A mode that keeps the torch functions that raised, with their arguments, innermost first."""
    from torch.overrides import TorchFunctionMode

    class Refusals(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            try:
                return function(*args, **(kwargs or {}))
            except Exception as error:
                refused.append((error, function, args, kwargs or {}))
                raise

    return Refusals()


# Why it stopped
# --------------------------------------------------------------------------------------------------


def _explained(error: Exception, name: str, refused: list) -> Break:
    import torch

    text = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    operation, expected = "", ""
    function, args, kwargs = next((call[1:] for call in refused if call[0] is error), (None, (), {}))
    if function is not None:
        word = getattr(function, "__name__", str(function)).strip("_")
        given = _shapes((args, kwargs))
        operation = f"{word}({', '.join(_one(shape) for shape in given)})"
        with contextlib.suppress(Exception):  # an explanation must not hide the error
            expected = _expectation(word, args, kwargs, given)
    inside = str(Path(torch.__file__).parent)
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith((inside, __file__))
    ]
    place, source = (
        (f"{Path(frames[-1].filename).name}:{frames[-1].lineno}", frames[-1].line or "") if frames else ("", "")
    )
    return Break(name, text, operation, place, source, expected)


def _expectation(word: str, args: tuple, kwargs: Mapping, given: tuple[Shape, ...]) -> str:
    if word.startswith("conv") and len(given) > 1:
        groups = kwargs.get("groups", args[6] if len(args) > 6 else 1)
        wanted, found = given[1][1] * groups, given[0][-len(given[1]) + 1]
        return (
            f"The weight {_one(given[1])} takes {wanted} channels, the input {_one(given[0])} has {found}."
            if wanted != found
            else ""
        )
    if word == "linear":
        return (
            f"The weight {_one(given[1])} takes {given[1][1]} features, the input {_one(given[0])} has {given[0][-1]}."
        )
    if word == "batch_norm":
        return f"The normalisation holds {given[1][0]} channels, the input {_one(given[0])} has {given[0][1]}."
    if word in ("cat", "concat", "concatenate", "stack"):
        dim = kwargs.get("dim", args[1] if len(args) > 1 else 0)
        for number, shape in enumerate(given[1:], 2):
            if len(shape) != len(given[0]):
                return f"Tensor 1 has {len(given[0])} dimensions, tensor {number} has {len(shape)}."
            apart = [
                d for d in range(len(shape)) if shape[d] != given[0][d] and (word == "stack" or d != dim % len(shape))
            ]
            if apart:
                sides = f"dimension {apart[0]}: tensor 1 is {_one(given[0])}, tensor {number} is {_one(shape)}"
                return (
                    f"All must agree except in dimension {dim}, but differ in {sides}."
                    if word != "stack"
                    else f"All must agree: {sides}."
                )
    if word in ("matmul", "mm", "bmm", "rmatmul") and len(given) == 2:
        return (
            f"The left side {_one(given[0])} ends in {given[0][-1]}, the right side {_one(given[1])} takes "
            f"{given[1][-2:][0]}."
        )
    if word in ("view", "reshape") and given:
        count = 1
        for side in given[0]:
            count *= side
        return f"{_one(given[0])} holds {count:,} values, which do not fit into {tuple(args[1:]) or kwargs}."
    if len(given) == 2:
        apart = [
            -d
            for d in range(1, 1 + min(map(len, given)))
            if given[0][-d] != given[1][-d] and 1 not in (given[0][-d], given[1][-d])
        ]
        if apart:
            left, right = given[0][apart[0]], given[1][apart[0]]
            return f"Sides must be equal or 1, but dimension {apart[0]} is {left} on the left, {right} on the right."
    return ""


def _shapes(value) -> tuple[Shape, ...]:
    from ..nan.values import tensors_in

    return tuple(tuple(map(int, tensor.shape)) for tensor in tensors_in(value))


def _one(shape: Shape) -> str:
    return " × ".join(map(str, shape)) or "scalar"


def _written(many: tuple[Shape, ...]) -> str:
    if len(many) > 3:
        return f"{_one(many[0])}; and {len(many) - 1} more"
    return "; ".join(map(_one, many))
