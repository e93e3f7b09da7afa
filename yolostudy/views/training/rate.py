"""The learning rate of every step of a run, as a schedule plans it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.ticker import MaxNLocator

from ...canvas import style
from ...canvas.panel import Panel


@dataclass(frozen=True, eq=False)
class RatePlan:
    """The learning rate of every step of a run, (steps,)."""

    rates: np.ndarray

    @property
    def peak(self) -> float:
        return float(self.rates.max())

    @property
    def peak_step(self) -> int:
        """The first step at which the rate is highest."""
        return int(self.rates.argmax())

    @property
    def largest_rise(self) -> float:
        """The largest increase of the rate in one step; the first step counts from 0.

        A run without a warm-up rises by its whole peak.
        """
        return float(np.diff(self.rates, prepend=0.0).max())

    @property
    def mean_share(self) -> float:
        """The mean rate over its peak."""
        return float(self.rates.mean() / self.peak) if self.peak else 0.0


def plan_rate(schedule: Callable[[int, float], float], steps: int, rate: float = 1.0) -> RatePlan:
    """Ask a schedule for the factor of every step, as a run would.

    Args:
        schedule: (steps done so far, share of the run that is done) -> factor, such as a
            `training.WarmupCosine`.
        steps: length of the run.
        rate: multiplied with the factor.

    Errors: ValueError where the schedule gives no finite number.
    """
    factors = [schedule(step, step / steps) for step in range(steps)]
    wrong = next((step for step, factor in enumerate(factors) if not _is_number(factor)), None)
    if wrong is not None:
        raise ValueError(
            f"the schedule gave {factors[wrong]!r} for step {wrong} of {steps}; a finite number is needed."
        )
    return RatePlan(rate * np.array(factors, dtype=np.float64))


def _is_number(value: object) -> bool:
    try:
        return bool(np.isfinite(float(value)))
    except (TypeError, ValueError):
        return False


@style.house()
def draw_rates(plans: Mapping[str, RatePlan], unit: str = "step", behind: Sequence[str] = ()) -> style.StudyFigure:
    """Learning rates over a run: the linear axis shows the warm-up, the logarithmic one the end.

    Args:
        unit: of the plans' rates, "step" or "epoch".
        behind: labels of plans that are drawn dashed and grey behind the others.
    """
    figure, panels = style.figure(1, 2)
    for axes, scale in zip(panels, ("linear", "log")):
        for number, (label, plan) in enumerate(plans.items()):
            shown = plan.rates if scale == "linear" else np.where(plan.rates > 0, plan.rates, np.nan)
            look = (
                dict(color=style.FAINT, linestyle=(0, (4, 2)), zorder=1)
                if label in behind
                else dict(color=style.cycle(number))
            )
            axes.plot(np.arange(1, len(shown) + 1), shown, label=label, **look)
        axes.set_yscale(scale)
        axes.set(xlabel=unit, title="learning rate" if scale == "linear" else "the same, logarithmic")
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    panels[0].set_ylim(bottom=0)
    panels[0].yaxis.set_major_formatter("{x:g}")
    panels[1].legend(loc="lower left")
    return figure.with_numbers(plans)


class RateDesigner(Panel):
    """A widget: sliders for the peak, the warm-up, the end and the length of a run, over its plan.

    `numbers` is the `RatePlan`; the dashed line is the same run without a warm-up.

    Args:
        schedule: makes a schedule of (warmup_steps, final); by default the class
            `training.WarmupCosine`.
        rate, warmup, final, steps: first values of the sliders.
    """

    def __init__(
        self,
        schedule: Callable[[int, float], Callable] | None = None,
        rate: float = 3e-3,
        warmup: int = 60,
        final: float = 0.02,
        steps: int = 400,
    ):
        import ipywidgets as widgets

        if schedule is None:
            from ...training import WarmupCosine as schedule
        self.schedule = schedule
        look = dict(style={"description_width": "110px"}, layout={"width": "430px"})
        self.rate = widgets.FloatLogSlider(
            value=rate, min=-5, max=0, step=0.1, description="peak rate", readout_format=".1e", **look
        )
        self.warmup = widgets.IntSlider(value=warmup, min=0, max=500, description="warm-up, steps", **look)
        self.final = widgets.FloatSlider(value=final, min=0, max=1, step=0.01, description="final factor", **look)
        self.steps = widgets.IntSlider(value=steps, min=20, max=2000, step=20, description="steps", **look)
        controls = [self.rate, self.warmup, self.final, self.steps]
        self._begin([widgets.HBox(controls[:2]), widgets.HBox(controls[2:])], controls)

    def _look(self):
        def plan(warmup: int) -> RatePlan:
            return plan_rate(self.schedule(warmup, self.final.value), self.steps.value, self.rate.value)

        numbers = plan(self.warmup.value)
        plans = {f"warm-up of {self.warmup.value} steps" if self.warmup.value else "no warm-up": numbers}
        if self.warmup.value > 1:
            plans["without"] = plan(0)
        return numbers, draw_rates(plans, behind=("without",))
