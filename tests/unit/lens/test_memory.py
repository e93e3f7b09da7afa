"""Memory of a training step: predicted without computing, against storages counted one by one."""

import contextlib
import dataclasses
import random

import pytest
import torch
from torch import nn

from tests.unit.lens.test_shapes import Breaks
from yolostudy import losses, network
from yolostudy.canvas import style
from yolostudy.lens.modules import memory
from yolostudy.lens.modules.memory_picture import draw_memory
from yolostudy.lens.modules.shape_table import shapes
from yolostudy.views.network import memory_table


def independent(model, images, precision):
    """Bytes saved for the backward pass, each storage once, on real tensors; and cast weights."""
    own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers(), images)}
    shapes_of_weights = {tuple(p.shape) for p in model.parameters()}
    kept, casts = {}, {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            is_cast = tuple(tensor.shape) in shapes_of_weights and tensor.dtype == torch.bfloat16
            (casts if is_cast else kept)[storage.data_ptr()] = storage.nbytes()
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t),
        torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"),
    ):
        output = model(images)
    del output
    return sum(kept.values()), sum(casts.values())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_predicted_activations_are_the_storages_that_a_real_step_saves(precision):
    model = network.YOLO(20).train()
    images = torch.rand(2, 3, 96, 128).to(memory_format=torch.channels_last)
    expected, casts = independent(model, images, precision)
    step = memory.count_step(model, images.shape, None, precision, "adamw", False, real=False, block=1)
    assert step.most["activations"] == pytest.approx(expected, rel=0.01)
    if precision == "bf16":
        assert step.most["cast weights"] == pytest.approx(casts, rel=0.01)
    else:
        assert step.most["cast weights"] == casts == 0
    assert sum(module.activations for module in step.modules) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_fake_tensors_and_real_ones_give_the_same_ledger(precision):
    model = network.YOLO(20)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fake, real = (
        memory.count_step(model, (2, 3, 64, 96), None, precision, "sgd", True, real, 1) for real in (False, True)
    )
    assert fake.peak == pytest.approx(real.peak, rel=0.005)
    assert fake.phases == pytest.approx(real.phases, rel=0.005) and fake.most["weights"] == real.most["weights"]
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())


def test_the_parts_add_up():
    model = network.YOLO(20)
    weights = sum(parameter.nbytes for parameter in model.parameters())
    step = memory.predict_memory(model, (4, 3, 96, 96), optimizer="adamw", average=True)
    assert sum(step.at_peak.values()) == step.peak == max(step.phases.values()) and not step.measured
    assert step.most["optimizer"] == 2 * weights
    assert step.most["weights"] == pytest.approx(weights, rel=0.02) == step.most["gradients"]
    assert step.most["batch"] == 4 * 3 * 96 * 96 * 4
    assert sum(module.weights for module in step.modules) == weights
    assert set(step.parts(1)) == {"backbone", "neck", "head"}
    assert max(value for _, value in step.timeline) == step.peak and len(step.timeline) < 1300
    assert "predicted, without cuDNN's workspaces" in str(step)


def test_frozen_weights_have_no_gradients_and_shared_storages_count_once():
    linear = nn.Linear(64, 64, bias=False)
    twice = nn.Sequential(linear, nn.Identity(), linear)  # the same weight, its input kept once for each call
    step = memory.count_step(twice, (8, 64), None, "fp32", "adamw", False, False, 1)
    assert step.most["weights"] == 64 * 64 * 4 and step.most["gradients"] == 64 * 64 * 4
    assert step.most["activations"] == 8 * 64 * 4, "the first input is the batch, which is no activation"
    frozen = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64)).requires_grad_(False)
    frozen[1].requires_grad_(True)
    step = memory.count_step(frozen, (8, 64), None, "fp32", "adamw", False, False, 1)
    assert step.most["gradients"] == (64 * 64 + 64) * 4 and step.most["optimizer"] == 2 * (64 * 64 + 64) * 4


def test_one_activation_in_many_places_is_charged_where_it_is_called():
    class Pair(nn.Module):
        def __init__(self, act):
            super().__init__()
            self.conv, self.act = nn.Conv2d(3, 3, 1), act

        def forward(self, x):
            return self.act(self.conv(x))

    act = nn.SiLU()  # as Ultralytics does
    model = nn.Sequential(Pair(act), Pair(act))
    step = memory.count_step(model, (2, 3, 8, 8), None, "fp32", "none", False, False, 1)
    one = 2 * 3 * 8 * 8 * 4
    assert {m.name: m.activations for m in step.modules if m.activations} == {"0.act": one, "1.conv": one, "1.act": one}
    assert [row.name for row in shapes(model, torch.zeros(2, 3, 8, 8)).rows if row.kind == "SiLU"] == ["0.act", "1.act"]


def test_the_loss_counts_at_its_peak():
    model = network.YOLO(20)
    criterion = losses.DetectionLoss(model)
    targets = torch.tensor([[0, 3, 10.0, 10, 60, 60], [1, 4, 20, 20, 90, 50]])
    bare = memory.predict_memory(model, (2, 3, 96, 96))
    full = memory.predict_memory(model, (2, 3, 96, 96), lambda maps: criterion(maps, targets))
    assert full.phases["forward"] == bare.phases["forward"] and full.phases["loss"] > bare.phases["loss"]


def test_a_step_is_counted_whatever_is_in_force_where_it_is_asked_for():
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64))
    expected = memory.predict_memory(model, (8, 64)).phases
    assert expected["backward"] > 0
    for context in (
        torch.no_grad(),
        torch.inference_mode(),
        torch.autocast("cpu", torch.bfloat16),
        torch.device("meta"),
    ):
        with context:
            assert memory.predict_memory(model, (8, 64)).phases == expected
    torch.set_default_dtype(torch.float64)
    try:
        assert memory.predict_memory(model, (8, 64)).phases == expected
    finally:
        torch.set_default_dtype(torch.float32)


def test_outputs_in_a_dataclass_take_part_in_loss_and_backward():
    @dataclasses.dataclass
    class Out:
        maps: list

    class Wrapped(nn.Module):
        def __init__(self, wrap):
            super().__init__()
            self.layer, self.wrap = nn.Linear(64, 64), wrap

        def forward(self, x):
            return self.wrap(self.layer(x))

    one = memory.predict_memory(Wrapped(lambda y: Out([y])), (8, 64), lambda out: out.maps[0].square().sum())
    two = memory.predict_memory(Wrapped(lambda y: [y]), (8, 64), lambda maps: maps[0].square().sum())
    assert one.phases == two.phases and one.phases["loss"] > one.phases["forward"] and one.most["gradients"] > 0
    with pytest.raises(ValueError, match="nothing in the model's output depends on a weight that learns"):
        memory.predict_memory(nn.Linear(4, 4).requires_grad_(False), (2, 4))


def test_a_call_that_raises_is_not_charged_with_what_follows():
    class Catches(nn.Module):
        def __init__(self):
            super().__init__()
            self.bad, self.right, self.last = Breaks(lambda m, x: {}["map"]), nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            try:
                return self.bad(x)
            except KeyError:
                return self.last(self.right(x).sigmoid())

    step = memory.count_step(Catches(), (8, 4), None, "fp32", "none", False, False, 1)
    assert {m.name: m.activations for m in step.modules if m.activations} == {"": 8 * 4 * 4}, (
        "the sigmoid is code of the whole"
    )
    table = shapes(Catches(), torch.ones(8, 4))
    assert table.broken is None and [(row.name, row.depth) for row in table.rows][-2:] == [("right", 1), ("last", 1)]
    assert not any(row.broke for row in table.rows) and not table.rows[0].leaf


def test_the_loss_leaves_chance_as_it_was():
    model = nn.Linear(4, 4)
    before = random.getstate(), torch.get_rng_state()
    step = memory.predict_memory(model, (2, 4), lambda y: y.sum() * random.random() + torch.rand(1).sum())
    assert step.phases["loss"] > 0 and before[0] == random.getstate() and torch.equal(before[1], torch.get_rng_state())


def test_pictures_and_messages():
    step = memory.step_memory(network.YOLO(20), (1, 3, 64, 64), precision="bf16")
    picture = draw_memory(step)
    assert len(style.as_png(picture)) <= style.MAX_BYTES
    assert picture.numbers["peak"] == step.peak == sum(picture.numbers["at_peak"].values())
    assert picture.numbers["parts"].items() <= step.parts().items()
    with pytest.raises(ValueError, match="unknown precision 'half'; choose fp32, bf16 or fp16"):
        memory.step_memory(network.YOLO(20), (1, 3, 64, 64), precision="half")
    with pytest.raises(ValueError, match="lies on cpu; predict_memory needs no card"):
        memory.measure_memory(network.YOLO(20), (1, 3, 64, 64))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("size", ["n", "s"])
def test_prediction_against_the_card(size, precision):
    model, loss = memory_table.course_detector(size, 20, 20)
    arguments = ((16, 3, 640, 640), lambda maps: loss(maps, 16, 640), precision, "adamw", True)
    predicted = memory.predict_memory(model, *arguments)
    measured = memory.measure_memory(model.cuda().to(memory_format=torch.channels_last), *arguments)
    assert measured.measured and predicted.peak == pytest.approx(measured.peak, rel=0.15)


# ------------------------------------------------------------------------------------ left as found


def modes_in_force():
    from torch.overrides import _get_current_function_mode_stack
    from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

    return len(_get_current_function_mode_stack()), len(_get_current_dispatch_mode_stack()), torch.is_grad_enabled()


@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("where", ["forward", "loss"])
def test_an_exception_leaves_nothing_behind(stop, where):
    model, before = network.YOLO(20), modes_in_force()
    model.backbone.eval()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def fail(*arguments):
        raise stop

    if where == "forward":
        model.neck.csp_y.forward = fail
    with pytest.raises(stop):
        memory.predict_memory(model, (1, 3, 64, 64), fail if where == "loss" else None)
    with contextlib.suppress(stop):
        shapes(model, torch.zeros(1, 3, 64, 64), watch=fail)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert model.training and not model.backbone.training and model.head.training and modes_in_force() == before
    assert all(torch.equal(value, model.state_dict()[name]) and not value.is_meta for name, value in state.items())
    x = torch.ones(3, requires_grad=True)
    x.exp().sum().backward()  # no hook on saved tensors is left either
    assert type(x.grad) is torch.Tensor
