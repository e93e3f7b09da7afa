"""The study's table as a picture: what each way of training came to, over base, novel and all
classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...canvas import style

GROUPS = ("base", "novel", "all")
MARKS = "osD"


@style.house()
def draw_study(table: Mapping[str, Mapping[str, Sequence[float]]], title: str = "") -> style.StudyFigure:
    """A row for each way of training: mean and standard deviation as a mark with whiskers, each run
    as a faint dot.

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
    return figure
