"""The board of names: a checkpoint's layers left, a model's right, and lines between them.

A report counts names. The board shows them layer by layer, with the share of the model's values
that each layer holds, so a shift by one layer or a missing branch is seen at once.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Mapping

from ...canvas import drawing, style
from ...canvas.drawing import shape_text
from ...canvas.panel import Panel, in_notebook
from .key_map import ASIDE, Key, KeyMap, layer_of, map_keys

COLOURS = {
    "matched": style.HIT,
    "wrong shape": style.TRUTH,
    "missing": style.MISS,
    "unexpected": style.FALSE_ALARM,
    ASIDE: "#d5d9e0",
}
HATCH = {"unexpected": "////"}  # orange-red beside green needs a second sign
MAX_LISTED = 12  # names in the list under the board
ROW = 21  # pixels
CHECKPOINT, MODEL, VALUES = 150, 500, 740  # left ends of the three columns of bars, in pixels


@style.house()
def draw_keys(found: KeyMap, chosen: tuple[Key, ...] | None = None) -> style.StudyFigure:
    """The board.

    Each bar is a layer, divided by the fates of its names, with their number in it; on the right
    the layer's share of the values. Its numbers: the `KeyMap`.

    Args:
        chosen: the result of a search; layers without any of it are pale. None for all.
    """
    left = [*dict.fromkeys(key.layer for key in found.keys if key.layer)]
    right = [*dict.fromkeys(layer_of(name) for name in found.order)]
    marked = {layer for key in (found.keys if chosen is None else chosen) for layer in (key.layer, key.own_layer)}
    high = max(len(left), len(right), 1) + 3  # rows: a header and a legend as well
    figure, axes_at = drawing.by_pixel(900, high * ROW)
    axes = axes_at(0, 0, 900, high * ROW)
    axes.set(xlim=(0, 900), ylim=(high - 1.75, -1.75))
    axes.axis("off")
    for x, title in (
        (CHECKPOINT, "checkpoint: layers, names"),
        (MODEL, "model: layers, names"),
        (VALUES, "its numbers"),
    ):
        _write(axes, x, -1.05, title, 10, weight="bold")
    _draw_layers(axes, found, left, "layer", marked)
    _draw_layers(axes, found, right, "own_layer", marked)
    _draw_lines(axes, found, left, right, marked)
    _draw_values(axes, found, right, marked)
    for number, (fate, count) in enumerate(found.fates.items()):
        _bar(axes, 34 + 148 * number, high - 2.5, 14, fate)
        _write(axes, 54 + 148 * number, high - 2.5, f"{count} {fate}")
    _write(axes, 785, high - 2.5, f"{found.share:.1%} fit", 10, weight="bold")
    return figure.with_numbers(found)


def _bar(axes, x: float, row: float, wide: float, fate: str, alpha: float = 1.0) -> None:
    look = dict(facecolor=COLOURS[fate], edgecolor=style.PAPER, hatch=HATCH.get(fate), alpha=alpha)
    axes.barh(row, wide, left=x, height=0.72, **look)


def _write(axes, x: float, row: float, text: object, size: int = 9, **look) -> None:
    axes.text(x, row, text, va="center", fontsize=size, **look)


def _draw_layers(axes, found: KeyMap, layers: list[str], side: str, marked: set[str]) -> None:
    """The names of the layers on one side, and a bar for each; `side` is an attribute of Key."""
    start = CHECKPOINT if side == "layer" else MODEL
    x, align = (start - 8, "right") if side == "layer" else (start + 118, "left")
    for row, layer in enumerate(layers):
        at, alpha = start, 1.0 if layer in marked else 0.2
        _write(axes, x, row, layer if len(layer) <= 20 else f"{layer[:19]}…", ha=align, alpha=max(alpha, 0.35))
        here = Counter(key.fate for key in found.keys if getattr(key, side) == layer)
        for fate in filter(here.get, COLOURS):
            wide = 110 * here[fate] / here.total()
            _bar(axes, at, row, wide, fate, alpha)
            if wide >= 22:
                plate = dict(boxstyle="square,pad=0.1", facecolor=COLOURS[fate], edgecolor="none", alpha=alpha)
                look = dict(ha="center", color=style.ink_on(COLOURS[fate]), bbox=plate)
                _write(axes, at + wide / 2, row, here[fate], 8, **look)
            at += wide


def _draw_lines(axes, found: KeyMap, left: list[str], right: list[str], marked: set[str]) -> None:
    """A line for each pair of layers, the thicker the more names it stands for."""
    lines = Counter((key.layer, key.own_layer, key.fate) for key in found.keys if key.layer and key.own_layer)
    for (here, there, fate), count in lines.items():
        look = dict(
            color=COLOURS[fate],
            alpha=0.75 if {here, there} <= marked else 0.12,
            linestyle=(0, (1.2, 0.8)) if fate == "wrong shape" else "solid",
            solid_capstyle="butt",
        )
        ends = (CHECKPOINT + 114, MODEL - 4), (left.index(here), right.index(there))
        axes.plot(*ends, linewidth=1.2 + 5 * count / max(lines.values()), **look)


def _draw_values(axes, found: KeyMap, layers: list[str], marked: set[str]) -> None:
    """A bar for the values of each of the model's layers, with its share of all."""
    sizes = Counter()
    for key in found.keys:
        sizes[key.own_layer, key.fate] += key.count
    whole = {layer: sum(sizes[layer, fate] for fate in COLOURS) for layer in layers}
    for row, layer in enumerate(layers):
        at, alpha = VALUES, 1.0 if layer in marked else 0.2
        for fate in COLOURS:
            wide = 105 * sizes[layer, fate] / max(1, *whole.values())
            _bar(axes, at, row, wide, fate, alpha)
            at += wide
        _write(axes, at + 5, row, f"{whole[layer] / max(1, sum(whole.values())):.1%}", 8, alpha=max(alpha, 0.35))


# In the notebook
# --------------------------------------------------------------------------------------------------


class KeyBoard(Panel):
    """A widget: the board with a search and a filter; the names found are listed under it.

    `numbers` is the `KeyMap`, `hits` the names found. In a notebook it redraws after a cell that
    changed `rename_key`.

    Args:
        state, model, rename, part: as in `map_keys`.
    """

    def __init__(self, state: Mapping, model, rename: Callable[[str], str | None] | None = None, part: str = "all"):
        import ipywidgets as widgets

        self.state, self.model, self.rename, self.part = state, model, rename, part
        self.text = widgets.Text(placeholder="search: sppf, bn.bias, model.22", layout={"width": "330px"})
        self.fate = widgets.Dropdown(
            options=[("every fate", ""), *((fate, fate) for fate in COLOURS)], layout={"width": "170px"}
        )
        self.picture = widgets.Image(format="png", layout={"max_width": "900px"})
        self.listing = widgets.HTML()
        controls = [self.text, self.fate]
        self._begin([widgets.HBox(controls)], controls, widgets.VBox([self.picture, self.listing]))
        if in_notebook():
            from IPython import get_ipython

            get_ipython().events.register("post_run_cell", self.follow)

    def update(self, rename: Callable[[str], str | None]) -> None:
        """Draw with another renaming."""
        self.rename = rename
        self._redraw()

    def follow(self, *_: object) -> None:
        """Redraw if the course's `rename_key` is another one than at the last drawing."""
        # A file with a mistake cannot be imported just now; the cell that wrote it says so.
        with contextlib.suppress(Exception):
            if self.rename is None and _course_renaming() is not self._drawn_with:
                self._redraw()

    def _look(self):
        self._drawn_with = self.rename or _course_renaming()
        numbers = map_keys(self.state, self.model, self._drawn_with, self.part)
        asked = self.text.value.strip(), self.fate.value
        self.hits = numbers.search(*asked)
        return numbers, draw_keys(numbers, self.hits if any(asked) else None)

    def _draw(self) -> None:
        super()._draw()
        rows = [
            (key.key or "", shape_text(key.shape, ""), key.name or "", shape_text(key.own_shape, ""), key.fate)
            for key in self.hits[:MAX_LISTED]
        ]
        hidden = len(self.hits) - len(rows)
        more = f"and {hidden} more" if hidden else "" if rows else "no such name"
        listed = drawing.table(("checkpoint", "shape", "model", "shape", "fate"), rows, "left") + more
        self.listing.value = listed if self.text.value.strip() or self.fate.value else ""


def _course_renaming() -> Callable[[str], str | None]:
    # imported anew each time: a cell of the learner may have changed it
    from ...weights import rename_key

    return rename_key
