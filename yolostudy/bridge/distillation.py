"""The course's teacher and losses in Ultralytics' own training.

    # or model = YOLO("yolov8n.pt"); or PoseTrainer and yolov8n-pose.pt
    trainer = DetectionTrainer(overrides={"model": "yolov8n.pt", "data": "data.yaml"})
    teach(trainer, "teacher.safetensors")
    trainer.train()

Ultralytics' model calls its `criterion` for the loss and gives it everything that a teacher needs:
the batch with its images, and predictions that still hold the three input maps of the head, the
outputs of `model.15`, `model.18` and `model.21`. So one callback replaces the criterion, once
model, average and data are ready. The student gets no hook, and nothing in the trainer is replaced.
`pose_teachers` has the ways that do not work.

Source: Ultralytics 8.4.190 `nn/tasks.py` BaseModel.loss, `nn/modules/head.py` Detect.forward_head
and Pose.forward_head, `engine/trainer.py` _setup_train.
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
from ..pose import PoseParts, PoseYOLO
from ..weights import TransferError, transfer
from . import checkpoints
from .networks import STRIDES, maps_of, state_dict_for
from .pose_distillation import KEYPOINT_GAIN, PoseDistillationLoss, PoseTeacher, check_keypoints, keypoint_response

# column of Ultralytics' log -> part of our loss; a column is at most eleven characters wide
COLUMNS = {"feat_loss": "feature", "resp_loss": "response", "kresp_loss": "keypoint"}


def teach(
    target: Any,
    teacher: str | Path | nn.Module | Teacher,
    feature: Callable | None = ChannelWiseLoss(),  # noqa: B008 (it has no state)
    response: Callable | None = ResponseLoss,
    feature_gain: float = 10.0,
    response_gain: float = 300.0,
    keypoint: Callable | None = keypoint_response,
    keypoint_gain: float = KEYPOINT_GAIN,
) -> Lesson:
    """Add a teacher to a training of Ultralytics'.

    Its terms are columns of the progress line and of `results.csv`. A checkpoint does not hold the
    teacher: call this again before a run is resumed, or it goes on without one.

    Args:
        target: a DetectionTrainer or PoseTrainer before its `train()`, or a `YOLO`.
        teacher: as for `open_teacher`. On several graphics cards it must be a file, because each
            process opens it for itself.
        feature: (student's list, teacher's list) -> scalar, on the three input maps of the head;
            None for none. CWD needs a teacher of the student's size.
        response: (student's class names, teacher's class names) -> a loss on raw maps, such as the
            class `ResponseLoss` or `partial(ResponseLoss, kind="softmax", temperature=4)`; None for
            none.
        feature_gain, response_gain: weights of the two terms beside the detection loss. Ultralytics
            multiplies all terms by the number of images; its log shows them not multiplied.
        keypoint, keypoint_gain: for a pose network alone: a function with the arguments of
            `pose_distillation.keypoint_response`, None for none, and its weight.

    Errors: DistillationError, FileNotFoundError or ValueError for a wrong teacher, before training
    begins. A pose network is taught by a pose network with its `kpt_shape` and, where both know the
    names of their keypoints, the same names in the same order.
    """
    lesson = Lesson(teacher, feature, response, feature_gain, response_gain, keypoint, keypoint_gain)
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
        self,
        source,
        feature: Callable | None,
        response: Callable | None,
        feature_gain: float,
        response_gain: float,
        keypoint: Callable | None = keypoint_response,
        keypoint_gain: float = KEYPOINT_GAIN,
    ):
        self.source = Path(source).resolve() if isinstance(source, str | Path) else source
        self.losses, self.gains = (feature, response), (feature_gain, response_gain)
        self.keypoint, self.keypoint_gain = keypoint, keypoint_gain
        self.teacher, self.loss = open_teacher(self.source), None
        if not (feature or response or (keypoint and self.teaches_keypoints)):
            raise DistillationError(
                "neither a feature loss nor a response loss is given, so the teacher has no effect: give one."
            )

    @property
    def teaches_keypoints(self) -> bool:
        return getattr(self.teacher.model, "keypoint_shape", None) is not None

    def __reduce__(self):  # for the processes of a distributed run
        return Lesson, (self.source, *self.losses, *self.gains, self.keypoint, self.keypoint_gain)

    def __call__(self, trainer: Any) -> None:
        from ultralytics.utils.torch_utils import unwrap_model

        self.attach(unwrap_model(trainer.model))

    def attach(self, model: nn.Module) -> None:
        """Replace the criterion of a network that knows its class names.

        Args:
            model: a `DetectionModel`, or a `PoseModel` with a teacher of keypoints.
        """
        head = getattr(model, "model", [None])[-1]
        levels = tuple(getattr(head, "stride", torch.empty(0)).tolist()), getattr(head, "reg_max", None)
        kind = type(head).__name__
        if kind not in ("Detect", "Pose") or levels != (STRIDES, 16) or hasattr(head, "one2one_cv2"):
            raise DistillationError(
                f"a {type(model).__name__} with a head of type {kind} cannot be taught: take a detector or a pose "
                "network with strides 8, 16, 32, sixteen bins and one head, such as YOLOv8 or YOLO11, and no "
                "distill_model= beside it."
            )
        if kind == "Pose":
            names = checkpoints.names_of_keypoints(getattr(model, "kpt_names", None))
            check_keypoints(head.kpt_shape, names, self.teacher)
        elif self.teaches_keypoints:
            raise DistillationError("the teacher is a pose network and the student a detector: take a detector.")
        elif (self.keypoint, self.keypoint_gain) not in ((keypoint_response, KEYPOINT_GAIN), (None, KEYPOINT_GAIN)):
            raise DistillationError(
                "keypoint= and keypoint_gain= are for a pose network, and the student is a detector."
            )
        feature, make_response = self.losses
        response = make_response([*model.names.values()], self.teacher.class_names) if make_response else None
        self.teacher.model.to(head.stride.device)
        relay = Relay()
        losses, gains = [feature, response], [*self.gains]
        if kind == "Pose":
            losses.append(self.keypoint)
            gains.append(self.keypoint_gain)
        made = PoseDistillationLoss if kind == "Pose" else DistillationLoss
        self.loss = made(lambda _maps, done: done, relay, self.teacher, *losses, *gains)
        given = {name for name, loss in zip(COLUMNS, losses) if loss}
        model.criterion = TaughtCriterion(model.init_criterion(), relay, self.loss, given)


class TaughtCriterion:
    """Ultralytics' criterion with the teacher's terms.

    A copy of it, or one read from a pickle, is None, and a model whose criterion is None makes a
    plain one when it needs it. So no saved file ever holds the teacher, nor does the averaged
    model, which is a copy.
    """

    def __init__(self, detection: Callable, relay: Relay, loss: DistillationLoss, columns: set[str]):
        self.detection, self.relay, self.loss, self.columns = detection, relay, loss, columns

    def __call__(self, predictions: Any, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        images = batch["img"]
        # total (3,): box, cls, dfl, or (5,): box, pose, visibility, cls, dfl, each times B
        # items: the same, not multiplied, detached
        total, items = self.detection(predictions, batch)
        maps = self.relay(images, self.detection.parse_output(predictions))
        parts = self.loss(maps, (LossParts if len(total) == 3 else PoseParts)(total.sum(), *total))
        terms = {name: getattr(parts, part) for name, part in COLUMNS.items() if name in self.columns}
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
        source: weights of a YOLOv8 detector or pose network with its classes, its size and, for
            pose, its keypoint shape: a `.safetensors` of this course, or a `.pt` of Ultralytics',
            of which nothing is executed; a `DetectionModel` or `PoseModel`; or a `Teacher` with the
            layers `NECK`.

    Returns:
        A `Teacher`, or a `PoseTeacher` for a pose network.

    Errors: FileNotFoundError, ValueError or DistillationError, with a sentence that says what the
    file lacks.
    """
    if all(hasattr(source, name) for name in ("model", "class_names", "taps")):  # a Teacher, of any edition
        return source
    if isinstance(source, nn.Module):
        where, weights = type(source).__name__, state_dict_for(source)
        names, outline = getattr(source, "names", {}), getattr(source, "yaml", {})
        card = {"classes": [*names.values()], "preset": {"size": outline.get("scale")}}
        card["keypoint_shape"] = getattr(source, "kpt_shape", None)
        card["keypoint_names"] = checkpoints.names_of_keypoints(getattr(source, "kpt_names", None))
    else:
        where, (weights, card) = source, checkpoints.load(source)
    classes, size, shape = card.get("classes"), card.get("preset", {}).get("size"), card.get("keypoint_shape")
    kind = card.get("kind") or ("pose" if shape else "detect")
    if kind not in ("detect", "pose") or (kind == "pose") != bool(shape) or not classes or size not in SIZES:
        raise DistillationError(
            f"{where}: cannot be a teacher. A teacher is a YOLOv8 detector that knows its size and its classes, or a "
            f"pose network that knows its keypoint shape too; this one says: {kind}, size {size or 'unknown'}, "
            f"{len(classes or ())} classes, keypoint shape {shape or 'none'}. Take weights that Ultralytics or "
            "`yolostudy train` wrote."
        )
    model = PoseYOLO(len(classes), size, keypoint_shape=tuple(shape)) if shape else YOLO(len(classes), size)
    try:
        transfer(weights, model, minimum_share=1.0)
    except TransferError as error:
        what = f"pose network with keypoints {tuple(shape)}" if shape else "detector"
        raise DistillationError(f"{where}: is no YOLOv8{size} {what} of {len(classes)} classes: {error}") from error
    return PoseTeacher(model, classes, card.get("keypoint_names") or ()) if shape else Teacher(model, classes, NECK)
