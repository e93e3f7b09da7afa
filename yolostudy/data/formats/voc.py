"""Pascal VOC, in the course's layout and in that of the MAR20 release.

    images/1.jpg    annotations/1.xml    splits/train.txt (one image name a line)    classes.json (optional)
    JPEGImages/     Annotations/Horizontal Bounding Boxes/     ImageSets/Main/       the release of MAR20

An object is `<name>` and `<bndbox>` with `<xmin> <ymin> <xmax> <ymax>`, in pixels, taken as they
stand: no 1 is subtracted. An object may carry `<keypoints><keypoint name="nose" x="12.5" y="40"
visible="2"/></keypoints>`. `write` writes three decimals: within 0.0005 px.
"""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path
from xml.parsers import expat

import numpy as np

from ..check import IMAGE_SUFFIXES, image_size, keep_good, progress
from ..records import (
    DataError,
    DetectionSet,
    Problems,
    Record,
    canonical_split,
    checked_flip,
    mirror,
    natural,
    place,
    read_text,
    refuse,
    sort_splits,
    split_names,
    suggest,
)
from .export import Export, digits

# Alternatives, the more special first: a file system that ignores case takes "annotations" for
# "Annotations" too.
IMAGES = ("images", "JPEGImages")
ANNOTATIONS = ("Annotations/Horizontal Bounding Boxes", "annotations", "Annotations")
SPLITS = ("splits", "ImageSets/Main")
VOCABULARY = ("classes.json", "planes.json")  # class_names, keypoint_names, flip_index
CORNERS = ("xmin", "ymin", "xmax", "ymax")


def read(
    root: str | Path, split: str = "train", *, class_names: Sequence[str] | None = None, on_bad: str = "fail"
) -> DetectionSet:
    """Read one split.

    Args:
        root: the folder that holds images, annotations and splits.
        split: the name of a file in the splits folder; "all" takes every annotation.
        class_names: the vocabulary, refused if classes.json or planes.json states another. Without
            either, it is the names found in all annotations, sorted, A2 before A10.
        on_bad: "fail" raises `DataError` at the first problem, "skip" leaves the object or image
            out and lists it.
    """
    root = Path(root)
    problems = Problems(on_bad)
    folder = _folder(root, IMAGES, "images")
    images = _by_stem(folder, IMAGE_SUFFIXES, "images")
    annotations = _by_stem(_folder(root, ANNOTATIONS, "annotations"), (".xml",), "labels")
    names, keypoint_names, flip_index = _vocabulary(root, annotations, class_names)
    numbers = {name: number for number, name in enumerate(names)}
    records = []
    for stem, where in progress(_entries(root, split, images, annotations, problems), f"reading {split}"):
        if stem not in images:
            what = f"its image is missing: no {stem}.jpg in {folder}"
            problems.add(annotations[stem], what, f"Put the image there, or delete the entry at {where}.")
        elif stem not in annotations:
            problems.add(
                images[stem],
                f"its annotation is missing: no {stem}.xml",
                "Put the annotation there (one without <object> for an image that shows none), or delete the entry "
                f"at {where}.",
            )
        else:
            size = image_size(images[stem], problems)
            if size:
                record = _record(images[stem], size, annotations[stem], numbers, keypoint_names, problems)
                if record:
                    records.append(record)
    return DetectionSet(
        root.resolve().name,
        names,
        records,
        keypoint_names,
        flip_index,
        problems=problems.close(),
        split=canonical_split(split),
    )


def splits(root: str | Path) -> list[str]:
    """The splits of a folder, by our names."""
    return sort_splits(path.stem for path in _folder(Path(root), SPLITS, "split files").glob("*.txt"))


def write(sets: DetectionSet | Sequence[DetectionSet], folder: str | Path) -> Path:
    """Write one set or several splits into a new folder in the course's layout; images are linked.

    Returns the folder.
    """
    export = Export(sets, folder)
    written: dict[str, str] = {}
    for one in export.sets:
        for record in one.records:
            image = export.place(record.image, "images")
            text = _xml(record, image.name, one)
            if written.setdefault(image.stem, text) != text:
                raise DataError(
                    f"{record.image}: two splits hold different objects of this image. Write each split into its own "
                    "folder."
                )
            export.write(f"annotations/{image.stem}.xml", text)
        export.write(f"splits/{one.split}.txt", "".join(f"{export.stem(record.image)}\n" for record in one.records))
    vocabulary = {
        "class_names": export.class_names,
        "keypoint_names": export.keypoint_names,
        "flip_index": export.flip_index,
    }
    export.write_json("classes.json", vocabulary)
    for needed in ("images", "annotations"):  # an empty set is a set too
        (export.folder / needed).mkdir(exist_ok=True)
    return export.folder


def _folder(root: Path, alternatives: Sequence[str], what: str) -> Path:
    if not root.is_dir():
        refuse(root, "there is no such folder", "Correct the path, or make the data first (yolostudy data planes).")
    for name in alternatives:
        if (root / name).is_dir():
            return root / name
    inner = [path.parent for name in alternatives for path in root.glob(f"*/{name.split('/')[0]}")]
    there = ", ".join(sorted(path.name for path in root.iterdir() if path.is_dir())) or "no folder"
    hint = (
        f"They seem to lie one folder deeper: give {inner[0]}."
        if inner
        else f"It holds {there}: rename that, or give the right folder."
    )
    refuse(root, f"there is no folder of {what} here; looked for {', '.join(alternatives)}", hint)


def _by_stem(folder: Path, suffixes: Sequence[str], what: str) -> dict[str, Path]:
    found = {path.stem: path for path in folder.iterdir() if path.suffix.lower() in suffixes}
    if not found:
        others = sorted({path.suffix for path in folder.iterdir() if path.suffix})
        hint = f"It holds {', '.join(others)} files instead: convert them, or give" if others else "Give"
        refuse(
            folder,
            f"0 {what} found under this folder; looked for {', '.join('*' + suffix for suffix in suffixes)}",
            f"{hint} the right folder.",
        )
    return found


def _vocabulary(
    root: Path, annotations: dict[str, Path], class_names: Sequence[str] | None
) -> tuple[tuple, tuple, tuple]:
    """(class names, keypoint names, flip index).

    Taken from all annotations where nothing states it, so that all splits agree.
    """
    for name in VOCABULARY:
        file = root / name
        if file.is_file():
            try:
                stated = json.loads(read_text(file))
            except json.JSONDecodeError as error:
                remedy = "Correct it, or delete it to take the names from the annotations."
                refuse(file, f"this is not sound JSON ({error.msg})", remedy, line=error.lineno)
            keypoint_names = tuple(stated.get("keypoint_names", ()))
            flip_index = checked_flip(file, stated.get("flip_index") or mirror(keypoint_names), keypoint_names)
            if class_names and list(class_names) != stated["class_names"]:
                remedy = f"{', '.join(class_names)} was asked for: correct one of the two, or delete {name}."
                refuse(file, f"its classes are {', '.join(stated['class_names'])}", remedy)
            return tuple(stated["class_names"]), keypoint_names, flip_index
    found, keypoint_names = set(), {}
    for path in annotations.values():
        try:
            tree = ElementTree.parse(path).getroot()
        except ElementTree.ParseError:
            continue  # said when its image is read, if it is in this split
        found.update(
            name.strip() for name in (thing.findtext("name") for thing in tree.iter("object")) if name and name.strip()
        )
        keypoint_names.update(dict.fromkeys(point.get("name", "") for point in tree.iter("keypoint")))
    keypoint_names = tuple(keypoint_names)
    return tuple(class_names or sorted(found, key=natural)), keypoint_names, mirror(keypoint_names)


def _entries(root: Path, split: str, images: dict, annotations: dict, problems: Problems) -> list[tuple[str, str]]:
    """(image name without suffix, FILE:LINE) of each sound line of a split file."""
    if split == "all":
        return [(stem, str(annotations[stem])) for stem in sorted(annotations, key=natural)]
    folder = _folder(root, SPLITS, "split files")
    file = next((folder / f"{name}.txt" for name in split_names(split) if (folder / f"{name}.txt").is_file()), None)
    if file is None:
        there = [path.stem for path in sorted(folder.glob("*.txt"))]
        refuse(
            folder,
            f"there is no split '{split}' here; looked for {split}.txt",
            f"There are: {', '.join(there) or 'none'}.",
        )
    found: dict[str, str] = {}
    for line, text in enumerate(read_text(file).splitlines(), start=1):
        entry = text.strip()
        if not entry:
            continue
        name = Path(entry).name
        stem = name[: -len(Path(name).suffix)] if Path(name).suffix.lower() in (*IMAGE_SUFFIXES, ".xml") else name
        if Path(entry).is_absolute() or entry.startswith(("/", "\\")):
            stripped = entry.lstrip("/\\")
            remedy = f"Images are looked up relative to {root}; "
            remedy += (
                "remove the leading /."
                if (root / stripped).exists() or stripped == name
                else f"write only the image's name, {stem}."
            )
            problems.add(file, f"'{entry}' is an absolute path", remedy, line=line)
        elif stem not in images and stem not in annotations:
            near = suggest(stem, sorted(annotations, key=natural))
            problems.add(
                file,
                f"'{entry}' is the name of no image and of no annotation",
                f"Correct or delete the line. {near}",
                line=line,
            )
        elif name != entry and not (root / entry).exists():
            problems.add(file, f"'{entry}' is not there", f"Write only the image's name, {stem}.", line=line)
        elif stem in found:
            problems.add(
                file,
                f"'{entry}' is listed twice, first at {Path(found[stem]).name}",
                "Delete one of the two lines.",
                line=line,
            )
        else:
            found[stem] = place(file, line)
    return list(found.items())


def _record(
    image: Path,
    size: tuple[int, int],
    source: Path,
    numbers: dict[str, int],
    keypoint_names: tuple[str, ...],
    problems: Problems,
) -> Record | None:
    try:
        tree = ElementTree.parse(source).getroot()
    except ElementTree.ParseError as error:
        line, column = error.position
        what = f"this is not sound XML ({str(error).split(':')[0]}, column {column})"
        problems.add(source, what, "Repair or restore the file.", line=line)
        return None
    stated = tree.findtext("size/width"), tree.findtext("size/height")
    if all(stated) and tuple(text.strip() for text in stated) != (str(size[0]), str(size[1])):
        problems.add(
            source,
            f"<size> says {stated[0]} × {stated[1]} but {image.name} is {size[0]} × {size[1]}",
            "If the image was resized, its boxes are wrong too: restore the image or scale the boxes; if it was not, "
            "correct <size>.",
            line=_line(source, "size"),
        )
        return None
    classes, boxes, points, order = [], [], [], []
    for number, thing in enumerate(tree.iter("object")):
        complaint = _read_object(thing, numbers, keypoint_names, classes, boxes, points)
        if complaint:
            what, remedy, tag = complaint
            problems.add(source, what, remedy, line=_line(source, tag, number))
        else:
            order.append(number)

    def locate(i: int) -> str:
        return place(source, _line(source, "bndbox", order[i]))

    return Record(image, size, *keep_good(classes, boxes, points, len(keypoint_names), size, problems, locate), source)


def _read_object(
    thing, numbers: dict, keypoint_names: tuple, classes: list, boxes: list, points: list
) -> tuple[str, str, str] | None:
    """Append one object to the three lists; or say what is wrong, the remedy, and in which tag."""
    name = (thing.findtext("name") or "").strip()
    if name not in numbers:
        what = f"unknown class '{name}'" if name else "an object without a name"
        return what, f"Correct the <name>, or add it to the class names. {suggest(name, numbers)}", "name"
    box = thing.find("bndbox")
    if box is None:
        remedy = "Add it; if these are oriented boxes (robndbox), give the folder of the horizontal ones."
        return "an object without <bndbox>", remedy, "object"
    corners = []
    for tag in CORNERS:
        text = box.findtext(tag)
        try:
            corners.append(float(text))
        except (TypeError, ValueError):
            what = f"<bndbox> has no <{tag}>" if text is None else f"<{tag}> is {text!r}, which is not a number"
            return what, "Write a number of pixels there, or delete the object.", "bndbox" if text is None else tag
    pose = np.zeros((len(keypoint_names), 3))
    for point in thing.iterfind("keypoints/keypoint"):
        if point.get("name") not in keypoint_names:
            known = suggest(point.get("name") or "", keypoint_names)
            return f"unknown keypoint '{point.get('name')}'", f"Correct its name. {known}", "keypoints"
        try:
            pose[keypoint_names.index(point.get("name"))] = [float(point.get(key)) for key in ("x", "y", "visible")]
        except (TypeError, ValueError):
            return (
                f"keypoint '{point.get('name')}' lacks a number in x, y or visible",
                "Write all three as numbers.",
                "keypoints",
            )
    classes.append(numbers[name])
    boxes.append(corners)
    points.append(pose)
    return None


def _line(path: Path, tag: str, number: int | None = None) -> int | None:
    """The line of the first `tag`, or of that in the object with this number.

    The fast parser keeps no lines: the file is parsed again.
    """
    parser, objects, found = expat.ParserCreate(), [], []

    def start(name: str, _: dict) -> None:
        if name == "object":
            objects.append(parser.CurrentLineNumber)
        if name == tag and (number is None or len(objects) == number + 1):
            found.append(parser.CurrentLineNumber)

    parser.StartElementHandler = start
    parser.Parse(path.read_bytes(), True)
    return found[0] if found else objects[number] if number is not None else None


def _xml(record: Record, image_name: str, one: DetectionSet) -> str:
    root = ElementTree.Element("annotation")
    ElementTree.SubElement(root, "filename").text = image_name
    size = ElementTree.SubElement(root, "size")
    for tag, value in zip(("width", "height", "depth"), (*record.size, 3), strict=True):
        ElementTree.SubElement(size, tag).text = str(value)
    for i, (number, corners) in enumerate(zip(record.classes.tolist(), record.boxes.tolist(), strict=True)):
        thing = ElementTree.SubElement(root, "object")
        ElementTree.SubElement(thing, "name").text = one.class_names[number]
        box = ElementTree.SubElement(thing, "bndbox")
        for tag, value in zip(CORNERS, corners, strict=True):
            ElementTree.SubElement(box, tag).text = digits(value, 3)
        if record.keypoints is not None:
            pose = ElementTree.SubElement(thing, "keypoints")
            for name, (x, y, visible) in zip(one.keypoint_names, record.keypoints[i].tolist(), strict=True):
                ElementTree.SubElement(
                    pose, "keypoint", name=name, x=digits(x, 3), y=digits(y, 3), visible=str(int(visible))
                )
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"
