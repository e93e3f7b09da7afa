"""How far a layer sees: its receptive field, measured on the layer itself, pool by pool.

Two questions have the same answer, and both are asked. Forward: light one position of the input;
where does the light arrive? Backward: watch one position of the output; which positions of the
input have a gradient? Nothing here knows the formula 5, 9, 13: a layer that is built otherwise
shows what it does.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ...canvas import drawing, style
from ...canvas.panel import Panel

if TYPE_CHECKING:
    from torch import Tensor, nn

SIDE = 21  # positions of a map: room for the widest window of SPPF, 13, and a rim around it


@dataclass(frozen=True, slots=True, eq=False)
class Footprint:
    """Where something arrives on a map.

    Attributes:
        heat: (H, W) how much, 0 where nothing.
        window: top, left, bottom, right of the smallest rectangle around it (the last two
            exclusive), or None where nothing arrives.
    """

    heat: np.ndarray
    window: tuple[int, int, int, int] | None

    @property
    def height(self) -> int:
        return self.window[2] - self.window[0] if self.window else 0

    @property
    def width(self) -> int:
        return self.window[3] - self.window[1] if self.window else 0


@dataclass(frozen=True, slots=True, eq=False)
class ReceptiveField:
    """The receptive field of a layer after each of its pools.

    Attributes:
        position: row and column that was lit, and watched.
        forward: after each pool, where the lit position arrived.
        backward: for the watched position of each pool's output, what it depends on.
        output: where the lit position arrived in the layer's output.
    """

    position: tuple[int, int]
    forward: tuple[Footprint, ...]
    backward: tuple[Footprint, ...]
    output: Footprint

    @property
    def widths(self) -> tuple[int, ...]:
        """Width of the window after each pool, in positions: 5, 9, 13 for SPPF."""
        return tuple(footprint.width for footprint in self.forward)

    @property
    def numbers(self) -> dict:
        return {
            "position": self.position,
            "widths": self.widths,
            "gradient_widths": tuple(footprint.width for footprint in self.backward),
            "output": self.output.width,
        }


def receptive_field(
    layer: nn.Module, channels: int, position: tuple[int, int] = (SIDE // 2, SIDE // 2)
) -> ReceptiveField:
    """Light one position, and watch one, through every pool that the layer calls.

    The layer itself is not changed: a copy of it gets weights that are all positive, so that more
    light gives more everywhere.

    Args:
        layer: takes (B, channels, SIDE, SIDE), for instance an SPPF. Its pools are found by the
            calls, not by their names.
        position: row and column.
    """
    import torch

    row, column = position
    plain = _brightened(layer)
    with torch.no_grad():
        images = torch.zeros(2, channels, SIDE, SIDE)
        images[1, :, row, column] = 1
        output, pools = _pooled(plain, images)
    forward = tuple(_footprint((pool[1] - pool[0]).abs().sum(0)) for pool in pools)

    # A max pool hands its gradient to the brightest position alone. So each position of the input
    # is lit once, in an image of its own, and asked whether the gradient comes back to it.
    lit = torch.eye(SIDE * SIDE).view(-1, 1, SIDE, SIDE).repeat(1, channels, 1, 1).requires_grad_()
    _, watched = _pooled(plain, lit)
    backward = []
    for pool in watched:
        back = None
        if pool.requires_grad:
            (back,) = torch.autograd.grad(pool[:, :, row, column].sum(), lit, retain_graph=True, allow_unused=True)
        own = torch.zeros(SIDE * SIDE) if back is None else back.abs().sum(1).flatten(1).diagonal()
        backward.append(_footprint(own.view(SIDE, SIDE)))
    return ReceptiveField(position, forward, tuple(backward), _footprint((output[1] - output[0]).abs().sum(0)))


def _pooled(layer: nn.Module, images: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The output of a layer, and the output of each pool on the way, function or module."""
    from torch.overrides import TorchFunctionMode

    pools = []

    class Watch(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            if "_pool" in getattr(function, "__name__", ""):
                pools.append(result[0] if isinstance(result, tuple) else result)
            return result

    with Watch():
        output = layer(images)
    return output, pools


def _brightened(layer: nn.Module) -> nn.Module:
    """A copy in evaluation mode that averages its input channels and shifts nothing."""
    import torch
    from torch import nn

    plain = copy.deepcopy(layer).eval()
    with torch.no_grad():
        for module in plain.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.reset_running_stats()
                module.reset_parameters()
            elif getattr(module, "weight", None) is not None and module.weight.ndim > 1:
                module.weight.fill_(1 / module.weight[0].numel())
                if getattr(module, "bias", None) is not None:
                    module.bias.zero_()
    return plain


def _footprint(heat: Tensor) -> Footprint:
    heat = heat.detach().double().cpu().numpy()
    found = heat > 1e-6 * heat.max(initial=0)  # anything smaller is rounding
    return Footprint(np.where(found, heat, 0.0), window_of(found))


def window_of(found: np.ndarray) -> tuple[int, int, int, int] | None:
    """Top, left, bottom, right of the smallest rectangle around what is True, or None."""
    if not found.any():
        return None
    rows, columns = np.flatnonzero(found.any(1)), np.flatnonzero(found.any(0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


# The picture
# --------------------------------------------------------------------------------------------------


@style.house()
def draw_receptive_field(field: ReceptiveField, gradient: bool = False) -> style.StudyFigure:
    """One heat map for each pool and one for the output.

    Args:
        gradient: draw a second row that shows what the watched position depends on.
    """
    names = ["first", "second", "third", *(f"{number}th" for number in range(4, 99))]
    count = len(field.forward)
    figure, axes = style.figure(1 + gradient, count + 1, height=2.75 * (1 + gradient), squeeze=False)
    for number, footprint in enumerate(field.forward):
        _draw_footprint(axes[0, number], footprint, f"after the {names[number]} pool", field.position)
    _draw_footprint(axes[0, -1], field.output, "output: all maps added", field.position)
    if gradient:
        for number, footprint in enumerate(field.backward):
            _draw_footprint(axes[1, number], footprint, f"seen from the {names[number]} pool", field.position)
        axes[1, -1].axis("off")
        text = (
            "Above: where one lit\nposition (red dot) arrives.\n\nBelow: which positions\nthe red dot sees, by\nthe "
            "gradient."
        )
        axes[1, -1].text(0, 0.5, text, va="center", transform=axes[1, -1].transAxes, linespacing=1.4)
    return figure.with_numbers(field.numbers)


def _draw_footprint(axes, footprint: Footprint, title: str, position: tuple[int, int]) -> None:
    peak = footprint.heat.max(initial=0) or 1.0
    axes.imshow(footprint.heat / peak, cmap=style.HEAT, vmin=0, vmax=1)
    axes.plot(position[1], position[0], "o", color=style.FALSE_ALARM, markersize=5, markeredgecolor=style.PAPER)
    axes.set_title(title, fontsize=10)
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    text = "nothing arrives"
    if footprint.window:
        top, left, bottom, right = footprint.window
        drawing.frame(axes, (left - 0.5, top - 0.5, right - 0.5, bottom - 0.5), style.CYCLE[1], linewidth=2.2)
        text = f"{footprint.height} × {footprint.width} positions"
    axes.set_xlabel(text)


# In the notebook
# --------------------------------------------------------------------------------------------------


class PoolBench(Panel):
    """A widget to move the lit position and to choose how many pools it has passed.

    The window shrinks at the border of the map, and `numbers` says by how much.

    Args:
        layer, channels: as in `receptive_field`.
    """

    def __init__(self, layer: nn.Module, channels: int):
        import ipywidgets as widgets

        self.layer, self.channels = layer, channels
        count = len(receptive_field(layer, channels).forward)
        wide = dict(layout={"width": "420px"}, style={"description_width": "90px"}, continuous_update=False)
        self.pools = widgets.IntSlider(value=count, min=0, max=count, description="pools", **wide)
        self.row = widgets.IntSlider(value=SIDE // 2, min=0, max=SIDE - 1, description="row", **wide)
        self.column = widgets.IntSlider(value=SIDE // 2, min=0, max=SIDE - 1, description="column", **wide)
        controls = [self.pools, self.row, self.column]
        self._begin(controls, controls)

    def _look(self):
        position = (self.row.value, self.column.value)
        field = receptive_field(self.layer, self.channels, position)
        lit = np.zeros((SIDE, SIDE))
        lit[position] = 1
        own = Footprint(lit, (*position, position[0] + 1, position[1] + 1))
        forward, backward = ((own, *field.forward)[self.pools.value], (own, *field.backward)[self.pools.value])
        numbers = {
            "pools": self.pools.value,
            "position": position,
            "height": forward.height,
            "width": forward.width,
            "positions": int((forward.heat > 0).sum()),
            "gradient_positions": int((backward.heat > 0).sum()),
        }
        return numbers, _draw_pair(forward, backward, position)

    def __repr__(self) -> str:
        return f"PoolBench({self.pools.max} pools, {SIDE} × {SIDE} positions)"


@style.house()
def _draw_pair(forward: Footprint, backward: Footprint, position: tuple[int, int]) -> style.StudyFigure:
    figure, (left, right) = style.figure(1, 2, width=6.4, height=3.8)
    _draw_footprint(left, forward, "where the red dot arrives", position)
    _draw_footprint(right, backward, "what the red dot sees, by gradient", position)
    return figure
