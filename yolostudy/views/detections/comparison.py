"""Predictions against truths: which ones are hits, misses and false alarms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...canvas.overlap import iou


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """Which predictions are right.

    Attributes:
        matched: (n,) int64, the truth that each prediction found, or -1.
        missed: (m,) bool, the truths that no prediction found.
    """

    matched: np.ndarray
    missed: np.ndarray

    @property
    def hits(self) -> int:
        return int((self.matched >= 0).sum())

    @property
    def false_alarms(self) -> int:
        return int((self.matched < 0).sum())

    @property
    def misses(self) -> int:
        return int(self.missed.sum())


def compare_detections(predictions, truth, iou_threshold: float = 0.5) -> Comparison:
    """Match predictions with truths by the rule of `metrics.match_predictions`.

    Best score first, each prediction takes the free truth of its class that overlaps it most; of
    equal ones the later.

    Args:
        predictions: (n, 6) x1 y1 x2 y2 score class, in any order.
        truth: (m, 5) class x1 y1 x2 y2.
        iou_threshold: minimum IoU of a hit.
    """
    predictions, truth = as_table(predictions, 6, "predictions"), as_table(truth, 5, "truth")
    overlap = iou(predictions[:, :4], truth[:, 1:])  # (n, m)
    overlap[predictions[:, 5, None] != truth[None, :, 0]] = -1
    matched, missed = np.full(len(predictions), -1), np.ones(len(truth), bool)
    for row in np.argsort(-predictions[:, 4], kind="stable"):
        free = np.where(missed, overlap[row], -1)
        if free.size and free.max() >= iou_threshold:
            matched[row] = len(free) - 1 - free[::-1].argmax()
            missed[matched[row]] = False
    return Comparison(matched, missed)


def as_table(values, columns: int, what: str) -> np.ndarray:
    """A tensor, array or list as float64 (n, columns)."""
    if hasattr(values, "detach"):
        values = values.detach().cpu().double().numpy()
    table = np.array(values, np.float64)
    if table.size == 0:
        return np.zeros((0, columns))
    if table.ndim != 2 or table.shape[1] != columns:
        order = "x1 y1 x2 y2 score class" if columns == 6 else "class x1 y1 x2 y2"
        raise ValueError(f"{what} has shape {table.shape}, but (n, {columns}) is needed: {order}.")
    if not np.isfinite(table).all():
        row = int(np.flatnonzero(~np.isfinite(table).all(axis=1))[0])
        raise ValueError(
            f"{what}: row {row} holds a value that is not finite: {table[row]}. Look for the NaN where it was computed."
        )
    return table
