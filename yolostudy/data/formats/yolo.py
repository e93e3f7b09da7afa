"""YOLO text labels with an Ultralytics data.yaml.

    data.yaml: train, val, test (folders, lists of folders, or .txt lists of images), names;
        for pose kpt_shape, flip_idx, kpt_names
    images/train/1.jpg
    labels/train/1.txt: one object a line, `class x y width height [x y visibility …]`

x y is the box's centre. All lengths are divided by the image's width or height. An image without a
label file is background.

`write` gives eight decimals, within 0.0001 px in an image of 10,000 px. Its yaml has no `path`, so
Ultralytics and this reader start from the folder that the yaml lies in, and the export can be
moved.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from ..check import IMAGE_SUFFIXES, image_size, progress
from ..keypoints import checked_flip, checked_names, checked_shape, warn_of_flip
from ..reading import (
    Complaint,
    Objects,
    check_class_names,
    load_yaml,
    misplaced,
    read_text,
    refuse_empty,
    refuse_split,
)
from ..records import (
    DetectionSet,
    Problems,
    Record,
    canonical_split,
    natural,
    place,
    refuse,
    sort_splits,
    split_names,
)
from .export import Export, digits

NOT_SPLITS = {"path", "names", "nc", "kpt_shape", "flip_idx", "kpt_names", "download", "channels", "yaml_file"}
ROUNDING = 1e-3  # a normalised value may exceed 1 by this much, because three decimals are common


@dataclass(frozen=True)
class _Layout:
    """What a label line means in this set.

    Attributes:
        names: the class names.
        keypoint_names: K names, or none.
        dimensions: numbers for each keypoint: 2 (x y) or 3 (x y visibility); 0 without keypoints.
        flip_index: K numbers.
    """

    names: tuple[str, ...]
    keypoint_names: tuple[str, ...]
    dimensions: int
    flip_index: tuple[int, ...]

    @property
    def columns(self) -> int:
        return 5 + len(self.keypoint_names) * self.dimensions

    def __str__(self) -> str:
        pose = f" and {len(self.keypoint_names)} keypoints of {self.dimensions} numbers" if self.dimensions else ""
        return f"class x y width height{pose}"


def read(
    data_yaml: str | Path, split: str = "train", *, class_names: Sequence[str] | None = None, on_bad: str = "fail"
) -> DetectionSet:
    """Read one split.

    Args:
        data_yaml: the file, or the folder that holds data.yaml.
        split: train, validation (`val`), test, or any other key of the yaml that names images.
        class_names: a yaml with other names is refused.
        on_bad: "fail" raises `DataError` at the first problem. "skip" leaves the object or image
            out and lists it.
    """
    path = Path(data_yaml)
    path = path / "data.yaml" if path.is_dir() else path
    data = load_yaml(path)
    problems = Problems(on_bad)
    layout = _Layout(_class_names(path, data), *_keypoints(path, data, problems))
    check_class_names(path, layout.names, class_names)
    images = _images(path, data, split, problems)
    labels = {image: _label_file(image) for image in images}
    if labels and not any(label.is_file() for label in labels.values()):
        image, label = next(iter(labels.items()))
        looked_for = f"{label.name} for {image}, and so on for all {len(labels)} images"
        refuse_empty(label.parent, "labels", looked_for, "Put one .txt for each image there, with the image's name.")
    records = []
    for image, label in progress(list(labels.items()), f"reading {split}"):
        record = _record(image, label, layout, problems)
        if record:
            records.append(record)
    return DetectionSet(
        path.resolve().parent.name if path.stem == "data" else path.stem,
        layout.names,
        records,
        layout.keypoint_names,
        layout.flip_index,
        problems=problems.close(),
        split=canonical_split(split),
        warnings=problems.warnings,
    )


def splits(data_yaml: str | Path) -> list[str]:
    """The splits that a data.yaml names, by our names."""
    path = Path(data_yaml)
    data = load_yaml(path / "data.yaml" if path.is_dir() else path)
    return sort_splits(key for key, value in data.items() if key not in NOT_SPLITS and isinstance(value, (str, list)))


def write(sets: DetectionSet | Sequence[DetectionSet], folder: str | Path) -> Path:
    """Write one set, or several splits of it, into a new folder on which Ultralytics can train.

    Images are linked. Returns the folder's data.yaml.
    """
    export = Export(sets, folder)
    keys = {}
    for one in export.sets:
        key = "val" if one.split == "validation" else one.split
        keys[key] = f"images/{key}"
        for record in one.records:
            export.place(record.image, keys[key])
            export.write(
                f"labels/{key}/{export.stem(record.image)}.txt",
                "".join(_row(record, i) for i in range(len(record.classes))),
            )
        for needed in ("images", "labels"):  # an empty set is a set too
            (export.folder / needed / key).mkdir(parents=True, exist_ok=True)
    # Ultralytics refuses a yaml without both of these. Where one was not exported, the other is named twice.
    for key, other in (("train", "val"), ("val", "train")):
        keys.setdefault(key, keys.get(other) or next(iter(keys.values())))
    data: dict = {**keys, "names": dict(enumerate(export.class_names))}
    if export.keypoint_names:
        data |= {"kpt_shape": [len(export.keypoint_names), 3], "flip_idx": list(export.flip_index)}
        data["kpt_names"] = {number: list(export.keypoint_names) for number in range(len(export.class_names))}
    return export.write("data.yaml", yaml.safe_dump(data, sort_keys=False, allow_unicode=True))


def _row(record: Record, i: int) -> str:
    width, height = record.size
    x1, y1, x2, y2 = record.boxes[i].tolist()
    values = [(x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height]
    text = [str(int(record.classes[i])), *(digits(value, 8) for value in values)]
    if record.keypoints is not None:
        for x, y, visible in record.keypoints[i].tolist():
            text += [digits(x / width, 8), digits(y / height, 8), str(int(visible))]
    return " ".join(text) + "\n"


# data.yaml


def _line_of_key(path: Path, key: str) -> int | None:
    """The line on which a key stands."""
    return next(
        (
            line
            for line, text in enumerate(read_text(path).splitlines(), start=1)
            if re.match(rf"{re.escape(key)}\s*:", text)
        ),
        None,
    )


def _class_names(path: Path, data: dict) -> tuple[str, ...]:
    names = data.get("names")
    if isinstance(names, dict):
        if set(names) != set(range(len(names))):
            remedy = "Number the names 0, 1, 2, … without gaps."
            refuse(path, f"names are numbered {', '.join(map(str, names))}", remedy, line=_line_of_key(path, "names"))
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list) or not names:
        remedy = "Add `names:` with one name for each class number."
        refuse(path, "there are no class names", remedy, line=_line_of_key(path, "names"))
    if data.get("nc", len(names)) != len(names):
        what = f"nc is {data['nc']} but there are {len(names)} names"
        refuse(path, what, "Correct one of them, or delete nc.", line=_line_of_key(path, "nc"))
    return tuple(str(name) for name in names)


def _keypoints(path: Path, data: dict, problems: Problems) -> tuple[tuple[str, ...], int, tuple[int, ...]]:
    """(keypoint names, numbers for each keypoint, flip index)."""
    if data.get("kpt_shape") is None:
        return (), 0, ()
    count, dimensions = checked_shape(_at_key(path, "kpt_shape"), data["kpt_shape"])
    stated = data.get("kpt_names")
    if isinstance(stated, dict):  # a list for each class; they share one
        lists = list(stated.values())
        if any(names != lists[0] for names in lists):
            remedy = "All classes of a set share one list of keypoints: write the same list for each."
            refuse(_at_key(path, "kpt_names"), "kpt_names has different lists for different classes", remedy)
        stated = lists[0] if lists else None
    if stated is None:
        names = tuple(f"keypoint {k}" for k in range(count))
    else:
        names = checked_names(_at_key(path, "kpt_names"), stated, count)
    flip = checked_flip(_at_key(path, "flip_idx"), data.get("flip_idx"), names)
    where = _at_key(path, "flip_idx" if data.get("flip_idx") else "kpt_shape")
    warn_of_flip(where, names, flip, problems, stated=bool(data.get("flip_idx") or stated))
    return names, dimensions, flip


def _at_key(path: Path, key: str) -> str:
    return place(path, _line_of_key(path, key))


# Images and label files


def _images(path: Path, data: dict, split: str, problems: Problems) -> list[Path]:
    """The images of one split. An entry of the yaml is a folder, which is searched, or a list."""
    key = next((name for name in (*split_names(split), split) if data.get(name)), None)
    if key is None:
        refuse_split(path, split, split_names(split), splits(path))
    root = _root(path, data)
    entries = data[key] if isinstance(data[key], list) else [data[key]]
    images: list[Path] = []
    for entry in entries:
        found = root / entry
        if not found.exists():
            refuse(path, *misplaced(entry, root), line=_line_of_key(path, key))
        images += _listed(found, root, problems) if found.is_file() else _searched(found, problems)
    return images


def _root(path: Path, data: dict) -> Path:
    """The folder that the paths in a data.yaml start from."""
    here = path.resolve().parent if path.is_symlink() else path.parent
    if not data.get("path"):
        return here
    for root in (here / data["path"], Path(data["path"])):
        if root.is_dir():
            return root
    remedy = f"Correct it, or delete this line; paths then start from {here}."
    refuse(path, f"the folder of `path: {data['path']}` does not exist", remedy, line=_line_of_key(path, "path"))


def _searched(folder: Path, problems: Problems) -> list[Path]:
    """All images below a folder. A label file whose image is missing is a problem."""
    images = sorted(
        (file for file in folder.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES),
        key=lambda file: natural(str(file)),
    )
    if not images:
        looked_for = ", ".join("*" + suffix for suffix in IMAGE_SUFFIXES)
        refuse_empty(folder, "images", looked_for, "Give the folder of the images.")
    expected = {_label_file(image) for image in images}
    for parent in dict.fromkeys(label.parent for label in expected):
        for label in sorted(parent.glob("*.txt")):
            if label not in expected and label.name != "classes.txt" and parent != folder:
                what = f"its image is missing: no {label.stem}.jpg under {folder}"
                problems.add(label, what, "Put the image there, or delete this label file.")
    return images


def _listed(file: Path, root: Path, problems: Problems) -> list[Path]:
    """The images that a .txt file lists, relative to that file (`./…`) or to the root."""
    seen: dict[Path, int] = {}
    for line, text in enumerate(read_text(file).splitlines(), start=1):
        entry = text.strip()
        if not entry:
            continue
        image = file.parent / entry if entry.startswith("./") else root / entry
        if not image.is_file():
            problems.add(file, *misplaced(entry, root), line=line)
        elif image in seen:
            what = f"'{entry}' is listed twice, first on line {seen[image]}"
            problems.add(file, what, "Delete one of the two lines.", line=line)
        else:
            seen[image] = line
    return list(seen)


def _label_file(image: Path) -> Path:
    """The label file of an image, by Ultralytics' rule.

    The last folder named images becomes labels, and the suffix becomes .txt.
    """
    parts = list(image.parts)
    for at in range(len(parts) - 2, -1, -1):
        if parts[at] == "images":
            parts[at] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


# One label file


def _record(image: Path, label: Path, layout: _Layout, problems: Problems) -> Record | None:
    """The image and its objects; None, and a problem, if one of the two files cannot be read."""
    size = image_size(image, problems)
    source = label if label.is_file() else None  # an image without a label file is background
    text = read_text(source, problems) if size and source else ""
    if not size or text is None:
        return None
    objects = Objects(size, len(layout.keypoint_names), problems, lambda line: place(label, line))
    for line, row in enumerate(text.splitlines(), start=1):
        if row.strip():
            try:
                objects.add(line, *_read_object(row.split(), layout, size))
            except Complaint as complaint:
                problems.add(label, complaint.what, complaint.remedy, line=line)
    return objects.record(image, source)


def _read_object(cells: list[str], layout: _Layout, size: tuple[int, int]) -> tuple[int, list[float], np.ndarray]:
    """(class, x1 y1 x2 y2 in pixels, keypoints) of a label line. Raises Complaint."""
    if len(cells) != layout.columns:
        shape = f"; kpt_shape is [{len(layout.keypoint_names)}, {layout.dimensions}]" if layout.dimensions else ""
        polygons = " If these are polygons, convert them to boxes; if keypoints, state kpt_shape in data.yaml."
        hint = polygons if not layout.dimensions and len(cells) > 6 else ""
        raise Complaint(f"{len(cells)} columns where {layout.columns} are expected{shape}", f"Write {layout}.{hint}")
    try:
        number, *values = (float(cell) for cell in cells)
    except ValueError as error:
        remedy = f"Write {layout}, all as numbers with a decimal point."
        raise Complaint(f"{str(error).split(': ')[-1]} is not a number", remedy) from None
    if number not in range(len(layout.names)):
        known = f"data.yaml has {len(layout.names)} names, so classes are 0 … {len(layout.names) - 1}"
        raise Complaint(f"class {cells[0]} is out of range", f"{known}; correct the class, or add its name.")
    if not all(map(math.isfinite, values)):
        bad = next(cell for cell, value in zip(cells[1:], values, strict=True) if not math.isfinite(value))
        raise Complaint(f"{bad} is not a finite number", "Write the number that belongs there, or delete the line.")
    lengths, dimensions = values[:4], layout.dimensions
    pose = np.array(values[4:]).reshape(-1, dimensions) if dimensions else np.zeros((0, 3))
    if dimensions == 2:  # without visibility, a point at 0 0 is absent, and so is a negative one
        pose = np.column_stack([pose, np.where(pose.any(axis=1) & (pose >= 0).all(axis=1), 2, 0)])
    largest = max([*lengths, *pose[:, :2].ravel()])
    if largest > 1 + ROUNDING:
        width, height = size
        remedy = f"Divide by the image's width and height: x and width by {width}, y and height by {height}."
        raise Complaint(f"{largest:g} is not between 0 and 1; it looks like pixels", remedy)
    x, y, across, down = (value * scale for value, scale in zip(lengths, (*size, *size), strict=True))
    box = [x - across / 2, y - down / 2, x + across / 2, y + down / 2]
    return int(number), box, pose * [*size, 1]
