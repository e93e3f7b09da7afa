"""Average precision class by class, for several trainings, base classes apart from novel ones."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import numpy as np

from ...canvas import style


@style.house()
def draw_class_bars(evaluations: Mapping[str, object], base: Collection[str]) -> style.StudyFigure:
    """AP at IoU 0.5 of every class, base classes left, novel ones right; lines are means.

    Its numbers: label -> means over "base", "novel" and "all" classes; nan for an empty group.

    Args:
        evaluations: label -> `metrics.Evaluation`; all of the same classes.
        base: names of the base classes.
    """
    names = [[row.name for row in one.per_class] for one in evaluations.values()]
    if not names or any(one != names[0] for one in names):
        raise ValueError("class bars need one or more evaluations of the same classes, in the same order.")
    names = sorted(names[0], key=lambda name: name not in base)  # stable: keeps the order within a group
    count = sum(name in base for name in names)
    groups = {"base": slice(0, count), "novel": slice(count, None), "all": slice(None)}
    places = np.arange(len(names)) + (np.arange(len(names)) >= count)  # a gap between the groups
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
    return figure.with_numbers(numbers)
