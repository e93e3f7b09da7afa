"""Props of the rooms of engines: the reference's engine, a small training, and ranks in threads."""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

from yolostudy.study import package

ENGINE = package("reference").engine
MOMENTS = ("before_train", "before_epoch", "before_step", "after_step", "after_epoch", "after_train")


# ---- a small training ----------------------------------------------------------------------------


def descend(model: nn.Module, _loss, batch: Tensor, optimizer, precision=None, step: int = 0) -> Tensor:
    """One step towards an answer of 1."""
    loss = (model(batch) - 1).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()


def small_trainer(hooks=(), epochs: int = 2, loader=None, step=descend, model=None, kind=ENGINE.Trainer):
    """A trainer of one linear layer, with three batches an epoch."""
    model = model or nn.Linear(2, 1)
    loader = [torch.rand(4, 2) for _ in range(3)] if loader is None else loader
    return kind(model, None, loader, torch.optim.SGD(model.parameters(), lr=0.1), step, hooks=hooks, epochs=epochs)


def _note(moment: str) -> Callable:
    return lambda self, trainer: self.seen.append(moment)


class Witness(ENGINE.Hook):
    """Notes the moments at which it is called."""

    def __init__(self):
        self.seen: list[str] = []


for _moment in MOMENTS:
    setattr(Witness, _moment, _note(_moment))


# ---- ranks ---------------------------------------------------------------------------------------


SECONDS = 30.0  # until a rank gives up where nothing should make it wait


def group(rank: int, ranks: int, store: dist.Store) -> dist.ProcessGroup:
    """A real group of gloo for one rank, without the global one of `init_process_group`.

    So ranks can be threads of one process.
    """
    backend, cpu = dist.ProcessGroup.BackendType.GLOO, torch.device("cpu")
    joined = dist.ProcessGroup(store, rank, ranks)
    joined._set_default_backend(backend)
    joined._register_backend(cpu, backend, dist.ProcessGroupGloo(store, rank, ranks, timedelta(seconds=SECONDS)))
    return joined


def meet(joined: dist.ProcessGroup, patience: float) -> None:
    """Wait until all ranks are here. From then on they wait for one another `patience` seconds at most."""
    joined.barrier().wait()
    joined._get_backend(torch.device("cpu"))._set_default_timeout(timedelta(seconds=patience))


class Rank(threading.Thread):
    """One rank, as a thread: `act(rank, group)`.

    Attributes:
        error: what it raised, or None.
    """

    def __init__(self, rank: int, ranks: int, store: dist.Store, act: Callable):
        super().__init__(name=f"rank {rank}", daemon=True)
        self.rank, self.ranks, self.store, self.act = rank, ranks, store, act
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            self.act(self.rank, group(self.rank, self.ranks, self.store))
        except Exception as error:
            self.error = error

    def stack(self) -> str:
        """The line of `act` that this thread is in, and the functions below it; empty before and after."""
        frame = sys._current_frames().get(self.ident)
        entries = traceback.extract_stack(frame) if frame else []
        names = [entry.name for entry in entries]
        if self.act.__name__ not in names:
            return ""
        first = names.index(self.act.__name__)
        return " > ".join([entries[first].line, *(name for name in names[first + 1 :] if "call_impl" not in name)])


def start(act: Callable, ranks: int = 2) -> list[Rank]:
    """Start the ranks. Join them."""
    store = dist.HashStore()
    threads = [Rank(rank, ranks, store, act) for rank in range(ranks)]
    for thread in threads:
        thread.start()
    return threads
