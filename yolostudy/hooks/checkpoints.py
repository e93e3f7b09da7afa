"""Saving and resuming. A file is either the old one or the new one, whatever happens in between.

`last.pt` holds everything that an interrupted run needs to continue as if it had not stopped. It
contains only tensors and plain values, so it opens with `weights_only`. `best.safetensors`,
`best_plain.safetensors` and `last.safetensors` hold the averaged weights and a card.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save as safetensors_bytes
from torch import Tensor, nn

from ..engine import Hook, Trainer, bare, resume_or_load, snapshot
from ..views.columns import FIGURES
from .validation import fitness


class SaveError(OSError):
    """A file could not be written. The message says which, why, and what is still there."""


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file beside its place, flush it to the disk, then move it there in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(draft)
        with open(draft, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(draft, path)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        kept = (
            f"The file of that name from before is untouched: {path}."
            if path.exists()
            else "There was no file of that name before."
        )
        raise SaveError(
            f"{path}: could not be written ({error}). {kept} Free some disk space, then go on with --resume."
        ) from error
    finally:
        draft.unlink(missing_ok=True)


def save_weights(path: Path, model: nn.Module, card: dict, half: bool = False) -> None:
    """Write a model's weights as safetensors, with a card of plain values in the header.

    Args:
        half: store floats as float16: half the size, and 3 digits instead of 7.
    """
    tensors = {
        name: tensor.detach()
        .cpu()
        .to(torch.float16 if half and tensor.is_floating_point() else tensor.dtype)
        .contiguous()
        for name, tensor in bare(model).state_dict().items()
    }
    data = safetensors_bytes(tensors, metadata={"card": json.dumps(card)})
    replace_file(path, lambda draft: draft.write_bytes(data))


def load_weights(path: str | Path) -> tuple[dict[str, Tensor], dict]:
    """Weights and card of a safetensors file. Nothing in it is executed.

    The card is empty where another program wrote the file.

    Errors: FileNotFoundError and ValueError, each with a sentence that says what to do.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: there is no such weights file. Train one with `yolostudy train`, or look in datasets/weights/."
        )
    try:
        with safe_open(path, framework="pt") as file:
            card = json.loads((file.metadata() or {}).get("card", "{}"))
            return {name: file.get_tensor(name) for name in file.keys()}, card
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"{path}: cannot be read as weights ({reason}). Give a .safetensors file; `yolostudy weights import` "
            "makes one of a .pt."
        ) from error


class Checkpoint(Hook):
    """Writes `last.pt` after each epoch, and the averaged weights when they are the best so far.

    Args:
        folder: of the run.
        model: the model to save: the averaged one, where there is one.
        card: plain values that are saved with the weights: preset, class names, size.
        every_seconds: write `last.pt` at most once in that time, except at the end, so that short
            epochs do not spend their time on writing.
        plain_epochs: the best weights of so many last epochs are `best_plain.safetensors` as well.
            `PlainAugmentation` takes the strong augmentation out of these epochs. YOLOv6 names the
            file `best_stop_aug_ckpt`.
    """

    def __init__(self, folder: Path, model: nn.Module, card: dict, every_seconds: float = 0.0, plain_epochs: int = 0):
        self.folder, self.model, self.card, self.every_seconds = Path(folder), model, card, every_seconds
        self.plain_epochs = plain_epochs
        self.best, self.best_plain, self.saved_at = -math.inf, -math.inf, 0.0

    def after_epoch(self, trainer: Trainer) -> None:
        card, score = epoch_card(self.card, trainer), fitness(trainer.metrics)
        if score > self.best:
            self.best = score
            save_weights(self.folder / "best.safetensors", self.model, card)
        plain = self.plain_epochs and trainer.epoch > trainer.epochs - self.plain_epochs
        if plain and score > self.best_plain:
            self.best_plain = score
            save_weights(self.folder / "best_plain.safetensors", self.model, card)
        if trainer.finished:
            save_weights(self.folder / "last.safetensors", self.model, card)
        if trainer.finished or trainer.seconds - self.saved_at >= self.every_seconds:
            self.saved_at = trainer.seconds
            state = snapshot(trainer)
            replace_file(self.folder / "last.pt", lambda draft: torch.save(state, draft))

    def state_dict(self) -> dict:
        return {"best": self.best, "best_plain": self.best_plain}

    def load_state_dict(self, state: dict) -> None:
        self.best, self.best_plain = state["best"], state.get("best_plain", -math.inf)  # older files have no second


def epoch_card(card: dict, trainer: Trainer) -> dict:
    """The card of weights that are saved after this epoch: its number, the time and the figures."""
    figures = {name: trainer.metrics[name] for name in FIGURES if name in trainer.metrics}
    return card | {"epoch": trainer.epoch, "seconds": round(trainer.seconds, 1)} | figures


def resume(trainer: Trainer, path: Path) -> None:
    """Put a trainer in the state of a checkpoint.

    Its model, optimizer and hooks must have been made as they were for that run.

    Errors: ValueError for a file that cannot be read, and for one that `Strip` has stripped.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"{path}: cannot be read as a checkpoint ({str(error).splitlines()[0]}). Start the run again."
        ) from error
    if state.get("stripped"):
        raise ValueError(
            f"{path}: this run is complete, and its checkpoint was stripped (strip=true), so it has no state of the "
            f"optimizer to go on from. Start a new run from its weights by weights={path}."
        )
    resume_or_load(trainer, state)
