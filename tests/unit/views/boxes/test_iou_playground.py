"""IoU and complete IoU against torchvision, their gradients against finite differences."""

import math

import numpy as np
import pytest
import torch
import torchvision

from solutions import boxes as reference
from tests.unit.views.boxes.functions import APART, FIXED, MEASURE, OVERLAPPING
from yolostudy import views


@pytest.mark.parametrize("moved", [APART, OVERLAPPING, FIXED, (60.0, 42.0, 70.0, 50.0)])
def test_both_measures_agree_with_torchvision(moved):
    numbers = views.compare_boxes(moved, FIXED, **MEASURE)
    pair = torch.tensor([moved]), torch.tensor([FIXED])
    assert numbers["iou"] == pytest.approx(float(torchvision.ops.box_iou(*pair)), abs=1e-5)
    assert 1 - numbers["ciou"] == pytest.approx(
        float(torchvision.ops.complete_box_iou_loss(*pair, reduction="sum")), abs=1e-4
    )
    assert numbers["iou"] - numbers["distance"] - numbers["aspect"] == pytest.approx(numbers["ciou"], abs=1e-4)
    assert numbers["aspect"] == pytest.approx(numbers["alpha"] * numbers["v"])


def test_the_pushes_are_finite_differences():
    numbers = views.compare_boxes(OVERLAPPING, FIXED, **MEASURE)
    step = 0.25
    for edge in range(4):
        plus, minus = np.array(OVERLAPPING), np.array(OVERLAPPING)
        plus[edge] += step
        minus[edge] -= step
        plus, minus = (views.compare_boxes(box, FIXED, **MEASURE) for box in (plus, minus))
        assert (plus["iou"] - minus["iou"]) / (2 * step) == pytest.approx(numbers["push_iou"][edge], rel=0.02)
        # alpha counts as a constant, which differences do not know: it is small here
        assert (plus["ciou"] - minus["ciou"]) / (2 * step) == pytest.approx(numbers["push_ciou"][edge], rel=0.05)


def test_apart_only_the_complete_measure_pushes():
    numbers = views.compare_boxes(APART, FIXED, **MEASURE)
    assert numbers["iou"] == 0 and numbers["ciou"] < 0
    assert not numbers["push_iou"].any() and numbers["push_ciou"][2] > 0.005, (
        "the right edge goes right, where the other box is"
    )
    labels = [axes.get_xlabel() for axes in views.draw_box_comparison(numbers).axes]
    assert "nothing moves" in labels[0] and "strongest push" in labels[1] and labels[2] == "value"


def test_a_wrong_measure_shows_in_its_terms():
    functions = MEASURE | {"complete_iou": lambda a, b: reference.complete_iou(a, b) * 2}
    numbers = views.compare_boxes(OVERLAPPING, FIXED, **functions)
    assert "not to CIoU" in views.draw_box_comparison(numbers).axes[2].get_xlabel()


def test_the_sliders_move_and_resize_the_box():
    playground = views.IoUPlayground(**MEASURE)
    assert playground.numbers["iou"] == 0
    with playground._at_once():
        for slider, value in ((playground.x, 70), (playground.y, 50), (playground.width, 36), (playground.height, 24)):
            slider.value = value
    assert playground.numbers["moved"] == list(FIXED)
    assert playground.numbers["iou"] == pytest.approx(1) and playground.numbers["ciou"] == pytest.approx(1, abs=1e-5)
    playground.x.value = 79  # a quarter of its width to the right
    assert playground.numbers["iou"] == pytest.approx(0.6)


def test_v_is_that_of_the_paper():
    numbers = views.compare_boxes((0, 0, 10, 10), (0, 0, 20, 10), **MEASURE)
    assert numbers["v"] == pytest.approx(4 / math.pi**2 * (math.atan(2) - math.atan(1)) ** 2)
