"""One picture answered twice: by regression and by heatmaps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...canvas import style
from ..detections.joints import SKELETON
from ..detections.painter import paint
from ..detections.sheet import sheet

SURE = 0.5  # a keypoint with a smaller certainty is painted hollow
NEAR = 0.5  # people whose mean error is above this share of the truth's extent are no pair


def draw_answers(
    image: np.ndarray,
    truth: np.ndarray,
    regression: np.ndarray,
    heatmaps: np.ndarray,
    names: Sequence[str] = ("regression", "heatmaps"),
    skeleton: Sequence[tuple[int, int]] = SKELETON,
) -> style.Picture:
    """The answer of regression on the left, that of heatmaps on the right, each beside the truth.

    Purple rings and lines are the truth; a keypoint inside its ring is close. A keypoint whose certainty is
    under 0.5 is hollow, one that was not found is absent.

    Its numbers: name -> "pairs" (truth, answer), "errors" (m, K) in pixels (NaN where nothing was
    found or nothing is visible), "median", "found" and "missed" keypoints, "extra" objects.

    Args:
        truth: (m, K, 3) x y visibility in pixels of the image.
        regression, heatmaps: (n, K, 3 or more) x y and certainty in 0…1; a certainty of 0 or NaN
            means not found. The answer of `group_keypoints` in pixels will do.
        names: titles of the two answers.
    """
    truth = np.asarray(truth, float)
    answers = {name: _as_points(found, truth, name) for name, found in zip(names, (regression, heatmaps), strict=True)}
    numbers, painted, titles = {}, [], []
    for name, points in answers.items():
        numbers[name] = one = _compare(points, truth)
        painted.append(paint(image, keypoints=_shown(points), truth_keypoints=truth, skeleton=skeleton))
        median = f", median {one['median']:.1f} px" if one["found"] else ""
        titles.append(f"{name}: {one['found']} of {one['found'] + one['missed']} keypoints found{median}")
    return style.Picture(sheet(painted, 2, titles), numbers)


def _as_points(found, truth: np.ndarray, name: str) -> np.ndarray:
    """(n, K, 3) x y certainty, zeros where nothing was found."""
    if hasattr(found, "detach"):
        found = found.detach().cpu()
    points = np.array(found, float)
    if points.size == 0:
        return np.zeros((0, *truth.shape[1:]))
    if points.ndim != 3 or points.shape[1] != truth.shape[1] or points.shape[2] < 3:
        raise ValueError(
            f"{name} has shape {points.shape}, but (n, {truth.shape[1]}, 3 or more) is needed: x y certainty."
        )
    points = points[..., :3]
    absent = ~np.isfinite(points).all(axis=-1) | (points[..., 2] <= 0)
    points[absent] = 0
    return points


def _shown(points: np.ndarray) -> np.ndarray:
    """Certainty as visibility: hollow under SURE, filled above."""
    visibility = np.where(points[..., 2] >= SURE, 2, np.where(points[..., 2] > 0, 1, 0))
    return np.concatenate([points[..., :2], visibility[..., None]], axis=-1)


def _compare(points: np.ndarray, truth: np.ndarray) -> dict:
    """Pair truths with answers, the closest pair first, and measure the errors of their keypoints."""
    visible, found = truth[..., 2] > 0, points[..., 2] > 0
    both = visible[:, None] & found[None]  # (m, n, K)
    distance = np.where(both, np.linalg.norm(truth[:, None, :, :2] - points[None, ..., :2], axis=-1), 0)
    mean = np.where(both.any(-1), distance.sum(-1) / both.sum(-1).clip(1), np.inf)  # (m, n)
    extent = np.array([np.ptp(t[v, :2], axis=0).max() if v.sum() > 1 else np.inf for t, v in zip(truth, visible)])
    mean[mean > NEAR * extent.reshape(-1, 1)] = np.inf
    pairs, errors = [], np.full(truth.shape[:2], np.nan)
    while mean.size and np.isfinite(mean.min()):
        one, other = np.unravel_index(mean.argmin(), mean.shape)
        pairs.append((int(one), int(other)))
        errors[one, both[one, other]] = distance[one, other][both[one, other]]
        mean[one], mean[:, other] = np.inf, np.inf
    known = errors[np.isfinite(errors)]
    return {
        "pairs": pairs,
        "errors": errors,
        "median": float(np.median(known)) if len(known) else float("nan"),
        "found": len(known),
        "missed": int(visible.sum()) - len(known),
        "extra": len(points) - len(pairs),
    }
