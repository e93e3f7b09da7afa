"""What the readers of all formats share: text files, messages, and the objects of one image."""

from __future__ import annotations

import difflib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import numpy as np
import yaml

from .check import keep_good
from .records import DataError, Problem, Problems, Record, place, refuse

# Files of text


def read_text(path: Path, problems: Problems | None = None) -> str | None:
    """The text of a file, with any line ends, with or without a byte order mark.

    A file that is not UTF-8 text is refused. If `problems` is given, it becomes a problem, and the
    text is None.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        problem = Problem(place(path, line), "this is not UTF-8 text", "Save the file as UTF-8, or restore it.")
        if problems is None:
            raise DataError(str(problem)) from None
        problems.found.append(problem)
        return None


def load_json(path: Path, remedy: str) -> dict:
    """A JSON file that holds an object. `remedy` is for a file that holds something else."""
    if not path.is_file():
        refuse(path, "there is no such file", "Correct the path.")
    try:
        data = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        what = f"this is not valid JSON ({error.msg}, column {error.colno})"
        refuse(path, what, "Repair or restore the file.", line=error.lineno)
    if not isinstance(data, dict):
        refuse(path, f"this JSON file holds a {type(data).__name__}, not an object with keys", remedy)
    return data


def load_yaml(path: Path) -> dict:
    """A YAML file that holds a mapping."""
    if not path.is_file():
        refuse(path, "there is no such file", "Correct the path.")
    try:
        data = yaml.safe_load(read_text(path))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = mark.line + 1 if mark else None
        refuse(path, f"this is not valid YAML ({error.problem})", "Correct this line.", line=line)
    if not isinstance(data, dict):
        refuse(path, "this YAML file holds no keys", "Write at least train, val and names.")
    return data


# Sentences about what is missing


def suggest(name: str, known: Iterable[str]) -> str:
    """`Did you mean A2? Known are: A1, A2, …`, where a known name looks like the given one."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1)
    listed = ", ".join(known[:20]) + (", …" if len(known) > 20 else "")
    return (f"Did you mean {close[0]}? " if close else "") + f"Known are: {listed}."


def misplaced(text: str, root: Path) -> tuple[str, str]:
    """(what, remedy) for a path in a list or description that leads nowhere below `root`."""
    remedy = "correct the path, or put the file there"
    if text.startswith(("/", "\\")):
        found = (root / text.lstrip("/\\")).exists()
        remedy = (
            f"remove the leading {text[0]}"
            if found
            else "this path is absolute, perhaps from another machine: write it relative to that folder"
        )
    return f"'{text}' is not there", f"Paths here are looked up relative to {root}; {remedy}."


def refuse_split(where: Path, split: str, looked_for: Sequence[str], there: Sequence[str]) -> NoReturn:
    """Refuse a split that the set does not have, and list those that it has."""
    what = f"there is no split '{split}' here; looked for {', '.join(looked_for)}"
    refuse(where, what, f"There are: {', '.join(there) or 'none'}.")


def refuse_empty(folder: Path, what: str, looked_for: str, remedy: str) -> NoReturn:
    """Refuse a folder that holds no `what` (images, labels), and say what it holds instead."""
    holds = "This folder does not exist"
    if folder.is_dir():
        counts = Counter(file.suffix or "unnamed" for file in folder.iterdir() if file.is_file())
        listed = (f"{count} {suffix} file{'s' * (count > 1)}" for suffix, count in counts.most_common(3))
        holds = f"It holds {', '.join(listed) or 'no files'}"
    refuse(folder, f"0 {what} found under this folder; looked for {looked_for}", f"{holds}. {remedy}")


def check_class_names(file: Path, names: Sequence[str], wanted: Sequence[str] | None) -> None:
    """Refuse a file whose classes are not the ones that the description of the set names."""
    if wanted and tuple(wanted) != tuple(names):
        remedy = f"The description of this set names {', '.join(wanted)}: correct one of the two."
        refuse(file, f"its classes are {', '.join(names)}", remedy)


# The objects of one image


class Complaint(Exception):
    """Something is wrong with one object: what, the remedy, and perhaps the tag it stands in."""

    def __init__(self, what: str, remedy: str, tag: str = ""):
        super().__init__(what)
        self.what, self.remedy, self.tag = what, remedy, tag


@dataclass
class Objects:
    """The objects of one image, while they are read.

    Attributes:
        size: (width, height) of the image.
        keypoint_count: K, 0 for a set without keypoints.
        problems: where objects with mistakes are listed.
        locate: gives `FILE:LINE` of the object that was added under a key.
    """

    size: tuple[int, int]
    keypoint_count: int
    problems: Problems
    locate: Callable[[int], str]
    keys: list[int] = field(default_factory=list)
    classes: list[int] = field(default_factory=list)
    boxes: list[Sequence[float]] = field(default_factory=list)
    poses: list[np.ndarray | None] = field(default_factory=list)

    def add(self, key: int, number: int, box: Sequence[float], pose: np.ndarray | None) -> None:
        """Add an object: its class, x1 y1 x2 y2 in pixels, and (K, 3) keypoints."""
        self.keys.append(key)
        self.classes.append(number)
        self.boxes.append(box)
        self.poses.append(pose)

    def record(self, image: Path, source: Path | None) -> Record:
        """The image with its good objects. The others are added to the problems."""
        boxes, classes, keypoints = keep_good(
            self.classes,
            self.boxes,
            self.poses,
            self.keypoint_count,
            self.size,
            self.problems,
            lambda i: self.locate(self.keys[i]),
        )
        return Record(image, self.size, boxes, classes, keypoints, source)
