"""Hooks that change how the model learns: rate, averaged weights, freezing, teacher's share, σ."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from ..engine import Hook, Trainer, bare
from ..training import ExponentialMovingAverage, WarmupCosine, freeze, unfreeze


class Schedule(Hook):
    """Sets the learning rate before each step: the group's initial rate times the schedule."""

    def __init__(self, schedule: WarmupCosine):
        self.schedule = schedule

    def before_step(self, trainer: Trainer) -> None:
        factor = self.schedule(trainer.steps, trainer.progress)
        for group in trainer.optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
            group["lr"] = group["initial_lr"] * factor


class Plateau(Hook):
    """Halves the learning rate where mAP50 has not risen for `patience` validations.

    For the first `warmup_steps` steps, the rate rises to its initial value.
    """

    def __init__(self, factor: float = 0.5, patience: int = 5, warmup_steps: int = 60):
        self.factor, self.patience, self.warmup_steps = factor, patience, warmup_steps
        self.scheduler: ReduceLROnPlateau | None = None
        self.state: dict | None = None

    def before_train(self, trainer: Trainer) -> None:
        for group in trainer.optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        self.scheduler = ReduceLROnPlateau(trainer.optimizer, mode="max", factor=self.factor, patience=self.patience)
        if self.state:
            self.scheduler.load_state_dict(self.state)

    def before_step(self, trainer: Trainer) -> None:
        if trainer.steps < self.warmup_steps:
            for group in trainer.optimizer.param_groups:
                group["lr"] = group["initial_lr"] * (trainer.steps + 1) / self.warmup_steps

    def after_epoch(self, trainer: Trainer) -> None:
        if "map50" in trainer.metrics:
            self.scheduler.step(trainer.metrics["map50"])

    def state_dict(self) -> dict:
        return {key: value for key, value in self.scheduler.state_dict().items() if isinstance(value, int | float)}

    def load_state_dict(self, state: dict) -> None:
        self.state = state


class Averaging(Hook):
    """Keeps the exponential moving average of the weights.

    `average.model` is the model that is validated and saved as best. It moves after every step,
    also after one that only accumulates.

    Args:
        model: bare or wrapped.
        attributes: names of plain attributes of the bare model, such as `num_classes` or `head.prior`,
            that the average gets after each epoch, before what follows this hook. Weights and
            buffers are averaged anyway, and refused here.

    Errors: ValueError for a name that is no such attribute.

    Source: `ModelEMA.update_attr` of YOLOv6, which passes over a name that the model does not have.
    """

    def __init__(self, model: nn.Module, decay: float = 0.999, ramp: float = 200.0, attributes: Sequence[str] = ()):
        for name in attributes:
            _owner(bare(model), name)
        self.average, self.attributes = ExponentialMovingAverage(bare(model), decay, ramp), tuple(attributes)

    def after_step(self, trainer: Trainer) -> None:
        self.average.update(bare(trainer.model))

    def after_epoch(self, trainer: Trainer) -> None:
        for path in self.attributes:
            (source, name), (target, _) = _owner(bare(trainer.model), path), _owner(self.average.model, path)
            setattr(target, name, copy.deepcopy(getattr(source, name)))

    def state_dict(self) -> dict:
        return {"model": self.average.model.state_dict(), "updates": self.average.updates}

    def load_state_dict(self, state: dict) -> None:
        self.average.model.load_state_dict(state["model"])
        self.average.updates = state["updates"]


def _owner(model: nn.Module, path: str) -> tuple[nn.Module, str]:
    """The submodule that has a plain attribute of this dotted path, and the attribute's name."""
    parent, _, name = path.rpartition(".")
    module = dict(model.named_modules()).get(parent)
    known = sorted(word for word in vars(module or model) if not word.startswith("_") and word != "training")
    if module is None or name not in known:
        raise ValueError(
            f"Averaging: {path!r} is no plain attribute of {type(module or model).__name__}, which has "
            f"{', '.join(known) or 'none'}. Weights and buffers are averaged and need no name here."
        )
    return module, name


class Fading(Hook):
    """Lets the share of the teacher's loss fall to `final` along half a cosine, as YOLOv6 does."""

    def __init__(self, final: float = 0.01):
        self.schedule = WarmupCosine(warmup_steps=0, final=final)

    def before_step(self, trainer: Trainer) -> None:
        trainer.loss.share = self.schedule(trainer.steps, trainer.progress)


class SigmaSchedule(Hook):
    """Lets the σ of the keypoint loss fall from `start` to `end`: σ = start · (end / start)^progress.

    A small σ from the beginning teaches nothing: far from the mark, e^(−d²) has no gradient. A large
    one to the end leaves points far off the mark. The fall is geometric, so σ is halved in equal
    parts of the training. `trainer.metrics["sigma"]` is the value of the latest step, the mean where
    keypoints have several. The σ of the metric is another one, and stays.

    Args:
        start, end: one for all keypoints, or K of them.

    Errors: ValueError for a σ that is not positive, or for another number than K; TypeError for a
        loss without keypoints. The last two come before training.
    """

    def __init__(self, start: float | Sequence[float] = 0.2, end: float | Sequence[float] = 0.05):
        self.start, self.end = (torch.as_tensor(sigma, dtype=torch.float32) for sigma in (start, end))
        if not all(((sigma > 0) & sigma.isfinite()).all() for sigma in (self.start, self.end)):
            raise ValueError(f"SigmaSchedule: start is {start} and end is {end}. Give positive numbers.")

    def at(self, progress: float) -> torch.Tensor:
        """σ where `progress`, 0…1, of the training is done."""
        return self.start * (self.end / self.start) ** progress

    def before_train(self, trainer: Trainer) -> None:
        self._set(trainer)

    def before_step(self, trainer: Trainer) -> None:
        self._set(trainer)

    def _set(self, trainer: Trainer) -> None:
        loss = next((part for part in trainer.loss.modules() if hasattr(part, "keypoint_loss")), None)
        if loss is None:
            raise TypeError(f"SigmaSchedule needs a pose loss; {type(trainer.loss).__name__} has no keypoint_loss.")
        sigmas, count = self.at(trainer.progress), len(loss.keypoint_loss.sigmas)
        if sigmas.ndim and len(sigmas) != count:
            raise ValueError(
                f"SigmaSchedule has {len(sigmas)} sigmas for {count} keypoints. Give one number, or {count}."
            )
        loss.keypoint_loss.sigmas = sigmas.expand(count).clone()
        trainer.metrics["sigma"] = float(sigmas.mean())


class Freezing(Hook):
    """Keeps a part of the model frozen for the first epochs; with epochs=None to the end.

    Args:
        part: name of a submodule, such as "backbone".
    """

    def __init__(self, part: str = "backbone", epochs: int | None = None):
        self.part, self.epochs = part, epochs

    def before_epoch(self, trainer: Trainer) -> None:
        module = bare(trainer.model).get_submodule(self.part)
        if self.epochs is None or trainer.epoch < self.epochs:
            freeze(module)
        elif trainer.epoch == self.epochs:
            unfreeze(module)
