"""The unit in which every part of a loss works: pixels, strides, bins, or 0…1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from matplotlib.patches import Rectangle

from ...canvas import style
from .looks import short
from .watching import as_array, watch_loss

UNITS = MappingProxyType(
    {"pixels": style.CYCLE[0], "strides": style.CYCLE[1], "bins": style.CYCLE[2], "0…1": style.CYCLE[3]}
)


@dataclass(frozen=True, slots=True)
class Reading:
    """The range of a value, and the unit that it should be in (a key of UNITS).

    The limits are NaN where any value was not finite.
    """

    place: str
    name: str
    unit: str
    low: float
    high: float

    @property
    def finite(self) -> bool:
        return bool(np.isfinite(self.low) and np.isfinite(self.high))


def measure_units(loss, maps: Sequence, targets) -> list[Reading]:
    """The range of every value that passes through a `DetectionLoss`, in the order of its work."""
    import torch

    with torch.no_grad():
        seen = watch_loss(loss, maps, targets)
    into, calls = seen.assigner_input, seen.box_calls

    def joined(name: str):
        return torch.cat([call[name].flatten() for call in calls]) if calls else torch.zeros(0)

    distances = torch.cat([part.flatten() for part in seen.distances]) if seen.distances else torch.zeros(0)
    values = (
        ("the batch", "targets", "pixels", targets[:, 2:]),
        ("into the assigner", "scores", "0…1", into["scores"]),
        ("into the assigner", "boxes", "pixels", into["boxes"]),
        ("into the assigner", "anchors", "pixels", into["anchors"]),
        ("into the assigner", "ground truths", "pixels", into["ground truths"]),
        ("out of the assigner", "target scores", "0…1", seen.assignment.scores),
        ("into the box loss", "anchors", "strides", joined("anchors")),
        ("into the box loss", "target boxes", "strides", joined("target boxes")),
        ("into the box loss", "weight", "0…1", joined("weight")),
        ("into DFL", "distances", "bins", distances),
    )
    return [Reading(place, name, unit, *_range(as_array(value))) for place, name, unit, value in values]


def _range(values: np.ndarray) -> tuple[float, float]:
    return (float(values.min()), float(values.max())) if values.size else (float("nan"), float("nan"))


@style.house()
def draw_units(columns: Mapping[str, Sequence[Reading]]) -> style.StudyFigure:
    """Ranges as bars, coloured by the unit that they should be in.

    From the second column on, the first column is drawn behind as an outline, and a range that
    differs from it is written in red.

    Args:
        columns: title -> what `measure_units` found.
    """
    figure, axes = style.figure(1, len(columns), height=3.9, sharey=True, squeeze=False)
    first = next(iter(columns.values()))
    rows = [number + 0.35 * len({reading.place for reading in first[: number + 1]}) for number in range(len(first))]
    reach = [
        abs(value)
        for readings in columns.values()
        for reading in readings
        if reading.finite
        for value in (reading.low, reading.high)
    ]
    limit = 1.2 * max([100, *reach])
    for number, (axis, (title, readings)) in enumerate(zip(axes[0], columns.items())):
        for row, reading, expected in zip(rows, readings, first, strict=True):
            _draw_range(axis, row, reading, expected, limit, outlined=number > 0)
        axis.set_xscale("symlog", linthresh=1, linscale=1)
        axis.set(xlim=(-limit, limit), title=title, ylim=(rows[-1] + 0.6, rows[0] - 0.6))
        labels = ("−100", "", "−1", "0", "1", "10", "100") if len(columns) < 3 else ("−100", "", "", "0", "", "", "100")
        axis.set_xticks([-100, -10, -1, 0, 1, 10, 100], labels, fontsize=8.5)
    figure.supxlabel("value; the scale is linear up to 1 and logarithmic beyond", fontsize=10)
    axes[0, 0].set_yticks(rows, [f"{reading.place}: {reading.name}" for reading in first], fontsize=9)
    axes[0, 0].tick_params(axis="y", length=0)
    handles = [Rectangle((0, 0), 1, 1, color=colour, label=unit) for unit, colour in UNITS.items()]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(UNITS))
    return figure.with_numbers(columns)


def _draw_range(axis, row: float, reading: Reading, expected: Reading, limit: float, outlined: bool) -> None:
    """One range as a bar, over the outline of the expected one, with its limits at the right."""
    if outlined:
        look = dict(height=0.78, color="none", edgecolor=style.FAINT, linewidth=0.8)
        axis.barh(row, expected.high - expected.low, left=expected.low, **look)
    if reading.finite:
        axis.barh(row, reading.high - reading.low, left=reading.low, height=0.6, color=UNITS[reading.unit])
    limits, wanted = (reading.low, reading.high), (expected.low, expected.high)
    same = np.allclose(limits, wanted, rtol=0.2, atol=0.05, equal_nan=True)
    text = f"{short(reading.low)} … {short(reading.high)}" if reading.finite else "NaN, or nothing"
    look = {} if same else dict(color=style.FALSE_ALARM, weight="bold")
    axis.text(limit * 1.2, row, text, va="center", fontsize=8.5, **look)
