"""Who learns: the gradient norm of every module at every update, and what two states of a network
differ in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.ticker import MaxNLocator

from ...canvas import style


@dataclass(frozen=True, eq=False)
class GradientNorms:
    """The norm of each module's gradients at each update of the weights.

    Attributes:
        modules: (M) names. norms: (updates, M); 0 where no gradient came.
        parameters: (M,) how many numbers each module could learn.
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
        """How much of the network never got a gradient, by parameters."""
        quiet = [name in self.silent for name in self.modules]
        return float(self.parameters[quiet].sum() / max(1, self.parameters.sum()))

    @property
    def typical(self) -> np.ndarray:
        """The median over the updates, (M,)."""
        return np.median(self.norms, axis=0) if len(self.norms) else np.zeros(len(self.modules))


class GradientRecorder:
    """Writes down gradient norms while it is entered, and is gone afterwards, whatever ended the
    block.

        with GradientRecorder(model) as recorder:
            trainer.train()
        draw_gradients(recorder.numbers)

    It listens at the moment before an optimizer changes the weights, so it sees what the update is
    made of: after clipping, and after a gradient scaler has been taken out. Any optimizer of torch
    will do, and none has to be named; one that holds no parameter of the model is not looked at.

    Args:
        model: whose modules are watched.
        depth: how many parts of a parameter's name make a module: 1 gives backbone, neck, head; 2
            gives backbone.stem and so on.
    """

    def __init__(self, model, depth: int = 2):
        groups: dict[str, list] = {}
        for name, parameter in model.named_parameters():
            path = name.split(".")[:-1][:depth]
            groups.setdefault(".".join(path) or "(the model)", []).append(parameter)
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
        self.rows.append([value.detach() for value in row])  # not read here: reading would wait for the device

    @property
    def numbers(self) -> GradientNorms:
        """What was recorded so far."""
        norms = np.array([[float(value) for value in row] for row in self.rows], dtype=np.float64)
        norms = norms.reshape(len(self.rows), len(self.groups))
        counts = np.array([sum(parameter.numel() for parameter in group) for group in self.groups.values()])
        return GradientNorms(tuple(self.groups), norms, counts)


@style.house()
def draw_gradients(numbers: GradientNorms, title: str = "gradient norm at each update") -> style.StudyFigure:
    """A strip for each module, over the updates; grey where no gradient came.

    On the right the median.
    """
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
    return figure


@dataclass(frozen=True, eq=False)
class Movement:
    """How far the parts of a network have moved between two states, each relative to the norm that
    it had before.

    Attributes:
        modules: (M) names. weights: (M,) parameters. statistics: (M,) floating-point buffers. NaN
            where a module has none.
        counters: number of integer buffers that changed.
    """

    modules: tuple[str, ...]
    weights: np.ndarray
    statistics: np.ndarray
    counters: int

    @property
    def still(self) -> bool:
        """Nothing has moved at all."""
        return not (np.nansum(self.weights) or np.nansum(self.statistics) or self.counters)


def what_moved(before: Mapping, model, depth: int = 2) -> Movement:
    """Compare a model with a copy of its own `state_dict()` that was made before.

    Args:
        before: name → tensor, copies: `copy.deepcopy(model.state_dict())`.
        depth: as in `GradientRecorder`.
    """
    weights = {name for name, _ in model.named_parameters()}
    sums: dict[str, np.ndarray] = {}  # squares: weights moved, weights before, statistics moved, statistics before
    counters = 0
    for name, now in model.state_dict().items():
        if name not in before:
            raise ValueError(f"the state from before has no {name!r}: it is of another network.")
        then = before[name]
        group = sums.setdefault(".".join(name.split(".")[:-1][:depth]) or "(the model)", np.zeros(4))
        if not now.is_floating_point():
            counters += int(bool((now != then).any()))
            continue
        at = 0 if name in weights else 2
        group[at] += float((now.detach().double() - then.double()).square().sum())
        group[at + 1] += float(then.double().square().sum())

    def share(at: int) -> np.ndarray:
        values = [
            (np.sqrt(row[at] / row[at + 1]) if row[at + 1] else np.inf if row[at] else np.nan) for row in sums.values()
        ]
        return np.array(values)

    return Movement(tuple(sums), share(0), share(2), counters)


@style.house()
def draw_movement(numbers: Mapping[str, Movement]) -> style.StudyFigure:
    """Weights and running statistics of each module, for one training or several, beside one
    another. No bar: it did not move.
    """
    figure, panels = style.figure(
        1, len(numbers), height=1.4 + 0.23 * max(len(one.modules) for one in numbers.values()), squeeze=False
    )
    first = next(iter(numbers.values())).modules
    for column, (axes, (label, one)) in enumerate(zip(panels[0], numbers.items())):
        rows = np.arange(len(one.modules))
        axes.barh(rows - 0.2, one.weights, 0.36, color=style.CYCLE[0], label="weights")
        axes.barh(rows + 0.2, one.statistics, 0.36, color=style.CYCLE[1], label="running statistics")
        axes.set_yticks(rows, one.modules, fontsize=9)
        axes.tick_params(labelleft=column == 0 or one.modules != first)
        axes.set(ylim=(len(rows) - 0.5, -0.5), title=label, xlabel="moved, share of what it was")
        axes.set_xlim(left=0)
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper right", ncols=2)
    return figure
