"""Two people whose peaks meet: the larger value, the sum, and the kernel of the original."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import numpy as np

from ...canvas import drawing, style
from ...canvas.panel import Panel
from .looks import tops

KINDS = {"maximum": style.CYCLE[0], "sum": style.CYCLE[1], "original": style.CYCLE[6]}
DASHES = {"maximum": "-", "sum": (0, (5, 2)), "original": (0, (1, 1.3))}


@dataclass(frozen=True, eq=False)
class MeetingPeaks:
    """The map of one kind of keypoint for two people, drawn in three ways; S cells a side.

    Attributes:
        sigma: in cells. x: (2,) of both keypoints, row: y of both, in cells.
        maps: "maximum", as `heatmaps.HeatmapGenerator` gives it; "sum" of what it gives for each
            person alone; "original", the larger value of kernels as HigherHRNet makes them; each
            (S, S).
        peaks: the same names -> (n, 3) x y value of the local maxima, the highest first.
    """

    sigma: float
    x: tuple[float, float]
    row: float
    maps: dict[str, np.ndarray]
    peaks: dict[str, np.ndarray]

    def profile(self, kind: str) -> np.ndarray:
        """(S,) the row of the keypoints."""
        return self.maps[kind][int(self.row)]


def original_kernel(sigma: float) -> np.ndarray:
    """A peak as HigherHRNet makes it: 6σ + 3 wide, its middle at 3σ + 1.

    For a σ that is no integer, the middle lies between cells, and no cell is 1.
    """
    offset = np.arange(0, 6 * sigma + 3) - (3 * sigma + 1)
    return np.exp(-(offset**2 + offset[:, None] ** 2) / (2 * sigma**2))


def meeting_peaks(
    sigma: float, distance: float, x: float = 14.0, size: int = 40, heatmaps: ModuleType | None = None
) -> MeetingPeaks:
    """Ask for the map of two people who stand in one row.

    Args:
        distance: between them in cells. x: of the first one, in cells.
        size: cells of a side.
        heatmaps: the module to ask; by default `yolostudy.heatmaps` of the edition in use.
    """
    if heatmaps is None:
        from ... import heatmaps
    row = size / 2
    people = np.array([[[x, row, 2.0]], [[x + distance, row, 2.0]]], np.float32)  # (2, 1, 3)
    generate = heatmaps.HeatmapGenerator(size, 1, sigma)
    maps = {"maximum": generate(people)[0], "sum": generate(people[:1])[0] + generate(people[1:])[0]}
    kernel, original = original_kernel(sigma), np.zeros((size, size))
    for at, _, _ in people[:, 0]:
        _paste(original, kernel, int(int(at) - 3 * sigma - 1), int(int(row) - 3 * sigma - 1))
    maps = {kind: np.asarray(shown, float) for kind, shown in (maps | {"original": original}).items()}
    peaks = {kind: tops(shown, 0.1) for kind, shown in maps.items()}
    return MeetingPeaks(float(sigma), (float(x), float(x + distance)), row, maps, peaks)


def _paste(target: np.ndarray, kernel: np.ndarray, left: int, top: int) -> None:
    """Keep the larger value where the kernel lies on the map; cut off what lies outside."""
    size, side = len(target), len(kernel)
    rows, columns = slice(max(0, top), min(size, top + side)), slice(max(0, left), min(size, left + side))
    part = kernel[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    if part.size:
        target[rows, columns] = np.maximum(target[rows, columns], part)


@style.house()
def draw_peaks(numbers: MeetingPeaks, kind: str = "maximum") -> style.StudyFigure:
    """The map of one kind, and the row through both keypoints in all three.

    Args:
        kind: "maximum", "sum" or "original".
    """
    if kind not in KINDS:
        raise ValueError(f"there is no kind {kind!r}; choose {', '.join(KINDS)}.")
    figure, (picture, profile) = style.figure(1, 2, height=3.9, width_ratios=(1, 1.5))
    shown, size = numbers.maps[kind], len(numbers.maps[kind])
    drawing.ground(picture, None)
    picture.imshow(shown, style.HEAT, vmin=0, vmax=max(1.0, shown.max()), extent=(0, size, size, 0))
    picture.plot(numbers.x, [numbers.row] * 2, "+", color=style.FALSE_ALARM, markersize=10, markeredgewidth=2)
    picture.axhline(int(numbers.row) + 0.5, color=style.PAPER, linewidth=1, linestyle=(0, (3, 3)))
    highest = numbers.peaks[kind][:1]
    said = "".join(f"highest {value:.3f} in cell {int(x)}, {int(y)}" for x, y, value in highest) or "no peak"
    picture.set(title=f"{kind}, σ {numbers.sigma:g}", xlabel=f"x in cells\n{said}", ylabel="y in cells")
    for name, colour in KINDS.items():
        look = dict(linewidth=3 if name == kind else 1.6, linestyle=DASHES[name], zorder=3 if name == kind else 2)
        peaks = numbers.peaks[name]
        top = f"{peaks[0, 2]:.3f}" if len(peaks) else "0"
        count = f"{len(peaks)} peak{'s' * (len(peaks) != 1)}"
        profile.stairs(numbers.profile(name), baseline=None, color=colour, label=f"{name}: {count}, {top}", **look)
    for x in numbers.x:
        profile.axvline(x, color=style.FALSE_ALARM, linewidth=1.2, linestyle=(0, (2, 2)))
    reach = max(6.0, 3.2 * numbers.sigma)
    profile.set(xlim=(max(0, numbers.x[0] - reach), min(size, numbers.x[1] + reach)), ylim=(0, 1.75))
    profile.set(title="the row of the dashed line", xlabel="x in cells; red lines: the keypoints", ylabel="value")
    profile.legend(loc="upper right")
    drawing.settle(picture, profile)
    return figure.with_numbers(numbers)


class HeatmapBench(Panel):
    """A widget: sliders for σ and for two people in a row, over their map.

    `numbers` is a `MeetingPeaks`.

    Args:
        heatmaps: as in `meeting_peaks`.
        size: cells of a side.
        sigma, distance: first values of their sliders.
    """

    def __init__(self, heatmaps: ModuleType | None = None, size: int = 40, sigma: float = 2.0, distance: float = 6.0):
        import ipywidgets as widgets

        self.heatmaps, self.size = heatmaps, size
        look = dict(style={"description_width": "110px"}, layout={"width": "430px"})
        self.sigma = widgets.FloatSlider(
            value=sigma, min=0.25, max=4, step=0.125, description="σ, cells", readout_format=".3f", **look
        )
        self.distance = widgets.FloatSlider(
            value=distance, min=0, max=size / 2, step=0.25, description="distance, cells", **look
        )
        self.x = widgets.FloatSlider(
            value=0.35 * size, min=-2, max=size / 2, step=0.25, description="first x, cells", **look
        )
        self.kind = widgets.ToggleButtons(options=list(KINDS), style={"button_width": "110px"})
        controls = [self.sigma, self.distance, self.x, self.kind]
        self._begin([widgets.HBox(controls[:2]), widgets.HBox(controls[2:])], controls)

    def _look(self):
        numbers = meeting_peaks(self.sigma.value, self.distance.value, self.x.value, self.size, self.heatmaps)
        return numbers, draw_peaks(numbers, self.kind.value)
