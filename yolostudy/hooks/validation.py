"""Hooks that measure the model during training, and stop where it no longer improves."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence

from torch import nn

from ..engine import Hook, Trainer
from ..training import Precision, validate
from ..views.columns import MEASURED

HEAVY_INTERVAL = 3  # epochs between two measurements near the end, at most; YOLOv6's number


class Validation(Hook):
    """Measures average precision after every `every` epochs, and at the end of training.

    Near the end it can measure oftener. Source: YOLOv6 `yolov6/core/engine.py`, `eval_and_save`.

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
        self.model, self.loader, self.precision, self.class_names = model, loader, precision, class_names
        self.every, self.seconds_between, self.measure = every, seconds_between, measure
        self.heavy_range, self.final_only = heavy_range, final_only
        self.evaluation = None
        self.last_seconds = 0.0  # of the run, at the last measurement

    def due(self, trainer: Trainer) -> bool:
        """Whether to measure after the epoch that has just been counted. After the last: always."""
        if trainer.finished:
            return True
        late = not trainer.minutes and trainer.epochs - trainer.epoch < self.heavy_range
        every = min(HEAVY_INTERVAL, self.every) if late else self.every
        waited = trainer.seconds - self.last_seconds >= self.seconds_between
        return not self.final_only and trainer.epoch % every == 0 and waited

    def after_epoch(self, trainer: Trainer) -> None:
        for name in MEASURED:
            trainer.metrics.pop(name, None)
        if not self.due(trainer):
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
