"""What moved in a network between two states: weights, running statistics, counters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ...canvas import style
from .gradients import module_of


@dataclass(frozen=True, eq=False)
class Movement:
    """How far the modules of a network moved, relative to their norm before.

    Attributes:
        modules: (M,) names.
        weights: (M,) of the parameters; NaN where a module has none.
        statistics: (M,) of the floating-point buffers; NaN where a module has none.
        counters: number of integer buffers that changed.
    """

    modules: tuple[str, ...]
    weights: np.ndarray
    statistics: np.ndarray
    counters: int

    @property
    def still(self) -> bool:
        """Whether nothing has moved at all."""
        return not (np.nansum(self.weights) or np.nansum(self.statistics) or self.counters)


def what_moved(before: Mapping, model, depth: int = 2) -> Movement:
    """Compare a model with a copy of its own `state_dict()` that was made before.

    Args:
        before: name -> tensor, copied by `copy.deepcopy(model.state_dict())`.
        depth: as in `GradientRecorder`.
    """
    weights = {name for name, _ in model.named_parameters()}
    sums: dict[str, np.ndarray] = {}  # squares: weights moved, weights before, statistics moved, statistics before
    counters = 0
    for name, now in model.state_dict().items():
        if name not in before:
            raise ValueError(
                f"the state from before has no {name!r}: it belongs to another network. Give a copy of this model's."
            )
        then = before[name]
        group = sums.setdefault(module_of(name, depth), np.zeros(4))
        if not now.is_floating_point():
            counters += int(bool((now != then).any()))
            continue
        at = 0 if name in weights else 2
        group[at] += float((now.detach().double() - then.double()).square().sum())
        group[at + 1] += float(then.double().square().sum())

    def relative(at: int) -> np.ndarray:
        values = [
            (np.sqrt(row[at] / row[at + 1]) if row[at + 1] else np.inf if row[at] else np.nan) for row in sums.values()
        ]
        return np.array(values)

    return Movement(tuple(sums), relative(0), relative(2), counters)


@style.house()
def draw_movement(numbers: Mapping[str, Movement]) -> style.StudyFigure:
    """Weights and running statistics of each module, for one or several trainings side by side.

    A module without a bar did not move.

    Args:
        numbers: title -> what `what_moved` found.
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
    return figure.with_numbers(numbers)
