"""Average precision, the figure detectors are compared by, after the protocol of COCO.

A prediction is a hit if it lies on a ground-truth box of its class that no better-scored prediction
has taken. Lower the score threshold step by step and you walk along a precision-recall curve; AP is
the area under it, and mAP the mean over the classes.

    predictions, truths --match_predictions--> hits per image --average_precision--> AP per class
    --evaluate--> mAP

Sources: Everingham et al. 2010, "The PASCAL VOC challenge", section 4.2 (matching, precision-recall
curve, interpolation); Lin et al. 2014, "Microsoft COCO", and the evaluation page of cocodataset.org
(ten IoU thresholds, 101 recalls, 100 detections).
Shapes: n predictions, G ground-truth boxes, T IoU thresholds, C classes. All arithmetic is numpy in
double precision, because a box at exactly IoU 0.5 has to fall on the same side as in COCO's own
evaluator.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

COCO_IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)  # where the precision-recall curve is read off


def pairwise_iou(boxes1: NDArray, boxes2: NDArray) -> NDArray:
    """Intersection over union of every pair: xyxy (n, 4) and (G, 4) -> (n, G).

    A box without area has IoU 0 with everything.
    """
    top_left = np.maximum(boxes1[:, None, :2], boxes2[None, :, :2])  # (n, G, 2)
    bottom_right = np.minimum(boxes1[:, None, 2:], boxes2[None, :, 2:])
    sides = np.maximum(bottom_right - top_left, 0)
    overlap = sides[..., 0] * sides[..., 1]  # (n, G)
    area1, area2 = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) for boxes in (boxes1, boxes2))
    union = area1[:, None] + area2[None, :] - overlap
    return np.divide(overlap, union, out=np.zeros_like(overlap), where=overlap > 0)


def match_predictions(predictions: NDArray, truths: NDArray, iou_thresholds: NDArray) -> NDArray:
    """Say which truth each prediction of one image has found, at every IoU threshold.

    Greedy, from the highest score down: a prediction takes, among the truths of its class that are
    still free and that it meets with IoU >= threshold, the one with the highest IoU. The thresholds
    do not know of each other: a truth may be taken at 0.5 and still be free at 0.9. Equal scores
    keep their order; of two truths with the same IoU the later one is taken.

    Args:
        predictions: (n, 6) x1 y1 x2 y2 score class, in pixels, in any order.
        truths: (G, 5) class x1 y1 x2 y2, in pixels.
        iou_thresholds: (T,) each above 0.

    Returns:
        (n, T) integers: the row of the truth that the prediction has found, -1 if none. No row
        appears twice in a column.

    Source: Everingham et al. 2010, section 4.2.2; the order among equals is that of
    `COCOeval.evaluateImg` in pycocotools.
    """
    # BEGIN SOLUTION
    iou = pairwise_iou(predictions[:, :4], truths[:, 1:])  # (n, G)
    iou[predictions[:, 5, None] != truths[:, 0]] = 0
    indices, rows = (iou >= iou_thresholds.min()).nonzero()  # (P,) the few pairs that may become a match
    iou = iou[indices, rows]
    # by score; of one prediction's pairs the best IoU first
    order = np.lexsort((-rows, -iou, indices, -predictions[indices, 4]))
    reached = iou[order, None] >= iou_thresholds  # (P, T)

    matches = np.full((len(predictions), len(iou_thresholds)), -1)
    free = np.ones((len(truths), len(iou_thresholds)), dtype=bool)  # (G, T)
    for index, row, enough in zip(indices[order].tolist(), rows[order].tolist(), reached):
        match = enough & free[row] & (matches[index] < 0)  # (T,) where neither of the two is taken
        matches[index, match] = row
        free[row, match] = False
    return matches
    # END SOLUTION


def average_precision(hits: NDArray, scores: NDArray, num_truths: int) -> tuple[NDArray, NDArray]:
    """Area under the interpolated precision-recall curve of one class, over all images, at every
    IoU threshold.

    With TP(k) the hits among the k best-scored predictions:  precision(k) = TP(k) / k,  recall(k) = TP(k) / num_truths.
    The interpolated precision at recall r is the highest precision at any recall >= r, 0 where r is
    never reached; AP is its mean
    over the 101 recalls 0, 0.01 ... 1.

    Args:
        hits: (n, T) whether each prediction has found a truth. n may be 0.
        scores: (n,) in any order; equal scores keep theirs.
        num_truths: ground-truth boxes of the class in all images, at least 1.

    Returns:
        AP (T,), and the interpolated precision (T, 101) that it is the mean of.

    Source: Everingham et al. 2010, section 4.2 (with 11 recalls); COCO reads off 101. As
    `COCOeval.accumulate` in pycocotools.
    """
    # BEGIN SOLUTION
    hits = hits[np.argsort(-scores, kind="stable")]
    found = hits.cumsum(axis=0)  # (n, T)
    precision = found / np.arange(1, len(hits) + 1)[:, None]
    recall = found / num_truths

    # from the right: the best that any higher recall offers
    envelope = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    # (n + 1, T): recalls beyond the last are worth 0
    envelope = np.append(envelope, np.zeros((1, hits.shape[1])), axis=0)
    interpolated = np.stack(
        [column[np.searchsorted(reached, RECALLS)] for column, reached in zip(envelope.T, recall.T)]
    )
    return interpolated.mean(axis=1), interpolated  # (T,), (T, 101)
    # END SOLUTION


class ClassResult(NamedTuple):
    """One line of the table.

    Precision and recall are those at `threshold`, the score where F1 is best; all at IoU 0.5.
    """

    name: str
    truths: int
    ap50: float
    ap50_95: float
    precision: float
    recall: float
    threshold: float


@dataclass(frozen=True)
class Curves:
    """Precision-recall curves at IoU 0.5. Rows of classes without truths are nan."""

    recall: NDArray  # (101,)
    precision: NDArray  # (C, 101) interpolated
    score: NDArray  # (C, 101) the score threshold that just reaches the recall, 0 where none does


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found.

    The means leave out classes without truths (nan), and are nan if no class has any.
    """

    map50: float
    map50_95: float
    per_class: list[ClassResult]
    curves: Curves
    ap: NDArray  # (C, T)
    iou_thresholds: NDArray  # (T,)

    def __str__(self) -> str:
        lines = [f"{'class':<20}{'truths':>8}{'AP50':>8}{'AP50-95':>9}{'precision':>11}{'recall':>8}{'at score':>10}"]
        for row in self.per_class:
            figures = (
                f"{row.ap50:>8.3f}{row.ap50_95:>9.3f}{row.precision:>11.3f}{row.recall:>8.3f}{row.threshold:>10.3f}"
            )
            lines.append(f"{row.name:<20}{row.truths:>8}{figures}")
        total = sum(row.truths for row in self.per_class)
        return "\n".join([*lines, f"{'mean':<20}{total:>8}{self.map50:>8.3f}{self.map50_95:>9.3f}"])


def evaluate(
    predictions: Sequence[torch.Tensor | ArrayLike],
    targets: Sequence[torch.Tensor | ArrayLike],
    class_names: Sequence[str] | None = None,
    iou_thresholds: ArrayLike | None = None,
    max_detections: int = 100,
) -> Evaluation:
    """Judge the predictions for a whole data set. A box turned inside out counts as a miss, where
    pycocotools leaves it out.

    Args:
        predictions: for each image (n, 6) x1 y1 x2 y2 score class.
        targets: for each image (G, 5) class x1 y1 x2 y2, in the same pixels.
        class_names: names of the C classes; by default as many as occur, named by their number.
        iou_thresholds: (T,) the first has to be 0.5; by default COCO's 0.50, 0.55 ... 0.95.
            map50_95 is the mean over them all.
        max_detections: how many of the best-scored predictions count, per image and class.

    Raises:
        ValueError: lists of different length, an array of another shape, an unknown class, or a
            first threshold that is not 0.5.
    """
    if len(predictions) != len(targets):
        raise ValueError(
            f"{len(predictions)} predictions for {len(targets)} targets. Give one array of each for every image."
        )
    thresholds = np.asarray(COCO_IOU_THRESHOLDS if iou_thresholds is None else iou_thresholds, dtype=np.float64)
    if thresholds.size == 0 or thresholds[0] != 0.5:
        raise ValueError(f"iou_thresholds are {thresholds.tolist()}: map50 and the curves need 0.5. Put it first.")
    found = _arrays(predictions, "predictions", "x1 y1 x2 y2 score class")
    truths = _arrays(targets, "targets", "class x1 y1 x2 y2")
    truth_classes = np.concatenate([np.zeros(0), *(own[:, 0] for own in truths)])
    occurring = np.unique(np.concatenate([truth_classes, *(own[:, 5] for own in found)]))
    names = (
        list(class_names)
        if class_names is not None
        else [str(number) for number in range(int(occurring.max(initial=-1)) + 1)]
    )
    if strange := set(occurring.tolist()) - set(range(len(names))):
        raise ValueError(
            f"Class {strange.pop():g} occurs; classes are whole numbers from 0 to {len(names) - 1}. Check the columns."
        )

    found = [own if len(own) <= max_detections else _best_scored(own, max_detections) for own in found]
    hits = [match_predictions(own, own_truths, thresholds) >= 0 for own, own_truths in zip(found, truths)]
    hits = np.concatenate([np.zeros((0, len(thresholds)), dtype=bool), *hits])  # (n, T) over all images
    scores, classes = np.concatenate([np.zeros((0, 6)), *found])[:, 4:].T
    by_class = np.argsort(classes, kind="stable")
    members = np.split(by_class, np.searchsorted(classes[by_class], np.arange(1, len(names))))

    ap = np.full((len(names), len(thresholds)), np.nan)
    curves = Curves(RECALLS, *np.full((2, len(names), len(RECALLS)), np.nan))
    table = []
    for number, name in enumerate(names):
        mine, count = members[number], int((truth_classes == number).sum())
        operating_point = (np.nan, np.nan, np.nan)
        if count:
            ap[number], interpolated = average_precision(hits[mine], scores[mine], count)
            curves.precision[number] = interpolated[0]
            curves.score[number], operating_point = _thresholds(hits[mine, 0], scores[mine], count)
        table.append(ClassResult(name, count, float(ap[number, 0]), float(ap[number].mean()), *operating_point))
    counted = ap[~np.isnan(ap[:, 0])]  # classes that have truths
    map50, map50_95 = (float(part.mean()) if len(counted) else float("nan") for part in (counted[:, 0], counted))
    return Evaluation(map50, map50_95, table, curves, ap, thresholds)


def _thresholds(hits: NDArray, scores: NDArray, num_truths: int) -> tuple[NDArray, tuple[float, float, float]]:
    """Score that just reaches each of the 101 recalls (101,); precision, recall and score where F1
    = 2 TP / (n + truths) is best.
    """
    order = np.argsort(-scores, kind="stable")
    found, scores = hits[order].cumsum(), scores[order]
    at_recall = np.append(scores, 0.0)[np.searchsorted(found / num_truths, RECALLS)]
    if not len(scores):
        return at_recall, (np.nan, 0.0, np.nan)
    kept = np.arange(1, len(scores) + 1)
    f1 = 2 * found / (kept + num_truths)
    f1[:-1][scores[1:] == scores[:-1]] = -1  # no threshold can cut between equal scores
    best = f1.argmax()
    return at_recall, (float(found[best] / kept[best]), float(found[best] / num_truths), float(scores[best]))


def _best_scored(predictions: NDArray, limit: int) -> NDArray:
    """The `limit` best-scored predictions of each class of one image, (n, 6) -> (at most C * limit,
    6).
    """
    ranked = predictions[np.argsort(-predictions[:, 4], kind="stable")]
    return np.concatenate([ranked[ranked[:, 5] == number][:limit] for number in np.unique(ranked[:, 5])])


def _arrays(images: Sequence[torch.Tensor | ArrayLike], name: str, columns: str) -> list[NDArray]:
    """Every image's rows as a float64 array (rows, number of columns)."""
    width = len(columns.split())
    arrays = []
    for image, rows in enumerate(images):
        rows = (
            rows.detach().cpu().double().numpy()
            if isinstance(rows, torch.Tensor)
            else np.asarray(rows, dtype=np.float64)
        )
        if rows.size and (rows.ndim != 2 or rows.shape[1] != width):
            raise ValueError(f"{name}[{image}] has shape {rows.shape}; it has to be (rows, {width}): {columns}.")
        arrays.append(rows.reshape(-1, width))
    return arrays
