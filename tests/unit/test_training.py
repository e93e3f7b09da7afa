"""Freezing, averaging, schedule, the step, and what a network can learn by heart."""

import copy
import math
import os
import subprocess
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests import tiny, warm
from yolostudy import data
from yolostudy.boxes import predict
from yolostudy.data.loader import make_loader
from yolostudy.losses import DetectionLoss
from yolostudy.metrics import evaluate
from yolostudy.network import YOLO
from yolostudy.training import (
    ExponentialMovingAverage,
    Precision,
    WarmupCosine,
    build_optimizer,
    freeze,
    to_unit,
    train,
    train_step,
    unfreeze,
)


def random_batch(count: int = 2, seed: int = 0, side: int = 64) -> SimpleNamespace:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 255, (count, 3, side, side), generator=generator, dtype=torch.uint8)
    boxes = torch.tensor([[8.0, 8.0, 40.0, 40.0]]).expand(count, 4)
    targets = torch.cat((torch.arange(count)[:, None].float(), torch.zeros(count, 1), boxes), dim=1)
    return SimpleNamespace(images=images, targets=targets)


def state_of(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def one_step(model: torch.nn.Module, rate: float = 0.01) -> None:
    train_step(model.train(), DetectionLoss(model), random_batch(), build_optimizer(model, rate))


def test_a_frozen_backbone_stays_to_the_last_bit_and_the_rest_moves():
    torch.manual_seed(0)
    model = YOLO(2)
    freeze(model.backbone)
    freeze(model.backbone)  # twice is harmless
    backbone, neck = state_of(model.backbone), state_of(model.neck)
    one_step(model)
    assert all(torch.equal(tensor, backbone[name]) for name, tensor in model.backbone.state_dict().items())
    assert not all(torch.equal(tensor, neck[name]) for name, tensor in model.neck.state_dict().items())


def test_unfreezing_lets_weights_and_statistics_move_again():
    torch.manual_seed(0)
    model = YOLO(2)
    freeze(model.backbone)
    one_step(model)
    unfreeze(model.backbone)
    before = state_of(model.backbone)
    one_step(model)
    still = [name for name, tensor in model.backbone.state_dict().items() if torch.equal(tensor, before[name])]
    assert still == []


def test_a_copy_of_a_frozen_model_is_frozen_too():
    model = YOLO(2)
    freeze(model.backbone)
    twin = copy.deepcopy(model)
    before = state_of(twin.backbone)
    one_step(twin)
    assert all(torch.equal(tensor, before[name]) for name, tensor in twin.backbone.state_dict().items())


@given(st.integers(0, 500), st.floats(0, 1), st.integers(1, 100), st.floats(0.001, 0.5))
def test_schedule_stays_within_its_bounds(step, progress, warmup, final):
    factor = WarmupCosine(warmup, final)(step, progress)
    assert 0 < factor <= 1
    assert factor >= final * min(1, (step + 1) / warmup) - 1e-12


def test_schedule_rises_then_falls():
    schedule = WarmupCosine(10, 0.02)
    assert schedule(0, 0) == pytest.approx(0.1) and schedule(9, 0) == 1 and schedule(99, 1) == pytest.approx(0.02)
    assert schedule(50, 0.5) == pytest.approx(0.51)
    falling = [schedule(50, share / 20) for share in range(21)]
    assert falling == sorted(falling, reverse=True)


def test_averaging_follows_its_formula_and_leaves_counters_whole():
    model = YOLO(2)
    average = ExponentialMovingAverage(model, decay=0.9, ramp=3)
    name, start = "backbone.stem.conv.weight", model.backbone.stem.conv.weight.detach().clone()
    with torch.no_grad():
        model.backbone.stem.conv.weight.add_(1)
        model.backbone.stem.bn.num_batches_tracked.fill_(7)
    average.update(model)
    decay = 0.9 * (1 - math.exp(-1 / 3))
    torch.testing.assert_close(average.model.state_dict()[name], start + (1 - decay))
    assert average.model.state_dict()["backbone.stem.bn.num_batches_tracked"].item() == 7
    assert not average.model.training and not any(p.requires_grad for p in average.model.parameters())


def test_accumulating_two_batches_is_one_step_over_their_mean():
    torch.manual_seed(0)
    model = YOLO(2)
    model.eval()  # running statistics, so that a batch of two and two of one see the same network
    twin = copy.deepcopy(model)
    batches = [random_batch(seed=seed) for seed in (1, 2)]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step, batch in enumerate(batches):
        train_step(model, DetectionLoss(model), batch, optimizer, clip=1e9, accumulate=2, step=step)
        assert step == 1 or all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))
    loss = DetectionLoss(twin)
    (sum(loss(twin(to_unit(b.images, "cpu")), b.targets).total for b in batches) / 2).backward()
    torch.optim.SGD(twin.parameters(), lr=0.1).step()
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_gradients_are_clipped():
    torch.manual_seed(0)
    model = YOLO(2)
    before = [p.detach().clone() for p in model.parameters()]
    train_step(model, DetectionLoss(model), random_batch(), torch.optim.SGD(model.parameters(), lr=1.0), clip=0.01)
    moved = math.sqrt(
        sum(float((p.detach() - q).square().sum()) for p, q in zip(model.parameters(), before, strict=True))
    )
    assert moved == pytest.approx(0.01, rel=1e-3)


def test_decay_spares_biases_and_norms():
    decayed, spared = build_optimizer(YOLO(2)).param_groups
    assert decayed["weight_decay"] > 0 and all(p.ndim >= 2 for p in decayed["params"])
    assert spared["weight_decay"] == 0 and all(p.ndim < 2 for p in spared["params"])


def test_precision_says_what_it_cannot_do():
    with pytest.raises(ValueError, match="fp16 training needs a CUDA card"):
        Precision("cpu", "fp16")
    with pytest.raises(ValueError, match="choose auto, fp32, bf16 or fp16"):
        Precision("cpu", "half")
    assert torch.is_autocast_enabled("cpu") is False
    with Precision("cpu", "bf16").autocast():
        assert torch.get_autocast_dtype("cpu") is torch.bfloat16 and torch.is_autocast_enabled("cpu")
    with Precision("cpu", "fp32").autocast():
        assert not torch.is_autocast_enabled("cpu")


def test_one_batch_of_eight_is_learned_by_heart(tmp_path):
    """Museum row 17: overfit one batch before you tune anything."""
    found = data.open_set(tiny.make(tmp_path / "tiny", {"train": 8}, side=96))
    batch = next(iter(make_loader(found, 96, 8)))
    torch.manual_seed(0)
    model = YOLO(2).to(memory_format=torch.channels_last).train()
    loss, optimizer = DetectionLoss(model), build_optimizer(model)
    schedule = WarmupCosine(10)
    for step in range(120):
        for group in optimizer.param_groups:
            group["lr"] = 4e-3 * schedule(step, step / 120)
        train_step(model, loss, batch, optimizer)
    with torch.no_grad():
        for _ in range(60):  # let the running statistics of so few steps settle on this one batch
            model(to_unit(batch.images, "cpu"))
        found = predict(model.eval()(to_unit(batch.images, "cpu")), 0.01)
    truths = [batch.targets[batch.targets[:, 0] == index, 1:] for index in range(8)]
    assert evaluate(found, truths).map50 >= 0.99


RANK_SCRIPT = """
import sys, torch
from torch.nn.parallel import DistributedDataParallel
from types import SimpleNamespace
from yolostudy.losses import DetectionLoss
from yolostudy.network import YOLO
torch.manual_seed(0)
torch.set_num_threads(1)
model = YOLO(2).eval()  # batch statistics of half a batch differ; everything else must not
images = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(1))
targets = torch.tensor([[0, 0, 8, 8, 40, 40], [0, 1, 20, 4, 60, 30], [1, 1, 10, 10, 30, 60], [3, 0, 5, 30, 50, 60.]])
torch.distributed.init_process_group("gloo")
rank, half = torch.distributed.get_rank(), slice(2 * torch.distributed.get_rank(), 2 * torch.distributed.get_rank() + 2)
mine = targets[(targets[:, 0] >= half.start) & (targets[:, 0] < half.stop)].clone()
mine[:, 0] -= half.start
wrapped = DistributedDataParallel(model)
DetectionLoss(model)(wrapped(images[half]), mine).total.backward()
torch.distributed.destroy_process_group()
if rank == 0:
    together = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    DetectionLoss(model)(model(images), targets).total.backward()
    worst = max(float((together[n] - p.grad).abs().max() / p.grad.abs().max().clamp(min=1e-9)) for n, p in model.named_parameters())
    print("WORST", worst)
"""


def test_two_processes_give_the_gradients_of_one_with_the_doubled_batch():
    command = warm.words("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    command += ["--no-python", *warm.words("-c", RANK_SCRIPT)]
    environment = os.environ | {
        "YOLOSTUDY_USE": "reference",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(data.DATASETS.parent),
    }
    done = subprocess.run(command, capture_output=True, text=True, timeout=800, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    assert float(done.stdout.split("WORST")[1]) <= 1e-4


def test_the_short_way_to_train(tmp_path):
    """As the README shows it: a model, a loss, a loader, nothing else."""
    loader = make_loader(data.open_set(tiny.make(tmp_path / "tiny")), 64, 4, shuffle=True)
    model = YOLO(2)
    before = state_of(model)
    trainer = train(model, DetectionLoss(model), loader, epochs=2)
    assert (trainer.epoch, trainer.steps, trainer.progress) == (2, 8, 1.0)
    assert not torch.equal(model.state_dict()["head.cls.0.2.bias"], before["head.cls.0.2.bias"])
