"""Anchor points marked on a picture: each level by its own sign."""

from __future__ import annotations

import numpy as np

from ...canvas import drawing, style
from .slides import Slide

SIGNS = "osD^v"  # of the levels, finest first


def pale(image: np.ndarray) -> np.ndarray:
    """The image in light greys: the marks stand out, and the aircraft can still be seen."""
    return drawing.pale(image, shades=22, darkest=140)


def show(axes, image: np.ndarray) -> None:
    """The image as ground, in a thin frame instead of axes."""
    drawing.ground(axes, image, interpolation="nearest")
    axes.set(xticks=[], yticks=[], facecolor=style.GROUND)
    for spine in axes.spines.values():
        spine.set(visible=True, color=style.FAINT, linewidth=0.8)


def levels(slide: Slide) -> list[tuple[float, str, np.ndarray]]:
    """Stride, sign and members (A,) of each level, finest first."""
    strides = slide.strides.numpy()
    return [(stride, SIGNS[number % len(SIGNS)], strides == stride) for number, stride in enumerate(np.unique(strides))]


def mark_size(slide: Slide, pixels: float, share: float = 0.42, largest: float = 9) -> float:
    """Size in points of a mark of the finest level: a share of the spacing of its anchors.

    Args:
        pixels: on paper, for one pixel of the image.
        share, largest: of the spacing; maximum in pixels on paper.
    """
    return float(np.clip(float(slide.strides.min()) * pixels * share, 2, largest)) * 72 / style.DPI


def mark(
    axes, slide: Slide, anchors: np.ndarray, size: float, values: np.ndarray | None = None, wider: float = 0, **options
) -> None:
    """Mark anchors, each level by its own sign; coarser levels get larger marks.

    Args:
        anchors: indices or a mask.
        size: in points for the finest level; `wider` is added for every level alike.
        values: (A,) what decides the colour.
    """
    indices = anchors.nonzero()[0] if anchors.dtype == bool else anchors
    for number, (_, sign, level) in enumerate(levels(slide)):
        here = indices[level[indices]]
        look = dict(marker=sign) | ({} if values is None else dict(c=values[here])) | options
        axes.scatter(*slide.anchors.numpy()[here].T, s=(size * (1 + 0.4 * number) + wider) ** 2, **look)
