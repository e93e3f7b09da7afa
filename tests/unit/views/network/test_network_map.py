"""The network map: its layout, its numbers, and its SVG."""

import numpy as np
import pytest

from yolostudy import views
from yolostudy.canvas import style
from yolostudy.views.network import layout

SHAPES = {
    "P2": (32, 160, 96), "P3": (64, 80, 48), "P4": (128, 40, 24), "P5": (256, 20, 12), "C": (128, 40, 24), "X": (64, 80, 48),
    "Y": (128, 40, 24), "Z": (256, 20, 12), "outputs": [(84, 80, 48), (84, 40, 24), (84, 20, 12)],
}  # fmt: skip


def test_the_map_of_the_detector():
    nodes = views.yolo_nodes(SHAPES)
    figure = views.draw_network(nodes)
    numbers = figure.numbers
    values = 3 * 640 * 384 + sum(c * h * w for c, h, w in [*list(SHAPES.values())[:-1], *SHAPES["outputs"]])
    assert numbers == {
        "nodes": 12,
        "arrows": 15,
        "parts": {"backbone": 5, "top-down": 2, "bottom-up": 2, "head": 3},
        "values": values,
    }
    assert len(style.as_png(figure)) <= style.MAX_BYTES
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert {"image", "P5", "256 × 20 × 12", "stride 32"} <= set(texts) and min(
        text.get_fontsize() for text in figure.axes[0].texts
    ) >= 8


def test_the_clickable_map_is_well_formed_and_needs_no_script():
    from xml.etree import ElementTree

    made = views.clickable_map(views.yolo_nodes(SHAPES))
    root = ElementTree.fromstring(made.svg)
    titles = [title.text for title in root.iter("{http://www.w3.org/2000/svg}title")]
    assert len(titles) == made.numbers["nodes"] and "P4: halve, CSP layer, 128 × 40 × 24" in titles
    assert "<script" not in made.svg and "onclick" not in made.svg
    assert made.svg == views.clickable_map(views.yolo_nodes(SHAPES)).svg


def test_blocks_of_one_cell_do_not_overlap_and_strangers_are_named():
    nodes = [views.Node(name, "block", (8, size, size), inputs) for name, size, inputs in
             [("a", 8, ()), ("b", 8, ("a",)), ("c", 4, ("b",)), ("<d>", 4, ("c",))]]  # fmt: skip
    placed = layout.lay_out(nodes)
    tops = sorted(top for _, top in placed.corner.values())
    assert min(np.diff(tops)) >= layout.BOX[1]
    assert "&lt;d&gt;" in views.clickable_map(nodes).svg
    with pytest.raises(ValueError, match="a reads nobody, which is no node"):
        views.draw_network([views.Node("a", "block", (1, 1, 1), ("nobody",))])
