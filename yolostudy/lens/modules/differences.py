"""Where two networks part: by the shapes of their layers, and by the values of their maps.

Shapes are the quickest witness of a wrong network: `record_shapes` writes them down layer by layer,
also of a network that breaks off halfway, and `first_difference` says where two lists of them part.
Where the shapes agree, `compare_maps` looks at the values.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np

from ...canvas import drawing, style

MAP_NAMES = ("P2", "P3", "P4", "P5", "C", "X", "Y", "Z")  # of network.YOLO, in the order in which they are computed
TOLERANCE = 1e-5  # between maps that count as equal

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ShapeLog:
    """What each layer gave, in the order in which they finished, and what stopped the network, if
    anything did.

    Attributes:
        shapes: (name, shape) of every layer that gave a tensor; a layer that is called twice stands
            there twice.
        error: class and first line of the exception, or None.
    """

    shapes: tuple[tuple[str, Shape], ...]
    error: str | None = None

    def __repr__(self) -> str:
        return f"ShapeLog({len(self.shapes)} layers, {self.error or 'ran to the end'})"


def record_shapes(model, *inputs, depth: int = 2) -> ShapeLog:
    """Run a network and write down the shape that each of its layers gives. An exception ends the
    log and is kept in it.

    Args:
        model: any nn.Module. Its running statistics do not move: it runs in evaluation mode and
            goes back to the mode it was in.
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
    """The first place where two lists of shapes part. A shape is None where a list has ended.

    Attributes:
        index: position in the lists, from 0.
        name: of the layer, by the first list (by the second where the first has ended).
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
    """Compare two lists of named shapes by their order and give the first place where they differ;
    None where they agree.

    Names do not count, so networks whose layers have other names can be compared.

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
    """Two lists of named shapes side by side, the first difference marked.

    `numbers`: rows, equal (rows before it), first.
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
    """How far two networks' named maps lie apart: the largest absolute difference of each, 0 where
    they agree to the last bit.

    Args:
        expected, found: what `features` of two networks with the same weights gave on the same
            image.
    """
    differences = {name: _apart(expected[name], found[name]) for name in MAP_NAMES if name in expected}
    for source, left, right in zip("XYZ", expected.get("outputs", ()), found.get("outputs", ()), strict=False):
        differences[f"output of {source}"] = _apart(left, right)
    return differences


def _apart(left, right) -> float:
    if left.shape != right.shape:
        raise ValueError(
            f"compare_maps: shapes {tuple(left.shape)} and {tuple(right.shape)}. Compare the shapes first: "
            "first_difference."
        )
    return float((left.detach() - right.detach()).abs().max())


@style.house()
def draw_differences(differences: Mapping[str, float]) -> style.StudyFigure:
    """One bar for each map, in the order in which they are computed, on a logarithmic scale; equal
    ones have none.
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
    return figure
