"""Activation functions and their gradients: SiLU and its relatives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from ...canvas import style

if TYPE_CHECKING:
    from torch import Tensor


def activation_curves(functions: Mapping[str, Callable[[Tensor], Tensor]] | None = None) -> dict:
    """Activation functions and their gradients, by autograd, from -5 to 5.

    Args:
        functions: name -> function; by default SiLU and ReLU.

    Returns:
        name -> {"x", "value", "gradient"} (arrays), "lowest" and "lowest_at" (numbers).
    """
    import torch
    from torch.nn import functional

    curves = {}
    for name, function in (functions or {"SiLU": functional.silu, "ReLU": functional.relu}).items():
        x = torch.linspace(-5, 5, 401, dtype=torch.float64, requires_grad=True)
        value = function(x)
        (gradient,) = torch.autograd.grad(value.sum(), x)
        x, value = x.detach().numpy(), value.detach().numpy()
        lowest = int(value.argmin())
        curves[name] = {
            "x": x,
            "value": value,
            "gradient": gradient.numpy(),
            "lowest": float(value[lowest]),
            "lowest_at": float(x[lowest]),
        }
    return curves


@style.house()
def draw_activations(curves: Mapping[str, Mapping]) -> style.StudyFigure:
    """The functions on the left, their gradients on the right."""
    figure, (left, right) = style.figure(1, 2, sharex=True)
    for number, (name, curve) in enumerate(curves.items()):
        look = dict(color=style.cycle(number), linestyle=("-", (0, (5, 2)), ":")[number % 3], label=name)
        left.plot(curve["x"], curve["value"], **look)
        right.plot(curve["x"], curve["gradient"], **look)
    left.set(title="value", xlabel="input", ylabel="output")
    right.set(title="gradient", xlabel="input", ylabel="output per unit of input")
    left.legend(loc="upper left")
    return figure.with_numbers(curves)
