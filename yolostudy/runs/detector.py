"""A trained detector: detect in one image, and paint the detections of many.

Where a data set has annotations, the truth is painted beside the detections.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from .. import data
from ..boxes import predict as predict_boxes
from ..bridge import checkpoints
from ..data.check import IMAGE_SUFFIXES
from ..data.letterbox import letterbox
from ..data.loader import read_image
from ..data.records import DataError, Record
from ..network import YOLO
from ..pose import PoseYOLO, predict_poses
from ..training import Precision, to_unit
from ..views.detections import painter
from ..views.detections.joints import as_keypoints, skeleton_of
from ..weights import transfer
from .folders import SHIPPED


class Detector:
    """A network with weights, class names and image size, which detects in images of any size.

    Args:
        weights: a file that `yolostudy train` or Ultralytics wrote. It says which network, classes
            and image size belong to it.
        image_size: pixels of the letterbox; by default the size that the network was trained at.
    """

    def __init__(
        self, weights: str | Path, image_size: int | None = None, device: str = "cpu", precision: str = "fp32"
    ):
        state, card = checkpoints.load(weights)
        if not card.get("classes"):
            raise ValueError(
                f"{weights}: this file does not say its classes. Use one that `yolostudy train` or Ultralytics wrote."
            )
        self.card, self.class_names = card, tuple(card["classes"])
        self.image_size = image_size or card["preset"]["image_size"]
        self.precision = Precision(device, precision)
        size, shape = card["preset"]["size"], card.get("keypoint_shape")
        self.keypoint_names = tuple(
            card.get("keypoint_names") or (f"keypoint {k}" for k in range(shape[0] if shape else 0))
        )
        count = len(self.class_names)
        self.model = PoseYOLO(count, size, keypoint_shape=tuple(shape)) if shape else YOLO(count, size)
        transfer(state, self.model, minimum_share=1.0)
        self.model.eval().to(device, memory_format=torch.channels_last)

    @torch.no_grad()
    def __call__(self, image: np.ndarray, score_threshold: float = 0.25, iou_threshold: float = 0.7) -> np.ndarray:
        """Detect in one image.

        Args:
            image: (H, W, 3) uint8 RGB.

        Returns:
            (n, 6) x1 y1 x2 y2 score class, best score first. A pose network gives (n, 6 + K·d):
            then x y, in pixels of the image and possibly outside of it, and where d is 3 the
            visibility in 0…1, of each keypoint.
        """
        boxed, placement = letterbox(image, self.image_size)
        with self.precision.autocast():
            maps = self.model(
                to_unit(torch.from_numpy(boxed).permute(2, 0, 1)[None], next(self.model.parameters()).device)
            )
        if self.keypoint_names:
            found = predict_poses(maps, self.model, score_threshold, iou_threshold)[0]
        else:
            found = predict_boxes(maps, score_threshold, iou_threshold)[0]
        found = placement.to_original(found.float().cpu().numpy())
        if self.keypoint_names:
            points = found[:, 6:].reshape(-1, *self.model.keypoint_shape)  # a view of found
            points[..., :2] = placement.to_original(points[..., :2])
        found[:, :4] = found[:, :4].clip(0, np.float32([image.shape[1], image.shape[0]] * 2))
        return found


def default_weights() -> Path:
    """The shipped detector of planes."""
    shipped = SHIPPED / "planes-n-mini.safetensors"
    if not shipped.is_file():
        raise FileNotFoundError(
            f"{shipped}: this file is shipped with the course and is missing. Train a detector with `yolostudy train "
            "planes.nano`, then give weights=FILE."
        )
    return shipped


def find_images(places: Sequence[str]) -> list[Path]:
    """The images that `places` name, in order.

    A place is an image, or a folder: the images in it and in its `images`.
    """
    found: list[Path] = []
    for place in map(Path, places):
        if place.is_dir():
            inside = [
                path for folder in (place, place / "images") if folder.is_dir() for path in sorted(folder.iterdir())
            ]
            images = [path for path in inside if path.suffix.lower() in IMAGE_SUFFIXES]
            if not images:
                raise DataError(
                    f"{place}: there is no image in this folder. Images end in {', '.join(IMAGE_SUFFIXES)}."
                )
            found += images
        elif place.is_file():
            found.append(place)
        else:
            raise DataError(
                f"{place}: there is no such image or folder. Check the path; relative ones start at {Path.cwd()}."
            )
    return found


def truth_of(images: Sequence[Path]) -> dict[Path, tuple[Record, tuple[str, ...]]]:
    """Record and class names of each image that lies in a data set with annotations (VOC)."""
    known: dict[Path, tuple[Record, tuple[str, ...]]] = {}
    for root in {image.resolve().parent.parent for image in images if image.parent.name == "images"}:
        if (root / "annotations").is_dir() and (root / "splits").is_dir():
            for split in data.splits(root):
                found = data.open_set(root, split, on_bad="skip")
                known |= {record.image.resolve(): (record, found.class_names) for record in found.records}
    return known


def predict(
    detector: Detector, images: Sequence[Path], score_threshold: float = 0.25
) -> Iterator[tuple[str, painter.Painted]]:
    """Detect in each image and paint it. Only one image at a time is in memory."""
    known = truth_of(images)
    for path in images:
        image = read_image(path)
        truth = truth_keypoints = None
        if record := known.get(path.resolve()):
            renumber = [detector.class_names.index(name) if name in detector.class_names else -1 for name in record[1]]
            truth = np.column_stack([np.array(renumber)[record[0].classes], record[0].boxes])
            truth_keypoints = record[0].keypoints if detector.keypoint_names else None
        found = detector(image, score_threshold)
        joints = len(detector.keypoint_names)
        painted = painter.paint(
            image,
            found[:, :6],
            truth,
            detector.class_names,
            score_threshold=score_threshold,
            keypoints=as_keypoints(found, joints) if joints else None,
            truth_keypoints=truth_keypoints,
            skeleton=skeleton_of(joints),
            legend=True,
        )
        yield path.name, painted
