"""A measurement of memory: two training steps on a CUDA card, and what its allocator says."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from ..module_calls import ModuleCall, watch_modules
from .memory_report import KINDS, MOMENTS, StepMemory, check_settings, learnable_outputs, module_table


def measure_memory(
    model,
    shape: Sequence[int],
    loss: Callable | None = None,
    precision: str = "fp32",
    optimizer: str = "adamw",
    average: bool = False,
) -> StepMemory:
    """As `step_memory`, always measured on the CUDA card that holds the model.

    Two steps run on a copy of the model, and the second is measured. Working memory then includes
    cuDNN's workspaces. What was in use before does not count, so the model counts once.
    """
    import torch

    check_settings(precision, optimizer)
    device = next(model.parameters()).device
    if device.type != "cuda":
        raise ValueError(
            f"measure_memory asks CUDA's allocator, and the model lies on {device}; predict_memory needs no card"
        )
    measured = _MeasuredStep(model, tuple(shape), loss, precision, optimizer, average)
    with torch.inference_mode(False), torch.enable_grad():
        measured.run()
        with watch_modules(measured.model, measured.enter, measured.leave):
            measured.run()
    return measured.report()


class _MeasuredStep:
    """A training step on a copy of the model, with the allocator read between its phases."""

    def __init__(self, model, shape: tuple[int, ...], loss, precision: str, optimizer: str, average: bool):
        import torch

        self.shape, self.loss, self.precision, self.optimizer, self.average = shape, loss, precision, optimizer, average
        self.device = next(model.parameters()).device
        self.base = torch.cuda.memory_allocated(self.device)
        self.model = copy.deepcopy(model).train()
        self.learning = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        # kept until the end, because the averaged copy takes memory
        self.averaged = copy.deepcopy(self.model).requires_grad_(False) if average else None
        if optimizer in ("adamw", "adam"):
            self.updater = torch.optim.AdamW(self.learning, fused=True)
        else:
            self.updater = torch.optim.SGD(self.learning, lr=1e-6, momentum=0.9) if optimizer == "sgd" else None
        self.scaler = torch.amp.GradScaler("cuda", enabled=precision == "fp16")
        self.live, self.saved, self.phases = Counter(), Counter(), {}
        self.begun: dict[ModuleCall, int] = {}
        self.kept = 0  # bytes between the model's input and its output

    def allocated(self) -> int:
        import torch

        return torch.cuda.memory_allocated(self.device)

    def enter(self, call: ModuleCall, given) -> None:
        self.begun[call] = self.allocated()

    def leave(self, call: ModuleCall, output) -> None:
        now = self.allocated()
        grown = now - self.begun[call]
        self.live[call.name] = max(self.live[call.name], now - self.base)
        self.saved[call.name] += grown
        if call.parent is not None:  # it counts for the inner module alone
            self.saved[call.parent.name] -= grown

    def _close(self, phase: str) -> None:
        from torch import cuda

        cuda.synchronize(self.device)
        self.phases[phase] = cuda.max_memory_allocated(self.device) - self.base
        cuda.reset_peak_memory_stats(self.device)

    def run(self) -> None:
        import torch

        images = torch.rand(self.shape, device=self.device)
        images = images.to(memory_format=torch.channels_last) if images.ndim == 4 else images
        before = self.allocated()
        torch.cuda.reset_peak_memory_stats(self.device)
        low = torch.float16 if self.precision == "fp16" else torch.bfloat16
        with torch.autocast("cuda", low, enabled=self.precision != "fp32"):
            output = self.model(images)
        self.kept = max(0, self.allocated() - before)
        self._close("forward")
        if self.loss is None:
            value = sum(tensor.float().sum() for tensor in learnable_outputs(output))
        else:
            value = self.loss(output)
        value = getattr(value, "total", value)
        self._close("loss")
        self.scaler.scale(value).backward()
        self._close("backward")
        if self.updater is not None:
            self.scaler.step(self.updater)
            self.scaler.update()
        self.model.zero_grad(set_to_none=True)
        self._close("update")

    def report(self) -> StepMemory:
        peak, phase = max((value, phase) for phase, value in self.phases.items())
        weights = sum(parameter.nbytes for parameter in self.model.parameters())
        buffers = sum(buffer.nbytes for buffer in self.model.buffers())
        gradients = sum(parameter.nbytes for parameter in self.learning)
        known = {"weights": weights, "buffers": buffers, "average": (weights + buffers) * self.average}
        known |= {"optimizer": MOMENTS[self.optimizer] * gradients, "batch": int(np.prod(self.shape)) * 4}
        most = {**dict.fromkeys(KINDS, 0), **known, "gradients": gradients, "activations": self.kept}
        at_peak = {**dict.fromkeys(KINDS, 0), **known, "gradients": gradients * (phase == "update")}
        at_peak["activations"] = min(self.kept, peak - sum(at_peak.values())) * (phase != "update")
        most["working memory"] = at_peak["working memory"] = peak - sum(at_peak.values())
        modules = module_table(self.model, self.saved, self.live)
        settings = (self.shape, self.precision, self.optimizer)
        return StepMemory(peak, phase, at_peak, most, self.phases, modules, (), True, *settings)
