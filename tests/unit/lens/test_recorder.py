"""The flight recorder in a loop of one's own: it replays the bad step and leaves all as it was."""

import dataclasses
import inspect
import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from tests.unit.lens.test_nan import marked
from yolostudy.data.loader import Batch
from yolostudy.lens.nan import flight
from yolostudy.lens.nan.flight import flight_recorder
from yolostudy.lens.nan.recorder import NonFiniteStep, Recorder


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.norm = nn.Linear(3, 4), nn.BatchNorm1d(4)

    def forward(self, x):
        return self.norm(self.layer(x))


def batches(count=6):
    generator = torch.Generator().manual_seed(1)
    return [{"x": torch.rand(4, 3, generator=generator), "y": torch.rand(4, generator=generator)} for _ in range(count)]


def test_a_loop_of_ones_own():
    torch.manual_seed(0)
    model = Model()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    flight = Recorder([model], show=None)
    data = batches()
    data[2]["x"][0, 0] = math.inf
    with pytest.raises(NonFiniteStep) as caught:
        for batch in data:

            def forward(batch=batch):
                loss = (model(batch["x"]).mean(1) - batch["y"]).square().mean()
                loss.backward()
                return loss

            flight.begin(forward, batch)
            loss = forward()
            optimizer.step()
            optimizer.zero_grad()
            flight.end(loss)
    assert caught.value.finding is flight.finding and flight.step == 3
    assert torch.isfinite(model.layer.weight).all()


def test_a_replay_that_stays_finite_says_so():
    flight = Recorder([Model()], stop=False, show=None)
    flight.begin(lambda: None)
    flight.end(torch.tensor(math.nan))
    assert flight.finding is None and "The replay stayed finite" in flight.report


def test_what_is_kept_is_let_go():
    flight = Recorder([Model()])
    x = torch.rand(3, requires_grad=True)
    with flight:
        flight.begin(lambda: None, [x])
        flight.end(x.sum())
        assert flight._kept
    assert not flight._kept and not flight._batches


def test_something_else_is_no_trainer():
    with pytest.raises(TypeError, match="a Linear is no trainer"):
        flight_recorder(nn.Linear(1, 1))


def test_a_change_in_place_of_the_loaders_batch_is_seen():
    """It has slots and no __dict__: its tensors must be watched all the same."""
    for batch in (
        Batch(**{field.name: torch.zeros(1) for field in dataclasses.fields(Batch)}),
        SimpleNamespace(images=torch.zeros(1)),
    ):
        flight = Recorder([Model()], stop=False, show=None)
        flight.begin(lambda: None, batch)
        batch.images += 1
        flight.end(torch.tensor(math.nan))
        assert flight.batch is batch and "changed its batch in place" in flight.report


def test_the_replay_has_the_mode_and_the_weights_that_the_model_holds_now():
    """Also where another tensor has taken the place of a weight or a buffer meanwhile."""

    class Average(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 2)
            self.register_buffer("mean", torch.zeros(2))

        def forward(self, x):
            self.mean = 0.5 * self.mean + x.mean(0)  # another tensor each time
            return (self.layer(x) * (1 if self.training else 0) + self.mean).log().sum()  # BORN

    model = Average()
    flight = Recorder([model], show=None)
    model.layer.weight.data = torch.eye(2)
    model.layer.bias.data = torch.zeros(2)
    model(torch.ones(3, 2))
    before, bad = {name: value.clone() for name, value in model.state_dict().items()}, -torch.ones(3, 2)
    flight.begin(lambda: model(bad), bad)
    loss = model(bad)
    with torch.no_grad():
        model.layer.weight.data = torch.full((2, 2), 7.0)
    model.eval()
    with pytest.raises(NonFiniteStep):
        flight.end(loss)
    assert flight.finding.line == marked(Average) and flight.finding.inputs[0].high == -1.5
    assert not model.training and all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_step_with_several_backward_passes_is_replayed_to_the_one_that_breaks():
    """A gradient penalty and two losses, as in adversarial training."""
    torch.manual_seed(0)
    model, flight, x = nn.Linear(2, 1), None, torch.zeros(3, 2, requires_grad=True)
    flight = Recorder([model], show=None)

    def again():
        out = model(x)
        (slope,) = torch.autograd.grad(out.sum(), x, create_graph=True)
        (slope.norm() - 1).square().backward()
        last = (model(x) - model.bias - 1).log().sum()  # BORN
        last.backward()
        return last

    flight.begin(again, x)
    with pytest.raises(NonFiniteStep):
        flight.end(again())
    lines, first = inspect.getsourcelines(test_a_step_with_several_backward_passes_is_replayed_to_the_one_that_breaks)
    assert (
        flight.finding.line == first + next(n for n, text in enumerate(lines) if "# BORN" in text)
        and flight.finding.op == "log"
    )


class OwnRecorder(Recorder):
    """As another package may bring one along."""

    def __init__(self, target, stop=True, show=print):
        super().__init__([target.network], stop, show)


def test_another_package_may_bring_an_adapter(monkeypatch):
    adapter = flight.Adapter("an own trainer", OwnRecorder, {"network": lambda value: isinstance(value, nn.Module)})
    point = SimpleNamespace(name="own", load=lambda: adapter)
    monkeypatch.setattr(flight, "entry_points", lambda group: [point] if group == "yolostudy.recorders" else [])
    assert isinstance(flight.flight_recorder(SimpleNamespace(network=Model())), OwnRecorder)
    with pytest.raises(TypeError, match=r"Known: an own trainer \(this one lacks `network`\)"):
        flight.flight_recorder(SimpleNamespace(network="none"))
    monkeypatch.setattr(flight, "entry_points", lambda group: [])
    with pytest.raises(TypeError, match="yolostudy is not installed here, so run `make setup`"):
        flight.flight_recorder(object())


def test_what_is_no_trainer_is_told_what_to_do():
    with pytest.raises(TypeError) as refused:
        flight_recorder(SimpleNamespace(hooks=[], loss=print))
    said = str(refused.value)
    assert "a trainer of yolostudy.engine (this one lacks `step`)" in said
    assert "this one lacks `callbacks`, `add_callback`, `train`" in said
    assert (
        "make a Recorder([model]) and call its begin(again, batch) before each step and its end(loss) after it" in said
    )
