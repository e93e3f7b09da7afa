"""The loss of several runs side by side, each over its learning rate.

Here a run is a list of steps, because a short run has few epochs and a bad one shows within the
first of them. For a whole training, `curves` draws the epochs of `results.csv`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...canvas import style
from ...canvas.panel import InPlace, Panel
from . import curves

AXES = {"step": "step", **curves.AXES}


@dataclass(frozen=True, eq=False)
class RunCurve:
    """One run, all arrays of the same length (n,). What was not measured is NaN."""

    at: np.ndarray  # step, epoch, seconds or images
    loss: np.ndarray
    smooth: np.ndarray
    rate: np.ndarray

    @property
    def fell_to(self) -> float:
        """The smoothed loss at the end over its first value; below 1 where something was learnt."""
        known = self.smooth[np.isfinite(self.smooth)]
        return float(known[-1] / known[0]) if len(known) else float("nan")

    @property
    def broken_at(self) -> float | None:
        """The first position at which the loss is not finite, or None."""
        wrong = ~np.isfinite(self.loss)
        return float(self.at[wrong.argmax()]) if wrong.any() else None


def smoothed(values: Sequence[float], weight: float) -> np.ndarray:
    """The unbiased exponential average, as TensorBoard's slider shows it.

    A value that is not finite is left out of the average, and is NaN in the result.

    Args:
        weight: 0 changes nothing, 0.9 averages about ten values.
    """
    result, total, norm = np.full(len(values), np.nan), 0.0, 0.0
    for index, value in enumerate(values):
        if np.isfinite(value):
            total, norm = weight * total + (1 - weight) * value, weight * norm + (1 - weight)
            result[index] = total / norm
    return result


def compare_runs(runs: Mapping[str, object], smoothing: float = 0.8, x: str = "step") -> dict[str, RunCurve]:
    """The loss of several runs.

    Args:
        runs: label -> a `RunTape`, a run folder or its results.csv, or columns by name with at
            least `x`, "loss" and "lr".
        smoothing: 0…1, see `smoothed`.
        x: "step", or for runs from a file "epoch", "seconds" or "images".
    """
    if not 0 <= smoothing < 1:
        raise ValueError(f"smoothing is {smoothing}; give 0 or more, and less than 1.")
    found = {}
    for label, run in runs.items():
        columns = getattr(run, "columns", run)
        columns = columns if isinstance(columns, Mapping) else curves.read_results(columns)
        if missing := [name for name in (x, "loss", "lr") if name not in columns]:
            raise ValueError(f"run {label!r} has no column {', '.join(missing)}; it has {', '.join(columns)}.")
        at, loss, rate = (np.asarray(columns[name], dtype=np.float64) for name in (x, "loss", "lr"))
        found[label] = RunCurve(at, loss, smoothed(loss, smoothing), rate)
    return found


@style.house()
def draw_runs(numbers: Mapping[str, RunCurve], x: str = "step", log: bool = False) -> style.StudyFigure:
    """One column for each run: its loss over its learning rate, with the other runs in grey.

    The loss is pale as measured and in full colour as smoothed.
    """
    figure, panels = style.figure(
        2, len(numbers), height=4.4, sharex=True, sharey="row", squeeze=False, height_ratios=(2.4, 1)
    )
    top = max(
        (float(np.nanmax(curve.smooth)) for curve in numbers.values() if np.isfinite(curve.smooth).any()), default=1.0
    )
    for column, (label, curve) in enumerate(numbers.items()):
        loss, rate = panels[:, column]
        colour = style.cycle(column)
        for other, behind in numbers.items():
            if other != label:
                loss.plot(behind.at, behind.smooth, color=style.FAINT, linewidth=1, alpha=0.6)
        loss.plot(curve.at, curve.loss, color=colour, linewidth=0.8, alpha=0.35)
        loss.plot(curve.at, curve.smooth, color=colour, linewidth=2.2)
        if curve.broken_at is not None:
            loss.axvline(curve.broken_at, color=style.FALSE_ALARM, linestyle=(0, (4, 2)))
        rate.plot(curve.at, curve.rate, color=colour)
        loss.set_title(label)
        rate.set_xlabel(AXES.get(x, x))
    first = panels[0, 0]
    if log:
        first.set_yscale("log")
    else:
        first.set_ylim(0, 1.08 * top)
    first.set_ylabel("loss")
    panels[1, 0].set_ylabel("learning rate")
    peaks = {curve.rate[np.isfinite(curve.rate)].max() for curve in numbers.values() if np.isfinite(curve.rate).any()}
    if len(peaks) > 1:
        panels[1, 0].set_yscale("log")  # on a linear axis a rate a hundred times smaller would lie on the floor
    else:
        panels[1, 0].set_ylim(bottom=0)
        panels[1, 0].yaxis.set_major_formatter("{x:g}")
    return figure.with_numbers(numbers)


class RunBench(Panel):
    """A widget: several runs, with a slider for the smoothing and a switch for the axis.

    `numbers` is what `compare_runs` gives.
    """

    def __init__(self, runs: Mapping[str, object], smoothing: float = 0.8, x: str = "step"):
        import ipywidgets as widgets

        self.runs, self.x = runs, x
        look = dict(style={"description_width": "90px"}, layout={"width": "400px"})
        self.smoothing = widgets.FloatSlider(
            value=smoothing, min=0, max=0.98, step=0.02, description="smoothing", **look
        )
        self.log = widgets.Checkbox(value=False, description="logarithmic loss", indent=False)
        controls = [self.smoothing, self.log]
        self._begin([widgets.HBox(controls)], controls)

    def _look(self):
        numbers = compare_runs(self.runs, self.smoothing.value, self.x)
        return numbers, draw_runs(numbers, self.x, self.log.value)


class RunTape:
    """The steps of one run, redrawn in place while it trains, beside earlier runs.

    In a terminal it draws nothing.

    Args:
        label: the title of this run. beside: label -> earlier runs, as in `compare_runs`.
        pause: minimum seconds between two drawings; they take at most a twentieth of the time.
    """

    def __init__(
        self,
        label: str = "this run",
        beside: Mapping[str, object] | None = None,
        smoothing: float = 0.8,
        pause: float = 2.0,
    ):
        self.label, self.beside, self.smoothing = label, dict(beside or {}), smoothing
        self.rows: list[tuple[float, float]] = []
        self.place = InPlace(pause, patience=20)

    def update(self, loss: float, rate: float, last: bool = False) -> None:
        """Add a step: its loss, a number or a tensor of one, and its learning rate.

        Args:
            last: draw in any case.
        """
        self.rows.append((float(loss), float(rate)))
        if last or self.place.due:
            self.redraw()

    def redraw(self) -> None:
        if self.rows:
            self.place.show(lambda: draw_runs(compare_runs({**self.beside, self.label: self}, self.smoothing)))

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """step (from 1), loss and lr, each (steps,)."""
        loss, rate = np.array(self.rows, dtype=np.float64).reshape(-1, 2).T
        return {"step": np.arange(1, len(loss) + 1, dtype=np.float64), "loss": loss, "lr": rate}

    @property
    def numbers(self) -> RunCurve:
        return compare_runs({self.label: self}, self.smoothing)[self.label]
