"""Average precision, the number by which detectors are compared, after the protocol of COCO.

A prediction is a hit if it lies on a ground-truth box of its class that no better-scored prediction
has taken. Lowering the score threshold step by step gives a precision-recall curve. AP is the area
under it, and mAP the mean over the classes.

    predictions, truths --match_predictions--> hits per image --average_precision--> AP per class
    --evaluate--> mAP

Sources: Everingham et al. 2010, "The PASCAL VOC challenge", section 4.2 (matching, precision-recall
curve, interpolation); Lin et al. 2014, "Microsoft COCO", and the evaluation page of cocodataset.org
(ten IoU thresholds, 101 recalls, 100 detections).
Shapes: n predictions, G ground-truth boxes, T IoU thresholds, C classes. All arithmetic is numpy in
double precision, so that a box at exactly IoU 0.5 falls on the same side as in COCO's own evaluator.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

COCO_IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)  # recalls at which the precision-recall curve is sampled


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
    """Find out which truth each prediction of one image hits, at every IoU threshold.

    Greedy, from the highest score down: each prediction takes one truth at most. It takes the one
    with the highest IoU among those of its class that are still free and have IoU >= threshold.
    Each threshold is a matching of its own: a truth may be taken at 0.5 and still be free at 0.9.
    Predictions with equal scores keep their order. Of two truths with the same IoU the later row is
    taken.

    Args:
        predictions: (n, 6) x1 y1 x2 y2 score class, in pixels, in any order.
        truths: (G, 5) class x1 y1 x2 y2, in pixels.
        iou_thresholds: (T,) each above 0.

    Returns:
        (n, T) integers, in the order of the predictions: the row of the truth that the prediction
        has taken, or -1. No row appears twice in a column.

    Source: Everingham et al. 2010, section 4.2.2; ties are broken as `COCOeval.evaluateImg` in
    pycocotools does.
    """
    raise NotImplementedError("exercise metrics.match_predictions: course/07_training.ipynb")


def average_precision(hits: NDArray, scores: NDArray, num_truths: int) -> tuple[NDArray, NDArray]:
    """Area under the precision-recall curve of one class, over all images, at every IoU threshold.

    TP(k) is the number of hits among the k best-scored predictions:

        precision(k) = TP(k) / k,    recall(k) = TP(k) / num_truths

    The interpolated precision at recall r is the highest precision at any recall >= r, or 0 if r is
    never reached. AP is its mean over the 101 recalls 0, 0.01 ... 1.

    Args:
        hits: (n, T) whether each prediction has found a truth. n may be 0.
        scores: (n,) in any order; predictions with equal scores keep their order.
        num_truths: number of the class's ground-truth boxes in all images, at least 1.

    Returns:
        AP (T,), and the interpolated precision (T, 101), whose mean it is.

    Source: Everingham et al. 2010, section 4.2, with 11 recalls; COCO takes 101, as
    `COCOeval.accumulate` in pycocotools does.
    """
    raise NotImplementedError("exercise metrics.average_precision: course/07_training.ipynb")


class ClassResult(NamedTuple):
    """The result of one class: one line of the table."""

    name: str
    truths: int  # number of ground-truth boxes
    ap50: float
    ap50_95: float
    precision: float  # at `threshold` and IoU 0.5
    recall: float  # at `threshold` and IoU 0.5
    threshold: float  # the score threshold at which F1 is best


@dataclass(frozen=True)
class Curves:
    """Precision-recall curves at IoU 0.5. Rows of classes without truths are nan."""

    recall: NDArray  # (101,)
    precision: NDArray  # (C, 101) interpolated
    score: NDArray  # (C, 101) highest score threshold that reaches the recall, 0 if none does


@dataclass(frozen=True)
class Evaluation:
    """The result of `evaluate`. `str` of it is a table."""

    map50: float  # mean over the classes that have truths; nan if no class has any
    map50_95: float
    per_class: list[ClassResult]
    curves: Curves
    ap: NDArray  # (C, T)
    iou_thresholds: NDArray  # (T,)

    @property
    def figures(self) -> dict[str, float]:
        """The figures for a log, by name."""
        return {"map50": self.map50, "map50_95": self.map50_95}

    def __str__(self) -> str:
        lines = [f"{'class':<20}{'truths':>8}{'AP50':>8}{'AP50-95':>9}{'precision':>11}{'recall':>8}{'at score':>10}"]
        for own in self.per_class:
            at_threshold = f"{own.precision:>11.3f}{own.recall:>8.3f}{own.threshold:>10.3f}"
            lines.append(f"{own.name:<20}{own.truths:>8}{own.ap50:>8.3f}{own.ap50_95:>9.3f}{at_threshold}")
        total = sum(own.truths for own in self.per_class)
        return "\n".join([*lines, f"{'mean':<20}{total:>8}{self.map50:>8.3f}{self.map50_95:>9.3f}"])


def evaluate(
    predictions: Sequence[torch.Tensor | ArrayLike],
    targets: Sequence[torch.Tensor | ArrayLike],
    class_names: Sequence[str] | None = None,
    iou_thresholds: ArrayLike | None = None,
    max_detections: int = 100,
) -> Evaluation:
    """Judge the predictions for a whole data set.

    A box with x2 < x1 or y2 < y1 counts as a miss; pycocotools leaves it out.

    Args:
        predictions: for each image (n, 6) x1 y1 x2 y2 score class.
        targets: for each image (G, 5) class x1 y1 x2 y2, in the same pixels.
        class_names: names of the C classes. By default there are as many as occur, named by number.
        iou_thresholds: (T,) beginning with 0.5; by default COCO's 0.50, 0.55 ... 0.95. map50_95 is
            the mean over all of them.
        max_detections: per image and class, only this many best-scored predictions count.

    Errors: ValueError for lists of different length, an array of another shape, an unknown class,
        or a first threshold that is not 0.5.
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
    names = _class_names(class_names, np.concatenate([truth_classes, *(own[:, 5] for own in found)]))

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
    """Find the score thresholds of one class at one IoU threshold.

    Returns the highest threshold that reaches each recall (101,), and precision, recall and
    threshold where F1 = 2 TP / (n + truths) is best.
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
    """Keep the `limit` best-scored predictions of each class of one image: (n, 6) -> (…, 6)."""
    ranked = predictions[np.argsort(-predictions[:, 4], kind="stable")]
    return np.concatenate([ranked[ranked[:, 5] == number][:limit] for number in np.unique(ranked[:, 5])])


def _class_names(class_names: Sequence[str] | None, classes: NDArray) -> list[str]:
    """The given names, or the numbers up to the highest class; ValueError for a class beyond them."""
    occurring = np.unique(classes)
    if class_names is None:
        class_names = [str(number) for number in range(int(occurring.max(initial=-1)) + 1)]
    if strange := set(occurring.tolist()) - set(range(len(class_names))):
        raise ValueError(
            f"Class {strange.pop():g} occurs; classes are whole numbers from 0 to {len(class_names) - 1}. Check the "
            "columns."
        )
    return list(class_names)


def _arrays(images: Sequence[torch.Tensor | ArrayLike], name: str, columns: str) -> list[NDArray]:
    """Convert the rows of every image to a float64 array (rows, number of columns)."""
    width = len(columns.split())
    arrays = []
    for image, rows in enumerate(images):
        if isinstance(rows, torch.Tensor):
            rows = rows.detach().cpu().double().numpy()
        rows = np.asarray(rows, dtype=np.float64)
        if rows.size and (rows.ndim != 2 or rows.shape[1] != width):
            raise ValueError(f"{name}[{image}] has shape {rows.shape}; it has to be (rows, {width}): {columns}.")
        arrays.append(rows.reshape(-1, width))
    return arrays
