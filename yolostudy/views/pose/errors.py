"""How many pixels each keypoint is off, beside the average precision at several σ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...canvas import drawing, style
from .looks import AREA_SHARE
from .similarity import oks_radius

NEAREST = 0.1  # pixels, the start of the logarithmic axis
MAX_DOTS = 250  # of a keypoint; more are thinned out, evenly over the sorted errors


@style.house()
def draw_keypoint_errors(
    errors: Mapping[str, Sequence[float]], ap: Mapping[float, float] | None = None, side: float | None = None
) -> style.StudyFigure:
    """The errors of each keypoint as dots with median, beside the average precision at each σ.

    Its numbers: "errors": name, and "all" -> "count", "median", "mean", "p90" in pixels (NaN where
    there is none); "ap": σ -> AP; "allowed": σ -> pixels at which the OKS is 0.5, where `side` is
    given.

    Args:
        errors: name of a keypoint -> distances in pixels between truths and their predictions.
        ap: σ of the metric -> AP in 0…1.
        side: of a typical object in pixels: says which error the metric forgives at each σ.
    """
    tables = {name: np.sort(np.asarray(values, float).ravel()) for name, values in errors.items()}
    if not tables:
        raise ValueError("draw_keypoint_errors needs one keypoint or more: name -> errors in pixels.")
    for name, values in tables.items():
        if not np.isfinite(values).all() or (values < 0).any():
            raise ValueError(f"the errors of {name} hold a value that is no distance; leave out what was not found.")
    together = np.concatenate(list(tables.values()))
    numbers = {"errors": {name: _summary(values) for name, values in (tables | {"all": together}).items()}}
    numbers["ap"] = dict(ap or {})
    if side is not None:
        numbers["allowed"] = {sigma: oks_radius(0.5, sigma, AREA_SHARE * side**2) for sigma in numbers["ap"]}
    columns = 2 if ap else 1
    ratios = dict(width_ratios=(1.7, 1)) if ap else {}
    figure, panels = style.figure(1, columns, height=1.5 + 0.52 * len(tables), squeeze=False, **ratios)
    _draw_strips(panels[0, 0], tables, numbers["errors"])
    if ap:
        _draw_ap(panels[0, 1], numbers, side)
    drawing.settle(panels[0, 0])
    return figure.with_numbers(numbers)


def _summary(values: np.ndarray) -> dict[str, float]:
    if not len(values):
        return {"count": 0, "median": np.nan, "mean": np.nan, "p90": np.nan}
    middle, most = np.quantile(values, (0.5, 0.9))
    return {"count": len(values), "median": float(middle), "mean": float(values.mean()), "p90": float(most)}


def _draw_strips(axes, tables: Mapping[str, np.ndarray], summary: Mapping[str, dict]) -> None:
    random = np.random.default_rng(0)  # only spreads the dots across their strip
    most = max([10.0, *(values[-1] for values in tables.values() if len(values))])
    for row, (name, values) in enumerate(tables.items()):
        if not len(values):
            axes.text(NEAREST * 1.2, row, "none found", va="center", fontsize=9)
            continue
        if len(values) > MAX_DOTS:
            values = values[np.linspace(0, len(values) - 1, MAX_DOTS).astype(int)]
        place = row + random.uniform(-0.28, 0.28, len(values))
        axes.plot(values.clip(NEAREST), place, ".", color=style.cycle(row), alpha=0.45, markersize=6, markeredgewidth=0)
        median = summary[name]["median"]
        axes.plot([max(median, NEAREST)] * 2, [row - 0.4, row + 0.4], color=style.INK, linewidth=3)
        axes.text(4.4 * most, row, f"{median:.1f} px", va="center", ha="right", fontsize=10, weight="bold")
    axes.set_yticks(range(len(tables)), list(tables))
    axes.set(xscale="log", xlim=(NEAREST, 4.8 * most), ylim=(len(tables) - 0.5, -0.5))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel(f"error in pixels; median of all {summary['all']['median']:.1f}, mean {summary['all']['mean']:.1f}")
    axes.set_title("each dot a keypoint, bars are medians")
    axes.grid(axis="y", visible=False)


def _draw_ap(axes, numbers: dict, side: float | None) -> None:
    for row, value in enumerate(numbers["ap"].values()):
        axes.bar(row, value, 0.6, color=style.CYCLE[5], edgecolor=style.CYCLE[0], linewidth=1.2)
        axes.text(row, value + 0.02, f"{value:.2f}", ha="center", va="bottom", fontsize=10, weight="bold")
    labels = [f"σ {sigma:g}" for sigma in numbers["ap"]]
    if side is not None:
        labels = [f"{label}\n{pixels:.1f} px" for label, pixels in zip(labels, numbers["allowed"].values())]
        axes.set_xlabel(f"OKS is 0.5 at that error, {side:g} px object")
    axes.set_xticks(range(len(labels)), labels)
    axes.set(ylim=(0, 1.15), yticks=np.arange(0, 1.01, 0.25), ylabel="AP", title="average precision")
    axes.grid(axis="x", visible=False)
