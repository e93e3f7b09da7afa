"""Which pixels one position of a map depends on, through a whole network.

Source: Luo et al. 2016, Understanding the Effective Receptive Field in Deep Convolutional Neural
Networks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ...canvas import drawing, style
from .receptive_field import window_of

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class InputGradient:
    """The gradient of one position of a map, with respect to the pixels of an image.

    Attributes:
        heat: (H, W) absolute gradient, summed over the colours.
        centre: x and y of the position's middle, in pixels.
        reach: width and height in pixels of the rectangle outside which the gradient is exactly 0.
        half: side in pixels of the square around the centre that holds half of the gradient.
    """

    heat: np.ndarray
    centre: tuple[float, float]
    reach: tuple[int, int]
    half: int

    @property
    def numbers(self) -> dict:
        return {"centre": self.centre, "reach": self.reach, "half": self.half}


def input_gradient(function: Callable[[Tensor], Tensor], images: Tensor, position: tuple[int, int]) -> InputGradient:
    """The gradient of one position of a map, with respect to every pixel.

    Args:
        function: images -> a map (1, C, H/s, W/s), for instance
            `lambda x: model.features(x)["P5"]`.
        images: (1, 3, H, W) in 0…1.
        position: row and column on that map.
    """
    import torch

    images = images.detach().clone().requires_grad_()
    feature = function(images)
    watched = feature[0, :, position[0], position[1]]
    # Half the sum of squares: each channel counts in proportion to its value, and opposite signs do
    # not cancel.
    (gradient,) = torch.autograd.grad(watched.square().sum() / 2, images)
    heat = gradient[0].abs().sum(0).double().cpu().numpy()  # (H, W)
    top, left, bottom, right = window_of(heat > 0) or (0, 0, 0, 0)
    stride = images.shape[-1] / feature.shape[-1]
    centre = ((position[1] + 0.5) * stride, (position[0] + 0.5) * stride)
    return InputGradient(heat, centre, (right - left, bottom - top), _half_side(heat, centre))


def _half_side(heat: np.ndarray, centre: tuple[float, float]) -> int:
    """Side of the square around the centre that holds half of the heat."""
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
def draw_input_gradients(image: np.ndarray, gradients: Mapping[str, InputGradient]) -> style.StudyFigure:
    """The gradients laid over their image, one panel for each, with the square that holds half.

    Args:
        image: (H, W, 3) uint8.
        gradients: title -> what `input_gradient` found on this image.
    """
    figure, axes = style.figure(1, len(gradients), width=3.6 * len(gradients), height=4.0, squeeze=False)
    height, width = image.shape[:2]
    # the picture is there for orientation; its noise would only make the file larger
    shrink = max(1, max(height, width) // 200)
    grey = (_shrunk(image.mean(2), shrink) / 255 * 12).round() / 12
    for axis, (title, found) in zip(axes[0], gradients.items(), strict=True):
        # blurred, because single pixels would not be seen
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
    return figure.with_numbers({title: found.numbers for title, found in gradients.items()})
