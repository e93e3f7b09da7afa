"""A flight recorder for training: replays the step in which the loss became non-finite.

    with flight_recorder(trainer) as flight:      # engine.Trainer, or Ultralytics' own trainer
        trainer.train()
    print(flight.finding)

    flight_recorder(YOLO("yolov8n.yaml")).attach()  # one line before Ultralytics' model.train(…)

It costs next to nothing while the loss is finite. Before every step it copies the weights and
buffers into memory that it already holds, notes the state of the random generators and keeps a
reference to the batch. Two steps are kept: where the weights became NaN before the loss did, the
step before is replayed. The replay runs under the NaN microscope.
"""

from __future__ import annotations

import inspect
import math
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from .. import random_state
from .events import BIRTH, Event, Place
from .finding import Finding
from .microscope import NaNMicroscope, ReplayEnded
from .values import is_finite, tensors_in, value_of


class NonFiniteStep(FloatingPointError):
    """The recorder stopped the training. `finding` is what the replay found, or None."""

    def __init__(self, message: str, finding: Finding | None):
        super().__init__(message)
        self.finding = finding


@dataclass(slots=True, eq=False)
class _Step:
    """What is needed to run a step again."""

    weights: list[Tensor]  # copies, in the order of Recorder.weights
    number: int = -1
    again: Callable[[], object] | None = None
    random_state: tuple = ()
    modes: list[bool] = field(default_factory=list)
    versions: list[tuple[Tensor, int]] = field(default_factory=list)  # of the batch's tensors
    loss: Tensor | None = None  # 0-dimensional, on the CPU; from CUDA it is there once `arrived` has passed
    arrived: object = None


class Recorder:
    """Records a training loop: call `begin` before each step and `end` after it.

    Args:
        modules: those whose weights a step changes: the model, and the loss if it has weights.
        stop: raise NonFiniteStep after the report, with the weights from before the bad step. A
            `with` block ends quietly on it.
        show: called with the report, a text; None shows nothing.

    Attributes:
        finding: a Finding, or None.
        report: the finding in words, with the number of the step.
        step: number of the bad step, from 1.
        batch: the batch of the replayed step.
    """

    def __init__(
        self, modules: Iterable[nn.Module] = (), stop: bool = True, show: Callable[[str], object] | None = print
    ):
        self.stop, self.show = stop, show
        self.finding: Finding | None = None
        self.report, self.step, self.batch = "", 0, None
        self.count = 0
        self._kept: deque[_Step] = deque()
        self._batches: dict[int, object] = {}
        self._update_place: Callable | None = None  # the function in which the optimizer moves the weights
        self._open = False  # a step has begun and not ended
        self._seen: Tensor | None = None  # the loss of the open step, in case the step raises
        self._replaying = False  # adapters must not record the replay itself
        self.follow(modules)

    def follow(self, modules: Iterable[nn.Module]) -> None:
        """Record the weights of these modules from now on."""
        whole = nn.ModuleList(module for module in modules if isinstance(module, nn.Module))
        self.modules, self.parameters = list(whole.modules())[1:], list(whole.parameters())
        self._buffers = [
            (part._buffers, name) for part in self.modules for name, held in part._buffers.items() if held is not None
        ]
        self._on_cuda = any(tensor.is_cuda for tensor in self.weights)
        # On CUDA the loss is read a step or two later, so that nothing waits for it.
        self._depth = 4 if self._on_cuda else 2
        self._kept.clear()

    @property
    def weights(self) -> list[Tensor]:
        """Parameters, then buffers, as they are now: a forward pass may replace a buffer."""
        return [*self.parameters, *(buffers[name] for buffers, name in self._buffers)]

    # ---- one step --------------------------------------------------------------------------------

    @torch.no_grad()
    def begin(self, again: Callable[[], object], batch: object = None) -> None:
        """Call before a step.

        Args:
            again: runs the same step once more, forward and backward.
            batch: the input of the step, for `Recorder.batch`.
        """
        if self.report:
            return
        self._check(wait=False)
        if len(self._kept) == self._depth:
            step = self._kept.popleft()
            self._batches.pop(step.number, None)
        else:
            step = _Step([torch.empty_like(tensor) for tensor in self.weights])
        torch._foreach_copy_(step.weights, self.weights)
        step.modes = [module.training for module in self.modules]
        self.count += 1
        step.number, step.again, step.random_state, step.loss = self.count, again, random_state.get_state(), None
        # a batch may be a plain object
        parts = list(tensors_in(batch)) or list(tensors_in(getattr(batch, "__dict__", None)))
        step.versions = [(tensor, tensor._version) for tensor in parts if not tensor.is_inference()]
        self._batches[self.count] = batch
        self._kept.append(step)
        self._open, self._seen = True, None

    def saw(self, loss: Tensor | None) -> None:
        """Note the loss of the open step, for a step that raises before its `end`."""
        if self._open and not (self.report or self._replaying):
            self._seen = None if loss is None else loss.detach()

    def end(self, loss: Tensor | None) -> None:
        """Call after a step, with its loss."""
        self._open, self._seen = False, None
        self._note(loss)
        self._check(wait=not self._on_cuda)

    def _note(self, loss: Tensor | None) -> None:
        if self.report or loss is None or not self._kept:
            return
        step, loss = self._kept[-1], loss.detach().sum()
        if loss.is_cuda:
            step.loss = torch.empty((), dtype=loss.dtype, pin_memory=True)
            step.loss.copy_(loss, non_blocking=True)
            step.arrived = torch.cuda.Event()
            step.arrived.record()
        else:
            step.loss, step.arrived = loss, None

    def _check(self, wait: bool) -> None:
        for index, step in enumerate(self._kept):
            if step.loss is None:
                continue
            if step.arrived is not None:
                # the next step takes the place of the oldest
                last_chance = index <= 1 and len(self._kept) == self._depth
                if not (wait or last_chance or step.arrived.query()):
                    continue
                step.arrived.synchronize()
            value, step.loss = step.loss.item(), None
            if not math.isfinite(value):
                self._investigate(index, value)
                return

    # ---- the replay ------------------------------------------------------------------------------

    def _investigate(self, index: int, value: float) -> None:
        bad, count = self._kept[index], len(self.parameters)
        start = index
        while start > 0 and not all(is_finite(weight) for weight in self._kept[start].weights[:count]):
            start -= 1
        step = self._kept[start]
        self.step, self.batch = bad.number, self._batches.get(step.number)
        after = [tensor.detach().clone() for tensor in self.weights]
        modes = [module.training for module in self.modules]
        gradients = [parameter.grad for parameter in self.parameters]
        now = random_state.get_state()
        trouble = None
        try:
            trouble = self._replay(step)
            if self.finding is None and start < index:
                self.finding = self._bad_update(step, self._kept[start + 1])
        finally:
            random_state.set_state(now)
            for parameter, gradient in zip(self.parameters, gradients, strict=True):
                parameter.grad = gradient
            self._put(step.weights if self.stop else after, modes)
            changed = any(tensor._version != version for tensor, version in step.versions)
            self._kept.clear()
        self.report = self._worded(bad, step, value, changed, trouble)
        if self.show is not None:
            self.show(self.report)
        if self.stop:
            raise NonFiniteStep(self.report, self.finding)

    def _replay(self, step: _Step) -> Exception | None:
        """Run a step again under the microscope. Returns the exception that ended it, if any."""
        for parameter in self.parameters:
            parameter.grad = None
        self._put(step.weights, step.modes)
        random_state.set_state(step.random_state)
        microscope, trouble, self._replaying = NaNMicroscope(stop_when_found=True), None, True
        try:
            with microscope, torch.enable_grad():
                step.again()
        except ReplayEnded:
            pass
        except Exception as error:  # a guard that stops at the same loss is no news
            trouble = error
        finally:
            self._replaying = False
        self.finding = microscope.finding
        return trouble

    @torch.no_grad()
    def _put(self, weights: list[Tensor], modes: list[bool]) -> None:
        torch._foreach_copy_(self.weights, weights)
        for module, mode in zip(self.modules, modes, strict=True):
            module.training = mode

    def _worded(self, bad: _Step, step: _Step, value: float, changed: bool, trouble: Exception | None) -> str:
        lines = [f"Step {bad.number}: the loss is {value}."]
        if step is not bad:
            lines.append(f"The weights were non-finite before it, so step {step.number} was replayed:")
        lines.append(
            str(self.finding)
            if self.finding
            else "The replay stayed finite: the step depends on something that is not kept."
        )
        if changed:
            lines.append("The step changed its batch in place, so the replay had another input.")
        if trouble is not None and self.finding is None:
            lines.append(f"The replay raised {type(trouble).__name__}: {trouble}")
        return "\n".join(lines)

    def _bad_update(self, step: _Step, following: _Step) -> Finding:
        """The finding where weights and gradients are finite and the next weights are not."""
        worst = next(i for i in range(len(self.parameters)) if not is_finite(following.weights[i]))
        inputs = [value_of("weight before", step.weights[worst])]
        if (gradient := self.parameters[worst].grad) is not None:
            inputs.append(value_of("its gradient", gradient))
        place = _line_with(self._update_place, ".step(")
        after = value_of("weight after", following.weights[worst])
        event = Event(0, BIRTH, "forward", "the optimizer's step", place, tuple(inputs), (after,))
        return Finding(event, (event,), "the weights")

    # ---- where it is attached --------------------------------------------------------------------

    def attach(self) -> Recorder:
        self.detach()  # so that attaching twice is attaching once
        return self

    def detach(self) -> None:
        """Forget the copies."""
        self._kept.clear()
        self._batches.clear()
        self._open, self._seen = False, None

    def __enter__(self) -> Recorder:
        try:
            return self.attach()
        except BaseException:
            self.detach()
            raise

    def __exit__(self, kind, error, _trace) -> bool:
        try:
            if (
                not self.report
                and (error is None or self._open)
                and not (kind and issubclass(kind, KeyboardInterrupt | SystemExit))
            ):
                if error is not None:
                    self._note(self._seen)
                self._check(wait=True)
        except NonFiniteStep as found:
            if error is not None:
                error.add_note(str(found))
        finally:
            self.detach()
        return isinstance(error, NonFiniteStep) and error.finding is self.finding


class ReplayOptimizer:
    """Takes an optimizer's place in a replay: ends the replay instead of moving a weight."""

    def __init__(self, optimizer):
        self.param_groups, self.state = optimizer.param_groups, optimizer.state

    def step(self, *_args, **_kwargs) -> None:
        raise ReplayEnded

    def zero_grad(self, *_args, **_kwargs) -> None: ...


def loss_of(parts) -> Tensor | None:
    """The loss in the result of a step: `.total`, `["loss"]`, or the first tensor in it."""
    if hasattr(parts, "total"):
        return parts.total
    if isinstance(parts, dict) and "loss" in parts:
        return parts["loss"]
    return next(tensors_in(parts), None)


def _line_with(function: Callable | None, text: str) -> Place:
    """The first line of a function that contains a text; its first line where none does."""
    try:
        lines, first = inspect.getsourcelines(function)
        file = str(Path(inspect.getsourcefile(function)))
    except (TypeError, OSError):
        return Place("", 0, "", "")
    at = next((number for number, line in enumerate(lines) if text in line), 0)
    return Place(file, first + at, getattr(function, "__name__", ""), lines[at].strip())
