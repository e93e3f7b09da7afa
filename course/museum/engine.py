"""Rooms of the training loop and its hooks.

Room 78 is pull request 5341 of mmdetection, room 81 issue 2145 of detectron2.
"""

import contextlib
import copy
import gc
import math
import tempfile
import weakref

import torch
from torch import nn

from yolostudy.study.museum import Room

from ._engine import ENGINE, Witness, small_trainer

Hook = ENGINE.Hook


# ---- hooks and their trainer ---------------------------------------------------------------------


class Owner(Hook):
    def before_train(self, trainer):
        self.trainer = trainer


class Watcher(Hook):
    def before_train(self, trainer):
        self.trainer = weakref.proxy(trainer)


never_freed = Room(
    76,
    "memory grows with every training in the notebook",
    "The trainer holds its hooks, and a hook holds the trainer: a circle. Counting references never frees it, so the "
    "model and the optimizer wait for the collector of circles, which does not know that a small object holds a "
    "gigabyte on a card. Read what you need from the trainer that every moment passes, or keep a weak reference, as "
    "detectron2 does.",
    broken=Owner,
    fixed=Watcher,
)


def alive(hook: type, trainings: int = 5) -> int:
    """How many models are still there after some trainings, before the collector has run."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        models = []
        for _ in range(trainings):
            trainer = small_trainer([hook()], epochs=1)
            trainer.train()
            models.append(weakref.ref(trainer.model))
            del trainer
        return sum(model() is not None for model in models)
    finally:
        if enabled:
            gc.enable()


@never_freed.look
def _(hook):
    left = alive(hook)
    return left > 0, f"after 5 trainings {left} models are in memory"


@never_freed.find("asking the collector which objects refer to the trainer")
def _(hook):
    trainer = small_trainer([hook()], epochs=1)
    trainer.train()
    holders = gc.get_referrers(trainer)
    held = [
        f"{type(hook).__name__}.{name}"
        for hook in trainer.hooks
        if any(holder is hook or holder is vars(hook) for holder in holders)
        for name, value in vars(hook).items()
        if value is trainer
    ]
    return f"held by {', '.join(held) or 'no hook'}"


class Careless(ENGINE.Trainer):
    """A loop that comes to its end only if nothing happens."""

    def train(self):
        self.call("before_train")
        while not self.finished:
            self.call("before_epoch")
            for index, batch in enumerate(self.loader):
                self.batch = batch
                self.call("before_step")
                self.run_step(index)
                self.call("after_step")
            self.epoch += 1
            self.call("after_epoch")
        self.call("after_train")


class Log(Hook):
    def before_train(self, trainer):
        self.file = tempfile.TemporaryFile("w")  # closed in after_train, in whatever way training ends

    def after_train(self, trainer):
        self.file.close()


left_open = Room(
    77,
    "the log of the run that broke is empty, and its file is locked",
    "Training raised an exception in a step, and `after_train` was never called: it stands behind the loop and not in "
    "a `finally`. What hooks opened stays open, buffers are not written, forward hooks stay on the model. Call "
    "`after_train` in `finally`, and do not assume in it that training succeeded.",
    broken=Careless,
    fixed=ENGINE.Trainer,
)


def breaks(kind: type, hook: Hook) -> None:
    """Train until a step raises."""

    def third_step_raises(model, loss, batch, optimizer, precision=None, step=0):
        if step == 2:
            raise ArithmeticError("the third batch")

    with contextlib.suppress(ArithmeticError):
        small_trainer([hook], step=third_step_raises, kind=kind).train()


@left_open.look
def _(kind):
    hook = Log()
    breaks(kind, hook)
    closed = hook.file.closed
    hook.file.close()
    return not closed, f"a step raised; the hook's file is {'closed' if closed else 'open'}"


@left_open.find("a step that raises, and a hook that notes its moments")
def _(kind):
    witness = Witness()
    breaks(kind, witness)
    return " ".join(witness.seen)


MAP50_95 = (0.3, 0.7, 0.5, 0.4)  # after each epoch


class Measure(Hook):
    def after_epoch(self, trainer):
        trainer.metrics["map50_95"] = MAP50_95[trainer.epoch - 1]


class Best(Hook):
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


def best_first() -> list[Hook]:
    return [Best(), Measure()]


def best_last() -> list[Hook]:
    return [Measure(), Best()]


one_late = Room(
    78,
    "the best weights measure worse than the log says",
    "Hooks are called in the order of the list. The one that keeps the best weights comes before the one that "
    "measures, so it sees the figure of the epoch before, and keeps the weights of the epoch after. Measure first, "
    "keep last.",
    broken=best_first,
    fixed=best_last,
)


def kept(hooks: list[Hook]) -> Best:
    small_trainer(hooks, epochs=len(MAP50_95)).train()
    return next(hook for hook in hooks if isinstance(hook, Best))


@one_late.look
def _(order):
    found = kept(order()).epoch
    return found != 2, f"the best figure is that of epoch 2, the weights are those of epoch {found}"


@one_late.find("the log: what each hook saw in each epoch")
def _(order):
    return "\n".join(kept(order()).log)


# ---- checkpoints ---------------------------------------------------------------------------------


def by_class(hooks: list[Hook]) -> list[str]:
    return [type(hook).__name__ for hook in hooks]


def by_class_and_number(hooks: list[Hook]) -> list[str]:
    names = by_class(hooks)
    before = [names[:index].count(name) for index, name in enumerate(names)]
    return [f"{name} {count + 1}" if count else name for name, count in zip(names, before, strict=True)]


state_lost = Room(
    79,
    "after a resume a worse epoch is kept as the best",
    "The checkpoint keeps the state of each hook under the name of its class. There are two hooks of one class, one "
    "for boxes and one for keypoints, so the second overwrote the first, and both got its state back. Give every "
    "hook a name of its own. detectron2 keeps the first of several and warns.",
    broken=by_class,
    fixed=by_class_and_number,
)


def checkpoint(names) -> dict:
    """The states of two hooks of one class."""
    boxes, points = Best("map50_95"), Best("oks_ap")
    boxes.best, points.best = 0.8, 0.4
    return dict(zip(names([boxes, points]), (boxes.state_dict(), points.state_dict()), strict=True))


@state_lost.look
def _(names):
    state, hooks = checkpoint(names), [Best("map50_95"), Best("oks_ap")]
    for name, hook in zip(names(hooks), hooks, strict=True):
        hook.load_state_dict(state[name])
    boxes, points = (hook.best for hook in hooks)
    return boxes != 0.8, f"best of boxes 0.8 before and {boxes:g} after the resume, of keypoints 0.4 and {points:g}"


@state_lost.find("the keys of the hooks' states in the checkpoint")
def _(names):
    state = checkpoint(names)
    return "2 hooks, keys: " + ", ".join(f"{name} {kept['best']:g}" for name, kept in state.items())


def from_the_last(kept: dict) -> int:
    return kept["iteration"]


def behind_the_last(kept: dict) -> int:
    return kept["iteration"] + 1


done_twice = Room(
    81,
    "a resumed run does not end with the weights of an uninterrupted one",
    "The checkpoint holds the iteration that was done, counted from 0. The resumed run begins with it and does it a "
    "second time. Begin with the next one. An engine that counts steps which are done, as ours does, begins with the "
    "count itself: know which of the two a number is.",
    broken=from_the_last,
    fixed=behind_the_last,
)
ITERATIONS, STOPS_AFTER = 6, 3


def run(begin: int, end: int, weight: float, log: list[int]) -> dict:
    """Iterations `begin` to `end` of a training of one number; a checkpoint comes back."""
    for iteration in range(begin, end):
        log.append(iteration)
        weight += (10 - weight) / (iteration + 2)
    return {"iteration": end - 1, "weight": weight}


def resumed(begin) -> tuple[float, list[int]]:
    log: list[int] = []
    kept = run(0, STOPS_AFTER, 0.0, log)
    return run(begin(kept), ITERATIONS, kept["weight"], log)["weight"], log


@done_twice.look
def _(begin):
    straight, found = run(0, ITERATIONS, 0.0, [])["weight"], resumed(begin)[0]
    return not math.isclose(straight, found), f"weight {straight:.3f} without and {found:.3f} with an interruption"


@done_twice.find("the iterations in the log")
def _(begin):
    log = resumed(begin)[1]
    return f"{' '.join(map(str, log))}: {len(log)} iterations, {ITERATIONS} were asked for"


# ---- modes ---------------------------------------------------------------------------------------


class Evaluate(Hook):
    """Evaluates after every second step."""

    def after_step(self, trainer):
        if trainer.steps % 2 == 0:
            self.evaluate(trainer.model)

    @torch.no_grad()
    def evaluate(self, model):
        model.eval()
        model(torch.rand(4, 2))


class EvaluateAndRestore(Evaluate):
    def evaluate(self, model):
        training = model.training
        try:
            super().evaluate(model)
        finally:
            model.train(training)


still_in_eval = Room(
    80,
    "training changes its character after the first validation",
    "Evaluation put the model into eval mode and left it there. From then on batch normalisation uses its running "
    "statistics and no longer moves them, and dropout drops nothing. The loss is finite and even falls. Restore the "
    "mode that was there before, in `finally`: an evaluation can raise too. A loop that calls `train()` once an epoch "
    "hides it if evaluation comes at the end of epochs.",
    broken=Evaluate,
    fixed=EvaluateAndRestore,
)


def modes(hook: type) -> tuple[list[bool], int]:
    """`training` at each of six steps, and how many batches the batch normalisation has counted."""
    model, seen = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1)), []
    model.register_forward_pre_hook(lambda module, _: seen.append(module.training) if torch.is_grad_enabled() else None)
    small_trainer([hook()], epochs=1, loader=[torch.rand(4, 2) for _ in range(6)], model=model).train()
    return seen, model[1].num_batches_tracked.item()


@still_in_eval.look
def _(hook):
    counted = modes(hook)[1]
    return counted != 6, f"six steps of training, the statistics were moved by {counted}"


@still_in_eval.find("printing `.training` at each step")
def _(hook):
    return " ".join(map(str, modes(hook)[0]))


def by_word(device) -> torch.autocast:
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=device != "cpu")


def by_type(device) -> torch.autocast:
    kind = torch.device(device).type
    return torch.autocast(kind, torch.bfloat16, enabled=kind != "cpu")


coarse_on_the_cpu = Room(
    82,
    "the same training gives other digits when the device is given as an object",
    'A torch.device is never equal to the string "cpu". The engine turns its device into an object early, and then '
    '`autocast(enabled=device != "cpu")` is always true: on the CPU the forward pass runs in bfloat16, with three '
    "digits. Compare `device.type`.",
    broken=by_word,
    fixed=by_type,
)
DEVICES = ("cpu", torch.device("cpu"))


def answer(autocast, device) -> torch.Tensor:
    layer, images = nn.Linear(64, 1), torch.linspace(0, 1, 64)[None]
    nn.init.constant_(layer.weight, 0.1)
    nn.init.zeros_(layer.bias)
    with torch.no_grad(), autocast(device):
        return layer(images)


@coarse_on_the_cpu.look
def _(autocast):
    words, objects = (answer(autocast, device).item() for device in DEVICES)
    return words != objects, f'device "cpu": {words:.5f}   device torch.device("cpu"): {objects:.5f}'


@coarse_on_the_cpu.find("the dtype of the answer for both spellings of the device")
def _(autocast):
    return "\n".join(f"{device!r:<20} {answer(autocast, device).dtype}" for device in DEVICES)
