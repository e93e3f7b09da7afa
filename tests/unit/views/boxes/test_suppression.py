"""Suppression against torchvision, with a reason for every box that goes."""

from base64 import b64decode

import numpy as np
import pytest
import torch
import torchvision

from tests.unit.views.boxes.functions import NMS, candidates, image
from yolostudy import views
from yolostudy.canvas import style
from yolostudy.views.boxes import suppression


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.8])
def test_suppression_agrees_with_torchvision(threshold):
    found, scores, classes = candidates()
    numbers = views.suppress(found, scores, classes, threshold, 0.25, **NMS)
    above = scores > 0.25
    boxes, score, label = (torch.tensor(part[above]) for part in (found, scores, classes))
    expected = torchvision.ops.batched_nms(boxes, score, label, threshold)
    assert numbers["kept"] == len(expected) and numbers["below"] == (~above).sum()
    assert numbers["kept"] + numbers["suppressed"] + numbers["below"] == numbers["candidates"] == 30
    assert np.allclose(numbers["scores"][numbers["by"] == suppression.KEPT], score[expected])
    assert (np.diff(numbers["scores"]) <= 0).all() and suppression.NOBODY not in numbers["by"]


def test_every_suppressed_box_has_a_reason():
    found, scores, classes = candidates()
    numbers = views.suppress(found, scores, classes, 0.4, 0.1, **NMS)
    overlap = torchvision.ops.box_iou(*[torch.tensor(numbers["boxes"])] * 2).numpy()
    for index, by in enumerate(numbers["by"]):
        if by >= 0:
            assert numbers["by"][by] == suppression.KEPT and by < index
            assert numbers["classes"][by] == numbers["classes"][index] and overlap[by, index] > 0.4


def test_a_suppression_without_reason_is_counted_apart():
    numbers = views.suppress(*candidates(), 0.5, 0.1, non_maximum_suppression=lambda *_: torch.tensor([0]))
    assert numbers["kept"] == 1 and (numbers["by"] == suppression.NOBODY).any()
    views.draw_suppression(numbers)


def test_no_candidate_is_no_error():
    empty = views.suppress(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int), **NMS)
    assert empty["candidates"] == empty["kept"] == empty["suppressed"] == 0
    style.as_png(views.draw_suppression(empty, image()))


def test_the_sliders_decide_what_is_kept():
    found, scores, classes = candidates()
    bench = views.SuppressionBench(found, scores, classes, image(160, 160), points=found[:, :2], **NMS)
    picture, kept = bench.picture.value, bench.numbers["kept"]
    bench.iou_threshold.value = 0.2
    assert bench.numbers["kept"] < kept and bench.picture.value != picture
    bench.score_threshold.value = 0.9
    assert bench.numbers["below"] == (scores <= 0.9).sum()
    order = np.argsort(-scores, kind="stable")
    assert np.allclose(bench.numbers["points"], found[order, :2], atol=1e-4)
    assert len(b64decode(bench._repr_mimebundle_()["image/png"])) <= style.MAX_BYTES
