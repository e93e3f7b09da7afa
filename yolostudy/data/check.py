"""What every reader asks of an image and of its objects, and the report on a whole set.

What counts as wrong is decided here once, for all formats:

- a box may reach one pixel over the border and is clipped (labels are often rounded); further out
  is a mistake;
- a box must be wider and higher than nothing; two equal objects in one image are a mistake;
- a keypoint that can be seen lies in the image; one with visibility 0 has no place, and its
  coordinates become 0;
- an image is opened for its size only. One whose file does not end as its format does is decoded,
  so that a torn download is found without decoding the sound ones; `decode` decodes them all.
  Neither finds every damage within a JPEG: libjpeg paints over much of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from .records import DetectionSet, Problem, Problems

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
BORDER = 1.0  # pixels that a box may reach over the border
LAST_BYTES = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}
ORIENTATION = 274  # the EXIF tag
TURNED = (5, 6, 7, 8)  # its values that swap width and height, as every decoder here honours them
REPLACE = "Replace the file by a sound copy, or take the image out of the set."


def progress(items: Iterable, what: str, total: int | None = None) -> tqdm:
    """A bar that shows only where the work takes longer than two seconds."""
    return tqdm(items, desc=what, total=total, delay=2, leave=False)


def image_size(path: Path, problems: Problems) -> tuple[int, int] | None:
    """(width, height) in pixels as a decoder will give them; None, and a problem, for a file that
    is no sound image.
    """
    try:
        with path.open("rb") as file, Image.open(file) as image:
            width, height = image.size
            turned = "exif" in image.info and image.getexif().get(ORIENTATION) in TURNED
            ending = LAST_BYTES.get(image.format or "")
            if ending and not _ends_with(path, ending):
                Image.open(path).load()
            return (height, width) if turned else (width, height)
    except (
        UnidentifiedImageError,
        ImportError,
    ):  # once Ultralytics is imported, its Image.open looks for a decoder that may be missing
        what = "this file is empty" if path.stat().st_size == 0 else "this is not an image in a format that can be read"
        problems.add(path, what, REPLACE)
    except (OSError, SyntaxError, ValueError) as error:
        problems.add(path, f"the image cannot be read: {error}", REPLACE)
    return None


def _ends_with(path: Path, ending: bytes) -> bool:
    """Whether the file ends as its format does.

    One that ends in nothing but zeros is refused: decoders paint the missing part grey.
    """
    with path.open("rb") as file:
        file.seek(-len(ending), 2)
        last = file.read()
        if any(last):
            return last == ending
        file.seek(0)
        if not file.read().rstrip(b"\0").endswith(ending):
            raise OSError("it ends in zeros, as an interrupted download does")
        return True


def keep_good(
    classes: Sequence[int],
    boxes: Sequence[Sequence[float]],
    keypoints: Sequence[np.ndarray],
    keypoint_count: int,
    size: tuple[int, int],
    problems: Problems,
    locate: Callable[[int], str],
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """The sound objects of one image; the others become problems.

    Args:
        classes: n class indices.
        boxes: n times x1 y1 x2 y2 in pixels.
        keypoints: n arrays (K, 3); not looked at where K is 0.
        keypoint_count: K, 0 for a set without keypoints.
        size: (width, height) of the image.
        locate: gives `FILE:LINE` of the object with this number; called only for a bad one.

    Returns:
        boxes (m, 4) float32, classes (m,) int64, keypoints (m, K, 3) float32 or None.
    """
    corners = np.array(boxes, dtype=np.float64).reshape(-1, 4)  # (n, 4)
    # (n, K, 3)
    points = np.array(keypoints, dtype=np.float64).reshape(-1, keypoint_count, 3) if keypoint_count else None
    good, first_seen = [], {}
    for i, corner in enumerate(corners):
        identity = (classes[i], *corner)
        complaint = _box_complaint(corner, size) or (points is not None and _point_complaint(points[i], size))
        if not complaint and identity in first_seen:
            other = Path(locate(first_seen[identity])).name
            complaint = f"this object has the same class and box as the one at {other}", "Delete one of the two."
        if complaint:
            problems.add(locate(i), *complaint)
        else:
            first_seen[identity] = i
            good.append(i)
    limit = np.array([*size, *size], dtype=np.float64)
    if points is not None:
        points = points[good]
        points[..., :2] = np.clip(points[..., :2], 0, limit[:2])
        points[points[..., 2] == 0] = 0
        points = points.astype(np.float32)
    return (
        np.clip(corners[good], 0, limit).astype(np.float32),
        np.array([classes[i] for i in good], dtype=np.int64),
        points,
    )


def _box_complaint(corner: np.ndarray, size: tuple[int, int]) -> tuple[str, str] | None:
    x1, y1, x2, y2 = (float(value) for value in corner)
    width, height = size
    box = f"the box {x1:g} {y1:g} {x2:g} {y2:g} (x1 y1 x2 y2 in pixels)"
    if not np.isfinite(corner).all():
        return (
            f"{box} has a coordinate that is not a finite number",
            "Write the number that belongs there, or delete the object.",
        )
    if x2 <= x1 or y2 <= y1:
        kind = "inverted" if x2 < x1 or y2 < y1 else "empty"
        return (
            f"{box} is {kind}",
            "x2 must exceed x1, and y2 exceed y1 (width and height positive); correct it, or delete the object.",
        )
    clip = "Clip it to the image, or check that this annotation belongs to this image."
    if x2 <= 0 or y2 <= 0 or x1 >= width or y1 >= height:
        return f"{box} lies wholly outside the image, which is {width} × {height}", clip
    over = {"left": -x1, "upper": -y1, "right": x2 - width, "lower": y2 - height}
    side = max(over, key=over.get)
    if over[side] > BORDER:
        return f"{box} reaches {over[side]:g} px over the {side} border of the image, which is {width} × {height}", clip
    if min(x2, width) <= max(x1, 0) or min(y2, height) <= max(y1, 0):
        return f"{box} has nothing of it in the image, which is {width} × {height}", clip
    return None


def _point_complaint(points: np.ndarray, size: tuple[int, int]) -> tuple[str, str] | None:
    width, height = size
    for number, (x, y, visible) in enumerate(points.tolist(), start=1):
        point = f"keypoint {number} ({x:g} {y:g}, visibility {visible:g})"
        if not np.isfinite([x, y, visible]).all():
            return (
                f"{point} has a value that is not a finite number",
                "Write the number that belongs there, or set its visibility to 0.",
            )
        if visible not in (0, 1, 2):
            return f"{point} has an unknown visibility", "Write 0 for absent, 1 for hidden, 2 for visible."
        if visible and not (-BORDER <= x <= width + BORDER and -BORDER <= y <= height + BORDER):
            return (
                f"{point} lies outside the image, which is {width} × {height}",
                "Correct it, or set its visibility to 0.",
            )
    return None


def decode(detection_set: DetectionSet) -> list[Problem]:
    """Decode every image of a set and say which cannot be decoded to the end: minutes, where
    reading the set takes seconds.
    """

    def attempt(path: Path) -> Problem | None:
        try:
            with Image.open(path) as image:
                image.load()
        except (OSError, SyntaxError, ValueError) as error:
            return Problem(str(path), f"the image cannot be decoded: {error}", REPLACE)
        return None

    images = list(dict.fromkeys(record.image for record in detection_set.records))
    with ThreadPoolExecutor() as pool:  # decoding releases the GIL
        return [problem for problem in progress(pool.map(attempt, images), "decoding", len(images)) if problem]


def report(detection_set: DetectionSet, *, most_problems: int = 20) -> str:
    """What a person asks first of a set: how much is in it, how it is spread, how large the objects
    are, and what is wrong.
    """
    records = detection_set.records
    per_image = np.array([len(record.classes) for record in records], dtype=np.int64)
    classes = np.concatenate([record.classes for record in records]) if records else np.empty(0, np.int64)
    boxes = np.concatenate([record.boxes for record in records]) if records else np.empty((0, 4), np.float32)
    sizes = Counter(record.size for record in records)
    names = detection_set.class_names
    lines = [
        f"{detection_set.name}, {detection_set.split}: {len(records)} images, {len(classes)} objects, {len(names)} "
        "classes"
    ]
    common = ", ".join(f"{width} × {height} ({count})" for (width, height), count in sizes.most_common(3))
    lines.append(f"  image size      {common}{f', and {len(sizes) - 3} more' if len(sizes) > 3 else ''}")
    unlabelled = sum(record.source is None for record in records)
    lines.append(
        f"  without object  {int((per_image == 0).sum())} images, {unlabelled} of them without an annotation file"
    )
    if len(classes):
        sides = np.sqrt((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
        lines.append(f"  objects/image   {_quantiles(per_image)}")
        lines.append(f"  box side, px    {_quantiles(sides)}   (square root of the area)")
        counts = np.bincount(classes, minlength=len(names))
        wide = max(map(len, names))
        lines.append("  objects per class")
        for name, count in zip(names, counts.tolist(), strict=True):
            lines.append(f"    {name:<{wide}} {count:>6} {'█' * round(30 * count / counts.max())}")
    if detection_set.keypoint_names:
        lines.append(
            f"  keypoints       {', '.join(detection_set.keypoint_names)}; flip index {list(detection_set.flip_index)}"
        )
        named_by_side = any("left" in name or "right" in name for name in detection_set.keypoint_names)
        if named_by_side and detection_set.flip_index == tuple(range(len(detection_set.keypoint_names))):
            lines.append(
                "    the flip index exchanges nothing although some keypoints are left or right: mirrored images get "
                "wrong labels"
            )
    problems = detection_set.problems
    lines.append(f"  problems        {len(problems)}{', left out:' if problems else ''}")
    lines += [f"    {problem}" for problem in problems[:most_problems]]
    if len(problems) > most_problems:
        lines.append(f"    … and {len(problems) - most_problems} more")
    return "\n".join(lines)


def _quantiles(values: np.ndarray) -> str:
    low, quarter, middle, three, high = np.quantile(values, [0, 0.25, 0.5, 0.75, 1])
    return f"least {low:.3g}, quarter {quarter:.3g}, median {middle:.3g}, three quarters {three:.3g}, most {high:.3g}"
