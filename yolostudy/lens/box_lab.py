"""Anchor points over an image, and what the widgets about boxes share: asking the exercise module, and one picture under some controls.

The learner's functions are asked through `ask`, which names the function and the shape when an answer cannot be drawn.
"""

from __future__ import annotations

import html
import io
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from matplotlib.patches import Rectangle
from PIL import Image

from . import style

EDGES = ("left", "top", "right", "bottom")
STRIDES = (8, 16, 32)


def ask(name: str, given: Callable | None, shape: Sequence[int] | None, *arguments, **options):
    """The answer of `boxes.<name>`, or of `given` in its place.

    Args:
        shape: what the answer must have, -1 for any number; None to take whatever comes.

    Errors: ValueError that names the function where the answer has another shape or is not finite.
    """
    if given is None:
        from .. import boxes

        given = getattr(boxes, name)
    answer = given(*arguments, **options)
    if shape is None:
        return answer
    found = tuple(getattr(answer, "shape", ()))
    if len(found) != len(shape) or any(wanted not in (-1, side) for wanted, side in zip(shape, found, strict=True)):
        kind = f"shape {found}" if hasattr(answer, "shape") else type(answer).__name__
        raise ValueError(f"{name} gave {kind}, but {tuple(shape)} is needed here: check({f'boxes.{name}'!r}) says more.")
    if not bool(answer.detach().isfinite().all()):
        raise ValueError(f"{name} gave a value that is not finite: {answer.detach().flatten()[:8].tolist()}.")
    return answer


def frame(axes, box: Sequence[float], colour: str, **options) -> None:
    """A box as four lines, x1 y1 x2 y2."""
    x1, y1, x2, y2 = (float(value) for value in box)
    axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, **{"fill": False, "edgecolor": colour, "linewidth": 1.8, **options}))


def show_image(axes, image: np.ndarray | None, paleness: float = 0.0) -> None:
    """The image as ground of a drawing, in pixels and without a grid. `paleness` 1 leaves white paper."""
    axes.grid(False)
    axes.set_aspect("equal")
    if image is not None:
        ground = image * (1 - paleness) + 255 * paleness
        axes.imshow(ground.astype(np.uint8), extent=(0, image.shape[1], image.shape[0], 0), interpolation="bicubic")


def settle(*panels) -> None:
    """Leave what is drawn within some axes out of the search for a layout: it takes no room there, and a third of the time."""
    for axes in panels:
        for artist in (*axes.patches, *axes.lines, *axes.texts, *axes.collections):
            artist.set_in_layout(False)


def quick_png(figure: style.StudyFigure) -> bytes:
    """The figure for a widget, which wants speed where a stored notebook wants few bytes."""
    with style.house():
        figure.canvas.draw()
    stream = io.BytesIO()
    Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


class Panel:
    """Controls over one picture. Moving a control draws anew; `numbers` says what is shown now.

    A class built on this makes its controls, calls `_begin`, and gives `_look() -> (numbers, figure)`.
    """

    def _begin(self, rows: Sequence, controls: Sequence) -> None:
        """Show `rows` of widgets over the picture, and draw anew whenever a value of `controls` changes."""
        import ipywidgets as widgets

        self.picture = widgets.Image(format="png", layout={"max_width": "900px"})
        self.message = widgets.HTML()
        self.numbers: dict = {}
        self._still = False
        self._draw()  # the first time an error is raised, because the cell that made this can show it
        for control in controls:
            control.observe(lambda _: self._redraw(), "value")
        self.widget = widgets.VBox([*rows, self.picture, self.message])

    @contextmanager
    def _at_once(self) -> Iterator[None]:
        """Several controls move and the picture is drawn once."""
        self._still = True
        try:
            yield
        finally:
            self._still = False
        self._redraw()

    def _look(self):
        raise NotImplementedError

    def _draw(self) -> None:
        self.numbers, self.figure = self._look()
        self.picture.value = quick_png(self.figure)

    def _redraw(self) -> None:
        if self._still:
            return
        try:
            self._draw()
            self.message.value = ""
        except Exception as error:
            # Inside a widget an exception would be lost, and the picture would silently stay what it was.
            self.message.value = f"<b>Not drawn.</b> {html.escape(f'{type(error).__name__}: {error}')}"

    def __repr__(self) -> str:
        return type(self).__name__

    def _repr_mimebundle_(self, **options) -> dict:
        # Where no widget can run, a stored notebook still shows the picture; the plain text holds no number, nbval compares it.
        picture = b64encode(style.as_png(self.figure)).decode()
        return {**self.widget._repr_mimebundle_(**options), "image/png": picture, "text/plain": repr(self)}


def anchor_survey(
    box: Sequence[float],
    image_size: tuple[int, int],
    strides: Sequence[int] = STRIDES,
    make_anchors: Callable | None = None,
    box_to_distance: Callable | None = None,
) -> dict:
    """The anchor points of each level, and how one anchor of each, the nearest to the middle of a box, would describe that box.

    Args:
        box: x1 y1 x2 y2 in pixels.
        image_size: (H, W) in pixels, divisible by the strides.

    Returns:
        box, image_size, strides; and a list with one entry per level: points (n, 2) in pixels, inside (how many lie within the box),
        nearest (index), anchor (2,) in pixels, distances (4,) in units of the stride.
    """
    import torch

    sizes = [(image_size[0] // stride, image_size[1] // stride) for stride in strides]
    count = sum(height * width for height, width in sizes)
    anchors, steps = ask("make_anchors", make_anchors, None, sizes, strides)
    ask("make_anchors", lambda *_: anchors, (count, 2))
    ask("make_anchors", lambda *_: steps, (count, 1))
    numbers = {key: [] for key in ("points", "inside", "nearest", "anchor", "distances")}
    target, start = torch.tensor([float(value) for value in box]), 0
    for (height, width), stride in zip(sizes, strides, strict=True):
        level = slice(start, start := start + height * width)
        points = (anchors[level] * steps[level]).double().numpy()
        within = ((points > target[:2].numpy()) & (points < target[2:].numpy())).all(axis=1)
        nearest = int(np.square(points - (target[:2] + target[2:]).numpy() / 2).sum(axis=1).argmin())
        distances = ask("box_to_distance", box_to_distance, (1, 4), anchors[level][nearest][None].float(), target[None] / stride)
        numbers["points"].append(points)
        numbers["inside"].append(int(within.sum()))
        numbers["nearest"].append(nearest)
        numbers["anchor"].append(points[nearest])
        numbers["distances"].append(distances[0].double().numpy())
    return {"box": target.tolist(), "image_size": tuple(image_size), "strides": tuple(strides), **numbers}


@style.house()
def draw_anchors(numbers: dict, image: np.ndarray | None = None) -> style.StudyFigure:
    """One picture a level: its anchor points, those within the box filled, and the four distances of one of them."""
    height, width = numbers["image_size"]
    x1, y1, x2, y2 = numbers["box"]
    figure, panels = style.figure(1, len(numbers["strides"]), height=3.5, squeeze=False)
    for level, axes in enumerate(panels[0]):
        stride, points = numbers["strides"][level], numbers["points"][level]
        show_image(axes, image, 0.45)
        axes.set(xlim=(0, width), ylim=(height, 0), xlabel="x in pixels", title=f"stride {stride}: {len(points)} anchor points")
        within = ((points > (x1, y1)) & (points < (x2, y2))).all(axis=1)
        axes.plot(*points[~within].T, ".", color=style.INK, markersize=2.5, alpha=0.75)
        axes.plot(*points[within].T, ".", color=style.CYCLE[1], markersize=5)
        frame(axes, numbers["box"], style.TRUTH, linewidth=2.2)
        anchor, distances = numbers["anchor"][level], numbers["distances"][level]
        for (dx, dy), distance, edge in zip(((-1, 0), (0, -1), (1, 0), (0, 1)), distances, EDGES, strict=True):
            tip = anchor + distance * stride * np.array([dx, dy])
            axes.annotate(
                "", tip, anchor, arrowprops={"arrowstyle": "-|>", "color": style.INK, "linewidth": 1.6, "shrinkA": 0, "shrinkB": 0}
            )
            align = dict(zip(EDGES, (("right", "center"), ("center", "bottom"), ("left", "center"), ("center", "top")), strict=True))[edge]
            note = {"facecolor": style.PAPER, "edgecolor": "none", "alpha": 0.8, "pad": 1.0}
            place = np.clip(tip + 2.5 * np.array([dx, dy]), (0.09 * width, 0.05 * height), (0.91 * width, 0.95 * height))
            axes.text(*place, f"{distance:.2f}", ha=align[0], va=align[1], fontsize=9, weight="bold", bbox=note)
        axes.plot(*anchor, "o", color=style.CYCLE[1], markeredgecolor=style.INK, markersize=7)
    panels[0][0].set_ylabel("y in pixels")
    settle(*panels[0])
    return figure
