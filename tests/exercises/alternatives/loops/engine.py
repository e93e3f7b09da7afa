"""Stage 11 in small steps."""

from __future__ import annotations

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
        if trainer.finished:
            return True
        if self.final_only:
            return False
        interval = self.interval
        if not trainer.minutes:
            left = trainer.epochs - trainer.epoch
            if left < self.heavy_range and interval > 3:
                interval = 3
        return trainer.epoch % interval == 0

    def after_epoch(self, trainer):
        if self.due(trainer):
            model = self.model
            if model is None:
                model = bare(trainer.model)
            mode = model.training
            try:
                model.train(False)
                with torch.no_grad():
                    figures = self.evaluate(model)
            finally:
                model.train(mode)
            for name in figures:
                trainer.metrics[name] = figures[name]


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
        try:
            self.call("before_train")
            while True:
                if self.finished:
                    break
                self._epoch()
                self.epoch = self.epoch + 1
                self.call("after_epoch")
        finally:
            self.call("after_train")

    def _epoch(self):
        self.model.train()
        self.optimizer.zero_grad()
        set_epoch = getattr(self.loader, "set_epoch", None)
        if set_epoch is not None:
            set_epoch(self.epoch)
        self.call("before_epoch")
        index = 0
        for batch in self.loader:
            self.batch = batch
            self.call("before_step")
            self.run_step(index)
            self.call("after_step")
            index += 1
            if self.stop_reason:
                return
            if self.minutes and self.progress >= 1:
                return

    def run_step(self, index):
        parts = self.step(self.model, self.loss, self.batch, self.optimizer, step=index, precision=self.precision)
        self.parts = parts
        self.steps = self.steps + 1


class TeacherTrainer(Trainer):
    def __init__(self, *args, teacher, imitate, gain=1.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.teacher, self.imitate, self.gain = teacher.eval().requires_grad_(False), imitate, gain

    def run_step(self, index):
        device = next(self.teacher.parameters()).device
        images = self.batch.images.to(device).to(torch.float32).div(255)
        if self.precision is None:
            with torch.no_grad():
                answer = self.teacher(images)
        else:
            with self.precision.autocast():
                with torch.no_grad():
                    answer = self.teacher(images)

        def loss(maps, targets):
            parts = self.loss(maps, targets)
            total = parts.total + self.imitate(maps, answer) * self.gain
            return parts._replace(total=total)

        self.parts = self.step(self.model, loss, self.batch, self.optimizer, precision=self.precision, step=index)
        self.steps += 1


def snapshot(trainer):
    state = {}
    state["model"] = bare(trainer.model).state_dict()
    state["optimizer"] = trainer.optimizer.state_dict()
    state["scaler"] = {}
    if trainer.precision is not None:
        state["scaler"] = trainer.precision.scaler.state_dict()
    state["hooks"] = {}
    for name, hook in trainer.named_hooks.items():
        state["hooks"][name] = hook.state_dict()
    counts = {"epoch": trainer.epoch, "steps": trainer.steps, "seconds": trainer.seconds}
    counts["metrics"] = trainer.metrics.copy()
    state["trainer"] = counts
    state["random"] = torch.get_rng_state()
    return state


def resume_or_load(trainer, checkpoint, weights=None):
    model = bare(trainer.model)
    if checkpoint is None and weights is None:
        return False
    if checkpoint is None:
        model.load_state_dict(weights)
        return False
    model.load_state_dict(checkpoint["model"])
    trainer.optimizer.load_state_dict(checkpoint["optimizer"])
    if trainer.precision is not None:
        trainer.precision.scaler.load_state_dict(checkpoint["scaler"])
    for name, hook in trainer.named_hooks.items():
        if name in checkpoint["hooks"] and checkpoint["hooks"][name]:
            hook.load_state_dict(checkpoint["hooks"][name])
    trainer.epoch = checkpoint["trainer"]["epoch"]
    trainer.steps = checkpoint["trainer"]["steps"]
    trainer.seconds_before = checkpoint["trainer"]["seconds"]
    trainer.metrics = checkpoint["trainer"]["metrics"].copy()
    torch.set_rng_state(checkpoint["random"])
    return True
