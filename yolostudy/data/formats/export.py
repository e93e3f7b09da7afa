"""Writing sets into a folder: what the exporters of all formats share."""

from __future__ import annotations

import filecmp
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from ..records import DataError, DetectionSet


def digits(value: float, places: int) -> str:
    """A number with at most so many decimals and no trailing zeros."""
    return f"{value:.{places}f}".rstrip("0").rstrip(".")


class Export:
    """An empty folder to write sets into, and a name for each image that no other image in the
    export has.

    Args:
        sets: one set, or several splits of one vocabulary.
        folder: a new or empty folder.
    """

    def __init__(self, sets: DetectionSet | Sequence[DetectionSet], folder: str | Path):
        self.sets = [sets] if isinstance(sets, DetectionSet) else list(sets)
        self.folder = Path(folder)
        if not self.sets:
            raise DataError("No set to write. Give one set or several splits of it.")
        first = self.sets[0]
        self.class_names, self.keypoint_names, self.flip_index = (
            first.class_names,
            first.keypoint_names,
            first.flip_index,
        )
        for other in self.sets[1:]:
            if (other.class_names, other.keypoint_names) != (first.class_names, first.keypoint_names):
                what = f"{other.name}: {other.split} has other class or keypoint names than {first.split}"
                raise DataError(f"{what}. Write it into its own folder.")
        splits = [one.split for one in self.sets]
        if len(set(splits)) < len(splits):
            raise DataError(f"Two sets are both called {max(splits, key=splits.count)}. Give each its own split name.")
        if self.folder.exists() and any(self.folder.iterdir()):
            # What an earlier export left behind would silently become part of this one.
            raise DataError(f"{self.folder}: this folder is not empty. Name a new one, or delete it first.")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.stems: dict[Path, str] = {}
        self._taken: dict[str, Path] = {}

    def stem(self, image: Path) -> str:
        """The image's own name without suffix; with a number behind it where a different image took
        that already.
        """
        if image not in self.stems:
            stem, number = image.stem, 1
            # YOLO keeps an image that is in two splits twice; it is still one image.
            while (first := self._taken.setdefault(stem.lower(), image)) != image and not filecmp.cmp(
                first, image, shallow=False
            ):
                number += 1
                stem = f"{image.stem}_{number}"
            self.stems[image] = stem
        return self.stems[image]

    def place(self, image: Path, folder: str) -> Path:
        """Link the image into a folder of the export (copy it where the file system has no links)."""
        target = self.folder / folder / (self.stem(image) + image.suffix)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(image.resolve(), target)
            except OSError:
                shutil.copy2(image, target)
        return target

    def write(self, name: str, text: str) -> Path:
        target = self.folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8", newline="\n")
        return target

    def write_json(self, name: str, value: object) -> Path:
        return self.write(name, json.dumps(value, ensure_ascii=False, indent=1) + "\n")
