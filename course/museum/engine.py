"""Rooms of the training loop, its hooks, and its checkpoints.

Room 78 is pull request 5341 of mmdetection, room 81 issue 2145 of detectron2.
"""

import contextlib
import copy
import gc
import math
import tempfile
import weakref
from collections import namedtuple
from types import SimpleNamespace

import torch
from torch import nn

from yolostudy.study.museum import Room

from ._engine import ENGINE, Witness, small_trainer

TRAINER, EVALUATION, TEACHER = "engine.Trainer", "engine.EvaluationHook", "engine.TeacherTrainer"
SNAPSHOT, RESUME = "engine.snapshot", "engine.resume_or_load"


# ---- hooks and their trainer ---------------------------------------------------------------------

never_freed = Room(
    76,
    "memory grows with every training in the notebook",
    "The trainer holds its hooks, and a hook holds the trainer: a circle. Counting references never frees it, so the "
    "model and the optimizer wait for the collector of circles, which does not know that a small object holds a "
    "gigabyte on a card. Read what you need from the trainer that every moment passes, or keep a weak reference, as "
    "detectron2 does.",
    mistake=("engine.EvaluationHook", "the hook keeps the trainer"),
)


def evaluated(course):
    """A trainer that has trained for an epoch, with an evaluation after it."""
    hook = course.engine.EvaluationHook(lambda model: {"map50_95": 0.5})
    trainer = small_trainer([hook], epochs=1, kind=course.engine.Trainer)
    trainer.train()
    return trainer


@never_freed.look
def _(course):
    """Count the models that are left before the collector has run."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        models = [weakref.ref(evaluated(course).model) for _ in range(5)]
        left = sum(model() is not None for model in models)
    finally:
        if enabled:
            gc.enable()
    return left > 0, f"after 5 trainings {left} models are in memory"


@never_freed.find("asking the collector which objects refer to the trainer")
def _(course):
    trainer = evaluated(course)
    holders = gc.get_referrers(trainer)
    held = [
        f"{type(hook).__name__}.{name}"
        for hook in trainer.hooks
        if any(holder is hook or holder is vars(hook) for holder in holders)
        for name, value in vars(hook).items()
        if value is trainer
    ]
    return f"held by {', '.join(held) or 'no hook'}"


left_open = Room(
    77,
    "the log of the run that broke is empty, and its file is still open",
    "Training raised an exception in a step, and `after_train` was never called: it stands behind the loop and not in "
    "a `finally`. What hooks opened stays open, buffers are not written, forward hooks stay on the model. Call "
    "`after_train` in `finally`, and do not assume in it that training succeeded.",
    mistake=("engine.Trainer", "after_train is called only if all goes well"),
)


class Log(ENGINE.Hook):
    def before_train(self, trainer):
        self.file = tempfile.TemporaryFile("w")  # closed in after_train, in whatever way training ends

    def after_train(self, trainer):
        self.file.close()


def breaks(course, hook) -> None:
    """Train until a step raises."""

    def third_step_raises(model, loss, batch, optimizer, precision=None, step=0):
        if step == 2:
            raise ArithmeticError("the third batch")

    with contextlib.suppress(ArithmeticError):
        small_trainer([hook], step=third_step_raises, kind=course.engine.Trainer).train()


@left_open.look
def _(course):
    hook = Log()
    breaks(course, hook)
    closed = hook.file.closed
    hook.file.close()
    return not closed, f"a step raised; the hook's file is {'closed' if closed else 'open'}"


@left_open.find("a step that raises, and a hook that notes its moments")
def _(course):
    witness = Witness()
    breaks(course, witness)
    return " ".join(witness.seen)


one_late = Room(
    78,
    "the best weights measure worse than the log says",
    "The hook that keeps the best weights is called before the one that measures. It sees the figure of the epoch "
    "before, and keeps the weights of the epoch after. Here the trainer calls its hooks backwards; more often their "
    "list is in the wrong order. Measure first, keep last.",
    mistake=("engine.Trainer", "hooks are called backwards at the end"),
)
MAP50_95 = (0.3, 0.7, 0.5, 0.4)  # after each epoch


class Best(ENGINE.Hook):
    """Keeps the weights of the epoch with the best figure."""

    def __init__(self, figure: str = "map50_95"):
        self.figure, self.best, self.epoch, self.weights, self.log = figure, -math.inf, 0, {}, []

    def after_epoch(self, trainer):
        value = trainer.metrics.get(self.figure, -math.inf)
        self.log.append(f"epoch {trainer.epoch}: best sees {value:g}, measured {MAP50_95[trainer.epoch - 1]:g}")
        if value > self.best:
            self.best, self.epoch, self.weights = value, trainer.epoch, copy.deepcopy(trainer.model.state_dict())

    def state_dict(self):
        return {"best": self.best}

    def load_state_dict(self, state):
        self.best = state["best"]


def kept(course) -> Best:
    figures, best = iter(MAP50_95), Best()
    measure = course.engine.EvaluationHook(lambda model: {"map50_95": next(figures)})
    small_trainer([measure, best], epochs=len(MAP50_95), kind=course.engine.Trainer).train()
    return best


@one_late.look
def _(course):
    found = kept(course).epoch
    return found != 2, f"the best figure is that of epoch 2, the weights are those of epoch {found}"


@one_late.find("the log: what each hook saw in each epoch")
def _(course):
    return "\n".join(kept(course).log)


# ---- checkpoints ---------------------------------------------------------------------------------

state_lost = Room(
    79,
    "after a resume a worse epoch is kept as the best",
    "The checkpoint keeps the state of each hook under the name of its class. There are two hooks of one class, one "
    "for boxes and one for keypoints, so the second overwrote the first. Give every hook a name of its own. "
    "detectron2 keeps the first of several and warns.",
    mistake=("engine.snapshot", "hooks of one class share a place"),
)


def with_two_hooks(course):
    return small_trainer([Best("map50_95"), Best("oks_ap")], kind=course.engine.Trainer)


def interrupted(course) -> dict:
    """A checkpoint of a trainer with two hooks of one class."""
    trainer = with_two_hooks(course)
    for hook, best in zip(trainer.hooks, (0.8, 0.4), strict=True):
        hook.best = best
    return course.engine.snapshot(trainer)


@state_lost.look
def _(course):
    trainer = with_two_hooks(course)
    course.engine.resume_or_load(trainer, interrupted(course))
    boxes, points = (hook.best for hook in trainer.hooks)
    return boxes != 0.8, f"before: boxes 0.8, keypoints 0.4; after the resume: boxes {boxes:g}, keypoints {points:g}"


@state_lost.find("the keys of the hooks' states in the checkpoint")
def _(course):
    states = interrupted(course)["hooks"]
    return "2 hooks, keys: " + ", ".join(f"{name} {state['best']:g}" for name, state in states.items())


done_twice = Room(
    81,
    "a resumed run ends with other weights than an uninterrupted one",
    "The number in the checkpoint counts epochs that are done, so it is the index of the next one. The resumed run "
    "took it for the index of the last one that began, and did that again. detectron2 keeps the index of the last "
    "iteration, counted from 0, and has to go on with `iter + 1`. Know which of the two a number is.",
    mistake=("engine.resume_or_load", "an epoch is repeated"),
)
BATCH = [torch.tensor([[1.0, 2.0]])]


class Epochs(ENGINE.Hook):
    """Notes the index of each epoch."""

    def __init__(self, log: list[int]):
        self.log = log

    def before_epoch(self, trainer):
        self.log.append(trainer.epoch)


def part(course, epochs: int, log: list[int], checkpoint: dict | None = None):
    """Train to the end of some epochs, from a checkpoint where there is one."""
    model = nn.Linear(2, 1)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    trainer = small_trainer([Epochs(log)], epochs, BATCH, model=model, kind=course.engine.Trainer)
    trainer.optimizer.param_groups[0]["lr"] = 0.01
    course.engine.resume_or_load(trainer, checkpoint)
    trainer.train()
    return trainer


def resumed(course) -> tuple[float, list[int]]:
    """A weight after six epochs with an interruption after three, and the log."""
    log: list[int] = []
    checkpoint = course.engine.snapshot(part(course, 3, log))
    return part(course, 6, log, checkpoint).model.weight[0, 1].item(), log


@done_twice.look
def _(course):
    straight, found = part(course, 6, []).model.weight[0, 1].item(), resumed(course)[0]
    return straight != found, f"weight {straight:.4f} without and {found:.4f} with an interruption"


@done_twice.find("the epochs in the log")
def _(course):
    log = resumed(course)[1]
    return f"{' '.join(map(str, log))}: {len(log)} epochs, 6 were asked for"


# ---- modes ---------------------------------------------------------------------------------------

still_in_eval = Room(
    80,
    "training changes its character after the first validation",
    "Evaluation put the model into eval mode and left it there. From then on batch normalisation uses its running "
    "statistics and no longer moves them, and dropout drops nothing. The loss is finite and even falls. Restore the "
    "mode that was there before, in `finally`: an evaluation can raise too. A loop that calls `train()` once an epoch "
    "hides it if evaluation comes at the end of epochs.",
    mistake=("engine.EvaluationHook", "the mode is not given back"),
)


def modes(course) -> tuple[list[bool], int]:
    """`training` at each of six steps, and how many batches the batch normalisation has counted."""

    class Often(course.engine.EvaluationHook):
        """After every second step."""

        def due(self, trainer):
            return trainer.steps % 2 == 0

        def after_step(self, trainer):
            self.after_epoch(trainer)

    model, seen = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1)), []
    model.register_forward_pre_hook(lambda module, _: seen.append(module.training))
    hook, loader = Often(lambda model: {}), [torch.rand(4, 2) for _ in range(6)]
    small_trainer([hook], 1, loader, model=model, kind=course.engine.Trainer).train()
    return seen, model[1].num_batches_tracked.item()


@still_in_eval.look
def _(course):
    counted = modes(course)[1]
    return counted != 6, f"six steps of training, the statistics were moved by {counted}"


@still_in_eval.find("printing `.training` at each step")
def _(course):
    return " ".join(map(str, modes(course)[0]))


coarse_on_the_cpu = Room(
    82,
    "on the CPU the teacher answers with three digits",
    'A torch.device is never equal to the string "cpu", so `autocast(enabled=device != "cpu")` is always true. On the '
    "CPU the forward pass then runs in bfloat16, in a run that asked for float32. Compare `device.type`, or better: "
    "ask the precision that was chosen.",
    mistake=("engine.TeacherTrainer", "the device is compared with a word"),
)


Parts = namedtuple("Parts", "total")


def answer(course) -> torch.Tensor:
    """What a teacher answers in float32, within a step of its student."""
    answers, teacher = [], nn.Linear(64, 1, bias=False)
    nn.init.constant_(teacher.weight, 0.1)
    batch = SimpleNamespace(images=torch.arange(64, dtype=torch.uint8)[None], targets=None)
    trainer = small_trainer(
        loader=[batch],
        step=lambda model, loss, batch, optimizer, precision, step: loss(None, None),
        kind=lambda *args, **more: course.engine.TeacherTrainer(
            *args, **more, teacher=teacher, imitate=lambda maps, wanted: answers.append(wanted) or 0
        ),
    )
    trainer.loss = lambda maps, targets: Parts(0.0)
    trainer.batch = batch
    trainer.run_step(0)
    return answers[0]


@coarse_on_the_cpu.look
def _(course):
    found = answer(course).item()
    return abs(found - 0.1 * 2016 / 255) > 1e-4, f"the answer is {0.1 * 2016 / 255:.5f}, the teacher says {found:.5f}"


@coarse_on_the_cpu.find("the dtype of the answer, and the comparison by hand")
def _(course):
    return f"{answer(course).dtype}; torch.device('cpu') != 'cpu': {torch.device('cpu') != 'cpu'}"
