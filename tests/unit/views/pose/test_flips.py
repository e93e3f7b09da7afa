"""Flipped pictures: points follow their pixels, and the left wing stays on the left."""

import numpy as np
import pytest

from tests.unit.views.pose.samples import AIRCRAFT, fits, image, said
from yolostudy import views
from yolostudy.views.pose.flips import MOVES

FLIP = (0, 1, 3, 2)


def test_a_point_follows_its_pixel():
    """Column 7 of 30 spans 7 to 8; flipped it is column 22, from 22 to 23."""
    picture = np.zeros((20, 30, 3), np.uint8)
    picture[4, 7] = 255
    for move in MOVES.values():
        (row,), (column,) = np.nonzero(move.image(picture)[..., 0])
        assert move.points(np.array([[7.5, 4.5]]), 30, 20) == pytest.approx(np.array([[column + 0.5, row + 0.5]]))


def test_a_flip_exchanges_and_a_turn_does_not():
    numbers = views.draw_flip(image(), AIRCRAFT, FLIP).numbers
    for (way, move), one in numbers.items():
        nose, tail, left, right = one["keypoints"][0, :, :2]
        forward, across = nose - tail, right - left
        is_right = forward[0] * across[1] - forward[1] * across[0] > 0  # y points down
        assert (one["wrong"] == 0) == is_right, (way, move)
        assert one["wrong"] in (0, 2)
    correct = {key for key, one in numbers.items() if one["wrong"] == 0}
    assert correct == {
        ("names stay", "as it is"),
        ("names stay", "turned by 90°"),
        ("names exchanged", "flipped left-right"),
        ("names exchanged", "flipped up-down"),
    }


def test_only_visible_keypoints_count_as_wrong():
    points = np.stack([AIRCRAFT, AIRCRAFT - [10, 0, 0]])
    points[1, 2, 2] = 0
    numbers = views.draw_flip(image(), points, FLIP).numbers
    assert numbers["names stay", "flipped left-right"]["wrong"] == 3


def test_each_picture_says_what_it_is():
    figure = views.draw_flip(image(), AIRCRAFT, FLIP)
    words = said(figure)
    for word in (*MOVES, "names stay", "names exchanged", "left wing tip", "wrong: 2 of 4 names", "correct"):
        assert word in words
    assert fits(figure) and fits(views.draw_flip(image(60, 100), AIRCRAFT / 2, FLIP))


@pytest.mark.parametrize("wrong", [(0, 1, 2), (0, 1, 2, 2), (0, 1, 3, 4)])
def test_a_flip_index_that_exchanges_nothing_is_refused(wrong):
    with pytest.raises(ValueError, match="does not exchange 4 keypoints"):
        views.draw_flip(image(), AIRCRAFT, wrong)
