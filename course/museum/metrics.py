"""Rooms of the evaluation."""

import numpy as np

from yolostudy.study.museum import Room

above_one = Room(22, "an average precision of 2.0", mistake=("metrics.match_predictions", "one truth is found twice"))
TRUTH = np.array([[0, 10, 10, 50, 50.0]])  # class, x1 y1 x2 y2
TWICE = np.array([[11, 11, 51, 51, 0.4, 0], [10, 10, 50, 50, 0.9, 0.0]])  # x1 y1 x2 y2 score class
BESIDE = np.array([[55, 10, 95, 50, 0.9, 0.0]])


def hits(course, predictions):
    """Which of the predictions have found the one truth, best score first."""
    matches = course.metrics.match_predictions(predictions, TRUTH, np.array([0.5]))[:, 0]
    return matches[np.argsort(-predictions[:, 4])] >= 0


def area(found):
    """Area under the steps of the precision-recall curve: each hit raises recall by one truth."""
    precision = found.cumsum() / np.arange(1, len(found) + 1)
    return (precision * found).sum() / len(TRUTH)


@above_one.look
def _(course):
    ap = area(hits(course, TWICE))
    return ap > 1, f"one truth, predicted twice: AP {ap:.1f}"


@above_one.find("a duplicate, and two boxes that share no pixel")
def _(course):
    return (
        f"one truth, predicted twice: {hits(course, TWICE).sum()} hits\nfive pixels beside it: "
        f"{hits(course, BESIDE).sum()} hits"
    )
