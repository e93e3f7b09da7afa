"""A network drawn as a map: parts are columns, map sizes are rows.

The eye follows the picture down and up again. One layout feeds two renderers: a figure for print,
and plain SVG whose blocks open by a click. The SVG needs neither a kernel nor a script, so it works
in a stored notebook as well. In the notebook, `LiveMap` lets the reader choose the size of the
network and of the image.
"""

from __future__ import annotations

import hashlib
import html
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path as Curve

from ...canvas import drawing, style
from ...canvas.panel import Panel
from .layout import BOX, MARGIN, TOP, Layout, lay_out
from .nodes import Node, network_shapes, yolo_nodes

DETAILS = 92  # pixels: height of the SVG's strip for details


# On paper
# --------------------------------------------------------------------------------------------------


@style.house()
def draw_network(nodes: Sequence[Node]) -> style.StudyFigure:
    """The map as a figure.

    Its numbers: nodes, arrows, parts (nodes in each), values (of all maps together).
    """
    layout = lay_out(nodes)
    figure, axes_at = drawing.by_pixel(layout.width, layout.height)
    axes = axes_at(0, 0, layout.width, layout.height)
    axes.set(xlim=(0, layout.width), ylim=(layout.height, 0))
    axes.axis("off")
    for top, bottom, height, width in layout.rows:
        stripe = (MARGIN / 2, top, layout.width - MARGIN / 2, bottom)
        drawing.frame(axes, stripe, "none", fill=True, facecolor=style.STRIPE, zorder=0)
        title = layout.row_title(height, width)
        axes.text(MARGIN + 4, (top + bottom) / 2, title, va="center", fontsize=9, linespacing=1.5)
    for part, left in layout.columns.items():
        axes.text(left + BOX[0] / 2, TOP / 2 + 2, part, ha="center", va="center", fontsize=11, weight="bold")
    for points in layout.arrows:
        curve = Curve(points, [Curve.MOVETO, *[Curve.CURVE4] * 3])
        look = dict(arrowstyle="-|>", mutation_scale=11, color=style.FAINT, linewidth=1.4, zorder=1)
        axes.add_patch(FancyArrowPatch(path=curve, **look))
    for node in layout.nodes:
        _draw_block(axes, node, *layout.corner[node.name])
    return figure.with_numbers(_numbers(nodes))


def _draw_block(axes, node: Node, left: float, top: float) -> None:
    look = dict(facecolor=style.BAND.get(node.part, style.GROUND), edgecolor=style.INK, linewidth=0.9, zorder=2)
    axes.add_patch(FancyBboxPatch((left, top), *BOX, boxstyle="round,pad=0,rounding_size=7", **look))
    for text, down, font in (
        (node.name, 15, dict(weight="bold", fontsize=10.5)),
        (node.kind, 32, dict(fontsize=8.5)),
        (_size(node), 48, dict(fontsize=9)),
    ):
        axes.text(left + BOX[0] / 2, top + down, text, ha="center", va="center", zorder=3, **font)


# As SVG
# --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ClickableMap:
    """The map as SVG.

    Hover over a block for its name and shape; click it, or reach it by Tab, for its details.
    """

    svg: str
    numbers: dict

    def __repr__(self) -> str:
        return f"ClickableMap({self.numbers['nodes']} blocks, {self.numbers['arrows']} arrows)"

    def _repr_html_(self) -> str:
        return self.svg


def clickable_map(nodes: Sequence[Node]) -> ClickableMap:
    """The map for a notebook, with the numbers of `draw_network`."""
    layout = lay_out(nodes)
    height = layout.height + DETAILS
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
        *_svg_ground(layout),
        *_svg_arrows(layout, scope),
    ]
    strip = (
        f'x="{MARGIN / 2:g}" y="{layout.height:g}" width="{layout.width - MARGIN:g}" '
        f'height="{DETAILS - MARGIN / 2:g}" rx="7"'
    )
    parts.append(f'<rect {strip} fill="{style.GROUND}"/>')
    parts.append(_text(layout.width / 2, layout.height + DETAILS / 2, "Click a block to read about it.", 13))
    for node in layout.nodes:
        parts += _svg_block(layout, node, strip)
    return ClickableMap("\n".join([*parts, "</svg>"]), _numbers(nodes))


def _svg_ground(layout: Layout) -> list[str]:
    """A stripe and a title for each row, a title for each column."""
    parts = []
    for top, bottom, rows, columns in layout.rows:
        place = f'x="{MARGIN / 2:g}" y="{top:g}" width="{layout.width - MARGIN:g}" height="{bottom - top:g}"'
        parts.append(f'<rect {place} fill="{style.STRIPE}"/>')
        lines = layout.row_title(rows, columns).split("\n")
        first = (top + bottom) / 2 + 13 - 9 * len(lines)
        parts += [_text(MARGIN + 4, first + 18 * line, text, 12, anchor="start") for line, text in enumerate(lines)]
    parts += [_text(left + BOX[0] / 2, TOP / 2 + 7, part, 15, bold=True) for part, left in layout.columns.items()]
    return parts


def _svg_arrows(layout: Layout, scope: str) -> list[str]:
    parts = []
    for start, first, second, end in layout.arrows:
        curve = (
            f"M{start[0]:g} {start[1]:g}C{first[0]:g} {first[1]:g} {second[0]:g} {second[1]:g} {end[0]:g} {end[1]:g}"
        )
        parts.append(
            f'<path d="{curve}" fill="none" stroke="{style.FAINT}" stroke-width="1.8" marker-end="url(#{scope}tip)"/>'
        )
    return parts


def _svg_block(layout: Layout, node: Node, strip: str) -> list[str]:
    """A block, and its details over the strip at the bottom while it is chosen."""
    left, top = layout.corner[node.name]
    face = style.BAND.get(node.part, style.GROUND)
    middle = left + BOX[0] / 2
    return [
        f'<g class="node" tabindex="0"><title>{html.escape(f"{node.name}: {node.kind}, {_size(node)}")}</title>',
        f'<rect class="face" x="{left:g}" y="{top:g}" width="{BOX[0]}" height="{BOX[1]}" rx="7" fill="{face}" '
        f'stroke="{style.INK}"/>',
        _text(middle, top + 18, node.name, 14, bold=True),
        _text(middle, top + 35, node.kind, 12),
        _text(middle, top + 52, _size(node), 12),
        f'<g class="detail"><rect {strip} fill="{face}" stroke="{style.INK}"/>',
        *(
            _text(MARGIN + 8, layout.height + 22 + 20 * line, text, 13, line == 0, "start")
            for line, text in enumerate(_detail(node))
        ),
        "</g></g>",
    ]


def _text(x: float, y: float, text: str, size: int, bold: bool = False, anchor: str = "middle") -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:g}" y="{y:g}" font-size="{size}" text-anchor="{anchor}"{weight}>{html.escape(text)}</text>'


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


def _size(node: Node) -> str:
    return drawing.shape_text(node.shape)


def _numbers(nodes: Sequence[Node]) -> dict:
    return {
        "nodes": len(nodes),
        "arrows": sum(len(node.inputs) for node in nodes),
        "parts": dict(Counter(node.part for node in nodes)),
        "values": sum(node.shape[0] * node.shape[1] * node.shape[2] for node in nodes),
    }


# Any size, any image
# --------------------------------------------------------------------------------------------------


class LiveMap(Panel):
    """A widget: the clickable map under a choice of size and a slider for the side of the image.

    `numbers` holds size, side, shapes, anchors and values.

    Args:
        as in `network_shapes`.
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
        shapes = network_shapes(size, side, self.num_classes, self.network)
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
        return {"image/png": style.as_png(draw_network(self.nodes))}

    def __repr__(self) -> str:
        return f"LiveMap(size {self.size.value}, {self.side.value} pixels)"
