"""Two processes with accumulation, synchronised normalisation and an average equal one process."""

import os
import socket
import subprocess

import pytest
import torch
from torch import nn

from tests import tiny, warm
from tests.tiny import preset_for
from yolostudy import data, runs
from yolostudy.engine import bare
from yolostudy.hooks import load_weights
from yolostudy.runs.sync_bn import SyncedNorm, synchronise
from yolostudy.training import freeze, unfreeze

# From random weights, even the order of images in a batch moves weights by 6e-3 in ten such steps: rounding errors
# grow through 60 normalisations of nearly nothing. Trained weights and a small rate keep them small.
SHARED = {"weights": str(data.DATASETS / "weights" / "planes-n-mini.safetensors"), "optimizer": "sgd", "rate": 5e-3}
SHARED |= {"epochs": 2, "cache": "ram", "workers": "0", "ema": 0.9, "ema_ramp": 3.0, "validate_seconds": 1000.0}
SHARED |= {"warmup": 6, "warmup_momentum": 0.5, "warmup_bias_rate": 2e-3, "nominal_batch": 16, "scale_rate": True}
SHARED |= {"sync_bn": True, "ema_attributes": ("num_classes",)}

PROGRAM = """
import sys
from pathlib import Path
import torch
from yolostudy import runs
from tests.unit.runs.test_two_processes import SHARED, normalised, of_process, preset_for, weights

torch.set_num_threads(1)
torch.distributed.init_process_group("gloo")
rank = torch.distributed.get_rank()
out = Path(sys.argv[2])
kept = {"norm": normalised(of_process(rank), synced=True)}
run = runs.train(preset_for(Path(sys.argv[1]), batch=4, **SHARED), out / "pair")
kept |= weights(run)
torch.save(kept, out / f"rank{rank}.pt")
"""


def of_process(rank: int | None) -> torch.Tensor:
    """The images of one process, 3 of rank 0 and 1 of rank 1, or of both; their mean is far from 0."""
    images = torch.randn(4, 5, 6, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64) + 30
    return images if rank is None else images[:3] if rank == 0 else images[3:]


def normalised(images: torch.Tensor, synced: bool) -> dict[str, torch.Tensor]:
    """Result, gradients and statistics of a normalisation of these images."""
    norm = nn.Sequential(nn.BatchNorm2d(5, eps=1e-3, momentum=0.03)).double()
    with torch.no_grad():
        norm[0].weight.copy_(torch.linspace(0.5, 2, 5))
        norm[0].bias.copy_(torch.linspace(-1, 1, 5))
    if synced:
        norm = synchronise(norm)
    images = images.clone().requires_grad_()
    result = norm(images)
    (result.sin() * torch.arange(36.0).reshape(6, 6)).sum().backward()
    parts = {"result": result.detach(), "images": images.grad, "weight": norm[0].weight.grad, "bias": norm[0].bias.grad}
    return parts | {name: buffer.clone() for name, buffer in norm[0].named_buffers()}


def weights(run: runs.Run) -> dict:
    """What the equality is about, and how far the run went."""
    hooks = {type(hook).__name__: hook for hook in run.trainer.hooks}
    kept = {"model": bare(run.trainer.model).state_dict(), "average": hooks["Averaging"].average.model.state_dict()}
    group = run.trainer.optimizer.param_groups[0]
    settings = [group["initial_lr"], group["weight_decay"], group["momentum"]]
    return kept | {"steps": run.trainer.steps, "accumulate": hooks["GrowingAccumulation"].accumulate, "group": settings}


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """What both processes kept, and one process with the doubled batch, which trains at the same time."""
    folder = tmp_path_factory.mktemp("two")
    images = tiny.make(folder / "tiny", {"train": 40, "validation": 4})
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = os.environ | {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(data.DATASETS.parent)}
    command = warm.words("-c", PROGRAM, str(images), str(folder))
    processes = [
        subprocess.Popen(command, env=environment | {"RANK": rank}, stderr=subprocess.PIPE, text=True)
        for rank in ("0", "1")
    ]
    try:
        alone = weights(runs.train(preset_for(images, batch=8, **SHARED), folder / "alone"))
        for process in processes:
            _, printed = process.communicate(timeout=300)
            assert process.returncode == 0, printed[-3000:]
    finally:
        for process in processes:
            process.kill()
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)], alone


def furthest(one: dict, other: dict) -> tuple[float, float]:
    """The largest difference of a weight, and of a statistic as a fraction of the largest in its layer."""
    assert one.keys() == other.keys()
    gaps = {name: float((one[name].double() - other[name].double()).abs().max()) for name in one}
    statistics = {name for name in one if name.rpartition(".")[2] in ("running_mean", "running_var")}
    shares = [gaps[name] / max(1.0, float(other[name].abs().max())) for name in statistics]
    return max(gaps[name] for name in one.keys() - statistics), max(shares)


def test_weights_and_averages_after_ten_steps(pair):
    (first, second), alone = pair
    for kept in (first, second):
        assert {key: kept[key] for key in ("steps", "accumulate", "group")} == {
            "steps": 10,
            "accumulate": 2,
            "group": pytest.approx([5e-3 * 8 / 16, 5e-4, 0.9]),
        }
        for what in ("model", "average"):
            assert max(furthest(kept[what], alone[what])) <= 1e-5, what
    name = "backbone.stem.conv.weight"
    moved = load_weights(SHARED["weights"])[0][name] - alone["model"][name]
    assert float(moved.abs().max()) > 1e-3  # a hundred times what they may differ


def test_the_normalisation_is_that_of_all_images(pair):
    ranks, together = [kept["norm"] for kept in pair[0]], normalised(of_process(None), synced=False)
    for part in ("result", "images"):
        torch.testing.assert_close(torch.cat([kept[part] for kept in ranks]), together[part], rtol=0, atol=1e-10)
    for part in ("weight", "bias"):
        torch.testing.assert_close(ranks[0][part] + ranks[1][part], together[part], rtol=0, atol=1e-10)
    for part in ("running_mean", "running_var", "num_batches_tracked"):
        for kept in ranks:
            torch.testing.assert_close(kept[part], together[part], rtol=0, atol=1e-12)


def test_synchronising_keeps_weights_names_and_freezing():
    model = nn.Sequential(nn.Conv2d(3, 5, 1), nn.ModuleList([nn.BatchNorm2d(5, eps=0.1, momentum=0.2)]))
    norm, names, parameters = model[1][0], list(model.state_dict()), list(model.parameters())
    synced = synchronise(model)[1][0]
    assert type(synced) is SyncedNorm and (synced.eps, synced.momentum) == (0.1, 0.2)
    assert list(model.state_dict()) == names and synced.running_mean is norm.running_mean
    assert all(one is other for one, other in zip(model.parameters(), parameters, strict=True))
    images = torch.randn(2, 5, 3, 3)
    freeze(model)  # a frozen one sends nothing, so it needs no other process
    torch.testing.assert_close(synced(images), norm.eval()(images))
    unfreeze(model)
    with pytest.raises(ValueError, match="process group"):
        synced.train()(images)
