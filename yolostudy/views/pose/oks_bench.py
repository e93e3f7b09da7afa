"""One object, its keypoints moved: the similarity, each keypoint's term, and the loss's gradient.

Similarity and loss come from the `pose` module in use, so a mistake in it shows. The terms and the
curve are computed here, as a comparison.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from ...canvas import drawing, style
from ...canvas.panel import Panel
from ..detections.joints import SKELETON, mark_keypoints
from .looks import AREA_SHARE, area_of, names_of, spread, window

FARTHEST = 40.0  # pixels, end of the slider and of the axis


@dataclass(frozen=True, eq=False)
class KeypointComparison:
    """The answer for one object beside its truth; K keypoints, pixels.

    Attributes:
        predicted, truth: (K, 3) x y visibility. box: of the object, x1 y1 x2 y2.
        distance: (K,) pixels.
        oks: as `pose.keypoint_similarity` gives it, with 0.53 of the box for the area.
        terms: (K,) similarity of each keypoint, computed here; NaN where it is hidden.
        loss: as `pose.KeypointLoss` gives it, with the whole box for the area.
        gradient: (K, 2) of that loss for x and y, per pixel; by autograd.
    """

    predicted: np.ndarray
    truth: np.ndarray
    box: tuple[float, ...]
    sigma: float
    distance: np.ndarray
    oks: float
    terms: np.ndarray
    loss: float
    gradient: np.ndarray

    @property
    def visible(self) -> int:
        return int((self.truth[:, 2] > 0).sum())

    @property
    def mean_term(self) -> float:
        """The mean of the terms, which the OKS must equal; 0 where nothing is visible."""
        return float(np.nanmean(self.terms)) if self.visible else 0.0


def compare_keypoints(
    predicted: np.ndarray,
    truth: np.ndarray,
    box: Sequence[float],
    sigma: float,
    pose: ModuleType | None = None,
) -> KeypointComparison:
    """Ask for similarity, loss and gradient of one object.

    Args:
        predicted: (K, 2 or more) x y in pixels. truth: (K, 3) x y visibility.
        sigma: of every keypoint.
        pose: the module to ask; by default `yolostudy.pose` of the edition in use.
    """
    import torch

    if pose is None:
        from ... import pose
    truth, predicted = np.array(truth, float), np.array(predicted, float)[:, :2]
    points = torch.tensor(predicted[None], dtype=torch.float32, requires_grad=True)
    known, area = torch.tensor(truth[None], dtype=torch.float32), area_of(box)
    sigmas = torch.full((len(truth),), float(sigma))
    oks = pose.keypoint_similarity(points.detach(), known, torch.tensor([AREA_SHARE * area]), sigmas)
    loss, _ = pose.KeypointLoss(sigmas.tolist())(points, known, torch.tensor([area]))
    (gradient,) = torch.autograd.grad(loss, points)
    distance = np.linalg.norm(predicted - truth[:, :2], axis=1)
    terms = np.exp(-((distance / spread(sigma, AREA_SHARE * area)) ** 2) / 2)
    terms[truth[:, 2] == 0] = np.nan
    return KeypointComparison(
        np.column_stack([predicted, truth[:, 2]]),
        truth,
        tuple(float(edge) for edge in box),
        float(sigma),
        distance,
        float(oks),
        terms,
        float(loss.detach()),
        gradient[0].double().numpy(),
    )


@style.house()
def draw_keypoint_comparison(
    numbers: KeypointComparison,
    image: np.ndarray,
    names: Sequence[str] | None = None,
    skeleton: Sequence[tuple[int, int]] = SKELETON,
) -> style.StudyFigure:
    """The object with truth and answer, the terms of its OKS as bars, and the loss's gradient."""
    names = names_of(len(numbers.truth), names)
    figure, (picture, bars, curve) = style.figure(1, 3, height=3.7, width_ratios=(1, 0.95, 1.1))
    _draw_points(picture, numbers, image, skeleton)
    _draw_terms(bars, numbers, names)
    _draw_gradient(curve, numbers)
    drawing.settle(picture, bars, curve)
    return figure.with_numbers(numbers)


def _draw_points(axes, numbers: KeypointComparison, image: np.ndarray, skeleton: Sequence[tuple[int, int]]) -> None:
    window(axes, image, numbers.box, 14)
    shown = numbers.truth[:, 2] > 0
    for start, end in zip(numbers.truth[shown], numbers.predicted[shown]):
        axes.plot(*zip(start[:2], end[:2]), color=style.TRUTH, linewidth=1.4)
    mark_keypoints(axes, numbers.predicted[None], skeleton, size=7)
    axes.plot(*numbers.truth[shown, :2].T, "o", color=style.TRUTH, fillstyle="none", markersize=13, markeredgewidth=1.8)
    axes.set(title="purple rings: truth", xlabel="x in pixels", ylabel="y in pixels")


def _draw_terms(axes, numbers: KeypointComparison, names: Sequence[str]) -> None:
    values = [*numbers.terms, numbers.oks]
    colours = [*map(style.cycle, range(len(names))), style.INK]
    for row, (value, colour) in enumerate(zip(values, colours)):
        hidden = math.isnan(value)
        axes.barh(row, 0 if hidden else value, color=colour, height=0.62)
        said = "hidden" if hidden else f"{value:.3f}"
        inside = not hidden and value > 0.75
        ink = style.ink_on(colour) if inside else style.INK
        at, side = (value - 0.03, "right") if inside else ((0 if hidden else value) + 0.03, "left")
        axes.text(at, row, said, va="center", ha=side, fontsize=9, color=ink)
    axes.set_yticks(range(len(values)), [*(name.replace(" wing", "\nwing") for name in names), "OKS"], fontsize=9)
    axes.set(xlim=(0, 1), ylim=(len(values) - 0.4, -0.6), title=f"similarity, σ {numbers.sigma:.3g}")
    gap = numbers.mean_term - numbers.oks
    axes.set_xlabel(
        "terms and their mean" if abs(gap) < 1e-3 else f"the terms' mean is {numbers.mean_term:.3f}, not the OKS"
    )
    axes.grid(axis="y", visible=False)


def _draw_gradient(axes, numbers: KeypointComparison) -> None:
    """The size of each keypoint's gradient on the curve that it should lie on."""
    width, count = spread(numbers.sigma, area_of(numbers.box)), max(1, numbers.visible)
    distance = np.linspace(0, max(FARTHEST, 1.02 * numbers.distance.max()), 300)
    peak = math.exp(-0.5) / width / count
    axes.plot(distance, distance / width**2 * np.exp(-((distance / width) ** 2) / 2) / count, color=style.FAINT)
    sizes = np.linalg.norm(numbers.gradient, axis=1)
    for number, (away, size) in enumerate(zip(numbers.distance, sizes)):
        if numbers.truth[number, 2] > 0:
            axes.plot(away, size, "o", color=style.cycle(number), markersize=8, markeredgecolor=style.PAPER)
    axes.set(xlim=(0, distance[-1]), ylim=(-0.04 * peak, 1.15 * peak), title=f"loss {numbers.loss:.3f}")
    axes.set(ylabel="gradient per pixel", xlabel=f"distance in pixels\nlargest gradient {sizes.max(initial=0):.1e}")


class OKSBench(Panel):
    """A widget: sliders move the keypoints of one object away from the truth.

    `numbers` is a `KeypointComparison`.

    Args:
        image: (H, W, 3) uint8. keypoints: (K, 3) of one object. box: its x1 y1 x2 y2.
        pose: as in `compare_keypoints`.
        names: of the keypoints.
        error, sigma: first values of their sliders.
    """

    def __init__(
        self,
        image: np.ndarray,
        keypoints: np.ndarray,
        box: Sequence[float],
        pose: ModuleType | None = None,
        names: Sequence[str] | None = None,
        error: float = 6.0,
        sigma: float = 0.05,
        skeleton: Sequence[tuple[int, int]] = SKELETON,
    ):
        import ipywidgets as widgets

        self.image, self.keypoints, self.box, self.pose = image, np.array(keypoints, float), box, pose
        self.names, self.skeleton = names_of(len(self.keypoints), names), skeleton
        look = dict(style={"description_width": "110px"}, layout={"width": "430px"})
        self.error = widgets.FloatSlider(value=error, min=0, max=FARTHEST, step=0.5, description="error, px", **look)
        self.direction = widgets.IntSlider(value=45, min=0, max=360, step=15, description="direction, °", **look)
        self.sigma = widgets.FloatLogSlider(
            value=sigma, min=-2, max=math.log10(0.5), step=0.02, description="σ", readout_format=".3f", **look
        )
        self.moved = widgets.Dropdown(
            options=[("all", -1), *((name, number) for number, name in enumerate(self.names))],
            description="moved",
            **look,
        )
        self.hidden = [
            widgets.Checkbox(value=False, description=f"hide {name}", indent=False, layout={"width": "170px"})
            for name in self.names
        ]
        controls = [self.error, self.sigma, self.direction, self.moved, *self.hidden]
        rows = controls[:2], controls[2:4], self.hidden
        self._begin([widgets.HBox(row, layout={"flex_flow": "row wrap"}) for row in rows], controls)

    def _look(self):
        truth, predicted = self.keypoints.copy(), self.keypoints[:, :2].copy()
        truth[[box.value for box in self.hidden], 2] = 0
        turn = math.radians(self.direction.value)
        moved = slice(None) if self.moved.value < 0 else self.moved.value
        predicted[moved] += self.error.value * np.array([math.cos(turn), math.sin(turn)])
        numbers = compare_keypoints(predicted, truth, self.box, self.sigma.value, self.pose)
        return numbers, draw_keypoint_comparison(numbers, self.image, self.names, self.skeleton)
