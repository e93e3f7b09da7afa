"""What a similarity of keypoints (OKS) allows in pixels, and how far the loss's gradient reaches.

    s(d) = exp(-d² / (2 · (2σ)² · area))

A small σ is strict, and blind far away: the gradient of 1 - s vanishes there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.patches import Circle

from ...canvas import drawing, style
from ..detections.joints import SKELETON, mark_keypoints
from .looks import AREA_SHARE, area_of, spread, window

DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))  # of the σ's
LEVEL_COLOURS = (style.CYCLE[1], style.CYCLE[0], style.CYCLE[2])
FELT = 0.01  # a gradient under this share of the largest one moves nothing


def oks_radius(level: float, sigma: float, area: float) -> float:
    """The distance in pixels at which a keypoint's similarity is `level`.

    Args:
        level: between 0 and 1.
        area: of the object in square pixels, as the metric takes it.
    """
    if not 0 < level < 1:
        raise ValueError(
            f"the similarity {level} is reached at no distance or at none alone; give one between 0 and 1."
        )
    return spread(sigma, area) * math.sqrt(2 * math.log(1 / level))


@style.house()
def draw_oks(
    image: np.ndarray,
    keypoints: np.ndarray,
    box: Sequence[float],
    levels: Sequence[float] = (0.5, 0.75, 0.95),
    sigmas: Sequence[float] = (0.05, 0.25),
    skeleton: Sequence[tuple[int, int]] = SKELETON,
) -> style.StudyFigure:
    """One object for each σ, with the circles on which the similarity has the given values.

    If every keypoint lies on its circle, the OKS of the object is that value. At the right: the
    similarity against the distance.

    Its numbers: "area" in px², and "radius": σ -> level -> pixels.

    Args:
        image: (H, W, 3) uint8. keypoints: (K, 3) of one object. box: its x1 y1 x2 y2.
    """
    area = AREA_SHARE * area_of(box)
    radius = {sigma: {level: oks_radius(level, sigma, area) for level in levels} for sigma in sigmas}
    colours = [LEVEL_COLOURS[number % len(LEVEL_COLOURS)] for number in range(len(levels))]
    figure, panels = style.figure(1, len(sigmas) + 1, height=3.95)
    farthest = max(max(of.values()) for of in radius.values())
    for axes, sigma in zip(panels, sigmas):
        _draw_circles(axes, image, keypoints, box, radius[sigma], colours, skeleton, 0.6 * farthest)
        said = ", ".join(f"{pixels:.1f}" for pixels in radius[sigma].values())
        axes.set(title=f"σ {sigma:g}: {said} px", xlabel="x in pixels")
    panels[0].set_ylabel("y in pixels")
    curve = panels[-1]
    distance = np.linspace(0, 1.1 * farthest, 300)
    for number, sigma in enumerate(sigmas):
        similarity = np.exp(-((distance / spread(sigma, area)) ** 2) / 2)
        dash = DASHES[number % len(DASHES)]
        curve.plot(distance, similarity, color=style.INK, linestyle=dash, label=f"σ {sigma:g}")
        for level, colour in zip(levels, colours):
            curve.plot(radius[sigma][level], level, "o", color=colour, markersize=7)
    curve.set(title="similarity of a keypoint", xlabel="distance in pixels", ylim=(0, 1.04), xlim=(0, distance[-1]))
    curve.legend(loc="upper right")
    curve.set_box_aspect(1)
    handles = [curve.plot([], [], "o", color=colour, markersize=7)[0] for colour in colours]
    figure.legend(handles, [f"OKS {level:g}" for level in levels], loc="outside lower center", ncols=len(levels))
    drawing.settle(*panels)
    return figure.with_numbers({"area": area, "radius": radius})


def _draw_circles(axes, image, keypoints, box, radius, colours, skeleton, margin: float) -> None:
    window(axes, image, box, margin)
    mark_keypoints(axes, np.asarray(keypoints)[None], skeleton, [style.INK], size=3)
    for x, y, visible in np.asarray(keypoints, float):
        if visible > 0:
            for pixels, colour in zip(radius.values(), colours):
                axes.add_patch(Circle((x, y), pixels, fill=False, edgecolor=style.PAPER, linewidth=3, alpha=0.7))
                axes.add_patch(Circle((x, y), pixels, fill=False, edgecolor=colour, linewidth=1.7))


@style.house()
def draw_sigma_reach(
    sigmas: Sequence[float] = (0.25, 0.2, 0.1, 0.05, 0.02),
    side: float = 60.0,
    annealing: tuple[float, float] = (0.2, 0.05),
) -> style.StudyFigure:
    """Size of the gradient of 1 - exp(-e) against the distance, linear and logarithmic.

    With s = 2σ · side, the gradient is d / s² · exp(-d² / (2s²)). It is largest at d = s. The arrow
    follows the largest gradient while σ falls during training.

    Its numbers: "distance" (N,) in pixels, and for each σ of "reach": "gradient" (N,) per pixel,
    "peak" (distance, gradient), and "felt", the distance beyond which the gradient is under 1 % of
    its peak.

    Args:
        side: of the object's box in pixels; the loss takes side² for the area.
        annealing: σ at the start and at the end of training.
    """
    distance, reach = np.linspace(0, side, 481), {}
    figure, (plain, log) = style.figure(1, 2, height=3.5)
    for number, sigma in enumerate(sigmas):
        width = spread(sigma, side**2)
        gradient = distance / width**2 * np.exp(-((distance / width) ** 2) / 2)
        peak = width, math.exp(-0.5) / width
        reach[sigma] = {"gradient": gradient, "peak": peak, "felt": width * _felt()}
        for axes in (plain, log):
            colour = style.cycle(number)
            axes.plot(distance, gradient, color=colour, label=f"σ {sigma:g}: felt up to {width * _felt():.0f} px")
            axes.plot(*peak, "o", color=colour)
    widths = np.array([spread(sigma, side**2) for sigma in np.geomspace(*annealing, 40)])
    path = np.array([widths, math.exp(-0.5) / widths])
    for axes in (plain, log):
        axes.plot(*path, color=style.INK, linewidth=1.2, linestyle=(0, (4, 2)))
        drawing.arrow(axes, path[:, -3], path[:, -1], style.INK, 1.2, mutation_scale=14)
        axes.set(xlim=(0, side), xlabel=f"distance of a keypoint in pixels, object of {side:g} px")
    middle = path[:, path.shape[1] // 2]
    said = f"σ {annealing[0]:g} → {annealing[1]:g}\nduring training"
    plain.annotate(said, middle, (14, 14), textcoords="offset points", fontsize=9)
    plain.set(title="size of the gradient", ylabel="gradient per pixel")
    plain.set_ylim(0, 1.25 * path[1].max())  # what annealing uses; a smaller σ is cut off
    log.set(title="the same, logarithmic", yscale="log", ylim=(1e-6, 1))
    figure.legend(*plain.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure.with_numbers({"distance": distance, "reach": reach})


def _felt() -> float:
    """The x > 1 at which x · exp(-x² / 2) falls to FELT times its largest value, exp(-1/2)."""
    x = 3.0
    for _ in range(60):  # the fixed point of the equation, solved for the x in the exponent
        x = math.sqrt(2 * math.log(x) + 1 - 2 * math.log(FELT))
    return x
