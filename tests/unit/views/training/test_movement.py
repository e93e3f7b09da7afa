"""Weights, statistics and counters that moved are told apart."""

import copy

import numpy as np
import pytest
import torch

from tests.unit.views.training.small import Small, steps
from yolostudy import views
from yolostudy.canvas import style


def png_size(figure):
    return len(style.as_png(figure))


def test_what_moved_keeps_weights_statistics_and_counters_apart():
    model = Small()
    before = copy.deepcopy(model.state_dict())
    assert views.what_moved(before, model).still
    model.backbone.requires_grad_(False)
    steps(model, torch.optim.SGD(model.head.parameters(), lr=0.1))
    moved = views.what_moved(before, model, depth=1)
    assert moved.modules == ("backbone", "head")
    assert moved.weights[0] == 0 < moved.weights[1] and moved.statistics[0] > 0 and np.isnan(moved.statistics[1])
    assert moved.counters == 1 and not moved.still
    change = (model.head.weight - before["head.weight"]).square().sum() + (
        model.head.bias - before["head.bias"]
    ).square().sum()
    size = before["head.weight"].square().sum() + before["head.bias"].square().sum()
    assert moved.weights[1] == pytest.approx(float((change / size).detach().sqrt()), rel=1e-4)
    assert png_size(views.draw_movement({"one": moved, "two": moved})) <= style.MAX_BYTES
    with pytest.raises(ValueError, match=r"has no 'backbone\.0\.weight'"):
        views.what_moved({}, model)
