"""COCO: one JSON file of images, categories and annotations for each split.

`bbox` is x y width height in pixels, from the upper left corner. Category ids may be any numbers
and are numbered again in rising order, so COCO's own 1 … 90 become 0 … 79. Crowd regions
(`iscrowd`) are left out. Keypoints are a flat list of x y visibility.

`write` gives three decimals, within 0.001 px, and one annotation a line, so that a message can name
its line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..check import image_size, progress
from ..keypoints import checked_flip, checked_names, warn_of_flip
from ..reading import Complaint, Objects, check_class_names, load_json, misplaced, read_text, refuse_split
from ..records import (
    DetectionSet,
    Problems,
    Record,
    canonical_split,
    place,
    refuse,
    sort_splits,
    split_names,
)
from .export import Export

FILE_NAME = re.compile(r"^(instances|person_keypoints|annotations)?_*(?P<split>[a-z]+)")  # instances_val2017 -> val
GROUND_TRUTH = (
    "COCO ground truth has images, annotations and categories. Give that file, not a file of images only or of results."
)


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
        annotation_json: the file, or a folder whose `annotations/` has one file for each split.
        images_root: the folder that `file_name` is relative to. Without it, the usual places around
            the file are tried.
        split: which file of a folder. For a single file, the name of its split; without it, the
            file's name tells.
        class_names: a file whose categories are others is refused.
        on_bad: "fail" raises `DataError` at the first problem. "skip" leaves the object or image
            out and lists it.
    """
    path = _file(Path(annotation_json), split or "train")
    split = canonical_split(split or _split_of(path))
    problems = Problems(on_bad)
    data = load_json(path, GROUND_TRUTH)
    missing = [key for key in ("images", "annotations", "categories") if not isinstance(data.get(key), list)]
    if missing:
        refuse(path, f"it has no list of {', '.join(missing)}", GROUND_TRUTH)
    lines = _Lines(path)
    categories = _categories(path, data, lines, problems)
    check_class_names(path, categories.names, class_names)
    first_use = _first_uses(data["images"], lines, problems)
    objects_of = _annotations_of_images(data["annotations"], first_use, lines, problems)
    root = _images_root(path, images_root, data["images"], split)
    records = []
    for index, image in enumerate(progress(data["images"], f"reading {path.name}")):
        if first_use[image.get("id")] != index:
            continue
        try:
            size = _size(image, root, problems)
        except Complaint as complaint:
            problems.add(lines.place("images", index), complaint.what, complaint.remedy)
            continue
        if size is None:
            continue
        objects = Objects(size, len(categories.keypoint_names), problems, lambda i: lines.place("annotations", i))
        for number in objects_of.get(image.get("id"), ()):
            try:
                objects.add(number, *_read_object(data["annotations"][number], categories))
            except Complaint as complaint:
                problems.add(lines.place("annotations", number), complaint.what, complaint.remedy)
        records.append(objects.record(root / image["file_name"], path))
    return DetectionSet(
        _name(path),
        categories.names,
        records,
        categories.keypoint_names,
        categories.flip_index,
        problems=problems.close(),
        split=split,
        warnings=problems.warnings,
    )


def splits(path: str | Path) -> list[str]:
    """The splits of a folder, by our names; of a single file, its own."""
    path = Path(path)
    return sort_splits(_split_of(file) for file in ((path / "annotations").glob("*.json") if path.is_dir() else [path]))


def write(sets: DetectionSet | Sequence[DetectionSet], folder: str | Path) -> Path:
    """Write `annotations/SPLIT.json` and `images/` into a new folder. Images are linked.

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
            for i in range(len(record.classes)):
                annotations.append({"id": len(annotations) + 1, "image_id": image_id} | _annotation(record, i))
        parts = [f'"info": {json.dumps({"description": one.name}, ensure_ascii=False)}']
        for key, values in (("categories", categories), ("images", images), ("annotations", annotations)):
            parts.append(
                f'"{key}": [\n' + ",\n".join(json.dumps(value, ensure_ascii=False) for value in values) + "\n]"
            )
        export.write(f"annotations/{one.split}.json", "{" + ",\n".join(parts) + "}\n")
    (export.folder / "images").mkdir(exist_ok=True)
    return export.folder


def _annotation(record: Record, i: int) -> dict:
    """Object i of an image as COCO writes it."""
    x1, y1, x2, y2 = record.boxes[i].tolist()
    box = [_rounded(x1), _rounded(y1), _rounded(x2 - x1), _rounded(y2 - y1)]
    annotation = {"category_id": int(record.classes[i]) + 1, "bbox": box}
    annotation |= {"area": _rounded(box[2] * box[3]), "iscrowd": 0, "segmentation": []}
    if record.keypoints is not None:
        pose = record.keypoints[i]
        annotation["keypoints"] = [_rounded(value) for value in pose.ravel().tolist()]
        annotation["num_keypoints"] = int((pose[:, 2] > 0).sum())
    return annotation


def _rounded(value: float) -> float:
    return round(value, 3)


# Files and their names


def _file(path: Path, split: str) -> Path:
    """The annotation file of a split; a path that is no folder is the file itself."""
    if not path.is_dir():
        return path
    files = sorted((path / "annotations").glob("*.json"))
    for name in split_names(split):
        for file in files:
            if _split_of(file) == canonical_split(name):
                return file
    refuse_split(path / "annotations", split, [f"{split}.json"], [file.name for file in files])


def _split_of(path: Path) -> str:
    found = FILE_NAME.match(path.stem.lower())
    return canonical_split(found["split"]) if found else path.stem


def _name(path: Path) -> str:
    folder = path.resolve().parent
    return folder.parent.name if folder.name == "annotations" else folder.name


def _images_root(path: Path, stated: str | Path | None, images: list[dict], split: str) -> Path:
    """The folder below which one of the first images lies."""
    if stated is not None:
        return Path(stated)
    folder = path.parent
    above = folder.parent if folder.name == "annotations" else folder
    tail = path.stem.split("_")[-1]  # train2017
    places = [above / "images", folder, above, above / tail, above / "images" / tail]
    places += [above / part / name for name in split_names(split) for part in ("", "images")]
    names = [str(image.get("file_name", "")).lstrip("/\\") for image in images[:20]]
    return next((root for root in places for name in names if name and (root / name).is_file()), places[0])


# What the three lists hold


@dataclass(frozen=True)
class _Categories:
    """What the categories say: class names, the class number of each id, and keypoints."""

    names: tuple[str, ...]
    number_of: dict[object, int]
    keypoint_names: tuple[str, ...]
    flip_index: tuple[int, ...]


def _categories(path: Path, data: dict, lines: _Lines, problems: Problems) -> _Categories:
    categories = sorted(data["categories"], key=lambda category: category["id"])
    posed = [index for index, category in enumerate(data["categories"]) if category.get("keypoints")]
    keypoint_names, flip_index = (), ()
    for index in posed:
        category, where = data["categories"][index], lines.place("categories", index)
        names = checked_names(where, category["keypoints"])
        if index == posed[0]:
            keypoint_names, flip_index = names, checked_flip(where, category.get("flip_index"), names)
            warn_of_flip(where, names, flip_index, problems)
        elif names != keypoint_names:
            first = Path(lines.place("categories", posed[0])).name
            what = f"category {category.get('name')} has other keypoints than the one at {first}"
            refuse(where, what, "All classes of a set share one list of keypoints: split the file by category.")
    return _Categories(
        tuple(str(category["name"]) for category in categories),
        {category["id"]: number for number, category in enumerate(categories)},
        keypoint_names,
        flip_index,
    )


def _first_uses(images: list[dict], lines: _Lines, problems: Problems) -> dict[object, int]:
    """For each image id the index of the first image that has it; a second one is a problem."""
    first_use: dict[object, int] = {}
    for index, image in enumerate(images):
        first = first_use.setdefault(image.get("id"), index)
        if first != index:
            what = f"image id {image.get('id')} is used twice, first at {Path(lines.place('images', first)).name}"
            problems.add(lines.place("images", index), what, "Give each image its own id.")
    return first_use


def _annotations_of_images(
    annotations: list[dict], images: dict[object, int], lines: _Lines, problems: Problems
) -> dict[object, list[int]]:
    """For each image id the indices of its annotations, crowds left out."""
    found: dict[object, list[int]] = {}
    for index, annotation in enumerate(annotations):
        image_id = annotation.get("image_id")
        if image_id not in images:
            what = f"annotation {annotation.get('id')} belongs to image {image_id}, which is not listed"
            problems.add(lines.place("annotations", index), what, "Add the image to images, or delete the annotation.")
        elif not annotation.get("iscrowd"):
            found.setdefault(image_id, []).append(index)
    return found


def _size(image: dict, root: Path, problems: Problems) -> tuple[int, int] | None:
    """(width, height) of an image that is there and has the stated size. Raises Complaint.

    A file that cannot be read becomes a problem, and None.
    """
    name = str(image.get("file_name", ""))
    if not name:
        raise Complaint("this image has no file_name", "Write the image's path, relative to the folder of images.")
    if not (root / name).is_file():
        if name.startswith(("/", "\\")):
            raise Complaint(*misplaced(name, root))
        remedy = f"It is looked up relative to {root}; put it there, or give images_root."
        raise Complaint(f"the image {name} is missing", remedy)
    size = image_size(root / name, problems)
    if size and (image.get("width", size[0]), image.get("height", size[1])) != size:
        what = f"{name} is {size[0]} × {size[1]}, but the file says {image.get('width')} × {image.get('height')}"
        remedy = (
            "If the image was resized, its boxes are wrong too: restore it, or scale the boxes. If not, correct width "
            "and height."
        )
        raise Complaint(what, remedy)
    return size


def _read_object(annotation: dict, categories: _Categories) -> tuple[int, list[float], np.ndarray | None]:
    """(class, x1 y1 x2 y2, keypoints) of an annotation. Raises Complaint."""
    label = f"annotation {annotation.get('id')}"
    if annotation.get("category_id") not in categories.number_of:
        known = ", ".join(f"{number} {categories.names[at]}" for number, at in [*categories.number_of.items()][:20])
        what = f"{label} has the category id {annotation.get('category_id')}, which is out of range"
        raise Complaint(what, f"The categories are: {known}.")
    try:
        x, y, width, height = (float(value) for value in annotation["bbox"])
    except (KeyError, TypeError, ValueError):
        remedy = "Write four numbers of pixels: x and y of the upper left corner, width, height."
        raise Complaint(f"{label} has the bbox {annotation.get('bbox')}", remedy) from None
    keypoints, pose = len(categories.keypoint_names), None
    if keypoints:
        values = annotation.get("keypoints") or [0] * (3 * keypoints)
        try:
            pose = np.array(values, dtype=np.float64).reshape(keypoints, 3)
        except (TypeError, ValueError):
            given = f"{len(values)} values in keypoints" if isinstance(values, list) else f"the keypoints {values!r}"
            remedy = f"Write {3 * keypoints} numbers: x, y and visibility of each."
            what = f"{label} has {given} where {3 * keypoints} numbers are expected, for {keypoints} keypoints"
            raise Complaint(what, remedy) from None
    return categories.number_of[annotation["category_id"]], [x, y, x + width, y + height], pose


class _Lines:
    """`FILE:LINE` of the elements of the file's lists.

    JSON parsers do not keep lines, so at the first problem the text is searched again.
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
        """The line on which each element of the list `key` begins."""
        decoder, separator = json.JSONDecoder(), re.compile(r"[\s,]*")
        at = re.search(rf'"{key}"\s*:\s*\[', text).end()
        lines, line, counted = [], 1, 0
        while text[at := separator.match(text, at).end()] != "]":
            line += text.count("\n", counted, at)
            counted = at
            lines.append(line)
            _, at = decoder.raw_decode(text, at)
        return lines
