"""Detections painted on their image: truth purple, hit green, miss yellow, false alarm dashed
orange-red.

Everything is judged in the pixels of the stored image and painted on an enlarged copy when the
image is small, so that labels can be read. Functions that take many images take any iterable, hold
one image at a time and write it away before they ask for the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw

from ...canvas import style
from ...canvas.overlap import intersection, iou

SIDE = 480  # pixels: an image whose longer side is shorter is enlarged by a whole factor to about this
SMALLEST_TEXT = 8  # pixels
GAP = 6  # pixels between the pictures of a sheet


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """Which predictions are right:

    `matched[i]` is the truth that prediction i found, or -1; `missed` marks the truths nobody
    found.
    """

    matched: np.ndarray  # (n,) int64
    missed: np.ndarray  # (m,) bool

    @property
    def hits(self) -> int:
        return int((self.matched >= 0).sum())

    @property
    def false_alarms(self) -> int:
        return int((self.matched < 0).sum())

    @property
    def misses(self) -> int:
        return int(self.missed.sum())


@dataclass(frozen=True, slots=True, eq=False)
class Painted:
    """A painted image and its numbers.

    Without a truth nothing can be judged: `hits`, `misses` and `false_alarms` are None.
    """

    image: np.ndarray  # (H', W', 3) uint8, enlarged by `scale`
    predictions: int = 0
    truths: int | None = None
    hits: int | None = None
    misses: int | None = None
    false_alarms: int | None = None
    scale: float = 1.0
    # text, and x1 y1 x2 y2 that it covers
    labels: tuple[tuple[str, tuple[int, int, int, int]], ...] = field(default=(), repr=False)

    def __repr__(self) -> str:
        if self.truths is None:
            return f"Painted({self.predictions} predictions)"
        return f"Painted({self.truths} truths: {self.hits} hit, {self.misses} missed; {self.false_alarms} false alarms)"

    def _repr_jpeg_(self) -> bytes:
        return style.as_jpeg(self.image)


def compare(predictions, truth, iou_threshold: float = 0.5) -> Comparison:
    """Judge predictions by the rule of `metrics.match_predictions`: best score first, each takes
    the free truth of its class that it covers best, of equals the later one.

    Args:
        predictions: (n, 6) x1 y1 x2 y2 score class, in any order.
        truth: (m, 5) class x1 y1 x2 y2.
        iou_threshold: the least IoU of a hit.
    """
    predictions, truth = _table(predictions, 6, "predictions"), _table(truth, 5, "truth")
    overlap = iou(predictions[:, :4], truth[:, 1:])  # (n, m)
    overlap[predictions[:, 5, None] != truth[None, :, 0]] = -1
    matched, missed = np.full(len(predictions), -1), np.ones(len(truth), bool)
    for row in np.argsort(-predictions[:, 4], kind="stable"):
        free = np.where(missed, overlap[row], -1)
        if free.size and free.max() >= iou_threshold:
            matched[row] = len(free) - 1 - free[::-1].argmax()
            missed[matched[row]] = False
    return Comparison(matched, missed)


def paint(
    image: np.ndarray,
    predictions=None,
    truth=None,
    class_names: Sequence[str] | None = None,
    *,
    score_threshold: float = 0.25,
    iou_threshold: float = 0.5,
    keypoints=None,
    skeleton: Sequence[tuple[int, int]] = (),
    side: int = SIDE,
    labels: bool = True,
    legend: bool = False,
) -> Painted:
    """Paint one image.

    Args:
        image: (H, W, 3) uint8 RGB; it is not changed.
        predictions: (n, 6) x1 y1 x2 y2 score class in pixels of `image`, or None to show the truth
            alone.
        truth: (m, 5) class x1 y1 x2 y2 in pixels, or None for a plain photograph: every prediction
            is then green.
        class_names: names for the labels; without them the class numbers stand there.
        score_threshold: predictions below it are neither painted nor counted.
        keypoints: (n, K, 3) x y visibility (0 absent, 1 occluded: hollow, 2 visible: filled).
        skeleton: pairs of keypoints to join by a line.
        side: enlarge an image whose longer side is shorter than this.
        legend: add a strip under the image that says what the colours mean and how many there are.
    """
    if not (isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3):
        found = f"{image.dtype} of shape {tuple(image.shape)}" if hasattr(image, "dtype") else type(image).__name__
        raise ValueError(f"paint: the image is {found}. Give a numpy array (height, width, 3) of uint8, RGB.")
    shown = _table(() if predictions is None else predictions, 6, "predictions")
    shown = shown[shown[:, 4] >= score_threshold]
    truths = _table(() if truth is None else truth, 5, "truth")
    judged = compare(shown, truths, iou_threshold)

    scale = max(1, round(side / max(image.shape[:2])))
    # An enlargement keeps its pixels soft, not blocky: the eye finds the plane faster. A copy in
    # any case.
    canvas = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC) if scale > 1 else image.copy()
    line = max(1, round(max(canvas.shape[:2]) / 240))
    broad = line + 1
    tags: list[_Tag] = []

    def name_of(number: float) -> str:
        known = class_names is not None and 0 <= number < len(class_names)
        return class_names[int(number)] if known else str(int(number))

    for index in range(len(truths)):
        box = truths[index, 1:] * scale
        missed = predictions is not None and judged.missed[index]
        colour = style.MISS if missed else style.TRUTH
        # A truth is framed from outside, a prediction from inside: where the two agree, both still
        # show.
        _frame(canvas, box, style.INK, broad + 1, 1 if missed or predictions is None else 0)
        _frame(canvas, box, colour, broad, 0)
        if missed or predictions is None:
            tags.append(_Tag(name_of(truths[index, 0]), box, colour))
    for index in np.argsort(shown[:, 4], kind="stable"):  # the surest on top
        box, score, number = shown[index, :4] * scale, shown[index, 4], shown[index, 5]
        false_alarm = truth is not None and judged.matched[index] < 0
        colour = style.FALSE_ALARM if false_alarm else style.HIT
        if truth is None or false_alarm:
            _frame(canvas, box, style.INK, 1, broad + 1)
        if false_alarm:
            _frame(canvas, box, style.PAPER, 0, broad)
        _frame(canvas, box, colour, 0, broad, dash=4 * broad if false_alarm else 0)
        tags.append(_Tag(f"{name_of(number)} {score:.2f}", box, colour))
    if keypoints is not None:
        _paint_keypoints(canvas, np.asarray(keypoints, np.float64) * (scale, scale, 1), skeleton, line)

    size = round(max(10, 6 + max(canvas.shape[:2]) / 68))
    picture = Image.fromarray(canvas)
    placed = _paint_tags(picture, tags[::-1], size) if labels else ()
    numbers = dict(predictions=len(shown), scale=float(scale), labels=tuple(placed))
    if truth is not None:
        numbers |= dict(truths=len(truths), hits=judged.hits, misses=judged.misses, false_alarms=judged.false_alarms)
    if legend:
        picture = _with_legend(picture, _legend_entries(numbers, predictions is not None), size)
    return Painted(np.asarray(picture), **numbers)


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
    """The image in the middle of a cell as wide as that, under its title."""
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
    ImageDraw.Draw(picture).text((0, top // 2), _fitted(title, font, width), fill=style.INK, font=font, anchor="lm")
    return np.asarray(picture)


def _ground(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), style.rgb(style.GROUND), np.uint8)


def paint_to_folder(painted: Iterable[tuple[str, Painted]], folder: Path | str) -> dict[str, int]:
    """Write each picture as soon as it comes, so that ten thousand need the memory of one (museum
    row 18).

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


@dataclass(frozen=True, slots=True, eq=False)
class _Tag:
    text: str
    box: np.ndarray  # x1 y1 x2 y2 on the canvas
    colour: str


def _table(values, columns: int, what: str) -> np.ndarray:
    """A tensor, array or list as float64 (n, columns)."""
    if hasattr(values, "detach"):
        values = values.detach().cpu().double().numpy()
    table = np.array(values, np.float64)
    if table.size == 0:
        return np.zeros((0, columns))
    if table.ndim != 2 or table.shape[1] != columns:
        order = "x1 y1 x2 y2 score class" if columns == 6 else "class x1 y1 x2 y2"
        raise ValueError(f"{what} has shape {table.shape}, but (n, {columns}) is needed: {order}.")
    if not np.isfinite(table).all():
        row = int(np.flatnonzero(~np.isfinite(table).all(axis=1))[0])
        raise ValueError(
            f"{what}: row {row} holds a value that is not finite: {table[row]}. Look for the NaN where it was computed."
        )
    return table


def _frame(canvas: np.ndarray, box: np.ndarray, colour: str, outside: int, inside: int, dash: int = 0) -> None:
    """Colour the pixels from `outside` out of the box to `inside` within it; `dash` > 0 leaves a
    gap of half that length after each.
    """
    height, width = canvas.shape[:2]
    # A box over the border is framed along the border, so that one sees that it goes on.
    x1, x2 = (int(value) for value in np.clip(np.rint(box[[0, 2]]), outside, max(outside, width - outside)))
    y1, y2 = (int(value) for value in np.clip(np.rint(box[[1, 3]]), outside, max(outside, height - outside)))
    left, top, right, bottom = max(0, x1 - outside), max(0, y1 - outside), x2 + outside, y2 + outside
    inside_x, inside_y = min(inside, (x2 - x1 + 1) // 2), min(inside, (y2 - y1 + 1) // 2)
    paint_colour = style.rgb(colour)
    bars = (  # rows, columns, axis along which a bar runs
        (slice(top, y1 + inside_y), slice(left, right), 1),
        (slice(y2 - inside_y, bottom), slice(left, right), 1),
        (slice(top, bottom), slice(left, x1 + inside_x), 0),
        (slice(top, bottom), slice(x2 - inside_x, right), 0),
    )
    for rows, columns, axis in bars:
        bar = canvas[max(0, rows.start) : rows.stop, max(0, columns.start) : columns.stop]
        if dash:
            drawn = np.arange(bar.shape[axis]) % (dash + dash // 2) < dash
            bar[(slice(None), drawn) if axis == 1 else (drawn,)] = paint_colour
        else:
            bar[...] = paint_colour


def _paint_keypoints(canvas: np.ndarray, keypoints: np.ndarray, skeleton: Sequence[tuple[int, int]], line: int) -> None:
    radius, dark, fraction = 2 * line, style.rgb(style.INK), 4  # fraction: bits after the point in OpenCV's coordinates
    points = np.rint(keypoints[..., :2] * 2**fraction).astype(int)
    for joints, visibility in zip(points, keypoints[..., 2], strict=True):
        for start, end in skeleton:
            if visibility[start] > 0 and visibility[end] > 0:
                for colour, width in ((dark, line + 2), (style.rgb(style.PAPER), line)):
                    cv2.line(canvas, joints[start].tolist(), joints[end].tolist(), colour, width, cv2.LINE_AA, fraction)
        for number, (point, visible) in enumerate(zip(joints.tolist(), visibility, strict=True)):
            if visible > 0:
                colour = style.rgb(style.cycle(number))
                cv2.circle(
                    canvas, point, (radius + line) * 2**fraction, style.rgb(style.PAPER), -1, cv2.LINE_AA, fraction
                )
                cv2.circle(canvas, point, radius * 2**fraction, colour, -1, cv2.LINE_AA, fraction)
                if visible < 2:
                    cv2.circle(
                        canvas, point, (radius - line) * 2**fraction, style.rgb(style.PAPER), -1, cv2.LINE_AA, fraction
                    )


def _paint_tags(picture: Image.Image, tags: list[_Tag], size: int) -> list[tuple[str, tuple[int, int, int, int]]]:
    """Write each tag on its own ground, wholly inside the picture, where it hides the fewest other
    tags and boxes.
    """
    draw, placed = ImageDraw.Draw(picture), []
    boxes = np.array([tag.box for tag in tags])
    for tag in tags:
        font, text = style.font(size, bold=True), tag.text
        while font.getlength(text) + 6 > picture.width and font.size > SMALLEST_TEXT:
            font = style.font(font.size - 1, bold=True)
        text = _fitted(text, font, picture.width - 6)
        ascent, descent = font.getmetrics()
        width, height = int(np.ceil(font.getlength(text))) + 6, ascent + descent + 1
        if not text or width > picture.width or height > picture.height:
            continue
        x1, y1, x2, y2 = tag.box
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
        draw.rectangle((spot[0], spot[1], spot[2] - 1, spot[3] - 1), fill=tag.colour)
        draw.text((spot[0] + 3, spot[1]), text, fill=style.ink_on(tag.colour), font=font)
        placed.append((text, spot))
    return placed


def _fitted(text: str, font, width: float) -> str:
    """`text`, cut with an ellipsis where it is too wide."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…" if text else ""


def _legend_entries(numbers: dict, predicted: bool) -> list[tuple[str, str]]:
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


def _with_legend(picture: Image.Image, entries: list[tuple[str, str]], size: int) -> Image.Image:
    def width_at(size: int) -> float:
        return sum(style.font(size).getlength(text) + 2.6 * size for _, text in entries)

    while width_at(size) > picture.width and size > SMALLEST_TEXT:
        size -= 1
    font, height = style.font(size), 2 * size
    whole = Image.new("RGB", (picture.width, picture.height + height), style.PAPER)
    whole.paste(picture)
    draw, left, middle = ImageDraw.Draw(whole), size / 2, picture.height + height / 2
    for colour, text in entries:
        swatch = (round(left), round(middle - size / 2), round(left + size), round(middle + size / 2))
        if colour == style.FALSE_ALARM:
            frame = np.asarray(whole).copy()
            thick = max(2, size // 6)
            _frame(frame, np.array(swatch, float), colour, 0, thick, dash=max(2, size // 4))
            whole.paste(Image.fromarray(frame))
            draw = ImageDraw.Draw(whole)
        else:
            draw.rectangle(swatch, fill=colour, outline=style.INK)
        draw.text((left + 1.5 * size, middle), text, fill=style.INK, font=font, anchor="lm")
        left += font.getlength(text) + 2.6 * size
    return whole
