"""Who learns: the gradient norm of every module at every update of the weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.ticker import MaxNLocator

from ...canvas import style


@dataclass(frozen=True, eq=False)
class GradientNorms:
    """The norm of each module's gradients at each update of the weights.

    Attributes:
        modules: (M,) names.
        norms: (updates, M); 0 where no gradient came.
        parameters: (M,) number of parameters of each module.
    """

    modules: tuple[str, ...]
    norms: np.ndarray
    parameters: np.ndarray

    @property
    def silent(self) -> tuple[str, ...]:
        """Modules that never got a gradient: frozen, detached, or not used by the loss."""
        return tuple(name for name, column in zip(self.modules, self.norms.T) if not column.any())

    @property
    def silent_share(self) -> float:
        """The share of the parameters that never got a gradient."""
        quiet = [name in self.silent for name in self.modules]
        return float(self.parameters[quiet].sum() / max(1, self.parameters.sum()))

    @property
    def typical(self) -> np.ndarray:
        """The median over the updates, (M,)."""
        return np.median(self.norms, axis=0) if len(self.norms) else np.zeros(len(self.modules))


class GradientRecorder:
    """Records gradient norms inside a `with` block, and leaves nothing behind.

        with GradientRecorder(model) as recorder:
            trainer.train()
        draw_gradients(recorder.numbers)

    It records just before an optimizer changes the weights: after clipping, and after a gradient
    scaler has unscaled. It works with any optimizer of torch and need not be told which; optimizers
    without a parameter of the model are ignored.

    Args:
        model: whose modules are watched.
        depth: parts of a parameter's name that make a module: 1 gives backbone, neck, head; 2 gives
            backbone.stem and so on.
    """

    def __init__(self, model, depth: int = 2):
        groups: dict[str, list] = {}
        for name, parameter in model.named_parameters():
            groups.setdefault(module_of(name, depth), []).append(parameter)
        self.groups, self.rows, self._handle = groups, [], None

    def __enter__(self) -> GradientRecorder:
        from torch.optim.optimizer import register_optimizer_step_pre_hook

        if self._handle is not None:
            raise RuntimeError(
                "GradientRecorder: it is recording already. Make a second one for a block inside this one."
            )
        self._handle = register_optimizer_step_pre_hook(self._before_update)
        return self

    def __exit__(self, *_) -> None:
        handle, self._handle = self._handle, None
        handle.remove()

    def _before_update(self, optimizer, _args, _kwargs) -> None:
        import torch

        changed = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        if not any(id(parameter) in changed for group in self.groups.values() for parameter in group):
            return
        row = []
        for group in self.groups.values():
            gradients = [
                parameter.grad for parameter in group if parameter.grad is not None and id(parameter) in changed
            ]
            row.append(
                torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients))) if gradients else torch.zeros(())
            )
        # not converted to numbers here: that would wait for the device
        self.rows.append([value.detach() for value in row])

    @property
    def numbers(self) -> GradientNorms:
        """The norms that were recorded so far."""
        norms = np.array([[float(value) for value in row] for row in self.rows], dtype=np.float64)
        norms = norms.reshape(len(self.rows), len(self.groups))
        counts = np.array([sum(parameter.numel() for parameter in group) for group in self.groups.values()])
        return GradientNorms(tuple(self.groups), norms, counts)


def module_of(parameter: str, depth: int) -> str:
    """The module that a parameter is counted to: the first `depth` parts of its name."""
    return ".".join(parameter.split(".")[:-1][:depth]) or "(the model)"


@style.house()
def draw_gradients(numbers: GradientNorms, title: str = "gradient norm at each update") -> style.StudyFigure:
    """A strip for each module over the updates, grey without a gradient; right, the median."""
    count = len(numbers.modules)
    figure, (strips, bars) = style.figure(1, 2, height=1.3 + 0.23 * count, width_ratios=(3, 1), sharey=True)
    known = numbers.norms[np.isfinite(numbers.norms) & (numbers.norms > 0)]
    low, high = np.quantile(known, (0.02, 0.98)) if len(known) else (1e-3, 1.0)
    scale = LogNorm(float(low), float(max(high, low * 1.01)))
    strips.set_facecolor(style.GROUND)
    shown = np.ma.masked_where(~(numbers.norms > 0), numbers.norms)
    if numbers.norms.size:
        extent = (0.5, len(shown) + 0.5, count - 0.5, -0.5)
        image = strips.imshow(
            shown.T, norm=scale, cmap=style.HEAT, aspect="auto", interpolation="nearest", extent=extent
        )
        figure.colorbar(image, ax=bars, label="norm")
    for row, name in enumerate(numbers.modules):
        if name in numbers.silent:
            strips.text(
                0.02,
                row,
                "no gradient",
                transform=strips.get_yaxis_transform(),
                va="center",
                fontsize=9,
                color=style.FALSE_ALARM,
            )
    strips.grid(False)
    strips.set_yticks(range(count), numbers.modules, fontsize=9)
    strips.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    strips.set(xlabel="update", title=title, ylim=(max(count, 1) - 0.5, -0.5))
    typical = np.where(numbers.typical > 0, numbers.typical, np.nan)
    bars.barh(
        range(count),
        typical,
        color=[style.HEAT(scale(value)) if np.isfinite(value) else style.GROUND for value in typical],
    )
    bars.set(title="median", xlabel="norm")
    if np.isfinite(typical).any():
        bars.set_xscale("log")
        bars.set_xlim(left=float(np.nanmin(typical)) / 3)
    bars.tick_params(labelleft=False)
    return figure.with_numbers(numbers)
