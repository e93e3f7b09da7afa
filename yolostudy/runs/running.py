"""Train and validate as a preset says: data, network, loss and hooks become a run."""

from __future__ import annotations

import ctypes
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from .. import hooks
from ..bridge.dfl_distillation import DflDistillationLoss
from ..bridge.pose_distillation import PoseDistillationLoss, check_keypoints, keypoint_response
from ..data.loader import Loader
from ..data.records import DataError, DetectionSet
from ..distill import DistillationLoss
from ..engine import Hook, Trainer
from ..losses import DetectionLoss
from ..metrics import Evaluation
from ..network import YOLO
from ..pose import PoseLoss
from ..training import Precision, WarmupCosine, build_optimizer, train_step, validate
from . import anchor_aid, builders
from .conflicts import check_epochs
from .folders import new_run
from .poses import validate_poses
from .presets import Preset, PresetError, to_dict
from .scaling import scaled
from .sync_bn import synchronise

MAX_WARNINGS = 3  # of a data set that a run prints


@dataclass
class Run:
    """A run that is ready to train, or has trained. Printed, it says what came out of it."""

    preset: Preset
    folder: Path
    trainer: Trainer
    validation: hooks.Validation
    class_names: tuple[str, ...]

    @property
    def evaluation(self) -> Evaluation | None:
        """The last validation."""
        return self.validation.evaluation

    def __str__(self) -> str:
        trainer, metrics = self.trainer, self.trainer.metrics
        reason = f" ({trainer.stop_reason})" if trainer.stop_reason else ""
        epochs = "1 epoch" if trainer.epoch == 1 else f"{trainer.epoch} epochs"
        figures = "not measured"
        if "map50" in metrics:
            figures = f"mAP50 {metrics['map50']:.3f}, mAP50-95 {metrics['map50_95']:.3f}"
        return (
            f"{epochs} in {trainer.seconds:.0f} s{reason}: {figures}. Weights and curves: {self.folder}\n"
            f"Look at it: yolostudy predict weights={self.folder / 'best.safetensors'} FOLDER"
        )


# Preparing
# --------------------------------------------------------------------------------------------------


def prepare(preset: Preset, folder: Path, extra_hooks: Sequence[Hook] = ()) -> Run:
    """Build everything that a training needs, in its state before the first step."""
    check_epochs(preset)
    keep_freed_memory()
    rank, world_size = _rank(), _world_size()
    if world_size > 1 and preset.minutes:
        raise PresetError(
            "minutes= works with one process only, because each process has its own clock. Give epochs= under torchrun."
        )
    train_set, val_set = _training_data(preset)
    names, device = train_set.class_names, builders.choose_device(preset.device)
    model = _model(preset, train_set, device)
    precision = Precision(device, preset.precision)
    loader = _training_loader(preset, train_set, rank, world_size)
    recipe = scaled(preset, len(loader), world_size)
    optimizer = build_optimizer(model, recipe.rate, recipe.weight_decay, recipe.optimizer)
    # the average copies the model, so it is made before the loss attaches listeners to the model
    averaging = hooks.Averaging(model, preset.ema, preset.ema_ramp, preset.ema_attributes) if preset.ema else None
    loss = _loss(preset, model, train_set, device)
    loss, aids = anchor_aid.aided(preset, loss, model, optimizer, train_set)
    if recipe.warmup_bias_rate:
        hooks.separate_biases(optimizer, nn.ModuleList([model, loss]))
    validation = hooks.Validation(
        averaging.average.model if averaging else model,
        _validation_loader(preset, val_set),
        precision,
        names,
        preset.eval_interval,
        preset.validate_seconds,
        heavy_range=preset.heavy_eval_range,
        final_only=preset.eval_final_only,
        measure=_measure(preset, val_set),
    )
    trainer = Trainer(
        _distributed(model, device, preset.freeze_epochs > 0, preset.sync_bn) if world_size > 1 else model,
        loss,
        loader,
        optimizer,
        partial(train_step, clip=preset.clip, accumulate=preset.accumulate),
        precision,
        aids + _hooks(recipe, averaging, validation, _card(preset, train_set), None if rank else folder, extra_hooks),
        preset.epochs,
        preset.minutes or None,
    )
    return Run(preset, folder, trainer, validation, names)


def keep_freed_memory() -> None:
    """Let the process keep the memory of freed tensors for the next step.

    Sixty steps of `planes mini` then make 161,000 page faults instead of 733,000, and a step takes
    one to nine percent less time. Only glibc has these switches (malloc/malloc.h: M_MMAP_MAX,
    M_TRIM_THRESHOLD); on other systems this does nothing.
    """
    if sys.platform == "linux":
        change = getattr(ctypes.CDLL(None), "mallopt", None)
        if change is not None:
            change(-4, 0)
            change(-1, 2**31 - 1)


def _rank() -> int:
    """The number of this process among all that train together, as torchrun sets it."""
    return int(os.environ.get("RANK", 0))


def _world_size() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", 1))


def _open(preset: Preset, split: str) -> DetectionSet:
    return builders.open_data(preset.data_name, split, preset.classes, preset.on_bad)


def _training_data(preset: Preset) -> tuple[DetectionSet, DetectionSet]:
    """The images to train on and the images to validate on; both must have the same classes."""
    train_set, val_set = _open(preset, preset.split), _open(preset, "validation")
    for warning in train_set.warnings[:MAX_WARNINGS]:
        print(f"warning: {warning}", file=sys.stderr)
    if len(train_set.warnings) > MAX_WARNINGS:
        print(f"{len(train_set.warnings)} warnings in all; `yolostudy data check` lists them", file=sys.stderr)
    if train_set.class_names != val_set.class_names:
        raise DataError(
            f"{train_set.name}: the training split has classes {train_set.class_names}, the validation split "
            f"{val_set.class_names}. Give both the same classes, or choose classes that both have by classes=."
        )
    return train_set, val_set


def _keypoint_names(preset: Preset, detection_set: DetectionSet) -> tuple[str, ...]:
    """The names of the keypoints that a pose run learns; none for a plain detector."""
    if preset.task != "pose":
        return ()
    if not detection_set.keypoint_names:
        raise DataError(
            f"{detection_set.name}: it has no keypoints, which task=pose needs. Take data with keypoints (planes has "
            "them; in YOLO format data.yaml states kpt_shape), or leave the tag pose out."
        )
    return detection_set.keypoint_names


def _model(preset: Preset, detection_set: DetectionSet, device: torch.device, minimum_share: float = 0.9) -> YOLO:
    """The network on its device, with the weights to start from.

    A student without `weights` starts from its teacher's.
    """
    names, keypoints = detection_set.class_names, _keypoint_names(preset, detection_set)
    shape = (len(keypoints), 3) if keypoints else None
    model = builders.build_model(len(names), preset.size, preset.image_size, preset.seed, shape)
    if source := preset.weights or preset.teacher:
        print(f"weights {source}: {builders.start_from(model, source, names, preset.part, minimum_share)}")
    elif preset.part == "backbone":
        raise PresetError("the tag pretrained needs weights: add weights=FILE, such as one of datasets/weights/.")
    return model.to(device, memory_format=torch.channels_last)


def _loss(preset: Preset, model: nn.Module, train_set: DetectionSet, device: torch.device) -> nn.Module:
    """The loss of the task; with a teacher, the distillation loss around it."""
    if preset.task == "pose":
        sigmas = [preset.sigma] * model.keypoint_shape[0]
        loss = PoseLoss(model, sigmas, preset.pose_gain, preset.visibility_gain, cls_gain=preset.cls_gain)
    else:
        loss = DetectionLoss(model, cls_gain=preset.cls_gain)
    if not preset.teacher:
        if preset.feature or preset.response or preset.dfl_gain:
            raise PresetError(
                "distillation needs a teacher: add teacher=FILE. `yolostudy train planes.nano.teacher` trains one."
            )
        return loss
    teacher = builders.build_teacher(preset.teacher, preset.layers, device)
    feature = builders.feature_loss(preset.feature, preset.feature_temperature)
    names, temperature = train_set.class_names, preset.response_temperature
    response = builders.response_loss(preset.response, names, teacher.class_names, temperature)
    gains = {"feature_gain": preset.feature_gain, "response_gain": preset.response_gain}
    if preset.task == "pose":
        check_keypoints(model.keypoint_shape, train_set.keypoint_names, teacher)
        keypoint = keypoint_response if preset.keypoint_gain else None
        gains["keypoint_gain"] = preset.keypoint_gain
        loss = PoseDistillationLoss(loss, model, teacher, feature, response, keypoint, **gains)
    else:
        loss = DistillationLoss(loss, model, teacher, feature, response, **gains)
    return DflDistillationLoss(loss, model, preset.dfl_gain, preset.dfl_temperature) if preset.dfl_gain else loss


def _measure(preset: Preset, detection_set: DetectionSet) -> Callable:
    """The function that measures a model on validation batches."""
    if keypoints := _keypoint_names(preset, detection_set):
        return partial(validate_poses, sigmas=preset.metric_sigma or None, keypoint_names=keypoints)
    return validate


def _card(preset: Preset, train_set: DetectionSet) -> dict:
    """What is saved with the weights: everything that is needed to use them."""
    card = {"classes": list(train_set.class_names), "preset": to_dict(preset)}
    if keypoints := _keypoint_names(preset, train_set):
        card |= {"keypoint_shape": [len(keypoints), 3], "keypoint_names": list(keypoints)}
        card |= {"flip_index": list(train_set.flip_index)}
    return card


def _distributed(model: nn.Module, device: torch.device, frozen: bool, sync_bn: bool) -> DistributedDataParallel:
    """The model, wrapped so that all processes average their gradients.

    Args:
        frozen: whether part of the model has no gradient, for which the wrapper must not wait.
        sync_bn: whether it normalises over the batches of all processes.
    """
    if sync_bn:
        model = synchronise(model)
    device_ids = [device.index] if device.type == "cuda" else None
    return DistributedDataParallel(model, device_ids=device_ids, find_unused_parameters=frozen)


def _training_loader(preset: Preset, train_set: DetectionSet, rank: int, world_size: int) -> Loader:
    return builders.build_loader(
        train_set,
        preset.image_size,
        preset.batch,
        preset.augmentation,
        seed=preset.seed,
        workers=preset.workers,
        cache=preset.cache,
        rank=rank,
        world_size=world_size,
        pose_targets=preset.task == "pose",
    )


def _validation_loader(preset: Preset, val_set: DetectionSet) -> Loader:
    return builders.build_loader(
        val_set, preset.image_size, preset.batch, seed=preset.seed, workers=preset.workers, cache=preset.cache
    )


def _hooks(
    preset: Preset,
    averaging: hooks.Averaging | None,
    validation: hooks.Validation,
    card: dict,
    folder: Path | None,
    extra_hooks: Sequence[Hook],
) -> list[Hook]:
    """The hooks of a run, in the order in which they act.

    Args:
        card: saved with the weights.
        folder: of the run; None in every process but the first, which alone writes and prints.
    """
    cosine = preset.schedule == "cosine"
    parts = [
        hooks.NaNGuard(folder),
        hooks.Schedule(WarmupCosine(preset.warmup, preset.final))
        if cosine
        else hooks.Plateau(warmup_steps=preset.warmup),
        *_warmup_hooks(preset),
        hooks.Freezing("backbone", preset.freeze_epochs) if preset.freeze_epochs else None,
        hooks.PlainAugmentation(preset.plain_epochs) if preset.plain_epochs else None,
        hooks.Fading(preset.distill_final) if preset.teacher and preset.distill_final < 1 else None,
        hooks.SigmaSchedule(preset.sigma, preset.sigma_final) if preset.task == "pose" else None,
        averaging,
        validation,
        hooks.EarlyStop(preset.patience) if preset.patience else None,
        hooks.Results(folder and folder / "results.csv"),
    ]
    if folder:
        judged, names = validation.model, validation.class_names
        parts += [
            hooks.Progress(),
            hooks.TensorBoard(folder / "tensorboard", judged, validation.loader, names, preset.batch_pictures)
            if preset.tensorboard
            else None,
            *extra_hooks,
            # before the checkpoint: what that counts as done has its files
            hooks.KeepLast(folder, judged, card, preset.keep_last) if preset.keep_last else None,
            hooks.Checkpoint(folder, judged, card, preset.save_seconds, preset.plain_epochs),
            hooks.Strip(folder) if preset.strip else None,
        ]
    return [part for part in parts if part]


def _warmup_hooks(preset: Preset) -> list[Hook]:
    """What warms up besides the rate; behind the hook that sets the rate."""
    parts: list[Hook] = []
    if preset.warmup_momentum or preset.warmup_bias_rate:
        schedule = WarmupCosine(0, preset.final) if preset.schedule == "cosine" else None
        parts.append(hooks.Warmup(preset.warmup_momentum, preset.warmup_bias_rate, preset.warmup, schedule))
    if preset.nominal_batch:
        batch = preset.batch * _world_size()
        parts.append(hooks.GrowingAccumulation(preset.nominal_batch, batch, preset.warmup))
    return parts


# Training and measuring
# --------------------------------------------------------------------------------------------------


def train(preset: Preset, folder: Path | None = None, extra_hooks: Sequence[Hook] = ()) -> Run:
    """Train as a preset says. In a folder that holds an interrupted run, continue that run.

    Returns the finished run. `run.evaluation` has its figures; the folder has `best.safetensors`,
    `last.safetensors`, `last.pt`, `results.csv`, `preset.json` and TensorBoard's files; with
    `plain_epochs` also `best_plain.safetensors`, with `keep_last` some `epoch_NNN.safetensors`.
    """
    distributed = _world_size() > 1 and not torch.distributed.is_initialized()
    if distributed:
        on_cuda = builders.choose_device(preset.device).type == "cuda"
        torch.distributed.init_process_group("nccl" if on_cuda else "gloo")
    try:
        if distributed:
            if torch.distributed.get_rank() == 0:
                _open(preset, "validation")  # makes planes that are missing; the other processes wait for them
            torch.distributed.barrier()
        folder = folder or new_run(preset.run_name)
        run = prepare(preset, folder, extra_hooks)
        if _rank() == 0:
            for draft in folder.glob(".*.part"):  # left by a run that was killed while it wrote
                draft.unlink()
            settings = json.dumps(to_dict(preset), indent=1)
            hooks.replace_file(folder / "preset.json", lambda draft: draft.write_text(settings + "\n"))
        if (folder / "last.pt").exists():
            hooks.resume(run.trainer, folder / "last.pt")
        run.trainer.train()
        return run
    finally:
        if distributed:
            torch.distributed.destroy_process_group()


def val(preset: Preset, split: str = "validation") -> tuple[Evaluation, DetectionSet]:
    """Measure the average precision of the preset's weights on a split of its data."""
    if not preset.weights:
        raise PresetError(
            "val needs weights: add weights=FILE, such as runs/NAME/best.safetensors or one of datasets/weights/."
        )
    detection_set, device = _open(preset, split), builders.choose_device(preset.device)
    model = _model(preset, detection_set, device, minimum_share=1.0)
    loader, precision = _validation_loader(preset, detection_set), Precision(device, preset.precision)
    measure = _measure(preset, detection_set)
    return measure(model, loader, precision, detection_set.class_names), detection_set
