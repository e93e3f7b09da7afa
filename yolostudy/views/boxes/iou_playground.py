"""IoU and complete IoU: two boxes, what each measure says of them, and where it would push the four
edges.

A loss is 1 less the measure, so an edge is pushed along the measure's own gradient: a push of 0.01
on an edge means that the loss falls by 0.01 when the edge moves by a pixel in the direction of the
arrow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from ...canvas import drawing, style
from ...canvas.overlap import intersection
from ...canvas.panel import Panel
from .box_lab import ask

FIXED = (52.0, 38.0, 88.0, 62.0)
SIDE = 100.0  # pixels of the playground
# pixels of an arrow, for a push of STRONGEST or more; shorter ones go with the root, or weak pushes
# would not be seen
LONGEST = 26.0
STRONGEST = 0.02
MEASURES = ("IoU", "CIoU")
STEPS, RATE = 400, 70.0  # of a descent; pixels that an edge moves per unit of gradient at its first step


def compare_boxes(
    moved: Sequence[float],
    fixed: Sequence[float] = FIXED,
    box_iou: Callable | None = None,
    complete_iou: Callable | None = None,
) -> dict:
    """Both measures of a pair of boxes, the terms of the complete one, and the gradients for the
    edges of the first box.

    Args:
        moved, fixed: x1 y1 x2 y2.

    Returns:
        moved, fixed; iou and ciou as the functions give them; distance ρ²/c², v, alpha and aspect =
        α·v, computed here; push_iou and
        push_ciou (4,): the gradients of the measures.
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
    """Zheng et al. 2020, equations 6 and 9 to 11, in plain numbers: the picture's own, so that a
    wrong function shows.
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
    """What two boxes share, and what they cover together."""
    pair = np.array([first, second], float)
    shared = float(intersection(pair[:1], pair[1:])[0, 0])
    return shared, float((pair[:, 2:] - pair[:, :2]).prod(axis=1).sum()) - shared


@style.house()
def draw_comparison(numbers: dict) -> style.StudyFigure:
    """The pair twice, with the pushes under either loss, and the terms of CIoU as bars."""
    figure, (plain, complete, bars) = style.figure(1, 3, height=3.5, width_ratios=(1, 1, 0.95))
    for axes, name in zip((plain, complete), MEASURES, strict=True):
        push = numbers[f"push_{name.lower()}"]
        _square(axes)
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
    return figure


@style.house()
def draw_overlaps(
    pairs: Sequence[tuple[Sequence[float], Sequence[float]]], box_iou: Callable | None = None
) -> style.StudyFigure:
    """Pairs of boxes side by side: what both share filled, what they cover together shaded, and the
    IoU that comes of it.
    """
    import torch

    figure, panels = style.figure(1, len(pairs), height=3.1, squeeze=False)
    for axes, pair in zip(panels[0], pairs, strict=True):
        iou = float(ask("box_iou", box_iou, (1, 1), *[torch.tensor([[float(value) for value in box]]) for box in pair]))
        shared, union = _areas(*pair)
        _square(axes)
        for box, colour in zip(pair, (style.CYCLE[0], style.TRUTH), strict=True):
            drawing.frame(axes, box, "none", fill=True, facecolor=style.BAND["backbone"])
            drawing.frame(axes, box, colour, linewidth=2.2, zorder=4)
        if shared:
            corners = *np.max(pair, axis=0)[:2], *np.min(pair, axis=0)[2:]
            drawing.frame(axes, corners, "none", fill=True, facecolor=style.CYCLE[1], zorder=3)
        axes.set(title=f"{shared:g} of {union:g} px²: IoU {iou:.2f}", xlabel="x in pixels")
    panels[0][0].set_ylabel("y in pixels")
    drawing.settle(*panels[0])
    return figure


def _square(axes) -> None:
    axes.set(xlim=(0, SIDE), ylim=(SIDE, 0), xticks=range(0, 101, 25), yticks=range(0, 101, 25))
    axes.set_aspect("equal")


def _arrows(axes, box: Sequence[float], push: np.ndarray) -> None:
    """From the middle of each edge, along the axis on which it can move."""
    x1, y1, x2, y2 = box
    middles = ((x1, (y1 + y2) / 2), ((x1 + x2) / 2, y1), (x2, (y1 + y2) / 2), ((x1 + x2) / 2, y2))
    for side, (middle, strength) in enumerate(zip(middles, push, strict=True)):
        length = float(np.sign(strength) * LONGEST * np.sqrt(min(1.0, abs(strength) / STRONGEST)))
        if abs(length) > 0.5:
            tip = np.array(middle) + (np.array([length, 0]) if side % 2 == 0 else np.array([0, length]))
            drawing.arrow(axes, middle, tip, style.CYCLE[1], 2, mutation_scale=13)


class IoUPlayground(Panel):
    """Four sliders move and resize one box beside a fixed one.

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
        return numbers, draw_comparison(numbers)


def descend(start: Sequence[float], box_iou: Callable | None = None, complete_iou: Callable | None = None) -> dict:
    """Gradient descent from `start` to FIXED on the four edges of a box, once under 1 - IoU and
    once under 1 - CIoU.

    The rate falls along a cosine to a hundredth: the pull of either loss does not fade near the
    target, so a constant rate would end in a tremble.

    Returns:
        target; and for "IoU" and "CIoU": path (STEPS + 1, 4) and iou (STEPS + 1,) with the target
        along it.
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
def draw_descents(numbers: dict) -> style.StudyFigure:
    """The two ways as a row of boxes that get darker, and how the overlap grew."""
    figure, (plain, complete, curve) = style.figure(1, 3, height=3.5, width_ratios=(1, 1, 0.95))
    for axes, name, colour in zip((plain, complete), MEASURES, (style.CYCLE[1], style.CYCLE[0]), strict=True):
        path, ious = numbers[name]["path"], numbers[name]["iou"]
        _square(axes)
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
    return figure
