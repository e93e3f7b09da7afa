"""What a network finds: precision and recall at a threshold, and its predictions over the epochs of
a training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...canvas import style
from ...canvas.drawing import settle
from ...canvas.panel import Panel
from ..detections import painter


@dataclass(frozen=True, eq=False)
class OperatingPoint:
    """A class, or the mean over all of them, judged at one score threshold and IoU 0.5.

    Attributes:
        threshold: what was asked. precision, recall: at the curve's point that keeps scores down to
            the threshold.
        ap: area under the curve. curve: (2, 101) recall and interpolated precision. by_score: (4,
            S) threshold, precision, recall, F1 at
        the scores where the curve steps, from low to high.
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


def operate(evaluation, threshold: float, name: str = "") -> OperatingPoint:
    """Read the curves of a `metrics.Evaluation` at a score threshold.

    The curves are COCO's: precision is interpolated and recall is known to a hundredth, so a point
    lies within 0.01 of recall of what counting would give, and never below it in precision. A class
    of which nothing is kept has precision 1 and recall 0.

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
def draw_operation(numbers: OperatingPoint, painted: painter.Painted | None = None) -> style.StudyFigure:
    """The curve with its area and its point, the three figures over the threshold, and a picture
    judged at it.
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
    # the dashed line crosses it
    over.legend(loc="lower left", frameon=True, facecolor=style.PAPER, edgecolor="none", framealpha=0.9)
    if painted is not None:
        panels[2].imshow(painted.image)
        panels[2].set_axis_off()
        panels[2].set_title(f"{painted.hits} hit, {painted.misses} missed, {painted.false_alarms} false")
        settle(panels[2])
    return figure


class ThresholdBench(Panel):
    """A slider for the score threshold over the curve of an evaluation; `numbers` is an
    `OperatingPoint`.

    Args:
        evaluation: of `metrics.evaluate`.
        pictures: (H, W, 3) uint8 each. predictions, truths: for each picture, as `evaluate` took
            them. Without pictures only curves show.
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
        numbers = operate(self.evaluation, self.threshold.value, self.class_name.value or "")
        painted = None
        if len(self.pictures):
            index = self.picture_number.value
            options = dict(score_threshold=self.threshold.value, labels=False, side=320)
            painted = painter.paint(
                self.pictures[index], self.predictions[index], self.truths[index], self.names, **options
            )
        return numbers, draw_operation(numbers, painted)


class Album:
    """The same pictures, painted after several epochs.

    Args:
        pictures: (H, W, 3) uint8 each. truths: (m, 5) for each, class x1 y1 x2 y2.
        score_threshold: of what is painted and counted.
    """

    def __init__(
        self,
        pictures: Sequence[np.ndarray],
        truths: Sequence,
        class_names: Sequence[str] | None = None,
        score_threshold=0.25,
    ):
        self.pictures, self.truths, self.class_names, self.score_threshold = (
            list(pictures),
            list(truths),
            class_names,
            score_threshold,
        )
        self.pages: dict[str, list[painter.Painted]] = {}

    def add(self, title: str, predictions: Sequence) -> None:
        """Paint what a network says about each picture now.

        Args:
            title: such as "epoch 3"; a title that was there before is painted anew.
            predictions: (n, 6) for each picture, x1 y1 x2 y2 score class.
        """
        if len(predictions) != len(self.pictures):
            raise ValueError(
                f"{len(predictions)} predictions for {len(self.pictures)} pictures. Give one table for each picture."
            )
        options = dict(score_threshold=self.score_threshold, labels=False, side=320)
        shown = zip(self.pictures, predictions, self.truths, strict=True)
        self.pages[title] = [
            painter.paint(picture, found, truth, self.class_names, **options) for picture, found, truth in shown
        ]

    @property
    def numbers(self) -> dict[str, dict[str, int]]:
        """For each title the sums over the pictures: truths, hits, misses, false_alarms."""
        names = ("truths", "hits", "misses", "false_alarms")
        return {
            title: {name: sum(getattr(one, name) for one in page) for name in names}
            for title, page in self.pages.items()
        }


def draw_album(album: Album, columns: Mapping[str, str] | Sequence[str] | None = None) -> style.Picture:
    """A row for each picture, a column for each title, the sums over it.

    Args:
        columns: the titles to show, in this order; all of them where none are given.
    """
    titles = list(album.pages if columns is None else columns)
    if not titles:
        raise ValueError("the album has no page yet. Add one with add(title, predictions).")
    numbers = album.numbers
    heads = [f"{title}: {numbers[title]['hits']} of {numbers[title]['truths']} hit" for title in titles]
    rows = [[album.pages[title][index] for title in titles] for index in range(len(album.pictures))]
    first = painter.sheet(rows[0], len(titles), heads)
    rest = [painter.sheet(row, len(titles)) for row in rows[1:]]
    return style.Picture(
        np.concatenate([first, *(part[painter.GAP :] for part in rest)]), {title: numbers[title] for title in titles}
    )


class AlbumBench(Panel):
    """A slider through the pages of an album; `numbers` holds the title and its sums."""

    def __init__(self, album: Album):
        import ipywidgets as widgets

        if not album.pages:
            raise ValueError("the album has no page yet. Add one with add(title, predictions).")
        self.album = album
        options = list(album.pages)
        self.page = widgets.SelectionSlider(
            options=options, value=options[-1], description="after", layout={"width": "500px"}
        )
        self.picture = widgets.Image(format="jpeg", layout={"max_width": "900px"})
        self._begin([self.page], [self.page], self.picture)

    def _draw(self) -> None:
        title = self.page.value
        self.numbers = {"title": title, **self.album.numbers[title]}
        shown = self.album.pages[title]
        names = [f"{one.hits} hit, {one.misses} missed, {one.false_alarms} false" for one in shown]
        self.picture.value = style.as_jpeg(painter.sheet(shown, len(shown), names))

    def _on_paper(self) -> dict[str, bytes]:
        return {"image/jpeg": style.as_jpeg(draw_album(self.album).image)}
