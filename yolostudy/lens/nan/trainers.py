"""Where the flight recorder is put in: the hooks of `engine.Trainer`, the callbacks of Ultralytics."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .microscope import Enough
from .recorder import Recorder
from .values import tensors_in


def flight_recorder(target, stop: bool = True, show: Callable[[str], object] | None = print) -> Recorder:
    """A recorder for a trainer of ours or of Ultralytics, or for Ultralytics' `YOLO`; arguments as
    `Recorder` has them.

    Use it with `with`, or call its `attach()`; it stays then until `detach()`.
    """
    if hasattr(target, "add_callback"):
        return UltralyticsRecorder(target, stop, show)
    if hasattr(target, "hooks") and hasattr(target, "step"):
        return EngineRecorder(target, stop, show)
    raise TypeError(
        f"flight_recorder: a {type(target).__name__} is no trainer. Give an engine.Trainer, an Ultralytics model or "
        "trainer; for a loop of your own make a Recorder([model]) and call its begin and end around each step."
    )


class EngineRecorder(Recorder):
    """For `engine.Trainer`, or anything with its `hooks`, `step`, `batch` and `parts`."""

    def __init__(self, trainer, stop: bool = True, show: Callable[[str], object] | None = print):
        super().__init__((), stop, show)
        self.trainer, self.hook, self.handle = trainer, _EngineHook(self), None

    def attach(self) -> Recorder:
        super().attach()
        self._update_place = getattr(self.trainer.step, "func", self.trainer.step)
        self.trainer.hooks.append(self.hook)  # last, so that the random state is the one that the step begins with
        if isinstance(self.trainer.loss, nn.Module):
            self.handle = self.trainer.loss.register_forward_hook(lambda _loss, _inputs, parts: self._saw(parts))
        self.follow((self.trainer.model, self.trainer.loss))
        return self

    def detach(self) -> None:
        super().detach()
        if self.handle is not None:
            self.handle.remove()
        self.trainer.hooks[:] = [hook for hook in self.trainer.hooks if hook is not self.hook]

    def _saw(self, parts) -> None:
        if self._open and not self.report and (loss := loss_of(parts)) is not None:
            self._seen = loss.detach()

    def before(self, trainer) -> None:
        model, loss, batch, optimizer, index = (
            trainer.model,
            trainer.loss,
            trainer.batch,
            trainer.optimizer,
            trainer.steps,
        )
        still = _Still(optimizer)
        self.begin(lambda: trainer.step(model, loss, batch, still, precision=trainer.precision, step=index), batch)

    def after(self, trainer) -> None:
        self.end(loss_of(trainer.parts))


class _EngineHook:
    """The seven moments of an engine hook, of which three are used."""

    def __init__(self, recorder: EngineRecorder):
        self.recorder = recorder

    def before_step(self, trainer) -> None:
        self.recorder.before(trainer)

    def after_step(self, trainer) -> None:
        self.recorder.after(trainer)

    def after_train(self, trainer) -> None: ...

    def before_train(self, trainer) -> None: ...

    before_epoch = after_epoch = before_train

    def state_dict(self) -> dict:
        return {}

    def load_state_dict(self, state: dict) -> None: ...


class _Still:
    """An optimizer's stand-in for a replay: it ends the replay instead of moving a weight."""

    def __init__(self, optimizer):
        self.param_groups, self.state = optimizer.param_groups, optimizer.state

    def step(self, *_args, **_kwargs) -> None:
        raise Enough

    def zero_grad(self, *_args, **_kwargs) -> None: ...


class UltralyticsRecorder(Recorder):
    """For Ultralytics' `YOLO` or one of its trainers: anything with `add_callback`.

    The model computes its own loss there, so hooks on it see the batch as it goes in and the loss
    as it comes out. With `compile=True` the loss is computed elsewhere, and nothing is recorded.
    """

    def __init__(self, target, stop: bool = True, show: Callable[[str], object] | None = print):
        super().__init__((), stop, show)
        self.target, self.trainer, self.handles = target, None, []

        # functions, no bound methods: Ultralytics copies models with their hooks, and a copy must
        # not copy the recorder
        def start(trainer) -> None:
            self._start(trainer)

        def batch_end(trainer) -> None:
            if self._open:
                self.end(trainer.loss)

        def stop_now(_trainer) -> None:
            self._unhook()

        self.callbacks = {
            "on_train_start": start,
            "on_train_batch_end": batch_end,
            "on_train_end": stop_now,
            "teardown": stop_now,
        }

    def attach(self) -> Recorder:
        super().attach()
        for event, function in self.callbacks.items():
            self.target.add_callback(event, function)
        return self

    def detach(self) -> None:
        super().detach()
        self._unhook()
        for holder in (self.target, self.trainer):
            for event, function in self.callbacks.items():
                registered = getattr(holder, "callbacks", {}).get(event, [])
                registered[:] = [known for known in registered if known is not function]

    def _unhook(self) -> None:
        for handle in self.handles:
            handle.remove()
        self.handles = []

    def _start(self, trainer) -> None:
        self._unhook()
        self.trainer, model = trainer, trainer.model
        self._update_place = trainer.optimizer_step
        self.follow([model])

        def before(module, inputs) -> None:
            if (
                module is model
                and module.training
                and torch.is_grad_enabled()
                and not self._replaying
                and isinstance(inputs[0], dict)
            ):
                self.begin(_again(trainer, model, inputs[0]), inputs[0])

        def after(module, _inputs, output) -> None:
            if module is model and self._open and not self._replaying:
                self._seen = None if (loss := loss_of(output)) is None else loss.detach()

        self.handles = [model.register_forward_pre_hook(before), model.register_forward_hook(after)]

    _replaying = False

    def _investigate(self, index: int, value: float) -> None:
        self._replaying = True
        try:
            super()._investigate(index, value)
        finally:
            self._replaying = False


def _again(trainer, model: nn.Module, batch: dict) -> Callable[[], None]:
    batch, device = dict(batch), trainer.device.type
    mixed = {"enabled": torch.is_autocast_enabled(device), "dtype": torch.get_autocast_dtype(device)}

    def again() -> None:
        with torch.autocast(device, **mixed):
            loss = model(batch)[0].sum()
        trainer.scaler.scale(loss).backward()

    return again


def loss_of(parts) -> Tensor | None:
    """The loss in what a step gives: the tensor itself, `.total`, `["loss"]`, or the first tensor."""
    if hasattr(parts, "total"):
        return parts.total
    if isinstance(parts, dict) and "loss" in parts:
        return parts["loss"]
    return next(tensors_in(parts), None)
