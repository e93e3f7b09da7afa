"""The training loop, and the moments at which hooks take part in it.

The loop knows nothing of learning rates, checkpoints or plots. It calls each hook at six moments
and passes itself: a hook reads what it needs from the trainer. No hook keeps the trainer, so there
is no circle of references.

Source: detectron2 `engine/train_loop.py` (TrainerBase, HookBase), at small size.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

from torch import nn
from torch.optim import Optimizer


class Hook:
    """Base class of everything that takes part in training.

    Override the moments that you need; by default each does nothing.
    """

    def before_train(self, trainer: Trainer) -> None: ...
    def before_epoch(self, trainer: Trainer) -> None: ...
    def before_step(self, trainer: Trainer) -> None: ...
    def after_step(self, trainer: Trainer) -> None: ...
    def after_epoch(self, trainer: Trainer) -> None: ...
    def after_train(self, trainer: Trainer) -> None:
        """Close and remove what `before_train` opened; called after an exception too."""

    def state_dict(self) -> dict:
        """The state of this hook that a checkpoint has to keep."""
        return {}

    def load_state_dict(self, state: dict) -> None: ...


class Trainer:
    """Run steps until the epochs or the minutes are used up.

    Args:
        model, loss, optimizer: what `step` works on.
        loader: gives batches; if it has `set_epoch`, that is called before each epoch.
        step: a callable (model, loss, batch, optimizer, precision=…, step=…) -> parts of the loss;
            such as `training.train_step`.
        precision: number format with its gradient scaler, passed to each step.
        hooks: called in this order at every moment.
        epochs, minutes: when to stop; if minutes are given, epochs do not count.

    Attributes:
        epoch: number of completed epochs.
        steps: number of completed steps.
        batch, parts: batch and loss parts of the latest step.
        metrics: results that hooks leave for one another.
        stop_reason: set it to end training after the current step.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: nn.Module,
        loader: Iterable,
        optimizer: Optimizer,
        step: Callable,
        precision: object = None,
        hooks: Sequence[Hook] = (),
        epochs: int = 100,
        minutes: float | None = None,
    ):
        self.model, self.loss, self.loader, self.optimizer = model, loss, loader, optimizer
        self.step, self.precision, self.hooks, self.epochs, self.minutes = step, precision, list(hooks), epochs, minutes
        self.epoch = self.steps = 0
        self.seconds_before = 0.0  # that the resumed run had used before
        self.started = time.perf_counter()
        self.batch = self.parts = None
        self.metrics: dict[str, float] = {}
        self.stop_reason = ""

    @property
    def seconds(self) -> float:
        """Wall time of this run, including the time before it was resumed."""
        return self.seconds_before + time.perf_counter() - self.started

    @property
    def progress(self) -> float:
        """How much of the run is done, 0…1: by the clock if minutes are given, else by the steps."""
        if self.minutes:
            return min(1.0, self.seconds / (60 * self.minutes))
        return min(1.0, self.steps / (self.epochs * len(self.loader)))

    def call(self, moment: str) -> None:
        for hook in self.hooks:
            getattr(hook, moment)(self)

    def train(self) -> None:
        """Train from the current `epoch` to the end."""
        # BEGIN SOLUTION
        self.started = time.perf_counter()
        try:
            self.call("before_train")
            while not self.finished:
                self.model.train()
                self.optimizer.zero_grad(set_to_none=True)
                if hasattr(self.loader, "set_epoch"):
                    self.loader.set_epoch(self.epoch)
                self.call("before_epoch")
                for index, batch in enumerate(self.loader):
                    self.batch = batch
                    self.call("before_step")
                    self.run_step(index)
                    self.call("after_step")
                    if self.stop_reason or (self.minutes and self.progress >= 1):
                        break
                self.epoch += 1
                self.call("after_epoch")
        finally:
            self.call("after_train")
        # END SOLUTION

    def run_step(self, index: int) -> None:
        """Do one step; `index` counts from 0 in each epoch."""
        # BEGIN SOLUTION
        self.parts = self.step(self.model, self.loss, self.batch, self.optimizer, precision=self.precision, step=index)
        self.steps += 1
        # END SOLUTION

    @property
    def finished(self) -> bool:
        return bool(self.stop_reason) or (self.progress >= 1 if self.minutes else self.epoch >= self.epochs)
