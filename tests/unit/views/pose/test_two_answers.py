"""Two answers to one picture: pairs, errors, and what is painted."""

import numpy as np
import pytest
import torch

from tests.unit.views.pose.samples import AIRCRAFT, fits, image
from yolostudy import views
from yolostudy.canvas import style

TRUTH = np.stack([AIRCRAFT / (2, 2, 1), AIRCRAFT / (2, 2, 1) + (55, 50, 0)])


def test_each_answer_is_measured_at_its_pair():
    near = TRUTH[::-1].copy()  # in another order
    near[..., 0] += 3
    near[..., 2] = 0.9
    near[1, 2, 2] = 0
    exact = np.concatenate([TRUTH, np.zeros((2, 4, 1))], axis=-1)[:1]  # with a tag, as of group_keypoints
    exact[..., 2] = 0.4
    exact[0, 1] = np.nan
    figure = views.draw_answers(image(), TRUTH, near, torch.tensor(exact))
    first, second = figure.numbers["regression"], figure.numbers["heatmaps"]
    assert sorted(first["pairs"]) == [(0, 1), (1, 0)] and first["median"] == pytest.approx(3)
    assert np.isnan(first["errors"][0, 2]) and (first["found"], first["missed"], first["extra"]) == (7, 1, 0)
    assert second["pairs"] == [(0, 0)] and second["median"] == 0 and (second["found"], second["missed"]) == (3, 5)
    assert fits(figure)


def test_a_far_answer_is_extra_and_nothing_is_nothing():
    far = TRUTH + np.array([0, 300, 0])
    numbers = views.draw_answers(image(), TRUTH, far, np.zeros((0, 4, 3)), names=("far", "none")).numbers
    assert numbers["far"]["pairs"] == [] and numbers["far"]["extra"] == 2 and numbers["far"]["missed"] == 8
    assert numbers["none"]["found"] == 0 and np.isnan(numbers["none"]["median"])
    numbers = views.draw_answers(image(), TRUTH[:0], TRUTH, TRUTH).numbers
    assert numbers["heatmaps"]["extra"] == 2


def test_an_answer_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"heatmaps has shape \(2, 3, 3\), but \(n, 4, 3 or more\)"):
        views.draw_answers(image(), TRUTH, TRUTH, TRUTH[:, :3])


def test_truth_is_a_purple_ring_around_the_answer():
    keypoints = np.array([[[60, 60, 2], [100, 60, 0]]], float)
    ringed = views.paint(image(), truth_keypoints=keypoints, side=480).image
    both = views.paint(image(), keypoints=keypoints, truth_keypoints=keypoints, side=480).image
    purple = (ringed == style.rgb(style.TRUTH)).all(axis=2)
    rows, columns = np.nonzero(purple)
    assert purple.sum() > 50 and abs(rows.mean() - 240) < 1 and abs(columns.mean() - 240) < 1
    assert not purple[238:243, 238:243].any(), "a ring is open"
    assert (both == style.rgb(style.TRUTH)).all(axis=2).sum() == purple.sum(), "the answer hides no ring"
    assert (both[240, 240] == style.rgb(style.CYCLE[0])).all()
