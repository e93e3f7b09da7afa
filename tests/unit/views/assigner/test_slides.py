"""A slide is made from raw maps, or says what it cannot show."""

import numpy as np
import pytest
import torch

from tests.unit.views.assigner.samples import CLASSES, LABELS, SIDE, TRUTH, grid
from yolostudy import views


def test_a_slide_is_made_from_raw_maps():
    generator = torch.Generator().manual_seed(0)
    maps = [
        torch.randn(1, 4 * 16 + CLASSES, SIDE // s, SIDE // s, generator=generator).requires_grad_()
        for s in (8, 16, 32)
    ]
    truth = np.column_stack([LABELS.numpy(), TRUTH.numpy()])
    slide = views.make_slide(np.zeros((SIDE, SIDE, 3), np.uint8), maps, truth, ("A1", "A2", "A3"))
    anchors, strides = grid()
    assert torch.equal(slide.anchors, anchors) and torch.equal(slide.strides, strides)
    assert slide.boxes.shape == (84, 4) and slide.scores.shape == (84, CLASSES) and not slide.boxes.requires_grad
    # of many numbers at once and of three, a sigmoid may differ in its last bit
    torch.testing.assert_close(slide.scores[70], maps[1][0, 64:, 1, 2].sigmoid().detach(), rtol=1e-6, atol=0)
    assert slide.name(1) == "2: A3" and slide.labels.tolist() == LABELS.tolist()


def test_a_slide_says_what_it_cannot_show():
    maps = [torch.zeros(2, 67, SIDE // s, SIDE // s) for s in (8, 16, 32)]
    with pytest.raises(ValueError, match="no object"):
        views.make_slide(np.zeros((SIDE, SIDE, 3), np.uint8), [m[:1] for m in maps], np.zeros((0, 5)))
    with pytest.raises(ValueError, match="2 images"):
        views.make_slide(np.zeros((SIDE, SIDE, 3), np.uint8), maps, [[0, 1, 2, 30, 40]])
