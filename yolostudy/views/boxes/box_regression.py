"""Box regression in the small: gradient descent on the four edges of one box.

The same start under 1 - IoU and under 1 - CIoU, as in the simulation experiment of Zheng et al.
2020, Distance-IoU Loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from ...canvas import drawing, style
from .asking import ask
from .iou_playground import FIXED, MEASURES, square

STEPS, RATE = 400, 70.0  # RATE: pixels that an edge moves per unit of gradient at the first step


def regress_box(start: Sequence[float], box_iou: Callable | None = None, complete_iou: Callable | None = None) -> dict:
    """Gradient descent from `start` to FIXED, once under 1 - IoU and once under 1 - CIoU.

    The rate falls along a cosine to a hundredth: the gradient of either loss does not fade near the
    target, so with a constant rate the box would tremble around it.

    Args:
        start: x1 y1 x2 y2.
        box_iou, complete_iou: the functions to ask; by default those of `yolostudy.boxes`.

    Returns:
        target; and for "IoU" and "CIoU": path (STEPS + 1, 4), and iou (STEPS + 1,) with the target
        along the path.
    """
    import torch

    goal = torch.tensor([FIXED])
    numbers: dict = {"target": goal[0].tolist()}
    for name in MEASURES:
        edges = torch.tensor([[float(value) for value in start]], requires_grad=True)
        path, ious = [], []
        for step in range(STEPS + 1):
            iou = ask("box_iou", box_iou, (1, 1), edges, goal)[0, 0]
            measure = iou if name == "IoU" else ask("complete_iou", complete_iou, (1,), edges, goal)[0]
            path.append(edges[0].detach().double().numpy().copy())
            ious.append(iou.item())
            (gradient,) = torch.autograd.grad(1 - measure, edges)
            with torch.no_grad():
                edges -= RATE * (0.01 + 0.99 * (1 + math.cos(math.pi * step / STEPS)) / 2) * gradient
        numbers[name] = {"path": np.stack(path), "iou": np.array(ious)}
    return numbers


@style.house()
def draw_box_regression(numbers: dict) -> style.StudyFigure:
    """Both paths as rows of boxes that get darker, and the overlap with the target on the way."""
    figure, (plain, complete, curve) = style.figure(1, 3, height=3.5, width_ratios=(1, 1, 0.95))
    for axes, name, colour in zip((plain, complete), MEASURES, (style.CYCLE[1], style.CYCLE[0]), strict=True):
        path, ious = numbers[name]["path"], numbers[name]["iou"]
        square(axes)
        shown = np.unique(np.linspace(0, len(path) - 1, 11).astype(int))
        for order, step in enumerate(shown):
            last = order == len(shown) - 1
            drawing.frame(
                axes,
                path[step],
                colour,
                alpha=0.25 + 0.75 * order / (len(shown) - 1),
                linewidth=2.6 if last else 1.1,
                zorder=3,
            )
        drawing.frame(axes, numbers["target"], style.TRUTH, linewidth=2.2, linestyle=(0, (4, 2)), zorder=4)
        axes.set(title=f"descent on 1 - {name}", xlabel=f"x in pixels\nIoU at the end {ious[-1]:.2f}")
        curve.plot(ious, color=colour, label=f"1 - {name}", linewidth=2.4)
    plain.set_ylabel("y in pixels")
    curve.set_box_aspect(1)
    curve.set(
        title="overlap on the way", xlabel="step", ylabel="IoU with the target", ylim=(-0.04, 1.04), xlim=(0, None)
    )
    curve.legend(loc="upper left")
    drawing.settle(plain, complete, curve)
    return figure.with_numbers(numbers)
