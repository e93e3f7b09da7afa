"""The course's teacher and losses in Ultralytics' own training.

    trainer = DetectionTrainer(overrides={"model": "yolov8n.pt", "data": "data.yaml"})  # or YOLO("yolov8n.pt")
    teach(trainer, "teacher.safetensors")
    trainer.train()

Ultralytics' model asks its `criterion` for the loss and gives it all that a teacher needs: the
batch with its images, and predictions that still hold the three maps which the head has read, the
outputs of `model.15`, `model.18` and `model.21`. So one callback puts another criterion in, when
model, average and data are ready. No hook hangs on the student, and nothing of the trainer is
replaced.

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
from . import ultralytics as bridge


def teach(
    target: Any,
    teacher: str | Path | nn.Module | Teacher,
    feature: Callable | None = ChannelWiseLoss(),  # noqa: B008 (it has no state)
    response: Callable | None = ResponseLoss,
    feature_gain: float = 10.0,
    response_gain: float = 300.0,
) -> Lesson:
    """Let a teacher take part in a training of Ultralytics'. Its terms are columns of the progress
    line and of `results.csv`.

    A checkpoint knows no teacher, so a run that is resumed has to be given its teacher again;
    without, it goes on without.

    Args:
        target: a DetectionTrainer before its `train()`, or a `YOLO`.
        teacher: what `open_teacher` takes. On several graphics cards a file, because each process
            opens it for itself.
        feature: (student's list, teacher's list) -> scalar, on the three maps that the head reads;
            None for none. CWD, for one, asks for a teacher of the student's size.
        response: (student's class names, teacher's class names) -> a loss on raw maps, such as the
            class `ResponseLoss` or `partial(ResponseLoss, kind="softmax", temperature=4)`; None for
            none.
        feature_gain, response_gain: weights of the two, to the detection loss before Ultralytics
            multiplies it by the number of images; the terms are multiplied with it. The log shows
            them not multiplied.

    Errors: DistillationError, FileNotFoundError or ValueError for a wrong teacher, before any
    training.
    """
    lesson = Lesson(teacher, feature, response, feature_gain, response_gain)
    if getattr(target, "ddp", False) and not isinstance(lesson.source, Path):
        raise DistillationError(
            "training on several graphics cards takes a process for each, which opens the teacher itself: give a file."
        )
    target.add_callback("on_pretrain_routine_end", lesson)
    return lesson


class Lesson:
    """The callback, made by `teach`. Its arguments are those of `teach`.

    Attributes:
        teacher: the `Teacher`.
        loss: the `DistillationLoss` once training has begun; its `share` may be changed on the way.
    """

    def __init__(
        self, source, feature: Callable | None, response: Callable | None, feature_gain: float, response_gain: float
    ):
        if not (feature or response):
            raise DistillationError(
                "neither a feature loss nor a response loss is given, so there is nothing to learn from a teacher."
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
        """Put the criterion into a `DetectionModel` that knows its class names."""
        head = getattr(model, "model", [None])[-1]
        levels = tuple(getattr(head, "stride", torch.empty(0)).tolist()), getattr(head, "reg_max", None)
        if type(head).__name__ != "Detect" or levels != (bridge.STRIDES, 16) or hasattr(head, "one2one_cv2"):
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
    """Ultralytics' criterion, and what a teacher adds to it.

    A copy of it, or one out of a pickle, is None, and a model whose criterion is None makes a plain
    one when it needs one. So neither the average, which is a copy that is validated and saved, nor
    anything else that is saved ever holds the teacher.
    """

    def __init__(self, detection: Callable, relay: Relay, loss: DistillationLoss):
        self.detection, self.relay, self.loss = detection, relay, loss

    def __call__(self, predictions: Any, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        images = batch["img"]
        # (3,) box, cls, dfl, each times B; the same not multiplied, detached
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
    """Says again what Ultralytics' student has just computed, under the names `NECK`, where
    `DistillationLoss` listens.
    """

    def __init__(self):
        super().__init__()
        self.neck = nn.ModuleDict({name.removeprefix("neck."): nn.Identity() for name in NECK})

    def forward(self, images: Tensor, predictions: dict[str, Any]) -> list[Tensor]:
        for layer, seen in zip(self.neck.values(), predictions["feats"], strict=True):
            layer(seen)
        return bridge.maps_of(predictions)


def open_teacher(source: str | Path | nn.Module | Teacher) -> Teacher:
    """A teacher from whatever holds one.

    Args:
        source: weights of a YOLOv8 detector that say their classes and their size: a `.safetensors`
            of this course, or a `.pt` of Ultralytics', of which nothing is executed; a
            `DetectionModel`; or a `Teacher` with the layers `NECK`.

    Errors: FileNotFoundError, ValueError, or DistillationError, in one sentence that says what the
    file lacks.
    """
    if all(hasattr(source, name) for name in ("model", "class_names", "taps")):  # a Teacher, of whatever edition
        return source
    if isinstance(source, nn.Module):
        where, weights = type(source).__name__, bridge.state_dict_for(source)
        names, outline = getattr(source, "names", {}), getattr(source, "yaml", {})
        card = {"classes": [*names.values()], "preset": {"size": outline.get("scale")}}
    else:
        where, (weights, card) = source, checkpoints.load(source)
    classes, size = card.get("classes"), card.get("preset", {}).get("size")
    if card.get("kind", "detect") != "detect" or not classes or size not in SIZES:
        raise DistillationError(
            f"{where}: cannot be a teacher, which is a YOLOv8 that detects, and says its size and its classes; this "
            f"says: {card.get('kind', 'detect')}, size {size or 'unknown'}, {len(classes or ())} classes. Take "
            "weights that Ultralytics or `yolostudy train` wrote."
        )
    model = YOLO(len(classes), size)
    try:
        transfer(weights, model, minimum_share=1.0)
    except TransferError as error:
        raise DistillationError(f"{where}: is no YOLOv8{size} detector of {len(classes)} classes: {error}") from error
    return Teacher(model, classes, NECK)
