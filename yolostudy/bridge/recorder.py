"""The flight recorder for Ultralytics' trainers: an adapter for `lens.flight_recorder`.

Source: Ultralytics 8.4.190 `engine/trainer.py` BaseTrainer._do_train, optimizer_step, and
`utils/callbacks/base.py`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from ..lens.nan.flight import Adapter
from ..lens.nan.recorder import Recorder, loss_of


class UltralyticsRecorder(Recorder):
    """For Ultralytics' `YOLO` or one of its trainers.

    The model computes its own loss there, so hooks on it see the batch as it goes in and the loss
    as it comes out. With `compile=True` the loss is computed elsewhere, and nothing is recorded.
    """

    def __init__(self, target, stop: bool = True, show: Callable[[str], object] | None = print):
        super().__init__((), stop, show)
        self.target, self.trainer, self.handles = target, None, []

        # Functions, not bound methods: Ultralytics copies models with their hooks, and a copy must
        # not copy the recorder.
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
            trains = module is model and module.training and torch.is_grad_enabled()
            if trains and not self._replaying and isinstance(inputs[0], dict):
                self.begin(_again(trainer, model, inputs[0]), inputs[0])

        def after(module, _inputs, output) -> None:
            if module is model:
                self.saw(loss_of(output))

        self.handles = [model.register_forward_pre_hook(before), model.register_forward_hook(after)]


def _again(trainer, model: nn.Module, batch: dict) -> Callable[[], None]:
    """The same step once more, under the autocast that it ran under."""
    batch, device = dict(batch), trainer.device.type
    mixed = {"enabled": torch.is_autocast_enabled(device), "dtype": torch.get_autocast_dtype(device)}

    def again() -> None:
        with torch.autocast(device, **mixed):
            loss = model(batch)[0].sum()
        trainer.scaler.scale(loss).backward()

    return again


adapter = Adapter(
    "Ultralytics' YOLO or one of its trainers",
    UltralyticsRecorder,
    # other trainers have `add_callback` too, such as that of transformers
    {
        "callbacks": lambda value: isinstance(value, dict) and "on_train_start" in value,
        "add_callback": callable,
        "train": callable,
    },
)
