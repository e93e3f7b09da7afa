"""The anchor points of each level, counted in another way, and what is said of a wrong function."""

import numpy as np
import pytest
import torch

from solutions import boxes as reference
from tests.unit.views.boxes.functions import image
from yolostudy import views
from yolostudy.canvas import style


def survey(box=(30, 20, 90, 70), size=(96, 160), **functions):
    functions = {"make_anchors": reference.make_anchors, "box_to_distance": reference.box_to_distance} | functions
    return views.anchor_survey(box, size, **functions)


def test_the_survey_counts_anchors_and_measures_the_box():
    numbers = survey()
    assert [len(points) for points in numbers["points"]] == [12 * 20, 6 * 10, 3 * 5]
    for level, stride in enumerate((8, 16, 32)):
        x, y = np.meshgrid(np.arange(stride / 2, 160, stride), np.arange(stride / 2, 96, stride))
        assert np.allclose(numbers["points"][level], np.stack([x.ravel(), y.ravel()], axis=1))
        assert numbers["inside"][level] == ((x > 30) & (x < 90) & (y > 20) & (y < 70)).sum()
        x, y = numbers["anchor"][level]
        assert max(abs(x - 60), abs(y - 45)) <= stride / 2
        assert np.allclose(numbers["distances"][level] * stride, [x - 30, y - 20, 90 - x, 70 - y])
    assert len(style.as_png(views.draw_anchors(numbers, image()))) <= style.MAX_BYTES


@pytest.mark.parametrize(
    ("functions", "message"),
    [
        (
            {"make_anchors": lambda *_: (torch.zeros(3, 2), torch.ones(3, 1))},
            r"make_anchors gave shape \(3, 2\).*check\('boxes.make_anchors'\)",
        ),
        (
            {"box_to_distance": lambda *_: torch.full((1, 4), torch.nan)},
            "box_to_distance gave a value that is not finite",
        ),
        ({"box_to_distance": lambda *_: None}, "box_to_distance gave NoneType"),
    ],
)
def test_an_answer_that_cannot_be_drawn_is_named(functions, message):
    with pytest.raises(ValueError, match=message):
        survey(**functions)
