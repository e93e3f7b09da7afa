"""The reference's functions, boxes and pictures for the tests of this folder."""

import numpy as np

from solutions import boxes as reference
from yolostudy.views.boxes import iou_playground

DECODE = {"expected_distance": reference.expected_distance, "distance_to_box": reference.distance_to_box}
MEASURE = {"box_iou": reference.box_iou, "complete_iou": reference.complete_iou}
NMS = {"non_maximum_suppression": reference.non_maximum_suppression}
FIXED = iou_playground.FIXED
APART, OVERLAPPING = (12.0, 56.0, 32.0, 84.0), (42.0, 46.0, 80.0, 74.0)


def image(height=96, width=160):
    """A gradient: noise would spend the time of these tests on its compression."""
    return np.broadcast_to(np.linspace(40, 220, width)[None, :, None], (height, width, 3)).astype(np.uint8)


def candidates(count=30, seed=0):
    """Three heaps of boxes of two classes."""
    random = np.random.default_rng(seed)
    corner = random.choice([10, 70, 100], count)[:, None] + random.uniform(-4, 4, (count, 2))
    found = np.concatenate([corner, corner + random.uniform(28, 36, (count, 2))], axis=1)
    return found, random.uniform(0.05, 0.99, count), random.integers(0, 2, count)
