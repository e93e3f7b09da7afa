"""Where the blocks of a network map stand, and how the arrows between them run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from .nodes import Node

BOX = (158, 60)  # pixels
GAP = (56, 26)
LEFT, TOP, MARGIN = 92, 34, 12  # room for the names of rows and columns


@dataclass(frozen=True, slots=True)
class Layout:
    nodes: tuple[Node, ...]
    corner: dict[str, tuple[float, float]]  # name -> left, top
    columns: dict[str, float]  # part -> left
    rows: list[tuple[float, float, int, int]]  # top, bottom, H, W
    arrows: list[tuple[tuple[float, float], ...]]  # four points of a cubic curve each
    width: float
    height: float

    def row_title(self, height: int, width: int) -> str:
        """The size of a row's maps, under their part of the image's size."""
        stride = self.rows[0][2] / height
        return f"1/{stride:g}\n{height} × {width}" if stride > 1 else f"{height} × {width}"


def lay_out(nodes: Sequence[Node]) -> Layout:
    """Place the nodes: a column for each part, rows from the largest map to the smallest.

    Nodes that share a cell are stacked.
    """
    known = {node.name: node for node in nodes}
    if not nodes or len(known) < len(nodes):
        raise ValueError("network map: give at least one node, and each name once.")
    for node in nodes:
        for name in node.inputs:
            if name not in known:
                raise ValueError(
                    f"network map: {node.name} reads {name}, which is no node. Known nodes: {', '.join(known)}."
                )
    columns = {
        part: LEFT + number * (BOX[0] + GAP[0])
        for number, part in enumerate(dict.fromkeys(node.part for node in nodes))
    }
    cells = Counter((node.part, node.shape[1]) for node in nodes)
    corner, rows, top = {}, [], float(TOP)
    for height in sorted({node.shape[1] for node in nodes}, reverse=True):
        members = [node for node in nodes if node.shape[1] == height]
        deepest = max(cells[node.part, height] for node in members)
        full = deepest * BOX[1] + (deepest - 1) * GAP[1]
        seen: Counter = Counter()
        for node in members:
            count = cells[node.part, height]
            offset = (full - count * BOX[1] - (count - 1) * GAP[1]) / 2 + seen[node.part] * (BOX[1] + GAP[1])
            corner[node.name] = (columns[node.part], top + GAP[1] / 4 + offset)
            seen[node.part] += 1
        rows.append((top, top + full + GAP[1] / 2, height, members[0].shape[2]))
        top += full + GAP[1]
    arrows = [_arrow(corner[name], corner[node.name]) for node in nodes for name in node.inputs]
    width = LEFT + len(columns) * (BOX[0] + GAP[0]) - GAP[0] + MARGIN
    return Layout(tuple(nodes), corner, columns, rows, arrows, width, top)


def _arrow(start: tuple[float, float], end: tuple[float, float]) -> tuple[tuple[float, float], ...]:
    """A cubic curve from block to block.

    Within a column it runs straight down or up, else from the right side of one block to the left
    side of the other.
    """
    if start[0] == end[0]:
        middle, down = start[0] + BOX[0] / 2, end[1] > start[1]
        first, last = (start[1] + BOX[1], end[1]) if down else (start[1], end[1] + BOX[1])
        return (middle, first), (middle, (first + last) / 2), (middle, (first + last) / 2), (middle, last)
    forward = end[0] > start[0]
    first = (start[0] + BOX[0] * forward, start[1] + BOX[1] / 2)
    # Arrows that climb or fall arrive a little off the middle, so that they do not run into the
    # level one.
    last = (end[0] + BOX[0] * (not forward), end[1] + BOX[1] / 2 + 13 * ((start[1] > end[1]) - (start[1] < end[1])))
    # Bend within the gap before the target: over a longer way the curve would run behind other
    # blocks.
    bend = GAP[0] * (0.8 if forward else -0.8)
    return (
        first,
        (last[0] - bend * 0.35 if first[1] != last[1] else first[0], first[1]),
        (last[0] - bend, last[1]),
        last,
    )
