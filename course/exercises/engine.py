"""Stage 11: a hook, the loop that calls hooks, another step, and going on after an interruption."""

from __future__ import annotations

import contextlib
import gc
import random
import weakref
from collections.abc import Callable
from types import SimpleNamespace
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from yolostudy.study.exercise import Exercise

from ._fixtures import attempt, seeded, values
from .training import Descent, Mix

MOMENTS = ("before_train", "before_epoch", "before_step", "after_step", "after_epoch", "after_train")
STARTS = 20  # times that a loader may be started: so many are a loop that never ends


class Net(nn.Module):
    """One map of two channels. It notes the circumstances of each forward pass."""

    def __init__(self):
        super().__init__()
        self.mix, self.norm = Mix(3, 2), nn.BatchNorm2d(2)
        self.seen: list[dict[str, object]] = []

    def forward(self, images: Tensor) -> list[Tensor]:
        self.seen.append(
            {
                "dtype": images.dtype,
                "shape": list(images.shape),
                "lowest": images.min(),
                "highest": images.max(),
                "mode": modes(self),
                "gradients": torch.is_grad_enabled(),
                "autocast": torch.is_autocast_enabled("cpu"),
            }
        )
        return [self.norm(self.mix(images))]


class Wrapped(nn.parallel.DistributedDataParallel):
    """The wrapper of distributed training, without the processes."""

    def __init__(self, module: nn.Module):
        nn.Module.__init__(self)
        self.module = module

    def forward(self, images: Tensor) -> list[Tensor]:
        return self.module(images)


class Momentum(Descent):
    """Gradient descent whose momentum can be kept."""

    def __init__(self, parameters, rate: float = 0.1):
        super().__init__(parameters, rate, momentum=0.5)

    def state_dict(self) -> dict:
        state = {number: {"momentum_buffer": velocity} for number, velocity in enumerate(self.velocity)}
        return {"state": state, "param_groups": [{"lr": self.rate, "params": [*state]}]}

    def load_state_dict(self, state: dict) -> None:
        self.velocity = [own["momentum_buffer"].clone() for own in state["state"].values()]
        self.rate = state["param_groups"][0]["lr"]


class Batches:
    """A loader that notes what is asked of it."""

    def __init__(self, *batches, log: list | None = None):
        self.batches, self.log, self.starts = batches, [] if log is None else log, 0

    def __len__(self) -> int:
        return len(self.batches)

    def set_epoch(self, epoch: int) -> None:
        self.log.append(f"set_epoch({epoch})")

    def __iter__(self):
        self.log.append("the loader starts")
        self.starts += 1
        if self.starts > STARTS:
            raise RuntimeError(f"the loader was started more than {STARTS} times")
        return iter(self.batches)


def net(seed: int = 0) -> Net:
    """A net in train mode; another seed gives other weights."""
    made = seeded(Net().float(), train=True)
    with torch.no_grad():
        made.mix.weight.add_(seed)
    return made


def modes(model: nn.Module) -> str:
    return " and ".join(sorted({"train" if layer.training else "eval" for layer in model.modules()}))


def no_step(model, loss, batch, optimizer, *, precision, step):
    """A step that computes nothing."""
    return f"parts of {batch}"


def trainer(course, *hooks, kind: str = "Trainer", model: nn.Module | None = None, loader=None, step=no_step, **more):
    """A trainer of the course, of two batches unless a loader is given."""
    model = model or net()
    loader = Batches("a", "b") if loader is None else loader
    optimizer = Momentum(model.parameters())
    return getattr(course.engine, kind)(model, more.pop("loss", None), loader, optimizer, step, hooks=hooks, **more)


def listener(course, listen: Callable[[str, object], None]):
    """A hook that calls listen(moment, trainer) at each moment."""

    class Listener(course.engine.Hook): ...

    for moment in MOMENTS:
        setattr(Listener, moment, lambda self, trainer, moment=moment: listen(moment, trainer))
    return Listener()


def lives_on(make: Callable[[], object]) -> bool:
    """Whether an object stays when its last owner is gone, because it belongs to a circle."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        reference = weakref.ref(make())
        return reference() is not None
    finally:
        if collecting:
            gc.enable()


def precision(scale: float = 0.0, autocast: Callable = contextlib.nullcontext) -> SimpleNamespace:
    """A number format like `training.Precision`, with a scaler that is on if a scale is given."""
    scaler = torch.amp.GradScaler("cpu", init_scale=scale or 1.0, growth_interval=2, enabled=bool(scale))
    return SimpleNamespace(name="fp32", device=torch.device("cpu"), autocast=autocast, scaler=scaler)


# ---- EvaluationHook ------------------------------------------------------------------------------

evaluation = Exercise(
    "engine.EvaluationHook",
    stage=11,
    points=2,
    minutes=25,
    goal="Write a hook that evaluates the model when it is due, and leaves nothing behind but the figures.",
    hints=(
        "Two questions that have nothing to do with each other: when, and how. For the first, which of the arguments "
        "decide nothing once training is finished? For the second, what does an evaluation change in the model, in "
        "torch and in the trainer, and which of the three changes is wanted?",
        "trainer.epoch counts the epoch that has just ended. Near the end the interval can only become shorter, never "
        "longer. For how: note model.training before you change it; the figures of other hooks stay in "
        "trainer.metrics; and an evaluation that raises an exception must leave the model as it was, too.",
        "min(3, self.interval) is the interval near the end, and % tells whether it divides the epoch. "
        "model.train(mode) takes a bool. try … finally gives the mode back, torch.no_grad() is a with block, "
        "|= adds a dict to a dict. "
        "Call self.evaluate and not self.function, because a subclass may override the method.",
    ),
)


def figures(model: nn.Module) -> dict[str, float]:
    return {"mAP": 0.5}


def due_after(course, epochs: int = 13, stop_after: int = 0, **settings) -> list[int]:
    """After which of the epochs an evaluation is due."""
    run, hook, found = trainer(course, epochs=epochs), course.engine.EvaluationHook(figures, **settings), []
    for run.epoch in range(1, epochs + 1):
        run.stop_reason = "somebody said so" if run.epoch == stop_after else ""
        if hook.due(run):
            found.append(run.epoch)
    return found


@evaluation.probe("when it is due, of 13 epochs")
def _(course):
    return {
        "always": due_after(course),
        "interval 2": due_after(course, interval=2),
        "interval 5": due_after(course, interval=5),
        "at the end only": due_after(course, final_only=True),
        "interval 2, stopped after 5": due_after(course, interval=2, stop_after=5),
        "at the end only, stopped after 5": due_after(course, final_only=True, stop_after=5),
    }


@evaluation.probe("when it is due with a heavy range, of 13 epochs")
def _(course):
    return {
        "always, range 6": due_after(course, heavy_range=6),
        "interval 2, range 6": due_after(course, interval=2, heavy_range=6),
        "interval 3, range 6": due_after(course, interval=3, heavy_range=6),
        "interval 5, range 4": due_after(course, interval=5, heavy_range=4),
        "interval 5, range 6": due_after(course, interval=5, heavy_range=6),
        "interval 5, range 50": due_after(course, interval=5, heavy_range=50),
        "at the end only, range 6": due_after(course, final_only=True, heavy_range=6),
    }


@evaluation.probe("when it is due, if the end is set in minutes")
def _(course):
    run, found = trainer(course, epochs=8, minutes=10), {}
    for name, settings in {"interval 5": {"interval": 5}, "at the end only": {"final_only": True}}.items():
        hook, after = course.engine.EvaluationHook(figures, heavy_range=4, **settings), []
        for run.epoch in range(1, 14):
            run.seconds_before = 600.0 if run.epoch == 13 else 0.0
            if hook.due(run):
                after.append(run.epoch)
        found[name] = after
    return found


def walk(run, hook, epochs: int) -> None:
    """Call every moment of a hook, as a trainer does, in epochs of one step."""
    hook.before_train(run)
    for epoch in range(1, epochs + 1):
        hook.before_epoch(run)
        hook.before_step(run)
        run.steps = epoch
        hook.after_step(run)
        run.epoch = epoch
        hook.after_epoch(run)
    hook.after_train(run)


@evaluation.probe("the evaluations of a whole training")
def _(course):
    def evaluated(**settings) -> list[int]:
        run, after = trainer(course, epochs=5), []
        walk(run, course.engine.EvaluationHook(lambda model: after.append(run.epoch) or {"mAP": 0.5}, **settings), 5)
        return after

    return {
        "after every epoch": evaluated(),
        "interval 2": evaluated(interval=2),
        "at the end only": evaluated(final_only=True),
    }


@evaluation.probe("modes and gradients")
def _(course):
    found = {}
    for mode in ("train", "eval"):
        for own in (False, True):
            model, other, seen = net(), net(1), []
            model.train(mode == "train")
            other.train(mode != "train")  # only one of the two is evaluated
            run = trainer(course, model=other if own else model, epochs=3)

            def function(model, seen=seen):
                seen.append({"mode": modes(model), "gradients": torch.is_grad_enabled()})
                return {"mAP": 0.5}

            hook = course.engine.EvaluationHook(function, model if own else None)
            for run.epoch in (1, 2):
                hook.after_epoch(run)
            found[f"{'an average' if own else 'the trainer’s model'}, in {mode} mode"] = {
                "in the evaluation": seen,
                "afterwards": modes(model),
                "the other model": modes(other),
                "gradients afterwards": torch.is_grad_enabled(),
            }
            torch.set_grad_enabled(True)
    return found


@evaluation.probe("an evaluation that fails")
def _(course):
    def fail(model):
        raise ArithmeticError("no image has an object")

    found = {}
    for mode in ("train", "eval"):
        model = net().train(mode == "train")
        run = trainer(course, model=model, epochs=1)
        run.epoch, run.metrics = 1, {"loss": 2.0}
        try:
            course.engine.EvaluationHook(fail).after_epoch(run)
            raised = "nothing"
        except ArithmeticError as error:
            raised = str(error)
        found[f"in {mode} mode"] = {
            "raised": raised,
            "afterwards": modes(model),
            "gradients afterwards": torch.is_grad_enabled(),
            "metrics": dict(run.metrics),
        }
        torch.set_grad_enabled(True)
    return found


@evaluation.probe("the figures")
def _(course):
    run, numbers = trainer(course, epochs=5), iter([{"mAP": 0.25, "mAP50": 0.5}, {"mAP": 0.75}])
    run.metrics = {"loss": 2.0, "mAP": 0.125}
    hook, after = course.engine.EvaluationHook(lambda model: next(numbers), interval=2), {}
    for run.epoch in range(1, 5):
        hook.after_epoch(run)
        after[f"epoch {run.epoch}"] = dict(run.metrics)
    return after


@evaluation.probe("which model is evaluated")
def _(course):
    model, average, seen = net(), net(1), []

    def name(model_, names=None) -> dict:
        names = {id(model): "the model", id(average): "the average"}
        seen.append(names.get(id(model_), f"an object of {type(model_).__name__}"))
        return {}

    class Own(course.engine.EvaluationHook):
        def evaluate(self, model):
            name(model)
            return {"by": 1.0}

    run = trainer(course, model=model, epochs=1)
    wrapped = trainer(course, model=Wrapped(model), epochs=1)
    run.epoch = wrapped.epoch = 1
    course.engine.EvaluationHook(name).after_epoch(run)
    course.engine.EvaluationHook(name).after_epoch(wrapped)
    course.engine.EvaluationHook(name, average).after_epoch(run)
    Own(lambda model: {"by": 2.0}).after_epoch(run)
    return {"evaluated": seen, "a subclass with an evaluate of its own": dict(run.metrics)}


@evaluation.probe("a trainer that nobody needs any more")
def _(course):
    def make():
        hook = course.engine.EvaluationHook(figures)
        run = trainer(course, hook, epochs=2)
        walk(run, hook, 2)
        return run

    return {"stays in memory": lives_on(make)}


DUE = "        if trainer.finished:\n            return True\n"
LATE = "not trainer.minutes and trainer.epochs - trainer.epoch < self.heavy_range"
INTERVAL = "(min(3, self.interval) if late else self.interval)"
ASK_DUE = "        if not self.due(trainer):\n            return\n"
CHOSEN = "bare(trainer.model) if self.model is None else self.model"
NOTED = "        was_training = model.training\n        model.eval()\n"
MERGE = "            with torch.no_grad():\n                trainer.metrics |= self.evaluate(model)\n"
BACK = "        finally:\n            model.train(was_training)\n"
TRY = f"        try:\n{MERGE}{BACK}"
BARE_MERGE = "        with torch.no_grad():\n            trainer.metrics |= self.evaluate(model)\n"  # without try
AGAIN = """
    def after_train(self, trainer):
        trainer.metrics |= self.evaluate(bare(trainer.model))
"""

evaluation.misconception(
    "late evaluation gets rarer",
    swap=("min(3, self.interval) if late", "3 if late"),
    because="The heavy range is there to look oftener near the end. With interval 1 or 2, a fixed 3 makes the last "
    "epochs the ones that are looked at least. YOLOv6's condition does exactly this. Take the smaller of the two.",
    museum=87,
)
evaluation.misconception(
    "the heavy range begins an epoch too early",
    swap=("trainer.epochs - trainer.epoch < self", "trainer.epochs - trainer.epoch <= self"),
    because="`trainer.epoch` counts the epoch that has just ended, so epochs - epoch are left. With fewer than "
    "heavy_range epochs left it is late: <, as in YOLOv6.",
)
evaluation.misconception(
    "the heavy range lies at the start",
    swap=("trainer.epochs - trainer.epoch < self", "trainer.epoch < self"),
    because="`epoch` counts up. In the first epochs the model changes fast and is worth no close look; the range "
    "that counts is that of the epochs that are left: epochs - epoch.",
)
evaluation.misconception(
    "every epoch of the heavy range",
    swap=(
        f"trainer.epoch % {INTERVAL} == 0",
        f"(late or trainer.epoch % {INTERVAL} == 0)",
    ),
    because="Near the end the interval is at most 3, not 1. Where an evaluation costs as much as an epoch, this "
    "doubles the time of the end.",
)
evaluation.misconception(
    "epochs count where minutes are given",
    swap=("not trainer.minutes and ", ""),
    because="Where the end is set in minutes, `trainer.epochs` is a number that nobody looks at. The run passes it "
    "some time, and from then on evaluates every third epoch. The heavy range has no effect there.",
)
evaluation.misconception(
    "not after the last epoch",
    swap=(DUE, ""),
    because="The interval rarely divides the number of epochs, and a run that is stopped early ends anywhere. The "
    "weights that are kept are those of the end, and nobody has measured them. Ask for `trainer.finished` first.",
)
evaluation.misconception(
    "the end is where the epochs end",
    swap=("if trainer.finished:", "if trainer.epoch == trainer.epochs:"),
    because="Training also ends by the clock, or because a hook set a stop_reason. `trainer.finished` knows all three.",
)
evaluation.misconception(
    "final_only forbids the last one too",
    swap=(
        "        if trainer.finished:\n            return True",
        "        if trainer.finished:\n            return not self.final_only",
    ),
    because="final_only leaves out all evaluations but the last. Here it leaves out all of them.",
)
evaluation.misconception(
    "final_only has no effect",
    swap=("not self.final_only and ", ""),
    because="A setting that is read by nobody costs an evaluation after each epoch, and no error says so.",
)
evaluation.misconception(
    "the epoch is counted once more",
    swap=("trainer.epoch % (", "(trainer.epoch + 1) % ("),
    because="An engine that counts epochs from 0 writes (epoch + 1) % interval. Here `trainer.epoch` is the number of "
    "completed epochs already, the one that just ended included.",
)
evaluation.misconception(
    "after every epoch, due or not",
    swap=(ASK_DUE, ""),
    because="`due` says when, and nobody asks it. The evaluation runs after every epoch.",
)
evaluation.misconception(
    "the last evaluation runs twice",
    swap=(
        BACK,
        f"{BACK}{AGAIN}",
    ),
    because="The last epoch has an after_epoch like any other, and it is due there. A second evaluation after the "
    "training takes as long again, comes too late for the hooks that keep the best weights, and also runs after an "
    "exception.",
)
evaluation.misconception(
    "the last evaluation waits for after_train",
    swap=(
        (ASK_DUE, "        if trainer.finished or not self.due(trainer):\n            return\n"),
        (
            BACK,
            f"{BACK}{AGAIN}",
        ),
    ),
    because="after_train is called after an exception too, and hooks that keep the best weights or write the log "
    "have done their last work by then: they had the figures of an older epoch. Evaluate in after_epoch.",
    museum=78,
)
evaluation.misconception(
    "the mode is not given back",
    swap=(TRY, BARE_MERGE),
    because="The model stays in eval mode, and whoever trains it next trains it so: batch normalisations no longer "
    "learn their statistics, dropout is off, and no error comes. Give back the mode that was there before.",
    museum=80,
)
evaluation.misconception(
    "train mode afterwards, whatever was before",
    swap=("model.train(was_training)", "model.train()"),
    because="An average is never trained: it is in eval mode, and has to stay there. In train mode its next "
    "evaluation by somebody else normalises by batches and changes its statistics. Note the mode before you change "
    "it.",
    museum=80,
)
evaluation.misconception(
    "the mode of the other model",
    swap=("was_training = model.training", "was_training = trainer.model.training"),
    because="The average gets the mode of the model that is trained, and the two are different by design. Note the "
    "mode of the model that you change.",
)
evaluation.misconception(
    "the mode is given back only if all goes well",
    swap=(
        TRY,
        f"{BARE_MERGE}        model.train(was_training)\n",
    ),
    because="An evaluation may fail: an empty folder, no memory, a Ctrl-C. In a notebook the model is still there "
    "afterwards, in eval mode, and the next training uses it so. What has to happen in any case stands in a finally.",
    museum=80,
)
evaluation.misconception(
    "the exception is swallowed",
    swap=(BACK, f"        except Exception:\n            pass\n{BACK}"),
    because="Training goes on, and the figures of an older epoch stand in the log for the new one. Nobody learns that "
    "the evaluation has failed. Let the exception pass: finally does not hold it.",
)
evaluation.misconception(
    "eval mode is never set",
    swap=(NOTED, "        was_training = model.training\n"),
    because="In train mode each image is normalised by its batch, and the statistics drift towards the validation "
    "images: the figures depend on the batch size, and the model learns from what it must not see.",
)
evaluation.misconception(
    "gradients are recorded",
    swap=("with torch.no_grad():", "with torch.enable_grad():"),
    because="Each forward pass of the evaluation then keeps its graph until the maps are gone: memory for nothing. "
    "eval() changes layers and not the recording; torch.no_grad() does.",
)
evaluation.misconception(
    "gradients are switched off for good",
    swap=(MERGE, "            torch.set_grad_enabled(False)\n            trainer.metrics |= self.evaluate(model)\n"),
    because="Nobody switches them on again: the next step ends with 'element 0 of tensors does not require grad'. A "
    "with block restores what it found.",
)
evaluation.misconception(
    "the figures take the place of all others",
    swap=("trainer.metrics |= self", "trainer.metrics = self"),
    because="Several hooks leave figures in trainer.metrics: the rate, the time, the losses. An assignment throws "
    "theirs away. Add yours: |=.",
)
evaluation.misconception(
    "older figures win",
    swap=("trainer.metrics |= self.evaluate(model)", "trainer.metrics = {**self.evaluate(model), **trainer.metrics}"),
    because="In {**a, **b} the later one wins: the first evaluation stays for ever, and a run that gets better shows "
    "a flat line.",
)
evaluation.misconception(
    "the figures go nowhere",
    swap=("trainer.metrics |= self", "self.result = self"),
    because="Hooks talk to one another through trainer.metrics. The log and the hook that keeps the best weights look "
    "there, and find nothing.",
)
evaluation.misconception(
    "the hook keeps the trainer",
    swap=(ASK_DUE, f"        self.trainer = trainer\n{ASK_DUE}"),
    because="The trainer owns its hooks. If a hook owns the trainer too, the two hold each other, and neither is freed "
    "when you drop the trainer: its model and its optimizer stay on the card until Python looks for such circles. "
    "Each moment gets the trainer anyway.",
    museum=76,
)
evaluation.misconception(
    "the wrapper is evaluated",
    swap=(CHOSEN, "trainer.model if self.model is None else self.model"),
    because="In distributed training trainer.model is a wrapper, whose forward pass talks to the other processes. If "
    "only the first one evaluates, it waits for the others until a timeout. `bare` gives the model itself.",
    museum=84,
)
evaluation.misconception(
    "the average is never looked at",
    swap=(CHOSEN, "bare(trainer.model)"),
    because="Who gives a model wants that one evaluated, such as the average that is kept in the end. Only None means "
    "the one that is trained.",
)
evaluation.misconception(
    "the function is called, not the method",
    swap=("trainer.metrics |= self.evaluate(model)", "trainer.metrics |= self.function(model)"),
    because="A subclass writes its own `evaluate`, as the hook of average precision does. Whoever calls the function "
    "past the method leaves it out.",
)


# ---- Trainer -------------------------------------------------------------------------------------

loop = Exercise(
    "engine.Trainer",
    stage=11,
    points=5,
    minutes=45,
    after="engine.EvaluationHook",
    goal="Write the loop that every engine has: epochs, steps, six moments for hooks, and an end in any case.",
    hints=(
        "Draw it first: what happens once, what once an epoch, what once a step? Where in your drawing do the six "
        "moments stand? Which one has to happen even if a step raises an exception?",
        "The outer loop asks `finished` and nothing else: it knows epochs, minutes and stop_reason. At the start of an "
        "epoch: mode, gradients, order, and then the hooks, because a hook may change any of the three. In the inner "
        "loop put the batch where hooks find it, and leave the loop early where that is asked for. Count the epoch "
        "before its last moment.",
        "while … and for … inside try … finally. enumerate gives the index that run_step gets. hasattr tells whether "
        "the loader has set_epoch; progress >= 1 tells, with minutes, whether they are used up. A break leaves the "
        "inner loop only, so counting and after_epoch still come. Call run_step, which a subclass may override.",
    ),
)


@loop.probe("two epochs of two batches")
def _(course):
    log: list[str] = []

    def step(model, loss, batch, optimizer, *, precision, step):
        log.append(f"a step on {batch}")

    hook = listener(course, lambda moment, run: log.append(moment))
    trainer(course, hook, step=step, epochs=2, loader=["a", "b"]).train()
    return {"in this order": log}


@loop.probe("what the hooks see")
def _(course):
    seen = {moment: {what: [] for what in ("epoch", "steps", "batch", "parts", "finished")} for moment in MOMENTS}

    def look(moment, run):
        for what, found in seen[moment].items():
            found.append(getattr(run, what))

    trainer(course, listener(course, look), epochs=2).train()
    return seen


@loop.probe("two hooks")
def _(course):
    order: dict[str, list[str]] = {moment: [] for moment in MOMENTS}
    hooks = [listener(course, lambda moment, run, n=n: order[moment].append(n)) for n in ("first", "second")]
    trainer(course, *hooks, loader=["a"], epochs=1).train()
    return order


@loop.probe("what is asked of the loader")
def _(course):
    log: list[str] = []
    run = trainer(course, loader=Batches("a", "b", log=log), epochs=5)
    run.epoch, run.steps = 2, 4  # of a run that is continued
    run.train()
    return {"asked": log, "epoch": run.epoch, "steps": run.steps}


@loop.probe("modes and gradients")
def _(course):
    found: list[str] = []
    model = net()

    def look() -> str:
        left = {name for name, own in model.named_parameters() if own.grad is not None and own.grad.abs().sum() > 0}
        return f"{modes(model)} mode, gradients of {', '.join(sorted(left)) or 'nothing'}"

    def listen(moment, run):
        if moment == "before_epoch":
            found.append(f"before_epoch: {look()}")
            if run.epoch == 1:
                model.norm.eval()  # as a hook that freezes a layer does
        if moment == "after_step" and run.steps == 1:
            model.norm.eval()  # as one that freezes it within an epoch does
        if moment == "after_epoch":
            model.eval()  # as a hook that forgets to give the mode back

    def step(model, loss, batch, optimizer, *, precision, step):
        found.append(f"a step: {look()}")
        model(values(1, 3, 2, 2).float())[0].square().sum().backward()  # and no update: gradients add up

    run = trainer(course, listener(course, listen), model=model, step=step, epochs=2)
    model.mix.weight.grad = torch.ones_like(model.mix.weight)  # of a run that was stopped
    model.eval()
    run.train()
    return {"found": found}


@loop.probe("how a step is called")
def _(course):
    calls: list[dict[str, object]] = []
    own = {"model": net(), "loss": object(), "precision": precision()}

    def step(model, loss, batch, optimizer, *, precision, step):
        given = {"model": model, "loss": loss, "precision": precision}
        calls.append({"batch": batch, "index": step, "optimizer": optimizer is run.optimizer})
        calls[-1] |= {name: value is own[name] for name, value in given.items()}
        return f"parts of {batch}"

    run = trainer(course, step=step, epochs=2, **own)
    run.train()
    without = trainer(course, step=lambda *_, precision, step: f"{precision}, {step}")
    without.batch = "z"
    without.run_step(7)
    return {"calls": calls, "parts": run.parts, "alone": [without.parts, without.steps, without.epoch, without.batch]}


@loop.probe("a hook replaces the batch, a subclass the step")
def _(course):
    class Own(course.engine.Trainer):
        def run_step(self, index):
            log.append(f"own step {index} on {self.batch}")
            self.steps += 1

    log: list[str] = []

    def replace(moment, run):
        if moment == "before_step":
            run.batch = f"{run.batch}, mixed"

    def step(model, loss, batch, optimizer, *, precision, step):
        log.append(f"a step on {batch}")

    hook = listener(course, replace)
    trainer(course, hook, step=step, epochs=1).train()
    model = net()
    Own(model, None, ["c", "d"], Momentum(model.parameters()), step, hooks=[hook], epochs=1).train()
    return {"steps": log}


def stopped(course, at: str, epoch: int = 0, after: int = 0, **settings) -> dict[str, object]:
    """A training that a hook stops at a moment of an epoch, after so many steps."""
    calls: list[str] = []

    def listen(moment, run):
        calls.append(moment)
        if moment == at and (run.epoch, run.steps) == (epoch, after):
            run.stop_reason = "somebody said so"

    run = trainer(course, listener(course, listen), loader=Batches("a", "b", "c"), epochs=4, **settings)
    run.train()
    return {"epoch": run.epoch, "steps": run.steps, "the last moments": calls[-5:], "reason": run.stop_reason}


@loop.probe("a hook that stops the training")
def _(course):
    return {
        "before the training": stopped(course, "before_train"),
        "before a step": stopped(course, "before_step", 1, 4),
        "after a step": stopped(course, "after_step", 1, 4),
        "after the last step of an epoch": stopped(course, "after_step", 1, 6),
        "after an epoch": stopped(course, "after_epoch", 2, 6),
        "never": stopped(course, "nowhere"),
    }


def timed(course, per_step: float, minutes: float, before: float = 0.0, epochs: int = 2) -> dict[str, object]:
    """A training by the clock: a step takes so many seconds, in which nobody has to wait."""
    calls: list[str] = []

    def step(model, loss, batch, optimizer, *, precision, step):
        run.seconds_before += per_step

    hook = listener(course, lambda moment, run: calls.append(moment))
    run = trainer(course, hook, loader=Batches("a", "b", "c"), step=step, epochs=epochs, minutes=minutes)
    run.seconds_before = before
    run.started -= 100_000  # it was made long ago
    run.train()
    return {"epoch": run.epoch, "steps": run.steps, "the last moments": calls[-4:], "minutes": int(run.seconds / 60)}


@loop.probe("minutes instead of epochs")
def _(course):
    return {
        "they end within an epoch": timed(course, 70.0, minutes=5),
        "they end with an epoch": timed(course, 70.0, minutes=3.5),
        "more epochs than given": timed(course, 40.0, minutes=10, epochs=2),
        "some were used before": timed(course, 70.0, minutes=60, before=3_500.0),
        "all were used before": timed(course, 70.0, minutes=60, before=3_700.0),
    }


@loop.probe("the clock")
def _(course):
    minutes: dict[str, int] = {}
    hook = listener(course, lambda moment, run: minutes.setdefault(moment, round(run.seconds / 60)))
    run = trainer(course, hook, epochs=1)
    run.started, run.seconds_before = run.started - 6_000, 1_200.0  # made long ago; its run had used 20 minutes
    run.train()
    return {"minutes": minutes}


class Break(BaseException):
    """What no `except Exception` holds, such as a Ctrl-C."""


def failing(course, at: str, kind: type[BaseException] = ArithmeticError) -> dict[str, object]:
    """A training in whose fourth step, or at a moment of its second epoch, something goes wrong."""
    calls: list[str] = []

    def step(model, loss, batch, optimizer, *, precision, step):
        if at == "a step" and batch == "b" and run.epoch == 1:
            raise kind("the loss is NaN")
        return f"parts of {batch}"

    def listen(moment, run, own):
        calls.append(f"{own}: {moment}")
        if moment == at and own == "first" and (run.epoch >= 1 or moment == "before_train"):
            raise kind("the loss is NaN")

    hooks = [listener(course, lambda moment, run, own=own: listen(moment, run, own)) for own in ("first", "second")]
    run = trainer(course, *hooks, step=step, epochs=3)
    try:
        run.train()
        raised = "nothing"
    except kind as error:
        raised = str(error)
    return {"raised": raised, "the last moments": calls[-3:], "epoch": run.epoch, "steps": run.steps}


@loop.probe("something goes wrong")
def _(course):
    moments = ("a step", "before_train", "before_epoch", "before_step", "after_step", "after_epoch")
    return {at: failing(course, at) for at in moments} | {"a Ctrl-C in a step": failing(course, "a step", Break)}


@loop.probe("nothing left to do, and train called again")
def _(course):
    calls: list[str] = []
    run = trainer(course, listener(course, lambda moment, run: calls.append(moment)), epochs=2)
    run.epoch, run.steps = 2, 4
    run.train()
    found = {"nothing left": {"called": [*calls], "epoch": run.epoch, "steps": run.steps}}
    run.epochs = 3
    calls.clear()
    run.train()
    return found | {"one more epoch": {"called": calls, "epoch": run.epoch, "steps": run.steps}}


@loop.probe("a trainer that nobody needs any more")
def _(course):
    def finished():
        run = trainer(course, listener(course, lambda moment, run: None), epochs=2)
        run.train()
        return run

    def failed():
        run = trainer(course, step=lambda *_, **__: 1 / 0, epochs=2)
        with contextlib.suppress(ZeroDivisionError):
            run.train()
        return run

    return {"stays, after a training": lives_on(finished), "stays, after an exception": lives_on(failed)}


START = "        self.started = time.perf_counter()\n        try:\n"
BEGIN = '            self.call("before_train")\n'
MODE = "                self.model.train()\n"
CLEAR = "                self.optimizer.zero_grad(set_to_none=True)\n"
ORDER = """                if hasattr(self.loader, "set_epoch"):
                    self.loader.set_epoch(self.epoch)
"""
EPOCH = '                self.call("before_epoch")\n'
FOR = "                for index, batch in enumerate(self.loader):\n                    self.batch = batch\n"
BEFORE = '                    self.call("before_step")\n'
RUN = "                    self.run_step(index)\n"
AFTER = '                    self.call("after_step")\n'
LEAVE = """                    if self.stop_reason or (self.minutes and self.progress >= 1):
                        break
"""
COUNT = '                self.epoch += 1\n                self.call("after_epoch")\n'
END = '        finally:\n            self.call("after_train")\n'
STEP = "self.parts = self.step(self.model, self.loss, self.batch, self.optimizer, precision=self.precision, step=index)"
STEPS = "        self.steps += 1\n"

loop.misconception(
    "after_train is called only if all goes well",
    swap=(END, '        except ZeroDivisionError:\n            raise\n        self.call("after_train")\n'),
    because="A hook that opened a file, a window or a process in before_train closes it in after_train. After an "
    "exception, or a Ctrl-C, they all stay open, and what was not written yet is lost. It belongs in a finally.",
    museum=77,
)
loop.misconception(
    "the first moment stands outside of try",
    swap=(
        (START, f"{START.removesuffix('        try:' + chr(10))}{BEGIN[4:]}        try:\n"),
        (f"        try:\n{BEGIN}", "        try:\n"),
    ),
    because="The first hook has opened its file, the second one fails: after_train is not called, and the file stays "
    "open. before_train belongs inside the try as well.",
    museum=77,
)
loop.misconception(
    "the exception is swallowed",
    swap=(END, f"        except Exception as error:\n            self.stop_reason = str(error)\n{END}"),
    because="train() returns as if all had gone well, and whoever called it goes on with a model that is half "
    "trained. finally alone lets the exception pass.",
)
loop.misconception(
    "a Ctrl-C is not noticed",
    swap=(
        END,
        '        except Exception:\n            self.call("after_train")\n            raise\n'
        '        self.call("after_train")\n',
    ),
    because="A Ctrl-C is no Exception: KeyboardInterrupt is a BaseException, and passes this except. It is also the "
    "most common way in which a training ends. finally sees all of them.",
    museum=77,
)
loop.misconception(
    "the exception is kept",
    swap=(END, f"        except BaseException as error:\n            self.error = error\n            raise\n{END}"),
    because="An exception has its traceback, the traceback has the frames, and the frame of train() has self. So the "
    "trainer holds itself, and its model stays on the card after you have dropped it. Keep a sentence, if anything.",
    museum=76,
)
loop.misconception(
    "hooks are called backwards at the end",
    swap=(
        "for hook in self.hooks:\n            getattr",
        'for hook in self.hooks[:: -1 if moment in ("after_epoch", "after_train") else 1]:\n            getattr',
    ),
    because="To close what was opened in the opposite order sounds right. But a later hook needs what an earlier one "
    "left in metrics: here the best weights are chosen by the evaluation before. One order at every moment.",
    museum=78,
)
loop.misconception(
    "the loader's order is never set",
    swap=(ORDER, ""),
    because="A loader that shuffles by a seed needs the epoch for a new order. Without it every epoch has the order of "
    "the first, on all processes, and nothing fails.",
    museum=83,
)
loop.misconception(
    "the loader's order is set once",
    swap=(
        (ORDER, ""),
        (
            BEGIN,
            BEGIN
            + ORDER.replace("                ", "            ", 1).replace(
                "                    self", "                self"
            ),
        ),
    ),
    because="The order of one epoch is then that of all. It has to be set before each.",
    museum=83,
)
loop.misconception(
    "the loader's order follows the steps",
    swap=("self.loader.set_epoch(self.epoch)", "self.loader.set_epoch(self.steps)"),
    because="It is another order each time, and so it seems to work. But a loader that counts epochs, to end its "
    "mosaics near the last one, believes that the run is over. It wants the epoch.",
)
loop.misconception(
    "the loader counts from 1",
    swap=("self.loader.set_epoch(self.epoch)", "self.loader.set_epoch(self.epoch + 1)"),
    because="`epoch` is the number of completed epochs, 0 before the first. A loader that does something in its first "
    "epoch, or in the last ones, is off by one.",
)
loop.misconception(
    "every loader has set_epoch",
    swap=(ORDER, "                self.loader.set_epoch(self.epoch)\n"),
    because="A list of batches is a loader too, and so is torch's own DataLoader: neither has set_epoch.",
)
loop.misconception(
    "gradients of the last epoch are left",
    swap=(CLEAR, ""),
    because="With accumulation an epoch may end in the middle of a group: its last batches made gradients and no "
    "update. The first update of the next epoch then has them too, or the gradients of a run that was stopped.",
)
loop.misconception(
    "gradients are cleared before each step",
    swap=((CLEAR, ""), (BEFORE, f"                    self.optimizer.zero_grad(set_to_none=True)\n{BEFORE}")),
    because="The step itself clears them after each update. With accumulation there are steps without one, and here "
    "their gradients are lost: a batch of 64 in four parts is then one of 16.",
)
loop.misconception(
    "gradients are cleared once",
    swap=((CLEAR, ""), (BEGIN, f"{BEGIN}            self.optimizer.zero_grad(set_to_none=True)\n")),
    because="Before the first epoch there are hardly any. It is between two epochs that the rest of a group is left.",
)
loop.misconception(
    "train mode is set once",
    swap=((MODE, ""), (BEGIN, f"{BEGIN}            self.model.train()\n")),
    because="Some hook evaluates after an epoch, and somebody's hook forgets to give the mode back. From then on the "
    "whole training runs in eval mode. Each epoch begins in train mode.",
    museum=80,
)
loop.misconception(
    "train mode is never set",
    swap=(MODE, ""),
    because="A model that comes from an evaluation, or from a file, may be in eval mode: then its batch normalisations "
    "never learn their statistics.",
    museum=80,
)
loop.misconception(
    "train mode is set before each step",
    swap=((MODE, ""), (BEFORE, f"                    self.model.train()\n{BEFORE}")),
    because="A hook that puts a frozen layer into eval mode does so before the epoch. train() reaches every layer, and "
    "undoes that at each step.",
)
loop.misconception(
    "hooks come before the mode is set",
    swap=((MODE, ""), (EPOCH, EPOCH + MODE)),
    because="What a hook changes in before_epoch, such as the mode of a frozen layer, is undone at once. First the "
    "trainer, then the hooks.",
)
loop.misconception(
    "the epoch counts after its last moment",
    swap=(COUNT, '                self.call("after_epoch")\n                self.epoch += 1\n'),
    because="In after_epoch `epoch` then says one less than were completed, and `finished` is false even at the end. "
    "A checkpoint that is written there repeats an epoch when it is resumed.",
    museum=81,
)
loop.misconception(
    "an epoch that was cut short has no end",
    swap=("                        break\n", "                        return\n"),
    because="after_epoch is where the last evaluation and the last checkpoint are made. If it is left out because "
    "the minutes are used up, there is neither. Leave the inner loop only.",
)
loop.misconception(
    "an epoch that was cut short is not counted",
    swap=(
        "                self.epoch += 1\n",
        "                self.epoch += not self.stop_reason and not (self.minutes and self.progress >= 1)\n",
    ),
    because="`epoch` counts each epoch that has come to its after_epoch, so that hooks see a number that has changed, "
    "and files of two epochs get two names.",
)
loop.misconception(
    "stop_reason waits for the end of the epoch",
    swap=("if self.stop_reason or (self.minutes and self.progress >= 1):", "if self.minutes and self.progress >= 1:"),
    because="A hook stops because the loss is NaN, and an epoch may last an hour. Look after each step.",
)
loop.misconception(
    "minutes wait for the end of the epoch",
    swap=("if self.stop_reason or (self.minutes and self.progress >= 1):", "if self.stop_reason:"),
    because="Somebody gave 20 minutes because there are no more. Look at the clock after each step.",
)
loop.misconception(
    "minutes are not looked at",
    swap=("while not self.finished:", "while not self.stop_reason and self.epoch < self.epochs:"),
    because="With minutes, epochs do not count: a run of 10 minutes ends after 10 minutes, whatever the default of "
    "epochs is. `finished` knows which of the two was given.",
)
loop.misconception(
    "a stop_reason does not end the loop over epochs",
    swap=("while not self.finished:", "while not (self.progress >= 1 if self.minutes else self.epoch >= self.epochs):"),
    because="The break leaves the inner loop only, and then the next epoch begins, of one step. `finished` looks at "
    "the reason too.",
)
loop.misconception(
    "every training starts at epoch 0",
    swap=(START, "        self.epoch = self.steps = 0\n" + START),
    because="A run that was resumed has its epoch and its steps already. Set to 0 here, it does all of its epochs "
    "once more, with weights that are trained.",
)
loop.misconception(
    "the clock starts when the trainer is made",
    swap=(START, "        try:\n"),
    because="Between the making of a trainer and its training a notebook may wait for an hour. With minutes=10 that "
    "training is over before its first step.",
)
loop.misconception(
    "the clock forgets what a resumed run had used",
    swap=(START, f"        self.seconds_before = 0.0\n{START}"),
    because="A run of 60 minutes that is resumed after 59 then gets 60 more. `seconds_before` keeps what was used; "
    "only `started` is new.",
)
loop.misconception(
    "steps are counted twice",
    swap=(RUN, f"{RUN}                    self.steps += 1\n"),
    because="run_step counts the step that it has done. Counted once more by the loop, the progress runs at double "
    "speed: the rate is at its end after half of the epochs.",
)
loop.misconception(
    "the loop counts the steps, not run_step",
    swap=((STEPS, ""), (RUN, f"{RUN}                    self.steps += 1\n")),
    because="run_step promises to count, and its subclasses do so. With such a subclass each step counts twice.",
)
loop.misconception(
    "a step counts before it is done",
    swap=((f"        {STEP}\n{STEPS}", f"{STEPS}        {STEP}\n"),),
    because="A step that fails has then been counted, and a run that goes on after it believes that it had one more "
    "update than it had.",
)
loop.misconception(
    "steps are counted within the epoch",
    swap=(STEPS, "        self.steps = index + 1\n"),
    because="`steps` is the number of steps of the whole run: progress, warm-up and logs are made of it. Here it falls "
    "back to 1 at each epoch, and so does the rate.",
)
loop.misconception(
    "the index of a step is that of the run",
    swap=("step=index)", "step=self.steps)"),
    because="The step decides by its index whether a group of batches is full. An epoch may end within a group, and "
    "its gradients are cleared: counted through the run, the next group is then too short. The index starts at 0 in "
    "each epoch.",
)
loop.misconception(
    "the index starts at 1",
    swap=("enumerate(self.loader)", "enumerate(self.loader, 1)"),
    because="The step adds 1 itself: (step + 1) % accumulate. From 1 on, the first group of each epoch has one batch "
    "too few.",
)
loop.misconception(
    "precision and index are given by place",
    swap=("precision=self.precision, step=index)", "self.precision, index)"),
    because="The fifth argument of training.train_step is the precision, and the sixth is the clip: the index would "
    "be the norm at which gradients are cut, 0 at the first step. Give both by name.",
)
loop.misconception(
    "the precision is forgotten",
    swap=("precision=self.precision, step=index)", "precision=None, step=index)"),
    because="The run was asked to train in bfloat16, and trains in float32, at twice the memory and without a word.",
)
loop.misconception(
    "the parts are not kept",
    swap=(STEP, STEP.removeprefix("self.parts = ")),
    because="The hooks that log the losses, or look for NaN, read trainer.parts after each step. They see None.",
)
loop.misconception(
    "the loop calls step itself",
    swap=(RUN, f"                    {STEP}\n                    self.steps += 1\n"),
    because="A subclass trains in another way by overriding run_step, as the one with a teacher does. A loop that "
    "does the step itself never calls it.",
)
loop.misconception(
    "the batch comes after before_step",
    swap=((FOR, FOR.partition("\n")[0] + "\n"), (BEFORE, f"{BEFORE}                    self.batch = batch\n")),
    because="A hook that looks at the batch before a step, or mixes it, sees the one of the step before, and what it "
    "puts there is overwritten.",
)
loop.misconception(
    "the loader is started anew for each batch",
    swap=(
        (
            FOR,
            "                for index in range(len(self.loader)):\n"
            "                    self.batch = next(iter(self.loader))\n",
        ),
    ),
    because="iter(loader) begins at the first batch each time: the model sees the same few images all epoch, and the "
    "workers are started anew for every one. One for loop is one pass.",
)
loop.misconception(
    "the end of the step is left out when training stops",
    swap=((AFTER, ""), (LEAVE, LEAVE + AFTER)),
    because="The step was done, and counted. The hooks that log it, or update the average, have to see it, the last "
    "one too: first after_step, then the question whether to go on.",
)
loop.misconception(
    "after_train is called after each epoch",
    swap=(COUNT, f'{COUNT}                self.call("after_train")\n'),
    because="after_train closes what before_train opened. After the first epoch the log is closed, and the second one "
    "writes into a closed file.",
)


# ---- TeacherTrainer ------------------------------------------------------------------------------

teaching = Exercise(
    "engine.TeacherTrainer",
    stage=11,
    points=3,
    minutes=25,
    after="engine.Trainer",
    goal="Let a student imitate a teacher by changing what one step does, and nothing of the loop.",
    hints=(
        "The step does everything: forward, loss, backward, update. Of what it is given, which one thing has to be "
        "another so that the total has a second term?",
        "First ask the teacher, under the same circumstances as the student: what does `train_step` do with "
        "batch.images, and within which context does it run the model? Then make a function (maps, "
        "targets) that calls self.loss and "
        "adds to its total.",
        "The step gives your function the student's maps, and the teacher's answer is a variable of the enclosing "
        "method. A NamedTuple's _replace(total=…) gives a new one with all other parts. For no context at all there is "
        "contextlib.nullcontext(). Count the step and keep its parts, as the base class does.",
    ),
)


class Parts(NamedTuple):
    """More parts than a detection loss has, in another order."""

    box: Tensor
    total: Tensor
    landmark: Tensor


class Task(nn.Module):
    """The loss of the task. With `single` the total is one of the parts, the very same tensor."""

    def __init__(self, single: bool = False):
        super().__init__()
        self.single = single

    def forward(self, maps: list[Tensor], targets: Tensor) -> Parts:
        box, landmark = (maps[0] - targets).square().mean(), maps[0].abs().mean()
        return Parts(box, box if self.single else box + 0.5 * landmark, landmark)


class Step:
    """A step of training that notes how it is called and what the loss gives it."""

    def __init__(self, accumulate: int = 1):
        self.accumulate, self.calls, self.parts = accumulate, [], []

    def __call__(self, model, loss, batch, optimizer, *, precision, step):
        self.calls.append(
            {"model": model, "batch": batch, "optimizer": optimizer, "precision": precision, "step": step}
        )
        with precision.autocast() if precision else contextlib.nullcontext():
            maps = [own.float() for own in model(batch.images.float() / 255)]
        parts = loss(maps, batch.targets)
        scaler = precision.scaler if precision else torch.amp.GradScaler("cpu", enabled=False)
        scaler.scale(parts.total / self.accumulate).backward()
        if (step + 1) % self.accumulate == 0:
            scaler.unscale_(optimizer)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
        parts = type(parts)(*(own.detach().clone() for own in parts))
        self.parts.append(parts._asdict())
        return parts


def imitate(student: list[Tensor], teacher: list[Tensor]) -> Tensor:
    """Not the same if the two change places, and 0 for no pair of the probes."""
    return (student[0] * student[0] - 2 * student[0] * teacher[0].float()).mean() + 0.5 * student[0].abs().sum()


def batch(number: int = 0) -> SimpleNamespace:
    images = values(2, 3, 2, 2, low=0, high=255, seed=40 + number).to(torch.uint8)
    images[0, 0, 0, 0], images[0, 0, 0, 1] = 0, 255
    return SimpleNamespace(images=images, targets=values(2, 2, 2, 2, low=-2, high=2, seed=60 + number).float())


def pupil(course, gain: float = 0.5, step: Callable | None = None, teacher: nn.Module | None = None, **more):
    more = {"loss": Task(), "imitate": imitate} | more
    return trainer(course, kind="TeacherTrainer", teacher=teacher or net(1), gain=gain, step=step or Step(), **more)


def steps(run, *batches) -> None:
    for index, run.batch in enumerate(batches):
        run.run_step(index)


@teaching.probe("what the teacher sees")
def _(course):
    teacher, plain, low = net(1), net(1), net(1)
    steps(pupil(course, teacher=teacher), batch(0), batch(1))
    steps(pupil(course, teacher=plain, precision=precision()), batch(0))
    half = precision(autocast=lambda: torch.autocast("cpu", dtype=torch.bfloat16))
    steps(pupil(course, teacher=low, precision=half), batch(0))
    return {
        "without a precision": teacher.seen,
        "in float32": plain.seen,
        "in bfloat16": [own["autocast"] for own in low.seen],
    }


@teaching.probe("the circumstances of the imitation")
def _(course):
    seen: list[dict[str, object]] = []

    def look(student, teacher):
        seen.append(
            {
                "gradients": torch.is_grad_enabled(),
                "autocast": torch.is_autocast_enabled("cpu"),
                "student with a graph": student[0].requires_grad,
                "teacher with a graph": teacher[0].requires_grad,
            }
        )
        return imitate(student, teacher)

    half = precision(autocast=lambda: torch.autocast("cpu", dtype=torch.bfloat16))
    steps(pupil(course, imitate=look, precision=half), batch(0), batch(1))
    return {"each time": seen}


class Travelling(Tensor):
    """Images that note the devices to which they are moved."""

    log: ClassVar[list[str]] = []

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func.__name__ in ("to", "cpu", "cuda"):
            asked = [getattr(own, "device", own) for own in (*args[1:], *kwargs.values())]
            cls.log += [str(own) for own in asked if isinstance(own, (torch.device, str))]
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **kwargs)


@teaching.probe("the teacher's device")
def _(course):
    own = batch()
    own.images = own.images.as_subclass(Travelling)
    Travelling.log = []
    steps(pupil(course), own)
    return {"the images were moved to": sorted(set(Travelling.log))}


@teaching.probe("the loss")
def _(course):
    found = {}
    for name, gain, loss in (
        ("gain 0.5", 0.5, Task()),
        ("gain 2", 2.0, Task()),
        ("a total that is one of the parts", 0.5, Task(single=True)),
    ):
        step = Step()
        run = pupil(course, gain=gain, step=step, loss=loss)
        steps(run, batch(0), batch(1))
        found[name] = {"parts for the step": step.parts, "parts of the trainer": run.parts._asdict()}
        found[name]["the trainer's loss is as it was"] = run.loss is loss
    return found


@teaching.probe("how the step is called")
def _(course):
    step, own, batches = Step(), precision(), [batch(0), batch(1), batch(2)]
    run = pupil(course, step=step, precision=own)
    steps(run, *batches)
    given = {"model": run.model, "optimizer": run.optimizer, "precision": own}
    calls = [
        {name: call[name] is value for name, value in given.items()}
        | {"index": call["step"], "batch": next((n for n, b in enumerate(batches) if b is call["batch"]), "another")}
        for call in step.calls
    ]
    without = pupil(course, step=(other := Step()))
    steps(without, batch(0))
    return {
        "calls": calls,
        "steps counted": run.steps,
        "epochs counted": run.epoch,
        "without a precision": attempt(lambda: other.calls[0]["precision"]),
    }


@teaching.probe("weights after some steps")
def _(course):
    found = {}
    for name, accumulate, own in (
        ("an update at each", 1, None),
        ("an update at every second", 2, None),
        ("with a scaler", 2, precision(scale=1024.0)),
    ):
        run = pupil(course, step=Step(accumulate), precision=own)
        steps(run, *map(batch, range(4)))
        found[name] = run.model.state_dict()
        if own:
            found["scale"] = own.scaler.get_scale()
    return found


@teaching.probe("what is left of the step")
def _(course):
    teacher, own = net(1), batch()
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    run = pupil(course, teacher=teacher)
    steps(run, own, own)
    return {
        "moved in the teacher": [n for n, tensor in teacher.state_dict().items() if not torch.equal(tensor, before[n])],
        "gradients in the teacher": [n for n, p in teacher.named_parameters() if p.grad is not None],
        "the teacher's weights that learn": [n for n, p in teacher.named_parameters() if p.requires_grad],
        "images": own.images,
        "gradients are recorded": torch.is_grad_enabled(),
        "the student": modes(run.model),
        "the student's passes": len(run.model.seen),
        "batch": run.batch is own,
    }


ANSWERED = "with torch.no_grad(), self.precision.autocast() if self.precision else contextlib.nullcontext():"
IMAGES = "images = self.batch.images.to(next(self.teacher.parameters()).device).float() / 255"
TOTAL = "return parts._replace(total=parts.total + self.gain * self.imitate(maps, wanted))"
TASK = "parts = self.loss(maps, targets)"
ASK = f"        {ANSWERED}\n            wanted = self.teacher(images)\n"
FROZEN = "teacher.eval().requires_grad_(False)"
CALL = "self.parts = self.step(self.model, both, self.batch, self.optimizer, precision=self.precision, step=index)"

teaching.misconception(
    "the teacher runs in train mode",
    swap=(FROZEN, "teacher.train().requires_grad_(False)"),
    because="It normalises by the statistics of each batch, and every answer changes those that it has learned: after "
    "an epoch you learn from another teacher.",
    museum=23,
)
teaching.misconception(
    "the teacher's weights are not frozen",
    swap=(FROZEN, "teacher.eval()"),
    because="no_grad keeps gradients away here, so nothing moves. But whoever collects the trainable weights by "
    "requires_grad takes the teacher's too, and weight decay shrinks them.",
)
teaching.misconception(
    "the teacher answers with a graph",
    swap=(ANSWERED, ANSWERED.replace("torch.no_grad(), ", "")),
    because="Frozen weights make no graph as long as nothing in front of them learns. Do not rely on it: under "
    "torch.no_grad() there is none, whatever somebody puts there.",
)
teaching.misconception(
    "the teacher answers in inference mode",
    swap=("torch.no_grad()", "torch.inference_mode()"),
    because="Tensors of inference mode may take no part in a computation with gradients: a product with the student's "
    "map ends with 'Inference tensors cannot be saved for backward'.",
)
teaching.misconception(
    "the teacher gets bytes",
    swap=(".float() / 255", ""),
    because="A batch holds bytes, because they are four times smaller. The student's step makes them float32 in 0…1; "
    "for the teacher you have to do it yourself.",
)
teaching.misconception(
    "the teacher gets 0…255",
    swap=(".float() / 255", ".float()"),
    because="The teacher was trained on images in 0…1. On 0…255 it answers without an error, and what it answers is "
    "nonsense that the student then learns.",
)
teaching.misconception(
    "the batch itself is changed",
    swap=(IMAGES, f"self.batch.{IMAGES.replace('images = ', 'images = images = ')}"),
    because="The step divides by 255 as well: the student sees images in 0…0.004, nearly black, and the teacher sees "
    "them as they are. Put the result into a variable of your own.",
)
teaching.misconception(
    "the images stay where they are",
    swap=(".to(next(self.teacher.parameters()).device)", ""),
    because="The loader gives images on the processor, and the step moves its own copy. On a card the teacher stops "
    "with 'Expected all tensors to be on the same device'. On a processor nothing shows.",
)
teaching.misconception(
    "the teacher runs without autocast",
    swap=(ANSWERED, "with torch.no_grad():"),
    because="The teacher is usually the larger of the two. In float32 it takes twice the memory and the time that the "
    "run was asked for. Give it the circumstances of the student.",
)
teaching.misconception(
    "the device is compared with a word",
    swap=(
        ANSWERED,
        'with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=images.device != "cpu"):',
    ),
    because="A torch.device is never equal to a string, so this is true everywhere, and the teacher answers in "
    "bfloat16 on the processor too, in a run that asked for float32. The precision of the trainer knows; ask it.",
    museum=82,
)
teaching.misconception(
    "the precision is always there",
    swap=(ANSWERED, "with torch.no_grad(), self.precision.autocast():"),
    because="precision=None means float32, and None has no autocast. contextlib.nullcontext() is a context that does "
    "nothing.",
)
teaching.misconception(
    "two updates in one step",
    swap=(CALL, f"super().run_step(index)\n        self.steps -= 1\n        {CALL}"),
    because="First the step of the task, then one more: two forward passes, two updates with the momentum in between, "
    "and groups of batches that are counted twice. One step, on one sum.",
)
teaching.misconception(
    "the imitation has a backward pass of its own",
    swap=(
        TOTAL,
        "(self.gain * self.imitate(maps, wanted)).backward(retain_graph=True)\n            return parts",
    ),
    because="The gradients do add up. But these were not scaled by the scaler, nor divided by the number of batches, "
    "so in float16 the imitation counts next to nothing, and with accumulation too much. And the log shows a total "
    "without it. Add it to the total.",
)
teaching.misconception(
    "the imitation takes the place of the task",
    swap=(TOTAL, "return parts._replace(total=self.gain * self.imitate(maps, wanted))"),
    because="The student then never learns what the teacher does not know: the labels.",
)
teaching.misconception(
    "the teacher has no say",
    swap=(TOTAL, "return parts"),
    because="The teacher is asked and its answer dropped. The run costs half as much again and trains as without.",
)
teaching.misconception(
    "the gain is left out",
    swap=("self.gain * self.imitate", "self.imitate"),
    because="Whoever tunes the gain sees no effect at all.",
)
teaching.misconception(
    "the gain weighs the task too",
    swap=(
        "parts.total + self.gain * self.imitate(maps, wanted)",
        "self.gain * (parts.total + self.imitate(maps, wanted))",
    ),
    because="Then it is a factor on the learning rate, and the balance of the two never changes.",
)
teaching.misconception(
    "teacher and student change places",
    swap=("self.imitate(maps, wanted)", "self.imitate(wanted, maps)"),
    because="Most measures of imitation are not symmetric: a divergence weighs by the teacher's probabilities. The "
    "student's maps come first.",
)
teaching.misconception(
    "the student's maps are detached",
    swap=("self.imitate(maps, wanted)", "self.imitate([own.detach() for own in maps], wanted)"),
    because="The value is right and stands in the log, but no gradient reaches the student. Only the teacher's side "
    "has none.",
)
teaching.misconception(
    "the imitation is added to every part",
    swap=(
        TOTAL,
        "extra = self.gain * self.imitate(maps, wanted)\n            return parts._make(own + extra for own in parts)",
    ),
    because="The training is right, and the log is not: the box loss seems to be larger with a teacher. Only the total "
    "has both.",
)
teaching.misconception(
    "the total is changed in place",
    swap=(TOTAL, "parts.total.add_(self.gain * self.imitate(maps, wanted))\n            return parts"),
    because="A loss of one part may give the same tensor as part and as total. In place, both change. "
    "_replace makes new parts with a new total.",
)
teaching.misconception(
    "only the total is given back",
    swap=(TOTAL, TOTAL.replace("parts._replace(total=", "(")),
    because="The step wants the parts of a loss: it takes .total for the backward pass and keeps the rest for the log.",
)
teaching.misconception(
    "the loss is wrapped anew at each step",
    swap=(
        (TASK, "parts = before(maps, targets)"),
        ("        def both(maps, targets):", "        before = self.loss\n\n        def both(maps, targets):"),
        (CALL, "self.loss = both\n        " + CALL),
    ),
    because="self.loss is now the sum, and the next step adds to that: after a hundred steps the imitation of a "
    "hundred batches counts, each with its own teacher's answer. Leave self.loss as it is.",
)
teaching.misconception(
    "the teacher's first answer is kept",
    swap=(
        ASK,
        "        if not hasattr(self, 'wanted'):\n"
        "            self.wanted = self.teacher(self.batch.images.float() / 255)\n"
        "        wanted = self.wanted\n",
    ),
    because="The answer belongs to the images of one batch. Kept, it teaches the student to see the first batch in "
    "all others.",
)
teaching.misconception(
    "the teacher sees one image",
    swap=("wanted = self.teacher(images)", "wanted = self.teacher(images[:1])"),
    because="The maps of one image are broadcast over the batch without an error, and all students' images are "
    "compared with the first.",
)
teaching.misconception(
    "the step is not counted",
    swap=("        self.steps += 1\n", ""),
    because="The base class counts in run_step, so whoever overrides it has to count. Without it progress stays at 0: "
    "the rate stays in its warm-up for the whole run.",
)
teaching.misconception(
    "the parts are not kept",
    swap=(CALL, CALL.removeprefix("self.parts = ")),
    because="The base class keeps them in run_step, so whoever overrides it has to. The log shows None.",
)
teaching.misconception(
    "the precision is forgotten",
    swap=("precision=self.precision, step=index)", "precision=None, step=index)"),
    because="The teacher runs in the format that was asked for, and the student in float32, without a scaler.",
)
teaching.misconception(
    "every step has the index 0",
    swap=("precision=self.precision, step=index)", "precision=self.precision, step=0)"),
    because="The step decides by its index whether an update is due. With accumulation none ever is.",
)
teaching.misconception(
    "the teacher is trained",
    swap=("self.step(self.model, both", "self.step(self.teacher, both"),
    because="The model that the step gets is the one that learns. The teacher imitates itself, and the student is left "
    "out.",
)


# ---- snapshot ------------------------------------------------------------------------------------

keeping = Exercise(
    "engine.snapshot",
    stage=11,
    points=2,
    minutes=15,
    after="engine.Trainer",
    goal="Collect everything that decides how training continues.",
    hints=(
        "Stop a run in thought, and start it again in a new process with these weights alone. What starts from zero "
        "there, although it should not? Go through the optimizer, the scaler, the hooks, the numbers of the trainer, "
        "and what decides the next mosaic.",
        "Whatever has a state has a method that gives it as a dict, hooks too. `named_hooks` gives each hook a name of "
        "its own, two of one class as well. A wrapped model puts a word before each name in its state.",
        "bare, named_hooks and seconds are there already. torch has get_rng_state. A precision may be None, and the "
        "scaler's state then is {}. dict(…) of a dict is a copy of it.",
    ),
)


def counter(course, count: int, name: str = "Counter"):
    """A hook that has a number to keep."""

    def load(self, state: dict) -> None:
        self.count = state["count"]

    made = type(
        name, (course.engine.Hook,), {"state_dict": lambda self: {"count": self.count}, "load_state_dict": load}
    )()
    made.count = count
    return made


def interrupted(course, *hooks, wrapped: bool = False, **more):
    """A trainer in the middle of a run of a thousand seconds."""
    model = net(2)
    run = trainer(course, *hooks, model=Wrapped(model) if wrapped else model, epochs=8, **more)
    run.epoch, run.steps, run.seconds_before = 3, 14, 1_000.0
    run.metrics = {"loss": 0.5, "mAP": 0.25}
    for number, velocity in enumerate(run.optimizer.velocity, start=1):
        velocity.fill_(number)
    return run


def draw() -> list[float]:
    return [round(own, 4) for own in torch.rand(3, dtype=torch.float64).tolist()]


def kinds(value: object) -> set[str]:
    """The kinds of all values in dicts and lists: what a file of plain data cannot hold shows."""
    if isinstance(value, dict):
        return set().union(*map(kinds, value.values())) if value else set()
    if isinstance(value, (list, tuple)):
        return set().union(*map(kinds, value)) if value else set()
    return {"a tensor" if isinstance(value, Tensor) else type(value).__name__}


@keeping.probe("a run without precision and hooks")
def _(course):
    run = interrupted(course)
    seen = course.engine.snapshot(run)
    numbers = dict(seen["trainer"])
    numbers["seconds, rounded to 100"] = 100 * round(float(numbers.pop("seconds")) / 100)
    return {
        "keys": sorted(seen),
        "model": seen["model"],
        "optimizer": seen["optimizer"],
        "scaler": seen["scaler"],
        "hooks": seen["hooks"],
        "trainer": numbers,
    }


@keeping.probe("the clock")
def _(course):
    run = interrupted(course)
    run.started -= 300  # five minutes ago
    return {"seconds, rounded to 100": 100 * round(float(course.engine.snapshot(run)["trainer"]["seconds"]) / 100)}


@keeping.probe("the wrapper of distributed training")
def _(course):
    return {"model": course.engine.snapshot(interrupted(course, wrapped=True))["model"]}


@keeping.probe("a gradient scaler")
def _(course):
    on, off = (course.engine.snapshot(interrupted(course, precision=own)) for own in (precision(512.0), precision()))
    return {"on": on["scaler"], "off": off["scaler"]}


@keeping.probe("hooks")
def _(course):
    hooks = [counter(course, 4), counter(course, 5, "Other"), counter(course, 6), course.engine.EvaluationHook(figures)]
    hooks.append(counter(course, 7))
    hooks[2].__class__ = hooks[4].__class__ = type(hooks[0])
    return {"hooks": course.engine.snapshot(interrupted(course, *hooks))["hooks"]}


@keeping.probe("random numbers")
def _(course):
    torch.manual_seed(11)
    draw()
    random.seed(5)
    before = torch.get_rng_state()
    seen = course.engine.snapshot(interrupted(course))["random"]
    unmoved = bool(torch.equal(before, torch.get_rng_state()))
    torch.set_rng_state(before)
    expected = draw()
    torch.manual_seed(99)
    torch.set_rng_state(seen)
    return {"the same numbers follow": draw() == expected, "nothing is drawn": unmoved}


@keeping.probe("training goes on afterwards")
def _(course):
    run = interrupted(course, counter(course, 4), precision=precision(512.0))
    seen = course.engine.snapshot(run)
    run.metrics["loss"] = 0.125
    run.metrics |= {"late": 1.0}
    return {"metrics": seen["trainer"]["metrics"], "the trainer's": run.metrics, "kinds of values": sorted(kinds(seen))}


MODEL = '"model": bare(trainer.model).state_dict(),'
OPTIMIZER = '"optimizer": trainer.optimizer.state_dict(),'
SCALER = "trainer.precision.scaler.state_dict() if trainer.precision else {}"
HOOKS = "{name: hook.state_dict() for name, hook in trainer.named_hooks.items()}"

keeping.misconception(
    "the wrapper's names",
    swap=(MODEL, '"model": trainer.model.state_dict(),'),
    because="The wrapper of distributed training puts `module.` before every name. A run that goes on with one process "
    "finds none of its names. Save the bare model.",
)
keeping.misconception(
    "the model itself",
    swap=(MODEL, '"model": bare(trainer.model),'),
    because="A file with objects in it needs the same code to be read, and may run code when it is. A state is names "
    "and tensors.",
)
keeping.misconception(
    "only what learns",
    swap=(MODEL, '"model": {name: own.detach() for name, own in bare(trainer.model).named_parameters()},'),
    because="The running statistics of batch normalisations are no parameters. Without them the model evaluates with "
    "mean 0 and variance 1. state_dict has both.",
)
keeping.misconception(
    "the optimizer is forgotten",
    swap=(OPTIMIZER, '"optimizer": {},'),
    because="Momentum and AdamW's averages start from zero: the loss jumps when the run goes on, and needs hundreds of "
    "steps to come back.",
)
keeping.misconception(
    "only the optimizer's settings",
    swap=(OPTIMIZER, '"optimizer": {"state": {}, "param_groups": trainer.optimizer.state_dict()["param_groups"]},'),
    because="The rate is kept, and the momentum is lost. Both stand in its state_dict: take it whole.",
)
keeping.misconception(
    "the optimizer itself",
    swap=(OPTIMIZER, '"optimizer": trainer.optimizer,'),
    because="It holds the model's own tensors, which change with the next step. Its state_dict is what load_state_dict "
    "takes.",
)
keeping.misconception(
    "the scaler is forgotten",
    swap=(SCALER, "{}"),
    because="In float16 the scaler starts with 65536 again, and its first steps overflow and are left out.",
)
keeping.misconception(
    "a precision is always there",
    swap=(SCALER, "trainer.precision.scaler.state_dict()"),
    because="precision=None means float32, and None has no scaler.",
)
keeping.misconception(
    "hooks of one class share a place",
    swap=(HOOKS, "{type(hook).__name__: hook.state_dict() for hook in trainer.hooks}"),
    because="Two hooks of one class have one name, and the second takes the place of the first: both go on with its "
    "state. `named_hooks` calls the second one Class 2.",
    museum=79,
)
keeping.misconception(
    "the first of each class is kept",
    swap=(HOOKS, "{type(hook).__name__: hook.state_dict() for hook in reversed(trainer.hooks)}"),
    because="That is what detectron2 does: of several hooks of one class the first is kept, and the others lose their "
    "state. `named_hooks` calls the second one Class 2.",
    museum=79,
)
keeping.misconception(
    "hooks in a list",
    swap=(HOOKS, "[hook.state_dict() for hook in trainer.hooks]"),
    because="Somebody adds a hook, or removes one, before going on, and each one after it gets the state of another. "
    "Names are safer than places.",
)
keeping.misconception(
    "hooks without a state are left out",
    swap=(HOOKS, f"{HOOKS.removesuffix('}')} if hook.state_dict()}}"),
    because="For each name there is a state, an empty one too. So a reader of the file sees which hooks the run had.",
)
keeping.misconception(
    "the hooks themselves",
    swap=(HOOKS, "trainer.named_hooks"),
    because="A hook may hold a file, a window, a model. Such a checkpoint cannot be written, or not be read elsewhere.",
)
keeping.misconception(
    "hooks are forgotten",
    swap=(HOOKS, "{}"),
    because="The average of the weights starts anew, the best figure is forgotten, and the next evaluation overwrites "
    "the best weights with worse ones.",
)
keeping.misconception(
    "the next epoch instead of the last",
    swap=('"epoch": trainer.epoch', '"epoch": trainer.epoch + 1'),
    because="`epoch` is the number of completed epochs, so it is the index of the next one already. With 1 added an "
    "epoch is left out at each interruption.",
    museum=81,
)
keeping.misconception(
    "the epoch before",
    swap=('"epoch": trainer.epoch', '"epoch": trainer.epoch - 1'),
    because="`epoch` counts completed epochs. With 1 less an epoch is trained twice at each interruption.",
    museum=81,
)
keeping.misconception(
    "steps are those of whole epochs",
    swap=('"steps": trainer.steps', '"steps": trainer.epoch * len(trainer.loader)'),
    because="An epoch may have been cut short, and the loader of an earlier stage may have had another length. `steps` "
    "has counted.",
)
keeping.misconception(
    "the time before the last interruption",
    swap=('"seconds": trainer.seconds', '"seconds": trainer.seconds_before'),
    because="That is what was used before this run began. What it has used itself is missing, so a run of an hour gets "
    "more with each interruption.",
)
keeping.misconception(
    "the time since the last interruption",
    swap=('"seconds": trainer.seconds', '"seconds": trainer.seconds - trainer.seconds_before'),
    because="That is the time of this run alone. After a second interruption the first part is forgotten. `seconds` "
    "has both.",
)
keeping.misconception(
    "metrics are shared",
    swap=("dict(trainer.metrics)", "trainer.metrics"),
    because="Both names mean one dict: what the next epoch writes there changes the snapshot as well. dict(…) copies.",
)
keeping.misconception(
    "metrics are forgotten",
    swap=("dict(trainer.metrics)", "{}"),
    because="The first line of the log after the interruption lacks the figures that no hook has measured since.",
)
keeping.misconception(
    "the seed instead of the state",
    swap=("torch.get_rng_state()", "torch.random.initial_seed()"),
    because="A seed says where the numbers began, not where they are. The run would draw the mosaics of its first "
    "epoch again.",
)
keeping.misconception(
    "a new seed",
    swap=("torch.get_rng_state()", "torch.manual_seed(trainer.steps).get_state()"),
    because="To write a checkpoint must change nothing. This sets the random state of the run that goes on, so a run "
    "with checkpoints trains otherwise than one without.",
)
keeping.misconception(
    "Python's random numbers",
    swap=("torch.get_rng_state()", "list(__import__('random').getstate()[1])"),
    because="Python, numpy and torch draw from states of their own. Here orders, dropout and mosaics come from torch.",
)


# ---- resume_or_load ------------------------------------------------------------------------------

resuming = Exercise(
    "engine.resume_or_load",
    stage=11,
    points=3,
    minutes=20,
    after="engine.snapshot",
    goal="Go on with a run so that nobody can tell that it was interrupted; else begin one from weights.",
    hints=(
        "There are three cases, and two arguments that may be None. Which one wins if both are given, and what does "
        "the function say to whoever called it?",
        "Everything that snapshot has collected goes back to where it came from: whatever has a state_dict has a "
        "load_state_dict. `epoch` is the number of completed epochs, so it is the index of the next one as it stands. "
        "The time goes to `seconds_before`, because `seconds` is computed.",
        "Go through trainer.named_hooks, not through the names in the checkpoint: hooks may have come or gone, and "
        "dict.get says None for a name that is not there. The model may be wrapped, the precision None. "
        "torch.set_rng_state comes last: what is done before may draw random numbers.",
    ),
)


def kept(course, **changes) -> dict:
    """A checkpoint of another run: after its third epoch and 14 steps."""
    run = interrupted(course)
    return {
        "model": run.model.state_dict(),
        "optimizer": run.optimizer.state_dict() | {"param_groups": [{"lr": 0.02, "params": [0, 1, 2]}]},
        "scaler": {},
        "hooks": {},
        "trainer": {"epoch": 3, "steps": 14, "seconds": 1_000.0, "metrics": {"loss": 0.5, "mAP": 0.25}},
        "random": torch.Generator().manual_seed(5).get_state(),
    } | changes


def fresh(course, *hooks, wrapped: bool = False, **more):
    """A trainer that has done nothing yet."""
    model = net()
    return trainer(course, *hooks, model=Wrapped(model) if wrapped else model, epochs=8, **more)


def state(run) -> dict[str, object]:
    """Where a trainer stands."""
    return {
        "weights": run.model.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "epoch": run.epoch,
        "steps": run.steps,
        "metrics": dict(run.metrics),
        "seconds before": float(run.seconds_before),
        "seconds, rounded to 100": 100 * round(float(run.seconds) / 100),
    }


@resuming.probe("neither a checkpoint nor weights")
def _(course):
    run = fresh(course)
    return {"returned": course.engine.resume_or_load(run, None), **state(run)}


@resuming.probe("weights alone")
def _(course):
    run, wrapped = fresh(course), fresh(course, wrapped=True)
    weights = net(7).state_dict()
    return {
        "returned": [course.engine.resume_or_load(own, None, weights) for own in (run, wrapped)],
        "wrapped": wrapped.model.state_dict(),
        **state(run),
    }


@resuming.probe("a checkpoint")
def _(course):
    run = fresh(course)
    return {"returned": course.engine.resume_or_load(run, kept(course)), **state(run)}


@resuming.probe("a checkpoint and weights")
def _(course):
    run = fresh(course)
    returned = course.engine.resume_or_load(run, kept(course), net(7).state_dict())
    return {"returned": returned, "weights": run.model.state_dict()}


@resuming.probe("the wrapper of distributed training")
def _(course):
    run = fresh(course, wrapped=True)
    return {"returned": course.engine.resume_or_load(run, kept(course)), "weights": run.model.state_dict()}


@resuming.probe("names that do not fit")
def _(course):
    other = {f"module.{name}": tensor for name, tensor in net(7).state_dict().items()}

    def kind(*args) -> str:
        try:
            return f"returned {course.engine.resume_or_load(fresh(course), *args)}"
        except NotImplementedError:  # it is a RuntimeError too
            raise
        except RuntimeError:
            return "RuntimeError"

    return {"in weights": kind(None, other), "in a checkpoint": kind(kept(course, model=other))}


@resuming.probe("a gradient scaler")
def _(course):
    run, without = fresh(course, precision=precision(8.0)), fresh(course)
    scaler = precision(512.0).scaler.state_dict() | {"_growth_tracker": 1}
    returned = [course.engine.resume_or_load(own, kept(course, scaler=scaler)) for own in (run, without)]
    return {"returned": returned, "scaler": run.precision.scaler.state_dict()}


@resuming.probe("hooks")
def _(course):
    one, other, two, late = (
        counter(course, 1),
        counter(course, 2, "Other"),
        counter(course, 3),
        counter(course, 4, "Late"),
    )
    two.__class__ = type(one)
    states = {"Gone": {"count": 50}, "Counter": {"count": 10}, "Counter 2": {"count": 30}, "Other": {"count": 20}}
    run = fresh(course, other, one, two, course.engine.EvaluationHook(figures), late)
    returned = course.engine.resume_or_load(run, kept(course, hooks=states))
    return {"returned": returned, "counts": {"Other": other.count, "Counter": one.count, "Counter 2": two.count}} | {
        "a hook that it has no state of": late.count
    }


@resuming.probe("random numbers")
def _(course):
    class Drawing(course.engine.Hook):
        def load_state_dict(self, state):
            draw()

    expected = draw_from(5)
    torch.manual_seed(99)
    course.engine.resume_or_load(fresh(course, Drawing()), kept(course, hooks={"Drawing": {"drawn": 1}}))
    found = {"the numbers of the checkpoint follow": draw() == expected}
    torch.manual_seed(5)
    course.engine.resume_or_load(fresh(course), None, net(7).state_dict())
    return found | {"without a checkpoint they go on": draw() == expected}


def draw_from(seed: int) -> list[float]:
    torch.manual_seed(seed)
    return draw()


@resuming.probe("the checkpoint afterwards")
def _(course):
    own, run = kept(course), fresh(course)
    run.metrics = {"old": 3.0}
    course.engine.resume_or_load(run, own)
    found = {"the trainer's metrics": dict(run.metrics)}
    run.metrics |= {"late": 1.0}
    return found | {"the checkpoint's": own["trainer"], "keys": sorted(own)}


def trained(run, epochs: int) -> list[float]:
    """Some epochs of three steps by hand: noise from torch, a momentum, a rate that falls with the steps."""
    losses = []
    for _ in range(epochs):
        run.epoch += 1
        for number in range(3):
            noise = torch.rand(1, dtype=torch.float64).item()
            run.optimizer.rate = 0.1 / (1 + run.steps)
            loss = (run.model(values(2, 3, 2, 2, seed=number).float())[0] - noise).square().mean()
            run.optimizer.zero_grad()
            loss.backward()
            run.optimizer.step()
            run.steps += 1
            losses.append(loss.item())
    return losses


@resuming.probe("a run in one piece, and the same in two")
def _(course):
    torch.manual_seed(3)
    whole = fresh(course)
    trained(whole, 2)
    checkpoint = kept(course) | {
        "model": {name: tensor.clone() for name, tensor in whole.model.state_dict().items()},
        "optimizer": {
            "state": {n: {"momentum_buffer": own.clone()} for n, own in enumerate(whole.optimizer.velocity)},
            "param_groups": [{"lr": whole.optimizer.rate, "params": [0, 1, 2]}],
        },
        "trainer": {"epoch": whole.epoch, "steps": whole.steps, "seconds": 60.0, "metrics": {}},
        "random": torch.get_rng_state(),
    }
    expected = trained(whole, 2)
    torch.manual_seed(77)
    run = fresh(course)
    course.engine.resume_or_load(run, checkpoint)
    losses = trained(run, 2)
    return {
        "losses of the second half": losses,
        "as without an interruption": bool(torch.allclose(torch.tensor(losses), torch.tensor(expected))),
        "epoch": run.epoch,
        "steps": run.steps,
    }


NOTHING = """    if checkpoint is None:
        if weights is not None:
            bare(trainer.model).load_state_dict(weights)
        return False
"""
LOAD = '    bare(trainer.model).load_state_dict(checkpoint["model"])\n'
STATE = '    trainer.optimizer.load_state_dict(checkpoint["optimizer"])\n'
SCALE = '    if trainer.precision:\n        trainer.precision.scaler.load_state_dict(checkpoint["scaler"])\n'
EACH = """    for name, hook in trainer.named_hooks.items():
        if state := checkpoint["hooks"].get(name):
            hook.load_state_dict(state)
"""
NUMBERS = 'trainer.epoch, trainer.steps, trainer.seconds_before = known["epoch"], known["steps"], known["seconds"]'
RANDOM = '    torch.set_rng_state(checkpoint["random"])\n'
DONE = f"{RANDOM}    return True\n"

resuming.misconception(
    "an epoch is repeated",
    swap=('known["epoch"], known', 'known["epoch"] - 1, known'),
    because="In engines that keep the index of the last epoch, its number is one less than that of the next. Here "
    "`epoch` counts completed epochs: it is the index of the next one as it stands.",
    museum=81,
)
resuming.misconception(
    "an epoch is left out",
    swap=('known["epoch"], known', 'known["epoch"] + 1, known'),
    because="`iter + 1` is right where `iter` is the index of the last iteration, as in detectron2. Here `epoch` "
    "counts completed epochs, and so is the index of the next one already.",
    museum=81,
)
resuming.misconception(
    "steps go on one too late",
    swap=('known["steps"], known', 'known["steps"] + 1, known'),
    because="`steps` counts completed steps. It is the index of the next one already, and each interruption would add "
    "one.",
    museum=81,
)
resuming.misconception(
    "steps start at 0",
    swap=(NUMBERS, 'trainer.epoch, trainer.seconds_before = known["epoch"], known["seconds"]'),
    because="Progress and warm-up are made of the steps. The rate warms up again, and is far too high at the end.",
    museum=81,
)
resuming.misconception(
    "epochs start at 0",
    swap=(NUMBERS, 'trainer.steps, trainer.seconds_before = known["steps"], known["seconds"]'),
    because="The run does all of its epochs once more, and its files get the names of the first ones.",
    museum=81,
)
resuming.misconception(
    "the time that was used is forgotten",
    swap=(NUMBERS, 'trainer.epoch, trainer.steps = known["epoch"], known["steps"]'),
    because="A run of 60 minutes that was interrupted after 59 gets 60 more. The time goes to `seconds_before`.",
)
resuming.misconception(
    "the clock is set back",
    swap=(
        NUMBERS,
        'trainer.epoch, trainer.steps = known["epoch"], known["steps"]\n    trainer.started -= known["seconds"]',
    ),
    because="`seconds` is right until train() starts its clock: that sets `started` anew, and the time is lost. It "
    "goes to `seconds_before`.",
)
resuming.misconception(
    "weights win",
    swap=(DONE, f"    if weights is not None:\n        bare(trainer.model).load_state_dict(weights)\n{DONE}"),
    because="Who starts the same command again after a crash gives the same weights to begin with. Loaded last, they "
    "put the model back to the start, with the momentum and the rate of the middle. A checkpoint wins.",
)
resuming.misconception(
    "weights are loaded and the checkpoint's are not",
    swap=(LOAD, "    if weights is not None:\n        bare(trainer.model).load_state_dict(weights)\n"),
    because="Epoch, rate and momentum go on, and the model starts anew.",
)
resuming.misconception(
    "names that do not fit are passed over",
    swap=("load_state_dict(weights)", "load_state_dict(weights, strict=False)"),
    because="With strict=False a state whose names all have a `module.` before them loads without an error, and not "
    "one tensor is taken. The training starts from random weights.",
)
resuming.misconception(
    "names of the checkpoint that do not fit are passed over",
    swap=('load_state_dict(checkpoint["model"])', 'load_state_dict(checkpoint["model"], strict=False)'),
    because="A checkpoint of another model is taken for this one's: nothing is loaded, and the run goes on in the "
    "middle with random weights.",
)
resuming.misconception(
    "the wrapper is asked for the bare model's names",
    swap=(LOAD, '    trainer.model.load_state_dict(checkpoint["model"])\n'),
    because="The wrapper of distributed training has `module.` before every name. `bare` gives the model that the "
    "state belongs to.",
)
resuming.misconception(
    "the wrapper is asked for the names of the weights",
    swap=("bare(trainer.model).load_state_dict(weights)", "trainer.model.load_state_dict(weights)"),
    because="The weights are a state of the bare model. The wrapper has `module.` before every name.",
)
resuming.misconception(
    "the optimizer is forgotten",
    swap=(STATE, ""),
    because="Its momentum starts from zero, and its rate is that of the first step. The loss jumps.",
)
resuming.misconception(
    "the scaler is forgotten",
    swap=(SCALE, ""),
    because="In float16 the scaler starts with 65536 again, and its first steps overflow and are left out.",
)
resuming.misconception(
    "a precision is always there",
    swap=(SCALE, '    trainer.precision.scaler.load_state_dict(checkpoint["scaler"])\n'),
    because="precision=None means float32, and None has no scaler.",
)
resuming.misconception(
    "hooks of one class get one state",
    swap=(
        EACH,
        """    for hook in trainer.hooks:
        if state := checkpoint["hooks"].get(type(hook).__name__):
            hook.load_state_dict(state)
""",
    ),
    because="The second hook of a class is called Class 2 in a snapshot. By the name of the class alone, both get the "
    "state of the first.",
    museum=79,
)
resuming.misconception(
    "hooks by their places",
    swap=(
        EACH,
        """    for hook, state in zip(trainer.hooks, checkpoint["hooks"].values()):
        hook.load_state_dict(state)
""",
    ),
    because="A hook that has come or gone, or stands elsewhere, gives each one after it the state of another. Names "
    "are safer than places.",
)
resuming.misconception(
    "every hook must be in the checkpoint",
    swap=(EACH, EACH.replace('if state := checkpoint["hooks"].get(name):', 'if state := checkpoint["hooks"][name]:')),
    because="A KeyError ends the attempt to go on with one more hook, such as a new line in the log. A hook that the "
    "checkpoint has no state of keeps the state that it has.",
)
resuming.misconception(
    "every state must have its hook",
    swap=(
        EACH,
        """    for name, state in checkpoint["hooks"].items():
        trainer.named_hooks[name].load_state_dict(state)
""",
    ),
    because="A run may go on without one of its hooks. A state that nobody asks for does no harm.",
)
resuming.misconception(
    "hooks without a state get an empty one",
    swap=(
        EACH,
        """    for name, hook in trainer.named_hooks.items():
        hook.load_state_dict(checkpoint["hooks"].get(name, {}))
""",
    ),
    because="A hook loads what it has saved, and looks for its own keys: in an empty dict there are none. A hook that "
    "the checkpoint has no state of is left alone.",
)
resuming.misconception(
    "hooks are forgotten",
    swap=(EACH, ""),
    because="The average of the weights starts anew, and the best figure is 0 again: the next evaluation overwrites "
    "the best weights with worse ones.",
)
resuming.misconception(
    "metrics are forgotten",
    swap=('    trainer.metrics = dict(known["metrics"])\n', ""),
    because="The first line of the log lacks the figures that no hook has measured since, such as the last average "
    "precision.",
)
resuming.misconception(
    "metrics are shared",
    swap=('dict(known["metrics"])', 'known["metrics"]'),
    because="Both names mean one dict: the training writes into the checkpoint. Whoever goes on from it a second time, "
    "to compare two rates, starts with the figures of the first time. dict(…) copies.",
)
resuming.misconception(
    "metrics are mixed with those that are there",
    swap=('trainer.metrics = dict(known["metrics"])', 'trainer.metrics |= known["metrics"]'),
    because="Figures that the interrupted run did not have stay in the log of the run that goes on.",
)
resuming.misconception(
    "random numbers start anew",
    swap=(RANDOM, ""),
    because="Everything else is as it was, and the losses are not: the next mosaics and dropouts are others, or those "
    "of the first epoch again. Nobody can then tell whether a difference is a bug.",
)
resuming.misconception(
    "random numbers first",
    swap=((RANDOM, ""), (LOAD, RANDOM + LOAD)),
    because="A hook that draws while it loads its state moves them on. Set them when all else is done.",
)
resuming.misconception(
    "nobody learns whether a run goes on",
    swap=(DONE, RANDOM),
    because="None counts as false: whoever asks takes the run for a new one, and writes the head of the log into its "
    "middle, or warms up again.",
)
resuming.misconception(
    "a run from weights is one that goes on",
    swap=(NOTHING, NOTHING.replace("        return False\n", "        return weights is not None\n")),
    because="Weights are a start, with epoch 0 and a rate that warms up. Only a checkpoint is a run that goes on.",
)
resuming.misconception(
    "weights are taken from a checkpoint only",
    swap=(NOTHING, "    if checkpoint is None:\n        return False\n"),
    because="There is no checkpoint at the first start, and that is when weights are for: the run starts from random "
    "ones, and nobody says so.",
)
resuming.misconception(
    "weights are always there",
    swap=(NOTHING, NOTHING.replace("        if weights is not None:\n            bare", "        bare")),
    because="Both may be None: a run from random weights. Then there is nothing to load.",
)
