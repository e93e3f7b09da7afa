"""The course's teacher and losses in Ultralytics' own training.

    # or model = YOLO("yolov8n.pt")
    trainer = DetectionTrainer(overrides={"model": "yolov8n.pt", "data": "data.yaml"})
    teach(trainer, "teacher.safetensors")
    trainer.train()

Ultralytics' model calls its `criterion` for the loss and gives it everything that a teacher needs:
the batch with its images, and predictions that still hold the three input maps of the head, the
outputs of `model.15`, `model.18` and `model.21`. So one callback replaces the criterion, once
model, average and data are ready. The student gets no hook, and nothing in the trainer is replaced.

Source: Ultralytics 8.4.190 `nn/tasks.py` BaseModel.loss, `nn/modules/head.py` Detect.forward_head,
`engine/trainer.py` _setup_train.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..distill import NECK, ChannelWiseLoss, DistillationError, DistillationLoss, ResponseLoss, Teacher
from ..losses import LossParts
from ..network import SIZES, YOLO
from ..weights import TransferError, transfer
from . import checkpoints
from .networks import STRIDES, maps_of, state_dict_for


def teach(
    target: Any,
    teacher: str | Path | nn.Module | Teacher,
    feature: Callable | None = ChannelWiseLoss(),  # noqa: B008 (it has no state)
    response: Callable | None = ResponseLoss,
    feature_gain: float = 10.0,
    response_gain: float = 300.0,
) -> Lesson:
    """Add a teacher to a training of Ultralytics'.

    Its terms are columns of the progress line and of `results.csv`. A checkpoint does not hold the
    teacher: call this again before a run is resumed, or it goes on without one.

    Args:
        target: a DetectionTrainer before its `train()`, or a `YOLO`.
        teacher: as for `open_teacher`. On several graphics cards it must be a file, because each
            process opens it for itself.
        feature: (student's list, teacher's list) -> scalar, on the three input maps of the head;
            None for none. CWD needs a teacher of the student's size.
        response: (student's class names, teacher's class names) -> a loss on raw maps, such as the
            class `ResponseLoss` or `partial(ResponseLoss, kind="softmax", temperature=4)`; None for
            none.
        feature_gain, response_gain: weights of the two terms beside the detection loss. Ultralytics
            multiplies all terms by the number of images; its log shows them not multiplied.

    Errors: DistillationError, FileNotFoundError or ValueError for a wrong teacher, before training
    begins.
    """
    lesson = Lesson(teacher, feature, response, feature_gain, response_gain)
    if getattr(target, "ddp", False) and not isinstance(lesson.source, Path):
        raise DistillationError("on several graphics cards each process opens the teacher itself: give a file.")
    target.add_callback("on_pretrain_routine_end", lesson)
    return lesson


class Lesson:
    """The callback that `teach` adds. Arguments as for `teach`.

    Attributes:
        teacher: the `Teacher`.
        loss: the `DistillationLoss` once training has begun. Its `share` may be changed meanwhile.
    """

    def __init__(
        self, source, feature: Callable | None, response: Callable | None, feature_gain: float, response_gain: float
    ):
        if not (feature or response):
            raise DistillationError(
                "neither a feature loss nor a response loss is given, so the teacher has no effect: give one."
            )
        self.source = Path(source).resolve() if isinstance(source, str | Path) else source
        self.losses, self.gains = (feature, response), (feature_gain, response_gain)
        self.teacher, self.loss = open_teacher(self.source), None

    def __reduce__(self):
        return Lesson, (self.source, *self.losses, *self.gains)  # for the processes of a distributed run

    def __call__(self, trainer: Any) -> None:
        from ultralytics.utils.torch_utils import unwrap_model

        self.attach(unwrap_model(trainer.model))

    def attach(self, model: nn.Module) -> None:
        """Replace the criterion of a `DetectionModel` that knows its class names."""
        head = getattr(model, "model", [None])[-1]
        levels = tuple(getattr(head, "stride", torch.empty(0)).tolist()), getattr(head, "reg_max", None)
        if type(head).__name__ != "Detect" or levels != (STRIDES, 16) or hasattr(head, "one2one_cv2"):
            raise DistillationError(
                f"a {type(model).__name__} with a head of type {type(head).__name__} cannot be taught: take a "
                "detector with strides 8, 16, 32, sixteen bins and one head, such as YOLOv8 or YOLO11, and no "
                "distill_model= beside it."
            )
        feature, make_response = self.losses
        response = make_response([*model.names.values()], self.teacher.class_names) if make_response else None
        self.teacher.model.to(head.stride.device)
        relay = Relay()
        self.loss = DistillationLoss(lambda _maps, done: done, relay, self.teacher, feature, response, *self.gains)
        model.criterion = TaughtCriterion(model.init_criterion(), relay, self.loss)


class TaughtCriterion:
    """Ultralytics' criterion with the teacher's terms.

    A copy of it, or one read from a pickle, is None, and a model whose criterion is None makes a
    plain one when it needs it. So no saved file ever holds the teacher, nor does the averaged
    model, which is a copy.
    """

    def __init__(self, detection: Callable, relay: Relay, loss: DistillationLoss):
        self.detection, self.relay, self.loss = detection, relay, loss

    def __call__(self, predictions: Any, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        images = batch["img"]
        # total (3,): box, cls, dfl, each times B; items: the same, not multiplied, detached
        total, items = self.detection(predictions, batch)
        maps = self.relay(images, self.detection.parse_output(predictions))
        parts = self.loss(maps, LossParts(total.sum(), *total))
        named = (("feat_loss", self.loss.feature, parts.feature), ("resp_loss", self.loss.response, parts.response))
        terms = {name: term for name, asked_for, term in named if asked_for}
        items |= {name: term.detach() for name, term in terms.items()}
        return torch.cat((total, torch.stack([*terms.values()]) * len(images))), items

    def __reduce__(self):
        return type(None), ()


class Relay(nn.Module):
    """Repeats the maps of Ultralytics' student under the names `NECK`.

    `DistillationLoss` hooks the layers of those names.
    """

    def __init__(self):
        super().__init__()
        self.neck = nn.ModuleDict({name.removeprefix("neck."): nn.Identity() for name in NECK})

    def forward(self, images: Tensor, predictions: dict[str, Any]) -> list[Tensor]:
        for layer, seen in zip(self.neck.values(), predictions["feats"], strict=True):
            layer(seen)
        return maps_of(predictions)


def open_teacher(source: str | Path | nn.Module | Teacher) -> Teacher:
    """A teacher from a file, a model, or a `Teacher`.

    Args:
        source: weights of a YOLOv8 detector with its classes and its size: a `.safetensors` of this
            course, or a `.pt` of Ultralytics', of which nothing is executed; a `DetectionModel`; or
            a `Teacher` with the layers `NECK`.

    Errors: FileNotFoundError, ValueError or DistillationError, with a sentence that says what the
    file lacks.
    """
    if all(hasattr(source, name) for name in ("model", "class_names", "taps")):  # a Teacher, of any edition
        return source
    if isinstance(source, nn.Module):
        where, weights = type(source).__name__, state_dict_for(source)
        names, outline = getattr(source, "names", {}), getattr(source, "yaml", {})
        card = {"classes": [*names.values()], "preset": {"size": outline.get("scale")}}
    else:
        where, (weights, card) = source, checkpoints.load(source)
    classes, size = card.get("classes"), card.get("preset", {}).get("size")
    if card.get("kind", "detect") != "detect" or not classes or size not in SIZES:
        raise DistillationError(
            f"{where}: cannot be a teacher. A teacher is a YOLOv8 detector that knows its size and its classes; this "
            f"one says: {card.get('kind', 'detect')}, size {size or 'unknown'}, {len(classes or ())} classes. Take "
            "weights that Ultralytics or `yolostudy train` wrote."
        )
    model = YOLO(len(classes), size)
    try:
        transfer(weights, model, minimum_share=1.0)
    except TransferError as error:
        raise DistillationError(f"{where}: is no YOLOv8{size} detector of {len(classes)} classes: {error}") from error
    return Teacher(model, classes, NECK)
