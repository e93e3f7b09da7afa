"""The table of the study as a picture: each way of training, over base, novel and all classes."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ...canvas import style

GROUPS = ("base", "novel", "all")
MARKS = "osD"


@style.house()
def draw_study(table: Mapping[str, Mapping[str, Sequence[float]]], title: str = "") -> style.StudyFigure:
    """A row for each way of training: mean and standard deviation, and each run as a faint dot.

    Args:
        table: row -> column, such as "mAP50 base" or "mAP50-95 all", -> one value for each run; an
            empty list draws nothing.
    """
    figure, axes = style.figure(1, 2, sharey=True, height=1.1 + 0.36 * len(table))
    places = np.arange(len(table))
    metrics = {"mAP50": "mAP at IoU 0.50", "mAP50-95": "mAP at IoU 0.50 to 0.95"}
    for axis, (metric, name) in zip(axes, metrics.items(), strict=True):
        for number, group in enumerate(GROUPS):
            colour, shift = style.cycle(number), 0.24 * (number - 1)
            runs = [np.asarray(columns.get(f"{metric} {group}", ()), float) for columns in table.values()]
            for place, values in zip(places, runs, strict=True):
                if len(values):
                    spread = values.std(ddof=1) if len(values) > 1 else 0.0
                    axis.plot(values, np.full(len(values), place + shift), ".", color=colour, alpha=0.4, markersize=4)
                    axis.errorbar(
                        values.mean(),
                        place + shift,
                        xerr=spread,
                        fmt=MARKS[number],
                        color=colour,
                        markersize=5,
                        capsize=2.5,
                    )
            axis.plot([], [], MARKS[number], color=colour, markersize=5, label=f"{group} classes")
        axis.set(title=name, xlabel="average precision")
        axis.grid(axis="y", visible=False)
    axes[0].set_yticks(places, list(table))
    axes[0].set_ylim(len(table) - 0.5, -0.5)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    if title:
        figure.suptitle(title, fontsize=10)
    return figure.with_numbers(table)


def read_study(path: Path | str) -> dict[str, dict[str, list[float]]]:
    """The `table.csv` of `yolostudy study-table`, as `draw_study` takes it.

    The file holds mean and deviation of each column, not the runs. For each column two values come
    back, with exactly this mean and deviation.
    """
    with Path(path).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows or "row" not in rows[0]:
        raise ValueError(
            f"{path}: this is no table of `yolostudy study-table`: its first line does not begin with row,runs. "
            "Give the table.csv that the command wrote."
        )
    table = {}
    for row in rows:
        columns = [name.removesuffix(" mean") for name in row if name.endswith(" mean")]
        table[row["row"]] = {name: _two_values(row[f"{name} mean"], row[f"{name} deviation"]) for name in columns}
    return table


def _two_values(mean: str, deviation: str) -> list[float]:
    """Two values with this mean and this standard deviation, one where there is no deviation."""
    if not mean:
        return []
    aside = float(deviation) / math.sqrt(2) if deviation else 0.0
    return [float(mean) - aside, float(mean) + aside] if deviation else [float(mean)]
