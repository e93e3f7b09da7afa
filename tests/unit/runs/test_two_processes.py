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
from yolostudy.runs.sync_bn import synchronise

SHARED = {"epochs": 2, "cache": "ram", "workers": "0", "optimizer": "sgd", "rate": 0.02, "ema": 0.9, "ema_ramp": 3.0}
SHARED |= {"warmup": 6, "warmup_momentum": 0.5, "warmup_bias_rate": 0.05, "nominal_batch": 16, "scale_rate": True}
SHARED |= {"sync_bn": True, "ema_attributes": ("num_classes",)}
PARTS = [(3, 2), (1, 2)]  # images of each process, times some pixels

PROGRAM = """
import os, sys
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
    images = torch.randn(4, 5, 6, 6, generator=torch.Generator().manual_seed(3)) + 30
    return images if rank is None else images[:3] if rank == 0 else images[3:]


def normalised(images: torch.Tensor, synced: bool) -> dict[str, torch.Tensor]:
    """Result, gradients and statistics of a normalisation of these images."""
    norm = nn.Sequential(nn.BatchNorm2d(5, eps=1e-3, momentum=0.03))
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
    average = next(hook.average for hook in run.trainer.hooks if hasattr(hook, "average"))
    updates = [state["momentum_buffer"] for state in run.trainer.optimizer.state.values()]
    kept = {"model": bare(run.trainer.model).state_dict(), "average": average.model.state_dict()}
    return kept | {"steps": run.trainer.steps, "momentum": updates}


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


def furthest(one: dict, other: dict) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name].double() - other[name].double()).abs().max()) for name in one)


def test_weights_and_averages_after_ten_steps(pair):
    ranks, alone = pair
    assert [kept["steps"] for kept in ranks] == [alone["steps"]] * 2 == [10, 10]
    for kept in ranks:
        print(furthest(kept["model"], alone["model"]), furthest(kept["average"], alone["average"]))
        assert furthest(kept["model"], alone["model"]) <= 1e-5
        assert furthest(kept["average"], alone["average"]) <= 1e-5
