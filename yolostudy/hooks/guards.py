"""Hooks that stop training before a broken number reaches the weights."""

from __future__ import annotations

from pathlib import Path

import torch

from ..engine import Hook, Trainer, bare
from ..losses import LossParts
from .checkpoints import replace_file


class NonFiniteLoss(FloatingPointError):
    """A loss became NaN or infinite. The message says where.

    Attributes:
        path: the file with the batch, or None.
        parts: the losses of that batch.
    """

    def __init__(self, message: str, path: Path | None, parts: LossParts):
        super().__init__(message)
        self.path, self.parts = path, parts


class NaNGuard(Hook):
    """Stops training at the first non-finite loss, before its backward pass changes the weights.

    The batch and the weights are kept in the run folder. To replay them:

        kept = torch.load(path, weights_only=True)
        loss(model(to_unit(kept["images"], "cpu")), kept["targets"])

    Args:
        folder: where to keep the batch; None keeps nothing.
    """

    def __init__(self, folder: Path | None):
        self.folder = None if folder is None else Path(folder)
        self.handle = None

    def before_train(self, trainer: Trainer) -> None:
        self.handle = trainer.loss.register_forward_hook(lambda _loss, _inputs, parts: self.check(trainer, parts))

    def after_train(self, trainer: Trainer) -> None:
        if self.handle is not None:
            self.handle.remove()

    def check(self, trainer: Trainer, parts: LossParts) -> None:
        if torch.isfinite(parts.total):
            return
        values = {name: value.item() for name, value in parts._asdict().items()}
        broken = [
            f"{name} loss {value}"
            for name, value in values.items()
            if not torch.isfinite(torch.tensor(value)) and name != "total"
        ]
        images = [str(record.image) for record in getattr(trainer.batch, "records", [])]
        path = None if self.folder is None else self._keep(trainer, images, values)
        where = f"epoch {trainer.epoch + 1}, step {trainer.steps + 1}"
        kept_as = f" The batch and the weights before it are kept in {path}." if path else ""
        listed = ", ".join(images[:4]) + (f" and {len(images) - 4} more" if len(images) > 4 else "")
        raise NonFiniteLoss(
            f"{where}: {', '.join(broken) or 'the sum of the losses is not finite'}. Images: {listed}.{kept_as}",
            path,
            parts,
        )

    def _keep(self, trainer: Trainer, images: list[str], losses: dict[str, float]) -> Path:
        batch, path = trainer.batch, self.folder / "nan_batch.pt"
        kept = {"images": batch.images, "targets": batch.targets, "names": images, "losses": losses}
        kept |= {"epoch": trainer.epoch, "step": trainer.steps, "model": bare(trainer.model).state_dict()}
        replace_file(path, lambda draft: torch.save(kept, draft))
        return path
