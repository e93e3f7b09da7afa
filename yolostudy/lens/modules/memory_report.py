"""Memory of one training step: the numbers that a prediction and a measurement both give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

MOMENTS = {"adamw": 2, "adam": 2, "sgd": 1, "none": 0}  # float32 copies that the optimizer keeps of each weight
KINDS = (
    "weights",
    "buffers",
    "average",
    "optimizer",
    "gradients",
    "batch",
    "cast weights",
    "activations",
    "working memory",
)
PHASES = ("forward", "loss", "backward", "update")


@dataclass(frozen=True, slots=True)
class ModuleMemory:
    """Memory of one module, without the modules inside it, in bytes.

    Attributes:
        weights: of its own parameters.
        activations: what it saves for the backward pass.
        live: the most in use while it ran, everything before it included; where measured, what was
            in use when it ended.
    """

    name: str
    kind: str
    weights: int
    activations: int
    live: int


@dataclass(frozen=True, slots=True)
class StepMemory:
    """Memory of one training step, in bytes.

    Attributes:
        peak: the most in use at once.
        phase: when that was: forward, loss, backward or update.
        at_peak: kind -> bytes at that moment; they add up to the peak. KINDS lists the kinds.
        most: kind -> the most of it at any time.
        phases: phase -> its peak.
        modules: in the order in which they are first called.
        timeline: (phase, bytes in use) from the first operation to the last; empty where measured.
        measured: by the allocator of a CUDA card, workspaces included; else predicted.
        shape, precision, optimizer: of the step.
    """

    peak: int
    phase: str
    at_peak: dict[str, int]
    most: dict[str, int]
    phases: dict[str, int]
    modules: tuple[ModuleMemory, ...]
    timeline: tuple[tuple[str, int], ...]
    measured: bool
    shape: tuple[int, ...]
    precision: str
    optimizer: str

    def parts(self, depth: int = 2) -> dict[str, tuple[int, int]]:
        """Name of a part, cut at `depth` -> (weights, activations), with everything inside it."""
        sums: dict[str, list[int]] = {}
        for module in self.modules:
            part = sums.setdefault(".".join(module.name.split(".")[:depth]) or "outside", [0, 0])
            part[0] += module.weights
            part[1] += module.activations
        return {name: tuple(part) for name, part in sums.items() if any(part)}

    def __str__(self) -> str:
        word = "measured" if self.measured else "predicted, without cuDNN's workspaces"
        shape = " × ".join(map(str, self.shape))
        lines = [
            f"{_megabytes(self.peak)} at the peak, in the {self.phase} ({word}); batch {shape}, {self.precision}, "
            f"{self.optimizer}"
        ]
        lines += [f"  {kind:<15}{_megabytes(value):>12}" for kind, value in self.at_peak.items() if value]
        return "\n".join(lines)

    __repr__ = __str__


def module_table(model, saved: Mapping[str, int], live: Mapping[str, int]) -> tuple[ModuleMemory, ...]:
    """The modules that were called. A module with several names has its weights under the first."""
    first = dict(model.named_modules())
    every = dict(model.named_modules(remove_duplicate=False))
    weights = {name: sum(p.nbytes for p in module.parameters(recurse=False)) for name, module in first.items()}
    return tuple(
        ModuleMemory(name, type(every[name]).__name__, weights.get(name, 0), max(0, saved.get(name, 0)), live[name])
        for name in live
        if name in every
    )


def learnable_outputs(output) -> list:
    """The tensors in a model's output from which a loss can be computed."""
    from ..nan.values import tensors_in

    found = [tensor for tensor in tensors_in(output) if tensor.requires_grad]
    if not found:
        raise ValueError(
            "nothing in the model's output depends on a weight that learns, so its step has no backward pass to count"
        )
    return found


def check_settings(precision: str, optimizer: str) -> None:
    if precision not in ("fp32", "bf16", "fp16"):
        raise ValueError(f"unknown precision {precision!r}; choose fp32, bf16 or fp16")
    if optimizer not in MOMENTS:
        raise ValueError(f"unknown optimizer {optimizer!r}; choose one of {', '.join(MOMENTS)}")


def thinned(timeline: Sequence[tuple[str, int]], most: int = 600) -> tuple[tuple[str, int], ...]:
    """About `most` points of a timeline: of each stretch the highest."""
    step = max(1, len(timeline) // most)
    return tuple(
        max(timeline[start : start + step], key=lambda point: point[1]) for start in range(0, len(timeline), step)
    )


def _megabytes(value: float) -> str:
    return f"{value / 2**20:,.1f} MiB"
