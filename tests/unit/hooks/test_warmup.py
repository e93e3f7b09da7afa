"""The warm-up of momentum, rate of biases and accumulation, and attributes that the average gets."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from yolostudy import hooks
from yolostudy.engine import Trainer, resume_or_load, snapshot
from yolostudy.losses import LossParts
from yolostudy.training import Precision, WarmupCosine, build_optimizer, train_step


class Remember(hooks.Hook):
    """Every group's rate and momentum, as each step uses them."""

    def __init__(self):
        self.seen = []

    def before_step(self, trainer):
        groups = trainer.optimizer.param_groups
        momenta = [group["betas"][0] if "betas" in group else group["momentum"] for group in groups]
        self.seen.append(([group["lr"] for group in groups], momenta))


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1, bias=False), nn.PReLU(2))


def mean_square(maps, _targets) -> LossParts:
    total = maps.square().mean()
    return LossParts(total, total, total, total)


def batches(count: int) -> list[SimpleNamespace]:
    images = torch.randint(0, 255, (count, 2, 3, 4, 4), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    return [SimpleNamespace(images=image, targets=torch.zeros(0, 6)) for image in images]


def trainer_with(parts, steps=10, epochs=1, optimizer="sgd", momentum=0.9, apart=True, model=None, step=train_step):
    model = model or network()
    optimizer = build_optimizer(model, 0.02, name=optimizer, momentum=momentum)
    if apart:
        hooks.separate_biases(optimizer, model)
    return Trainer(model, mean_square, batches(steps), optimizer, step, Precision("cpu", "fp32"), parts, epochs)


# Groups
# --------------------------------------------------------------------------------------------------


def test_biases_are_those_of_norms_too_and_keep_their_settings():
    model = network()
    optimizer = build_optimizer(model, 0.02, 5e-4)
    hooks.separate_biases(optimizer, model)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = [[names[id(parameter)] for parameter in group["params"]] for group in optimizer.param_groups]
    assert groups == [["0.weight", "2.weight"], ["1.weight", "3.weight"], ["0.bias", "1.bias"]]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [5e-4, 0.0, 0.0]
    assert [group.get("biases", False) for group in optimizer.param_groups] == [False, False, True]
    hooks.separate_biases(optimizer, model)  # twice is harmless
    assert len(optimizer.param_groups) == 3


def test_groups_alone_change_no_bit():
    trainers = [trainer_with([], optimizer="adamw", apart=apart) for apart in (False, True)]
    for trainer in trainers:
        trainer.train()
    one, other = (trainer.model.state_dict() for trainer in trainers)
    assert all(torch.equal(one[name], other[name]) for name in one)


# Rate and momentum
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_rate_momentum_and_rate_of_biases_at_every_step(optimizer):
    schedule, remember = WarmupCosine(0, 0.1), Remember()
    parts = [hooks.Schedule(WarmupCosine(40, 0.1)), hooks.Warmup(0.8, 0.1, 40, schedule), remember]
    trainer_with(parts, steps=25, epochs=2, optimizer=optimizer, momentum=0.937).train()
    for step, (rates, momenta) in enumerate(remember.seen):
        full, share = 0.02 * schedule(step, step / 50), min(1, step / 40)
        assert rates[0] == rates[1] == pytest.approx(share * full)
        assert rates[2] == pytest.approx(0.1 + share * (full - 0.1))
        assert momenta == pytest.approx([0.8 + share * 0.137] * 3)
    at_0, at_30 = remember.seen[0], remember.seen[30]
    assert at_0 == ([0.0, 0.0, 0.1], [0.8] * 3)  # only biases learn
    assert at_30[1] == pytest.approx([0.90275] * 3)
    assert remember.seen[40] == ([0.02 * schedule(40, 0.8)] * 3, [0.937] * 3)  # to the last bit


def test_each_of_the_two_can_be_left_out():
    alone = Remember()
    trainer_with([hooks.Warmup(momentum=0.5, steps=4), alone], apart=False).train()
    assert [rates for rates, _ in alone.seen[:5]] == [[0.02 * step / 4] * 2 for step in range(5)]
    assert [momenta[0] for _, momenta in alone.seen[:5]] == pytest.approx([0.5, 0.6, 0.7, 0.8, 0.9])
    alone = Remember()
    trainer_with([hooks.Warmup(bias_rate=0.1, steps=4), alone]).train()
    assert {momentum for _, momenta in alone.seen for momentum in momenta} == {0.9}


def test_a_plateau_at_the_end_of_the_warm_up_lasts():
    """Six validations without a rise, the sixth right after the last step of the warm-up."""

    class Flat(hooks.Hook):
        def after_epoch(self, trainer):
            trainer.metrics["map50"] = 0.5

    remember, plateau = Remember(), hooks.Plateau(0.5, patience=4, warmup_steps=12)
    trainer_with([Flat(), plateau, hooks.Warmup(0.8, 0.1, 12), remember], steps=2, epochs=8).train()
    rates = [rates for rates, _ in remember.seen]
    assert rates[11] == pytest.approx([0.02 * 11 / 12] * 2 + [0.1 + 11 / 12 * (0.02 - 0.1)])
    assert rates[12:] == [[0.01] * 3] * 4


def test_a_run_resumed_in_its_warm_up_goes_on():
    def build(epochs):
        remember = Remember()
        parts = [hooks.Schedule(WarmupCosine(8)), hooks.Warmup(0.8, 0.1, 8, WarmupCosine(0)), remember]
        return trainer_with(parts, steps=5, epochs=epochs, optimizer="adamw"), remember

    (whole, seen), (first, _), (second, later) = build(3), build(3), build(3)
    whole.train()

    class Stop(hooks.Hook):
        def after_epoch(self, trainer):
            trainer.stop_reason = "enough"

    first.hooks.append(Stop())
    first.train()
    resume_or_load(second, snapshot(first))
    second.train()
    assert later.seen == seen.seen[5:]
    assert all(torch.equal(a, b) for a, b in zip(whole.model.parameters(), second.model.parameters(), strict=True))


def test_what_the_warm_up_refuses():
    with pytest.raises(ValueError, match="no group of biases"):
        trainer_with([hooks.Warmup(bias_rate=0.1)], apart=False).train()
    with pytest.raises(ValueError, match="SGD trains without momentum"):
        optimizer = torch.optim.SGD(network().parameters(), 0.1)
        hooks.Warmup(momentum=0.8).before_train(SimpleNamespace(optimizer=optimizer))
    for wrong in ({"momentum": 1.0}, {"momentum": -0.1}, {"bias_rate": -1.0}, {"steps": 0}):
        with pytest.raises(ValueError, match="Give a momentum from 0"):
            hooks.Warmup(**wrong)


# Accumulation
# --------------------------------------------------------------------------------------------------


class Count(hooks.Hook):
    """Which steps ended with an update."""

    def __init__(self):
        self.updates = []

    def after_step(self, trainer):
        if all(parameter.grad is None for parameter in trainer.model.parameters()):
            self.updates.append(trainer.steps - 1)


def test_accumulation_at_each_step():
    hook = hooks.GrowingAccumulation(64, 16, 60)
    assert [hook.at(step) for step in (0, 9, 11, 29, 31, 49, 51, 60, 1000)] == [1, 1, 2, 2, 3, 3, 4, 4, 4]
    assert [hook.at(step) for step in range(70)] == [
        max(1, round(min(1 + step / 60 * (64 / 16 - 1), 4))) for step in range(70)
    ]
    assert [hooks.GrowingAccumulation(64, batch, 0).at(0) for batch in (128, 64, 24, 16)] == [1, 1, 3, 4]
    for wrong in ({"nominal": 0}, {"batch": 0}, {"steps": -1}):
        with pytest.raises(ValueError, match="Give at least 1 image"):
            hooks.GrowingAccumulation(**wrong)


def test_updates_and_windows_of_two_epochs():
    """Windows keep the length with which they begin; the last of an epoch is dropped where it is not full."""
    count, hook = Count(), hooks.GrowingAccumulation(8, 2, 12)  # 2 from step 2, 3 from step 7, 4 from step 10
    trainer = trainer_with([hook, count], steps=10, epochs=2)
    trainer.train()
    # windows: 0, 1, 2-3, 4-5, 6-7, (8-9 of three: dropped), then 10-13, 14-17, (18-19 of four: dropped)
    assert count.updates == [0, 1, 3, 5, 7, 13, 17]
    assert trainer.step is train_step and hook.inner is None


def test_a_window_is_the_mean_of_its_batches_and_a_fixed_one_is_as_before():
    def weights(parts, accumulate):
        trainer = trainer_with(parts, steps=8, epochs=2, model=network().eval(), step=train_step)
        trainer.step = lambda *args, **keys: train_step(*args, **{"accumulate": accumulate} | keys)
        trainer.train()
        return trainer.model.state_dict()

    fixed, grown = weights([], 3), weights([hooks.GrowingAccumulation(6, 2, 0)], 1)
    assert all(torch.equal(fixed[name], grown[name]) for name in fixed)


def test_the_step_is_given_back_after_an_error():
    class Fail(hooks.Hook):
        def after_step(self, trainer):
            raise RuntimeError("stop")

    trainer = trainer_with([hooks.GrowingAccumulation(8, 2, 4), Fail()])
    with pytest.raises(RuntimeError, match="stop"):
        trainer.train()
    assert trainer.step is train_step


# Attributes of the average
# --------------------------------------------------------------------------------------------------


@pytest.fixture
def wrapped():
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    model = network()
    model.names, model[1].sizes = ["a"], [1]
    yield DistributedDataParallel(model)
    torch.distributed.destroy_process_group()


def test_the_average_gets_attributes_of_the_bare_model(wrapped):
    averaging = hooks.Averaging(wrapped, attributes=("names", "1.sizes"))
    wrapped.module.names, wrapped.module[1].sizes[0] = ["b", "c"], 7
    averaging.after_epoch(SimpleNamespace(model=wrapped))
    average = averaging.average.model
    assert average.names == ["b", "c"] and average[1].sizes == [7]
    wrapped.module.names.append("d")
    assert average.names == ["b", "c"]  # a copy
    without = hooks.Averaging(wrapped)
    wrapped.module.names = []
    without.after_epoch(SimpleNamespace(model=wrapped))
    assert without.average.model.names == ["b", "c", "d"]


@pytest.mark.parametrize("name", ["nothing", "0.weight", "1.running_mean", "training", "1", "9.sizes", "_buffers"])
def test_what_is_no_attribute_is_refused(name):
    with pytest.raises(ValueError, match=f"'{name}' is no plain attribute of"):
        hooks.Averaging(network(), attributes=(name,))
