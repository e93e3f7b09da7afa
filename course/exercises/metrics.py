"""Stage 7: from predictions to average precision."""

from __future__ import annotations

import numpy as np

from yolostudy.study.exercise import Exercise

THRESHOLDS = np.array([0.5, 0.75])


def rows(*numbers: tuple) -> np.ndarray:
    return np.array(numbers, dtype=np.float64)


# ---- match_predictions ---------------------------------------------------------------------------

match_predictions = Exercise(
    "metrics.match_predictions",
    stage=7,
    points=3,
    minutes=30,
    goal="Decide which prediction has found which aircraft; each aircraft is found once at most.",
    hints=(
        "Picture the predictions of one image in a queue, the surest first. Each one looks at the truths that are "
        "left and takes the best one that it may, or none. Which of the truths may it take?",
        "Make a table of IoU, predictions by truths, with 0 where the classes differ. Remember which truths are free, "
        "separately for each threshold.",
        "Three loops are enough: over the thresholds, over the predictions by falling score (a stable sort of the "
        "negative scores), over the truths. Keep the best free truth with an IoU of at least the threshold. Write its "
        "row at the prediction's own place, not at its place in the queue.",
    ),
)


def matched(course, predictions: np.ndarray, truths: np.ndarray, thresholds: np.ndarray = THRESHOLDS) -> np.ndarray:
    return np.asarray(course.metrics.match_predictions(predictions.copy(), truths.copy(), thresholds.copy()))


@match_predictions.probe("three predictions on one truth, the surest last")
def _(course):
    truths = rows((0, 10, 10, 50, 50), (0, 100, 100, 110, 110))
    predictions = rows(
        (10, 10, 50, 40, 0.3, 0),  # IoU 0.75 with the first
        (104, 112, 114, 122, 0.6, 0),  # beside the second; read as corner and size it would overlap
        (10, 10, 50, 48, 0.5, 0),  # 0.95
        (12, 10, 50, 50, 0.9, 0),  # 0.95, and the surest
    )
    return matched(course, predictions, truths)


@match_predictions.probe("a crowd, where the best truth may be taken")
def _(course):
    truths = rows(
        (0, 0, 0, 100, 100), (0, 10, 0, 110, 100), (0, 20, 0, 120, 100), (0, 400, 0, 500, 100), (0, 405, 0, 505, 100)
    )
    predictions = rows(
        (12, 0, 112, 100, 0.6, 0),  # best on 1, which the next takes; then 2, then 0
        (9, 0, 109, 100, 0.8, 0),
        (11, 0, 111, 100, 0.4, 0),
        (60, 0, 160, 100, 0.9, 0),  # below 0.5 with all
        (30, 0, 130, 100, 0.85, 0),  # best on 2
        (400, 0, 500, 60, 0.7, 0),  # 0.6 with 3: takes it at 0.5 and leaves it free at 0.75
        (400, 0, 500, 98, 0.65, 0),  # best on 3 at both
    )
    return {
        "at 0.5 and 0.75": matched(course, predictions, truths),
        "at 0.9, 0.3 and 0.6": matched(course, predictions, truths, np.array([0.9, 0.3, 0.6])),
        "one prediction on two": matched(
            course, rows((0, 0, 40, 40, 0.5, 0)), rows((0, 0, 0, 40, 40), (0, 0, 0, 40, 36))
        ),
    }


@match_predictions.probe("several classes in one place")
def _(course):
    truths = rows((2, 0, 0, 40, 40), (0, 1, 0, 41, 40), (1, 200, 0, 240, 40))
    predictions = rows(
        (0, 0, 40, 40, 0.9, 0),
        (1, 0, 41, 40, 0.8, 2),
        (2, 0, 42, 40, 0.7, 1),
        (200, 0, 240, 40, 0.6, 3),
        (200, 0, 240, 39, 0.2, 1),
    )
    return matched(course, predictions, truths)


@match_predictions.probe("on the very edge: IoU equal to the threshold, equal scores, equal truths")
def _(course):
    half = matched(course, rows((0, 0, 16, 8, 0.5, 0)), rows((0, 0, 0, 16, 16)))
    scores = matched(course, rows((0, 0, 16, 14, 0.5, 0), (0, 0, 16, 16, 0.5, 0)), rows((0, 0, 0, 16, 16)))
    truths = matched(
        course, rows((0, 0, 16, 15, 0.5, 0)), rows((0, 0, 0, 16, 16), (0, 0, 0, 16, 16), (0, 90, 0, 96, 16))
    )
    return {"IoU equal to the threshold": half, "two predictions, one score": scores, "the same truth twice": truths}


@match_predictions.probe("no predictions, no truths, and what was handed over")
def _(course):
    predictions, truths = (
        rows((0, 0, 9, 9, 0.1, 0), (20, 0, 29, 9, 0.9, 0), (40, 0, 49, 9, 0.5, 0)),
        rows((0, 0, 0, 9, 8), (0, 20, 0, 29, 9)),
    )
    given = predictions.copy(), truths.copy()
    course.metrics.match_predictions(*given, THRESHOLDS.copy())
    return {
        "no predictions": matched(course, np.zeros((0, 6)), truths),
        "no truths": matched(course, predictions, np.zeros((0, 5))),
        "neither": matched(course, np.zeros((0, 6)), np.zeros((0, 5))),
        "unchanged": [bool(np.array_equal(*pair)) for pair in zip(given, (predictions, truths), strict=True)],
    }


ORDER = "np.lexsort((-rows, -iou, indices, -predictions[indices, 4]))"
IOU = "pairwise_iou(predictions[:, :4], truths[:, 1:])"

match_predictions.misconception(
    "one truth is found twice",
    swap=("        free[row, match] = False\n", ""),
    because="Ten predictions on one aircraft would be ten hits, and more hits than aircraft make a recall above 1 and "
    "an AP of 2. A detector that repeats itself would win. A truth can be taken once; the other predictions on it are "
    "false alarms.",
    museum=22,
)
match_predictions.misconception(
    "the predictions are not sorted by score",
    swap=(ORDER, "np.lexsort((-rows, -iou, indices))"),
    because="The prediction that comes first in the array takes the truth, and a better one behind it counts as a "
    "false alarm. Predictions of a network come in the order of its anchors. Let the surest choose first.",
    museum=22,
)
match_predictions.misconception(
    "the boxes are read as corner and size",
    swap=(
        IOU,
        "pairwise_iou(*(np.concatenate((b[:, :2], b[:, :2] + b[:, 2:]), axis=1) for b in (predictions[:, :4], "
        "truths[:, 1:])))",
    ),
    because="Read like this, every box reaches from its corner far to the lower right, and boxes that lie side by "
    "side overlap: there are hits where none should be, and an AP that no picture explains. Two boxes that do not "
    "touch must have IoU 0. The columns are x1 y1 x2 y2.",
    museum=22,
)
match_predictions.misconception(
    "the least sure prediction chooses first",
    swap=("-predictions[indices, 4]", "predictions[indices, 4]"),
    because="By default a sort is ascending. The worst predictions take the truths, and the good ones become false "
    "alarms with high scores, which ruins precision at its start. Sort the negative scores.",
)
match_predictions.misconception(
    "the best overlaps are matched first",
    swap=(ORDER, "np.lexsort((-rows, indices, -iou))"),
    because="Matching by IoU makes each match as good as it can be and ignores the score, but the curve is ordered by "
    "score: of two predictions on one aircraft the surer must be the hit. It agrees with COCO on most images, and not "
    "on all.",
)
match_predictions.misconception(
    "the class does not matter",
    swap=("    iou[predictions[:, 5, None] != truths[:, 0]] = 0\n", ""),
    because="A bomber that is called a fighter counts as found, and it takes the truth away from the prediction that "
    "has its class right. Set the IoU to 0 where the classes differ.",
)
match_predictions.misconception(
    "each prediction looks at its best truth only",
    swap=(
        "reached = iou[order, None] >= iou_thresholds",
        "reached = (iou[order, None] >= iou_thresholds) & (np.diff(indices[order], prepend=-1) != 0)[:, None]",
    ),
    because="That is the rule of PASCAL VOC: if the best truth is taken, the prediction is a false alarm. COCO lets "
    "it take the best truth that is still free. In a row of parked aircraft the results differ, and can no longer be "
    "compared with anybody's.",
)
match_predictions.misconception(
    "the first truth that reaches the threshold is taken",
    swap=(ORDER, "np.lexsort((rows, indices, -predictions[indices, 4]))"),
    because="Among several that reach the threshold, take the one with the highest IoU. Taking the first may take it "
    "away from a prediction that has no other. Keep looking for a better one.",
)
match_predictions.misconception(
    "a truth taken at one threshold is taken at all",
    swap=("free[row, match] = False", "free[row] &= not match.any()"),
    because="A poor box takes the truth at 0.5, and the exact one behind it finds nothing left at 0.9. Each threshold "
    "is an evaluation of its own: remember the free truths for each.",
)
match_predictions.misconception(
    "a prediction takes several truths",
    swap=(" & (matches[index] < 0)", ""),
    because="If two aircraft overlap, one box takes both at once, and the prediction on the second finds nothing "
    "left. One prediction, one truth.",
)
match_predictions.misconception(
    "the IoU has to be above the threshold",
    swap=("reached = iou[order, None] >= iou_thresholds", "reached = iou[order, None] > iou_thresholds"),
    because="COCO counts an IoU of exactly 0.5 as a hit, and boxes with whole coordinates do reach it. Use >=.",
)
match_predictions.misconception(
    "the answer is in the order of the scores",
    swap=("return matches", "return matches[np.argsort(-predictions[:, 4], kind='stable')]"),
    because="The caller has scores and classes in the old order, and would put the hits beside the wrong ones. Each "
    "row of the answer belongs to the same row of the predictions.",
)
match_predictions.misconception(
    "the answer says whether, not which",
    swap=("return matches", "return matches >= 0"),
    because="For AP a yes or no would be enough. But the pictures of this stage draw a line from each hit to its "
    "aircraft, and paint the aircraft that nobody found in another colour: they need the row. -1 means none.",
)


# ---- average_precision ---------------------------------------------------------------------------

average_precision = Exercise(
    "metrics.average_precision",
    stage=7,
    points=2,
    minutes=20,
    goal="Turn hits and scores into the area under the precision-recall curve.",
    hints=(
        "Sort everything, the surest first. Each further prediction is one more on the list, and sometimes one more "
        "hit: how do precision and recall follow from the two counts?",
        "The interpolated precision never rises with recall: go from right to left and keep the highest so far. Then "
        "find for each recall of RECALLS the first prediction that reaches it.",
        "np.maximum.accumulate on the reversed precision gives the envelope, np.searchsorted on the recall gives the "
        "place. A recall that is never reached lies one place beyond the end: put a row of zeros there.",
    ),
)


def area(course, hits: np.ndarray, scores: np.ndarray, num_truths: int) -> dict:
    ap, interpolated = course.metrics.average_precision(hits.copy(), scores.copy(), num_truths)
    return {
        "AP": np.asarray(ap, dtype=np.float64),
        "interpolated precision": np.asarray(interpolated, dtype=np.float64),
    }


HITS = np.array([[0, 0], [1, 1], [1, 0], [0, 0], [1, 0], [1, 1], [1, 1], [0, 0]], dtype=bool)
SCORES = np.array([0.35, 0.9, 0.2, 0.8, 0.6, 0.5, 0.7, 0.05])


@average_precision.probe("eight predictions for seven truths, in any order")
def _(course):
    return area(course, HITS, SCORES, 7)


@average_precision.probe("more truths than are ever found, and fewer predictions than truths")
def _(course):
    return {
        "13 truths": area(course, HITS, SCORES, 13),
        "one prediction, 3 truths": area(course, np.array([[True]]), np.array([0.4]), 3),
    }


@average_precision.probe("everything right, everything wrong, nothing at all")
def _(course):
    three = np.array([0.9, 0.8, 0.7])
    return {
        "three hits": area(course, np.ones((3, 2), dtype=bool), three, 3),
        "three misses": area(course, np.zeros((3, 2), dtype=bool), three, 3),
        "no predictions": area(course, np.zeros((0, 3), dtype=bool), np.zeros(0), 2),
    }


@average_precision.probe("recalls that are reached exactly")
def _(course):
    """Quarters are exact in binary, and occur in RECALLS."""
    hits = np.array([[1], [0], [1], [0], [0], [1], [0], [1]], dtype=bool)
    return area(course, hits, np.linspace(0.9, 0.2, 8), 4)


@average_precision.probe("forty predictions with three scores between them")
def _(course):
    """Up to sixteen elements an unstable sort is often stable; these are more."""
    places = np.arange(40)
    return area(course, (places * places % 7 < 3)[:, None], np.array([0.5, 0.9, 0.1])[places * 5 % 3], 37)


SORT = 'hits[np.argsort(-scores, kind="stable")]'

average_precision.misconception(
    "the hits are not sorted by score",
    swap=(SORT, "hits"),
    because="The curve shows what happens as the threshold sinks. In the order of the images it is a random walk "
    "around the mean precision, and the scores do not count at all. Sort the hits by falling score first.",
    museum=22,
)
average_precision.misconception(
    "the hits are sorted the wrong way round",
    swap=("-scores", "scores"),
    because="The curve begins with the least sure predictions, and the best ones come last: the better its scores, "
    "the lower the AP of a detector. argsort is ascending; sort the negative scores.",
)
average_precision.misconception(
    "equal scores change their order",
    swap=(SORT, 'hits[np.argsort(scores, kind="stable")[::-1]]'),
    because="Reversing an ascending sort reverses the order of equal scores too. Detectors that round their scores "
    "have many of them, and the AP differs from COCO's. Sort the negative scores, and stably.",
)
average_precision.misconception(
    "the precision is not interpolated",
    swap=("np.maximum.accumulate(precision[::-1], axis=0)[::-1]", "precision"),
    because="The raw curve is a zigzag: it falls at each false alarm and climbs at the next hit. The protocol takes, "
    "at each recall, the best precision at that recall or a higher one. Without it every AP is a little too low.",
)
average_precision.misconception(
    "the envelope is made from the left",
    swap=("np.maximum.accumulate(precision[::-1], axis=0)[::-1]", "np.maximum.accumulate(precision, axis=0)"),
    because="From the left the highest precision so far is kept, and after one early hit that is 1 for the rest of "
    "the curve: almost every detector gets a perfect AP up to its last recall. Go from the right.",
)
average_precision.misconception(
    "the recall is a share of what was found",
    swap=("recall = found / num_truths", "recall = found / np.maximum(found[-1:], 1)"),
    because="Divided by the hits instead of the truths, every curve reaches a recall of 1, and a detector that finds "
    "one aircraft in a hundred gets an AP of 1 for it. Divide by num_truths.",
)
average_precision.misconception(
    "the recall is a share of the predictions",
    swap=("recall = found / num_truths", "recall = found / max(1, len(hits))"),
    because="Recall is how many of the aircraft were found, not how many predictions were right. Here a detector with "
    "few predictions seems to have found much. Divide by num_truths.",
)
average_precision.misconception(
    "precision counts from 0",
    swap=("np.arange(1, len(hits) + 1)", "np.arange(len(hits)).clip(min=1)"),
    because="The second prediction is divided by 1, so two hits make a precision of 2, and the AP rises above 1. The "
    "first k predictions are k, from 1 on.",
    museum=22,
)
average_precision.misconception(
    "recalls that are never reached get the last precision",
    swap=("np.zeros((1, hits.shape[1]))", "(envelope[-1:] if len(hits) else np.zeros((1, hits.shape[1])))"),
    because="The curve ends where the detector finds no more. If it is continued to a recall of 1, one sure hit among "
    "a hundred aircraft gives an AP of 1. A recall that is never reached counts 0.",
)
average_precision.misconception(
    "recalls that are never reached are left out",
    swap=(
        "return interpolated.mean(axis=1), interpolated",
        "return interpolated.sum(axis=1) / np.maximum(1, (interpolated > 0).sum(axis=1)), interpolated",
    ),
    because="The mean is then taken over the existing part of the curve only, and missing half of the aircraft costs "
    "nothing. Take it over all 101 recalls.",
)
average_precision.misconception(
    "read off at 11 recalls",
    swap=("RECALLS", "np.linspace(0, 1, 11)"),
    because="PASCAL VOC did that until 2009. The result is coarser, and cannot be compared with COCO's. RECALLS has "
    "the 101.",
)
average_precision.misconception(
    "a recall counts only when it is passed",
    swap=("np.searchsorted(reached, RECALLS)", 'np.searchsorted(reached, RECALLS, side="right")'),
    because="The definition says any recall of at least r. With one aircraft and one hit the recall of 1 is reached "
    "and never passed, so a perfect detector would get 100 / 101. The default side of searchsorted is the right one.",
)
average_precision.misconception(
    "the mean goes over the thresholds",
    swap=("interpolated.mean(axis=1)", "interpolated.mean(axis=0)"),
    because="That is a mean curve with 101 numbers, not the area under each. AP is one number for each threshold: the "
    "mean over the recalls.",
)
average_precision.misconception(
    "the zeros beyond the last recall are forgotten",
    swap=("    envelope = np.append(envelope, np.zeros((1, hits.shape[1])), axis=0)", "    envelope = envelope"),
    because="searchsorted gives n for a recall that no prediction reaches, one beyond the last, and numpy stops with "
    "an IndexError at the first class of which not every aircraft is found. Put a row of zeros there.",
)
