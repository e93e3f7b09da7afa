"""What an optimizer is told in the first steps of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.ticker import MaxNLocator

from ...canvas import style


@style.house()
def draw_warmup(
    rates: Mapping[str, Sequence[float]], momentum: Sequence[float], batches: Sequence[int]
) -> style.StudyFigure:
    """Learning rates, momentum, and batches in an update, at each step of a run.

    Args:
        rates: label -> (steps,) rate of a group of the optimizer.
        momentum: (steps,). batches: (steps,) whole numbers.
    """
    figure, (left, middle, right) = style.figure(1, 3)
    for number, (label, values) in enumerate(rates.items()):
        left.plot(values, color=style.cycle(number), label=label)
    left.legend()
    middle.plot(momentum, color=style.cycle(2))
    right.step(np.arange(len(batches)), batches, where="mid", color=style.cycle(3))
    for axes, title in ((left, "learning rate"), (middle, "momentum"), (right, "batches in an update")):
        axes.set(title=title, xlabel="step")
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    left.set_ylim(bottom=0)
    left.yaxis.set_major_formatter("{x:g}")
    right.set_ylim(bottom=0)
    right.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    return figure.with_numbers({"rates": dict(rates), "momentum": list(momentum), "batches": list(batches)})
