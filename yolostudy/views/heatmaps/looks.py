"""What the pictures of heatmaps have in common: maps as arrays, a keypoint's colour as a veil."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from ...canvas import drawing, style

PLANES = ("nose", "tail", "left wing tip", "right wing tip")


def as_maps(maps, what: str) -> np.ndarray:
    """A tensor or an array as (K, h, w) float64."""
    if hasattr(maps, "detach"):
        maps = maps.detach().cpu()
    found = np.array(maps, float)
    if found.ndim != 3:
        raise ValueError(f"{what} has shape {found.shape}, but (K, h, w) of one image is needed.")
    return found


def names_of(count: int, names: Sequence[str] | None) -> tuple[str, ...]:
    """Names of K keypoints: those given, those of planes where there are four, else numbers."""
    if names is None:
        return PLANES if count == len(PLANES) else tuple(map(str, range(count)))
    if len(names) != count:
        raise ValueError(f"{len(names)} names were given for {count} maps; one for each is needed.")
    return tuple(names)


def pale_ground(axes, image: np.ndarray) -> None:
    """The image in a few light greys, without ticks."""
    drawing.ground(axes, None)
    drawing.ground(axes, drawing.pale(image, shades=10, darkest=110), interpolation="nearest")
    axes.set(xticks=[], yticks=[])


def veil(axes, image: np.ndarray, heatmap: np.ndarray, colour: str) -> None:
    """A map over the image: clear where it is 0 or less, the full colour where it is 1 or more."""
    shown = np.empty((*heatmap.shape, 4))
    shown[..., :3] = np.array(style.rgb(colour)) / 255
    shown[..., 3] = 0.92 * heatmap.clip(0, 1)
    axes.imshow(shown, extent=(0, image.shape[1], image.shape[0], 0), interpolation="nearest")


def tops(heatmap: np.ndarray, threshold: float) -> np.ndarray:
    """Cells above the threshold that none of their eight neighbours exceeds: (n, 3) x y value.

    A plateau counts once, by its upper left cell. The highest peak comes first.
    """
    padded = np.pad(heatmap, 1, constant_values=-np.inf)
    high, wide = heatmap.shape
    around = [padded[dy : dy + high, dx : dx + wide] for dy in range(3) for dx in range(3)]
    top = (heatmap >= np.max(around, axis=0)) & (heatmap > threshold)
    _, plateau = cv2.connectedComponents(top.astype(np.uint8), connectivity=8)
    y, x = np.nonzero(top)
    _, first = np.unique(plateau[y, x], return_index=True)
    found = np.column_stack([x, y, heatmap[y, x]])[first].astype(float)
    return found[np.argsort(-found[:, 2], kind="stable")]
