"""The recorder measures what the optimizer gets, and leaves nothing behind."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.optimizer import _global_optimizer_pre_hooks

from solutions import training as reference
from tests.unit.views.training.small import Small, steps
from yolostudy import views
from yolostudy.canvas import style


def png_size(figure):
    return len(style.as_png(figure))


def test_the_recorder_measures_what_the_optimizer_gets():
    model = Small()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with views.GradientRecorder(model, depth=1) as recorder:
        steps(model, optimizer)
        stranger = nn.Parameter(torch.ones(1))
        torch.optim.SGD([stranger], lr=0.1).step()  # another optimizer of the same process is not looked at
    numbers = recorder.numbers
    model(torch.linspace(-1, 1, 2 * 3 * 64).reshape(2, 3, 8, 8)).square().mean().backward()
    expected = [
        math.sqrt(sum(float(p.grad.square().sum()) for p in part.parameters())) for part in (model.backbone, model.head)
    ]
    assert numbers.modules == ("backbone", "head") and numbers.norms.shape == (3, 2)
    assert np.allclose(numbers.norms, expected, rtol=1e-4) and np.allclose(numbers.typical, expected, rtol=1e-4)
    assert numbers.silent == () and numbers.parameters.tolist() == [3 * 4 * 9 + 4 + 8, 10]


def test_the_recorder_finds_the_frozen_backbone_even_if_it_is_frozen_on_the_way():
    model = Small()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    reference.freeze(model.backbone)
    with views.GradientRecorder(model) as recorder:
        steps(model, optimizer)
        frozen = recorder.numbers
        reference.unfreeze(model.backbone)
        steps(model, optimizer)
    assert frozen.silent == ("backbone.0", "backbone.1") and frozen.silent_share == pytest.approx(120 / 130)
    later = recorder.numbers
    assert later.silent == () and (later.norms[:3, :2] == 0).all() and (later.norms[3:] > 0).all()
    assert png_size(views.draw_gradients(frozen)) <= style.MAX_BYTES
    for empty in (
        views.GradientRecorder(model).numbers,
        views.GradientRecorder(nn.ReLU()).numbers,
    ):
        assert png_size(views.draw_gradients(empty))


@pytest.mark.parametrize("error", [ValueError("a fault"), KeyboardInterrupt(), None])
def test_the_recorder_leaves_nothing_behind(error):
    model, before = Small(), dict(_global_optimizer_pre_hooks)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    recorder = views.GradientRecorder(model)
    try:
        with recorder:
            assert len(_global_optimizer_pre_hooks) == len(before) + 1
            with pytest.raises(RuntimeError, match="recording already"):
                recorder.__enter__()
            steps(model, optimizer, error=error)
    except BaseException as caught:
        assert caught is error
    assert dict(_global_optimizer_pre_hooks) == before
    count = len(recorder.rows)
    steps(model, optimizer)
    assert len(recorder.rows) == count
    assert not any(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks for module in model.modules()
    )
