"""A network drawn as a map: parts are columns, map sizes are rows, so the eye follows the picture
down and up again.

One layout feeds two renderers: a figure for print, and a page of plain SVG whose blocks open by a
click. The SVG needs neither a kernel nor a script, so it works in a stored notebook as well.
`live_map` lets the reader choose the network's size and the image's.
"""

from __future__ import annotations

import hashlib
import html
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType

from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path as Curve

from ...canvas import drawing, style
from ...canvas.panel import Panel
from ...lens.modules.differences import ShapeTable, compare_maps, draw_differences, first_difference, record_shapes

__all__ = ["ClickableMap", "LiveMap", "Node", "clickable_map", "draw_map", "live_map", "live_shapes", "yolo_nodes"]
# stage 3 asks for them here
__all__ += ["ShapeTable", "compare_maps", "draw_differences", "first_difference", "record_shapes"]

BOX = (158, 60)  # pixels
GAP = (56, 26)
LEFT, TOP, MARGIN = 92, 34, 12  # room for the names of rows and columns
PANEL = 92  # height of the SVG's strip for details


@dataclass(frozen=True, slots=True)
class Node:
    """One block of the map.

    Attributes:
        name: unique; `inputs` refer to it.
        kind: what it is, in a few words.
        shape: (C, H, W) of what it gives.
        inputs: names of the nodes that it reads.
        part: the column it stands in.
        detail: sentences for the reader who clicks on it.
    """

    name: str
    kind: str
    shape: tuple[int, int, int]
    inputs: tuple[str, ...] = ()
    part: str = "backbone"
    detail: str = ""


@dataclass(frozen=True, slots=True)
class _Layout:
    nodes: tuple[Node, ...]
    corner: dict[str, tuple[float, float]]  # name -> left, top
    columns: dict[str, float]  # part -> left
    rows: list[tuple[float, float, int, int]]  # top, bottom, H, W
    arrows: list[tuple[tuple[float, float], ...]]  # four points of a cubic curve each
    width: float
    height: float


def yolo_nodes(features: Mapping) -> list[Node]:
    """The nodes of `network.YOLO` from what `features(images)` gives: P2 … P5, C, X, Y, Z and the
    list `outputs`.

    Args:
        features: name → tensor (B, C, H, W), or its shape (C, H, W).
    """
    shape = {name: _shape(value) for name, value in features.items() if name != "outputs"}
    _, height, width = shape["P2"]
    image = (3, 4 * height, 4 * width)
    blocks = (  # name, part, inputs, kind, detail
        ("P2", "backbone", "image", "stem, CSP layer", "Two halvings, then a CSP layer: edges and corners."),
        ("P3", "backbone", "P2", "halve, CSP layer", "Fine enough to tell small objects apart."),
        ("P4", "backbone", "P3", "halve, CSP layer", "Parts: wings, tails, engines."),
        ("P5", "backbone", "P4", "halve, CSP, SPPF", "The coarsest map. SPPF shows each position a wide surrounding."),
        (
            "C",
            "top-down",
            "P5 P4",
            "double, join, CSP",
            "P5 doubled in size and joined with P4: what the coarse map knows comes down.",
        ),
        (
            "X",
            "top-down",
            "C P3",
            "double, join, CSP",
            "C doubled in size and joined with P3. It feeds the head for small objects.",
        ),
        ("Y", "bottom-up", "X C", "halve, join, CSP", "X halved and joined with C: exact places go up again."),
        (
            "Z",
            "bottom-up",
            "Y P5",
            "halve, join, CSP",
            "Y halved and joined with P5. It feeds the head for large objects.",
        ),
    )
    nodes = [
        Node(
            "image",
            "RGB, 0…1",
            image,
            detail="The picture as the network gets it: red, green and blue between 0 and 1.",
        )
    ]
    nodes += [
        Node(name, kind, shape[name], tuple(inputs.split()), part, detail)
        for name, part, inputs, kind, detail in blocks
    ]
    for source, output in zip("XYZ", features["outputs"], strict=True):
        channels, rows, columns = _shape(output)
        stride = image[1] // rows
        detail = (
            f"{rows * columns} anchors, one every {stride} pixels; each gives four edge distributions of bins and "
            "the class logits."
        )
        nodes.append(Node(f"stride {stride}", "box and class", (channels, rows, columns), (source,), "head", detail))
    return nodes


@style.house()
def draw_map(nodes: Sequence[Node]) -> tuple[style.StudyFigure, dict]:
    """The map as a figure, and its numbers: nodes, arrows, parts (nodes in each), values (all that
    the maps hold together).
    """
    layout = _laid_out(nodes)
    figure, axes_at = drawing.by_pixel(layout.width, layout.height)
    axes = axes_at(0, 0, layout.width, layout.height)
    axes.set(xlim=(0, layout.width), ylim=(layout.height, 0))
    axes.axis("off")
    for top, bottom, height, width in layout.rows:
        stripe = (MARGIN / 2, top, layout.width - MARGIN / 2, bottom)
        drawing.frame(axes, stripe, "none", fill=True, facecolor=style.STRIPE, zorder=0)
        axes.text(
            MARGIN + 4, (top + bottom) / 2, _row_title(layout, height, width), va="center", fontsize=9, linespacing=1.5
        )
    for part, left in layout.columns.items():
        axes.text(left + BOX[0] / 2, TOP / 2 + 2, part, ha="center", va="center", fontsize=11, weight="bold")
    for points in layout.arrows:
        curve = Curve(points, [Curve.MOVETO, *[Curve.CURVE4] * 3])
        arrow = FancyArrowPatch(
            path=curve, arrowstyle="-|>", mutation_scale=11, color=style.FAINT, linewidth=1.4, zorder=1
        )
        axes.add_patch(arrow)
    for node in layout.nodes:
        left, top = layout.corner[node.name]
        face = style.BAND.get(node.part, style.GROUND)
        look = dict(
            boxstyle="round,pad=0,rounding_size=7", facecolor=face, edgecolor=style.INK, linewidth=0.9, zorder=2
        )
        axes.add_patch(FancyBboxPatch((left, top), *BOX, **look))
        middle = left + BOX[0] / 2
        for text, down, font in (
            (node.name, 15, dict(weight="bold", fontsize=10.5)),
            (node.kind, 32, dict(fontsize=8.5)),
            (_size(node), 48, {}),
        ):
            axes.text(middle, top + down, text, ha="center", va="center", zorder=3, **dict(fontsize=9) | font)
    return figure, _numbers(nodes)


@dataclass(frozen=True, slots=True)
class ClickableMap:
    """The map as SVG: hover over a block for its name and shape, click it (or reach it by Tab) for
    its details.
    """

    svg: str
    numbers: dict

    def __repr__(self) -> str:
        return f"ClickableMap({self.numbers['nodes']} blocks, {self.numbers['arrows']} arrows)"

    def _repr_html_(self) -> str:
        return self.svg


def clickable_map(nodes: Sequence[Node]) -> ClickableMap:
    """The map for a notebook, and its numbers as `draw_map` gives them."""
    layout = _laid_out(nodes)
    height = layout.height + PANEL
    # two maps on one page must not share their style
    scope = "map" + hashlib.sha256(repr(nodes).encode()).hexdigest()[:8]
    parts = [
        f'<svg class="{scope}" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {layout.width:g} {height:g}" role="img" '
        f'style="max-width:{layout.width:g}px;width:100%;background:{style.PAPER}" font-family="DejaVu Sans, '
        'Verdana, sans-serif">',
        f"<style>.{scope} text{{fill:{style.INK}}} .{scope} .node{{cursor:pointer;outline:none}} .{scope} "
        f".detail{{display:none}} .{scope} .node:focus .detail{{display:inline}} .{scope} .node:hover .face,.{scope} "
        f".node:focus .face{{stroke-width:3}}</style>",
        f'<defs><marker id="{scope}tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
        'orient="auto">'
        f'<path d="M0 0 10 5 0 10z" fill="{style.FAINT}"/></marker></defs>',
    ]
    for top, bottom, rows, columns in layout.rows:
        place = f'x="{MARGIN / 2:g}" y="{top:g}" width="{layout.width - MARGIN:g}" height="{bottom - top:g}"'
        parts.append(f'<rect {place} fill="{style.STRIPE}"/>')
        lines = _row_title(layout, rows, columns).split("\n")
        first = (top + bottom) / 2 + 13 - 9 * len(lines)
        parts += [_text(MARGIN + 4, first + 18 * line, text, 12, anchor="start") for line, text in enumerate(lines)]
    parts += [_text(left + BOX[0] / 2, TOP / 2 + 7, part, 15, bold=True) for part, left in layout.columns.items()]
    for start, first, second, end in layout.arrows:
        curve = (
            f"M{start[0]:g} {start[1]:g}C{first[0]:g} {first[1]:g} {second[0]:g} {second[1]:g} {end[0]:g} {end[1]:g}"
        )
        parts.append(
            f'<path d="{curve}" fill="none" stroke="{style.FAINT}" stroke-width="1.8" marker-end="url(#{scope}tip)"/>'
        )
    panel = (
        f'x="{MARGIN / 2:g}" y="{layout.height:g}" width="{layout.width - MARGIN:g}" height="{PANEL - MARGIN / 2:g}" '
        'rx="7"'
    )
    parts.append(f'<rect {panel} fill="{style.GROUND}"/>')
    parts.append(_text(layout.width / 2, layout.height + PANEL / 2, "Click a block to read about it.", 13))
    for node in layout.nodes:
        left, top = layout.corner[node.name]
        face = style.BAND.get(node.part, style.GROUND)
        middle = left + BOX[0] / 2
        parts += [
            f'<g class="node" tabindex="0"><title>{html.escape(f"{node.name}: {node.kind}, {_size(node)}")}</title>',
            f'<rect class="face" x="{left:g}" y="{top:g}" width="{BOX[0]}" height="{BOX[1]}" rx="7" fill="{face}" '
            f'stroke="{style.INK}"/>',
            _text(middle, top + 18, node.name, 14, bold=True),
            _text(middle, top + 35, node.kind, 12),
            _text(middle, top + 52, _size(node), 12),
            f'<g class="detail"><rect {panel} fill="{face}" stroke="{style.INK}"/>',
            *(
                _text(MARGIN + 8, layout.height + 22 + 20 * line, text, 13, line == 0, "start")
                for line, text in enumerate(_detail(node))
            ),
            "</g></g>",
        ]
    return ClickableMap("\n".join([*parts, "</svg>"]), _numbers(nodes))


# Any size, any image
# --------------------------------------------------------------------------------------------------


def live_shapes(size: str = "n", side: int = 640, num_classes: int = 80, network: ModuleType | None = None) -> dict:
    """The shapes that one member of the family makes of a square image, computed on torch's meta
    device: no values, no memory.

    Args:
        size: n, s, m, l or x.
        side: of the image in pixels, a multiple of 32.
        network: the module that has YOLO; `yolostudy.network` of the edition in use where none is
            given.

    Returns:
        as `yolo_nodes` takes it: name -> (C, H, W), and "outputs", a list of three.
    """
    import torch

    if network is None:
        from ... import network
    with torch.device("meta"), torch.no_grad():
        features = network.YOLO(num_classes, size).eval().features(torch.zeros(1, 3, side, side))
    return {
        name: [_shape(m) for m in value] if name == "outputs" else _shape(value) for name, value in features.items()
    }


class LiveMap(Panel):
    """The clickable map under a choice of size and a slider for the image. `numbers` holds size,
    side, shapes, anchors and values.

    Args:
        as in `live_shapes`.
    """

    def __init__(self, size: str = "n", side: int = 640, num_classes: int = 80, network: ModuleType | None = None):
        import ipywidgets as widgets

        self.num_classes, self.network = num_classes, network
        self.size = widgets.Dropdown(options=list("nsmlx"), value=size, description="size", layout={"width": "150px"})
        self.side = widgets.IntSlider(
            value=side,
            min=32,
            max=1280,
            step=32,
            description="image side",
            continuous_update=False,
            layout={"width": "460px"},
        )
        self.map = widgets.HTML()
        controls = [self.size, self.side]
        self._begin([widgets.HBox(controls)], controls, self.map)

    def _draw(self) -> None:
        size, side = self.size.value, self.side.value
        shapes = live_shapes(size, side, self.num_classes, self.network)
        self.nodes = yolo_nodes(shapes)
        drawn = clickable_map(self.nodes)
        outputs = shapes.pop("outputs")
        shapes |= {f"stride {side // shape[1]}": shape for shape in outputs}
        anchors = sum(rows * columns for _, rows, columns in outputs)
        self.numbers = {
            "size": size,
            "side": side,
            "shapes": shapes,
            "anchors": anchors,
            "values": drawn.numbers["values"],
        }
        self.map.value = drawn.svg

    def _on_paper(self) -> dict[str, bytes]:
        return {"image/png": style.as_png(draw_map(self.nodes)[0])}

    def __repr__(self) -> str:
        return f"LiveMap(size {self.size.value}, {self.side.value} pixels)"


live_map = LiveMap


# The layout
# --------------------------------------------------------------------------------------------------


def _laid_out(nodes: Sequence[Node]) -> _Layout:
    """Columns in the order in which the parts first appear, rows from the largest map to the
    smallest; what shares a cell is stacked.
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
    return _Layout(tuple(nodes), corner, columns, rows, arrows, width, top)


def _arrow(start: tuple[float, float], end: tuple[float, float]) -> tuple[tuple[float, float], ...]:
    """A cubic curve: straight down or up within a column, else from the right side of one block to
    the left side of the other.
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


def _row_title(layout: _Layout, height: int, width: int) -> str:
    stride = layout.rows[0][2] / height
    return f"1/{stride:g}\n{height} × {width}" if stride > 1 else f"{height} × {width}"


def _size(node: Node) -> str:
    return " × ".join(str(number) for number in node.shape)


def _detail(node: Node) -> list[str]:
    channels, height, width = node.shape
    reads = f"Reads {' and '.join(node.inputs)}. " if node.inputs else ""
    # a narrow space: no reader takes it for a decimal point
    values = f"{channels * height * width:,}".replace(",", "\u202f")
    return [
        f"{node.name}: {node.kind}",
        node.detail,
        f"{reads}{channels} channels of {height} × {width}, {values} values an image.",
    ]


def _text(x: float, y: float, text: str, size: int, bold: bool = False, anchor: str = "middle") -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:g}" y="{y:g}" font-size="{size}" text-anchor="{anchor}"{weight}>{html.escape(text)}</text>'


def _numbers(nodes: Sequence[Node]) -> dict:
    return {
        "nodes": len(nodes),
        "arrows": sum(len(node.inputs) for node in nodes),
        "parts": dict(Counter(node.part for node in nodes)),
        "values": sum(node.shape[0] * node.shape[1] * node.shape[2] for node in nodes),
    }


def _shape(value) -> tuple[int, int, int]:
    return tuple(int(side) for side in tuple(getattr(value, "shape", value))[-3:])
