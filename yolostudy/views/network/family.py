"""The five sizes of the network side by side: how each is scaled, and what it costs.

Nothing is computed with real numbers: on torch's meta device a network has shapes and no values, so
the largest one takes a tenth of a second and no memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from ...canvas import drawing, style

OTHER = "Ultralytics"  # whose figures are shown beside ours


@dataclass(frozen=True, slots=True)
class Member:
    """One size of the family.

    Attributes:
        width, ratio, depth: w, r and n, its scaling.
        channels: of P2 … P5.
        bottlenecks: their number in the whole network.
        parameters: number of values that training can change.
        gflops: billions of floating-point operations for one image; a multiplication and an
            addition count as two.
        their_parameters, their_gflops: Ultralytics' figures for the same size, or None.
    """

    size: str
    width: float
    ratio: float
    depth: float
    channels: tuple[int, ...]
    bottlenecks: int
    parameters: int
    gflops: float
    their_parameters: int | None = None
    their_gflops: float | None = None


def family_members(
    num_classes: int = 80,
    image_size: int = 640,
    theirs: Mapping[str, tuple[int | None, float | None]] | None = None,
    network: ModuleType | None = None,
) -> list[Member]:
    """Count parameters and operations of every size of the family.

    Args:
        num_classes: C; 80 for the published figures.
        image_size: pixels of the square image that the operations are counted for.
        theirs: size -> (parameters, GFLOPs) from Ultralytics, to show beside ours.
        network: the module that has YOLO and SIZES; by default `yolostudy.network` of the edition
            in use.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    if network is None:
        from ... import network
    found = []
    for size, scaling in network.SIZES.items():
        with torch.device("meta"):
            model = network.YOLO(num_classes, size).eval()
            images = torch.zeros(1, 3, image_size, image_size)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            features = model.features(images)
        found.append(
            Member(
                size,
                scaling.width,
                scaling.ratio,
                scaling.depth,
                tuple(int(features[name].shape[1]) for name in ("P2", "P3", "P4", "P5")),
                sum(type(module).__name__ == "Bottleneck" for module in model.modules()),
                sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
                counter.get_total_flops() / 1e9,
                *(theirs or {}).get(size, (None, None)),
            )
        )
    return found


class FamilyTable:
    """The family as a table: HTML in a notebook, plain text elsewhere.

    `header` and `rows` hold what it shows, as text.
    """

    def __init__(self, family: Sequence[Member]):
        beside = any(member.their_parameters is not None for member in family)
        costed = any(member.their_gflops is not None for member in family)
        self.header = ["size", "w", "r", "n", "P2, P3, P4, P5", "bottlenecks", "parameters"]
        self.header += [f"{OTHER}: parameters"] * beside + ["GFLOPs"] + [f"{OTHER}: GFLOPs"] * costed
        self.rows = []
        for m in family:
            row = [
                m.size,
                f"{m.width:.2f}",
                f"{m.ratio:.1f}",
                f"{m.depth:.2f}",
                ", ".join(map(str, m.channels)),
                str(m.bottlenecks),
            ]
            row += [f"{m.parameters:,}"] + [_or_dash(m.their_parameters, ",")] * beside
            self.rows.append(row + [f"{m.gflops:.1f}"] + [_or_dash(m.their_gflops, ".1f")] * costed)

    def __str__(self) -> str:
        columns = list(zip(self.header, *self.rows, strict=True))
        widths = [max(map(len, column)) for column in columns]
        return "\n".join(
            "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
            for row in (self.header, *self.rows)
        )

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return drawing.table(self.header, self.rows)


def _or_dash(value: float | None, spec: str) -> str:
    return "–" if value is None else f"{value:{spec}}"


@style.house()
def draw_family(family: Sequence[Member]) -> style.StudyFigure:
    """Parameters and operations of every size as bars, with Ultralytics' figures as diamonds."""
    figure, axes = style.figure(1, 2, height=3.4)
    at = np.arange(len(family))
    panels = (
        (
            "parameters",
            "millions",
            [m.parameters / 1e6 for m in family],
            [m.their_parameters and m.their_parameters / 1e6 for m in family],
        ),
        ("operations for one image", "billions (GFLOPs)", [m.gflops for m in family], [m.their_gflops for m in family]),
    )
    for axis, colour, (title, unit, own, their) in zip(axes, style.CYCLE, panels):
        axis.bar(at, own, width=0.62, color=colour, label="ours")
        for x, value in zip(at, own, strict=True):
            axis.annotate(
                f"{value:.1f}", (x, value), xytext=(0, 7), textcoords="offset points", ha="center", fontsize=9
            )
        known = [number for number, value in enumerate(their) if value is not None]
        if known:
            look = dict(color=style.CYCLE[4], markersize=7, markeredgecolor=style.INK, linestyle="none", label=OTHER)
            axis.plot(at[known], [their[number] for number in known], "D", **look)
            axis.legend(loc="upper left")
        axis.set(
            title=title,
            ylabel=unit,
            xticks=at,
            xticklabels=[m.size for m in family],
            xlabel="size",
            ylim=(0, max(own) * 1.15),
        )
        axis.grid(axis="x", visible=False)
    return figure.with_numbers(family)
