"""Training engines run for some steps, and their moments read off the trace.

    tree = record("detectron2", epochs=2, steps=3)
    positions(seen(tree, "detectron2"))

Torch does the same work in each engine, so its backward passes and updates are the clock: two names
mean the same moment where their calls lie between the same backward passes and updates.
"""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from . import names

ENGINES = ("ours", "ultralytics", "yolov6", "detectron2")  # YOLOv6's main branch is on no package index


@contextmanager
def running(engine: str, epochs: int = 1, steps: int = 1) -> Iterator[tuple[Callable, tuple[str, ...]]]:
    """An engine that is ready to train on the CPU: what to call, and the packages to watch.

    Args:
        engine: one of ENGINES. epochs, steps: how long; detectron2 does epochs · steps iterations,
            and evaluates every `steps`. With Ultralytics at most 4 steps.
    """
    with tempfile.TemporaryDirectory(prefix="yolostudy-engine-") as folder:
        if engine == "ours":
            from yolostudy.runs.sample import sample_trainer

            made = sample_trainer()
            made.loader, made.epochs = [*made.loader][:1] * steps, epochs
            yield made.train, ("yolostudy.engine", "yolostudy.training")
        elif engine == "ultralytics":
            from yolostudy.bridge import scenes

            settings = dict(images=2 * steps, batch=2, nbs=2, epochs=epochs)
            with scenes.trainer("detect", **settings) as made:
                yield made.train, ("ultralytics.engine.trainer", "ultralytics.models.yolo.detect.train")
        elif engine == "yolov6":
            small = importlib.import_module(".yolov6_engine", __package__)
            made = small.Trainer(small.arguments(folder, epochs=epochs, steps=steps), small.configuration())
            yield made.train, (small.__name__,)
        elif engine == "detectron2":
            small = importlib.import_module(".detectron2_engine", __package__)
            cfg = small.get_cfg(folder, max_iter=epochs * steps)
            cfg.TEST.EVAL_PERIOD = steps
            yield small.DefaultTrainer(cfg).train, (small.__name__,)
        else:
            raise ValueError(f"there is no engine {engine!r} to run; choose one of {', '.join(ENGINES)}.")


def record(engine: str, epochs: int = 1, steps: int = 1):
    """The tree of calls of an engine's training, with torch's backward passes and updates in it.

    It is a `Call`, as `yolostudy.trace.record` returns it.
    """
    from yolostudy.lens.calls.browser import recording

    with running(engine, epochs, steps) as (train, packages):
        return recording().record(train, packages=(*packages, "torch._tensor", "torch.optim"))


# ---- reading a trace -----------------------------------------------------------------------------


class Seen(NamedTuple):
    """One call of a trace that has a name in the table.

    Attributes:
        moment, name: row of MOMENTS, or "backward" and "optimizer.step" of torch. owner: the class
            of the object. level: how many seen calls are around it. start, end: in seconds.
    """

    moment: str
    name: str
    owner: str
    level: int
    start: float
    end: float


MARKS = ("backward", "optimizer.step")  # torch's, the same in every engine


def name_of(call) -> str:
    """What an engine calls this moment: the callback's name where a trainer announces it."""
    last = call.function.rpartition(".")[2]
    if call.module.startswith("torch"):
        return {"Tensor.backward": "backward"}.get(call.function, "optimizer.step" if _is_update(call) else "")
    if not call.owner.endswith("Trainer"):
        return ""  # a hook's own method, or a helper
    return str(call.arguments.get("moment" if last == "call" else "event", last))


def _is_update(call) -> bool:
    return call.function.endswith(".step") and call.module != "torch.optim.lr_scheduler"


def seen(tree, engine: str) -> list[Seen]:
    """The calls in a trace that the table names, and torch's marks, in the order in which they began."""
    moment_of = {name: moment for moment, row in names.MOMENTS.items() for name in row[engine]}
    moment_of |= {mark: mark for mark in MARKS}
    found: list[Seen] = []

    def walk(call, level: int) -> None:
        for inner in call.calls:
            name = name_of(inner)
            if name in moment_of:
                end = inner.start + inner.seconds
                found.append(Seen(moment_of[name], name, inner.owner, level, inner.start, end))
            if name not in MARKS:  # what torch does inside an update is its own
                walk(inner, level + (name in moment_of))

    walk(tree, 0)
    return found


def positions(calls: list[Seen]) -> dict[str, set[tuple[int, ...]]]:
    """Where each name lay: the backward passes and updates that were done when it began and ended.

    Before the first step that is (0, 0, 0, 0); a call that spans the second step is (1, 1, 2, 2).
    """
    marks = [[call.end for call in calls if call.moment == mark] for mark in MARKS]

    def done(time: float) -> tuple[int, ...]:
        return tuple(sum(end <= time for end in ends) for ends in marks)

    table: dict[str, set[tuple[int, ...]]] = {}
    for call in calls:
        table.setdefault(call.name, set()).add((*done(call.start), *done(call.end)))
    return table
