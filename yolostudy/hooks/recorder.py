"""The flight recorder for `engine.Trainer`: an adapter for `lens.flight_recorder`."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from ..engine import Hook, Trainer
from ..lens.nan.flight import Adapter
from ..lens.nan.recorder import Recorder, ReplayOptimizer, loss_of


class EngineRecorder(Recorder):
    """For `engine.Trainer`, or anything with its `hooks`, `step`, `batch` and `parts`."""

    def __init__(self, trainer: Trainer, stop: bool = True, show: Callable[[str], object] | None = print):
        super().__init__((), stop, show)
        self.trainer, self.hook, self.handle = trainer, _RecorderHook(self), None

    def attach(self) -> Recorder:
        super().attach()
        self._update_place = getattr(self.trainer.step, "func", self.trainer.step)
        self.trainer.hooks.append(self.hook)  # last, so that it notes the random state that the step begins with
        if isinstance(self.trainer.loss, nn.Module):
            self.handle = self.trainer.loss.register_forward_hook(lambda _loss, _inputs, parts: self._saw_parts(parts))
        self.follow((self.trainer.model, self.trainer.loss))
        return self

    def detach(self) -> None:
        super().detach()
        if self.handle is not None:
            self.handle.remove()
        self.trainer.hooks[:] = [hook for hook in self.trainer.hooks if hook is not self.hook]

    def _saw_parts(self, parts) -> None:
        if (loss := loss_of(parts)) is not None:
            self.saw(loss)

    def before(self, trainer: Trainer) -> None:
        step, model, loss, batch, index = trainer.step, trainer.model, trainer.loss, trainer.batch, trainer.steps
        still = ReplayOptimizer(trainer.optimizer)
        self.begin(lambda: step(model, loss, batch, still, precision=trainer.precision, step=index), batch)


class _RecorderHook(Hook):
    """Tells the recorder when a step begins and ends."""

    def __init__(self, recorder: EngineRecorder):
        self.recorder = recorder

    def before_step(self, trainer: Trainer) -> None:
        self.recorder.before(trainer)

    def after_step(self, trainer: Trainer) -> None:
        self.recorder.end(loss_of(trainer.parts))


adapter = Adapter(
    "a trainer of yolostudy.engine",
    EngineRecorder,
    {"hooks": lambda value: isinstance(value, list), "step": callable, "loss": callable},
)
