"""The flight recorder in `engine.Trainer`: it replays the bad step and leaves all as it was."""

import math
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.overrides import _get_current_function_mode_stack as modes

from tests.unit.lens.test_nan import marked
from tests.unit.lens.test_recorder import Model, batches
from yolostudy.canvas import style
from yolostudy.engine import Hook, Trainer
from yolostudy.hooks import NaNGuard, NonFiniteLoss
from yolostudy.lens import draw_finding
from yolostudy.lens import flight_recorder as recorder
from yolostudy.losses import LossParts
from yolostudy.training import Precision, train_step


class Loss(nn.Module):
    def forward(self, maps, targets):
        loss = ((maps.mean(1) - targets).square() + 1e-3).log().mean()
        return LossParts(loss, loss, loss, loss)


def step(model, loss, batch, optimizer, precision=None, step=0):
    parts = loss(model(batch["x"]), batch["y"])
    parts.total.backward()
    optimizer.step()  # MOVES
    optimizer.zero_grad()
    return LossParts(*(part.detach() for part in parts))


def a_trainer(data, loss=None, hooks=(), step=step, rate=0.1):
    torch.manual_seed(0)
    model = Model()
    return Trainer(model, loss or Loss(), data, torch.optim.SGD(model.parameters(), rate), step, hooks=hooks, epochs=2)


def state(trainer):
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}


def test_the_recorder_finds_the_broken_batch():
    data = batches()
    data[3]["y"][1] = math.nan
    trainer, texts = a_trainer(data), []
    with recorder(trainer, show=texts.append) as flight:
        trainer.train()
    finding = flight.finding
    assert (flight.step, flight.batch) == (4, data[3])
    assert finding.kind == "outside" and "maps.mean(1) - targets" in finding.source and finding.reaches == "the loss"
    assert texts == [flight.report] and flight.report.startswith("Step 4: the loss is nan.")
    assert not trainer.hooks and not trainer.loss._forward_hooks and not modes()


def test_the_weights_are_those_before_the_bad_step():
    class Keep(Hook):
        def __init__(self):
            self.states = []

        def before_step(self, trainer):
            self.states.append(state(trainer))

    data, keep = batches(), Keep()
    data[3]["y"][1] = math.nan
    trainer = a_trainer(data, hooks=[keep])
    with recorder(trainer, show=None):
        trainer.train()
    assert len(keep.states) == 4
    assert all(torch.equal(value, keep.states[-1][name]) for name, value in state(trainer).items())
    assert all(parameter.grad is None for parameter in trainer.model.parameters())
    assert trainer.hooks == [keep]


def test_without_stop_the_training_is_as_it_would_be():
    def run(recorded: bool):
        data = batches()
        data[3]["x"][1] = 1e30
        trainer = a_trainer(data)
        with recorder(trainer, stop=False, show=None) if recorded else torch.enable_grad() as flight:
            trainer.train()
        return state(trainer), torch.rand(1), trainer.steps, flight

    (bare, chance, steps, _), (same, equal_chance, equal_steps, flight) = run(False), run(True)
    assert steps == equal_steps == 12 and torch.equal(chance, equal_chance)
    assert all(torch.equal(bare[name].nan_to_num(), same[name].nan_to_num()) for name in bare)
    assert flight.step == 4 or flight.report == ""


def test_the_step_before_is_replayed_where_its_gradient_broke_the_weights():
    class Rooted(nn.Module):
        def forward(self, maps, targets):
            loss = (maps.mean(1) * targets).square().sum()
            loss = loss.sqrt()  # BORN
            return LossParts(loss, loss, loss, loss)

    data = batches()
    data[2]["y"].zero_()
    trainer = a_trainer(data, Rooted())
    with recorder(trainer, show=None) as flight:
        trainer.train()
    assert flight.step == 4 and flight.batch is data[2]
    assert flight.finding.phase == "backward" and flight.finding.line == marked(Rooted)
    assert "layer.weight" in flight.finding.parameters
    assert "so step 3 was replayed" in flight.report


def test_chance_is_repeated():
    class Noisy(nn.Module):
        def forward(self, maps, targets):
            chance = torch.rand(()) + random.random() / 10 + np.random.rand() / 10
            loss = (chance - 0.75).sqrt() + maps.mean()  # BORN
            return LossParts(loss, loss, loss, loss)

    random.seed(3)
    np.random.seed(3)
    finding = None
    for seed in range(3):
        trainer = a_trainer(batches(40), Noisy())
        torch.manual_seed(seed)
        with recorder(trainer, show=None) as flight:
            trainer.train()
        finding = flight.finding
        assert finding.line == marked(Noisy) and finding.op == "sqrt", flight.report
    assert finding.inputs[0].high < 0


def test_an_update_that_overflows_is_told_from_a_gradient():
    def huge(model, loss, batch, optimizer, precision=None, step=0):
        parts = loss(model(batch["x"]), batch["y"])
        parts.total.backward()
        for group in optimizer.param_groups:
            group["lr"] = math.inf if step == 2 else 0.1
        optimizer.step()  # MOVES
        optimizer.zero_grad()
        return LossParts(*(part.detach() for part in parts))

    trainer = a_trainer(batches(), step=huge)
    with recorder(trainer, show=None) as flight:
        trainer.train()
    finding = flight.finding
    assert (flight.step, finding.op, finding.reaches, finding.line) == (
        4,
        "the optimizer's step",
        "the weights",
        marked(huge, "# MOVES"),
    )
    assert all(value.finite for value in finding.inputs) and not finding.event.outputs[0].finite
    assert len(style.as_png(draw_finding(finding))) < style.MAX_BYTES


def test_it_reports_beside_a_guard_that_stops_first(tmp_path):
    data = batches()
    data[1]["y"][0] = math.inf
    guarded = [SimpleNamespace(images=batch["x"], targets=batch["y"], records=[], **batch) for batch in data]
    trainer = a_trainer(guarded, hooks=[NaNGuard(tmp_path)], step=lambda m, l, b, o, **k: step(m, l, vars(b), o, **k))
    with pytest.raises(NonFiniteLoss) as caught, recorder(trainer, show=None) as flight:
        trainer.train()
    assert flight.step == 2 and flight.finding.reaches in ("the loss", "") and "targets" in flight.finding.source
    assert "Step 2" in "".join(caught.value.__notes__)
    assert [type(hook) for hook in trainer.hooks] == [NaNGuard] and not trainer.loss._forward_hooks


def test_scaled_gradients_and_accumulation_are_left_alone():
    data = batches()
    data[4]["y"][1] = math.nan
    boxed = [SimpleNamespace(images=(255 * batch["x"]).byte().view(4, 3, 1, 1), targets=batch["y"]) for batch in data]

    class Flat(Model):
        def forward(self, x):
            return super().forward(x.flatten(1))

    torch.manual_seed(0)
    model = Flat()

    def accumulated(*args, **kwargs):
        return train_step(*args, **kwargs, accumulate=4)

    trainer = Trainer(
        model, Loss(), boxed, torch.optim.AdamW(model.parameters()), accumulated, Precision("cpu", "bf16"), epochs=1
    )
    with recorder(trainer, show=None) as flight:
        trainer.train()
    assert flight.step == 5 and flight.finding.reaches == "the loss"
    assert all(torch.isfinite(value).all() for value in trainer.model.state_dict().values())


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_the_recorder_goes_when_training_breaks_off(error):
    class Stops(Hook):
        def after_step(self, trainer):
            raise error

    stops = Stops()
    trainer = a_trainer(batches(), hooks=[stops])
    with pytest.raises(error), recorder(trainer) as flight:
        trainer.train()
    assert trainer.hooks == [stops] and not trainer.loss._forward_hooks and not modes() and flight.finding is None


def test_attached_twice_is_attached_once():
    trainer = a_trainer(batches())
    with recorder(trainer, show=None).attach() as flight:
        assert len(trainer.hooks) == 1 and len(trainer.loss._forward_hooks) == 1
        trainer.train()
    assert not trainer.hooks and not trainer.loss._forward_hooks and flight.report == ""
