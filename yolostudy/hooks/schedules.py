"""Hooks that change how the model learns: rate, averaged weights, freezing, teacher's share."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from ..engine import Hook, Trainer
from ..pose import KeypointLoss
from ..training import ExponentialMovingAverage, WarmupCosine, freeze, unfreeze


def bare(model: nn.Module) -> nn.Module:
    """The model itself, without the wrapper of distributed training."""
    return model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model


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

    `average.model` is the model that is validated and saved as best.
    """

    def __init__(self, model: nn.Module, decay: float = 0.999, ramp: float = 200.0):
        self.average = ExponentialMovingAverage(bare(model), decay, ramp)

    def after_step(self, trainer: Trainer) -> None:
        self.average.update(bare(trainer.model))

    def state_dict(self) -> dict:
        return {"model": self.average.model.state_dict(), "updates": self.average.updates}

    def load_state_dict(self, state: dict) -> None:
        self.average.model.load_state_dict(state["model"])
        self.average.updates = state["updates"]


class Fading(Hook):
    """Lets the share of the teacher's loss fall to `final` along half a cosine, as YOLOv6 does."""

    def __init__(self, final: float = 0.01):
        self.schedule = WarmupCosine(warmup_steps=0, final=final)

    def before_step(self, trainer: Trainer) -> None:
        trainer.loss.share = self.schedule(trainer.steps, trainer.progress)


class SigmaSchedule(Hook):
    """Lets the σ of the keypoint loss fall from `start` to `end`, by the same factor in equal times.

    A large σ pulls keypoints that are far away, a small one makes near ones exact. With a small one
    from the beginning, most keypoints are so far off that they have no gradient.

    Args:
        keypoint_loss: a `pose.KeypointLoss`; all its σ are set before each step.
        start, end: σ at the beginning and at the end of the training.
    """

    def __init__(self, keypoint_loss: KeypointLoss, start: float = 0.2, end: float = 0.05):
        if not (start > 0 and end > 0):
            raise ValueError(f"σ falls from {start} to {end}; both must be positive.")
        self.keypoint_loss, self.start, self.end = keypoint_loss, start, end

    def before_step(self, trainer: Trainer) -> None:
        sigma = self.start * (self.end / self.start) ** trainer.progress
        self.keypoint_loss.sigmas = torch.full_like(self.keypoint_loss.sigmas, sigma)
        trainer.metrics["sigma"] = sigma


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
