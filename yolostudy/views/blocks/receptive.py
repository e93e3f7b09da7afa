"""What a layer does to a picture, asked of the layer itself: how far it sees, what its channels
hold, what its activation lets through.

How far it sees is two questions with the same answer, and both are asked. Forward: one position of
the input is lit; where does the light arrive? Backward: one position of the output is watched; the
gradient says which positions of the input it depends on. Nothing here
knows the formula 5, 9, 13: a layer that is built otherwise shows what it does.

Source of the second: Luo et al. 2016, Understanding the Effective Receptive Field in Deep
Convolutional Neural Networks.
"""

from __future__ import annotations

import copy
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ...canvas import drawing, style
from ...canvas.panel import Panel
from ..detections import painter

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
class Growth:
    """A layer's reach, pool by pool.

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
        """How many positions wide the window is after each pool: 5, 9, 13 for SPPF."""
        return tuple(footprint.width for footprint in self.forward)

    @property
    def numbers(self) -> dict:
        return {
            "position": self.position,
            "widths": self.widths,
            "gradient_widths": tuple(footprint.width for footprint in self.backward),
            "output": self.output.width,
        }


# Pool by pool
# --------------------------------------------------------------------------------------------------


def grow(layer: nn.Module, channels: int, position: tuple[int, int] = (SIDE // 2, SIDE // 2)) -> Growth:
    """Light one position, and watch one, through every pool that the layer calls.

    The layer itself is left alone: a copy of it gets weights that are all positive, so that more
    light is more everywhere.

    Args:
        layer: takes (B, channels, SIDE, SIDE), for instance an SPPF; its pools are found by the
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
    return Growth(position, forward, tuple(backward), _footprint((output[1] - output[0]).abs().sum(0)))


def _pooled(layer: nn.Module, images: Tensor) -> tuple[Tensor, list[Tensor]]:
    """What a layer gives, and what each of its pools gave on the way, as functions or as modules."""
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
    found = heat > 1e-6 * heat.max(initial=0)  # below that it is rounding
    return Footprint(np.where(found, heat, 0.0), _window(found))


def _window(found: np.ndarray) -> tuple[int, int, int, int] | None:
    if not found.any():
        return None
    rows, columns = np.flatnonzero(found.any(1)), np.flatnonzero(found.any(0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


@style.house()
def draw_growth(growth: Growth, gradient: bool = False) -> style.StudyFigure:
    """One heat map for each pool and one for the output; below them, with `gradient`, what the
    watched position depends on.
    """
    names = ["first", "second", "third", *(f"{number}th" for number in range(4, 99))]
    count = len(growth.forward)
    figure, axes = style.figure(1 + gradient, count + 1, height=2.75 * (1 + gradient), squeeze=False)
    for number, footprint in enumerate(growth.forward):
        _draw_footprint(axes[0, number], footprint, f"after the {names[number]} pool", growth.position)
    _draw_footprint(axes[0, -1], growth.output, "output: all maps added", growth.position)
    if gradient:
        for number, footprint in enumerate(growth.backward):
            _draw_footprint(axes[1, number], footprint, f"seen from the {names[number]} pool", growth.position)
        axes[1, -1].axis("off")
        text = (
            "Above: where one lit\nposition (red dot) arrives.\n\nBelow: which positions\nthe red dot sees, by\nthe "
            "gradient."
        )
        axes[1, -1].text(0, 0.5, text, va="center", transform=axes[1, -1].transAxes, linespacing=1.4)
    return figure


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


class PoolBench(Panel):
    """Move the lit position and choose how many pools it has passed. `numbers` says what is shown:
    the window shrinks at the border.

    Args:
        layer, channels: as in `grow`.
    """

    def __init__(self, layer: nn.Module, channels: int):
        import ipywidgets as widgets

        self.layer, self.channels = layer, channels
        count = len(grow(layer, channels).forward)
        wide = dict(layout={"width": "420px"}, style={"description_width": "90px"}, continuous_update=False)
        self.pools = widgets.IntSlider(value=count, min=0, max=count, description="pools", **wide)
        self.row = widgets.IntSlider(value=SIDE // 2, min=0, max=SIDE - 1, description="row", **wide)
        self.column = widgets.IntSlider(value=SIDE // 2, min=0, max=SIDE - 1, description="column", **wide)
        controls = [self.pools, self.row, self.column]
        self._begin(controls, controls)

    def _look(self):
        position = (self.row.value, self.column.value)
        growth = grow(self.layer, self.channels, position)
        lit = np.zeros((SIDE, SIDE))
        lit[position] = 1
        own = Footprint(lit, (*position, position[0] + 1, position[1] + 1))
        forward, backward = ((own, *growth.forward)[self.pools.value], (own, *growth.backward)[self.pools.value])
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


# Through a whole network
# --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Pull:
    """Which pixels of an image one position of a map depends on.

    Attributes:
        heat: (H, W) absolute gradient, summed over the colours.
        centre: x and y of the position's middle, in pixels.
        reach: width and height in pixels of the rectangle outside which the gradient is exactly
            nothing.
        half: side in pixels of the square around the centre that holds half of the gradient.
    """

    heat: np.ndarray
    centre: tuple[float, float]
    reach: tuple[int, int]
    half: int

    @property
    def numbers(self) -> dict:
        return {"centre": self.centre, "reach": self.reach, "half": self.half}


def pull(function: Callable[[Tensor], Tensor], images: Tensor, position: tuple[int, int]) -> Pull:
    """The gradient of one position of a map, with respect to every pixel.

    Args:
        function: images -> a map (1, C, H/s, W/s), for instance `lambda x:
            model.features(x)["P5"]`.
        images: (1, 3, H, W) in 0…1.
        position: row and column on that map.
    """
    import torch

    images = images.detach().clone().requires_grad_()
    feature = function(images)
    watched = feature[0, :, position[0], position[1]]
    # Half the sum of squares: each channel counts as much as it has to say, and opposite signs do
    # not cancel.
    (gradient,) = torch.autograd.grad(watched.square().sum() / 2, images)
    heat = gradient[0].abs().sum(0).double().cpu().numpy()  # (H, W)
    top, left, bottom, right = _window(heat > 0) or (0, 0, 0, 0)
    stride = images.shape[-1] / feature.shape[-1]
    centre = ((position[1] + 0.5) * stride, (position[0] + 0.5) * stride)
    return Pull(heat, centre, (right - left, bottom - top), _half_side(heat, centre))


def _half_side(heat: np.ndarray, centre: tuple[float, float]) -> int:
    ys, xs = np.indices(heat.shape) + 0.5
    distance = np.maximum(abs(xs - centre[0]), abs(ys - centre[1])).ravel()  # of a square's rim from its middle
    order = np.argsort(distance, kind="stable")
    running = np.cumsum(heat.ravel()[order])
    if not len(running) or running[-1] == 0:
        return 0
    # whole pixels, from rim to rim
    return int(np.ceil(2 * distance[order][np.searchsorted(running, running[-1] / 2)])) + 1


def _shrunk(values: np.ndarray, factor: int) -> np.ndarray:
    size = (values.shape[1] // factor, values.shape[0] // factor)
    return cv2.resize(values, size, interpolation=cv2.INTER_AREA)


@style.house()
def draw_pulls(image: np.ndarray, pulls: Mapping[str, Pull]) -> style.StudyFigure:
    """The gradient laid over its image, one panel for each entry, with the square that holds half
    of it.

    Args:
        image: (H, W, 3) uint8.
    """
    figure, axes = style.figure(1, len(pulls), width=3.6 * len(pulls), height=4.0, squeeze=False)
    height, width = image.shape[:2]
    # the picture is there for orientation; its noise would only make the file larger
    shrink = max(1, max(height, width) // 200)
    grey = (_shrunk(image.mean(2), shrink) / 255 * 12).round() / 12
    for axis, (title, found) in zip(axes[0], pulls.items(), strict=True):
        # single pixels would not be seen
        heat = cv2.GaussianBlur(_shrunk(found.heat, shrink), None, 0.015 * max(grey.shape))
        strength = np.sqrt(heat / (heat.max() or 1.0))[..., None]  # the root shows the weak rim as well
        colour = style.HEAT(0.25 + 0.75 * strength[..., 0])[..., :3]
        shown = (1 - strength) * (0.25 + 0.6 * grey[..., None]) + strength * colour
        axis.imshow((255 * shown).astype(np.uint8), extent=(0, width, height, 0))
        x, y, half = *found.centre, found.half / 2
        drawing.frame(axis, (x - half, y - half, x + half, y + half), style.CYCLE[1])
        axis.set_title(title, fontsize=10)
        axis.set(
            xlim=(0, width),
            ylim=(height, 0),
            xticks=[],
            yticks=[],
            xlabel=f"half of it within {found.half} × {found.half} pixels",
        )
        axis.grid(False)
    return figure


# What a map holds
# --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class FeatureSheet:
    """A sheet of channels as a picture, and its numbers: shape, channels (which are shown), lowest
    and highest value of the map.
    """

    image: np.ndarray  # (H, W, 3) uint8
    numbers: dict

    def __repr__(self) -> str:
        return f"FeatureSheet({len(self.numbers['channels'])} of {self.numbers['shape'][0]} channels)"

    def _repr_mimebundle_(self, **options) -> dict:
        # Coarse maps are few large squares, which PNG holds better; fine ones are nearer to a
        # photograph.
        found = {"image/png": style.image_as_png(self.image), "image/jpeg": style.as_jpeg(self.image)}
        kind = min(found, key=lambda kind: len(found[kind]))
        return {kind: b64encode(found[kind]).decode(), "text/plain": repr(self)}


def feature_sheet(
    features: Tensor,
    image: np.ndarray | None = None,
    count: int = 15,
    columns: int = 8,
    names: Sequence[str] | None = None,
) -> FeatureSheet:
    """The channels of a map that vary most, each in its own range from dark (its lowest value) to
    bright (its highest).

    Args:
        features: (C, H, W), or a batch of one.
        image: (H', W', 3) uint8 that they were made from; it comes first.
        count: how many channels, at most.
        names: one for each channel; then all of them are shown, in their order.
    """
    maps = features.detach().float().cpu().numpy()
    maps = maps[0] if maps.ndim == 4 else maps
    chosen = np.arange(len(maps)) if names is not None else np.argsort(-maps.std((1, 2)), kind="stable")[:count]
    enlarge = max(1, 120 // max(maps.shape[1:]))
    tiles = [] if image is None else [image]
    for channel in chosen:
        low, high = maps[channel].min(), maps[channel].max()
        tile = (255 * style.HEAT((maps[channel] - low) / (high - low or 1.0))[..., :3]).astype(np.uint8)
        tiles.append(tile.repeat(enlarge, 0).repeat(enlarge, 1))  # whole squares: each is one position of the map
    titles = [*([] if image is None else ["image"]), *(names or (f"channel {channel}" for channel in chosen))]
    numbers = {
        "shape": maps.shape,
        "channels": [int(channel) for channel in chosen],
        "lowest": float(maps.min()),
        "highest": float(maps.max()),
    }
    return FeatureSheet(painter.sheet(tiles, columns, titles), numbers)


# SiLU and its relatives
# --------------------------------------------------------------------------------------------------


def activation_curves(functions: Mapping[str, Callable[[Tensor], Tensor]] | None = None) -> dict:
    """Activation functions and their gradients, by autograd, from -5 to 5.

    Args:
        functions: name -> function; SiLU and ReLU where none are given.

    Returns:
        name -> {"x", "value", "gradient"} (arrays), "lowest" and "lowest_at" (numbers).
    """
    import torch
    from torch.nn import functional

    curves = {}
    for name, function in (functions or {"SiLU": functional.silu, "ReLU": functional.relu}).items():
        x = torch.linspace(-5, 5, 401, dtype=torch.float64, requires_grad=True)
        value = function(x)
        (gradient,) = torch.autograd.grad(value.sum(), x)
        x, value = x.detach().numpy(), value.detach().numpy()
        lowest = int(value.argmin())
        curves[name] = {
            "x": x,
            "value": value,
            "gradient": gradient.numpy(),
            "lowest": float(value[lowest]),
            "lowest_at": float(x[lowest]),
        }
    return curves


@style.house()
def draw_activations(curves: Mapping[str, Mapping]) -> style.StudyFigure:
    """The functions on the left, their gradients on the right."""
    figure, (left, right) = style.figure(1, 2, sharex=True)
    for number, (name, curve) in enumerate(curves.items()):
        look = dict(color=style.cycle(number), linestyle=("-", (0, (5, 2)), ":")[number % 3], label=name)
        left.plot(curve["x"], curve["value"], **look)
        right.plot(curve["x"], curve["gradient"], **look)
    left.set(title="value", xlabel="input", ylabel="output")
    right.set(title="gradient", xlabel="input", ylabel="output per unit of input")
    left.legend(loc="upper left")
    return figure
