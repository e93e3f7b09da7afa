"""Rooms of what changes in the course of a training: evaluation, augmentation, learning rate.

Sources: YOLOv6 `yolov6/core/engine.py` for rooms 87 and 88; yolov5's pull request 6768 for room 90.
"""

from yolostudy.study.museum import Room

from ._engine import ENGINE, small_trainer

EPOCHS = 20


# ---- evaluation ----------------------------------------------------------------------------------


late_and_rare = Room(
    87,
    "near its end the run is measured less often than before",
    "Near the end the interval between evaluations is set to 3, so that the best epoch is not missed. It is meant for "
    "runs that are measured every ten epochs. For one that is measured after each epoch, 3 is rarer. Near the end "
    "take the smaller of the two.",
    mistake=("engine.EvaluationHook", "late evaluation gets rarer"),
)


def measured(course, interval: int, heavy_range: int = 9) -> list[int]:
    """The epochs, from 1, after which a run of 20 is measured."""
    hook, trainer = course.engine.EvaluationHook(interval=interval, heavy_range=heavy_range), small_trainer()
    trainer.epochs, found = EPOCHS, []
    for trainer.epoch in range(1, EPOCHS + 1):
        found += [trainer.epoch] if hook.due(trainer) else []
    return found


@late_and_rare.look
def _(course):
    epochs = measured(course, interval=1)
    later = sum(epoch > 11 for epoch in epochs)
    return later < 9, f"interval 1: {len(epochs) - later} of the first 11 epochs are measured, {later} of the last 9"


@late_and_rare.find("the epochs that are measured, for three intervals")
def _(course):
    rows = []
    for interval in (1, 2, 10):
        epochs = measured(course, interval)
        rows.append(f"{interval:>2}  {''.join('x' if epoch in epochs else '.' for epoch in range(1, EPOCHS + 1))}")
    return "\n".join(rows)


# ---- augmentation --------------------------------------------------------------------------------


class Batches(list):
    mosaic = True


class OffAt(ENGINE.Hook):
    """Switches mosaic off for the last `last` epochs, and draws each epoch."""

    def __init__(self, last: int = 5):
        self.last, self.drawn = last, ""

    def before_epoch(self, trainer):
        if self.begins(trainer.epoch, trainer.epochs - self.last):
            trainer.loader.mosaic = False
        self.drawn += "M" if trainer.loader.mosaic else "."

    def begins(self, epoch: int, first: int) -> bool:
        return epoch == first


class OffFrom(OffAt):
    def begins(self, epoch: int, first: int) -> bool:
        return epoch >= first


mosaic_is_back = Room(
    88,
    "mosaics in the last epochs, but only where the run was resumed",
    "Strong augmentation is switched off in the epoch that is *equal* to a number. A run that is resumed later never "
    "passes that epoch, and its new loader has mosaic on. Compare with `>=`, in every epoch: a state that follows "
    "from the epoch needs no memory.",
    broken=OffAt,
    fixed=OffFrom,
)


def drawn(hook: type, first: int = 0) -> str:
    """M for each epoch with mosaic, from epoch `first` on, which a resumed run begins with."""
    trainer = small_trainer([hook()], epochs=EPOCHS, loader=Batches())
    trainer.epoch = first
    trainer.train()
    return trainer.hooks[0].drawn


@mosaic_is_back.look
def _(hook):
    straight, resumed = (drawn(hook, first)[-3:].count("M") for first in (0, EPOCHS - 3))
    return resumed > 0, f"of the last 3 epochs {straight} have mosaic, and {resumed} in a run that was resumed there"


@mosaic_is_back.find("drawing the epochs of a straight and of a resumed run")
def _(hook):
    return f"straight {drawn(hook)}\nresumed  {drawn(hook, EPOCHS - 3):>{EPOCHS}}"


# ---- learning rate -------------------------------------------------------------------------------


def at_least_a_thousand(steps: int) -> int:
    return max(steps, 1000)


def at_least_a_hundred(steps: int) -> int:
    return max(steps, 100)


for_ever = Room(
    90,
    "the learning rate never arrives at what was asked for",
    "Warm-up lasts three epochs, but at least 1000 steps. The data set is small: 75 steps an epoch, ten epochs, 750 "
    "steps. The run ends in its warm-up. The floor was made for COCO, with 7,000 steps an epoch. Choose it by the "
    "data, never longer than the run, and look at the rate.",
    broken=at_least_a_thousand,
    fixed=at_least_a_hundred,
)
STEPS_AN_EPOCH, ASKED = 75, 0.01


def rates(floor, epochs: int = 10) -> list[float]:
    """The learning rate at each step."""
    warmup = floor(3 * STEPS_AN_EPOCH)
    return [ASKED * min(1.0, (step + 1) / warmup) for step in range(epochs * STEPS_AN_EPOCH)]


@for_ever.look
def _(floor):
    steps = rates(floor)
    highest = max(steps)
    return highest < ASKED, f"a rate of {ASKED:g} was asked for, the highest of {len(steps)} steps is {highest:g}"


@for_ever.find("a plot of the learning rate")
def _(floor):
    ends = rates(floor)[STEPS_AN_EPOCH - 1 :: STEPS_AN_EPOCH]
    return "\n".join(f"epoch {epoch:>2}  {'=' * round(40 * rate / ASKED)}" for epoch, rate in enumerate(ends, 1))
