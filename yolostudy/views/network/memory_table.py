"""What fits on a card: batch × image size × size of the model, each cell measured or predicted.

No prediction knows workspaces, the CUDA context and fragmented memory (see `lens.modules.memory`).
`reserve_gb` is held back for them, which is an assumption.
"""

from __future__ import annotations

import functools
import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from matplotlib.patches import Rectangle

from ...canvas import drawing, style
from ...lens.modules.memory import PHASES, measure_memory, predict_memory


@dataclass(frozen=True, slots=True)
class Cell:
    """One combination of the table, its memory, and whether it fits.

    Attributes:
        size: of the network. side: of the image, in pixels. batch: number of images.
        bytes: at the peak of a training step.
        measured: False where `bytes` is a prediction.
    """

    size: str
    side: int
    batch: int
    precision: str
    bytes: int
    measured: bool
    fits: bool


class WhatFits:
    """The table, as text and as HTML.

    `cells` holds every combination; `limit` and `reserve` are bytes.
    """

    def __init__(self, cells: Sequence[Cell], limit: int, reserve: int):
        self.cells, self.limit, self.reserve = tuple(cells), limit, reserve
        self.batches = sorted({cell.batch for cell in cells})
        self.precisions = list(dict.fromkeys(cell.precision for cell in cells))
        self._by_key = {(cell.size, cell.side, cell.precision, cell.batch): cell for cell in cells}

    def cell(self, size: str, side: int, batch: int, precision: str) -> Cell:
        return self._by_key[size, side, precision, batch]

    def largest(self, size: str, side: int, precision: str) -> int:
        """The largest batch of the table that fits, or 0."""
        return max(
            (c.batch for c in self.cells if (c.size, c.side, c.precision) == (size, side, precision) and c.fits),
            default=0,
        )

    @property
    def rows(self) -> list[tuple[str, int, str]]:
        return list(dict.fromkeys((cell.size, cell.side, cell.precision) for cell in self.cells))

    def _text(self, cell: Cell) -> str:
        return f"{cell.bytes / 2**30:.1f}{'' if cell.measured else '~'}{'' if cell.fits else ' no'}"

    @property
    def caption(self) -> str:
        measured = sum(cell.measured for cell in self.cells)
        return (
            f"GiB at the peak of a training step; limit {self.limit / 2**30:.3g} GiB, of which "
            f"{self.reserve / 2**30:.2g} GiB are held back (CUDA, workspaces, fragments). {measured} cells measured, "
            f"{len(self.cells) - measured} predicted (~); no: does not fit."
        )

    def __str__(self) -> str:
        lines = [self.caption, "size  side  precision " + "".join(f"{f'batch {b}':>11}" for b in self.batches)]
        for size, side, precision in self.rows:
            cells = "".join(f"{self._text(self.cell(size, side, batch, precision)):>11}" for batch in self.batches)
            lines.append(f"{size:<6}{side:>4}  {precision:<10}{cells}")
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        titles = ("size", "side", "precision", *(f"batch {batch}" for batch in self.batches))
        rows = [
            (*map(str, row), *(self._text(self.cell(*row[:2], batch, row[2])) for batch in self.batches))
            for row in self.rows
        ]
        return f"<p>{html.escape(self.caption)}</p>" + drawing.table(titles, rows)


def what_fits(
    limit_gb: float = 8,
    sizes: Sequence[str] = "nsmlx",
    sides: Sequence[int] = (320, 640, 960),
    batches: Sequence[int] = (1, 2, 4, 8, 16, 32, 64),
    precisions: Sequence[str] = ("fp32", "bf16"),
    num_classes: int = 20,
    boxes: int = 20,
    optimizer: str = "adamw",
    reserve_gb: float = 0.7,
    measure: bool | None = None,
    build: Callable | None = None,
) -> WhatFits:
    """Which batch of training fits, for each image size and each size of the course's detector.

    The loss and the average of the weights are included. Two predictions of a few seconds each are
    made for each size and precision; the rest follows, because memory grows in proportion to
    batch × pixels.

    Args:
        limit_gb: the card's memory in GiB. reserve_gb: the part of it that is held back for what no
            prediction contains. A measured cell fits if its step ran in the rest; where it did not,
            nothing was measured and the cell shows the prediction.
        boxes: objects in each image; the assigner needs memory in proportion.
        measure: measure the cells that may fit, on the CUDA card and under the limit. By default
            where there is a card.
        build: size -> (model, loss), where loss takes (outputs, batch=, side=); by default the
            course's detector of the edition in use.
    """
    import torch

    limit, reserve = int(limit_gb * 2**30), int(reserve_gb * 2**30)
    measure = torch.cuda.is_available() if measure is None else measure
    build = build or (lambda size: course_detector(size, num_classes, boxes))
    cells = []
    for size in sizes:
        for precision in precisions:
            line = _line(build, size, precision, optimizer)
            for side in sides:
                for batch in batches:
                    value, measured = max(fixed + slope * batch * side**2 for fixed, slope in line), False
                    fits = value + reserve <= limit
                    if measure and value < 1.3 * limit:
                        found = _measured_cell(build, size, side, batch, precision, optimizer, limit - reserve)
                        value, measured, fits = found or value, True, found is not None
                    cells.append(Cell(size, side, batch, precision, int(value), measured, fits))
    return WhatFits(cells, limit, reserve)


def _line(build: Callable, size: str, precision: str, optimizer: str, side: int = 192) -> list[tuple[float, float]]:
    """Fixed bytes and bytes for each pixel, phase by phase, from two small predictions."""
    import torch

    found = []
    for batch in (2, 6):
        with torch.device("meta"):
            model, loss = build(size)
        over_maps = functools.partial(loss, batch=batch, side=side)
        found.append(predict_memory(model, (batch, 3, side, side), over_maps, precision, optimizer, True).phases)
    low, high = found
    slopes = {phase: (high[phase] - low[phase]) / (4 * side**2) for phase in PHASES}
    return [(low[phase] - slope * 2 * side**2, slope) for phase, slope in slopes.items()]


def _measured_cell(
    build: Callable, size: str, side: int, batch: int, precision: str, optimizer: str, limit: int
) -> int | None:
    """Bytes at the peak on the card, under the limit, or None where the memory runs out."""
    import torch

    total = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
    model, loss = build(size)
    held = sum(tensor.nbytes for tensor in model.state_dict().values())  # the step runs on a copy
    torch.cuda.set_per_process_memory_fraction(min(1.0, (limit + held) / total))
    try:
        model = model.cuda().to(memory_format=torch.channels_last)
        step = measure_memory(
            model, (batch, 3, side, side), functools.partial(loss, batch=batch, side=side), precision, optimizer, True
        )
        return step.peak
    except torch.cuda.OutOfMemoryError:
        return None
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()


def course_detector(size: str, num_classes: int, boxes: int) -> tuple:
    """The course's detector of the edition in use, and its loss over random boxes."""
    import torch

    from ...losses import DetectionLoss
    from ...network import YOLO

    model = YOLO(num_classes, size)
    criterion = DetectionLoss(model)

    def loss(maps, batch: int, side: int):
        generator = torch.Generator().manual_seed(0)
        corner, extent = (torch.rand(batch * boxes, 2, generator=generator, device="cpu") for _ in range(2))
        corner, extent = corner * side * 0.7, (extent * 0.2 + 0.05) * side
        labels = torch.arange(batch * boxes, device="cpu")[:, None] % num_classes
        image = torch.arange(batch, device="cpu").repeat_interleave(boxes)[:, None]
        return criterion(maps, torch.cat((image, labels, corner, corner + extent), 1).float().to(maps[0].device))

    return model, loss


@style.house()
def draw_what_fits(table: WhatFits) -> style.StudyFigure:
    """One field for each network, side and batch.

    Green fits, orange does not; hatched is measured, plain is predicted.
    """
    rows = list(dict.fromkeys((cell.size, cell.side) for cell in table.cells))
    figure, axes = style.figure(1, len(table.precisions), height=1.4 + 0.27 * len(rows), sharey=True, squeeze=False)
    for axis, precision in zip(axes[0], table.precisions):
        for y, (size, side) in enumerate(rows):
            for x, batch in enumerate(table.batches):
                cell = table.cell(size, side, batch, precision)
                look = dict(facecolor="#d3eee2" if cell.fits else "#fbd9cf", edgecolor=style.PAPER, linewidth=1.5)
                axis.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, hatch="///" if cell.measured else None, **look))
                axis.annotate(f"{cell.bytes / 2**30:.1f}", (x, y), ha="center", va="center", fontsize=8.5)
        axis.set(xlim=(-0.5, len(table.batches) - 0.5), ylim=(len(rows) - 0.5, -0.5), xlabel="images in a batch")
        axis.set(xticks=range(len(table.batches)), xticklabels=table.batches, yticks=range(len(rows)))
        axis.set_yticklabels([f"{size}  {side} px" for size, side in rows])
        axis.set_title(precision)
        axis.grid(visible=False)
        axis.tick_params(length=0)
    measured = sum(cell.measured for cell in table.cells)
    origin = "predicted" if not measured else "measured where hatched, else predicted"
    room = f"{table.limit / 2**30:.3g} GiB with {table.reserve / 2**30:.2g} GiB to spare"
    figure.suptitle(f"GiB at the peak of a training step, {origin}; green fits in {room}", fontsize=10)
    return figure.with_numbers(table.cells)
