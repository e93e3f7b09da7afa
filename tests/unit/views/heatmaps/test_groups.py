"""Groups as they were found."""

import numpy as np
import pytest

from solutions import heatmaps
from tests.unit.views.pose.samples import AIRCRAFT, fits, image, said
from yolostudy import views

PEOPLE = np.stack([AIRCRAFT / (4, 4, 1), AIRCRAFT / (4, 4, 1) + (7, 3, 0)]).astype(np.float32)


def test_each_group_is_counted():
    people = PEOPLE.copy()
    people[1, 2, 2] = 0
    maps = heatmaps.HeatmapGenerator(30, 4, 1.0)(people)
    tags = np.zeros((4, 30, 30), np.float32)
    for value, person in zip((-1.5, 2), people):
        for k, (x, y, _) in enumerate(person.astype(int)):
            tags[k, y, x] = value + 0.1 * k
    groups = heatmaps.group_keypoints(maps, tags)
    figure = views.draw_groups(image(), groups, stride=4)
    by_tag = sorted(figure.numbers, key=lambda one: one["tag"])
    assert [one["keypoints"] for one in by_tag] == [4, 3] and [one["score"] for one in by_tag] == [1, 1]
    assert by_tag[0]["tag"] == pytest.approx(-1.35) and by_tag[0]["spread"] == pytest.approx(0.3)
    marks = {
        (round(float(x), 3), round(float(y), 3)) for line in figure.axes[0].lines for x, y in zip(*line.get_data())
    }
    there = groups[..., 2] > 0
    assert {(round(float(x), 3), round(float(y), 3)) for x, y in 4 * groups[there][:, :2]} <= marks
    assert (0, 0) not in marks, "a missing keypoint is not drawn"
    words = said(figure)
    assert "2 groups, 1 keypoints missing" in words and "tag" in words and "nose" in words and fits(figure)


def test_no_group_is_a_picture_too():
    figure = views.draw_groups(image(), np.zeros((0, 4, 4)), names="abcd")
    assert figure.numbers == [] and "0 groups" in said(figure) and fits(figure)


def test_groups_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"\(2, 4, 3\), but \(people, K, 4\)"):
        views.draw_groups(image(), PEOPLE)
