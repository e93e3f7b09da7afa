"""The training loop, and the moments at which hooks take part in it.

The loop knows nothing of learning rates, checkpoints or plots. It calls each hook at six moments
and passes itself: a hook reads what it needs from the trainer. No hook keeps the trainer, so there
is no circle of references.

Sources: detectron2 `engine/train_loop.py` (TrainerBase, HookBase) and `engine/hooks.py` (EvalHook);
YOLOv6 `yolov6/core/engine.py` for the epochs of evaluation; all at small size.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

# Hooks
# --------------------------------------------------------------------------------------------------


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


class EvaluationHook(Hook):
    """Evaluates the model after some epochs, and after the last one.

    Args:
        function: model -> dict of figures.
        model: the model to evaluate, such as an average; None for the one that is trained.
        interval: epochs between two evaluations.
        heavy_range: within so many epochs of the end the interval is at most 3, as in YOLOv6. It
            has no effect where the end is set in minutes.
        final_only: evaluate after the last epoch only.
    """

    def __init__(
        self,
        function: Callable[[nn.Module], Mapping[str, float]] | None = None,
        model: nn.Module | None = None,
        interval: int = 1,
        heavy_range: int = 0,
        final_only: bool = False,
    ):
        self.function, self.model = function, model
        self.interval, self.heavy_range, self.final_only = interval, heavy_range, final_only

    def evaluate(self, model: nn.Module) -> Mapping[str, float]:
        return self.function(model)

    def due(self, trainer: Trainer) -> bool:
        """Whether to evaluate now, after an epoch that `trainer.epoch` counts already.

        Always when `trainer.finished`. Otherwise, unless `final_only`, after every `interval`-th
        epoch; with fewer than `heavy_range` epochs left, every third or oftener.
        """
        raise NotImplementedError("exercise engine.EvaluationHook: course/11_engines.ipynb")

    def after_epoch(self, trainer: Trainer) -> None:
        """If it is due: `evaluate` in eval mode without gradients, and add the figures to
        `trainer.metrics`.

        Afterwards the model is in the mode that it was in before, also if the evaluation fails.
        """
        raise NotImplementedError("exercise engine.EvaluationHook: course/11_engines.ipynb")


# The loop
# --------------------------------------------------------------------------------------------------


def bare(model: nn.Module) -> nn.Module:
    """The model itself, without the wrapper of distributed training."""
    return model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model


class Trainer:
    """Run steps until the epochs or the minutes are used up.

    Args:
        model, loss, optimizer: what `step` works on.
        loader: gives batches; if it has `set_epoch`, that is called with `epoch` before each epoch.
        step: a callable (model, loss, batch, optimizer, precision=…, step=…) -> parts of the loss;
            such as `training.train_step`.
        precision: number format with its gradient scaler, passed to each step.
        hooks: called in this order at every moment.
        epochs, minutes: when to stop; if minutes are given, epochs do not count.

    Attributes:
        epoch: number of completed epochs.
        steps: number of completed steps.
        batch: of the latest step. It is there at `before_step`, where a hook may replace it.
        parts: of the loss, of the latest step.
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

    @property
    def named_hooks(self) -> dict[str, Hook]:
        """The hooks by the name of their class; of several of one class the second is "Class 2"."""
        names: dict[str, Hook] = {}
        for hook in self.hooks:
            same = sum(type(hook).__name__ == type(other).__name__ for other in names.values())
            names[type(hook).__name__ + (f" {same + 1}" if same else "")] = hook
        return names

    def call(self, moment: str) -> None:
        for hook in self.hooks:
            getattr(hook, moment)(self)

    def train(self) -> None:
        """Train from the current `epoch` to the end.

        The clock starts, then `before_train` is called. Each epoch begins in train mode, without a
        gradient left over, with the order of the loader set; then `before_epoch` is called. A
        `stop_reason`, or minutes that are used up, end an epoch after the current step. `epoch`
        counts each epoch, also one that ended early, and then `after_epoch` is called.
        `after_train` is called whatever happens, and an exception is passed on.
        """
        raise NotImplementedError("exercise engine.Trainer: course/11_engines.ipynb")

    def run_step(self, index: int) -> None:
        """Do one step with `batch`, keep its `parts`, and count it; `index` counts from 0 in each epoch."""
        raise NotImplementedError("exercise engine.Trainer: course/11_engines.ipynb")

    @property
    def finished(self) -> bool:
        return bool(self.stop_reason) or (self.progress >= 1 if self.minutes else self.epoch >= self.epochs)


class TeacherTrainer(Trainer):
    """A trainer whose student also imitates a teacher. Only `run_step` differs from the base class.

    Args:
        teacher: images (B, 3, H, W) in 0…1 -> what `imitate` compares. It is frozen here.
        imitate: (student's maps, teacher's maps) -> scalar.
        gain: of that scalar in the total loss.

    Source: detectron2's way to another step (`SimpleTrainer.run_step` overridden), as for DensePose.
    """

    def __init__(self, *args, teacher: nn.Module, imitate: Callable[..., Tensor], gain: float = 1.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.teacher, self.imitate, self.gain = teacher.eval().requires_grad_(False), imitate, gain

    def run_step(self, index: int) -> None:
        """A step like that of the base class, on the loss of the task and of the imitation.

        `self.step` is called once. It gets a loss whose `total` is that of the task plus `gain` ·
        `imitate`, so that update, clipping and accumulation stay as they are. So do the other parts
        of the loss, `self.loss`, and the batch. The teacher sees the images that the student sees:
        on its device, float32 in 0…1, within `precision.autocast()` where there is a precision, and
        no gradient is kept for it.
        """
        raise NotImplementedError("exercise engine.TeacherTrainer: course/11_engines.ipynb")


# Stopping and going on
# --------------------------------------------------------------------------------------------------


def snapshot(trainer: Trainer) -> dict:
    """Everything that decides how training continues, as tensors and plain values.

    Returns:
        model: state of the bare model. optimizer: its state. scaler: that of `precision.scaler`,
        empty without a precision. hooks: for each name of `named_hooks` the state. trainer: `epoch`,
        `steps`, `seconds`, and a copy of `metrics`. random: torch's random state.
    """
    raise NotImplementedError("exercise engine.snapshot: course/11_engines.ipynb")


def resume_or_load(trainer: Trainer, checkpoint: Mapping | None, weights: Mapping[str, Tensor] | None = None) -> bool:
    """Go on with an interrupted run where there is one; else begin a run, from weights if given.

    Args:
        trainer: made as it was for that run.
        checkpoint: what `snapshot` returned. Its weights win over `weights`, which then are ignored.
            A hook that it has no state of keeps the state that it has.
        weights: a state of the bare model. Its names have to fit: else torch raises a RuntimeError.

    Returns:
        Whether a run is continued. Its next epoch is the one after the last that it completed,
        `seconds_before` holds the time that it has used, and `metrics` are a copy.
    """
    raise NotImplementedError("exercise engine.resume_or_load: course/11_engines.ipynb")
