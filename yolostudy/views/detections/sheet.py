"""Many pictures: side by side on one sheet, or written to a folder one by one.

These functions take any iterable, hold one image at a time and write it away before they ask for
the next.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image, ImageDraw

from ...canvas import style
from .labels import fitted

if TYPE_CHECKING:
    from .painter import Painted

GAP = 6  # pixels between the pictures of a sheet


def sheet(images: Iterable, columns: int, titles: Iterable[str] | None = None, max_width: int = 960) -> np.ndarray:
    """Many images in rows of `columns`, (H, W, 3) uint8, at most `max_width` wide.

    Images of any size, or `Painted`, one at a time.
    """
    cell = (max_width - GAP * (columns + 1)) // columns
    names = iter(titles) if titles is not None else None
    rows, row = [_ground(GAP, max_width)], []

    def finish_row() -> None:
        strip = _ground(max(part.shape[0] for part in row) + GAP, max_width)
        for column, part in enumerate(row):
            left = GAP + column * (cell + GAP)
            strip[: part.shape[0], left : left + cell] = part
        rows.append(strip)
        row.clear()

    for image in images:
        row.append(_in_cell(getattr(image, "image", image), cell, None if names is None else next(names, "")))
        if len(row) == columns:
            finish_row()
    if row:
        finish_row()
    return np.concatenate(rows)


def _in_cell(image: np.ndarray, width: int, title: str | None) -> np.ndarray:
    """The image in the middle of a cell of that width, under its title."""
    # a very tall image must not stretch its row without end
    factor = min(width / image.shape[1], 1.5 * width / image.shape[0])
    size = max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor))
    top = 0 if title is None else 18
    part = _ground(size[1] + top, width)
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)
    part[top:, (width - size[0]) // 2 :][:, : size[0]] = small
    if title is None:
        return part
    picture, font = Image.fromarray(part), style.font(12)
    ImageDraw.Draw(picture).text((0, top // 2), fitted(title, font, width), fill=style.INK, font=font, anchor="lm")
    return np.asarray(picture)


def _ground(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), style.rgb(style.GROUND), np.uint8)


def paint_to_folder(painted: Iterable[tuple[str, Painted]], folder: Path | str) -> dict[str, int]:
    """Write each picture as soon as it comes: ten thousand need the memory of one.

    The museum's row 18 shows what happens otherwise.

    Args:
        painted: (file name, Painted) one by one, best from a generator. A name without `.jpg` or
            `.png` becomes a `.jpg`; a name that came before in this call gets a number.
        folder: made if it is missing.

    Returns:
        the sums: images, predictions, truths, hits, misses, false_alarms.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    sums = dict.fromkeys(("images", "predictions", "truths", "hits", "misses", "false_alarms"), 0)
    written: set[str] = set()
    for name, picture in painted:
        path = Path(Path(name).name)
        suffix = path.suffix.lower() if path.suffix.lower() in (".jpg", ".jpeg", ".png") else ".jpg"
        target, number = path.stem + suffix, 2
        while target in written:
            target, number = f"{path.stem}-{number}{suffix}", number + 1
        written.add(target)
        Image.fromarray(picture.image).save(
            folder / target, **({} if suffix == ".png" else {"quality": 92, "subsampling": 0})
        )
        sums["images"] += 1
        for key in ("predictions", "truths", "hits", "misses", "false_alarms"):
            sums[key] += getattr(picture, key) or 0
        del picture  # or it would live until the next one is finished
    return sums
