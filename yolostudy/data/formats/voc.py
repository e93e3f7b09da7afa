"""Pascal VOC, in the course's layout and in that of the MAR20 release.

    the course's: images/1.jpg  annotations/1.xml  splits/train.txt  classes.json (optional)
    MAR20's: JPEGImages/1.jpg  Annotations/Horizontal Bounding Boxes/1.xml  ImageSets/Main/train.txt

A split file has one image name a line.

An object is `<name>` and `<bndbox>` with `<xmin> <ymin> <xmax> <ymax>`, in pixels, taken as they
are: no 1 is subtracted. An object may carry `<keypoints><keypoint name="nose" x="12.5" y="40"
visible="2"/></keypoints>`. `write` gives three decimals, within 0.0005 px.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path
from xml.parsers import expat

import numpy as np

from ..check import IMAGE_SUFFIXES, image_size, progress
from ..keypoints import checked_flip, checked_names, mirror, warn_of_flip
from ..reading import Complaint, Objects, check_class_names, load_json, read_text, refuse_empty, refuse_split, suggest
from ..records import (
    DataError,
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

# Possible names, the more special first: a file system that ignores case takes "annotations" for
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
        class_names: the vocabulary. A classes.json or planes.json that names other classes is
            refused. Without either, the classes are the names in all annotations, sorted, A2 before
            A10.
        on_bad: "fail" raises `DataError` at the first problem. "skip" leaves the object or image
            out and lists it.
    """
    root = Path(root)
    problems = Problems(on_bad)
    folder = _folder(root, IMAGES, "images")
    images = _by_stem(folder, IMAGE_SUFFIXES, "images")
    annotations = _by_stem(_folder(root, ANNOTATIONS, "annotations"), (".xml",), "labels")
    names, keypoint_names, flip_index = _vocabulary(root, annotations, class_names, problems)
    numbers = {name: number for number, name in enumerate(names)}
    records = []
    for stem, where in progress(_entries(root, split, images, annotations, problems), f"reading {split}"):
        if stem not in images:
            what = f"its image is missing: no {stem}.jpg in {folder}"
            problems.add(annotations[stem], what, f"Put the image there, or delete the entry at {where}.")
        elif stem not in annotations:
            remedy = (
                "Put the annotation there (an image without objects has one without <object>), or delete the entry at "
                f"{where}."
            )
            problems.add(images[stem], f"its annotation is missing: no {stem}.xml", remedy)
        else:
            record = _record(images[stem], annotations[stem], numbers, keypoint_names, problems)
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
        warnings=problems.warnings,
    )


def splits(root: str | Path) -> list[str]:
    """The splits of a folder, by our names."""
    return sort_splits(path.stem for path in _folder(Path(root), SPLITS, "split files").glob("*.txt"))


def write(sets: DetectionSet | Sequence[DetectionSet], folder: str | Path) -> Path:
    """Write one set, or several splits of it, into a new folder in the course's layout.

    Images are linked. Returns the folder.
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


# Folders and lists


def _folder(root: Path, names: Sequence[str], what: str) -> Path:
    """The first of these folders that the root has."""
    if not root.is_dir():
        refuse(root, "there is no such folder", "Correct the path, or make the data first (yolostudy data planes).")
    for name in names:
        if (root / name).is_dir():
            return root / name
    inner = [path.parent for name in names for path in root.glob(f"*/{name.split('/')[0]}")]
    there = ", ".join(sorted(path.name for path in root.iterdir() if path.is_dir())) or "no folder"
    hint = (
        f"They seem to lie one folder deeper: give {inner[0]}."
        if inner
        else f"It holds {there}: rename that, or give the right folder."
    )
    refuse(root, f"there is no folder of {what} here; looked for {', '.join(names)}", hint)


def _by_stem(folder: Path, suffixes: Sequence[str], what: str) -> dict[str, Path]:
    """The files with these suffixes, by name without suffix."""
    found = {path.stem: path for path in folder.iterdir() if path.suffix.lower() in suffixes}
    if not found:
        looked_for = ", ".join("*" + suffix for suffix in suffixes)
        refuse_empty(folder, what, looked_for, "Give the right folder, or convert what is there.")
    return found


def _vocabulary(
    root: Path, annotations: dict[str, Path], class_names: Sequence[str] | None, problems: Problems
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[int, ...]]:
    """(class names, keypoint names, flip index).

    Where no file states them, they come from all annotations, not only from those of one split, so
    that all splits agree.
    """
    for name in VOCABULARY:
        file = root / name
        if file.is_file():
            stated = load_json(file, "Write class_names into it, or delete it to take the names from the annotations.")
            keypoint_names = checked_names(_at_key(file, "keypoint_names"), stated.get("keypoint_names") or ())
            flip_index = checked_flip(_at_key(file, "flip_index"), stated.get("flip_index"), keypoint_names)
            warn_of_flip(_at_key(file, "flip_index"), keypoint_names, flip_index, problems)
            check_class_names(file, stated["class_names"], class_names)
            return tuple(stated["class_names"]), keypoint_names, flip_index
    found, keypoint_names = set(), {}
    for path in annotations.values():
        try:
            tree = ElementTree.parse(path).getroot()
        except ElementTree.ParseError:
            continue  # `_record` reports it, if its image is in this split
        found.update(
            name.strip() for name in (thing.findtext("name") for thing in tree.iter("object")) if name and name.strip()
        )
        keypoint_names.update(dict.fromkeys(point.get("name", "") for point in tree.iter("keypoint")))
    keypoint_names = tuple(keypoint_names)
    warn_of_flip(root, keypoint_names, mirror(keypoint_names), problems)
    return tuple(class_names or sorted(found, key=natural)), keypoint_names, mirror(keypoint_names)


def _at_key(file: Path, key: str) -> str:
    """`FILE:LINE` of a key in a JSON file."""
    lines = enumerate(read_text(file).splitlines(), start=1)
    return place(file, next((line for line, text in lines if f'"{key}"' in text), None))


def _entries(root: Path, split: str, images: dict, annotations: dict, problems: Problems) -> list[tuple[str, str]]:
    """(image name without suffix, FILE:LINE) of each good line of a split file."""
    if split == "all":
        return [(stem, str(annotations[stem])) for stem in sorted(annotations, key=natural)]
    folder = _folder(root, SPLITS, "split files")
    file = next((folder / f"{name}.txt" for name in split_names(split) if (folder / f"{name}.txt").is_file()), None)
    if file is None:
        refuse_split(folder, split, [f"{split}.txt"], [path.stem for path in sorted(folder.glob("*.txt"))])
    found: dict[str, str] = {}
    for line, text in enumerate(read_text(file).splitlines(), start=1):
        if entry := text.strip():
            try:
                stem = _stem(entry, root, images, annotations)
                if stem in found:
                    first = Path(found[stem]).name
                    raise Complaint(f"'{entry}' is listed twice, first at {first}", "Delete one of the two lines.")
                found[stem] = place(file, line)
            except Complaint as complaint:
                problems.add(file, complaint.what, complaint.remedy, line=line)
    return list(found.items())


def _stem(entry: str, root: Path, images: dict, annotations: dict) -> str:
    """The image name without suffix that an entry of a split file means. Raises Complaint."""
    name = Path(entry).name
    stem = name[: -len(Path(name).suffix)] if Path(name).suffix.lower() in (*IMAGE_SUFFIXES, ".xml") else name
    if Path(entry).is_absolute() or entry.startswith(("/", "\\")):
        stripped = entry.lstrip("/\\")
        remedy = (
            "remove the leading /."
            if (root / stripped).exists() or stripped == name
            else f"write only the image's name, {stem}."
        )
        raise Complaint(f"'{entry}' is an absolute path", f"Images are looked up relative to {root}; {remedy}")
    if stem not in images and stem not in annotations:
        remedy = f"Correct or delete the line. {suggest(stem, sorted(annotations, key=natural))}"
        raise Complaint(f"'{entry}' is the name of no image and of no annotation", remedy)
    if name != entry and not (root / entry).exists():
        raise Complaint(f"'{entry}' is not there", f"Write only the image's name, {stem}.")
    return stem


# One annotation file


def _record(
    image: Path, source: Path, numbers: dict[str, int], keypoint_names: tuple[str, ...], problems: Problems
) -> Record | None:
    """The image and its objects; None, and a problem, if the image or the file cannot be used."""
    size = image_size(image, problems)
    if not size:
        return None
    try:
        tree = ElementTree.parse(source).getroot()
    except ElementTree.ParseError as error:
        line, column = error.position
        what = f"this is not valid XML ({str(error).split(':')[0]}, column {column})"
        problems.add(source, what, "Repair or restore the file.", line=line)
        return None
    stated = tree.findtext("size/width"), tree.findtext("size/height")
    if all(stated) and tuple(text.strip() for text in stated) != (str(size[0]), str(size[1])):
        what = f"<size> says {stated[0]} × {stated[1]}, but {image.name} is {size[0]} × {size[1]}"
        remedy = (
            "If the image was resized, its boxes are wrong too: restore the image, or scale the boxes. If not, correct "
            "<size>."
        )
        problems.add(source, what, remedy, line=_line(source, "size"))
        return None
    objects = Objects(size, len(keypoint_names), problems, lambda i: place(source, _line(source, "bndbox", i)))
    for number, thing in enumerate(tree.iter("object")):
        try:
            objects.add(number, *_read_object(thing, numbers, keypoint_names))
        except Complaint as complaint:
            problems.add(source, complaint.what, complaint.remedy, line=_line(source, complaint.tag, number))
    return objects.record(image, source)


def _read_object(
    thing: ElementTree.Element, numbers: dict[str, int], keypoint_names: tuple[str, ...]
) -> tuple[int, list[float], np.ndarray]:
    """(class, x1 y1 x2 y2, keypoints) of an <object>. Raises Complaint."""
    class_name = (thing.findtext("name") or "").strip()
    if class_name not in numbers:
        what = f"unknown class '{class_name}'" if class_name else "an object without a name"
        remedy = f"Correct the <name>, or add it to the class names. {suggest(class_name, numbers)}"
        raise Complaint(what, remedy, "name")
    box = thing.find("bndbox")
    if box is None:
        remedy = "Add it. If these are oriented boxes (robndbox), give the folder of the horizontal ones."
        raise Complaint("an object without <bndbox>", remedy, "object")
    corners = []
    for tag in CORNERS:
        text = box.findtext(tag)
        try:
            corners.append(float(text))
        except (TypeError, ValueError):
            what = f"<bndbox> has no <{tag}>" if text is None else f"<{tag}> is {text!r}, which is not a number"
            remedy = "Write a number of pixels there, or delete the object."
            raise Complaint(what, remedy, "bndbox" if text is None else tag) from None
    pose = np.zeros((len(keypoint_names), 3))
    for point in thing.iterfind("keypoints/keypoint"):
        name = point.get("name")
        if name not in keypoint_names:
            remedy = f"Correct its name. {suggest(name or '', keypoint_names)}"
            raise Complaint(f"unknown keypoint '{name}'", remedy, "keypoints")
        try:
            pose[keypoint_names.index(name)] = [float(point.get(key)) for key in ("x", "y", "visible")]
        except (TypeError, ValueError):
            what = f"keypoint '{name}' lacks a number in x, y or visible"
            raise Complaint(what, "Write all three as numbers.", "keypoints") from None
    return numbers[class_name], corners, pose


def _line(path: Path, tag: str, number: int | None = None) -> int | None:
    """The line of the first `tag`, or of the first one in the object with this number.

    The fast parser does not keep lines, so the file is parsed again.
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
