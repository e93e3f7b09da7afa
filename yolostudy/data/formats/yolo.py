"""YOLO text labels with an Ultralytics data.yaml.

    data.yaml: train, val, test (folders, lists of folders, or .txt lists of images), names;
        for pose kpt_shape, flip_idx, kpt_names
    images/train/1.jpg    labels/train/1.txt: one object a line, `class x y width height [x y visibility …]`

x y is the box's centre; all lengths are divided by the image's width or height. An image without a
label file is background. `write` writes
eight decimals: within 0.0001 px in an image of 10,000 px. The yaml states no `path`, so Ultralytics
and this reader start from the folder that it lies in, and the export can be moved.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml

from ..check import IMAGE_SUFFIXES, image_size, keep_good, progress
from ..records import (
    DetectionSet,
    Problems,
    Record,
    canonical_split,
    checked_flip,
    mirror,
    misplaced,
    natural,
    place,
    read_text,
    refuse,
    sort_splits,
    split_names,
)
from .export import Export, digits

NOT_SPLITS = {"path", "names", "nc", "kpt_shape", "flip_idx", "kpt_names", "download", "channels", "yaml_file"}
ROUNDING = 1e-3  # how far over 1 a normalised value may be: written with three decimals, it still is one


def read(
    data_yaml: str | Path, split: str = "train", *, class_names: Sequence[str] | None = None, on_bad: str = "fail"
) -> DetectionSet:
    """Read one split.

    Args:
        data_yaml: the file, or the folder that holds data.yaml.
        split: train, validation (`val`), test, or any other key of the yaml that names images.
        class_names: refuse a file whose names are not these.
        on_bad: "fail" raises `DataError` at the first problem, "skip" leaves the object or image
            out and lists it.
    """
    path = Path(data_yaml)
    path = path / "data.yaml" if path.is_dir() else path
    data = load_yaml(path)
    problems = Problems(on_bad)
    names = _class_names(path, data)
    if class_names and tuple(class_names) != names:
        refuse(
            path,
            f"its classes are {', '.join(names)}",
            f"The description says {', '.join(class_names)}: correct one of the two.",
        )
    keypoint_names, dimensions, flip_index = _keypoints(path, data)
    columns = 5 + len(keypoint_names) * dimensions
    images = _images(path, data, split, problems)
    labels = {image: _label_file(image) for image in images}
    if not any(label.is_file() for label in labels.values()):
        _no_labels(list(labels.items()))
    records = []
    for image, label in progress(list(labels.items()), f"reading {split}"):
        size = image_size(image, problems)
        if size is None:
            continue
        classes, boxes, points, lines = [], [], [], []
        source = label if label.is_file() else None  # an image without one is background
        text = read_text(source, problems) if source else ""
        if text is None:
            continue
        for line, row in enumerate(text.splitlines(), start=1):
            if row.strip():
                complaint = _read_row(row.split(), names, columns, dimensions, size, classes, boxes, points)
                if complaint:
                    problems.add(label, *complaint, line=line)
                else:
                    lines.append(line)

        def locate(i: int, label: Path = label, lines: list[int] = lines) -> str:
            return place(label, lines[i])

        records.append(
            Record(image, size, *keep_good(classes, boxes, points, len(keypoint_names), size, problems, locate), source)
        )
    name = path.resolve().parent.name if path.stem == "data" else path.stem
    return DetectionSet(
        name, names, records, keypoint_names, flip_index, problems=problems.close(), split=canonical_split(split)
    )


def splits(data_yaml: str | Path) -> list[str]:
    """The splits that a data.yaml names, by our names."""
    path = Path(data_yaml)
    data = load_yaml(path / "data.yaml" if path.is_dir() else path)
    return sort_splits(key for key, value in data.items() if key not in NOT_SPLITS and isinstance(value, (str, list)))


def write(sets: DetectionSet | Sequence[DetectionSet], folder: str | Path) -> Path:
    """Write one set or several splits into a new folder that Ultralytics trains on; images are
    linked. Returns its data.yaml.
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
    # Ultralytics opens no yaml without both of these; where one was not exported, the other stands
    # in for it.
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


def load_yaml(path: Path) -> dict:
    """A YAML file that holds a mapping."""
    if not path.is_file():
        refuse(path, "there is no such file", "Correct the path.")
    try:
        data = yaml.safe_load(read_text(path))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        refuse(
            path,
            f"this is not sound YAML ({error.problem})",
            "Correct this line.",
            line=mark.line + 1 if mark else None,
        )
    if not isinstance(data, dict):
        refuse(path, "this YAML file holds no keys", "Write at least train, val and names.")
    return data


def _line_of_key(path: Path, key: str) -> int | None:
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
        if sorted(names) != list(range(len(names))):
            remedy = "Number the names 0, 1, 2, … without gaps."
            refuse(path, f"names are numbered {', '.join(map(str, names))}", remedy, line=_line_of_key(path, "names"))
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list) or not names:
        refuse(
            path,
            "there are no class names",
            "Add `names:` with one name for each class number.",
            line=_line_of_key(path, "names"),
        )
    if data.get("nc", len(names)) != len(names):
        what = f"nc is {data['nc']} but there are {len(names)} names"
        refuse(path, what, "Correct one of them, or delete nc.", line=_line_of_key(path, "nc"))
    return tuple(str(name) for name in names)


def _keypoints(path: Path, data: dict) -> tuple[tuple[str, ...], int, tuple[int, ...]]:
    """(keypoint names, columns for each keypoint, flip index)."""
    if not data.get("kpt_shape"):
        return (), 0, ()
    count, dimensions = data["kpt_shape"]
    names = data.get("kpt_names") or {}
    names = names.get(0, ()) if isinstance(names, dict) else names
    names = tuple(names) if len(names) == count else tuple(f"keypoint {k}" for k in range(count))
    return (
        names,
        dimensions,
        checked_flip(place(path, _line_of_key(path, "flip_idx")), data.get("flip_idx") or mirror(names), names),
    )


def _images(path: Path, data: dict, split: str, problems: Problems) -> list[Path]:
    """The images of one split: from folders, searched through, or from lists."""
    key = next((name for name in (*split_names(split), split) if data.get(name)), None)
    if key is None:
        what = f"it names no images for the split '{split}'; looked for {', '.join(split_names(split))}"
        refuse(path, what, f"It has: {', '.join(splits(path))}.")
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
    here = path.resolve().parent if path.is_symlink() else path.parent
    if not data.get("path"):
        return here
    for root in (here / data["path"], Path(data["path"])):
        if root.is_dir():
            return root
    remedy = f"Correct it, or delete this line: paths then start from {here}."
    refuse(path, f"the folder of `path: {data['path']}` does not exist", remedy, line=_line_of_key(path, "path"))


def _searched(folder: Path, problems: Problems) -> list[Path]:
    images = sorted(
        (file for file in folder.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES),
        key=lambda file: natural(str(file)),
    )
    if not images:
        what = f"0 images found under this folder; looked for {', '.join('*' + suffix for suffix in IMAGE_SUFFIXES)}"
        refuse(folder, what, f"It holds {_kinds(folder)}. Give the folder of the images.")
    expected = {_label_file(image) for image in images}
    for parent in dict.fromkeys(label.parent for label in expected):
        for label in sorted(parent.glob("*.txt")):
            if label not in expected and label.name != "classes.txt" and parent != folder:
                what = f"its image is missing: no {label.stem}.jpg under {folder}"
                problems.add(label, what, "Put the image there, or delete this label file.")
    return images


def _listed(file: Path, root: Path, problems: Problems) -> list[Path]:
    """The images that a .txt lists, one a line, relative to the list (`./…`) or to the root."""
    seen: dict[Path, int] = {}
    for line, text in enumerate(read_text(file).splitlines(), start=1):
        entry = text.strip()
        if not entry:
            continue
        image = file.parent / entry if entry.startswith("./") else root / entry
        if not image.is_file():
            problems.add(file, *misplaced(entry, root), line=line)
        elif image in seen:
            problems.add(
                file,
                f"'{entry}' is listed twice, first on line {seen[image]}",
                "Delete one of the two lines.",
                line=line,
            )
        else:
            seen[image] = line
    return list(seen)


def _label_file(image: Path) -> Path:
    """The last folder called images becomes labels, and the suffix .txt: Ultralytics' rule."""
    parts = list(image.parts)
    for at in range(len(parts) - 2, -1, -1):
        if parts[at] == "images":
            parts[at] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def _no_labels(pairs: list[tuple[Path, Path]]) -> None:
    if not pairs:
        return  # every entry was a problem already
    image, label = pairs[0]
    folder = label.parent
    there = f"That folder holds {_kinds(folder)}" if folder.is_dir() else "That folder does not exist"
    refuse(
        folder,
        f"0 labels found under this folder for {len(pairs)} images; looked for {label.name} beside {image}, and so on",
        f"{there}. Put one .txt for each image there, with the image's name.",
    )


def _kinds(folder: Path) -> str:
    counts = Counter(file.suffix or "unnamed" for file in folder.iterdir() if file.is_file())
    return (
        ", ".join(f"{count} {suffix} file{'s' * (count > 1)}" for suffix, count in counts.most_common(3)) or "no files"
    )


def _read_row(
    cells: list[str],
    names: Sequence[str],
    columns: int,
    dimensions: int,
    size: tuple[int, int],
    classes: list,
    boxes: list,
    points: list,
) -> tuple[str, str] | None:
    """Append one object to the three lists, or say what is wrong and the remedy."""
    form = "class x y width height" + (
        f" and {(columns - 5) // dimensions} keypoints of {dimensions} numbers" if dimensions else ""
    )
    if len(cells) != columns:
        polygons = " If these are polygons, convert them to boxes; if keypoints, state kpt_shape in data.yaml."
        hint = polygons if not dimensions and len(cells) > 6 else ""
        return f"{len(cells)} columns where {columns} are expected", f"Write {form}.{hint}"
    try:
        number, *values = (float(cell) for cell in cells)
    except ValueError as error:
        return f"{str(error).split(': ')[-1]} is not a number", f"Write {form}, all as numbers with a decimal point."
    if number not in range(len(names)):
        known = f"data.yaml has {len(names)} names, so classes are 0 … {len(names) - 1}"
        return f"class {cells[0]} is out of range", f"{known}; correct the class, or add its name."
    if not all(map(math.isfinite, values)):
        bad = next(cell for cell, value in zip(cells[1:], values, strict=True) if not math.isfinite(value))
        return f"{bad} is not a finite number", "Write the number that belongs there, or delete the line."
    lengths = values[:4]
    pose = np.array(values[4:]).reshape(-1, dimensions) if dimensions else np.zeros((0, 3))
    if dimensions == 2:  # no visibility: a point at 0 0 is absent
        pose = np.column_stack([pose, np.where(pose.any(axis=1), 2, 0)])
    largest = max([*lengths, *pose[:, :2].ravel()])
    if largest > 1 + ROUNDING:
        width, height = size
        what = f"{largest:g} is not between 0 and 1: looks like pixels"
        return what, f"Divide by the image's width and height: x and width by {width}, y and height by {height}."
    x, y, across, down = (value * scale for value, scale in zip(lengths, (*size, *size), strict=True))
    classes.append(int(number))
    boxes.append([x - across / 2, y - down / 2, x + across / 2, y + down / 2])
    points.append(pose * [*size, 1])
    return None
