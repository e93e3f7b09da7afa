"""Where the memory of a training step goes: measured on a CUDA card, else predicted."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .memory_ledger import count_step, predict_memory
from .memory_on_card import measure_memory
from .memory_report import KINDS, PHASES, ModuleMemory, StepMemory

__all__ = [
    "KINDS",
    "PHASES",
    "ModuleMemory",
    "StepMemory",
    "count_step",
    "measure_memory",
    "predict_memory",
    "step_memory",
]


def step_memory(
    model,
    shape: Sequence[int],
    loss: Callable | None = None,
    precision: str = "fp32",
    optimizer: str = "adamw",
    average: bool = False,
) -> StepMemory:
    """Memory of a training step: measured where the model lies on a CUDA card, else predicted.

    Args:
        model: any `nn.Module`, on any device, `meta` included. It stays as it is.
        shape: (B, 3, H, W) of the batch, float32.
        loss: the model's output -> a scalar, or an object with `.total`. Without it, the sum of all
            outputs. For a prediction the loss runs for real, on random maps on the CPU, because
            matching boxes depends on values: that takes a second or two.
        precision: fp32, bf16 or fp16 (autocast).
        optimizer: adamw, adam, sgd (with momentum) or none.
        average: whether a moving average of the weights is kept, as the course's trainer does.
    """
    import torch

    on_card = torch.cuda.is_available() and any(parameter.is_cuda for parameter in model.parameters())
    return (measure_memory if on_card else predict_memory)(model, shape, loss, precision, optimizer, average)
