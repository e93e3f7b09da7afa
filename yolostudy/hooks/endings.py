"""Hooks for the last epochs of a training: plain augmentation, kept weights, a stripped checkpoint.

The last epochs are counted back from `trainer.epochs`, so a run that ends by the clock has none.
Source: YOLOv6 `yolov6/core/engine.py` (`prepare_for_steps`, `eval_and_save`, `strip_model`).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from ..engine import Hook, Trainer
from .checkpoints import epoch_card, load_weights, replace_file, save_weights

NO_STRONG = {"mosaic": 0.0, "degrees": 0.0, "translate": 0.0, "scale": 0.0, "shear": 0.0}


def _refuse_clock(hook: Hook, trainer: Trainer) -> None:
    """ValueError where the end is set in minutes: nobody knows then which epochs are the last."""
    if trainer.minutes:
        name = type(hook).__name__
        raise ValueError(f"{name} counts epochs from the end, and minutes end this run. Give epochs, or leave it out.")


class PlainAugmentation(Hook):
    """Turns the strong augmentation off in the last epochs: mosaic and affine map.

    Flips, quarter turns and colours stay. The model then sees images as it will meet them. YOLOv6
    turns mosaic and mixup off (`stop_aug_last_n_epoch`), Ultralytics mosaic (`close_mosaic`). After
    training the loader is as it was before.

    Args:
        epochs: how many last epochs.

    Errors: ValueError in a run that ends by the clock; TypeError for a loader whose augmentation
        cannot be changed. Both come before training.
    """

    def __init__(self, epochs: int):
        self.epochs, self.strong = epochs, None

    def before_train(self, trainer: Trainer) -> None:
        _refuse_clock(self, trainer)
        if not hasattr(trainer.loader, "set_augmentation"):
            raise TypeError(
                f"PlainAugmentation needs a loader with set_augmentation, as data.loader.make_loader gives; this is a "
                f"{type(trainer.loader).__name__}."
            )
        self.strong = trainer.loader.dataset.augmentation

    def before_epoch(self, trainer: Trainer) -> None:
        # >= and not ==, because a resumed run may begin in the middle of the last epochs
        if self.strong is not None and trainer.epoch >= trainer.epochs - self.epochs:
            plain = replace(self.strong, **NO_STRONG)
            if trainer.loader.dataset.augmentation != plain:  # each change starts new worker processes
                trainer.loader.set_augmentation(plain)

    def after_train(self, trainer: Trainer) -> None:
        if self.strong is not None:
            trainer.loader.set_augmentation(self.strong)


class KeepLast(Hook):
    """Keeps the weights of each of the last epochs, as `epoch_NNN.safetensors`.

    NNN is the number of the epoch, from 001. Put it before `Checkpoint`: an epoch that `last.pt`
    counts as done then has its file, whenever the process is killed.

    Args:
        folder: of the run.
        model: the model to save: the averaged one, where there is one.
        card: plain values that are saved with the weights.
        epochs: how many last epochs (YOLOv6: `save_ckpt_on_last_n_epoch`).

    Errors: ValueError in a run that ends by the clock.
    """

    def __init__(self, folder: Path, model: nn.Module, card: dict, epochs: int):
        self.folder, self.model, self.card, self.epochs = Path(folder), model, card, epochs

    def before_train(self, trainer: Trainer) -> None:
        _refuse_clock(self, trainer)

    def after_epoch(self, trainer: Trainer) -> None:
        if trainer.epoch > trainer.epochs - self.epochs:
            path = self.folder / f"epoch_{trainer.epoch:03d}.safetensors"
            save_weights(path, self.model, epoch_card(self.card, trainer))


class Strip(Hook):
    """Leaves only the weights in `last.pt` when training is complete, as float16.

    These are the averaged weights, where there are some. Optimizer, scaler and states of the hooks
    go, so `hooks.resume` refuses the file. Put it after `Checkpoint`. A run that was killed after
    its last epoch is stripped when it is resumed.

    Args:
        folder: of the run.

    Attributes:
        sizes: bytes before and after; None before the end.
    """

    def __init__(self, folder: Path):
        self.path, self.sizes = Path(folder) / "last.pt", None

    def before_train(self, trainer: Trainer) -> None:
        self.after_epoch(trainer)

    def after_epoch(self, trainer: Trainer) -> None:
        if not trainer.finished or not self.path.exists():
            return
        state = torch.load(self.path, map_location="cpu", weights_only=True)
        if state["trainer"]["epoch"] != trainer.epoch:  # an older one is all that there is to go on from
            return
        last = self.path.with_name("last.safetensors")
        card = load_weights(last)[1] if last.exists() else {}
        weights = state["hooks"].get("Averaging", state)["model"]
        stripped = {"model": _as_half(weights), "trainer": state["trainer"], "card": card, "stripped": True}
        before = self.path.stat().st_size
        replace_file(self.path, lambda draft: torch.save(stripped, draft))
        self.sizes = before, self.path.stat().st_size
        before, after = (f"{size / 1e6:.1f} MB" for size in self.sizes)
        tqdm.write(f"{self.path}: {before}, stripped to {after}: weights in half precision, no optimizer")


def _as_half(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in weights.items()}
