"""The parts of the loss over the steps of a short run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ...canvas import style
from ...canvas.panel import InPlace
from ..columns import LOSS_PARTS


@style.house()
def draw_loss_steps(rows: Sequence[Mapping[str, float]], picture=None) -> style.StudyFigure:
    """The parts of the loss at each step, on a logarithmic scale.

    Its numbers: the rows.

    Args:
        rows: total, box, cls and dfl of each step.
        picture: shown beside the curves, a `Painted` or an image (H, W, 3) uint8.
    """
    figure, axes = style.figure(1, 2, height=3.9, width_ratios=(1.5, 1), squeeze=False)
    left, right = axes[0]
    steps = np.arange(1, len(rows) + 1)
    lines = {"total": ("total", style.INK)} | {
        name: (text, colour) for (name, text), colour in zip(LOSS_PARTS.items(), style.CYCLE)
    }
    for name, (text, colour) in lines.items():
        look = dict(color=colour, label=text, marker="o" if len(rows) < 3 else None, markersize=4)
        left.plot(steps, [row[name] for row in rows], **look)
    if any(np.isfinite(value) and value > 0 for row in rows for value in row.values()):
        left.set_yscale("log")
    left.set(title="loss", xlabel="step", xlim=(0, max(10, len(rows))))
    left.legend(loc="upper right", ncols=4)
    right.axis("off")
    if picture is not None:
        image = getattr(picture, "image", picture)
        # In few shades: otherwise the frames would lose their colours when the figure is made small
        # enough to be kept.
        right.imshow((image // 20) * 20 + 10, interpolation="nearest")
        right.set_title(f"step {len(rows)}{_counts(picture)}", fontsize=9.5)
    return figure.with_numbers(list(rows))


def _counts(picture) -> str:
    if getattr(picture, "truths", None) is None:
        return ""
    return f": {picture.hits} hit, {picture.misses} missed, {picture.false_alarms} false alarms"


class LossTape:
    """Loss curves that redraw in place, with a picture beside them.

    In a terminal nothing is drawn, and the rows are kept all the same.

    Args:
        pause: minimum seconds between two drawings. It grows where drawing is slow, so that a run
            does not spend its time on its own picture.
    """

    def __init__(self, pause: float = 1.0):
        self.rows, self.place = [], InPlace(pause, patience=6)

    def update(self, parts, picture: Callable[[], object] | None = None, last: bool = False) -> None:
        """Add a step's `LossParts`.

        Args:
            picture: gives what `draw_loss_steps` takes; it is called only when it is time to draw.
            last: draw in any case.
        """
        self.rows.append({name: float(value.detach()) for name, value in parts._asdict().items()})
        if last or self.place.due:
            self.place.show(lambda: draw_loss_steps(self.rows, picture() if picture else None))

    @property
    def numbers(self) -> dict:
        """steps, first and last row."""
        return {"steps": len(self.rows), "first": self.rows[0], "last": self.rows[-1]} if self.rows else {"steps": 0}
