"""Images and their objects: drawn (planes), read, checked, written, augmented and loaded.

    train = yolostudy.data.open_set("planes-mini", split="train", classes="base")
    yolostudy.data.write([train, validation], "exports/planes", format="yolo")

Importing this package costs nothing. A reader is imported when it is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from .sources import DATASETS, FORMATS, Source, datasets_folder, describe, find

if TYPE_CHECKING:
    from .records import DetectionSet

__all__ = ["DATASETS", "FORMATS", "Source", "datasets_folder", "describe", "find", "open_set", "splits", "write"]


def open_set(
    spec: str | Path, split: str = "train", *, classes: str | Sequence[str] | None = None, on_bad: str = "fail"
) -> DetectionSet:
    """Read and check one split of a set.

    Args:
        spec: a name under datasets/ ("planes-mini", "mar20"), a folder, a description, a COCO json,
            or a YOLO data.yaml.
        split: train, validation, test or small.
        classes: the classes to keep, numbered in this order: names, "A1,A2", or a group of the
            description ("base"). Images that show none of them are left out.
        on_bad: "fail" raises `DataError` at the first problem. "skip" leaves bad objects and images
            out and lists them in `.problems`.
    """
    source = describe(spec)
    reader = _format(source.format)
    found = reader.read(source.path, split=split, class_names=source.class_names or None, on_bad=on_bad)
    if classes is None:
        return found
    if isinstance(classes, str):
        classes = source.groups.get(classes) or [name.strip() for name in classes.split(",")]
    chosen = found.select(classes)
    if not chosen.records:
        from .records import refuse

        what = f"none of the {len(found)} images of {split} shows {', '.join(classes)}"
        refuse(source.path, what, "Choose other classes.")
    return chosen


def splits(spec: str | Path) -> list[str]:
    """The splits of a set, by our names, train first."""
    source = describe(spec)
    return _format(source.format).splits(source.path)


def write(sets: DetectionSet | Sequence[DetectionSet], folder: str | Path, format: str) -> Path:
    """Write one set, or several splits of it, into a new folder as voc, coco or yolo.

    Returns what `open_set` opens.
    """
    if format not in FORMATS:
        from .records import DataError

        raise DataError(f"The format {format!r} is unknown. Known are: {', '.join(FORMATS)}.")
    return _format(format).write(sets, folder)


def _format(name: str) -> ModuleType:
    """The module of a format; it offers `read`, `splits` and `write`."""
    return import_module(f".formats.{name}", __name__)
