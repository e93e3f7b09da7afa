"""What several views draw: a box, an image as background, axes by the pixel, a table, an error."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from . import style


def by_pixel(width: float, height: float) -> tuple[style.StudyFigure, Callable[[float, float, float, float], Axes]]:
    """A figure of this size in pixels, and a function that puts axes into it.

    The function takes left and top, from the upper left corner, then width and height.
    """
    figure, axes = style.figure(width=width / style.DPI, height=height / style.DPI)
    figure.set_layout_engine("none")
    axes.remove()

    def axes_at(left: float, top: float, wide: float, high: float) -> Axes:
        return figure.add_axes((left / width, 1 - (top + high) / height, wide / width, high / height))

    return figure, axes_at


def ground(axes: Axes, image: np.ndarray | None, paleness: float = 0.0, interpolation: str = "bicubic") -> None:
    """Draw the whole image as background, in pixels and without a grid.

    Args:
        paleness: 0 shows the image as it is, 1 leaves white paper.
    """
    axes.grid(False)
    axes.set_aspect("equal")
    if image is not None:
        shown = (image * (1 - paleness) + 255 * paleness).astype(np.uint8)
        axes.imshow(shown, extent=(0, image.shape[1], image.shape[0], 0), interpolation=interpolation)
        axes.set(xlim=(0, image.shape[1]), ylim=(image.shape[0], 0))


def frame(axes: Axes, box: Sequence[float], colour: str, **options) -> None:
    """Draw the outline of a box x1 y1 x2 y2."""
    x1, y1, x2, y2 = (float(value) for value in box)
    axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, **dict(fill=False, edgecolor=colour, linewidth=1.8) | options))


def arrow(axes: Axes, start: Sequence[float], tip: Sequence[float], colour: str, linewidth: float, **options) -> None:
    """Draw an arrow that ends exactly at `tip`."""
    axes.annotate(
        "",
        tip,
        start,
        arrowprops=dict(arrowstyle="-|>", color=colour, linewidth=linewidth, shrinkA=0, shrinkB=0, **options),
    )


def settle(*panels: Axes) -> None:
    """Leave what is drawn inside these axes out of the layout, which saves a third of the time.

    It must need no room outside the axes.
    """
    for axes in panels:
        for artist in (*axes.patches, *axes.lines, *axes.texts, *axes.collections):
            artist.set_in_layout(False)


def table(header: Sequence[str], rows: Sequence[Sequence[str]], align: str = "right", marked: int | None = None) -> str:
    """Plain text as an HTML table, with one row marked."""
    look = f"style='text-align:{align}; padding:2px 12px'"
    mark = f" style='background:{style.MISS}; color:{style.INK}'"

    def line(kind: str, row: Sequence[str]) -> str:
        return "".join(f"<{kind} {look}>{html.escape(text)}</{kind}>" for text in row)

    body = "".join(f"<tr{mark if number == marked else ''}>{line('td', row)}</tr>" for number, row in enumerate(rows))
    head = f"<thead><tr>{line('th', header)}</tr></thead>" if header else ""
    return f"<table>{head}<tbody>{body}</tbody></table>"


def shape_text(shape: Sequence[int] | None, missing: str = "nothing") -> str:
    """A shape as `64 × 3 × 3`; () is one number, and None is `missing`."""
    return missing if shape is None else " × ".join(map(str, shape)) or "one number"


def in_words(error: Exception) -> str:
    """Class and first line of an exception."""
    first = str(error).splitlines()[0] if str(error) else ""
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def pale(image: np.ndarray, shades: int, darkest: int, max_side: int | None = None) -> np.ndarray:
    """An image in a few light greys, (H, W, 3) uint8, so that coloured marks stand out.

    Args:
        image: (H, W, 3) uint8.
        shades: number of greys; few survive the palette of a small PNG.
        darkest: grey of black, 0…255; white stays white.
        max_side: leave out rows and columns until the longer side has about this many pixels.
    """
    step = 1 if max_side is None else max(1, max(image.shape[:2]) // max_side)
    grey = image[::step, ::step].mean(axis=2, keepdims=True) / 255
    grey = (grey * (shades - 1)).round() / (shades - 1)
    return np.repeat(darkest + (255 - darkest) * grey, 3, axis=2).astype(np.uint8)
