"""COCO: one JSON file of images, categories and annotations for each split.

`bbox` is x y width height in pixels from the upper left corner; category ids may be any numbers and
are taken in rising order, so COCO's own 1 … 90 become 0 … 79. Crowd regions (`iscrowd`) are not
objects and are left out. Keypoints are the flat list x y visibility.
`write` writes three decimals: within 0.001 px; one annotation a line, so that a problem has a line
to name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..check import image_size, keep_good, progress
from ..records import (
    DetectionSet,
    Problems,
    Record,
    canonical_split,
    checked_flip,
    mirror,
    misplaced,
    place,
    read_text,
    refuse,
    sort_splits,
    split_names,
)
from .export import Export

FILE_NAME = re.compile(r"^(instances|person_keypoints|annotations)?_*(?P<split>[a-z]+)")  # instances_val2017 -> val


def read(
    annotation_json: str | Path,
    images_root: str | Path | None = None,
    *,
    split: str | None = None,
    class_names: Sequence[str] | None = None,
    on_bad: str = "fail",
) -> DetectionSet:
    """Read one annotation file.

    Args:
        annotation_json: the file, or a folder whose `annotations/` has one file a split.
        images_root: what `file_name` is relative to; without it, the usual places around the file
            are tried.
        split: which file of a folder; of a single file, what to call it (its name tells otherwise).
        class_names: refuse a file whose categories are not these.
        on_bad: "fail" raises `DataError` at the first problem, "skip" leaves the object or image
            out and lists it.
    """
    path = _file(Path(annotation_json), split or "train")
    split = canonical_split(split or _split_of(path))
    problems = Problems(on_bad)
    text = read_text(path) if path.is_file() else refuse(path, "there is no such file", "Correct the path.")
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        refuse(
            path,
            f"this is not sound JSON ({error.msg}, column {error.colno})",
            "Repair or restore the file.",
            line=error.lineno,
        )
    missing = [
        key
        for key in ("images", "annotations", "categories")
        if not isinstance(data, dict) or not isinstance(data.get(key), list)
    ]
    if missing:
        remedy = (
            "COCO ground truth has images, annotations and categories; give that file, not one of images only or of "
            "results."
        )
        refuse(path, f"it has no list of {', '.join(missing)}", remedy)
    lines = _Lines(path)

    categories = sorted(data["categories"], key=lambda category: category["id"])
    names = tuple(str(category["name"]) for category in categories)
    if class_names and tuple(class_names) != names:
        refuse(
            path,
            f"its classes are {', '.join(names)}",
            f"The description says {', '.join(class_names)}: correct one of the two.",
        )
    number_of = {category["id"]: number for number, category in enumerate(categories)}
    posed = next((category for category in categories if category.get("keypoints")), {})
    keypoint_names = tuple(posed.get("keypoints", ()))
    flip_index = checked_flip(path, posed.get("flip_index") or mirror(keypoint_names), keypoint_names)

    first_use: dict[object, int] = {}
    for index, image in enumerate(data["images"]):
        first = first_use.setdefault(image.get("id"), index)
        if first != index:  # said before the annotations that it orphans
            what = f"image id {image.get('id')} is used twice, first at {Path(lines.place('images', first)).name}"
            problems.add(lines.place("images", index), what, "Give each image its own id.")
    by_image: dict[object, list[int]] = {}
    for index, annotation in enumerate(data["annotations"]):
        if annotation.get("image_id") not in first_use:
            what = (
                f"annotation {annotation.get('id')} belongs to image {annotation.get('image_id')}, which is not listed"
            )
            problems.add(lines.place("annotations", index), what, "Add the image to images, or delete the annotation.")
        elif not annotation.get("iscrowd"):
            by_image.setdefault(annotation["image_id"], []).append(index)

    root = _images_root(path, images_root, data["images"], split)
    records = []
    for index, image in enumerate(progress(data["images"], f"reading {path.name}")):
        name = str(image.get("file_name", ""))
        if first_use[image.get("id")] != index:
            continue
        file = root / name
        if not name or not file.is_file():
            problems.add(lines.place("images", index), *_missing(name, root))
            continue
        size = image_size(file, problems)
        if not size:
            continue
        if (image.get("width", size[0]), image.get("height", size[1])) != size:
            what = f"{name} is {size[0]} × {size[1]} but the file says {image.get('width')} × {image.get('height')}"
            remedy = (
                "If the image was resized, its boxes are wrong too: restore it or scale them; if it was not, correct "
                "width and height."
            )
            problems.add(lines.place("images", index), what, remedy)
            continue
        classes, boxes, points, order = [], [], [], []
        for number in by_image.get(image.get("id"), ()):
            complaint = _read_object(
                data["annotations"][number], number_of, names, len(keypoint_names), classes, boxes, points
            )
            if complaint:
                problems.add(lines.place("annotations", number), *complaint)
            else:
                order.append(number)

        def locate(i: int, order: list[int] = order) -> str:
            return lines.place("annotations", order[i])

        records.append(
            Record(file, size, *keep_good(classes, boxes, points, len(keypoint_names), size, problems, locate), path)
        )
    return DetectionSet(_name(path), names, records, keypoint_names, flip_index, problems=problems.close(), split=split)


def splits(path: str | Path) -> list[str]:
    """The splits of a folder, by our names; of a single file, its own."""
    path = Path(path)
    return sort_splits(_split_of(file) for file in ((path / "annotations").glob("*.json") if path.is_dir() else [path]))


def write(sets: DetectionSet | Sequence[DetectionSet], folder: str | Path) -> Path:
    """Write `annotations/SPLIT.json` and `images/` into a new folder; images are linked.

    Returns the folder.
    """
    export = Export(sets, folder)
    categories = [
        {"id": number, "name": name, "supercategory": ""} for number, name in enumerate(export.class_names, start=1)
    ]
    for category in categories if export.keypoint_names else ():
        category |= {"keypoints": export.keypoint_names, "skeleton": [], "flip_index": export.flip_index}
    for one in export.sets:
        images, annotations = [], []
        for image_id, record in enumerate(one.records, start=1):
            file = export.place(record.image, "images")
            images.append({"id": image_id, "file_name": file.name, "width": record.size[0], "height": record.size[1]})
            for i, (x1, y1, x2, y2) in enumerate(record.boxes.tolist()):
                box = [_rounded(x1), _rounded(y1), _rounded(x2 - x1), _rounded(y2 - y1)]
                annotation = {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": int(record.classes[i]) + 1,
                    "bbox": box,
                }
                annotation |= {"area": _rounded(box[2] * box[3]), "iscrowd": 0, "segmentation": []}
                if record.keypoints is not None:
                    pose = record.keypoints[i]
                    annotation["keypoints"] = [_rounded(value) for value in pose.ravel().tolist()]
                    annotation["num_keypoints"] = int((pose[:, 2] > 0).sum())
                annotations.append(annotation)
        parts = [f'"info": {json.dumps({"description": one.name}, ensure_ascii=False)}']
        for key, values in (("categories", categories), ("images", images), ("annotations", annotations)):
            parts.append(
                f'"{key}": [\n' + ",\n".join(json.dumps(value, ensure_ascii=False) for value in values) + "\n]"
            )
        export.write(f"annotations/{one.split}.json", "{" + ",\n".join(parts) + "}\n")
    (export.folder / "images").mkdir(exist_ok=True)
    return export.folder


def _rounded(value: float) -> float:
    return round(value, 3)


def _file(path: Path, split: str) -> Path:
    if not path.is_dir():
        return path
    files = sorted((path / "annotations").glob("*.json"))
    found = next(
        (file for name in split_names(split) for file in files if _split_of(file) == canonical_split(name)), None
    )
    if found is None:
        there = ", ".join(file.name for file in files) or "none"
        refuse(
            path / "annotations",
            f"there is no file of split '{split}' here; looked for {split}.json",
            f"There are: {there}.",
        )
    return found


def _split_of(path: Path) -> str:
    found = FILE_NAME.match(path.stem.lower())
    return canonical_split(found["split"]) if found else path.stem


def _name(path: Path) -> str:
    folder = path.resolve().parent
    return folder.parent.name if folder.name == "annotations" else folder.name


def _images_root(path: Path, stated: str | Path | None, images: list[dict], split: str) -> Path:
    """The folder below which the first images lie."""
    if stated is not None:
        return Path(stated)
    folder = path.parent
    above = folder.parent if folder.name == "annotations" else folder
    tail = path.stem.split("_")[-1]  # train2017
    places = [above / "images", folder, above, above / tail, above / "images" / tail]
    places += [above / part / name for name in split_names(split) for part in ("", "images")]
    names = [str(image.get("file_name", "")).lstrip("/\\") for image in images[:20]]
    return next((root for root in places for name in names if name and (root / name).is_file()), places[0])


def _missing(name: str, root: Path) -> tuple[str, str]:
    if not name:
        return "this image has no file_name", "Write the image's path, relative to the folder of images."
    if name.startswith(("/", "\\")):
        return misplaced(name, root)
    return f"the image {name} is missing", f"It is looked up relative to {root}; put it there, or give images_root."


def _read_object(
    annotation: dict, number_of: dict, names: Sequence[str], keypoints: int, classes: list, boxes: list, points: list
) -> tuple[str, str] | None:
    """Append one object to the three lists, or say what is wrong and the remedy."""
    label = f"annotation {annotation.get('id')}"
    if annotation.get("category_id") not in number_of:
        known = ", ".join(f"{number} {names[at]}" for number, at in list(number_of.items())[:20])
        return (
            f"{label} has the category id {annotation.get('category_id')}, which is out of range",
            f"The categories are: {known}.",
        )
    try:
        x, y, width, height = (float(value) for value in annotation["bbox"])
    except (KeyError, TypeError, ValueError):
        remedy = "Write four numbers of pixels: x and y of the upper left corner, width, height."
        return f"{label} has the bbox {annotation.get('bbox')}", remedy
    try:
        pose = (
            np.array(annotation.get("keypoints") or [0] * (3 * keypoints), dtype=np.float64).reshape(keypoints, 3)
            if keypoints
            else None
        )
    except (TypeError, ValueError):
        return (
            f"{label} does not have {keypoints} keypoints",
            f"Write {3 * keypoints} numbers: x, y, visibility for each.",
        )
    classes.append(number_of[annotation["category_id"]])
    boxes.append([x, y, x + width, y + height])
    points.append(pose)
    return None


class _Lines:
    """`FILE:LINE` of an element of one of the file's lists.

    JSON parsers keep no lines: at the first problem the text is walked again.
    """

    def __init__(self, path: Path):
        self.path = path
        self.found: dict[str, list[int]] = {}

    def place(self, key: str, index: int) -> str:
        if key not in self.found:
            self.found[key] = self._walk(read_text(self.path), key)
        return place(self.path, self.found[key][index])

    @staticmethod
    def _walk(text: str, key: str) -> list[int]:
        decoder, separator = json.JSONDecoder(), re.compile(r"[\s,]*")
        at = re.search(rf'"{key}"\s*:\s*\[', text).end()
        lines, line, counted = [], 1, 0
        while text[at := separator.match(text, at).end()] != "]":
            line += text.count("\n", counted, at)
            counted = at
            lines.append(line)
            _, at = decoder.raw_decode(text, at)
        return lines
