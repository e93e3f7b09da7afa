"""One epoch of Ultralytics' own trainers, offline and in seconds: something real to look into.

The pictures are a few from this course's sample, with four keypoints for each aircraft: nose, tail,
left and right wing tip. Nothing is downloaded, nothing stays on the disk, and the process is left
as it was.

Source: `engine/trainer.py` BaseTrainer, `models/yolo/pose/train.py` PoseTrainer,
`models/yolo/detect/train.py` DetectionTrainer.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2

from .. import data
from .framework import load, process_as_found

NETWORKS = {"pose": "yolov8n-pose.yaml", "detect": "yolov8n.yaml"}


def write_scene(folder: str | Path, images: int = 4) -> Path:
    """Write a data set in YOLO's layout, and return its `data.yaml`.

    It has the first `images` pictures of the sample's training and validation split.
    """
    splits = [data.open_set("sample", name) for name in ("train", "validation")]
    few = [replace(split, records=split.records[:images]) for split in splits]
    return data.write(few, Path(folder) / "planes", "yolo")


@contextmanager
def trainer(kind: str = "pose", images: int = 4, side: int = 64, **overrides: Any) -> Iterator[Any]:
    """Ultralytics' own trainer for one epoch, ready for its `train()`.

    Its files are deleted when the block ends.

    Args:
        kind: "pose" for PoseTrainer, "detect" for DetectionTrainer.
        images: how many pictures to train on, and as many to validate; at most 8.
        side: of the images, in pixels, a multiple of 32.
        overrides: any of Ultralytics' settings.
    """
    if kind not in NETWORKS:
        raise ValueError(f"There is no scene {kind!r}; choose one of {', '.join(NETWORKS)}.")
    load()
    from ultralytics.models.yolo.detect import DetectionTrainer
    from ultralytics.models.yolo.pose import PoseTrainer

    with tempfile.TemporaryDirectory(prefix="yolostudy-scene-") as folder, process_as_found():
        cv2.setNumThreads(0)  # as Ultralytics sets it on import
        settings = dict(
            model=NETWORKS[kind],
            data=str(write_scene(folder, images)),
            epochs=1,
            imgsz=side,
            batch=4,
            device="cpu",
            workers=0,
            amp=False,
            plots=False,
            pretrained=False,
            optimizer="SGD",
            mosaic=0.0,
            project=str(Path(folder) / "runs"),
        )
        made = {"pose": PoseTrainer, "detect": DetectionTrainer}[kind]
        yield made(overrides=settings | overrides)


def epoch(kind: str = "pose", images: int = 4, side: int = 64, **overrides: Any) -> dict[str, float]:
    """Build the trainer, run its one epoch, validate, and return its metrics.

    It takes about three seconds. Arguments as for `trainer`.
    """
    with trainer(kind, images, side, **overrides) as made:
        made.train()
        return {name: float(value) for name, value in (made.metrics or {}).items()}
