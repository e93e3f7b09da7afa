"""`yolostudy train` and `yolostudy val`: a preset becomes data, a model, hooks and a run folder."""

from __future__ import annotations

import ctypes
import difflib
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from .. import data, hooks
from ..bridge import checkpoints
from ..bridge.distillation import open_teacher
from ..data.augment import Augmentation
from ..data.loader import Loader, make_loader
from ..data.records import DataError, DetectionSet
from ..distill import ChannelWiseLoss, DistillationLoss, ResponseLoss, Teacher, attention_loss
from ..engine import Trainer
from ..losses import DetectionLoss
from ..metrics import Evaluation
from ..network import YOLO
from ..training import Precision, WarmupCosine, build_optimizer, train_step, validate
from ..weights import transfer, widen_classes
from .presets import Preset, PresetError, from_dict, to_dict


@dataclass
class Run:
    """A finished or prepared run."""

    preset: Preset
    folder: Path
    trainer: Trainer
    validation: hooks.Validation
    class_names: tuple[str, ...]

    @property
    def evaluation(self) -> Evaluation | None:
        return self.validation.evaluation


def keep_freed_memory() -> None:
    """Let freed tensors stay with the process, so that a step need not ask the system for the same
    memory again.

    Sixty steps of `planes mini` then make 161,000 page faults instead of 733,000, and a step takes
    one to nine percent less. Only glibc has these switches (malloc/malloc.h: M_MMAP_MAX,
    M_TRIM_THRESHOLD); elsewhere nothing happens.
    """
    if sys.platform == "linux":
        change = getattr(ctypes.CDLL(None), "mallopt", None)
        if change is not None:
            change(-4, 0)
            change(-1, 2**31 - 1)


def runs_folder() -> Path:
    """Where run folders live: `runs` under YOLOSTUDY_HOME, or under the working directory."""
    return Path(os.environ.get("YOLOSTUDY_HOME", ".")) / "runs"


def open_data(preset: Preset, split: str) -> DetectionSet:
    """The split of the preset's data; procedural planes that are not there yet are made first."""
    spec = preset.data
    if spec == "planes":
        from ..data import planes

        spec = f"planes-{preset.profile}"
        if data.find(spec) is None:
            planes.make(data.datasets_folder() / spec, preset.profile)
    return data.open_set(spec, split, classes=list(preset.classes) or None, on_bad=preset.on_bad)


def build_model(preset: Preset, class_names: Sequence[str], minimum_share: float = 0.9) -> nn.Module:
    """The network on its device, seeded, with the preset's weights if it names any; what they know
    of a class goes to its namesake.

    Args:
        minimum_share: of the weights that have to fit. To train on, the class layer may be another;
            to measure (1), nothing may be missing, no class either.
    """
    torch.manual_seed(preset.seed)
    model = YOLO(len(class_names), preset.size)
    model.head.set_prior(preset.image_size)
    if source := preset.weights or preset.teacher:
        state, card = checkpoints.load(source)
        known = card.get("classes") or class_names
        if minimum_share == 1 and (unknown := [name for name in class_names if name not in known]):
            remedy = f"Add classes={','.join(known)} to measure what they know."
            raise PresetError(f"weights {source}: they do not know {', '.join(unknown)}. {remedy}")
        if (size := card.get("preset", {}).get("size", preset.size)) != preset.size:
            remedy = f"Add size={size}" + ("" if preset.weights else (f", or weights=FILE of size {preset.size} to "
                                                                      "start "
                                                                      "from "
                                                                     "instead"))
            raise PresetError(f"{source}: weights of size {size}, and the model has size {preset.size}. {remedy}.")
        if preset.part == "all" and list(known) != list(class_names):
            state = widen_classes(state, known, class_names, model)
        report = transfer(state, model, preset.part, minimum_share)
        print(f"weights {source}: {report}")
    elif preset.part == "backbone":
        raise PresetError("the tag pretrained needs weights: add weights=FILE, such as one of datasets/weights/.")
    return model.to(device_of(preset), memory_format=torch.channels_last)


def build_teacher(preset: Preset, device: torch.device) -> Teacher:
    """The preset's teacher, on a device: weights of this course or of Ultralytics that say their
    size and their classes.
    """
    opened = open_teacher(preset.teacher)
    known = [name for name, _ in opened.model.named_modules() if name]
    if wrong := [name for name in preset.layers if name not in known]:
        close = difflib.get_close_matches(wrong[0], known, n=3)
        raise PresetError(
            f"layers={','.join(preset.layers)}: the network has no {wrong[0]}. It has "
            f"{', '.join(close or known[:3])} and others."
        )
    return Teacher(opened.model.to(device, memory_format=torch.channels_last), opened.class_names, preset.layers)


def build_loss(preset: Preset, model: nn.Module, class_names: Sequence[str]) -> nn.Module:
    """The detection loss, and round it what the preset's teacher adds."""
    loss = DetectionLoss(model, cls_gain=preset.cls_gain)
    if not preset.teacher:
        if preset.feature or preset.response:
            raise PresetError("distillation needs a teacher: add teacher=FILE. `yolostudy train planes.nano.teacher` "
                              "trains one.")
        return loss
    teacher = build_teacher(preset, device_of(preset))
    feature = choose("feature", preset.feature, {"cwd": ChannelWiseLoss(preset.feature_temperature), "attention": attention_loss})
    make_response = partial(ResponseLoss, class_names, teacher.class_names, temperature=preset.response_temperature)
    make = choose("response", preset.response, {kind: partial(make_response, kind=kind) for kind in ("bernoulli", "softmax")})
    return DistillationLoss(loss, model, teacher, feature, make and make(), preset.feature_gain, preset.response_gain)


def choose(key: str, word: str, known: dict):
    """What a key's word stands for; nothing for an empty one."""
    if word and word not in known:
        raise PresetError(f"{key}={word}: unknown; choose {', '.join(known)}, or leave it empty for none.")
    return known.get(word)


def device_of(preset: Preset) -> torch.device:
    if preset.device != "auto":
        device = torch.device(preset.device)
        if device.type == "cuda" and not torch.cuda.is_available():
            raise PresetError(f"device={preset.device}: this machine has no CUDA card. Leave the key out, or take the "
                              "tag cpu.")
        return device
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if torch.cuda.is_available() else torch.device("cpu")


def augmentation_of(preset: Preset) -> Augmentation:
    return Augmentation(
        mosaic=preset.mosaic,
        flip_lr=preset.flip_lr,
        flip_ud=preset.flip_ud,
        quarter_turns=preset.quarter_turns,
        degrees=preset.degrees,
        scale=preset.scale,
        translate=preset.translate,
        hsv=(preset.hsv_h, preset.hsv_s, preset.hsv_v),
    )


def loader_of(preset: Preset, detection_set: DetectionSet, training: bool, rank: int = 0, world_size: int = 1) -> Loader:
    return make_loader(
        detection_set,
        preset.image_size,
        preset.batch,
        augmentation=augmentation_of(preset) if training else None,
        shuffle=training,
        seed=preset.seed,
        workers=preset.workers if preset.workers == "auto" else int(preset.workers),
        cache=preset.cache,
        drop_last=training and len(detection_set) >= preset.batch * world_size,
        rank=rank,
        world_size=world_size,
    )


def prepare(preset: Preset, folder: Path, extra_hooks: Sequence = ()) -> Run:
    """Everything that training needs, in the state in which it begins."""
    keep_freed_memory()
    rank, world_size = (int(os.environ.get(name, default)) for name, default in (("RANK", 0), ("WORLD_SIZE", 1)))
    if world_size > 1 and preset.minutes:
        raise PresetError("minutes= works with one process, because each process has its own clock; give epochs= under "
                          "torchrun.")
    train_set, val_set = (open_data(preset, split) for split in (preset.split, "validation"))
    if train_set.class_names != val_set.class_names:
        raise DataError(
            f"{train_set.name}: the training split has classes {train_set.class_names}, the validation split "
            f"{val_set.class_names}."
        )
    model = build_model(preset, train_set.class_names)
    device = device_of(preset)
    precision = Precision(device, preset.precision)
    optimizer = build_optimizer(model, preset.rate, preset.weight_decay, preset.optimizer)
    # a copy, made before anything listens
    averaging = hooks.Averaging(model, preset.ema, preset.ema_ramp) if preset.ema else None
    loss = build_loss(preset, model, train_set.class_names)
    judged = averaging.average.model if averaging else model
    if world_size > 1:
        model = DistributedDataParallel(
            model,
            device_ids=[device.index] if device.type == "cuda" else None,
            find_unused_parameters=preset.freeze_epochs > 0,  # a frozen backbone sends no gradients
        )
    names = train_set.class_names
    validation = hooks.Validation(judged, loader_of(preset, val_set, False), precision, names, seconds_between=preset.validate_seconds)
    card = {"classes": list(names), "preset": to_dict(preset)}
    chief = rank == 0
    parts = [
        hooks.NaNGuard(folder if chief else None),
        hooks.Schedule(WarmupCosine(preset.warmup, preset.final))
        if preset.schedule == "cosine"
        else hooks.Plateau(warmup_steps=preset.warmup),
        hooks.Freezing("backbone", preset.freeze_epochs) if preset.freeze_epochs else None,
        hooks.Fading(preset.distill_final) if preset.teacher and preset.distill_final < 1 else None,
        averaging,
        validation,
        hooks.EarlyStop(preset.patience) if preset.patience else None,
        hooks.Results(folder / "results.csv" if chief else None),
        hooks.Progress() if chief else None,
        hooks.TensorBoard(folder / "tensorboard", judged, validation.loader, names) if chief and preset.tensorboard else None,
        *(extra_hooks if chief else ()),
        hooks.Checkpoint(folder, judged, card, preset.save_seconds) if chief else None,
    ]
    loader = loader_of(preset, train_set, True, rank, world_size)
    step = partial(train_step, clip=preset.clip, accumulate=preset.accumulate)
    trainer = Trainer(
        model, loss, loader, optimizer, step, precision, [part for part in parts if part], preset.epochs, preset.minutes or None
    )
    return Run(preset, folder, trainer, validation, names)


def new_folder(preset: Preset) -> Path:
    """A run folder that is not there yet; a run of the same name before it keeps its own."""
    number, folder = 1, runs_folder() / preset.run_name
    while folder.exists():
        number += 1
        folder = runs_folder() / f"{preset.run_name}-{number}"
    return folder


def find_run(preset: Preset | None, folder: str) -> Path:
    """The run to go on with: the named folder, else the newest one of the preset's name."""
    if folder:
        found = next((path for path in (Path(folder), runs_folder() / folder) if (path / "preset.json").is_file()), None)
        if found is None:
            raise PresetError(f"{folder}: this is no run folder; a run has a preset.json. Runs live under "
                              f"{runs_folder()}.")
        return found
    name = preset.run_name if preset else ""
    candidates = [path.parent for path in runs_folder().glob(f"{name}*/preset.json")]
    if not candidates:
        raise PresetError(f"there is no run {name!r} under {runs_folder()} to go on with. Start it without --resume.")
    return max(candidates, key=lambda path: path.stat().st_mtime)


def train(preset: Preset, folder: Path | None = None, extra_hooks: Sequence = ()) -> Run:
    """Train as a preset says; in a folder that holds a run already, go on with it.

    Returns the finished run. `run.evaluation` has its figures; the folder has `best.safetensors`,
    `last.safetensors`, `last.pt`, `results.csv`, `preset.json` and TensorBoard's files.
    """
    distributed = int(os.environ.get("WORLD_SIZE", 1)) > 1 and not torch.distributed.is_initialized()
    if distributed:
        torch.distributed.init_process_group("nccl" if device_of(preset).type == "cuda" else "gloo")
    try:
        if distributed:
            if torch.distributed.get_rank() == 0:
                open_data(preset, "validation")  # makes planes that are not there yet; the others wait for them
            torch.distributed.barrier()
        folder = folder or new_folder(preset)
        run = prepare(preset, folder, extra_hooks)
        if int(os.environ.get("RANK", 0)) == 0:
            for draft in folder.glob(".*.part"):  # of a run that was killed while it wrote
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


def read_preset(folder: Path) -> Preset:
    return from_dict(json.loads((folder / "preset.json").read_text()))


def val(preset: Preset, split: str = "validation") -> tuple[Evaluation, DetectionSet]:
    """Average precision of the preset's weights on a split of its data."""
    if not preset.weights:
        raise PresetError("val needs weights: add weights=FILE, such as runs/NAME/best.safetensors or one of "
                          "datasets/weights/.")
    detection_set = open_data(preset, split)
    model = build_model(preset, detection_set.class_names, minimum_share=1.0)
    return validate(
        model, loader_of(preset, detection_set, False), Precision(device_of(preset), preset.precision), detection_set.class_names
    ), detection_set


def table(evaluation: Evaluation, detection_set: DetectionSet, title: str) -> str:
    """Figures of all classes and of each, as text."""
    lines = [f"{detection_set.name}, {title}: {len(detection_set)} images, {detection_set.object_count} objects", ""]
    lines.append(f"{'class':<10} {'objects':>8} {'AP50':>7} {'AP50-95':>8} {'precision':>10} {'recall':>7}")
    row = "{:<10} {:>8} {:>7.3f} {:>8.3f} {:>10.3f} {:>7.3f}"
    lines += [row.format(c.name, c.truths, c.ap50, c.ap50_95, c.precision, c.recall) for c in evaluation.per_class]
    lines.append(f"{'all':<10} {detection_set.object_count:>8} {evaluation.map50:>7.3f} {evaluation.map50_95:>8.3f}")
    return "\n".join(lines)


def summary(run: Run) -> str:
    """What a finished run came to, and what to do with it."""
    trainer, reason = run.trainer, f" ({run.trainer.stop_reason})" if run.trainer.stop_reason else ""
    figures = ("mAP50 {map50:.3f}, mAP50-95 {map50_95:.3f}").format(**trainer.metrics) if "map50" in trainer.metrics else "not measured"
    best = run.folder / "best.safetensors"
    return (
        f"{trainer.epoch} epochs in {trainer.seconds:.0f} s{reason}: {figures}. Weights and curves: {run.folder}\n"
        f"Look at it: yolostudy predict weights={best} FOLDER"
    )
