"""Hooks that report on a training: results.csv, TensorBoard, a progress bar, live curves."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from ..boxes import predict
from ..engine import Hook, Trainer
from ..pose import PoseYOLO, predict_poses
from ..training import to_unit
from ..views.columns import COLUMNS, OPTIONAL
from .checkpoints import replace_file

MAX_PICTURES = 8  # images of a batch that TensorBoard gets


class Results(Hook):
    """Fills `trainer.metrics` with the epoch's means, and writes a row an epoch to `results.csv`.

    The whole file is written each time.
    """

    def __init__(self, path: Path | None):
        self.path = None if path is None else Path(path)
        self.rows: list[dict[str, float]] = []

    def before_epoch(self, trainer: Trainer) -> None:
        self.sums: Tensor | float = 0.0
        self.steps = self.images = 0

    def after_step(self, trainer: Trainer) -> None:
        self.sums = self.sums + torch.stack(trainer.parts)  # stays on the device, so nothing waits for it
        self.steps += 1
        self.images += len(trainer.batch.images)

    def after_epoch(self, trainer: Trainer) -> None:
        means = dict(zip(("loss", *trainer.parts._fields[1:]), (self.sums / self.steps).tolist(), strict=True))
        lr = trainer.optimizer.param_groups[0]["lr"]
        trainer.metrics |= {
            "epoch": trainer.epoch,
            "seconds": trainer.seconds,
            "images": self.images,
            "lr": lr,
            **means,
        }
        self.rows.append({name: trainer.metrics[name] for name in COLUMNS if name in trainer.metrics})
        self.write()

    def write(self) -> None:
        if self.path is not None:
            text = io.StringIO()
            columns = [name for name in COLUMNS if name not in OPTIONAL or any(name in row for row in self.rows)]
            writer = csv.DictWriter(text, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows({name: f"{value:.6g}" for name, value in row.items()} for row in self.rows)
            replace_file(self.path, lambda draft: draft.write_text(text.getvalue()))

    def state_dict(self) -> dict:
        return {"rows": self.rows}

    def load_state_dict(self, state: dict) -> None:
        self.rows = state["rows"]


class TensorBoard(Hook):
    """Writes curves and pictures for `tensorboard --logdir runs`.

    Curves: the losses and every group's learning rate at each tenth step, the rates and the row of
    each epoch. After each validation two pictures: the last training batch with its truth, and
    predictions on the first validation batch.

    Args:
        model: the model that is validated. Without it there is no picture of predictions.
        loader: its validation batches.
        pictures: draw the pictures after every so many epochs instead; 0 after each validation.
    """

    def __init__(
        self,
        folder: Path,
        model: nn.Module | None = None,
        loader=None,
        class_names: Sequence[str] | None = None,
        pictures: int = 0,
    ):
        self.folder, self.model, self.loader, self.class_names = folder, model, loader, class_names
        self.pictures, self.writer = pictures, None

    def before_train(self, trainer: Trainer) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(self.folder, purge_step=trainer.steps or None)

    def after_step(self, trainer: Trainer) -> None:
        if trainer.steps % 10 == 0:
            for name, value in trainer.parts._asdict().items():
                self.writer.add_scalar(f"step/{name}", value, trainer.steps)
            self.add_rates(trainer)

    def after_epoch(self, trainer: Trainer) -> None:
        for name, value in trainer.metrics.items():
            self.writer.add_scalar(f"epoch/{name}", value, trainer.steps)
        if trainer.steps % 10:
            self.add_rates(trainer)
        if "map50" in trainer.metrics if self.pictures == 0 else trainer.epoch % self.pictures == 0:
            self.add_picture("batch", trainer.batch, None, trainer.steps)
            if self.model is not None:
                batch = next(iter(self.loader))
                self.add_picture("predictions", batch, self.predict(batch, trainer.precision), trainer.steps)
        self.writer.flush()  # a killed run goes on after this epoch, and nothing would write it again

    def add_rates(self, trainer: Trainer) -> None:
        """The learning rate of each group of the optimizer, as `lr/0`, `lr/1` …"""
        for index, group in enumerate(trainer.optimizer.param_groups):
            self.writer.add_scalar(f"lr/{index}", group["lr"], trainer.steps)

    @torch.no_grad()
    def predict(self, batch, precision) -> list[Tensor]:
        """The rows of `boxes.predict` for each image, or of `pose.predict_poses`."""
        was_training = self.model.training
        self.model.eval()
        with precision.autocast():
            maps = self.model(to_unit(batch.images, next(self.model.parameters()).device))
        self.model.train(was_training)
        if isinstance(self.model, PoseYOLO):
            return predict_poses(maps, self.model)
        return [found.cpu() for found in predict(maps, reg_max=self.model.reg_max)]

    def add_picture(self, name: str, batch, predictions: list[Tensor] | None, step: int) -> None:
        from .. import views

        def painted(index: int):
            rows = batch.targets[:, 0] == index
            truth, found = batch.targets[rows, 1:6].numpy(), None
            keypoints = None if batch.keypoints is None else batch.keypoints[rows].numpy()
            if predictions is not None:
                found = predictions[index].numpy()
                posed = isinstance(self.model, PoseYOLO)
                keypoints = views.as_keypoints(found, self.model.keypoint_shape[0]) if posed else None
                found = found[:, :6]
            picture = batch.images[index].permute(1, 2, 0).contiguous().numpy()
            skeleton = views.skeleton_of(0 if keypoints is None else keypoints.shape[1])
            return views.paint(
                picture, found, truth, self.class_names, side=320, keypoints=keypoints, skeleton=skeleton
            )

        picture = views.sheet(map(painted, range(min(MAX_PICTURES, len(batch.images)))), columns=4)
        self.writer.add_image(name, picture, step, dataformats="HWC")

    def after_train(self, trainer: Trainer) -> None:
        if self.writer is not None:
            self.writer.close()


class Progress(Hook):
    """A progress bar for each epoch, then a line with its figures."""

    def before_epoch(self, trainer: Trainer) -> None:
        total = "" if trainer.minutes else f" of {trainer.epochs}"
        self.bar = tqdm(total=len(trainer.loader), desc=f"epoch {trainer.epoch + 1}{total}", unit="batch", leave=False)

    def after_step(self, trainer: Trainer) -> None:
        self.bar.update()
        now = time.perf_counter()
        if now - getattr(self, "shown", 0.0) > 0.5:  # reading the loss waits for the device
            self.shown = now
            self.bar.set_postfix_str(f"loss {float(trainer.parts.total):.2f}", refresh=False)

    def after_epoch(self, trainer: Trainer) -> None:
        self.bar.close()
        row = trainer.metrics
        figures = "".join(
            f"  {name} {row[key]:.3f}"
            for name, key in (("mAP50", "map50"), ("mAP50-95", "map50_95"), ("OKS AP", "oks_ap"), ("pixels", "pixels"))
            if key in row
        )
        names = trainer.parts._fields[1:] if trainer.parts else ()
        parts = " ".join(f"{name} {row[name]:.2f}" for name in names if name in row)
        tqdm.write(
            f"epoch {trainer.epoch:3d}  {trainer.seconds:6.0f} s  loss {row.get('loss', float('nan')):6.2f} "
            f"({parts}){figures}"
        )

    def after_train(self, trainer: Trainer) -> None:
        if hasattr(self, "bar"):
            self.bar.close()


class LiveCurvesHook(Hook):
    """Redraws the loss curves in place in a notebook; does nothing in a terminal."""

    def before_train(self, trainer: Trainer) -> None:
        from ..views.training.curves import LiveCurves

        self.curves = LiveCurves()

    def after_epoch(self, trainer: Trainer) -> None:
        self.curves.update(trainer.metrics)

    def after_train(self, trainer: Trainer) -> None:
        self.curves.redraw()
