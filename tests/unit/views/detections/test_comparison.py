"""Predictions are judged like the metric judges them."""

import numpy as np
import pytest
from hypothesis import given, settings

from tests.unit.views.detections.scenes import PREDICTIONS, TRUTHS
from yolostudy import views


@settings(deadline=None, max_examples=100)
@given(PREDICTIONS, TRUTHS)
def test_every_prediction_and_every_truth_is_counted_once(predictions, truths):
    judged = views.compare_detections(predictions, truths)
    assert judged.hits + judged.misses == len(truths)
    assert judged.hits + judged.false_alarms == len(predictions)
    found = judged.matched[judged.matched >= 0]
    assert len(set(found)) == len(found) and not judged.missed[found].any()
    assert (truths[found, 0] == predictions[judged.matched >= 0, 5]).all()


@settings(deadline=None, max_examples=100)
@given(PREDICTIONS, TRUTHS)
def test_the_painter_judges_like_the_metric(predictions, truths):
    pytest.importorskip("torch")
    metrics = pytest.importorskip("solutions.metrics")
    expected = metrics.match_predictions(predictions, truths, np.array([0.5]))[:, 0]
    assert views.compare_detections(predictions, truths).matched.tolist() == expected.tolist()


def test_the_surest_prediction_takes_the_truth_and_class_matters():
    truth = [[1, 10, 10, 50, 50]]
    predictions = [[10, 10, 50, 50, 0.6, 1], [12, 10, 50, 50, 0.9, 1], [10, 10, 50, 50, 0.99, 2]]
    judged = views.compare_detections(predictions, truth)
    assert judged.matched.tolist() == [-1, 0, -1]
    assert views.compare_detections(predictions[:1], truth * 2).matched.tolist() == [1], (
        "of equal truths the later one, as in COCO's evaluator"
    )
    assert views.compare_detections([[10, 10, 50, 29, 0.9, 1]], truth).hits == 0, "IoU 0.475 is no hit"
    assert views.compare_detections([[10, 10, 50, 31, 0.9, 1]], truth).hits == 1, "IoU 0.525 is one"


def test_tensors_are_taken_as_they_are():
    torch = pytest.importorskip("torch")
    predictions = torch.tensor([[10.0, 10, 50, 50, 0.9, 1]], dtype=torch.bfloat16, requires_grad=True)
    assert views.compare_detections(predictions, torch.tensor([[1, 10, 10, 50, 50]])).hits == 1


def test_a_wrong_table_is_named():
    with pytest.raises(ValueError, match=r"truth has shape \(1, 6\), but \(n, 5\) is needed: class x1 y1 x2 y2"):
        views.compare_detections([], [[0, 0, 5, 5, 0.9, 1]])
    with pytest.raises(ValueError, match="row 1 holds a value that is not finite"):
        views.compare_detections([[0, 0, 5, 5, 0.9, 1], [0, 0, np.nan, 5, 0.9, 1]], [])
    with pytest.raises(ValueError, match="float32 of shape"):
        views.paint(np.zeros((8, 8, 3), np.float32))
