"""What the writers of all formats share: a new folder, names of images, and numbers as text."""

from __future__ import annotations

import filecmp
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from ..records import DataError, DetectionSet


def digits(value: float, places: int) -> str:
    """A number with at most `places` decimals and without trailing zeros."""
    return f"{value:.{places}f}".rstrip("0").rstrip(".")


class Export:
    """An empty folder to write sets into. Each image gets a name that no other image in it has.

    Args:
        sets: one set, or several splits with the same vocabulary.
        folder: a new or empty folder.
    """

    def __init__(self, sets: DetectionSet | Sequence[DetectionSet], folder: str | Path):
        self.sets = [sets] if isinstance(sets, DetectionSet) else list(sets)
        self.folder = Path(folder)
        if not self.sets:
            raise DataError("There is no set to write. Give one set, or several splits of it.")
        first = self.sets[0]
        self.class_names, self.keypoint_names = first.class_names, first.keypoint_names
        self.flip_index = first.flip_index
        for other in self.sets[1:]:
            if (other.class_names, other.keypoint_names) != (first.class_names, first.keypoint_names):
                what = f"{other.name}: {other.split} has other class or keypoint names than {first.split}"
                raise DataError(f"{what}. Write it into its own folder.")
        splits = [one.split for one in self.sets]
        if len(set(splits)) < len(splits):
            raise DataError(f"Two sets are both called {max(splits, key=splits.count)}. Give each its own split name.")
        if self.folder.exists() and any(self.folder.iterdir()):
            # The files of an earlier export would become part of this one.
            raise DataError(f"{self.folder}: this folder is not empty. Name a new one, or delete it first.")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.stems: dict[Path, str] = {}
        self._taken: dict[str, Path] = {}

    def stem(self, image: Path) -> str:
        """The image's own name without suffix. A number is added if another image has that name."""
        if image not in self.stems:
            stem, number = image.stem, 1
            # An image in two splits is two files in YOLO's layout, but still one image.
            while (first := self._taken.setdefault(stem.lower(), image)) != image and not filecmp.cmp(
                first, image, shallow=False
            ):
                number += 1
                stem = f"{image.stem}_{number}"
            self.stems[image] = stem
        return self.stems[image]

    def place(self, image: Path, folder: str) -> Path:
        """Link the image into a folder of the export, or copy it where links are not possible."""
        target = self.folder / folder / (self.stem(image) + image.suffix)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(image.resolve(), target)
            except OSError:
                shutil.copy2(image, target)
        return target

    def write(self, name: str, text: str) -> Path:
        """Write a text file into the export."""
        target = self.folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8", newline="\n")
        return target

    def write_json(self, name: str, value: object) -> Path:
        return self.write(name, json.dumps(value, ensure_ascii=False, indent=1) + "\n")
