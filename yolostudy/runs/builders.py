"""Build the parts of a training, each from the few values that it depends on.

`running.prepare` takes these values from a preset; a notebook or a test passes its own.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch

from .. import data
from ..bridge import checkpoints
from ..bridge.distillation import open_teacher
from ..bridge.pose_distillation import PoseTeacher
from ..data.augment import Augmentation
from ..data.loader import Loader, make_loader
from ..data.records import DetectionSet
from ..distill import NECK, ChannelWiseLoss, ResponseLoss, Teacher, attention_loss
from ..network import YOLO
from ..pose import PoseYOLO
from ..weights import TransferReport, transfer, widen_classes
from .folders import make_missing
from .presets import PresetError

# Data
# --------------------------------------------------------------------------------------------------


def open_data(name: str, split: str = "train", classes: Sequence[str] = (), on_bad: str = "fail") -> DetectionSet:
    """Open one split of a data set. Procedural planes that are missing are made first.

    Args:
        name: as `data.open_set` takes it, such as "planes-mini", "mar20", or a path.
        classes: the classes to keep; empty keeps all.
        on_bad: "fail" or "skip" bad entries.
    """
    make_missing(name)
    return data.open_set(name, split, classes=list(classes) or None, on_bad=on_bad)


def build_loader(
    detection_set: DetectionSet,
    image_size: int,
    batch: int,
    augmentation: Augmentation | None = None,
    *,
    seed: int = 0,
    workers: int | str = "auto",
    cache: str = "auto",
    rank: int = 0,
    world_size: int = 1,
    pose_targets: bool = False,
) -> Loader:
    """A loader for training if an augmentation is given, else for validation.

    Training shuffles, and leaves out the last batch if it is not full. `pose_targets` puts the
    keypoints behind the boxes in the targets, as `pose.PoseLoss` takes them.
    """
    training = augmentation is not None
    return make_loader(
        detection_set,
        image_size,
        batch,
        augmentation=augmentation,
        shuffle=training,
        seed=seed,
        workers=workers if workers == "auto" else int(workers),
        cache=cache,
        drop_last=training and len(detection_set) >= batch * world_size,
        rank=rank,
        world_size=world_size,
        pose_targets=pose_targets,
    )


# The network and its weights
# --------------------------------------------------------------------------------------------------


def choose_device(name: str = "auto") -> torch.device:
    """The device of that name; "auto" is this process's CUDA card, or the CPU without one."""
    if name == "auto":
        return torch.device("cuda", local_rank()) if torch.cuda.is_available() else torch.device("cpu")
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise PresetError(
            f"device={name}: torch finds no CUDA card on this machine. Leave the key out, or use the tag cpu."
        )
    return device


def local_rank() -> int:
    """The number of this process among those of this machine, as torchrun sets it."""
    return int(os.environ.get("LOCAL_RANK", 0))


def build_model(
    num_classes: int,
    size: str = "n",
    image_size: int = 640,
    seed: int = 0,
    keypoint_shape: tuple[int, int] | None = None,
) -> YOLO:
    """A new network on the CPU: random weights from `seed`, class biases for that image size.

    With a keypoint shape (K, d), it is a `PoseYOLO`.
    """
    torch.manual_seed(seed)
    model = PoseYOLO(num_classes, size, keypoint_shape=keypoint_shape) if keypoint_shape else YOLO(num_classes, size)
    model.head.set_prior(image_size)
    return model


def start_from(
    model: YOLO, file: str | Path, class_names: Sequence[str], part: str = "all", minimum_share: float = 0.9
) -> TransferReport:
    """Load weights into a network. What they know of a class goes to the class of the same name.

    Args:
        file: weights of this course or of Ultralytics.
        class_names: of the network.
        part: "all" or "backbone".
        minimum_share: of the weights that must fit. For training the classes may differ. For
            measuring it is 1: no weight and no class may be missing.
    """
    state, card = checkpoints.load(file)
    known = card.get("classes") or class_names
    if minimum_share == 1 and (unknown := [name for name in class_names if name not in known]):
        raise PresetError(
            f"weights {file}: they do not know {', '.join(unknown)}. Add classes={','.join(known)} to measure what "
            "they know."
        )
    if (size := card.get("preset", {}).get("size", model.size)) != model.size:
        raise PresetError(
            f"{file}: these weights are of size {size}, and the model has size {model.size}. Add size={size}, or start "
            f"from weights of size {model.size} by weights=FILE."
        )
    if part == "all" and list(known) != list(class_names):
        state = widen_classes(state, known, class_names, model)
    return transfer(state, model, part, minimum_share)


# Distillation
# --------------------------------------------------------------------------------------------------


def build_teacher(file: str | Path, layers: Sequence[str] = NECK, device: torch.device | str = "cpu") -> Teacher:
    """A frozen teacher from weights of this course or of Ultralytics.

    Args:
        file: weights that say their size and their classes.
        layers: submodules whose maps the feature loss compares.
    """
    opened = open_teacher(file)
    known = [name for name, _ in opened.model.named_modules() if name]
    if wrong := [name for name in layers if name not in known]:
        close = difflib.get_close_matches(wrong[0], known, n=3)
        raise PresetError(
            f"layers={','.join(layers)}: the network has no {wrong[0]}. It has {', '.join(close or known[:3])} and "
            "others."
        )
    model, classes = opened.model.to(device, memory_format=torch.channels_last), opened.class_names
    if isinstance(opened, PoseTeacher):
        return PoseTeacher(model, classes, opened.keypoint_names, layers)
    return Teacher(model, classes, layers)


def feature_loss(kind: str, temperature: float = 1.0) -> Callable | None:
    """The loss on maps of the network: "cwd", "attention", or "" for none."""
    return _choose("feature", kind, {"cwd": ChannelWiseLoss(temperature), "attention": attention_loss})


def response_loss(
    kind: str, class_names: Sequence[str], teacher_classes: Sequence[str], temperature: float = 1.0
) -> ResponseLoss | None:
    """The loss on class logits: "bernoulli", "softmax", or "" for none.

    Args:
        class_names, teacher_classes: of student and teacher, in the order of their class channels.
    """
    build = partial(ResponseLoss, class_names, teacher_classes, temperature=temperature)
    chosen = _choose("response", kind, {name: partial(build, kind=name) for name in ("bernoulli", "softmax")})
    return chosen and chosen()


def _choose(key: str, word: str, known: dict):
    """What a key's word stands for; None for an empty one."""
    if word and word not in known:
        raise PresetError(f"{key}={word}: unknown; choose {', '.join(known)}, or leave it empty for none.")
    return known.get(word)
