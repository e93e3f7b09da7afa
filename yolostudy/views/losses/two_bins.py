"""The distribution focal loss of one edge: its two bins, and the loss that no distribution beats.

Source: Li et al. 2020, Generalized Focal Loss, equation 6.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...canvas import style
from .looks import GREY
from .watching import as_array, watch_loss


@dataclass(frozen=True, slots=True, eq=False)
class TwoBins:
    """One distribution against one distance.

    Attributes:
        expectation: all that the box loss sees of the distribution.
        loss: the distribution focal loss.
        floor: the minimum loss of any distribution for this distance; 0 for whole numbers only.
    """

    distance: float
    probabilities: np.ndarray  # (R,)
    expectation: float
    loss: float
    floor: float


def two_bins(distance: float, probabilities: Sequence[float]) -> TwoBins:
    """The distribution focal loss of one edge.

    Args:
        distance: in strides.
        probabilities: (R,), which need not sum to 1 yet.
    """
    p = np.asarray(probabilities, float) / np.sum(probabilities)
    lower, upper_weight = int(distance), distance - int(distance)
    weights = np.array([1 - upper_weight, upper_weight])
    there = weights > 0
    loss = -float(weights[there] @ np.log(p[lower : lower + 2][there]))
    floor = -float(weights[there] @ np.log(weights[there]))
    return TwoBins(float(distance), p, float(p @ np.arange(len(p))), loss, floor)


def distribution_floor(loss, maps: Sequence, targets) -> float:
    """The minimum of a loss's DFL part over all distributions, for this batch's assignment."""
    import torch

    with torch.no_grad():
        seen = watch_loss(loss, maps, targets)
    total = 0.0
    for call in seen.box_calls:
        anchors, boxes, weight = (as_array(call[name]) for name in ("anchors", "target boxes", "weight"))
        distances = np.concatenate([anchors - boxes[:, :2], boxes[:, 2:] - anchors], axis=1).clip(
            0, loss.reg_max - 1.01
        )
        upper = distances - np.floor(distances)
        with np.errstate(divide="ignore", invalid="ignore"):
            entropy = -np.nan_to_num(upper * np.log(upper)) - np.nan_to_num((1 - upper) * np.log(1 - upper))
        total += float(entropy.mean(axis=1) @ weight)
    return loss.gains["dfl"] * total / max(1.0, float(seen.assignment.scores.sum()))


@style.house()
def draw_two_bins(cases: Mapping[str, TwoBins]) -> style.StudyFigure:
    """Distributions over the same distance, side by side.

    Each with the two bins that count, the expectation, and the loss.
    """
    figure, axes = style.figure(1, len(cases), height=2.7, sharey=True, squeeze=False)
    for axis, (title, case) in zip(axes[0], cases.items()):
        bins, lower = np.arange(len(case.probabilities)), int(case.distance)
        near = (bins == lower) | (bins == lower + 1)
        axis.bar(bins, case.probabilities, width=0.72, color=[style.CYCLE[0] if hit else GREY for hit in near])
        axis.axvline(case.distance, color=style.TRUTH, linewidth=2, label=f"true distance {case.distance:g}")
        axis.axvline(
            case.expectation,
            color=style.INK,
            linewidth=1.6,
            linestyle=(0, (2, 2)),
            label=f"expectation {case.expectation:.2f}",
        )
        axis.set_title(f"{title}: DFL {case.loss:.2f}")
        axis.set(xlabel="bin, in strides from the anchor", xticks=bins, ylim=(0, 1.02))
        axis.legend(loc="upper right")
    axes[0, 0].set_ylabel("probability")
    return figure.with_numbers(cases)
