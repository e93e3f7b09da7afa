"""Hooks for the first steps of training: rate, momentum and accumulation grow to their values.

In the first steps the weights are random and the running statistics are wrong, so a full step goes
anywhere. The warm-up of YOLOv6 starts with a rate of 0, a smaller momentum, a larger rate for
biases, and an update after every batch.

Source: YOLOv6 4.0 `yolov6/core/engine.py` (update_optimizer) and `yolov6/solver/build.py`; YOLOv5
`train.py` does the same.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn
from torch.optim import Optimizer

from ..engine import Hook, Trainer


def separate_biases(optimizer: Optimizer, model: nn.Module) -> None:
    """Move every bias into a group of its own, so that its rate can differ. In place.

    A bias is a parameter of that name: of a convolution, and of a normalisation too (its β), as in
    YOLOv6 and YOLOv5. A normalisation's weight (its γ) is none. Each new group has the settings of
    the group that it comes from, and `"biases": True`. Call this before an optimizer state is
    loaded, because the state is stored by the number of each parameter.

    Args:
        optimizer: fresh, over parameters of `model`, such as `training.build_optimizer` makes it.
    """
    biases = {id(parameter) for name, parameter in model.named_parameters() if name.rpartition(".")[2] == "bias"}
    for group in list(optimizer.param_groups):
        apart = [parameter for parameter in group["params"] if id(parameter) in biases]
        if not apart or group.get("biases"):
            continue
        group["params"] = [parameter for parameter in group["params"] if id(parameter) not in biases]
        optimizer.add_param_group({**group, "params": apart, "biases": True})
    optimizer.param_groups[:] = [group for group in optimizer.param_groups if group["params"]]


class Warmup(Hook):
    """Lets rate, momentum and the rate of biases go to their values in a straight line.

    At step s < `steps`, with t = s / steps and full = initial rate · schedule:

        rate = t · full          rate of biases = (1 - t) · bias_rate + t · full
        momentum = (1 - t) · start + t · the optimizer's

    Step 0 has t = 0, so only biases learn in it. `WarmupCosine` counts differently: there step 0 has
    t = 1 / steps. Put this hook behind `Schedule` or `Plateau`; it overrides their rate until the
    warm-up is over.

    Args:
        momentum: at step 0; 0 leaves momentum alone. AdamW's momentum is `betas[0]`.
        bias_rate: of biases at step 0; 0 treats them as all others. 0.1 is meant for SGD. In AdamW,
            a rate is the length of each weight's step, so that 0.1 would destroy biases.
        steps: of the warm-up, at least 1.
        schedule: (step, progress) -> the factor on the rate without a warm-up, such as
            `WarmupCosine(0)`; None for 1.

    Errors: ValueError for a value out of range, and before training for a `bias_rate` without a
        group of biases (see `separate_biases`) or a `momentum` that the optimizer does not have.
    """

    def __init__(
        self,
        momentum: float = 0.0,
        bias_rate: float = 0.0,
        steps: int = 60,
        schedule: Callable[[int, float], float] | None = None,
    ):
        if steps < 1 or not 0 <= momentum < 1 or bias_rate < 0:
            raise ValueError(
                f"Warmup has momentum {momentum}, bias_rate {bias_rate} and {steps} steps. Give a momentum from 0 to "
                "below 1, a rate from 0, and at least 1 step."
            )
        self.momentum, self.bias_rate, self.steps, self.schedule = momentum, bias_rate, steps, schedule

    def before_train(self, trainer: Trainer) -> None:
        groups = trainer.optimizer.param_groups
        if self.bias_rate and not any(group.get("biases") for group in groups):
            raise ValueError(
                f"Warmup has bias_rate {self.bias_rate}, and the optimizer has no group of biases. Call "
                "hooks.separate_biases(optimizer, model) before training, or give bias_rate 0."
            )
        if self.momentum and not all("betas" in group or group.get("momentum") for group in groups):
            raise ValueError(
                f"Warmup has momentum {self.momentum}, and {type(trainer.optimizer).__name__} trains without momentum. "
                "Give the optimizer a momentum, or Warmup momentum 0."
            )
        for group in groups:  # the optimizer's state keeps both, so a resumed run knows them
            group.setdefault("initial_lr", group["lr"])
            group.setdefault("initial_momentum", group["betas"][0] if "betas" in group else group.get("momentum"))

    def before_step(self, trainer: Trainer) -> None:
        if trainer.steps < self.steps:
            self._set(trainer)

    def after_step(self, trainer: Trainer) -> None:
        if trainer.steps == self.steps:  # now, because `Plateau` may lower the rate at the end of this epoch
            self._set(trainer)

    def _set(self, trainer: Trainer) -> None:
        share = trainer.steps / self.steps
        factor = self.schedule(trainer.steps, trainer.progress) if self.schedule else 1.0
        for group in trainer.optimizer.param_groups:
            start = self.bias_rate if group.get("biases") else 0.0
            group["lr"] = (1 - share) * start + share * group["initial_lr"] * factor
            if not self.momentum:
                continue
            momentum = (1 - share) * self.momentum + share * group["initial_momentum"]
            if "betas" in group:
                group["betas"] = (momentum, *group["betas"][1:])
            else:
                group["momentum"] = momentum


class GrowingAccumulation(Hook):
    """Lets the number of batches in an update grow from 1 to nominal / batch during the warm-up.

    `at(step)` is that number for a window that begins at this step. A window keeps its number, so
    that each update is the mean of equally weighed batches. YOLOv6 asks again at each step, and sums.

    While training, this hook stands in front of `trainer.step`: it replaces the keywords
    `accumulate` and `step` by the length of the window and the place in it. A window ends with its
    epoch: gradients of an incomplete one are dropped, as with a fixed `accumulate`.

    Args:
        nominal: images that an update should see, such as 64.
        batch: images in a step, over all processes.
        steps: until the number is reached; 0 for at once.

    Attributes:
        accumulate: batches in the window of the latest step.
        position: of that step in its window, from 0.
    """

    def __init__(self, nominal: int = 64, batch: int = 16, steps: int = 60):
        if nominal < 1 or batch < 1 or steps < 0:
            raise ValueError(
                f"GrowingAccumulation has nominal {nominal}, batch {batch} and {steps} steps. Give at least 1 image "
                "for both, and steps from 0."
            )
        self.nominal, self.batch, self.steps = nominal, batch, steps
        self.accumulate, self.position = 1, 0
        self.steps_done = 0
        self.inner: Callable | None = None

    def at(self, step: int) -> int:
        """Batches in an update: max(1, round(1 + t · (nominal / batch - 1))), t = step / steps, at most 1."""
        share = min(1.0, step / self.steps) if self.steps else 1.0
        return max(1, round(1 + share * (self.nominal / self.batch - 1)))

    def before_train(self, trainer: Trainer) -> None:
        self.inner, trainer.step = trainer.step, self._step

    def before_step(self, trainer: Trainer) -> None:
        self.steps_done = trainer.steps

    def after_train(self, trainer: Trainer) -> None:
        if self.inner is not None:
            trainer.step, self.inner = self.inner, None

    def _step(self, *arguments, step: int, **keywords):
        """The trainer's own step, at its place in the window; `step` counts within the epoch."""
        if step == 0 or self.position + 1 == self.accumulate:
            self.accumulate, self.position = self.at(self.steps_done), 0
        else:
            self.position += 1
        return self.inner(*arguments, **keywords | {"accumulate": self.accumulate, "step": self.position})
