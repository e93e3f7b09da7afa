"""What the bench shows: the functions' answers beside its own, and its controls."""

import math
from base64 import b64decode
from types import SimpleNamespace

import numpy as np
import pytest

from solutions import pose
from tests.unit.views.pose.samples import AIRCRAFT, BOX, fits, image, said
from yolostudy import views
from yolostudy.canvas import style


def moved(error=6.0, hidden=()):
    truth = AIRCRAFT.copy()
    truth[list(hidden), 2] = 0
    return AIRCRAFT[:, :2] + np.array([[error, 0], [0, 2 * error], [0, 0], [-error, error]]), truth


@pytest.mark.parametrize("sigma", [0.05, 0.25])
@pytest.mark.parametrize("hidden", [(), (1,), (0, 2, 3)])
def test_terms_and_gradient_are_those_of_the_formulas(sigma, hidden):
    predicted, truth = moved(hidden=hidden)
    found = views.compare_keypoints(predicted, truth, BOX, sigma, pose)
    seen, away = truth[:, 2] > 0, predicted - truth[:, :2]
    squared = (away**2).sum(1)
    assert found.oks == pytest.approx(np.exp(-squared / (8 * sigma**2 * 0.53 * 4800))[seen].mean(), abs=1e-6)
    assert found.mean_term == pytest.approx(found.oks, abs=1e-6)
    assert (np.isnan(found.terms) == ~seen).all() and found.visible == seen.sum()
    similar, width = np.exp(-squared / (8 * sigma**2 * 4800)), 4 * sigma**2 * 4800
    assert found.loss == pytest.approx((1 - similar)[seen].mean(), abs=1e-6)
    expected = away / width * similar[:, None] * seen[:, None] / seen.sum()
    assert np.allclose(found.gradient, expected, atol=1e-8)


def test_with_nothing_visible_nothing_counts():
    found = views.compare_keypoints(*moved(hidden=range(4)), BOX, 0.05, pose)
    assert found.oks == found.mean_term == found.loss == 0 and not found.gradient.any()
    assert said(views.draw_keypoint_comparison(found, image())).count("hidden") == 4


def test_a_similarity_that_is_no_mean_of_its_terms_is_said():
    wrong = SimpleNamespace(
        keypoint_similarity=lambda *arguments: pose.keypoint_similarity(*arguments) / 2, KeypointLoss=pose.KeypointLoss
    )
    found = views.compare_keypoints(*moved(), BOX, 0.1, wrong)
    assert "not the OKS" in said(views.draw_keypoint_comparison(found, image()))
    right = views.draw_keypoint_comparison(views.compare_keypoints(*moved(), BOX, 0.1, pose), image())
    assert "not the OKS" not in said(right) and "terms and their mean" in said(right) and fits(right)


def test_the_controls_move_the_numbers():
    bench = views.OKSBench(image(), AIRCRAFT, BOX, pose, error=10, sigma=0.1)
    assert bench.numbers.distance == pytest.approx([10] * 4)
    assert len(b64decode(bench._repr_mimebundle_()["image/png"])) <= style.MAX_BYTES
    before, picture = bench.numbers, bench.picture.value
    bench.error.value = 30
    assert bench.numbers.oks < before.oks and bench.picture.value != picture
    far = np.linalg.norm(bench.numbers.gradient, axis=1).max()
    bench.sigma.value = 0.02
    assert far > 1e-3 and np.linalg.norm(bench.numbers.gradient, axis=1).max() < 1e-12, "the exponential is dead"
    bench.direction.value = 90
    assert bench.numbers.predicted[:, :2] - AIRCRAFT[:, :2] == pytest.approx(np.array([[0, 30]] * 4))
    bench.moved.value = 2
    assert bench.numbers.distance == pytest.approx([0, 0, 30, 0]) and bench.numbers.oks == pytest.approx(0.75, abs=1e-6)
    bench.hidden[2].value = True
    assert bench.numbers.oks == pytest.approx(1) and math.isnan(bench.numbers.terms[2]) and bench.message.value == ""


def test_names_are_those_given_or_those_of_planes():
    bench = views.OKSBench(image(), AIRCRAFT, BOX, pose, names=("a", "b", "c", "d"))
    assert [box.description for box in bench.hidden] == [f"hide {name}" for name in "abcd"]
    with pytest.raises(ValueError, match="3 names were given for 4 keypoints"):
        views.OKSBench(image(), AIRCRAFT, BOX, pose, names=("a", "b", "c"))
