"""Hooks that measure the model during training, and stop where it no longer improves."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence

from torch import nn

from ..engine import Hook, Trainer
from ..training import Precision, validate
from ..views.columns import MEASURED


class Validation(Hook):
    """Measures average precision after every `every` epochs, and at the end of training.

    Args:
        model: the model to measure: the averaged one, where there is one.
        loader: validation batches.
        seconds_between: the least time between two measurements, so that short epochs do not spend
            their time on them.
        measure: (model, loader, precision, class names) -> an object with `figures`, a dict of
            numbers for the log; `training.validate` or `runs.poses.validate_poses`.

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
    ):
        self.model, self.loader, self.precision, self.class_names = model, loader, precision, class_names
        self.every, self.seconds_between, self.measure = every, seconds_between, measure
        self.evaluation = None
        self.last_seconds = 0.0  # of the run, at the last measurement

    def after_epoch(self, trainer: Trainer) -> None:
        for name in MEASURED:
            trainer.metrics.pop(name, None)
        due = trainer.epoch % self.every == 0 and trainer.seconds - self.last_seconds >= self.seconds_between
        if not (due or trainer.finished):
            return
        started = time.perf_counter()
        self.evaluation = self.measure(self.model, self.loader, self.precision, self.class_names)
        trainer.metrics |= {**self.evaluation.figures, "val_seconds": time.perf_counter() - started}
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
    """Ends training when `fitness` has not risen for `patience` epochs."""

    def __init__(self, patience: int = 50):
        self.patience, self.best, self.best_epoch = patience, -math.inf, 0

    def after_epoch(self, trainer: Trainer) -> None:
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
