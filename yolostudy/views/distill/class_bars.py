"""What came of several trainings: class by class, and in the table of the study."""

from __future__ import annotations

import csv
import math
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from ...canvas import style


@style.house()
def draw_class_bars(
    evaluations: Mapping[str, object], base: Collection[str]
) -> tuple[style.StudyFigure, dict[str, dict[str, float]]]:
    """AP at IoU 0.5 of every class, base classes left, novel ones right, with the mean of each
    group as a line.

    Args:
        evaluations: label -> `metrics.Evaluation`; all of the same classes.
        base: names of the base classes.

    Returns:
        the figure, and label -> means over "base", "novel" and "all" classes; nan for a group
        without any.
    """
    names = [[row.name for row in one.per_class] for one in evaluations.values()]
    if not names or any(one != names[0] for one in names):
        raise ValueError("class bars need one or more evaluations of the same classes, in the same order.")
    names = sorted(names[0], key=lambda name: name not in base)  # stable: the order within a group stays
    count = sum(name in base for name in names)
    groups = {"base": slice(0, count), "novel": slice(count, None), "all": slice(None)}
    places = np.arange(len(names)) + (np.arange(len(names)) >= count)  # one place stays free between the groups
    figure, axes = style.figure(height=3.3)
    width, numbers = 0.8 / len(evaluations), {}
    for number, (label, one) in enumerate(evaluations.items()):
        by_name = {row.name: row.ap50 for row in one.per_class}
        values = np.array([by_name[name] for name in names])
        means = {
            group: float(np.nanmean(values[rows])) if len(values[rows]) else math.nan for group, rows in groups.items()
        }
        numbers[label], colour = means, style.cycle(number)
        said = ", ".join(f"{group} {mean:.3f}" for group, mean in means.items())
        axes.bar(places + width * (number + 0.5) - 0.4, values, width, color=colour, label=f"{label}: {said}")
        for group in ("base", "novel"):
            if len(at := places[groups[group]]):
                axes.plot((at[0] - 0.5, at[-1] + 0.5), (means[group],) * 2, color=style.INK, linewidth=3.2)
                axes.plot((at[0] - 0.45, at[-1] + 0.45), (means[group],) * 2, color=colour, linewidth=1.8)
    axes.set_xticks(places, names)
    axes.set(ylim=(0, 1.04), ylabel="AP at IoU 0.5", xlim=(-0.7, places[-1] + 0.7))
    axes.set_title("left the base classes, which the teacher knows, right the novel ones; lines are means")
    axes.grid(axis="x", visible=False)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure, numbers


def read_study(path: Path | str) -> dict[str, dict[str, list[float]]]:
    """The `table.csv` of `yolostudy study-table`, as `draw_study` takes it.

    The file holds mean and deviation of each column and not the runs; of these, two values come
    back that have just this mean and deviation.
    """
    with Path(path).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows or "row" not in rows[0]:
        raise ValueError(
            f"{path}: this is no table of `yolostudy study-table`; the first line of such a file begins with row,runs."
        )
    table = {}
    for row in rows:
        columns = [name.removesuffix(" mean") for name in row if name.endswith(" mean")]
        table[row["row"]] = {name: _with(row[f"{name} mean"], row[f"{name} deviation"]) for name in columns}
    return table


def _with(mean: str, deviation: str) -> list[float]:
    if not mean:
        return []
    aside = float(deviation) / math.sqrt(2) if deviation else 0.0
    return [float(mean) - aside, float(mean) + aside] if deviation else [float(mean)]
