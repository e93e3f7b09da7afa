"""The shares of the loss painted on an image, level by level, and the weights of its positives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, PowerNorm
from matplotlib.ticker import MaxNLocator

from ...canvas import drawing, style
from ...canvas.panel import Panel
from ..columns import LOSS_PARTS
from .attribution import Attribution, loss_breakdown
from .looks import GREY, short

LEVEL_COLOURS = (style.CYCLE[0], style.CYCLE[5], style.CYCLE[6])


def _transparent_heat() -> ListedColormap:
    """From transparent over yellow to dark red: where there is no share, the image shows."""
    colours = matplotlib.colormaps["YlOrRd"](np.linspace(0.15, 1, 256))
    colours[:, 3] = np.linspace(0, 1, 256) ** 0.5 * 0.9
    return ListedColormap(colours)


HEAT = _transparent_heat()


@style.house()
def draw_loss_shares(
    rows: Sequence[tuple[str, Attribution, str]],
    picture: np.ndarray,
    image: int = 0,
    class_names: Sequence[str] | None = None,
) -> style.StudyFigure:
    """The shares painted on an image, level by level, and three bars that each sum to the whole.

    Its numbers: title -> `loss_breakdown`.

    Args:
        rows: title, attribution, part; one row of pictures for each.
        picture: (H, W, 3) uint8, the image with the index `image`.
    """
    # Every row needs 1.9 inches of picture; the colour bar takes the rest.
    figure, axes = style.figure(
        len(rows), 4, height=2.12 * len(rows) + 0.75, width_ratios=(1, 1, 1, 1.5), squeeze=False
    )
    percents = []
    for _, attribution, part in rows:
        share = np.nan_to_num(attribution.shares[part][image])
        percents.append(100 * share / max(share.sum(), 1e-12))
    norm = PowerNorm(0.5, vmin=0, vmax=max(percent.max() for percent in percents))
    ground, numbers = drawing.pale(picture, shades=10, darkest=127, max_side=200), {}
    for line, (row, percent, (title, attribution, part)) in enumerate(zip(axes, percents, rows)):
        for level, axis in enumerate(row[:3]):
            axis.imshow(ground, extent=(0, picture.shape[1], picture.shape[0], 0), interpolation="nearest")
            _draw_level(axis, attribution, image, level, percent, norm)
            axis.set(xlim=(0, picture.shape[1]), ylim=(picture.shape[0], 0), xticks=[], yticks=[])
            if line == 0:
                axis.set_title(f"stride {attribution.strides[level]}", fontsize=9.5, weight="normal")
        row[0].set_ylabel(title, weight="bold")
        numbers[title] = loss_breakdown(attribution, image, part)
        _draw_bars(row[3], numbers[title], attribution, image, class_names)
    bar = figure.colorbar(
        ScalarMappable(norm, HEAT), ax=axes[:, :3], orientation="horizontal", aspect=45, pad=0.02, shrink=0.8
    )
    names = {LOSS_PARTS[part] for _, _, part in rows}
    bar.set_label(f"share of this image's {f'{names.pop()} loss' if len(names) == 1 else 'loss of that part'}, %")
    bar.outline.set_visible(False)
    return figure.with_numbers(numbers)


def _draw_level(axis, attribution: Attribution, image: int, level: int, percent: np.ndarray, norm: PowerNorm) -> None:
    """The shares of one level as squares, its positives as dots, and the boxes of the objects."""
    place, size, stride = attribution.levels()[level], attribution.sizes[level], attribution.strides[level]
    extent = (0, size[1] * stride, size[0] * stride, 0)
    axis.imshow(percent[place].reshape(size), cmap=HEAT, norm=norm, extent=extent, interpolation="nearest")
    x, y = _centres(size, stride)
    positive = attribution.owner[image][place] >= 0
    axis.plot(x[positive], y[positive], "o", markersize=2.2, color=style.INK, markeredgewidth=0)
    _draw_boxes(axis, attribution, image)
    axis.grid(False)


def _draw_bars(axis, numbers: dict, attribution: Attribution, image: int, class_names: Sequence[str] | None) -> None:
    total = numbers["loss"]
    names = [class_names[int(row[0])] if class_names else str(int(row[0])) for row in attribution.objects(image)]
    background, foreground = numbers["background"], sum(numbers["objects"])
    levels = zip(numbers["levels"].items(), LEVEL_COLOURS)
    objects = enumerate(zip(names, numbers["objects"]))
    bars = (
        ("where", [("background", background, GREY), ("foreground", foreground, style.CYCLE[1])]),
        ("level", [(f"stride {stride}", value, colour) for (stride, value), colour in levels]),
        (
            "object",
            [("none", background, GREY)] + [(name, value, style.cycle(place)) for place, (name, value) in objects],
        ),
    )
    scale = total if np.isfinite(total) and total > 0 else 1.0
    for line, (_, pieces) in enumerate(bars):
        left = 0.0
        for name, value, colour in pieces:
            if not np.isfinite(value) or value <= 0:
                continue
            axis.barh(line, value, left=left, height=0.62, color=colour, edgecolor=style.PAPER, linewidth=0.6)
            room = value / scale * 31  # letters of this size that the whole bar has room for
            texts = (f"{name} {value / scale:.0%}", name, name.removeprefix("stride "))
            text = next((text for text in texts if len(text) <= room), "")
            axis.text(left + value / 2, line, text, ha="center", va="center", fontsize=7.5, color=style.ink_on(colour))
            left += value
    axis.set(yticks=range(3), yticklabels=[name for name, _ in bars], ylim=(2.5, -0.5), xlim=(0, scale))
    axis.grid(False)
    axis.tick_params(axis="y", length=0)
    axis.xaxis.set_major_locator(MaxNLocator(4))
    batch, part = attribution.parts[numbers["part"]], LOSS_PARTS[numbers["part"]]
    axis.set_title(f"{part} loss: {short(total)} of the batch's {short(batch)}", fontsize=9.5, weight="normal")


@style.house()
def draw_positive_weights(
    attribution: Attribution, picture: np.ndarray, image: int = 0, class_names: Sequence[str] | None = None
) -> style.StudyFigure:
    """The positives of one image as dots whose area is their weight, and a row for each object.

    Its numbers: for each object the weights of its positives.
    """
    figure, (left, right) = style.figure(1, 2, height=3.4, width_ratios=(1, 1.35))
    height, width = picture.shape[:2]
    left.imshow(picture * 0.6 / 255 + 0.4, extent=(0, width, height, 0))
    _draw_boxes(left, attribution, image)
    objects, owner, weight = attribution.objects(image), attribution.owner[image], attribution.weight[image]
    places = [_centres(size, stride) for size, stride in zip(attribution.sizes, attribution.strides)]
    x, y = (np.concatenate([place[axis] for place in places]) for axis in (0, 1))
    names = [class_names[int(row[0])] if class_names else f"class {int(row[0])}" for row in objects]
    for number in range(len(objects)):
        mine, look = owner == number, dict(color=style.cycle(number), edgecolor=style.PAPER, linewidth=0.6, zorder=3)
        left.scatter(x[mine], y[mine], s=4 + 90 * weight[mine], **look)
        right.scatter(weight[mine], np.full(mine.sum(), number), s=4 + 90 * weight[mine], **look)
    left.set(xlim=(0, width), ylim=(height, 0), xlabel="pixels", ylabel="pixels")
    left.grid(False)
    right.set(yticks=range(len(objects)), yticklabels=names, ylim=(len(objects) - 0.5, -0.5), xlim=(-0.03, 1.03))
    right.set(
        xlabel="weight of each positive: the sum of its target scores, 0…1",
        title="ten positives for each aircraft, at most",
    )
    return figure.with_numbers([weight[owner == number] for number in range(len(objects))])


def _draw_boxes(axis, attribution: Attribution, image: int) -> None:
    for box in attribution.objects(image)[:, 1:]:
        drawing.frame(axis, box, style.TRUTH, linewidth=1.3)


def _centres(size: tuple[int, int], stride: int) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = np.mgrid[: size[0], : size[1]]
    return (columns.ravel() + 0.5) * stride, (rows.ravel() + 0.5) * stride


class ShareBench(Panel):
    """A widget: the shares of several networks, with a choice of image and part.

    `numbers` holds the `loss_breakdown` of each network for what is shown now.

    Args:
        attributions: name -> what `attribute_loss` found.
        pictures: (H, W, 3) uint8, the images of the batch.
    """

    def __init__(
        self,
        attributions: Mapping[str, Attribution],
        pictures: Sequence[np.ndarray],
        class_names: Sequence[str] | None = None,
    ):
        import ipywidgets as widgets

        self.attributions, self.pictures, self.class_names = dict(attributions), pictures, class_names
        self.image = widgets.IntSlider(min=0, max=len(pictures) - 1, description="image", continuous_update=False)
        self.part = widgets.ToggleButtons(
            options=[(text, name) for name, text in LOSS_PARTS.items()], value="cls", description="part"
        )
        self.part.style.button_width = "70px"
        controls = [self.image, self.part]
        self._begin([widgets.HBox(controls)], controls)

    def _look(self):
        image, part = self.image.value, self.part.value
        rows = [(name, attribution, part) for name, attribution in self.attributions.items()]
        figure = draw_loss_shares(rows, self.pictures[image], image, self.class_names)
        return figure.numbers, figure

    def __repr__(self) -> str:
        return f"ShareBench({', '.join(self.attributions)})"
