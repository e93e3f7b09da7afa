"""Training curves: read back from `results.csv`, or drawn while the training runs.

A row holds some of the columns of COLUMNS. A value that was not measured in an epoch (mAP, when
validation is rare) is an empty cell and becomes NaN.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from itertools import cycle
from pathlib import Path

import numpy as np
from matplotlib.ticker import MaxNLocator

from ...canvas import style
from ...canvas.panel import InPlace
from ..columns import COLUMNS, LOSS_PARTS, POSED, TAUGHT

AXES = {"epoch": "epoch", "seconds": "seconds of training", "images": "images seen"}


def read_results(run: Path | str) -> dict[str, np.ndarray]:
    """The columns of a run's `results.csv`; every column of COLUMNS is there, NaN where empty.

    Args:
        run: the file, or the run's folder.

    Errors: ValueError, with file and line, for a missing file, an empty one, or a cell that is no
    number.
    """
    path = Path(run)
    path = path / "results.csv" if path.is_dir() else path
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file. Give the folder of a run, or its results.csv.")
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file, skipinitialspace=True)
        rows = []
        for row in reader:
            try:
                rows.append(
                    {key.strip(): float(value) for key, value in row.items() if key and value and value.strip()}
                )
            except (ValueError, AttributeError) as error:
                raise ValueError(
                    f"{path}:{reader.line_num}: a cell is not a number ({error}). Remove that line."
                ) from None
    if not rows:
        raise ValueError(f"{path}: it holds no epoch yet. Wait for the first one to end.")
    return _columns(rows)


def plot_runs(runs: Path | str | Mapping[str, Path | str], x: str = "epoch") -> style.StudyFigure:
    """Loss, learning rate and mAP of one run, or of several by name.

    Its numbers: label -> epochs, seconds, last_loss, best_map50, best_map50_95, best_epoch (None
    where nothing was measured); the label of a single run is "".

    Args:
        runs: a run folder or results.csv, or a dictionary label -> one of these.
        x: "epoch", "seconds" or "images".
    """
    named = (
        {label: read_results(run) for label, run in runs.items()}
        if isinstance(runs, Mapping)
        else {"": read_results(runs)}
    )
    return _draw_columns(named, x)


@style.house()
def _draw_columns(runs: Mapping[str, Mapping[str, np.ndarray]], x: str = "epoch") -> style.StudyFigure:
    """The picture of `plot_runs`, from columns in memory."""
    if x not in AXES:
        raise ValueError(f"plot_runs: unknown x axis {x!r}; known: {', '.join(AXES)}.")
    figure, (losses, rate, quality) = style.figure(1, 3, sharex=True, width_ratios=(1.15, 0.8, 1.15))
    several = len(runs) > 1
    for number, (label, columns) in enumerate(runs.items()):
        colour = style.cycle(number)
        at = columns[x]
        if several:
            _line(losses, at, columns["loss"], color=colour, label=label)
        else:
            _line(losses, at, columns["loss"], color=style.INK, label="total")
            for part, part_colour in zip((*LOSS_PARTS, *POSED, *TAUGHT), cycle(style.CYCLE), strict=False):
                _line(losses, at, columns[part], color=part_colour, label=part)
        _line(rate, at, columns["lr"], color=colour)
        _line(quality, at, columns["map50"], color=colour, label=label if several else "at IoU 0.5")
        _line(
            quality,
            at,
            columns["map50_95"],
            color=colour,
            linestyle=(0, (4, 2)),
            label=None if several else "at IoU 0.5 to 0.95",
        )
        best = _best(columns["map50"])
        if best is not None:
            quality.plot(at[best], columns["map50"][best], "o", color=colour, markersize=5)
            if not several:
                note = dict(
                    xytext=(0, 6), textcoords="offset points", ha="center", va="bottom", color=colour, fontsize=9
                )
                quality.annotate(f"{columns['map50'][best]:.3f}", (at[best], columns["map50"][best]), **note)
    losses.set(title="loss", xlabel=AXES[x])
    rate.set(title="learning rate", xlabel=AXES[x])
    quality.set(title="mAP, dashed 0.5 to 0.95" if several else "mAP", xlabel=AXES[x], ylim=(0, 1.04))
    losses.set_xlim(left=0)
    losses.xaxis.set_major_locator(MaxNLocator(6, integer=True))  # there is no half epoch
    losses.set_ylim(bottom=0)
    rate.set_ylim(bottom=0)
    rate.yaxis.set_major_formatter("{x:g}")
    losses.legend(loc="upper right", ncols=2 if len(losses.lines) > 4 else 1)
    if quality.lines:
        quality.legend(loc="lower right")
    return figure.with_numbers({label: _numbers(columns) for label, columns in runs.items()})


class LiveCurves:
    """Curves that redraw in place while a notebook trains.

    In a terminal nothing is drawn, and the rows are kept all the same.

    Args:
        x: the horizontal axis, as in `plot_runs`.
        pause: minimum seconds between two drawings; they take at most a twentieth of the time.
    """

    def __init__(self, x: str = "epoch", pause: float = 2.0):
        self.x, self.place = x, InPlace(pause, patience=20)
        self.rows: list[dict] = []

    def update(self, row: Mapping) -> None:
        """Add the numbers of an epoch; keys as in COLUMNS, some may be missing or None."""
        self.rows.append({key: value for key, value in row.items() if value is not None})
        if self.place.due:
            self.redraw()

    def redraw(self) -> None:
        """Draw now; the trainer's hook calls this at the end, so that the last epochs show."""
        if self.rows:
            self.place.show(lambda: _draw_columns({"": _columns(self.rows)}, self.x))

    @property
    def numbers(self) -> dict:
        """The numbers of `plot_runs` for this run; empty before the first row."""
        return _numbers(_columns(self.rows)) if self.rows else {}


def _columns(rows: Iterable[Mapping]) -> dict[str, np.ndarray]:
    rows = list(rows)
    columns = {name: np.array([float(row.get(name, np.nan)) for row in rows]) for name in COLUMNS}
    if np.isnan(columns["epoch"]).all():
        columns["epoch"] = np.arange(len(rows), dtype=float)
    return columns


def _line(axes, x: np.ndarray, y: np.ndarray, **options) -> None:
    """A line through the points that were measured; without any there is no legend either."""
    known = np.isfinite(x) & np.isfinite(y)
    if known.any():
        axes.plot(x[known], y[known], marker="o" if known.sum() < 3 else None, markersize=4, **options)


def _best(values: np.ndarray) -> int | None:
    return int(np.nanargmax(values)) if np.isfinite(values).any() else None


def _numbers(columns: Mapping[str, np.ndarray]) -> dict:
    best = _best(columns["map50"])

    def last(name: str) -> float | None:
        known = columns[name][np.isfinite(columns[name])]
        return float(known[-1]) if len(known) else None

    return {
        "epochs": len(columns["epoch"]),
        "seconds": last("seconds"),
        "last_loss": last("loss"),
        "best_map50": None if best is None else float(columns["map50"][best]),
        "best_map50_95": None if _best(columns["map50_95"]) is None else float(np.nanmax(columns["map50_95"])),
        "best_epoch": None if best is None else int(columns["epoch"][best]),
    }
