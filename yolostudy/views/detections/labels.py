"""Text on painted pictures: labels beside their boxes, and the legend under a picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from ...canvas import style
from ...canvas.overlap import intersection
from .frames import paint_frame

MIN_TEXT = 8  # pixels


@dataclass(frozen=True, slots=True, eq=False)
class Label:
    text: str
    box: np.ndarray  # x1 y1 x2 y2 in the picture
    colour: str


def paint_labels(picture: Image.Image, labels: list[Label], size: int) -> list[tuple[str, tuple[int, int, int, int]]]:
    """Write each label on a ground of its colour.

    It lies wholly inside the picture, at the corner of its box where it hides the least of other
    labels and boxes.

    Returns:
        text, and x1 y1 x2 y2 that it covers, of each label that has room.
    """
    draw, placed = ImageDraw.Draw(picture), []
    boxes = np.array([label.box for label in labels])
    for label in labels:
        font, text = style.font(size, bold=True), label.text
        while font.getlength(text) + 6 > picture.width and font.size > MIN_TEXT:
            font = style.font(font.size - 1, bold=True)
        text = fitted(text, font, picture.width - 6)
        ascent, descent = font.getmetrics()
        width, height = int(np.ceil(font.getlength(text))) + 6, ascent + descent + 1
        if not text or width > picture.width or height > picture.height:
            continue
        x1, y1, x2, y2 = label.box
        corners = (
            (x1, y1 - height),
            (x2 - width, y1 - height),
            (x1, y2),
            (x2 - width, y2),
            (x1, y1),
            (x1, y2 - height),
        )
        spots = np.rint(np.clip(corners, 0, (picture.width - width, picture.height - height)))
        spots = np.column_stack([spots, spots + np.array([width, height])])
        hidden = intersection(spots, boxes).sum(axis=1)
        if placed:
            hidden += 20 * intersection(spots, np.array([covered for _, covered in placed])).sum(axis=1)
        spot = tuple(int(value) for value in spots[hidden.argmin()])  # of equals the first
        draw.rectangle((spot[0], spot[1], spot[2] - 1, spot[3] - 1), fill=label.colour)
        draw.text((spot[0] + 3, spot[1]), text, fill=style.ink_on(label.colour), font=font)
        placed.append((text, spot))
    return placed


def fitted(text: str, font, width: float) -> str:
    """`text`, cut with an ellipsis where it is too wide."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…" if text else ""


def legend_entries(numbers: dict, predicted: bool) -> list[tuple[str, str]]:
    """Colour and text of each entry, for what was counted in a picture."""
    if "truths" not in numbers:
        return [(style.HIT, f"predicted {numbers['predictions']}")]
    if not predicted:
        return [(style.TRUTH, f"truth {numbers['truths']}")]
    return [
        (style.TRUTH, f"truth {numbers['truths']}"),
        (style.HIT, f"hit {numbers['hits']}"),
        (style.MISS, f"missed {numbers['misses']}"),
        (style.FALSE_ALARM, f"false alarm {numbers['false_alarms']}"),
    ]


def with_legend(picture: Image.Image, entries: list[tuple[str, str]], size: int) -> Image.Image:
    """The picture over a strip that holds the legend."""

    def width_at(size: int) -> float:
        return sum(style.font(size).getlength(text) + 2.6 * size for _, text in entries)

    while width_at(size) > picture.width and size > MIN_TEXT:
        size -= 1
    font, height = style.font(size), 2 * size
    whole = Image.new("RGB", (picture.width, picture.height + height), style.PAPER)
    whole.paste(picture)
    draw, left, middle = ImageDraw.Draw(whole), size / 2, picture.height + height / 2
    for colour, text in entries:
        swatch = (round(left), round(middle - size / 2), round(left + size), round(middle + size / 2))
        if colour == style.FALSE_ALARM:
            framed = np.asarray(whole).copy()
            thick = max(2, size // 6)
            paint_frame(framed, np.array(swatch, float), colour, 0, thick, dash=max(2, size // 4))
            whole.paste(Image.fromarray(framed))
            draw = ImageDraw.Draw(whole)
        else:
            draw.rectangle(swatch, fill=colour, outline=style.INK)
        draw.text((left + 1.5 * size, middle), text, fill=style.INK, font=font, anchor="lm")
        left += font.getlength(text) + 2.6 * size
    return whole
