"""Images and their objects: made (planes), read, checked, written, augmented, loaded.

    train = yolostudy.data.open_set("planes-mini", split="train", classes="base")
    yolostudy.data.write([train, validation], "exports/planes", format="yolo")

Importing this package costs nothing; a reader is imported when it is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .records import DetectionSet

FORMATS = ("voc", "coco", "yolo")
DATASETS = Path(__file__).resolve().parents[2] / "datasets"  # the repository's; in an installed package it is not there


@dataclass(frozen=True)
class Source:
    """Where a set lies and what is said about it: one of datasets/*.yaml, or what a folder or file
    tells by itself.

    Attributes:
        path: what the format's reader opens: a folder, a COCO json or a data.yaml.
        format: voc, coco or yolo.
        class_names: the vocabulary in order, or empty to take it from the data.
        groups: names for selections of classes, such as base and novel.
    """

    name: str
    path: Path
    format: str
    class_names: tuple[str, ...] = ()
    groups: dict[str, tuple[str, ...]] = field(default_factory=dict)


def open_set(
    spec: str | Path, split: str = "train", *, classes: str | Sequence[str] | None = None, on_bad: str = "fail"
) -> DetectionSet:
    """Read and check one split of a set.

    Args:
        spec: a name under datasets/ ("planes-mini", "mar20"), a folder, a description, a COCO json,
            or a YOLO data.yaml.
        split: train, validation, test or small.
        classes: the classes to keep, renumbered in this order: names, "A1,A2", or a group of the
            description ("base"). Images that show none of them are left out.
        on_bad: "fail" raises `DataError` at the first problem; "skip" leaves bad objects and images
            out and lists them in `.problems`.
    """
    source = describe(spec)
    options = {"on_bad": on_bad, "class_names": source.class_names or None}
    found = _reader(source.format).read(source.path, split=split, **options)
    if classes is None:
        return found
    if isinstance(classes, str):
        classes = source.groups.get(classes) or [name.strip() for name in classes.split(",")]
    chosen = found.select(classes)
    if not chosen.records:
        from .records import DataError

        raise DataError(
            f"{source.path}: none of the {len(found)} images of {split} shows {', '.join(classes)}. Choose other "
            "classes."
        )
    return chosen


def splits(spec: str | Path) -> list[str]:
    """The splits that a set has, by our names, train first."""
    source = describe(spec)
    return _reader(source.format).splits(source.path)


def write(sets: DetectionSet | Sequence[DetectionSet], folder: str | Path, format: str) -> Path:
    """Write one set or several splits of it into a new folder as voc, coco or yolo.

    Returns what `open_set` and others open.
    """
    if format not in FORMATS:
        from .records import DataError

        raise DataError(f"The format {format!r} is unknown. Known are: {', '.join(FORMATS)}.")
    return _reader(format).write(sets, folder)


def describe(spec: str | Path) -> Source:
    """Find what `spec` names and in which format it is."""
    from .records import misplaced, refuse

    path = Path(spec)
    shelves = [Path("datasets"), DATASETS]
    candidates = [path, *(shelf / spec for shelf in shelves), *(shelf / f"{spec}.yaml" for shelf in shelves)]
    found = next((candidate for candidate in candidates if candidate.exists()), None)
    if found is None:
        if path.is_absolute():
            refuse(spec, *misplaced(str(spec), Path.cwd()))
        there = [file for shelf in shelves for file in (*shelf.glob("*.yaml"), *shelf.glob("planes-*"))]
        known = sorted({file.stem for file in there})
        make = (
            f"Make it: yolostudy data planes profile={path.name.removeprefix('planes-')}. "
            if path.name.startswith("planes-")
            else ""
        )
        refuse(
            spec,
            "there is no such set, folder or file",
            f"{make}Known under datasets/: {', '.join(known) or 'nothing'}.",
        )
    if found.suffix in (".yaml", ".yml"):
        from .formats.yolo import load_yaml

        stated = load_yaml(found)
        return _described(found, stated) if "format" in stated else Source(found.stem, found, "yolo")
    if found.suffix == ".json":
        return Source(found.stem, found, "coco")
    return _folder(found, shelves)


def _reader(format: str):
    return import_module(f".formats.{format}", __name__)


def _described(file: Path, stated: dict) -> Source:
    """The source of a description; its root is the first that exists, beside it or under datasets/
    of the working directory.
    """
    from .records import misplaced, refuse

    if stated["format"] not in FORMATS:
        refuse(file, f"the format {stated['format']!r} is unknown", f"Known are: {', '.join(FORMATS)}.")
    roots = _roots(stated)
    for root in roots:
        for base in (file.parent, Path("datasets")):
            if (base / root).exists():
                return _source(base / root, stated)
    what, remedy = (
        misplaced(roots[0], file.parent) if roots else ("it has no root", "Add `root:`, the folder of the data.")
    )
    refuse(file, what, f"{remedy} The comments in this file say how to get the data.")


def _folder(folder: Path, shelves: Sequence[Path]) -> Source:
    """A folder's format by what is in it; what a description that names it as a root says of it."""
    from .formats.yolo import load_yaml

    for shelf in (folder.resolve().parent, *shelves):
        for file in sorted(shelf.glob("*.yaml")):
            stated = load_yaml(file)
            if "format" in stated and folder.name in _roots(stated):
                return _source(folder, stated)
    if (folder / "data.yaml").is_file():
        return Source(folder.name, folder, "yolo")
    return Source(folder.name, folder, "coco" if any((folder / "annotations").glob("*.json")) else "voc")


def _roots(stated: dict) -> list[str]:
    root = stated.get("root") or []
    return root if isinstance(root, list) else [root]


def _source(path: Path, stated: dict) -> Source:
    groups = {name: tuple(classes) for name, classes in (stated.get("groups") or {}).items()}
    return Source(stated.get("name", path.name), path, stated["format"], tuple(stated.get("class_names") or ()), groups)
