"""Ways to put a teacher into Ultralytics' PoseTrainer: three that look right and are not, and one.

    print(pose_teachers.run("a module of the model"))

All four add the same term to the loss, the mean squared distance of the student's raw keypoints
from the teacher's. They differ only in where the teacher lives:

- as an attribute of the model: a module inside a module is one of its parts. The trainer finds it
  there, takes its parameters as forgotten ones, and trains, averages and saves them;
- in a list, which hides it from `parameters()`: nobody trains it, but pickle writes every attribute,
  and `half()` does not find it either, so it takes twice a student's place in the file;
- in a subclass that overrides `init_criterion`: the file then names that class, and who has no such
  class cannot open it;
- in the criterion, set when all is built, which no file keeps: as `distillation.teach` does it.

Source: Ultralytics 8.4.190 `engine/trainer.py` _setup_train (freezing), save_model, `nn/tasks.py`
BaseModel.loss.
"""

from __future__ import annotations

import copy
import csv
import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..data.planes import CLASSES, KEYPOINTS
from . import scenes
from .framework import load
from .networks import build

PACKAGES = ("torch", "ultralytics", "collections", "pathlib", "numpy")  # what a plain checkpoint names


class TaughtLoss:
    """Ultralytics' criterion and one more term. A copy of it, or one read from a file, is None.

    Args:
        detection: Ultralytics' criterion.
        answer: images -> what the teacher, a `PoseModel`, says of them.
    """

    def __init__(self, detection: Callable, answer: Callable):
        self.detection, self.answer = detection, answer

    def __call__(self, predictions: Any, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        total, items = self.detection(predictions, batch)
        said = self.answer(batch["img"])
        wanted = (said if isinstance(said, dict) else said[1])["kpts"]  # in eval mode: (decoded, dict)
        term = (self.detection.parse_output(predictions)["kpts"] - wanted).square().mean()
        return torch.cat((total, term[None] * len(batch["img"]))), items | {"teach_loss": term.detach()}

    def __reduce__(self):
        return type(None), ()


# The ways. Each gets a trainer before its `train()`, and a teacher that is frozen and in eval mode.
# --------------------------------------------------------------------------------------------------


def as_module(trainer: Any, teacher: nn.Module) -> None:
    """Museum row 68: the teacher as an attribute of the model that `get_model` returns.

    The trainer asks every parameter of the model for gradients, unless `freeze` names it, and only
    warns. So a teacher that was frozen with care learns from its student.
    """
    _after_get_model(trainer, lambda model: setattr(model, "teacher", teacher))
    _with_criterion(trainer, lambda model: model.teacher)


def in_list(trainer: Any, teacher: nn.Module) -> None:
    """The teacher in a list of the model: hidden from the trainer, not from pickle."""
    _after_get_model(trainer, lambda model: setattr(model, "teachers", [teacher]))
    _with_criterion(trainer, lambda model: model.teachers[0])


def by_subclass(trainer: Any, teacher: nn.Module) -> None:
    """A subclass of `PoseModel` with an `init_criterion` of its own, and the teacher in the class."""
    made = taught_pose_model()
    made.teacher = teacher
    _after_get_model(trainer, lambda model: setattr(model, "__class__", made))


def by_criterion(trainer: Any, teacher: nn.Module) -> None:
    """The way that works: no module, average, copy or file knows the teacher."""
    _with_criterion(trainer, lambda _model: teacher)


def taught_pose_model() -> type:
    """The class `TaughtPoseModel`, made when it is first asked for, because it needs Ultralytics."""
    if "TaughtPoseModel" in globals():
        return globals()["TaughtPoseModel"]
    load()
    from ultralytics.nn.tasks import PoseModel

    class TaughtPoseModel(PoseModel):
        """A `PoseModel` whose every criterion is taught: the average's in validation too."""

        teacher: nn.Module | None = None  # of the class, so that neither `parameters()` nor pickle finds it

        def init_criterion(self):
            detection = super().init_criterion()
            return TaughtLoss(detection, self.teacher) if self.teacher is not None else detection

    TaughtPoseModel.__qualname__ = "TaughtPoseModel"  # where pickle looks for it
    globals()["TaughtPoseModel"] = TaughtPoseModel
    return TaughtPoseModel


WAYS = {
    "no teacher": None,
    "a module of the model": as_module,
    "a list of the model": in_list,
    "a subclass": by_subclass,
    "the criterion": by_criterion,
}


def _after_get_model(trainer: Any, change: Callable[[nn.Module], None]) -> None:
    get_model = trainer.get_model

    def changed(*given: Any, **named: Any) -> nn.Module:
        model = get_model(*given, **named)
        change(model)
        return model

    trainer.get_model = changed


def _with_criterion(trainer: Any, teacher_of: Callable[[nn.Module], nn.Module]) -> None:
    def begin(trainer: Any) -> None:
        model = trainer.model
        model.criterion = TaughtLoss(model.init_criterion(), teacher_of(model))

    trainer.add_callback("on_pretrain_routine_end", begin)


# What became of the teacher
# --------------------------------------------------------------------------------------------------


class Outcome(NamedTuple):
    """What one epoch left behind.

    Attributes:
        teacher_changed: whether any number of the teacher is another one than before.
        trained: numbers in the optimizer; a nano student with four keypoints has 3,086,976.
        averaged: numbers in the averaged model.
        bytes: of `best.pt`, stripped.
        strangers: names in that file that neither torch nor Ultralytics has.
        teach_loss, validation_loss: the teacher's term in training and in validation.
    """

    teacher_changed: bool
    trained: int
    averaged: int
    bytes: int
    strangers: tuple[str, ...]
    teach_loss: float
    validation_loss: float

    def __str__(self) -> str:
        return (
            f"teacher {'CHANGED' if self.teacher_changed else 'as it was'}, {self.trained:,} numbers trained, "
            f"{self.averaged:,} averaged, file {self.bytes / 1e6:.1f} MB, "
            f"{', '.join(self.strangers) or 'no stranger'} in it"
        )


def a_teacher(seed: int = 7) -> nn.Module:
    """A `PoseModel` for the scene's twenty classes and four keypoints, frozen, in eval mode.

    It is untrained: enough to see what becomes of it.
    """
    model = build("n", len(CLASSES), seed, (len(KEYPOINTS), 3)).eval().requires_grad_(False)
    model.names = dict(enumerate(CLASSES))
    model.kpt_names = {number: [*KEYPOINTS] for number in model.names}
    return model


def run(way: str, teacher: nn.Module | None = None, **overrides: Any) -> Outcome:
    """Train one epoch on four pictures with a teacher put in by one of `WAYS`. About three seconds.

    Args:
        way: a name in `WAYS`.
        teacher: a `PoseModel` for the scene's classes and keypoints, which is copied; by default
            `a_teacher()`.
        overrides: any of Ultralytics' settings.
    """
    if way not in WAYS:
        raise ValueError(f"there is no way {way!r}; choose one of {', '.join(WAYS)}")
    teacher = copy.deepcopy(teacher).eval().requires_grad_(False) if teacher is not None else a_teacher()
    before = digest(teacher)
    # without warm-up: it would begin at a rate of 0, and one epoch here is one step
    with scenes.trainer("pose", **{"warmup_epochs": 0.0} | overrides) as trainer:
        if WAYS[way]:
            WAYS[way](trainer, teacher)
        trainer.train()
        groups = trainer.optimizer.param_groups
        names = torch.serialization.get_unsafe_globals_in_checkpoint(trainer.best)
        log = _last_row(trainer.csv)
        return Outcome(
            digest(teacher) != before,
            sum(parameter.numel() for group in groups for parameter in group["params"]),
            sum(parameter.numel() for parameter in trainer.ema.ema.parameters()),
            trainer.best.stat().st_size,
            tuple(sorted(name for name in names if name.partition(".")[0] not in PACKAGES)),
            log.get("train/teach_loss", 0.0),
            log.get("val/teach_loss", 0.0),
        )


def digest(model: nn.Module) -> str:
    """A SHA-256 of all numbers of a network, running statistics included."""
    made = hashlib.sha256()
    for tensor in model.state_dict().values():
        made.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return made.hexdigest()


def _last_row(table: Any) -> dict[str, float]:
    with table.open() as file:
        return {name.strip(): float(value) for name, value in [*csv.DictReader(file)][-1].items()}
