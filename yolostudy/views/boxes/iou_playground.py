"""IoU and complete IoU of two boxes, and the gradient of each for the four edges.

A loss is 1 - measure, so the descent moves an edge along the gradient of the measure. The arrows
show it: a push of 0.01 on an edge means that the loss falls by 0.01 when the edge moves by a pixel
in the direction of the arrow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from ...canvas import drawing, style
from ...canvas.overlap import intersection
from ...canvas.panel import Panel
from .asking import ask

FIXED = (52.0, 38.0, 88.0, 62.0)
SIDE = 100.0  # pixels of the playground
MAX_ARROW = 26.0  # pixels, for a push of MAX_PUSH or more; the root keeps weak pushes visible
MAX_PUSH = 0.02
MEASURES = ("IoU", "CIoU")


def compare_boxes(
    moved: Sequence[float],
    fixed: Sequence[float] = FIXED,
    box_iou: Callable | None = None,
    complete_iou: Callable | None = None,
) -> dict:
    """Both measures of a pair of boxes, and their gradients for the edges of the first box.

    Args:
        moved, fixed: x1 y1 x2 y2.
        box_iou, complete_iou: the functions to ask; by default those of `yolostudy.boxes`.

    Returns:
        moved, fixed.
        iou, ciou: as the functions give them.
        distance, v, alpha, aspect: the terms of CIoU, ρ²/c², v, α and α·v, computed here.
        push_iou, push_ciou: (4,) the gradients of the measures.
    """
    import torch

    edges = torch.tensor([[float(value) for value in moved]], requires_grad=True)
    other = torch.tensor([[float(value) for value in fixed]])
    iou = ask("box_iou", box_iou, (1, 1), edges, other)[0, 0]
    ciou = ask("complete_iou", complete_iou, (1,), edges, other)[0]
    pushes = [torch.autograd.grad(measure, edges)[0][0].double().numpy() for measure in (iou, ciou)]
    numbers = {"moved": edges[0].tolist(), "fixed": other[0].tolist(), "iou": iou.item(), "ciou": ciou.item()}
    return numbers | _terms(numbers["moved"], numbers["fixed"]) | {"push_iou": pushes[0], "push_ciou": pushes[1]}


def _terms(moved: Sequence[float], fixed: Sequence[float]) -> dict:
    """The terms of CIoU: Zheng et al. 2020, equations 6 and 9 to 11.

    The picture computes them itself, so that a wrong function shows.
    """
    (x1, y1, x2, y2), (u1, v1, u2, v2) = moved, fixed
    shared, union = _areas(moved, fixed)
    iou = shared / union
    diagonal = (max(x2, u2) - min(x1, u1)) ** 2 + (max(y2, v2) - min(y1, v1)) ** 2
    distance = ((u1 + u2 - x1 - x2) ** 2 + (v1 + v2 - y1 - y2) ** 2) / 4 / diagonal
    v = 4 / math.pi**2 * (math.atan((u2 - u1) / (v2 - v1)) - math.atan((x2 - x1) / (y2 - y1))) ** 2
    alpha = v / (1 - iou + v) if v else 0.0
    return {"distance": distance, "v": v, "alpha": alpha, "aspect": alpha * v}


def _areas(first: Sequence[float], second: Sequence[float]) -> tuple[float, float]:
    """Areas of the intersection and of the union of two boxes."""
    pair = np.array([first, second], float)
    shared = float(intersection(pair[:1], pair[1:])[0, 0])
    return shared, float((pair[:, 2:] - pair[:, :2]).prod(axis=1).sum()) - shared


@style.house()
def draw_box_comparison(numbers: dict) -> style.StudyFigure:
    """The pair twice, with the pushes of either loss, and the terms of CIoU as bars."""
    figure, (plain, complete, bars) = style.figure(1, 3, height=3.5, width_ratios=(1, 1, 0.95))
    for axes, name in zip((plain, complete), MEASURES, strict=True):
        push = numbers[f"push_{name.lower()}"]
        square(axes)
        drawing.frame(axes, numbers["fixed"], style.TRUTH, linewidth=2.2)
        drawing.frame(axes, numbers["moved"], style.CYCLE[0], linewidth=2.2)
        _arrows(axes, numbers["moved"], push)
        strongest = float(np.abs(push).max())
        said = f"strongest push {strongest:.4f} per pixel" if strongest else "no push: nothing moves"
        axes.set(title=f"loss 1 - {name}", xlabel=f"x in pixels\n{said}")
    terms = ((numbers["iou"], "IoU", style.CYCLE[0]), (-numbers["distance"], "- ρ²/c²", style.CYCLE[1]))
    terms += ((-numbers["aspect"], "- α·v", style.CYCLE[4]), (numbers["ciou"], "CIoU", style.CYCLE[2]))
    plain.set_ylabel("y in pixels")
    bars.set_box_aspect(1)
    for row, (value, _, colour) in enumerate(terms):
        bars.barh(row, value, color=colour, height=0.62)
        beside, side = (0.04, "left") if value >= 0 else (-0.04, "right")
        bars.text(value + beside, row, f"{value:.3f}".replace("-0.000", "0.000"), va="center", ha=side, fontsize=9)
    bars.axvline(0, color=style.INK, linewidth=1)
    bars.set(
        xlim=(-1.35, 1.35),
        ylim=(3.6, -0.6),
        yticks=range(4),
        yticklabels=[name for _, name, _ in terms],
        title="the terms",
    )
    gap = numbers["iou"] - numbers["distance"] - numbers["aspect"] - numbers["ciou"]
    bars.set_xlabel("value" if abs(gap) < 1e-3 else f"the terms sum to {numbers['ciou'] + gap:.3f}, not to CIoU")
    drawing.settle(plain, complete, bars)
    return figure.with_numbers(numbers)


@style.house()
def draw_overlaps(
    pairs: Sequence[tuple[Sequence[float], Sequence[float]]], box_iou: Callable | None = None
) -> style.StudyFigure:
    """Pairs of boxes side by side: the intersection filled, the union shaded, and their IoU.

    Its numbers: shared and union in square pixels and iou, one dictionary for each pair.

    Args:
        pairs: two boxes each, x1 y1 x2 y2 in 0…100.
        box_iou: the function to ask; by default that of `yolostudy.boxes`.
    """
    import torch

    numbers = []
    figure, panels = style.figure(1, len(pairs), height=3.1, squeeze=False)
    for axes, pair in zip(panels[0], pairs, strict=True):
        iou = float(ask("box_iou", box_iou, (1, 1), *[torch.tensor([[float(value) for value in box]]) for box in pair]))
        shared, union = _areas(*pair)
        numbers.append({"shared": shared, "union": union, "iou": iou})
        square(axes)
        for box, colour in zip(pair, (style.CYCLE[0], style.TRUTH), strict=True):
            drawing.frame(axes, box, "none", fill=True, facecolor=style.BAND["backbone"])
            drawing.frame(axes, box, colour, linewidth=2.2, zorder=4)
        if shared:
            corners = *np.max(pair, axis=0)[:2], *np.min(pair, axis=0)[2:]
            drawing.frame(axes, corners, "none", fill=True, facecolor=style.CYCLE[1], zorder=3)
        axes.set(title=f"{shared:g} of {union:g} px²: IoU {iou:.2f}", xlabel="x in pixels")
    panels[0][0].set_ylabel("y in pixels")
    drawing.settle(*panels[0])
    return figure.with_numbers(numbers)


def square(axes) -> None:
    """Axes over the whole playground."""
    axes.set(xlim=(0, SIDE), ylim=(SIDE, 0), xticks=range(0, 101, 25), yticks=range(0, 101, 25))
    axes.set_aspect("equal")


def _arrows(axes, box: Sequence[float], push: np.ndarray) -> None:
    """An arrow from the middle of each edge, along the axis on which the edge can move."""
    x1, y1, x2, y2 = box
    middles = ((x1, (y1 + y2) / 2), ((x1 + x2) / 2, y1), (x2, (y1 + y2) / 2), ((x1 + x2) / 2, y2))
    for side, (middle, strength) in enumerate(zip(middles, push, strict=True)):
        length = float(np.sign(strength) * MAX_ARROW * np.sqrt(min(1.0, abs(strength) / MAX_PUSH)))
        if abs(length) > 0.5:
            tip = np.array(middle) + (np.array([length, 0]) if side % 2 == 0 else np.array([0, length]))
            drawing.arrow(axes, middle, tip, style.CYCLE[1], 2, mutation_scale=13)


class IoUPlayground(Panel):
    """A widget: four sliders move and resize one box beside a fixed one.

    Args:
        box_iou, complete_iou: the functions to ask; by default those of `yolostudy.boxes`.
    """

    def __init__(self, box_iou: Callable | None = None, complete_iou: Callable | None = None):
        import ipywidgets as widgets

        self.functions = dict(box_iou=box_iou, complete_iou=complete_iou)
        look = dict(step=0.5, readout_format=".1f", layout={"width": "410px"})
        controls = [
            widgets.FloatSlider(value=value, min=low, max=high, description=name, **look)
            for name, value, low, high in (
                ("centre x", 22, 0, SIDE),
                ("centre y", 70, 0, SIDE),
                ("width", 20, 4, 80),
                ("height", 28, 4, 80),
            )
        ]
        self.x, self.y, self.width, self.height = controls
        self._begin([widgets.HBox(controls[:2]), widgets.HBox(controls[2:])], controls)

    @property
    def moved(self) -> tuple[float, float, float, float]:
        x, y, width, height = (control.value for control in (self.x, self.y, self.width, self.height))
        return x - width / 2, y - height / 2, x + width / 2, y + height / 2

    def _look(self):
        numbers = compare_boxes(self.moved, **self.functions)
        return numbers, draw_box_comparison(numbers)
