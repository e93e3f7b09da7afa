"""Hooks that measure the model during training, and stop where it no longer improves."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence

from torch import nn

from ..engine import EvaluationHook, Hook, Trainer
from ..training import Precision, validate
from ..views.columns import MEASURED


class Validation(EvaluationHook):
    """Measures average precision after every `every` epochs, and at the end of training.

    Near the end it can measure oftener; see `engine.EvaluationHook`.

    Args:
        model: the model to measure: the averaged one, where there is one.
        loader: validation batches.
        seconds_between: the least time between two measurements, so that short epochs do not spend
            their time on them.
        measure: (model, loader, precision, class names) -> an object with `figures`, a dict of
            numbers for the log; `training.validate` or `runs.poses.validate_poses`.
        heavy_range: within so many epochs of the end it measures at least every third epoch. It has
            no effect where the end is set in minutes.
        final_only: measure after the last epoch only.

    Attributes:
        evaluation: the last one, with curves and classes.
    """

    def __init__(
        self,
        model: nn.Module,
        loader,
        precision: Precision | None = None,
        class_names: Sequence[str] | None = None,
        every: int = 1,
        seconds_between: float = 0.0,
        measure: Callable = validate,
        heavy_range: int = 0,
        final_only: bool = False,
    ):
        super().__init__(model=model, interval=every, heavy_range=heavy_range, final_only=final_only)
        self.loader, self.precision, self.class_names = loader, precision, class_names
        self.seconds_between, self.measure = seconds_between, measure
        self.evaluation = None
        self.last_seconds = 0.0  # of the run, at the last measurement

    def due(self, trainer: Trainer) -> bool:
        """As `EvaluationHook` says, and `seconds_between` have passed or the run is at its end."""
        waited = trainer.seconds - self.last_seconds >= self.seconds_between
        return super().due(trainer) and (waited or trainer.finished)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        started = time.perf_counter()
        self.evaluation = self.measure(model, self.loader, self.precision, self.class_names)
        return {**self.evaluation.figures, "val_seconds": time.perf_counter() - started}

    def after_epoch(self, trainer: Trainer) -> None:
        for name in MEASURED:
            trainer.metrics.pop(name, None)
        super().after_epoch(trainer)
        if "val_seconds" in trainer.metrics:
            self.last_seconds = trainer.seconds

    def state_dict(self) -> dict:
        return {"last_seconds": self.last_seconds}

    def load_state_dict(self, state: dict) -> None:
        self.last_seconds = state["last_seconds"]


def fitness(metrics: Mapping[str, float]) -> float:
    """The number by which the best epoch is chosen: mAP50–95; with keypoints, plus their AP by OKS.

    Minus infinity in an epoch that was not measured.
    """
    return metrics.get("map50_95", -math.inf) + metrics.get("oks_ap", 0.0)


class EarlyStop(Hook):
    """Ends training when `fitness` has not risen for `patience` epochs.

    It decides after epochs that were measured; others say nothing about the model.
    """

    def __init__(self, patience: int = 50):
        self.patience, self.best, self.best_epoch = patience, -math.inf, 0

    def after_epoch(self, trainer: Trainer) -> None:
        if fitness(trainer.metrics) == -math.inf:
            return
        if fitness(trainer.metrics) > self.best:
            self.best, self.best_epoch = fitness(trainer.metrics), trainer.epoch
        elif trainer.epoch - self.best_epoch >= self.patience:
            measure = "mAP50-95 + OKS AP" if "oks_ap" in trainer.metrics else "mAP50-95"
            trainer.stop_reason = (
                f"no better {measure} than {self.best:.3f} of epoch {self.best_epoch} in {self.patience} epochs"
            )

    def state_dict(self) -> dict:
        return {"best": self.best, "best_epoch": self.best_epoch}

    def load_state_dict(self, state: dict) -> None:
        self.best, self.best_epoch = state["best"], state["best_epoch"]
