"""The distributions of the four edges, R bins each, and the box that they make.

The expectation of an edge's distribution, times the stride, is the distance of the edge from the
anchor point. In the widget, drag a bin and watch the edge move.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ...canvas import drawing, style
from ...canvas.panel import Panel
from .anchors import DIRECTION, EDGES
from .asking import ask

MIN_LOGIT, MAX_LOGIT = -10.0, 4.0  # of a bin's slider


def logit_shape(centre: float, width: float, second: float = 0.0, height: float = 0.0, bins: int = 16) -> np.ndarray:
    """Logits (R,) whose softmax is a bell around `centre`; the highest is 0.

    Args:
        second, height: centre and relative height of a second bell.
    """
    at = np.arange(bins)
    bells = np.exp(-0.5 * ((at - centre) / width) ** 2) + height * np.exp(-0.5 * ((at - second) / width) ** 2)
    logits = np.log(np.maximum(bells, 1e-30))
    return np.clip(logits - logits.max(), MIN_LOGIT, MAX_LOGIT)


def read_distributions(
    logits: np.ndarray,
    anchor: Sequence[float] = (10.5, 10.5),
    stride: float = 8,
    expected_distance: Callable | None = None,
    distance_to_box: Callable | None = None,
) -> dict:
    """The box that four distributions make.

    Args:
        logits: (4, R), the edges in the order of EDGES.
        anchor: x, y in units of the stride.
        stride: pixels.
        expected_distance, distance_to_box: the functions to ask; by default those of
            `yolostudy.boxes`.

    Returns:
        probabilities: (4, R).
        expectation: (4,) in strides, as `expected_distance` gives it.
        mass: (4,) the centre of mass of the probabilities; the expectation should equal it.
        likeliest: (4,) the most probable bins.
        box, likeliest_box: (4,) in pixels.
        anchor: (2,) in pixels. stride: pixels.
    """
    import torch

    table = torch.as_tensor(np.asarray(logits), dtype=torch.float32)
    probabilities = table.double().softmax(dim=1).numpy()
    likeliest = probabilities.argmax(axis=1)
    point = torch.tensor([[float(value) for value in anchor]])
    expectation = ask("expected_distance", expected_distance, (1, 4), table.reshape(1, -1), table.shape[1])

    def box_of(distances) -> np.ndarray:
        return ask("distance_to_box", distance_to_box, (1, 4), point, distances)[0].detach().double().numpy() * stride

    return {
        "probabilities": probabilities,
        "expectation": expectation[0].detach().double().numpy(),
        "mass": probabilities @ np.arange(table.shape[1]),
        "likeliest": likeliest,
        "box": box_of(expectation),
        "likeliest_box": box_of(torch.tensor(likeliest, dtype=torch.float32)[None]),
        "anchor": point[0].double().numpy() * stride,
        "stride": float(stride),
    }


@style.house()
def draw_distributions(numbers: dict, edge: int = 0, image: np.ndarray | None = None) -> style.StudyFigure:
    """The box on the left, the bins of one edge on the right.

    On the left every bin of every edge is a line, the darker the more probable.
    """
    figure, (picture, bars) = style.figure(1, 2, height=3.9, width_ratios=(1, 1.25))
    stride, colour = numbers["stride"], style.CYCLE[1]
    bins = numbers["probabilities"].shape[1]
    _draw_box(picture, numbers, edge, image)

    probabilities, at = numbers["probabilities"][edge], numbers["expectation"][edge]
    bars.bar(np.arange(bins), probabilities, color=style.CYCLE[5], width=0.85)
    likeliest = int(numbers["likeliest"][edge])
    bars.bar(
        [likeliest], probabilities[likeliest], color=style.CYCLE[0], width=0.85, label=f"most probable bin: {likeliest}"
    )
    bars.axvline(at, color=colour, linewidth=2.5, label=f"expectation: {at:.2f} strides = {at * stride:.1f} px")
    mass = numbers["mass"][edge]
    if abs(mass - at) > 1e-3:  # happens only where the function that was asked is wrong
        bars.axvline(mass, color=style.INK, linewidth=2, linestyle=":", label=f"centre of mass of the bars: {mass:.2f}")
    top = 1.4 * max(0.25, probabilities.max())  # room for the legend
    bars.set(
        xlim=(-0.8, bins - 0.2),
        ylim=(0, top),
        xticks=range(bins),
        yticks=np.arange(0, min(1, top) + 0.01, 0.2 if top > 0.6 else 0.1),
    )
    bars.set(
        xlabel="bin = distance from the anchor point, in strides", ylabel="probability", title=f"the {EDGES[edge]} edge"
    )
    bars.legend(loc="upper right" if at < bins / 2 else "upper left", frameon=True, framealpha=0.95, edgecolor="none")
    drawing.settle(picture, bars)
    return figure.with_numbers(numbers)


def _draw_box(axes, numbers: dict, edge: int, image: np.ndarray | None) -> None:
    stride, anchor, box = numbers["stride"], numbers["anchor"], numbers["box"]
    bins = numbers["probabilities"].shape[1]
    drawing.ground(axes, image, 0.35)
    if image is None:
        axes.set(xlim=anchor[0] + np.array([-1, 1]) * bins * stride, ylim=anchor[1] + np.array([1, -1]) * bins * stride)
    spans = (box[1], box[3]), (box[0], box[2])  # of a vertical and of a horizontal edge
    for side, probabilities in enumerate(numbers["probabilities"]):
        for distance, probability in enumerate(probabilities):
            if probability > 0.01:
                place = float((anchor + DIRECTION[side] * distance * stride)[side % 2])
                look = dict(color=style.CYCLE[0], alpha=float(np.sqrt(probability)) * 0.8, linewidth=4, zorder=2)
                (axes.vlines if side % 2 == 0 else axes.hlines)(place, *spans[side % 2], **look)
    drawing.frame(axes, numbers["likeliest_box"], style.INK, linestyle=(0, (3, 2)), linewidth=1.3, zorder=3)
    drawing.frame(axes, box, style.CYCLE[1], linewidth=2.4, zorder=4)
    middle = np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2])
    middle[edge % 2] = box[edge]
    axes.plot(*middle, "s", color=style.CYCLE[1], markeredgecolor=style.INK, markersize=9, zorder=6)
    axes.plot(*anchor, "o", color=style.PAPER, markeredgecolor=style.INK, markersize=7, zorder=5)
    axes.set(xlabel="x in pixels", ylabel="y in pixels", title="orange: expectations; dashed: argmax")


def _move(controls: Sequence, values: Sequence[float]) -> None:
    for control, value in zip(controls, values, strict=True):
        control.value = value


class DflBench(Panel):
    """A widget: sliders for the bins of one edge, four for the shape of its distribution.

    It shows the box that all four edges make.

    Args:
        logits: (4, R) to begin with, for example those of a real anchor; by default four bells.
        anchor, stride: as in `read_distributions`.
        image: (H, W, 3) uint8 under the box.
        expected_distance, distance_to_box: the functions to ask; by default those of
            `yolostudy.boxes`.
    """

    def __init__(
        self,
        logits: np.ndarray | None = None,
        anchor: Sequence[float] = (10.5, 10.5),
        stride: float = 8,
        image: np.ndarray | None = None,
        expected_distance: Callable | None = None,
        distance_to_box: Callable | None = None,
    ):
        import ipywidgets as widgets

        self.shapes = [[4.0, 0.7, 10.0, 0.0] for _ in EDGES]  # centre, width, second centre, its height
        if logits is None:
            self.logits = np.stack([logit_shape(*shape) for shape in self.shapes])
        else:
            given = np.array(logits, float).reshape(len(EDGES), -1)
            # the softmax sees differences only
            self.logits = np.clip(given - given.max(axis=1, keepdims=True), MIN_LOGIT, MAX_LOGIT)
            self.shapes = [[float(row.argmax()), 0.7, 10.0, 0.0] for row in self.logits]
        self.options = dict(
            anchor=anchor, stride=stride, expected_distance=expected_distance, distance_to_box=distance_to_box
        )
        self.image = image
        bins = self.logits.shape[1]

        self.edge = widgets.ToggleButtons(options=[(name, index) for index, name in enumerate(EDGES)])
        self.edge.style.button_width = "72px"
        ranges = (
            ("centre", 0, bins - 1, 0.1),
            ("width", 0.2, 6, 0.1),
            ("2nd centre", 0, bins - 1, 0.1),
            ("2nd height", 0, 1, 0.05),
        )
        wide = dict(readout_format=".1f", layout={"width": "350px"})
        self.shape = [
            widgets.FloatSlider(value=value, min=low, max=high, step=step, description=name, **wide)
            for (name, low, high, step), value in zip(ranges, self.shapes[0], strict=True)
        ]
        upright = dict(orientation="vertical", readout=False, min=MIN_LOGIT, max=MAX_LOGIT, step=0.1)
        self.bins = [
            widgets.FloatSlider(
                value=value, description=str(index), layout={"width": "40px", "height": "130px"}, **upright
            )
            for index, value in enumerate(self.logits[0])
        ]
        rows = [self.edge, widgets.HBox(self.shape[:2]), widgets.HBox(self.shape[2:]), widgets.HBox(self.bins)]
        self._begin(rows, [])
        self.edge.observe(lambda _: self._show_edge(), "value")
        for control in self.shape:
            control.observe(lambda _: self._take_shape(), "value")
        for control in self.bins:
            control.observe(lambda _: self._take_bins(), "value")

    def _show_edge(self) -> None:
        with self._at_once():
            _move(self.shape, self.shapes[self.edge.value])
            _move(self.bins, self.logits[self.edge.value])

    def _take_shape(self) -> None:
        if self._still:
            return
        self.shapes[self.edge.value] = [control.value for control in self.shape]
        with self._at_once():
            _move(self.bins, logit_shape(*self.shapes[self.edge.value], len(self.bins)))
            self.logits[self.edge.value] = [control.value for control in self.bins]

    def _take_bins(self) -> None:
        if not self._still:
            self.logits[self.edge.value] = [control.value for control in self.bins]
            self._redraw()

    def _look(self):
        numbers = read_distributions(self.logits, **self.options)
        return numbers, draw_distributions(numbers, self.edge.value, self.image)
