"""The house style: colours, sizes and fonts of every picture.

Readers with any common colour deficiency can tell the four colours of a judged detection apart
(tested with the matrices of Machado, Oliveira and Fernandes, 2009), and false alarms are dashed as
well. Figures do not use pyplot: they need no screen, leave no global state behind, and the bytes of
their PNG depend only on what is drawn.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageFont

TRUTH = "#8a2be2"  # purple: what the annotation says
HIT = "#00b368"  # green: a prediction that found a truth
MISS = "#ffe119"  # yellow: a truth that no prediction found
FALSE_ALARM = "#e8380d"  # orange-red and dashed: a prediction that found nothing
INK = "#1f2430"  # text and halos
FAINT = "#8b93a3"  # grid, axes, arrows
PAPER = "#ffffff"
GROUND = "#eef0f4"  # between the pictures of a sheet

# Lines of a chart and keypoints, in this order: Okabe and Ito's colours (2008), the darkest first.
CYCLE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#5b5b5b")
BAND = {"backbone": "#d6e6f5", "top-down": "#fbe3cf", "bottom-up": "#f3d6e4", "head": "#d3eee2"}
STRIPE = "#f6f7f9"  # a row of the network map
# a scale on which zero is dark: even steps of lightness, legible for colour-blind readers
HEAT = matplotlib.colormaps["viridis"]
# a scale on which zero is pale; few steps, because a small PNG has few colours
HEAT_ON_PAPER = matplotlib.colormaps["YlGnBu"].resampled(9)

WIDTH = 9.0  # inches; 900 pixels at DPI, what a notebook's column shows without scaling
ROW_HEIGHT = 2.9  # inches for one row of axes
DPI = 100
MAX_BYTES = 110_000  # of one stored picture: notebooks keep their outputs in the repository

RC = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so it is the same everywhere
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 10,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.prop_cycle": matplotlib.cycler(color=CYCLE),
    "grid.color": "#e3e6ec",
    "grid.linewidth": 0.8,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "text.color": INK,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
}


house = functools.partial(matplotlib.rc_context, RC)
"""The house style while a function draws: `@style.house()` above it, or `with style.house():`."""


class StudyFigure(Figure):
    """A figure that shows itself in a notebook as the PNG of `as_png`, and knows what it shows.

    Every public `draw_*` of the course returns one of these, or a `Picture`.

    Attributes:
        numbers: what is drawn, as data: for tests, and for the next cell.
    """

    numbers: object = None

    def with_numbers(self, numbers: object) -> StudyFigure:
        """This figure, once it is drawn, with the numbers that it shows."""
        self.numbers = numbers
        return self

    def _ipython_display_(self) -> None:
        # This hook comes before the formatter that pyplot registers for every Figure. The plain
        # text holds no number, because nbval compares it.
        from IPython.display import display

        display({"image/png": as_png(self), "text/plain": "Figure"}, raw=True)


def figure(
    rows: int = 1, columns: int = 1, *, width: float = WIDTH, height: float | None = None, **subplots
) -> tuple[StudyFigure, np.ndarray]:
    """A figure of `rows` × `columns` axes.

    Add titles, legends and texts inside `house()`, or they do not have the house style.

    Args:
        width, height: in inches; the height is ROW_HEIGHT for each row by default.
        subplots: passed on to `Figure.subplots` (sharex, width_ratios, squeeze, …).

    Returns:
        the figure, and its axes as `Figure.subplots` returns them: one, or an array.
    """
    with house():
        made = StudyFigure(
            figsize=(width, ROW_HEIGHT * rows if height is None else height), dpi=DPI, layout="constrained"
        )
        FigureCanvasAgg(made)
        return made, made.subplots(rows, columns, **subplots)


def as_png(made: Figure) -> bytes:
    """The figure as PNG of at most MAX_BYTES. The same figure gives the same bytes.

    It has full colour where that fits, else a palette, else fewer pixels.
    """
    return image_as_png(_rendered(made))


def quick_png(made: Figure) -> bytes:
    """The figure as PNG for a widget: quick to make, and larger than `as_png`."""
    return _saved(_rendered(made), "PNG", compress_level=1)


def _rendered(made: Figure) -> Image.Image:
    with house():
        made.canvas.draw()
        return Image.fromarray(np.asarray(made.canvas.buffer_rgba())).convert("RGB")


def image_as_png(image: np.ndarray | Image.Image) -> bytes:
    """An image, (H, W, 3) uint8, as PNG of at most MAX_BYTES.

    For a photograph `as_jpeg` is better at the same size.
    """

    def save(picture: Image.Image, colours: int | None) -> bytes:
        return _saved(
            picture if colours is None else picture.quantize(colours, dither=Image.Dither.NONE), "PNG", optimize=True
        )

    return _first_that_fits(
        image if isinstance(image, Image.Image) else Image.fromarray(image), save, (None, 256, 128, 64)
    )


class Picture:
    """An image, (H, W, 3) uint8 RGB, that shows itself in a notebook.

    Attributes:
        numbers: what is shown, as data, or None.
    """

    def __init__(self, image: np.ndarray, numbers: Mapping | None = None):
        self.image, self.numbers = image, numbers

    def __repr__(self) -> str:
        return f"Picture({self.image.shape[1]} × {self.image.shape[0]})"

    def _repr_jpeg_(self) -> bytes:
        return as_jpeg(self.image)


def as_jpeg(image: np.ndarray) -> bytes:
    """A photograph, (H, W, 3) uint8, as JPEG of at most MAX_BYTES.

    It has the best quality that fits, else fewer pixels.
    """

    def save(picture: Image.Image, choice: tuple[int, int]) -> bytes:
        return _saved(picture, "JPEG", quality=choice[0], subsampling=choice[1])

    # Full colour resolution comes first, because thin coloured lines smear without it.
    return _first_that_fits(
        Image.fromarray(image), save, ((92, 0), (85, 0), (75, 0), (65, 0), (75, 2), (65, 2), (55, 2), (45, 2))
    )


def _first_that_fits(picture: Image.Image, save: Callable[[Image.Image, object], bytes], choices: Sequence) -> bytes:
    """The first choice that fits in MAX_BYTES; where none does, the picture is made smaller."""
    while True:
        for choice in choices:
            content = save(picture, choice)
            if len(content) <= MAX_BYTES or picture.width <= 16:
                return content
        picture = picture.resize(
            (max(1, picture.width * 4 // 5), max(1, picture.height * 4 // 5)), Image.Resampling.LANCZOS
        )


def _saved(picture: Image.Image, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


@functools.cache
def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans of this size in pixels, from matplotlib's folder: no system font is needed."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size)


def cycle(number: int) -> str:
    """The colour with this number in CYCLE; after the last comes the first."""
    return CYCLE[number % len(CYCLE)]


def rgb(colour: str) -> tuple[int, int, int]:
    """`#rrggbb` as three numbers 0…255."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def luminance(colour: str) -> float:
    """Relative luminance 0…1 of sRGB (WCAG 2.2)."""
    red, green, blue = (
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in np.array(rgb(colour)) / 255
    )
    return float(0.2126 * red + 0.7152 * green + 0.0722 * blue)


def contrast(first: str, second: str) -> float:
    """Contrast ratio 1…21 (WCAG 2.2); text wants 4.5."""
    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


def ink_on(ground: str) -> str:
    """Dark or white text, whichever reads better on `ground`."""
    return max((INK, PAPER), key=lambda colour: contrast(colour, ground))
