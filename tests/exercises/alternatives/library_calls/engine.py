"""Stage 11 by the library: contexts that give back what they took, torch.inference tools, one loop of moments."""

from __future__ import annotations

import contextlib
import itertools
import time

import torch
from torch import nn


class Hook:
    """Given; the judge uses the reference's."""


def bare(model: nn.Module) -> nn.Module:
    return model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model


class EvaluationHook(Hook):
    def __init__(self, function=None, model=None, interval=1, heavy_range=0, final_only=False):
        self.function, self.model = function, model
        self.interval, self.heavy_range, self.final_only = interval, heavy_range, final_only

    def evaluate(self, model):
        return self.function(model)

    def due(self, trainer):
        late = trainer.epochs - trainer.epoch < self.heavy_range and not trainer.minutes
        interval = (self.interval, min(self.interval, 3))[late]
        return trainer.finished or (trainer.epoch % interval == 0 and not self.final_only)

    @torch.no_grad()
    def after_epoch(self, trainer):
        if not self.due(trainer):
            return
        model = bare(trainer.model) if self.model is None else self.model
        with contextlib.ExitStack() as afterwards:
            afterwards.callback(model.train, model.training)
            trainer.metrics.update(self.evaluate(model.eval()))


class Trainer:
    def __init__(self, model, loss, loader, optimizer, step, precision=None, hooks=(), epochs=100, minutes=None):
        self.model, self.loss, self.loader, self.optimizer = model, loss, loader, optimizer
        self.step, self.precision, self.hooks, self.epochs, self.minutes = step, precision, list(hooks), epochs, minutes
        self.epoch = self.steps = 0
        self.seconds_before = 0.0
        self.started = time.perf_counter()
        self.batch = self.parts = None
        self.metrics = {}
        self.stop_reason = ""

    @property
    def seconds(self):
        return self.seconds_before + time.perf_counter() - self.started

    @property
    def progress(self):
        if self.minutes:
            return min(1.0, self.seconds / (60 * self.minutes))
        return min(1.0, self.steps / (self.epochs * len(self.loader)))

    @property
    def named_hooks(self):
        names = {}
        for hook in self.hooks:
            same = sum(type(hook).__name__ == type(other).__name__ for other in names.values())
            names[type(hook).__name__ + (f" {same + 1}" if same else "")] = hook
        return names

    def call(self, moment):
        for hook in self.hooks:
            getattr(hook, moment)(self)

    @property
    def finished(self):
        return bool(self.stop_reason) or (self.progress >= 1 if self.minutes else self.epoch >= self.epochs)

    def train(self):
        self.started = time.perf_counter()
        with contextlib.ExitStack() as end:
            end.callback(self.call, "after_train")
            self.call("before_train")
            while not self.finished:
                self.model.train(True)
                self.optimizer.zero_grad()
                with contextlib.suppress(AttributeError):
                    order = self.loader.set_epoch
                    order(self.epoch)
                self.call("before_epoch")
                for index, batch in zip(itertools.count(), self.loader):
                    self.batch = batch
                    self.call("before_step")
                    self.run_step(index)
                    self.call("after_step")
                    if self.stop_reason or (self.minutes and self.finished):
                        break
                self.epoch += 1
                self.call("after_epoch")

    def run_step(self, index):
        keywords = {"precision": self.precision, "step": index}
        self.parts = self.step(self.model, self.loss, self.batch, self.optimizer, **keywords)
        self.steps += 1


class TeacherTrainer(Trainer):
    def __init__(self, *args, teacher, imitate, gain=1.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.teacher, self.imitate, self.gain = teacher.eval().requires_grad_(False), imitate, gain

    def run_step(self, index):
        place = {parameter.device for parameter in self.teacher.parameters()}.pop()
        scaled = self.batch.images.to(place).float().mul(1 / 255)
        with contextlib.ExitStack() as contexts:
            contexts.enter_context(torch.no_grad())
            if self.precision:
                contexts.enter_context(self.precision.autocast())
            answer = self.teacher(scaled)

        def with_teacher(maps, targets):
            parts = self.loss(maps, targets)
            return parts._replace(total=torch.add(parts.total, self.imitate(maps, answer), alpha=self.gain))

        task = self.loss
        try:
            self.loss = with_teacher
            loss, self.loss = self.loss, task
            keywords = {"precision": self.precision, "step": index}
            self.parts = self.step(self.model, loss, self.batch, self.optimizer, **keywords)
        finally:
            self.loss = task
        self.steps += 1


def snapshot(trainer):
    hooks = trainer.named_hooks
    scaler = getattr(trainer.precision, "scaler", None)
    return dict(
        model=bare(trainer.model).state_dict(),
        optimizer=trainer.optimizer.state_dict(),
        scaler=scaler.state_dict() if scaler is not None else {},
        hooks=dict(zip(hooks, (hook.state_dict() for hook in hooks.values()))),
        trainer={name: getattr(trainer, name) for name in ("epoch", "steps", "seconds")}
        | {"metrics": {**trainer.metrics}},
        random=torch.random.get_rng_state(),
    )


def resume_or_load(trainer, checkpoint, weights=None):
    state = weights if checkpoint is None else checkpoint["model"]
    if state is not None:
        bare(trainer.model).load_state_dict(state)
    if checkpoint is None:
        return False
    trainer.optimizer.load_state_dict(checkpoint["optimizer"])
    if trainer.precision:
        trainer.precision.scaler.load_state_dict(checkpoint["scaler"])
    hooks = trainer.named_hooks
    for name in hooks.keys() & {name for name, kept in checkpoint["hooks"].items() if kept}:
        hooks[name].load_state_dict(checkpoint["hooks"][name])
    counts = dict(checkpoint["trainer"])
    trainer.seconds_before, trainer.metrics = counts.pop("seconds"), {**counts.pop("metrics")}
    vars(trainer).update(counts)
    torch.random.set_rng_state(checkpoint["random"])
    return True
