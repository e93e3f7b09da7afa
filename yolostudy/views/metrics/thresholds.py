"""Precision and recall of an evaluation at a score threshold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...canvas import style
from ...canvas.drawing import settle
from ...canvas.panel import Panel
from ..detections.painter import Painted, paint


@dataclass(frozen=True, eq=False)
class OperatingPoint:
    """A class, or the mean over all of them, judged at one score threshold and IoU 0.5.

    Attributes:
        threshold: as asked.
        precision, recall: at the point of the curve that keeps scores down to the threshold.
        ap: area under the curve.
        curve: (2, 101) recall and interpolated precision.
        by_score: (4, S) threshold, precision, recall, F1 at the scores where the curve steps, from
            low to high.
    """

    name: str
    threshold: float
    precision: float
    recall: float
    ap: float
    curve: np.ndarray
    by_score: np.ndarray

    @property
    def f1(self) -> float:
        return _f1(self.precision, self.recall)


def _f1(precision, recall):
    total = np.asarray(precision) + recall
    return np.divide(2 * np.asarray(precision) * recall, total, out=np.zeros_like(total), where=total > 0)[()]


def operating_point(evaluation, threshold: float, name: str = "") -> OperatingPoint:
    """Read the curves of a `metrics.Evaluation` at a score threshold.

    The curves are COCO's: precision is interpolated, and recall is known to a hundredth. So recall
    is within 0.01 of what counting would give, and precision is never below it. A class of which
    nothing is kept has precision 1 and recall 0.

    Args:
        name: a class; "" for the mean over the classes that have truths.
    """
    curves, names = evaluation.curves, [row.name for row in evaluation.per_class]
    if name and name not in names:
        raise ValueError(f"no class {name!r} was judged; there are {', '.join(names)}.")
    rows = [names.index(name)] if name else [row for row, one in enumerate(evaluation.per_class) if one.truths]
    rows = [row for row in rows if np.isfinite(curves.precision[row]).all()]
    if not rows:
        raise ValueError(f"{name or 'the set'} has no ground truth, so there is no curve to read.")
    precision, score = curves.precision[rows], curves.score[rows]  # (C', 101)
    steps = np.unique(np.concatenate([score[score > 0], [threshold]]))
    # (S, 2)
    at = np.array([[_read(p, s, curves.recall, level) for p, s in zip(precision, score)] for level in steps]).mean(
        axis=1
    )
    own = at[np.searchsorted(steps, threshold)]
    by_score = np.stack([steps, at[:, 0], at[:, 1], _f1(at[:, 0], at[:, 1])])
    curve = np.stack([curves.recall, precision.mean(axis=0)])
    return OperatingPoint(name or "mean", float(threshold), *map(float, own), float(precision.mean()), curve, by_score)


def _read(precision: np.ndarray, score: np.ndarray, recall: np.ndarray, threshold: float) -> tuple[float, float]:
    """Precision and recall of one class; 1 and 0 where nothing is kept."""
    reached = np.flatnonzero((score >= threshold) & (score > 0))
    reached = reached[reached > 0]  # recall 0 is reached by keeping nothing
    return (float(precision[reached[-1]]), float(recall[reached[-1]])) if len(reached) else (1.0, 0.0)


@style.house()
def draw_operating_point(numbers: OperatingPoint, painted: Painted | None = None) -> style.StudyFigure:
    """The precision-recall curve with its point, and the three figures over the threshold.

    Args:
        painted: a picture, judged at the threshold, to show beside them.
    """
    figure, panels = style.figure(1, 3 if painted is not None else 2, height=3.2)
    area, over = panels[:2]
    recall, precision = numbers.curve
    area.fill_between(recall, precision, color=style.CYCLE[0], alpha=0.18, linewidth=0)
    area.plot(recall, precision, color=style.CYCLE[0])
    if numbers.name == "mean":  # a mean over classes at one threshold does not lie on the mean of their curves
        area.plot(numbers.by_score[2], numbers.by_score[1], color=style.CYCLE[1], linewidth=1)
    area.plot(numbers.recall, numbers.precision, "o", color=style.CYCLE[1], markersize=8)
    area.set(
        title=f"AP {numbers.ap:.3f} ({numbers.name})",
        xlabel="recall",
        ylabel="precision",
        xlim=(0, 1.02),
        ylim=(0, 1.04),
    )
    figures = (
        ("precision", numbers.precision, style.CYCLE[0]),
        ("recall", numbers.recall, style.CYCLE[2]),
        ("F1", numbers.f1, style.INK),
    )
    for (label, value, colour), row in zip(figures, numbers.by_score[1:]):
        over.plot(numbers.by_score[0], row, color=colour, label=f"{label} {value:.2f}", drawstyle="steps-pre")
    over.axvline(numbers.threshold, color=style.CYCLE[1], linestyle=(0, (4, 2)))
    over.set(title=f"at threshold {numbers.threshold:.2f}", xlabel="score threshold", xlim=(0, 1), ylim=(0, 1.04))
    # with a ground, because the dashed line may cross it
    over.legend(loc="lower left", frameon=True, facecolor=style.PAPER, edgecolor="none", framealpha=0.9)
    if painted is not None:
        panels[2].imshow(painted.image)
        panels[2].set_axis_off()
        panels[2].set_title(f"{painted.hits} hit, {painted.misses} missed, {painted.false_alarms} false")
        settle(panels[2])
    return figure.with_numbers(numbers)


class ThresholdBench(Panel):
    """A widget: a slider for the score threshold over the curve of an evaluation.

    `numbers` is an `OperatingPoint`.

    Args:
        evaluation: from `metrics.evaluate`.
        pictures: (H, W, 3) uint8 each. Without pictures only the curves are shown.
        predictions, truths: for each picture, as `evaluate` took them.
    """

    def __init__(
        self,
        evaluation,
        pictures: Sequence = (),
        predictions: Sequence = (),
        truths: Sequence = (),
        threshold: float = 0.25,
    ):
        import ipywidgets as widgets

        self.evaluation, self.pictures, self.predictions, self.truths = evaluation, pictures, predictions, truths
        self.names = [row.name for row in evaluation.per_class]
        look = dict(style={"description_width": "90px"}, layout={"width": "400px"})
        self.threshold = widgets.FloatSlider(
            value=threshold, min=0.01, max=0.99, step=0.01, description="threshold", **look
        )
        known = [row.name for row in evaluation.per_class if row.truths]
        options = (
            [("mean", ""), *((name, name) for name in known)] if len(known) > 1 else [(name, name) for name in known]
        )
        self.class_name = widgets.Dropdown(options=options, description="class", layout={"width": "200px"})
        self.picture_number = widgets.IntSlider(value=0, min=0, max=max(0, len(pictures) - 1), description="picture")
        controls = [
            self.threshold,
            *([self.class_name] if len(options) > 1 else []),
            *([self.picture_number] if len(pictures) > 1 else []),
        ]
        self._begin([widgets.HBox(controls)], controls)

    def _look(self):
        numbers = operating_point(self.evaluation, self.threshold.value, self.class_name.value or "")
        painted = None
        if len(self.pictures):
            index = self.picture_number.value
            options = dict(score_threshold=self.threshold.value, labels=False, side=320)
            painted = paint(self.pictures[index], self.predictions[index], self.truths[index], self.names, **options)
        return numbers, draw_operating_point(numbers, painted)
