"""The names of `planes`: its classes, keypoints and splits.

Nothing is imported here, so that these names can be read without numpy and OpenCV.
"""

from __future__ import annotations

CLASSES = tuple(f"A{number}" for number in range(1, 21))
BASE, NOVEL = CLASSES[:10], CLASSES[10:]
KEYPOINTS = ("nose", "tail", "left wing tip", "right wing tip")
FLIP_INDEX = (0, 1, 3, 2)  # in a mirrored image the two wing tips change places
SPLITS = ("train", "validation", "test")  # `small` is chosen from train
