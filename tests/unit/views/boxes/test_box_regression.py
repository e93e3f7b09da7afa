"""Descent stands still under IoU and arrives under complete IoU."""

import numpy as np

from tests.unit.views.boxes.functions import FIXED, MEASURE
from yolostudy import views
from yolostudy.canvas import style


def test_descent_stands_still_under_iou_and_arrives_under_ciou():
    numbers = views.regress_box((8, 60, 28, 92), **MEASURE)
    assert (numbers["IoU"]["path"] == numbers["IoU"]["path"][0]).all() and not numbers["IoU"]["iou"].any()
    assert numbers["CIoU"]["iou"][-1] > 0.97 and numbers["CIoU"]["path"].shape == (401, 4)
    assert np.abs(numbers["CIoU"]["path"][-1] - FIXED).max() < 1
    assert len(style.as_png(views.draw_box_regression(numbers))) <= style.MAX_BYTES
