"""Sets of images and their objects: what every reader returns and every writer takes.

Boxes are `xyxy` in pixels of the stored image, float32. Classes are indices into `class_names`. The
readers are in `formats/`. Each of them checks what it reads, and says what is wrong in one sentence
that names file, line and remedy.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NoReturn

import numpy as np

# For each split the names that people give its file. The first one is ours.
SPLIT_NAMES = {
    "train": ("train",),
    "validation": ("validation", "val", "valid"),
    "test": ("test",),
    "small": ("small",),
}


class DataError(ValueError):
    """Something in a data set is wrong. The message says what, where, and what to do."""


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """One image and its objects.

    Attributes:
        image: path of the image file.
        size: (width, height) in pixels.
        boxes: (n, 4) float32, x1 y1 x2 y2 in pixels.
        classes: (n,) int64, indices into the set's class names.
        keypoints: (n, K, 3) float32, x y in pixels and visibility (0 absent, 1 occluded, 2
            visible), or None.
        source: the annotation file that this was read from.
    """

    image: Path
    size: tuple[int, int]
    boxes: np.ndarray
    classes: np.ndarray
    keypoints: np.ndarray | None = None
    source: Path | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in a data set, and what to do about it."""

    where: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}. {self.remedy}"


def place(where: Path | str, line: int | None = None) -> str:
    """`FILE:LINE`, or `FILE` if no line is given."""
    return f"{where}:{line}" if line else str(where)


def refuse(where: Path | str, what: str, remedy: str, *, line: int | None = None) -> NoReturn:
    """Raise `DataError` for something that concerns the whole set, whatever `on_bad` says."""
    raise DataError(str(Problem(place(where, line), what, remedy)))


class Problems:
    """Collects what is wrong while a set is read, so that the number of problems can be said.

    Args:
        on_bad: "fail" makes `close` raise the first problem. "skip" makes it return the list; the
            reader has then left out the bad objects and images.

    Attributes:
        found: the problems.
        warnings: what looks like a mistake but may be right. It is kept in the set, and raises
            nothing.
    """

    def __init__(self, on_bad: str = "fail"):
        if on_bad not in ("fail", "skip"):
            raise DataError(f"on_bad is {on_bad!r}. It must be 'fail' or 'skip'.")
        self.on_bad = on_bad
        self.found: list[Problem] = []
        self.warnings: list[Problem] = []

    def add(self, where: Path | str, what: str, remedy: str, *, line: int | None = None) -> None:
        self.found.append(Problem(place(where, line), what, remedy))

    def warn(self, where: Path | str, what: str, remedy: str) -> None:
        self.warnings.append(Problem(str(where), what, remedy))

    def close(self) -> list[Problem]:
        """The problems. With `on_bad="fail"`, raise the first one and count the others."""
        if self.found and self.on_bad == "fail":
            others = len(self.found) - 1
            count = f"{others} more problem{'s' if others > 1 else ''}"
            more = f" ({count} in this set; on_bad=skip leaves them out and lists them.)" if others else ""
            raise DataError(f"{self.found[0]}{more}")
        return self.found


@dataclass(frozen=True, slots=True)
class DetectionSet:
    """A named list of records with one vocabulary of classes and, for pose, of keypoints."""

    name: str
    class_names: tuple[str, ...]
    records: list[Record]
    keypoint_names: tuple[str, ...] = ()
    flip_index: tuple[int, ...] = ()  # in a mirrored image, keypoint k takes the place of flip_index[k]
    problems: list[Problem] = field(default_factory=list)  # what `on_bad="skip"` left out
    split: str = "train"
    warnings: list[Problem] = field(default_factory=list)  # kept, but perhaps not as it was meant

    def __len__(self) -> int:
        return len(self.records)

    @property
    def object_count(self) -> int:
        return sum(len(record.classes) for record in self.records)

    def select(self, names: Sequence[str]) -> DetectionSet:
        """Keep the named classes, numbered in the given order, and the images that show one."""
        unknown = [name for name in names if name not in self.class_names]
        if unknown:
            raise DataError(
                f"{self.name}: unknown class {', '.join(unknown)}. Known classes: {', '.join(self.class_names)}."
            )
        number = np.full(len(self.class_names), -1)
        number[[self.class_names.index(name) for name in names]] = np.arange(len(names))
        records = []
        for record in self.records:
            chosen = number[record.classes] >= 0
            if chosen.any():
                keypoints = None if record.keypoints is None else record.keypoints[chosen]
                boxes, classes = record.boxes[chosen], number[record.classes[chosen]]
                records.append(replace(record, boxes=boxes, classes=classes, keypoints=keypoints))
        return replace(self, class_names=tuple(names), records=records)


# Names


def natural(text: str) -> list[tuple[int, int, str]]:
    """A sort key under which A2 comes before A10."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", text) if part]


def canonical_split(name: str) -> str:
    """Our name of a split: `validation` for `val` and `valid`."""
    return next((ours for ours, names in SPLIT_NAMES.items() if name in names), name)


def split_names(name: str) -> tuple[str, ...]:
    """The names that the file of a split may have, the most likely first."""
    return SPLIT_NAMES.get(canonical_split(name), (name,))


def sort_splits(names: Iterable[str]) -> list[str]:
    """Our names of these splits, each once, train first."""
    order = [*SPLIT_NAMES]
    return sorted(
        {canonical_split(name) for name in names},
        key=lambda name: (order.index(name) if name in order else len(order), name),
    )
