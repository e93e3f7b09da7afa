"""Rooms of several processes.

Where a room needs ranks, they are threads of this process with a real group of gloo each. Room 83 is
issue 31771 of pytorch, room 84 its issue 54059, room 85 issue 16838 of Ultralytics, room 86 its
pull request 26047.
"""

import copy
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler

from yolostudy.study.museum import Room

from ._engine import group, meet, small_trainer, start

# ---- samplers ------------------------------------------------------------------------------------


same_order = Room(
    83,
    "with two processes each epoch shows the images in the same order",
    "A DistributedSampler shuffles by its seed and its epoch, so that all ranks draw the same permutation and take "
    "different parts of it. Its epoch stays 0 until somebody sets it. Call `set_epoch` before each epoch. torch's "
    "DataLoader has none, only its sampler has: a loop that asks the loader for it needs a loader that passes it on.",
    mistake=("engine.Trainer", "the loader's order is never set"),
)


class Loader(DataLoader):
    def set_epoch(self, epoch: int) -> None:
        self.sampler.set_epoch(epoch)


def orders(course, rank: int = 0) -> list[list[int]]:
    """The numbers of the images that one of two ranks gets in three epochs."""
    images, seen = torch.arange(12.0)[:, None].expand(12, 2), []
    sampler = DistributedSampler(images, num_replicas=2, rank=rank, shuffle=True)
    loader = Loader(images, batch_size=2, sampler=sampler)
    small_trainer(
        epochs=3,
        loader=loader,
        step=lambda model, loss, batch, optimizer, precision, step: seen.extend(batch[:, 0].int().tolist()),
        kind=course.engine.Trainer,
    ).train()
    return [seen[:6], seen[6:12], seen[12:]]


@same_order.look
def _(course):
    different = len({tuple(order) for order in orders(course)})
    return different < 3, f"3 epochs, {different} different {'order' if different == 1 else 'orders'}"


@same_order.find("the first indices of two epochs, on each rank")
def _(course):
    rows = []
    for rank in range(2):
        first, second, _ = orders(course, rank)
        rows.append(f"rank {rank}   epoch 0: {first[:3]}   epoch 1: {second[:3]}")
    return "\n".join(rows)


# ---- collectives ---------------------------------------------------------------------------------


a_hang = Room(
    84,
    "training stands still after the first epoch, without an error",
    "Rank 0 validates, the others wait for it at a barrier. But it validates through the wrapper of distributed "
    "training, which sends its buffers to all ranks in every forward pass, in eval mode too. Rank 0 waits for ranks to "
    "receive, they wait for rank 0 to arrive. Nothing ends it before the timeout of the group, which is ten minutes or "
    "more. Validate the bare model, `wrapped.module`, or validate on every rank.",
    mistake=("engine.EvaluationHook", "the wrapper is evaluated"),
)
PATIENCE = (0.2, 0.8)  # seconds until a rank gives up; on a slow machine a second look decides


def epoch_with_validation(course, patience: float) -> Callable:
    def act(rank: int, joined: dist.ProcessGroup) -> None:
        wrapped = DistributedDataParallel(nn.BatchNorm2d(3), process_group=joined)
        meet(joined, patience)
        if rank == 0:
            trainer = small_trainer(model=wrapped, kind=course.engine.Trainer)
            trainer.epoch = 1
            course.engine.EvaluationHook(validate).after_epoch(trainer)
        joined.barrier().wait()

    return act


def validate(model: nn.Module) -> dict:
    model(torch.zeros(2, 3, 8, 8))
    return {}


@a_hang.look
def _(course):
    for patience in PATIENCE:
        ranks = start(epoch_with_validation(course, patience))
        for rank in ranks:
            rank.join()
        stuck = [rank.name for rank in ranks if isinstance(rank.error, RuntimeError)]  # gloo's way of giving up
        if not stuck:
            break
    if other := next((rank.error for rank in ranks if rank.error and rank.name not in stuck), None):
        raise other
    return bool(stuck), f"{' and '.join(stuck)}: no answer for {patience:g} s" if stuck else "both pass the barrier"


@a_hang.find("the stack of each rank while it waits")
def _(course):
    """As `py-spy dump` shows it of a process from outside."""
    ranks, stacks = start(epoch_with_validation(course, PATIENCE[0])), {}
    while any(rank.is_alive() for rank in ranks):
        stacks |= {rank.name: stack for rank in ranks if (stack := rank.stack())}
        time.sleep(0.01)
    return "\n".join(f"{name}: {where}" for name, where in sorted(stacks.items()))


# ---- processes that know nothing -----------------------------------------------------------------

TRAINER = """
CALLBACKS = {"on_epoch_end": []}

def train(rank):
    for epoch in range(2):
        for callback in CALLBACKS["on_epoch_end"]:
            callback(rank, epoch)
"""
CALLBACK = """
import trainer

def report(rank, epoch):
    print(f"rank {rank}: epoch {epoch} is done")

trainer.CALLBACKS["on_epoch_end"].append(report)
"""


def in_this_process(folder: Path) -> str:
    """Add the callback here, as a cell of a notebook does. The program of the ranks is written by the engine."""
    names = {"CALLBACKS": {"on_epoch_end": []}}
    exec(CALLBACK.replace("import trainer", "").replace("trainer.", ""), names)
    return "import sys, trainer; trainer.train(int(sys.argv[1]))"


def in_a_module(folder: Path) -> str:
    """Put it into a file that the program of the ranks imports."""
    (folder / "my_callbacks.py").write_text(CALLBACK)
    return "import sys, my_callbacks, trainer; trainer.train(int(sys.argv[1]))"


silent = Room(
    85,
    "callbacks work with one device and are silent with two",
    "With two devices the engine starts a process for each of them. Ultralytics writes a small file for them that "
    "builds the trainer again, from its class and its settings. A function that was added in the notebook lives in "
    "the notebook's process only. Put it into a module, in a trainer of your own, whose class the new processes "
    "import.",
    broken=in_this_process,
    fixed=in_a_module,
)


def spoken(prepare) -> tuple[list[str], str]:
    """What two spawned ranks print, and the program that they run."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "trainer.py").write_text(TRAINER)
        program = prepare(Path(folder))
        ranks = [
            subprocess.Popen(
                [sys.executable, "-S", "-c", program, str(rank)], cwd=folder, stdout=subprocess.PIPE, text=True
            )
            for rank in range(2)
        ]
        return [line for rank in ranks for line in rank.communicate()[0].splitlines()], program


@silent.look
def _(prepare):
    lines, _ = spoken(prepare)
    return not lines, "\n".join(lines) or "two ranks were started; nothing was printed"


@silent.find("reading the program that the ranks run")
def _(prepare):
    lines, program = spoken(prepare)
    return f"{program}\nimports my_callbacks: {'my_callbacks' in program}; lines printed: {len(lines)}"


# ---- the wrapper ---------------------------------------------------------------------------------


def from_the_wrapper(model: nn.Module) -> nn.Module:
    return model


def from_the_model(model: nn.Module) -> nn.Module:
    return model.module if isinstance(model, DistributedDataParallel) else model


stale = Room(
    86,
    "the averaged model draws the old class names, but only where it was trained by several processes",
    "The average copies named attributes of the model, and one that the model lacks is skipped. Under distributed "
    "training it was given the wrapper. The wrapper has the model and not its attributes, so nothing was copied and "
    "nothing was said. Take the model out of its wrapper first, and raise if a name is missing.",
    broken=from_the_wrapper,
    fixed=from_the_model,
)


def copied(take) -> tuple[nn.Module, nn.Module]:
    """A wrapped model whose class names were changed, and its average after an update."""
    network = nn.Linear(2, 1)
    network.names = ["a", "b"]
    average = copy.deepcopy(network)
    wrapped = DistributedDataParallel(network, process_group=group(0, 1, dist.HashStore()))
    network.names = ["airliner", "fighter"]
    for name in ("names",):
        if name in vars(take(wrapped)):
            setattr(average, name, vars(take(wrapped))[name])
    return wrapped, average


@stale.look
def _(take):
    wrapped, average = copied(take)
    right = wrapped.module.names
    return average.names != right, f"the model's names: {', '.join(right)}; the average's: {', '.join(average.names)}"


@stale.find("which object has the attribute")
def _(take):
    source = take(copied(take)[0])
    return f"copied from {type(source).__name__}; has names: {hasattr(source, 'names')}"
