"""Two processes that train together, in five demonstrations: a program for torchrun.

    torchrun --standalone --nproc-per-node 2 course/engines/two_processes.py gradients

torchrun starts the file twice and tells each process its number, the rank, in the environment. The
processes share nothing but what they send each other; gloo sends it, and needs no graphics card.
From a notebook, `yolostudy.views.engine.processes.run("gradients")` does the same and keeps what
both said and did.

Sources: the torch 2.15 documentation of DistributedDataParallel (DDP), DistributedSampler and
torch.distributed; the line `total_loss *= self.world_size` of YOLOv6's engine.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.functional import mse_loss
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DistributedSampler

PATIENCE = 2.0  # seconds that `eval_on_one_rank` waits for the other process; gloo's default is 30 minutes
LIMIT = 120.0  # seconds after which a process ends itself, whatever it waits for


class Diary:
    """What one process says, what it measures and what it does when.

    It prints, and where YOLOSTUDY_DIARY names a folder it also writes rank0.jsonl or rank1.jsonl
    there, a line for each entry. Times are seconds since 1970, so both processes' times compare.
    """

    def __init__(self, rank: int):
        self.rank, folder = rank, os.environ.get("YOLOSTUDY_DIARY")
        self.file = Path(folder, f"rank{rank}.jsonl").open("a", encoding="utf-8") if folder else None

    def _write(self, entry: dict) -> None:
        if self.file:
            self.file.write(json.dumps(entry) + "\n")
            self.file.flush()

    def say(self, text: str) -> None:
        print(f"rank {self.rank}: {text}\n", end="", flush=True)  # one write, so that lines do not mix
        self._write({"said": text})

    def note(self, **numbers) -> None:
        self._write({"numbers": numbers})

    def span(self, name: str, start: float, end: float, waits: bool = False) -> None:
        self._write({"span": name, "start": start, "end": end, "waits": waits})

    @contextlib.contextmanager
    def does(self, name: str, waits: bool = False) -> Iterator[None]:
        start = time.time()
        try:
            yield
        finally:
            self.span(name, start, time.time(), waits)


def backward(diary: Diary, model: nn.Module, loss: torch.Tensor) -> None:
    """Backward pass; what follows this process's own last gradient is noted as waiting."""
    start = ready = time.time()

    def mark(_) -> None:
        nonlocal ready
        ready = time.time()

    handles = [parameter.register_post_accumulate_grad_hook(mark) for parameter in model.parameters()]
    try:
        loss.backward()
    finally:
        diary.span("backward", start, ready)
        diary.span("wait for the other's gradients", ready, time.time(), waits=True)
        for handle in handles:
            handle.remove()


def gradient(model: nn.Module) -> list[float]:
    """All gradients of a model in one list; they are cleared."""
    flat = torch.cat([parameter.grad.flatten() for parameter in model.parameters()]).tolist()
    model.zero_grad()
    return flat


def row(values: list[float]) -> str:
    return "  ".join(f"{value:+.3f}" for value in values)


# ---- the demonstrations ---------------------------------------------------------------------------


def gradients(diary: Diary) -> None:
    """Each process's own gradient, and what both have after the all-reduce: the mean."""
    rank = diary.rank
    torch.manual_seed(rank)  # other weights and another batch in each process
    bare = nn.Linear(4, 1)
    born = torch.nn.utils.parameters_to_vector(bare.parameters()).tolist()
    model = DistributedDataParallel(bare)  # copies the weights of rank 0 into every process
    same = torch.nn.utils.parameters_to_vector(bare.parameters()).tolist()
    with diary.does("load a batch"):
        images, truth = torch.randn(8, 4), torch.randn(8, 1)
        time.sleep(0.1 + 0.4 * rank)  # rank 1 has the slower disk
    with model.no_sync():  # the backward pass without the all-reduce
        mse_loss(model(images), truth).backward()
    own = gradient(bare)
    with diary.does("forward"):
        loss = mse_loss(model(images), truth)
    backward(diary, bare, loss)
    mean = gradient(bare)
    diary.say(f"born with the weights   {row(born)}")
    diary.say(f"after DDP's constructor {row(same)}")
    diary.say(f"own gradient            {row(own)}")
    diary.say(f"after the all-reduce    {row(mean)}")
    diary.note(born=born, same=same, own=own, mean=mean)


def no_set_epoch(diary: Diary) -> None:
    """The order of twelve images in two epochs, without `set_epoch` and with it."""
    orders = {}
    for label in ("without", "with"):
        sampler = DistributedSampler(range(12), shuffle=True, seed=0)
        orders[label] = []
        for epoch in range(2):
            if label == "with":
                sampler.set_epoch(epoch)  # the order is drawn from seed + epoch; the epoch stays 0 otherwise
            orders[label].append(list(sampler))
            images = " ".join(f"{index:2d}" for index in orders[label][-1])
            diary.say(f"{label:<7} set_epoch, epoch {epoch + 1}: images {images}")
    diary.note(orders=orders)


def averaged_twice(diary: Diary) -> None:
    """DDP's gradient against one process with all sixteen images, for five ways to scale the loss."""
    draw = torch.Generator().manual_seed(0)  # the same numbers in both processes
    images, truth = torch.randn(16, 4, generator=draw), torch.randn(16, 1, generator=draw)
    torch.manual_seed(0)
    bare = nn.Linear(4, 1)
    model = DistributedDataParallel(bare)
    mine = slice(diary.rank, None, 2)  # eight of the sixteen
    world = dist.get_world_size()
    found = {}
    for label, reduction, factor in (
        ("mean", "mean", 1.0),
        ("mean / world size", "mean", 1 / world),
        ("mean × world size", "mean", world),
        ("sum", "sum", 1.0),
        ("sum × world size", "sum", world),
    ):
        mse_loss(bare(images), truth, reduction=reduction).backward()  # past the wrapper: no all-reduce
        single = gradient(bare)
        (factor * mse_loss(model(images[mine]), truth[mine], reduction=reduction)).backward()
        together = gradient(bare)
        ratio = sum(a * b for a, b in zip(together, single)) / sum(b * b for b in single)
        found[label] = {"single": single, "together": together, "ratio": ratio}
        diary.say(f"loss: {label:<18} gradient is {ratio:.2f} of what one process with all images has")
    diary.note(scalings=found)


def rank1_also_saves(diary: Diary) -> None:
    """Both processes write one checkpoint: what a reader finds in the middle; then rank 0 alone.

    The file holds eight tensors, full of 1 by rank 0 and full of 2 by rank 1, so that it can be
    seen who wrote each. Barriers stage an overlap that otherwise comes by chance.
    """
    import safetensors.torch

    rank, size = diary.rank, 256
    content = safetensors.torch.save({f"layer.{n}": torch.full((size,), rank + 1.0) for n in range(8)})
    header = len(content) - 8 * 4 * size
    told = [tempfile.mkdtemp(prefix="two processes ") if rank == 0 else None]
    dist.broadcast_object_list(told)
    file = Path(told[0], "last.safetensors")

    def cut(first: int, stop: int) -> bytes:  # bytes of the tensors first … stop − 1, the header with the first
        return content[header + 4 * size * first if first else 0 : header + 4 * size * stop]

    turns = [(0, 0, 4), (1, 0, 2), (0, 4, 8), (1, 2, 8)]  # who writes which tensors, one after the other
    writer, torn = None, None
    for number, (who, first, stop) in enumerate(turns):
        if rank == who:
            with diary.does(f"write tensors {first} to {stop - 1}"):
                writer = writer or file.open("wb", buffering=0)  # "wb" empties what is there
                writer.write(cut(first, stop))
                time.sleep(0.1)
        with diary.does("barrier", waits=True):
            dist.barrier()
        if number == 2:
            torn = owners(file)
            dist.barrier()
    writer.close()
    dist.barrier()
    final = owners(file)
    dist.barrier()
    if rank == 0:
        with diary.does("rank 0 alone saves"):
            aside = file.with_suffix(".partial")
            aside.write_bytes(content)
            os.replace(aside, file)  # a reader finds the old file or the new one
    with diary.does("barrier", waits=True):
        dist.barrier()
    alone = owners(file)
    dist.barrier()
    if rank == 0:
        shutil.rmtree(told[0])
        names = {0: "nobody", 1: "rank 0", 2: "rank 1"}
        for label, found in {"in the middle": torn, "at the end": final, "rank 0 alone": alone}.items():
            diary.say(f"{label}: tensors by " + ", ".join(names[owner] for owner in found))
    diary.note(torn=torn, final=final, alone=alone, bytes=len(content))


def owners(file: Path) -> list[int]:
    """Who wrote each tensor of a checkpoint: 1 is rank 0, 2 is rank 1, 0 is nobody. It loads without a complaint."""
    import safetensors.torch

    return [int(tensor[0]) for _, tensor in sorted(safetensors.torch.load(file.read_bytes()).items())]


def eval_on_one_rank(diary: Diary) -> None:
    """Rank 0 evaluates alone, in three ways; the third would wait for ever.

    With BatchNorm a forward pass through DDP's wrapper begins with a broadcast of the buffers, in
    eval mode too. It waits for rank 1, which does not evaluate. Without a barrier rank 1's next
    training step receives it by luck: after a forward pass without gradient the wrapper leaves the
    next broadcast out, so the numbers of both agree again.
    """
    torch.manual_seed(0)
    bare = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))
    dist.barrier()
    group = dist.new_group(timeout=timedelta(seconds=PATIENCE))
    model = DistributedDataParallel(bare, process_group=group)
    images, truth = torch.randn(8, 4), torch.randn(8, 1)

    def train_step() -> None:
        with diary.does("training step"):
            loss = mse_loss(model(images), truth)
        backward(diary, bare, loss)
        bare.zero_grad()

    def evaluate(judged: nn.Module, name: str, meet: bool) -> None:
        if diary.rank == 0:
            judged.eval()
            for _ in range(3):
                with diary.does("broadcast" if judged is model else name, waits=judged is model), torch.no_grad():
                    judged(images)
                with diary.does(name):
                    time.sleep(0.1)
            judged.train()
        if meet:
            with diary.does("barrier", waits=True):
                dist.barrier(group)

    train_step()
    evaluate(bare, "evaluate the bare model", meet=True)
    train_step()
    diary.say("the bare model and a barrier: both train on")
    evaluate(model, "evaluate the wrapper", meet=False)
    train_step()
    diary.say("the wrapper and no barrier: both train on, by luck; rank 1 stood in its all-reduce meanwhile")
    start, reason = time.time(), ""
    try:
        evaluate(model, "evaluate the wrapper", meet=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        place = ("in the broadcast of its evaluation", "at the barrier")[diary.rank]
        ended = "gave up" if "imed out" in reason else "heard that the other had given up"
        diary.say(
            f"the wrapper and a barrier: stood {place}, which rank {1 - diary.rank} never joins, and {ended} after "
            f"about {time.time() - start:.0f} s. Evaluate the bare model, and let the others wait at a barrier."
        )
    diary.note(waited=time.time() - start, reason=reason)


DEMOS: dict[str, Callable[[Diary], None]] = {
    function.__name__: function
    for function in (gradients, no_set_epoch, averaged_twice, rank1_also_saves, eval_on_one_rank)
}


def main(arguments: list[str]) -> int | str:
    if len(arguments) != 1 or arguments[0] not in DEMOS:
        return (
            f"two_processes.py: {' '.join(arguments) or 'nothing'} is no demonstration. Name one of {', '.join(DEMOS)}."
        )
    if os.environ.get("WORLD_SIZE") != "2":
        return (
            "two_processes.py: this is a program for two processes. Start it as\n  torchrun --standalone "
            f"--nproc-per-node 2 course/engines/two_processes.py {arguments[0]}"
        )
    faulthandler.dump_traceback_later(LIMIT, exit=True)  # so that no process is left behind
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # gloo looks the machine's name up otherwise
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    DEMOS[arguments[0]](Diary(dist.get_rank()))
    # After a timeout the group cannot be used or taken apart in order: end without that.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
