"""What every reader checks in an image and its objects, and the report on a whole set.

The rules are the same for all formats:

- A box may reach one pixel over the border, because labels are often rounded; it is then clipped.
  A box that reaches further is a mistake.
- A box must have a width and a height. Two equal objects in one image are a mistake.
- A visible keypoint lies in the image. A keypoint with visibility 0 has no place, and its
  coordinates become 0.
- A visible keypoint that is far outside its box is warned of, and kept: `POINT_REACH` says how far.
- An image is opened for its size only. If its file does not end as its format does, it is decoded,
  so that an interrupted download is found without decoding the intact ones. `decode` decodes all of
  them. Neither finds every damage within a JPEG: libjpeg paints over much of it.
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
# A keypoint may lie this part of the box's longer side outside the box, and at least POINT_PIXELS:
# boxes are rounded, and those of cut objects end where the image does. In `planes` it is at most 2.4 %.
POINT_REACH = 0.1
POINT_PIXELS = 2.0
LAST_BYTES = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}
ORIENTATION = 274  # the EXIF tag
TURNED = (5, 6, 7, 8)  # values of that tag with which decoders swap width and height
REPLACE = "Replace the file with an intact copy, or take the image out of the set."


def progress(items: Iterable, what: str, total: int | None = None) -> tqdm:
    """A progress bar that appears if the work takes longer than two seconds."""
    return tqdm(items, desc=what, total=total, delay=2, leave=False)


def image_size(path: Path, problems: Problems) -> tuple[int, int] | None:
    """(width, height) in pixels, as a decoder will give them.

    A file that is not an intact image becomes a problem, and the size is None.
    """
    try:
        with path.open("rb") as file, Image.open(file) as image:
            width, height = image.size
            turned = "exif" in image.info and image.getexif().get(ORIENTATION) in TURNED
            ending = LAST_BYTES.get(image.format or "")
            if ending and not _ends_with(path, ending):
                Image.open(path).load()
            return (height, width) if turned else (width, height)
    except (UnidentifiedImageError, ImportError):
        # ImportError: Ultralytics replaces Image.open by one that looks for a decoder that may be missing
        what = "this file is empty" if path.stat().st_size == 0 else "this is not an image in a format that can be read"
        problems.add(path, what, REPLACE)
    except (OSError, SyntaxError, ValueError) as error:
        problems.add(path, f"the image cannot be read: {error}", REPLACE)
    return None


def _ends_with(path: Path, ending: bytes) -> bool:
    """Whether the file ends as its format does.

    A file that ends in zeros is refused, because decoders paint the missing part grey.
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
    """The good objects of one image. The others become problems.

    Args:
        classes: n class indices.
        boxes: n times x1 y1 x2 y2 in pixels.
        keypoints: n arrays (K, 3); ignored if K is 0.
        keypoint_count: K, 0 for a set without keypoints.
        size: (width, height) of the image.
        locate: gives `FILE:LINE` of object i; called for bad objects only.

    Returns:
        boxes (m, 4) float32, classes (m,) int64, keypoints (m, K, 3) float32 or None.
    """
    corners = np.array(boxes, dtype=np.float64).reshape(-1, 4)  # (n, 4)
    points = None
    if keypoint_count:
        points = np.array(keypoints, dtype=np.float64).reshape(-1, keypoint_count, 3)  # (n, K, 3)
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
            doubt = points is not None and _point_doubt(points[i], corner)
            if doubt:
                problems.warn(locate(i), *doubt)
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
    """(what, remedy) if something is wrong with a box."""
    x1, y1, x2, y2 = (float(value) for value in corner)
    width, height = size
    box = f"the box {x1:g} {y1:g} {x2:g} {y2:g} (x1 y1 x2 y2 in pixels)"
    image = f"the image, which is {width} × {height}"
    if not np.isfinite(corner).all():
        remedy = "Write the number that belongs there, or delete the object."
        return f"{box} has a coordinate that is not a finite number", remedy
    if x2 <= x1 or y2 <= y1:
        kind = "inverted" if x2 < x1 or y2 < y1 else "empty"
        remedy = "x2 must exceed x1, and y2 exceed y1 (width and height positive); correct it, or delete the object."
        return f"{box} is {kind}", remedy
    clip = "Clip it to the image, or check that this annotation belongs to this image."
    if x2 <= 0 or y2 <= 0 or x1 >= width or y1 >= height:
        return f"{box} lies wholly outside {image}", clip
    over = {"left": -x1, "upper": -y1, "right": x2 - width, "lower": y2 - height}
    side = max(over, key=over.get)
    if over[side] > BORDER:
        return f"{box} reaches {over[side]:g} px over the {side} border of {image}", clip
    if min(x2, width) <= max(x1, 0) or min(y2, height) <= max(y1, 0):
        return f"{box} has no part inside {image}", clip
    return None


def _point_complaint(points: np.ndarray, size: tuple[int, int]) -> tuple[str, str] | None:
    """(what, remedy) if something is wrong with one of the keypoints (K, 3) of an object."""
    width, height = size
    for number, (x, y, visible) in enumerate(points.tolist(), start=1):
        point = f"keypoint {number} ({x:g} {y:g}, visibility {visible:g})"
        if not np.isfinite([x, y, visible]).all():
            remedy = "Write the number that belongs there, or set its visibility to 0."
            return f"{point} has a value that is not a finite number", remedy
        if visible not in (0, 1, 2):
            return f"{point} has an unknown visibility", "Write 0 for absent, 1 for hidden, 2 for visible."
        if visible and not (-BORDER <= x <= width + BORDER and -BORDER <= y <= height + BORDER):
            what = f"{point} lies outside the image, which is {width} × {height}"
            return what, "Correct it, or set its visibility to 0."
    return None


def _point_doubt(points: np.ndarray, corner: np.ndarray) -> tuple[str, str] | None:
    """(what, remedy) for the keypoint of (K, 3) that lies farthest outside its box."""
    reach = np.maximum(corner[:2] - points[:, :2], points[:, :2] - corner[2:]).max(axis=1)  # (K,) pixels
    reach[points[:, 2] == 0] = 0
    number = int(reach.argmax())
    if reach[number] <= max(POINT_PIXELS, POINT_REACH * (corner[2:] - corner[:2]).max()):
        return None
    x, y, visible = points[number].tolist()
    what = f"keypoint {number + 1} ({x:g} {y:g}, visibility {visible:g}) lies {reach[number]:.3g} px outside its box"
    return what, "Check that the keypoints belong to this object, and that the box holds all of it."


def decode(detection_set: DetectionSet) -> list[Problem]:
    """Decode every image of a set, and list those that cannot be decoded to the end.

    This takes minutes where reading the set takes seconds.
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
    """The set in numbers: images, objects, sizes, objects per class, keypoints, problems, warnings.

    Args:
        most_problems: how many problems, and how many warnings, are listed; the others are counted.
    """
    records, names = detection_set.records, detection_set.class_names
    title = f"{detection_set.name}, {detection_set.split}: {len(records)} images, {detection_set.object_count} objects"
    lines = [f"{title}, {len(names)} classes", *_image_lines(detection_set), *_object_lines(detection_set)]
    lines += _keypoint_lines(detection_set)
    lines += _listed("problems", "left out", detection_set.problems, most_problems)
    if detection_set.warnings:
        lines += _listed("warnings", "kept", detection_set.warnings, most_problems)
    return "\n".join(lines)


def _listed(title: str, fate: str, found: list[Problem], most: int) -> list[str]:
    lines = [f"  {title:<15} {len(found)}{f', {fate}:' if found else ''}"]
    lines += [f"    {problem}" for problem in found[:most]]
    return lines + [f"    … and {len(found) - most} more"] * (len(found) > most)


def _image_lines(detection_set: DetectionSet) -> list[str]:
    sizes = Counter(record.size for record in detection_set.records)
    common = ", ".join(f"{width} × {height} ({count})" for (width, height), count in sizes.most_common(3))
    empty = sum(not len(record.classes) for record in detection_set.records)
    unlabelled = sum(record.source is None for record in detection_set.records)
    return [
        f"  image size      {common}{f', and {len(sizes) - 3} more' if len(sizes) > 3 else ''}",
        f"  without object  {empty} images, {unlabelled} of them without an annotation file",
    ]


def _object_lines(detection_set: DetectionSet) -> list[str]:
    if not detection_set.object_count:
        return []
    records, names = detection_set.records, detection_set.class_names
    boxes = np.concatenate([record.boxes for record in records])
    sides = np.sqrt((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
    counts = np.bincount(np.concatenate([record.classes for record in records]), minlength=len(names))
    wide = max(map(len, names))
    lines = [
        f"  objects/image   {_quantiles(np.array([len(record.classes) for record in records]))}",
        f"  box side, px    {_quantiles(sides)}   (square root of the area)",
        "  objects per class",
    ]
    for name, count in zip(names, counts.tolist(), strict=True):
        lines.append(f"    {name:<{wide}} {count:>6} {'█' * round(30 * count / counts.max())}")
    return lines


def _keypoint_lines(detection_set: DetectionSet) -> list[str]:
    names, flip_index, records = detection_set.keypoint_names, detection_set.flip_index, detection_set.records
    if not names:
        return []
    seen = np.concatenate([np.zeros(0), *(r.keypoints[..., 2].ravel() for r in records if r.keypoints is not None)])
    absent, hidden, visible = (int((seen == value).sum()) for value in (0, 1, 2))
    shown = ", ".join(names[:20]) + (", …" if len(names) > 20 else "")
    return [
        f"  keypoints       {shown}; flip index {list(flip_index[:20])}",
        f"    {visible} visible, {hidden} hidden, {absent} absent",
    ]


def _quantiles(values: np.ndarray) -> str:
    low, quarter, middle, three, high = np.quantile(values, [0, 0.25, 0.5, 0.75, 1])
    return f"least {low:.3g}, quarter {quarter:.3g}, median {middle:.3g}, three quarters {three:.3g}, most {high:.3g}"
