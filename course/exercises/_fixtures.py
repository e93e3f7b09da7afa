"""Helpers of the probes: fixed inputs, layers filled by shape alone, and small measurements."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn


def ramp(*shape: int) -> Tensor:
    """A fixed tensor of that shape in -1 … 1, smooth along its last axis and nowhere periodic."""
    count = math.prod(shape)
    steps = torch.arange(count, dtype=torch.float64)
    return (
        (torch.sin(0.7 * steps) * 0.5 + torch.cos(0.013 * steps * steps) * 0.5)
        .to(torch.get_default_dtype())
        .reshape(shape)
    )


def values(*shape: int, low: float = 0.0, high: float = 1.0, seed: int = 0) -> Tensor:
    """Fixed pseudo-random numbers of that shape in low … high."""
    return low + (high - low) * torch.rand(
        shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    ).to(torch.get_default_dtype())


def seeded(module: nn.Module, train: bool = False) -> nn.Module:
    """Fill every parameter and buffer by its shape alone.

    So names and order of construction do not matter. Weights are scaled by their fan-in, so that
    values neither vanish nor explode in a deep network.
    """
    with torch.no_grad():
        for tensor in module.state_dict().values():
            if not tensor.is_floating_point():
                tensor.zero_()
                continue
            fan_in = math.prod(tensor.shape[1:]) if tensor.dim() > 1 else 1
            seed = math.prod(side + 3 * place + 7 for place, side in enumerate(tensor.shape)) % 100_003
            drawn = values(*tensor.shape, low=-1, high=1, seed=seed)
            # scales, shifts, means and variances lie in 0.5 … 1.5: leaving one out shows, and variances are positive
            tensor.copy_(drawn * math.sqrt(3 / fan_in) if tensor.dim() > 1 else 1 + drawn / 2)
    return module.train(train)


def parameter_count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def attempt(act: Callable[[], object]) -> object:
    """What `act` returns, or the exception that it raises as `TypeError: message`."""
    try:
        return act()
    except Exception as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"


def gradient(scalar: Tensor, tensor: Tensor) -> Tensor | str:
    """The gradient of a scalar with respect to a leaf, or a sentence if there is none."""
    if not scalar.requires_grad:
        return "no gradient reaches it"
    found = torch.autograd.grad(scalar, tensor, retain_graph=True, allow_unused=True)[0]
    return "no gradient reaches it" if found is None else found


def warm_up() -> None:
    """Let torch import what arithmetic on its meta device needs: takes seconds, once a process."""
    torch.arange(2, device="meta") + 0.5
