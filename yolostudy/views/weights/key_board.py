"""What becomes of every name: a checkpoint's names on the left, a model's on the right, and lines
where a renaming brings them together.

A report counts names. The board shows where they stand, layer by layer, and how many of the model's
numbers hang on them, so that a shift by one layer or a branch that went missing is seen at once.
"""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ...canvas import drawing, style
from ...canvas.panel import Panel, in_notebook

ASIDE = "not asked for"  # a constant, which the renaming gives no name, or a name outside of the part
COLOURS = {
    "matched": style.HIT,
    "wrong shape": style.TRUTH,
    "missing": style.MISS,
    "unexpected": style.FALSE_ALARM,
    ASIDE: "#d5d9e0",
}
HATCH = {"unexpected": "////"}  # orange-red beside green wants a second sign
LISTED = 12  # names that the list under the board shows
ROW = 21  # pixels

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Key:
    """One tensor: its name on both sides, as far as it has one there.

    Attributes:
        key, shape: in the checkpoint, or None. layer: what the board folds it into there, such as
            "model.9", or "".
        name, own_shape, own_layer: the same in the model. Of an unexpected key, `name` is what the
            renaming gave.
        fate: a key of `COLOURS`. count: of the numbers in it, by the model's shape where it has
            one.
    """

    key: str | None
    shape: Shape | None
    layer: str
    name: str | None
    own_shape: Shape | None
    own_layer: str
    fate: str
    count: int


@dataclass(frozen=True, slots=True)
class KeyMap:
    """Every name of both sides: those of the checkpoint in its order, then those of the model that
    nothing reached.

    Attributes:
        order: all of the model's names.
    """

    keys: tuple[Key, ...]
    order: tuple[str, ...]

    @property
    def fates(self) -> dict[str, int]:
        """How many names have each fate."""
        found = Counter(key.fate for key in self.keys)
        return {fate: found[fate] for fate in COLOURS}

    @property
    def share(self) -> float:
        """Numbers that match, of all that are asked for, in 0…1."""
        asked = sum(key.count for key in self.keys if key.own_shape is not None and key.fate != ASIDE)
        return sum(key.count for key in self.keys if key.fate == "matched") / (asked or 1)

    def search(self, text: str = "", fate: str = "") -> tuple[Key, ...]:
        """Names, on either side, that hold the text and have the fate; "" stands for any."""
        return tuple(
            key for key in self.keys if fate in ("", key.fate) and (text in (key.key or "") or text in (key.name or ""))
        )

    def __str__(self) -> str:
        return (
            ", ".join(f"{count} {fate}" for fate, count in self.fates.items() if count)
            + f"; {self.share:.1%} of the numbers fit"
        )


def map_keys(state: Mapping, model, rename: Callable[[str], str | None] | None = None, part: str = "all") -> KeyMap:
    """Rename every key of a checkpoint and look whom it meets in a model. Nothing is copied.

    Args:
        state: names to tensors.
        model: any module, or its state dict.
        rename: a checkpoint's key to the model's name, None where it needs no place; the course's
            own `weights.rename_key` by default. Of two keys with one name the last counts, as in a
            dictionary, and the other is unexpected.
        part: "all", or a prefix such as "backbone".
    """
    if rename is None:
        from ...weights import rename_key as rename
    own = {name: tuple(tensor.shape) for name, tensor in getattr(model, "state_dict", lambda: model)().items()}
    asked = {name for name in own if part == "all" or name.startswith(f"{part}.")}
    names = {key: rename(key) for key in state}
    last = {name: key for key, name in names.items()}
    # The head of an Ultralytics checkpoint is one layer with two branches: a fold whose names go to
    # several of the model's is parted.
    reached: dict[str, set[str]] = {}
    for key, name in names.items():
        if name in own:
            reached.setdefault(_fold(key), set()).add(_fold(name))
    keys = []
    for key, tensor in state.items():
        name, shape = names[key], tuple(tensor.shape)
        layer = _fold(key, 3 if len(reached.get(_fold(key), ())) > 1 else 2)
        if not name or (part != "all" and not name.startswith(f"{part}.")):
            fate = ASIDE
        elif name not in asked or last[name] != key:
            fate = "unexpected"
        else:
            fate = "matched" if own[name] == shape else "wrong shape"
        there = fate != "unexpected" and name in own
        own_shape = own[name] if there else None
        keys.append(
            Key(key, shape, layer, name, own_shape, _fold(name) if there else "", fate, math.prod(own_shape or shape))
        )
    for name, shape in own.items():
        if name not in last:
            keys.append(
                Key(None, None, "", name, shape, _fold(name), "missing" if name in asked else ASIDE, math.prod(shape))
            )
    return KeyMap(tuple(keys), tuple(own))


def _fold(key: str, words: int = 2) -> str:
    return ".".join(key.split(".")[:-1][:words]) or key


@style.house()
def draw_keys(found: KeyMap, chosen: tuple[Key, ...] | None = None) -> style.StudyFigure:
    """The board. Each bar is a layer, cut by the fates of its names, with their number in it; on
    the right its share of the numbers.

    Args:
        chosen: what a search has found; layers without any of it are pale. None for all.
    """
    left = [*dict.fromkeys(key.layer for key in found.keys if key.layer)]
    right = [*dict.fromkeys(_fold(name) for name in found.order)]
    marked = {layer for key in (found.keys if chosen is None else chosen) for layer in (key.layer, key.own_layer)}
    high = max(len(left), len(right), 1) + 3  # rows: a header and a legend as well
    figure, axes_at = drawing.by_pixel(900, high * ROW)
    axes = axes_at(0, 0, 900, high * ROW)
    axes.set(xlim=(0, 900), ylim=(high - 1.75, -1.75))
    axes.axis("off")

    def bar(x: float, row: float, wide: float, fate: str, alpha: float = 1.0) -> None:
        axes.barh(
            row,
            wide,
            left=x,
            height=0.72,
            facecolor=COLOURS[fate],
            edgecolor=style.PAPER,
            hatch=HATCH.get(fate),
            alpha=alpha,
        )

    def write(x: float, row: float, text: object, size: int = 9, **look) -> None:
        axes.text(x, row, text, va="center", fontsize=size, **look)

    for x, title in ((150, "checkpoint: layers, names"), (500, "model: layers, names"), (740, "its numbers")):
        write(x, -1.05, title, 10, weight="bold")
    for layers, side, start in ((left, "layer", 150), (right, "own_layer", 500)):
        for row, layer in enumerate(layers):
            at, alpha = start, 1.0 if layer in marked else 0.2
            x, align = (start - 8, "right") if start == 150 else (start + 118, "left")
            write(x, row, layer if len(layer) <= 20 else f"{layer[:19]}…", ha=align, alpha=max(alpha, 0.35))
            here = Counter(key.fate for key in found.keys if getattr(key, side) == layer)
            for fate in filter(here.get, COLOURS):
                wide = 110 * here[fate] / here.total()
                bar(at, row, wide, fate, alpha)
                if wide >= 22:
                    plate = dict(boxstyle="square,pad=0.1", facecolor=COLOURS[fate], edgecolor="none", alpha=alpha)
                    write(at + wide / 2, row, here[fate], 8, ha="center", color=style.ink_on(COLOURS[fate]), bbox=plate)
                at += wide

    lines = Counter((key.layer, key.own_layer, key.fate) for key in found.keys if key.layer and key.own_layer)
    for (here, there, fate), count in lines.items():
        dashes = (0, (1.2, 0.8)) if fate == "wrong shape" else "solid"
        look = dict(
            color=COLOURS[fate],
            alpha=0.75 if {here, there} <= marked else 0.12,
            linestyle=dashes,
            solid_capstyle="butt",
        )
        axes.plot(
            (264, 496), (left.index(here), right.index(there)), linewidth=1.2 + 5 * count / max(lines.values()), **look
        )

    sizes = Counter()
    for key in found.keys:
        sizes[key.own_layer, key.fate] += key.count
    whole = {layer: sum(sizes[layer, fate] for fate in COLOURS) for layer in right}
    for row, layer in enumerate(right):
        at, alpha = 740, 1.0 if layer in marked else 0.2
        for fate in COLOURS:
            wide = 105 * sizes[layer, fate] / max(1, *whole.values())
            bar(at, row, wide, fate, alpha)
            at += wide
        write(at + 5, row, f"{whole[layer] / max(1, sum(whole.values())):.1%}", 8, alpha=max(alpha, 0.35))

    for number, (fate, count) in enumerate(found.fates.items()):
        bar(34 + 148 * number, high - 2.5, 14, fate)
        write(54 + 148 * number, high - 2.5, f"{count} {fate}")
    write(785, high - 2.5, f"{found.share:.1%} fit", 10, weight="bold")
    return figure


class KeyBoard(Panel):
    """The board with a search and a filter; the names found are listed under it. `numbers` is the
    `KeyMap`, `hits` what is listed.

    In a notebook it is live: when `rename_key` has changed it draws again after the cell that
    changed it.

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
        """Draw again if the course's `rename_key` is another one than at the last drawing."""
        with contextlib.suppress(Exception):  # a file that cannot be read just now: whoever wrote it is told elsewhere
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
            (key.key or "", _written(key.shape), key.name or "", _written(key.own_shape), key.fate)
            for key in self.hits[:LISTED]
        ]
        more = f"and {len(self.hits) - LISTED} more" if len(self.hits) > LISTED else "" if rows else "no such name"
        listed = drawing.table(("checkpoint", "shape", "model", "shape", "fate"), rows, "left") + more
        self.listing.value = listed if self.text.value.strip() or self.fate.value else ""


def _course_renaming() -> Callable[[str], str | None]:
    from ...weights import rename_key  # asked for anew each time: the learner's cell may have made another one

    return rename_key


def _written(shape: Shape | None) -> str:
    return "" if shape is None else " × ".join(map(str, shape)) or "one number"
