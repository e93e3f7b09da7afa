"""The memory of a training step as a picture."""

from __future__ import annotations

import itertools

import numpy as np

from ...canvas import style
from .memory_report import KINDS, StepMemory

COLOURS = dict(
    zip(KINDS, ("#0072b2", "#56b4e9", "#5b5b5b", "#cc79a7", "#e69f00", "#8b93a3", "#009e73", "#d55e00", "#d9dce3"))
)


@style.house()
def draw_memory(step: StepMemory, most: int = 12) -> style.StudyFigure:
    """Left: bytes in use from the first operation to the last, and the peak by kind.

    Right: the parts that hold most.

    `numbers`, in bytes: peak; at_peak, by kind; parts, name -> (weights, activations), as drawn.

    Args:
        most: how many parts to draw.
    """
    figure, (left, right) = style.figure(1, 2, height=3.9, width_ratios=(1.25, 1))
    _draw_timeline(left, step)
    parts = sorted(step.parts().items(), key=lambda part: -sum(part[1]))[:most]
    _draw_parts(right, parts[::-1])
    at_peak = {kind: value for kind, value in step.at_peak.items() if value}
    return figure.with_numbers({"peak": step.peak, "at_peak": at_peak, "parts": dict(parts)})


def _draw_timeline(axes, step: StepMemory) -> None:
    if step.timeline:
        height = np.array([value for _, value in step.timeline]) / 2**20
        axes.plot(height, color=style.INK, linewidth=1.3)
        names = [phase for phase, _ in step.timeline]
        edges = [0, *(x for x in range(1, len(names)) if names[x] != names[x - 1]), len(names)]
        for number, (start, end) in enumerate(itertools.pairwise(edges)):
            axes.axvspan(start, end, color="#f0f2f6" if number % 2 else style.PAPER, zorder=0)
            if end - start > 0.04 * len(names):
                axes.annotate(names[start], ((start + end) / 2, 1.02 * height.max()), ha="center", fontsize=9)
        axes.set(xlabel="operations, in order", xticks=[])
    bottom, length = 0.0, len(step.timeline) or 8
    for kind, value in step.at_peak.items():
        if value:
            size = value / 2**20
            label = f"{kind}, {size:,.0f}"
            axes.bar(1.08 * length, size, 0.1 * length, bottom, color=COLOURS[kind], label=label)
            bottom += size
    axes.set(xlim=(0, 1.14 * length), ylabel="in use (MiB)", ylim=(0, 1.12 * step.peak / 2**20))
    word = "measured" if step.measured else "predicted"
    axes.set_title(f"{step.peak / 2**20:,.0f} MiB at the peak, {word}")
    where = dict(loc="lower center", bbox_to_anchor=(0.45, 0.02))
    axes.legend(**where, fontsize=8, reverse=True, title="column: the peak, MiB", title_fontsize=8)


def _draw_parts(axes, parts: list[tuple[str, tuple[int, int]]]) -> None:
    weights, saved = (np.array([part[index] for _, part in parts]) / 2**20 for index in (0, 1))
    axes.barh(range(len(parts)), saved, color=COLOURS["activations"], label="saved for the backward pass")
    axes.barh(range(len(parts)), weights, left=saved, color=COLOURS["weights"], label="weights")
    axes.set(yticks=range(len(parts)), yticklabels=[name for name, _ in parts], xlabel="MiB")
    axes.set_title("the parts that hold most")
    axes.grid(axis="y", visible=False)
    axes.legend(loc="lower right", fontsize=8)
