"""Ultralytics' own trainer and validator, run on the CPU and timed.

Source: Ultralytics 8.4.190 `engine/trainer.py` BaseTrainer._do_train, `engine/validator.py`
BaseValidator.__call__.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import torch
from torch import nn

from .framework import load, process_as_found


class Epoch(NamedTuple):
    """The state at the end of one epoch. Seconds and images count from the start of training.

    Attributes:
        number: of the epoch, from 1.
        images: images trained on so far.
        wall_seconds: training, validation and saving.
        training_seconds: the training loop alone, loading included.
        map50, map50_95: of the averaged weights, on the validation split.
    """

    number: int
    images: int
    wall_seconds: float
    training_seconds: float
    map50: float
    map50_95: float


@dataclass
class FitResult:
    """What a run of Ultralytics' trainer did, and how fast.

    Attributes:
        history: one entry an epoch. Where the budget ended the run, the last may be a part of one.
        seconds: from the first batch to the end of the last epoch.
        total_seconds: with the set-up before, and the evaluation of the best weights after.
        weights: the file `best.pt`.
        settings: those of the run that make a comparison fair or unfair: optimizer, threads,
            workers, …
    """

    history: list[Epoch] = field(default_factory=list)
    seconds: float = 0.0
    total_seconds: float = 0.0
    weights: Path | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def images_per_second(self) -> float:
        """Speed of the training loop alone."""
        return self.history[-1].images / self.history[-1].training_seconds if self.history else 0.0

    def seconds_to(self, map50: float) -> float | None:
        """Wall seconds until a validation reached this mAP50; None where none did."""
        return next((epoch.wall_seconds for epoch in self.history if epoch.map50 >= map50), None)


def fit(
    data_yaml: str | Path,
    epochs: int = 100,
    imgsz: int = 640,
    batch: int = 16,
    seed: int = 0,
    project: str | Path | None = None,
    callback: Callable[[Epoch], None] | None = None,
    *,
    size: str = "n",
    stop_at_map50: float | None = None,
    budget_seconds: float | None = None,
    threads: int | None = None,
    **overrides: Any,
) -> FitResult:
    """Run Ultralytics' own trainer from random weights on the CPU, with its own defaults.

    Only the plots are off, and no weights are loaded. Its learning rate falls over `epochs`, so
    give the number that a user would, and let `stop_at_map50` or `budget_seconds` end the run.

    Args:
        data_yaml: a data set in YOLO layout.
        project: folder for the run; by default a temporary one, which stays.
        callback: called with each `Epoch`.
        size: n, s, m, l or x.
        stop_at_map50: end after the epoch whose validation reaches this.
        budget_seconds: end, with a validation, after the batch that passes this many wall seconds.
        threads: of torch. None leaves Ultralytics' own choice: one less than there are cores, at
            most 8.
        overrides: any of its settings, for example optimizer="SGD", mosaic=0.0, cache="ram".
            `workers` counts too, though on a CPU Ultralytics itself would set it to 0.
    """
    begin = time.perf_counter()
    load()
    from ultralytics.models.yolo.detect import DetectionTrainer

    folder = Path(project or tempfile.mkdtemp(prefix="yolostudy-ultralytics-")).resolve()
    settings = dict(model=f"yolov8{size}.yaml", data=str(Path(data_yaml).resolve()), project=str(folder))
    settings |= dict(epochs=epochs, imgsz=imgsz, batch=batch, seed=seed)
    settings |= dict(device="cpu", pretrained=False, plots=False)
    result = FitResult()
    with process_as_found():
        cv2.setNumThreads(0)  # as Ultralytics sets it on import
        trainer = DetectionTrainer(overrides=settings | overrides)
        if "workers" in overrides:
            trainer.args.workers = overrides["workers"]
        if threads is not None:
            torch.set_num_threads(threads)
        stopwatch = _Stopwatch(result, callback, stop_at_map50, budget_seconds)
        for event in ("train_start", "train_epoch_start", "train_batch_end", "train_epoch_end", "fit_epoch_end"):
            trainer.add_callback(f"on_{event}", getattr(stopwatch, event))
        trainer.train()
        result.settings = {
            name: getattr(trainer.args, name)
            for name in ("optimizer", "lr0", "workers", "cache", "mosaic", "close_mosaic")
        }
        result.settings |= {"threads": torch.get_num_threads(), "amp": trainer.amp, "batch": trainer.batch_size}
    result.weights = trainer.best
    result.total_seconds = time.perf_counter() - begin
    return result


class _Stopwatch:
    """Callbacks of Ultralytics' trainer, named after their events. They fill a `FitResult`.

    Where a limit is reached, they set `trainer.stop`.
    """

    def __init__(
        self, result: FitResult, callback: Callable | None, stop_at_map50: float | None, budget_seconds: float | None
    ):
        self.result, self.callback = result, callback
        self.stop_at_map50, self.budget_seconds = stop_at_map50, budget_seconds
        self.images, self.training_seconds, self.open = 0, 0.0, False

    def train_start(self, trainer: Any) -> None:
        self.begin = time.perf_counter()

    def train_epoch_start(self, trainer: Any) -> None:
        self.lap, self.batches, self.open = time.perf_counter(), 0, True

    def train_batch_end(self, trainer: Any) -> None:
        self.batches += 1
        if self.budget_seconds is not None and time.perf_counter() - self.begin >= self.budget_seconds:
            trainer.stop = True

    def train_epoch_end(self, trainer: Any) -> None:
        self.training_seconds += time.perf_counter() - self.lap
        self.images += min(self.batches * trainer.batch_size, len(trainer.train_loader.dataset))

    def fit_epoch_end(self, trainer: Any) -> None:
        if not self.open:  # called once more after the run, for the best weights
            return
        self.open = False
        self.result.seconds = time.perf_counter() - self.begin
        scores = (trainer.metrics["metrics/mAP50(B)"], trainer.metrics["metrics/mAP50-95(B)"])
        epoch = Epoch(trainer.epoch + 1, self.images, self.result.seconds, self.training_seconds, *map(float, scores))
        self.result.history.append(epoch)
        if self.stop_at_map50 is not None and epoch.map50 >= self.stop_at_map50:
            trainer.stop = True
        if self.callback is not None:
            self.callback(epoch)


class Scores(NamedTuple):
    """Average precision by Ultralytics' validator.

    Attributes:
        per_class: name -> AP at 0.50, for the classes that occur.
    """

    map50: float
    map50_95: float
    per_class: dict[str, float]


def validate(
    model: nn.Module | str | Path, data_yaml: str | Path, imgsz: int = 640, batch: int = 16, **overrides: Any
) -> Scores:
    """Average precision by Ultralytics' validator, on the CPU and on the validation split.

    Args:
        model: a `DetectionModel`, or the path of a `.pt` file.
    """
    load()
    from ultralytics.models.yolo.detect import DetectionValidator

    settings = dict(data=str(Path(data_yaml).resolve()), imgsz=imgsz, batch=batch, device="cpu", plots=False)
    with process_as_found(), tempfile.TemporaryDirectory() as folder:
        cv2.setNumThreads(0)
        validator = DetectionValidator(save_dir=Path(folder), args=settings | overrides)
        stats = validator(model=model if isinstance(model, nn.Module) else str(model))
    box = validator.metrics.box
    per_class = {validator.names[int(index)]: float(ap) for index, ap in zip(box.ap_class_index, box.ap50, strict=True)}
    return Scores(stats["metrics/mAP50(B)"], stats["metrics/mAP50-95(B)"], per_class)
