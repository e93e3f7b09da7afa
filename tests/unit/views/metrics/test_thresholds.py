"""An operating point against counting, and its slider."""

from base64 import b64decode

import numpy as np
import pytest

from solutions import metrics
from tests.unit.views.detections.scenes import judged
from yolostudy import views
from yolostudy.canvas import style


def png_size(figure):
    return len(style.as_png(figure))


@pytest.mark.parametrize("threshold", [0.05, 0.3, 0.5, 0.8, 0.999])
def test_an_operating_point_agrees_with_counting(threshold):
    predictions, truths = judged()
    evaluation = metrics.evaluate(predictions, truths, ["A1", "A2"])
    for number, name in enumerate(("A1", "A2")):
        kept = [rows[(rows[:, 4] >= threshold) & (rows[:, 5] == number)] for rows in predictions]
        own = [rows[rows[:, 0] == number] for rows in truths]
        found = [metrics.match_predictions(p, t, np.array([0.5])) >= 0 for p, t in zip(kept, own)]
        hits, count = sum(int(f.sum()) for f in found), sum(map(len, kept))
        point = views.operating_point(evaluation, threshold, name)
        assert point.recall == pytest.approx(hits / sum(map(len, own)), abs=0.0101)
        assert point.precision >= (hits / count if hits else 0) - 1e-9
        assert point.ap == pytest.approx(evaluation.ap[number, 0])
        assert np.all(np.diff(point.by_score[2]) <= 1e-12)  # a higher threshold never finds more


def test_the_mean_leaves_out_classes_without_truths():
    predictions, truths = judged()
    evaluation = metrics.evaluate(predictions, truths, ["A1", "A2", "nobody"])
    mean = views.operating_point(evaluation, 0.5)
    single = [views.operating_point(evaluation, 0.5, name) for name in ("A1", "A2")]
    assert mean.recall == pytest.approx(np.mean([one.recall for one in single])) and mean.ap == pytest.approx(
        evaluation.map50
    )
    with pytest.raises(ValueError, match="no class 'A9'"):
        views.operating_point(evaluation, 0.5, "A9")
    with pytest.raises(ValueError, match="nobody has no ground truth"):
        views.operating_point(evaluation, 0.5, "nobody")


def test_a_class_without_predictions_has_recall_0():
    evaluation = metrics.evaluate([np.zeros((0, 6))], [np.array([[0, 1, 1, 9, 9]])], ["A1"])
    point = views.operating_point(evaluation, 0.5)
    assert (point.recall, point.ap, point.f1) == (0, 0, 0)
    assert png_size(views.draw_operating_point(point))


def test_the_threshold_moves_the_point_and_the_picture():
    predictions, truths = judged()
    pictures = [np.full((100, 100, 3), 90, np.uint8)] * len(truths)
    bench = views.ThresholdBench(metrics.evaluate(predictions, truths, ["A1", "A2"]), pictures, predictions, truths)
    low, picture = bench.numbers, bench.picture.value
    bench.threshold.value = 0.8
    assert (
        bench.numbers.recall < low.recall
        and bench.numbers.precision >= low.precision
        and bench.picture.value != picture
    )
    bench.class_name.value = "A2"
    assert bench.numbers.name == "A2"
    before = bench.picture.value
    bench.picture_number.value = 3
    assert bench.picture.value != before
    assert len(b64decode(bench._repr_mimebundle_()["image/png"])) <= style.MAX_BYTES
    plain = views.ThresholdBench(metrics.evaluate(predictions, truths, ["A1", "A2"]))
    assert len(plain.figure.axes) == 2
