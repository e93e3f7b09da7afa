"""Rooms of the data. Three of them are mended by refusing the data set, with a remedy."""

import tempfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from yolostudy import data
from yolostudy.data.augment import Item, flip_left_right
from yolostudy.data.records import DataError
from yolostudy.study.museum import Room, frames

from ._props import yolo_set


def joined(root: Path, name: str) -> Path:
    return root / name


def joined_below(root: Path, name: str) -> Path:
    return root / name.lstrip("/")


a_leading_slash = Room(
    1,
    "image not found",
    "A path that begins with / is absolute, and joining it throws away the folder before it. Put relative paths into "
    "the list, and if a file is missing, say which file was looked for.",
    broken=joined,
    fixed=joined_below,
    diary=True,
)


@a_leading_slash.look
def _(join):
    with tempfile.TemporaryDirectory() as folder:
        description = yolo_set(Path(folder), "0 0.5 0.5 0.2 0.2")
        return False, f"{len(join(description.parent, '/images/train/a.png').read_bytes())} bytes read"


@a_leading_slash.find("printing the joined path")
def _(join):
    return join(Path("datasets/planes"), "/images/train/a.png")


def keep_all(pictures: int) -> list[np.ndarray]:
    return [np.zeros((160, 160, 3), np.uint8) for _ in range(pictures)]


def one_by_one(pictures: int) -> Iterator[np.ndarray]:
    return (np.zeros((160, 160, 3), np.uint8) for _ in range(pictures))


a_full_memory = Room(
    18,
    "the machine freezes while it paints",
    "All painted images were kept in a list until the last was done. Write each image as soon as it is painted: a "
    "generator needs the memory of one image. `paint_to_folder` works like that.",
    broken=keep_all,
    fixed=one_by_one,
    diary=True,
)


def peak(paint, pictures: int) -> float:
    """Peak of memory, in MB, while pictures are painted and looked at."""
    tracemalloc.start()
    try:
        sum(picture.size for picture in paint(pictures))
        return tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()


@a_full_memory.look
def _(paint):
    few, many = peak(paint, 10), peak(paint, 80)
    return many > 4 * few, f"10 pictures take {few:.2f} MB, 80 take {many:.2f} MB"


@a_full_memory.find("the peak of memory for more and more pictures")
def _(paint):
    return "   ".join(f"{count}: {peak(paint, count):.1f} MB" for count in (10, 20, 40, 80))


def trusting(description: Path) -> tuple[np.ndarray, np.ndarray]:
    """Believe every label line, as many scripts do.

    Returns classes (n,) and boxes (n, 4) in pixels of an image of 100 × 80.
    """
    file = description.parent / "labels" / "train" / "a.txt"
    rows = np.array([line.split() for line in file.read_text().splitlines()] if file.exists() else [], float).reshape(
        -1, 5
    )
    centre, half = rows[:, 1:3] * (100, 80), rows[:, 3:] * (100, 80) / 2
    return rows[:, 0].astype(int), np.hstack((centre - half, centre + half)).clip(0, (100, 80, 100, 80))


def careful(description: Path) -> tuple[np.ndarray, np.ndarray]:
    record = data.open_set(description).records[0]
    return record.classes, record.boxes


def read(reader, line: str, labels: str = "labels"):
    """What a reader returns for one label line: classes and boxes, or the message of its refusal."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            return reader(yolo_set(Path(folder), line, labels))
        except DataError as error:
            return "refused: " + str(error).replace(f"{folder}/", "")


a_foreign_class = Room(
    33,
    "an IndexError, or a class that learns from another's objects",
    "A class number beyond the list of names crashes at best. Minus one is worse: it counts from the end, so the last "
    "class learns from an object that should have no class. Refuse both when the labels are read.",
    broken=trusting,
    fixed=careful,
)


def one_hot(reader, line: str) -> str:
    found = read(reader, line)
    return found if isinstance(found, str) else f"taught as class {np.eye(2)[found[0]].argmax(1)[0]} of 2"


@a_foreign_class.look
def _(reader):
    minus_one = one_hot(reader, "-1 0.5 0.5 0.2 0.2")
    return "taught" in minus_one, f"class -1: {minus_one}"


@a_foreign_class.find("a range check, and class 7 of 2")
def _(reader):
    numbers = [int(read(reader, f"{number} 0.5 0.5 0.2 0.2")[0][0]) for number in (-1, 7)]
    return f"classes {numbers}, allowed 0 … 1\n{frames(lambda: one_hot(reader, '7 0.5 0.5 0.2 0.2'))}"


pixels_for_fractions = Room(
    34,
    "boxes collapse",
    "The labels are in pixels, but the format has fractions of the image, 0 to 1. Clipped to the image the boxes have "
    "no area. Check the range when the labels are read, and say which format it looks like.",
    broken=trusting,
    fixed=careful,
)
IN_PIXELS = "0 50 40 20 16"


@pixels_for_fractions.look
def _(reader):
    found = read(reader, IN_PIXELS)
    if isinstance(found, str):
        return False, found
    x1, y1, x2, y2 = found[1][0].tolist()
    return True, f"the only box is {x2 - x1:g} × {y2 - y1:g} pixels in an image of 100 × 80"


@pixels_for_fractions.find("a range check")
def _(reader):
    values = [float(word) for word in IN_PIXELS.split()[1:]]
    return f"the file says {min(values):g} … {max(values):g}, the format allows 0 … 1"


no_labels = Room(
    35,
    "validation says 0 labels",
    "The label files lie in a folder, or have an extension, that the reader does not look for. An image without a "
    "label file is allowed, so there is no error even if all of them have none. Count the objects, and refuse a set "
    "without any.",
    broken=trusting,
    fixed=careful,
)


@no_labels.look
def _(reader):
    found = read(reader, "0 0.5 0.5 0.2 0.2", labels="label")
    return not isinstance(found, str), found if isinstance(
        found, str
    ) else f"{len(found[0])} objects in 1 image, and no complaint"


@no_labels.find("counting objects and label files")
def _(reader):
    with tempfile.TemporaryDirectory() as folder:
        description = yolo_set(Path(folder), "0 0.5 0.5 0.2 0.2", "label")
        return (
            f"{len(reader(description)[0])} objects read; label files: "
            f"{[str(p.relative_to(folder)) for p in Path(folder).rglob('*.txt')]}"
        )


def mirror_in_place(item: Item) -> Item:
    return flip_left_right(item, (0, 1, 2))


def mirror_and_swap(item: Item) -> Item:
    return flip_left_right(item, (0, 2, 1))


an_identity = Room(
    39,
    "left and right wing tip are swapped in half of the images",
    "In a mirror image the left wing tip is a right one. If `flip_idx` is the identity, points move and keep their "
    "names, so one half of the training contradicts the other half. Name the partner of each point.",
    broken=mirror_in_place,
    fixed=mirror_and_swap,
)
# nose, left and right tip, in an image of 100 × 80
NOSE_UP = np.array([[[50, 20, 2], [20, 50, 2], [80, 50, 2]]], np.float32)


def flipped(mirror):
    return mirror(
        Item(np.zeros((80, 100, 3), np.uint8), np.array([[20, 20, 80, 60]], np.float32), np.array([0]), NOSE_UP)
    ).keypoints[0]


@an_identity.look
def _(mirror):
    _, left, right = flipped(mirror)[:, 0]
    return left > right, f"nose up, the left tip at x = {left:g}, the right tip at x = {right:g}"


@an_identity.find("flipping once, with the nose up: left must stay on the left")
def _(mirror):
    names = ("nose", "left wing tip", "right wing tip")
    rows = zip(names, NOSE_UP[0].tolist(), flipped(mirror).tolist(), strict=True)
    return "\n".join(f"{name:<15} x {before[0]:g} -> {after[0]:g}" for name, before, after in rows)
