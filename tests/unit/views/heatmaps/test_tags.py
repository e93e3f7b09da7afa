"""Forces on tags against the worked numbers and the formulas, and their arrows."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from solutions import heatmaps
from tests.unit.views.pose.samples import AIRCRAFT, fits, image, said
from yolostudy import views
from yolostudy.canvas import style

CELLS = np.array([[[1, 2, 2], [5, 6, 2]], [[9, 3, 2], [4, 9, 1]]], np.float32)  # two people, two keypoints


def two_people(values=((0, 0.2), (1, 1.4)), cells=CELLS):
    stack = np.full((2, 12, 12), 7.0)
    for row, person in zip(values, cells.astype(int)):
        for k, (value, (x, y, _)) in enumerate(zip(row, person)):
            stack[k, y, x] = value
    return stack


def test_the_worked_numbers_and_their_gradients():
    found = views.tag_forces(two_people(), CELLS, "exp", heatmaps)
    assert found.pull == pytest.approx(0.025) and found.push == pytest.approx(0.149099, abs=1e-6)
    assert found.tags == pytest.approx(np.array([[0, 0.2], [1, 1.4]])) and found.means == pytest.approx([0.1, 1.2])
    # pull: half the mean of (t - mean)², so a tag falls by (t - mean) / 2
    assert found.pull_forces == pytest.approx(np.array([[0.05, -0.05], [0.1, -0.1]]), abs=1e-6)
    # push: exp(-1.1²) / 2; a mean rises by 1.1 · exp(-1.1²), half of it through each tag
    expected = 1.1 * math.exp(-1.21) / 2
    assert found.push_forces == pytest.approx(np.array([[-expected] * 2, [expected] * 2]), abs=1e-6)
    assert views.tag_forces(two_people(), CELLS, "max", heatmaps).push == 0


def test_a_hidden_keypoint_and_one_outside_have_no_tag():
    cells = CELLS.copy()
    cells[0, 1, 2], cells[1, 0, 0] = 0, 40
    found = views.tag_forces(torch.tensor(two_people()), cells, "exp", heatmaps)
    assert np.isnan(found.tags).tolist() == np.isnan(found.pull_forces).tolist() == [[False, True], [True, False]]
    assert found.pull == 0 and found.means == pytest.approx([0, 1.4])


def test_one_alone_is_not_pushed_and_nobody_is_nothing():
    alone = views.tag_forces(two_people(), CELLS[:1], "exp", heatmaps)
    assert alone.push == 0 and not alone.push_forces.any() and alone.pull_forces.any()
    nobody = views.tag_forces(two_people(), CELLS[:0], "exp", heatmaps)
    assert (nobody.pull, nobody.push, len(nobody.tags)) == (0, 0, 0)


def test_a_push_that_keeps_the_diagonal_shows():
    def with_diagonal(tags, joints, kind):
        pull, push = heatmaps.associative_embedding(tags, joints, kind)
        return pull, push + 0.5

    wrong = SimpleNamespace(JointsGenerator=heatmaps.JointsGenerator, associative_embedding=with_diagonal)
    assert views.tag_forces(two_people(), CELLS, "exp", wrong).push == pytest.approx(0.649099, abs=1e-6)


def test_tag_maps_that_are_not_square_are_refused():
    with pytest.raises(ValueError, match="12 × 8; square ones"):
        views.tag_forces(np.zeros((2, 8, 12)), CELLS, "exp", heatmaps)


def test_arrows_point_along_the_forces():
    people = np.stack([AIRCRAFT / (2, 2, 1), AIRCRAFT / (2, 2, 1) + (50, 50, 0)])
    random = np.random.default_rng(0)
    tags = {"before": random.normal(0, 0.1, (4, 30, 30)), "after": torch.tensor(random.normal(0, 1, (4, 30, 30)))}
    figure = views.draw_tags(image(), tags, people, 2, heatmaps=heatmaps)
    assert list(figure.numbers) == ["before", "after"]
    lines = [axes for axes in figure.axes if "pull" in axes.get_title(loc="left")]
    for axes, numbers in zip(lines, figure.numbers.values(), strict=True):
        push = np.nansum(numbers.push_forces, axis=1)
        red = [note for note in axes.texts if note.arrow_patch.get_edgecolor()[:3] == rgb(style.FALSE_ALARM)]
        assert len(red) == 2
        for note in red:
            (start, row), tip = note.xyann, note.xy[0]
            person = int(row)
            assert start == pytest.approx(numbers.means[person]) and np.sign(tip - start) == np.sign(push[person])
            low, high = axes.get_xlim()
            assert low <= tip <= high, "an arrow that leaves the axes would not be drawn"
        pulled = {
            (round(note.xyann[0], 6), np.sign(note.xy[0] - note.xyann[0])) for note in axes.texts if note not in red
        }
        forces = zip(numbers.tags.ravel(), numbers.pull_forces.ravel())
        assert pulled <= {(round(tag, 6), np.sign(force)) for tag, force in forces} and len(pulled) > 4
    words = said(figure)
    assert "before: tags of left wing tip" in words and "longest arrow: a force of" in words
    assert fits(figure)


def rgb(colour):
    return pytest.approx(tuple(value / 255 for value in style.rgb(colour)))
