"""Where two networks differ: in the shapes of their layers, and in the values of their maps.

A wrong network shows first in its shapes. `record_shapes` writes them down layer by layer, also for
a network that stops at an error, and `first_difference` says where two such lists differ. Where the
shapes agree, `compare_maps` compares the values.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np

from ...canvas import drawing, style

MAP_NAMES = ("P2", "P3", "P4", "P5", "C", "X", "Y", "Z")  # of network.YOLO, in the order of computation
TOLERANCE = 1e-5  # maps that differ by less count as equal

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ShapeLog:
    """The output shape of each layer, in the order in which the layers returned.

    Attributes:
        shapes: (name, shape) of every layer that returned one tensor. A layer that is called twice
            is in it twice.
        error: class and first line of the exception that stopped the network, or None.
    """

    shapes: tuple[tuple[str, Shape], ...]
    error: str | None = None

    def __repr__(self) -> str:
        return f"ShapeLog({len(self.shapes)} layers, {self.error or 'ran to the end'})"


def record_shapes(model, *inputs, depth: int = 2) -> ShapeLog:
    """Run a network and write down the output shape of each layer. An exception ends the log.

    Args:
        model: any nn.Module. It runs in evaluation mode, so its running statistics do not move;
            afterwards its mode is as before.
        inputs: what it is called with.
        depth: how deep to look: 2 gives `backbone.sppf`, not the convolutions in it.
    """
    from .shape_table import shapes

    ended = []
    table = shapes(model, *inputs, watch=ended.append)
    seen = [(r.name, r.output) for r in ended if r.name and r.name.count(".") < depth and r.made and len(r.made) == 1]
    return ShapeLog(tuple(seen), table.broken and table.broken.error)


@dataclass(frozen=True, slots=True)
class Difference:
    """The first place where two lists of shapes differ.

    Attributes:
        index: position in the lists, from 0.
        name: of the layer in the first list; in the second where the first has ended.
        expected, found: the shapes there; None where a list has ended.
    """

    index: int
    name: str
    expected: Shape | None
    found: Shape | None

    def __str__(self) -> str:
        return f"{self.name}: expected {_written(self.expected)}, found {_written(self.found)}"


def _written(shape: Shape | None) -> str:
    return "nothing" if shape is None else " × ".join(map(str, shape))


def first_difference(expected, found) -> Difference | None:
    """The first place where two lists of named shapes differ; None where they agree.

    They are compared by their order. Names do not count, so layers may have other names.

    Args:
        expected, found: a `ShapeLog`, a list of (name, shape), or a dictionary name -> shape or
            tensor.
    """
    for index, (left, right) in enumerate(zip_longest(_named(expected), _named(found))):
        if left is None or right is None or left[1] != right[1]:
            return Difference(index, (left or right)[0], left and left[1], right and right[1])
    return None


def _named(shapes) -> list[tuple[str, Shape]]:
    if isinstance(shapes, ShapeLog):
        return list(shapes.shapes)
    named = shapes.items() if isinstance(shapes, Mapping) else shapes
    return [(name, tuple(int(side) for side in getattr(shape, "shape", shape))) for name, shape in named]


class ShapeTable:
    """Two lists of named shapes side by side, with the first difference marked.

    `numbers`: rows; equal, how many rows come before it; first, its name, or None.
    """

    def __init__(self, expected, found):
        self.error = found.error if isinstance(found, ShapeLog) else None
        self.difference = first_difference(expected, found)
        self.rows = [
            (left[0] or right[0], _written(left[1]), _written(right[1]))
            for left, right in zip_longest(_named(expected), _named(found), fillvalue=("", None))
        ]
        equal = len(self.rows) if self.difference is None else self.difference.index
        self.numbers = {"rows": len(self.rows), "equal": equal, "first": self.difference and self.difference.name}

    def __repr__(self) -> str:
        return f"ShapeTable({self.difference or 'equal'})"

    def _repr_html_(self) -> str:
        marked = self.difference and self.difference.index
        then = f"<b>then:</b> {html.escape(self.error)}" if self.error else ""
        return drawing.table(("layer", "expected", "found"), self.rows, "left", marked) + then


def compare_maps(expected: Mapping, found: Mapping) -> dict[str, float]:
    """The largest absolute difference of each map of two networks; 0 where they agree exactly.

    Args:
        expected, found: the results of `features` of two networks with the same weights, on the
            same image.
    """
    differences = {name: _apart(expected[name], found[name]) for name in MAP_NAMES if name in expected}
    for source, left, right in zip("XYZ", expected.get("outputs", ()), found.get("outputs", ()), strict=False):
        differences[f"output of {source}"] = _apart(left, right)
    return differences


def _apart(left, right) -> float:
    if left.shape != right.shape:
        raise ValueError(
            f"compare_maps: two maps have the shapes {tuple(left.shape)} and {tuple(right.shape)}. Compare the shapes "
            "first, with first_difference."
        )
    return float((left.detach() - right.detach()).abs().max())


@style.house()
def draw_differences(differences: Mapping[str, float]) -> style.StudyFigure:
    """A bar for each map that differs, on a logarithmic scale, in the order of computation.

    `numbers`: the differences, by name of the map.
    """
    figure, axes = style.figure(height=0.9 + 0.27 * len(differences), width=7.5)
    at = np.arange(len(differences))
    floor = TOLERANCE / 100  # a logarithmic axis has no zero
    for y, value in zip(at, differences.values()):
        wrong = value > TOLERANCE
        if value > floor:
            axes.barh(y, value - floor, left=floor, height=0.65, color=style.FALSE_ALARM if wrong else style.HIT)
        text = "equal" if value == 0 else f"{value:.2g}"
        axes.annotate(text, (max(value, floor), y), xytext=(6, 0), textcoords="offset points", va="center", fontsize=9)
    axes.axvline(TOLERANCE, color=style.INK, linestyle=(0, (4, 3)), linewidth=1.2)
    axes.annotate("tolerance", (TOLERANCE, -0.75), xytext=(4, 0), textcoords="offset points", fontsize=9, va="center")
    axes.set(
        xscale="log", xlim=(floor, 100 * max(TOLERANCE, *differences.values())), ylim=(len(differences) - 0.4, -1.2)
    )
    axes.set(yticks=at, yticklabels=list(differences), xlabel="largest absolute difference")
    axes.grid(axis="y", visible=False)
    return figure.with_numbers(dict(differences))
