"""The heatmaps of one image over the image: all together, and each alone, at each resolution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...canvas import style
from .looks import as_maps, names_of, pale_ground, tops, veil


@style.house()
def draw_heatmaps(
    image: np.ndarray,
    maps: Sequence | Mapping[str, object],
    names: Sequence[str] | None = None,
    threshold: float = 0.1,
) -> style.StudyFigure:
    """All maps over the image, then each alone with its peaks; one row for each resolution.

    Its numbers: title of a row -> name of a keypoint -> "highest" value, "sum" of the map, and
    "peaks" (n, 3) x y in cells and value, the highest first.

    Args:
        image: (H, W, 3) uint8.
        maps: one (K, h, w), a sequence of these, or title -> (K, h, w); arrays or tensors.
        names: of the K keypoints.
        threshold: a lower peak is none.
    """
    rows = _titled(maps)
    count = len(next(iter(rows.values())))
    names, numbers = names_of(count, names), {}
    height = (0.7 + 8.4 / (count + 1) * image.shape[0] / image.shape[1]) * len(rows)
    figure, panels = style.figure(len(rows), count + 1, height=height, squeeze=False)
    panels[0, 0].set_title("together", fontsize=10)
    for line, (title, stack) in zip(panels, rows.items()):
        numbers[title] = {}
        for axes in line:
            pale_ground(axes, image)
        line[0].set_ylabel(title, weight="bold")
        scale = image.shape[1] / stack.shape[2], image.shape[0] / stack.shape[1]
        for number, (axes, name, heatmap) in enumerate(zip(line[1:], names, stack)):
            found = tops(heatmap, threshold)
            numbers[title][name] = {"highest": float(heatmap.max()), "sum": float(heatmap.sum()), "peaks": found}
            for panel in (line[0], axes):
                veil(panel, image, heatmap, style.cycle(number))
            x, y = (found[:, :2].T + 0.5) * np.array(scale)[:, None]
            axes.plot(x, y, "+", color=style.INK, markersize=7, markeredgewidth=1.2)
            axes.set_title(name, fontsize=10)
            many = "1 peak" if len(found) == 1 else f"{len(found)} peaks"
            axes.set_xlabel(f"{many}, highest {heatmap.max():.2f}", fontsize=9)
    return figure.with_numbers(numbers)


def _titled(maps) -> dict[str, np.ndarray]:
    """Title -> (K, h, w), for whatever `draw_heatmaps` takes."""
    if isinstance(maps, Mapping):
        rows = {title: as_maps(stack, title) for title, stack in maps.items()}
    else:
        alone = getattr(maps, "ndim", 0) == 3
        stacks = [as_maps(stack, "a stack of maps") for stack in ([maps] if alone else maps)]
        rows = {f"{stack.shape[2]} × {stack.shape[1]} cells": stack for stack in stacks}
        if len(rows) < len(stacks):
            raise ValueError("two stacks have the same size; give them titles: {title: maps, …}.")
    counts = {len(stack) for stack in rows.values()}
    if len(counts) != 1:
        raise ValueError(f"draw_heatmaps needs one stack of maps or more, with equal K; here K is {sorted(counts)}.")
    return rows
