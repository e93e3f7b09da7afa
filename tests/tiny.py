"""A very small data set of coloured squares and bars, and a preset that trains on it in seconds."""

from pathlib import Path

import cv2
import numpy as np

from yolostudy import data
from yolostudy.data.records import DetectionSet, Record
from yolostudy.runs import presets

CLASSES = ("square", "bar")
QUICK = {"image_size": 64, "batch": 4, "epochs": 3, "minutes": 0.0, "warmup": 4, "precision": "fp32"}
QUICK |= {"save_seconds": 0.0, "validate_seconds": 0.0, "tensorboard": False}


def draw(rng: np.random.Generator, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An image (side, side, 3), boxes (n, 4) and classes (n,) of one or two shapes apart."""
    image = np.full((side, side, 3), rng.integers(60, 120), np.uint8)
    boxes, classes = [], []
    for half in range(rng.integers(1, 3)):
        kind = int(rng.integers(2))
        width, height = (side // 4, side // 4) if kind == 0 else (side // 2 - 4, side // 8)
        x, y = rng.integers(0, side - width), half * side // 2 + rng.integers(0, side // 2 - height)
        colour = rng.integers(160, 255, 3).tolist()
        cv2.rectangle(image, (int(x), int(y)), (int(x + width - 1), int(y + height - 1)), colour, -1)
        boxes.append((x, y, x + width, y + height))
        classes.append(kind)
    return image, np.float32(boxes), np.int64(classes)


def make(folder: Path, counts: dict[str, int] | None = None, side: int = 64, seed: int = 0) -> Path:
    """A VOC set with these splits."""
    rng = np.random.default_rng(seed)
    raw = folder.with_name(f"{folder.name}-raw")
    raw.mkdir(parents=True)
    sets = []
    for split, count in (counts or {"train": 16, "validation": 8}).items():
        records = []
        for index in range(count):
            image, boxes, classes = draw(rng, side)
            path = raw / f"{split}_{index:03d}.png"
            cv2.imwrite(str(path), image)
            records.append(Record(path, (side, side), boxes, classes))
        sets.append(DetectionSet("tiny", CLASSES, records, split=split))
    return data.write(sets, folder, "voc")


def preset_for(folder: Path, **overrides) -> presets.Preset:
    """A preset for a run over such a set that takes seconds."""
    return presets.load("planes.nano", data=str(folder), **(QUICK | overrides))
