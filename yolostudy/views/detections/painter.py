"""Detections painted on their image.

Truths are purple, hits green, misses yellow, false alarms orange-red and dashed. Everything is
judged in the pixels of the stored image and painted on an enlarged copy when the image is small, so
that labels can be read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from PIL import Image

from ...canvas import style
from .comparison import Comparison, as_table, compare_detections
from .frames import paint_frame, paint_keypoints, paint_truth_keypoints
from .labels import Label, legend_entries, paint_labels, with_legend

SIDE = 480  # pixels: an image whose longer side is shorter is enlarged by a whole factor to about this


@dataclass(frozen=True, slots=True, eq=False)
class Painted:
    """A painted image and its numbers.

    Without a truth nothing can be judged: `hits`, `misses` and `false_alarms` are None.
    """

    image: np.ndarray  # (H', W', 3) uint8, enlarged by `scale`
    predictions: int = 0
    truths: int | None = None
    hits: int | None = None
    misses: int | None = None
    false_alarms: int | None = None
    scale: float = 1.0
    # text, and x1 y1 x2 y2 that it covers
    labels: tuple[tuple[str, tuple[int, int, int, int]], ...] = field(default=(), repr=False)

    def __repr__(self) -> str:
        if self.truths is None:
            return f"Painted({self.predictions} predictions)"
        return f"Painted({self.truths} truths: {self.hits} hit, {self.misses} missed; {self.false_alarms} false alarms)"

    def _repr_jpeg_(self) -> bytes:
        return style.as_jpeg(self.image)


def paint(
    image: np.ndarray,
    predictions=None,
    truth=None,
    class_names: Sequence[str] | None = None,
    *,
    score_threshold: float = 0.25,
    iou_threshold: float = 0.5,
    keypoints=None,
    truth_keypoints=None,
    skeleton: Sequence[tuple[int, int]] = (),
    side: int = SIDE,
    labels: bool = True,
    legend: bool = False,
) -> Painted:
    """Paint one image.

    Args:
        image: (H, W, 3) uint8 RGB; it is not changed.
        predictions: (n, 6) x1 y1 x2 y2 score class in pixels of `image`, or None to show the truth
            alone.
        truth: (m, 5) class x1 y1 x2 y2 in pixels, or None for a plain photograph: every prediction
            is then green.
        class_names: names for the labels; without them the labels show class numbers.
        score_threshold: predictions below it are neither painted nor counted.
        keypoints: (n, K, 3) x y visibility (0 absent, 1 occluded: hollow, 2 visible: filled).
        truth_keypoints: (m, K, 3) x y visibility, purple rings: a keypoint inside its ring is
            close to the truth.
        skeleton: pairs of keypoints to join by a line.
        side: enlarge an image whose longer side is shorter than this.
        legend: add a strip under the image that says what the colours mean and how many there are.
    """
    if not (isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3):
        found = f"{image.dtype} of shape {tuple(image.shape)}" if hasattr(image, "dtype") else type(image).__name__
        raise ValueError(f"paint: the image is {found}. Give a numpy array (height, width, 3) of uint8, RGB.")
    shown = as_table(() if predictions is None else predictions, 6, "predictions")
    shown = shown[shown[:, 4] >= score_threshold]
    truths = as_table(() if truth is None else truth, 5, "truth")
    judged = compare_detections(shown, truths, iou_threshold)

    scale = max(1, round(side / max(image.shape[:2])))
    # Cubic interpolation: in an enlargement without blocks the eye finds the plane faster.
    ground = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC) if scale > 1 else image.copy()
    line = max(1, round(max(ground.shape[:2]) / 240))
    tags = _paint_truths(ground, truths, None if predictions is None else judged, scale, line, class_names)
    tags += _paint_predictions(ground, shown, None if truth is None else judged, scale, line, class_names)
    if truth_keypoints is not None:
        paint_truth_keypoints(ground, np.asarray(truth_keypoints, np.float64) * (scale, scale, 1), skeleton, line)
    if keypoints is not None:
        paint_keypoints(ground, np.asarray(keypoints, np.float64) * (scale, scale, 1), skeleton, line)

    size = round(max(10, 6 + max(ground.shape[:2]) / 68))
    picture = Image.fromarray(ground)
    placed = paint_labels(picture, tags[::-1], size) if labels else ()
    numbers = dict(predictions=len(shown), scale=float(scale), labels=tuple(placed))
    if truth is not None:
        numbers |= dict(truths=len(truths), hits=judged.hits, misses=judged.misses, false_alarms=judged.false_alarms)
    if legend:
        picture = with_legend(picture, legend_entries(numbers, predictions is not None), size)
    return Painted(np.asarray(picture), **numbers)


def _paint_truths(
    ground: np.ndarray,
    truths: np.ndarray,
    judged: Comparison | None,
    scale: int,
    line: int,
    class_names: Sequence[str] | None,
) -> list[Label]:
    """Frame every truth. Missed ones get a label, and without predictions all of them.

    Args:
        judged: None where there are no predictions.
    """
    labels = []
    for index in range(len(truths)):
        box, missed = truths[index, 1:] * scale, judged is not None and judged.missed[index]
        colour = style.MISS if missed else style.TRUTH
        labelled = missed or judged is None
        # A truth is framed from outside, a prediction from inside: where the two agree, both still
        # show.
        paint_frame(ground, box, style.INK, line + 2, 1 if labelled else 0)
        paint_frame(ground, box, colour, line + 1, 0)
        if labelled:
            labels.append(Label(_name(truths[index, 0], class_names), box, colour))
    return labels


def _paint_predictions(
    ground: np.ndarray,
    predictions: np.ndarray,
    judged: Comparison | None,
    scale: int,
    line: int,
    class_names: Sequence[str] | None,
) -> list[Label]:
    """Frame every prediction, the surest on top, and label it with class and score.

    Args:
        judged: None where there is no truth; then no prediction is a false alarm.
    """
    labels, broad = [], line + 1
    for index in np.argsort(predictions[:, 4], kind="stable"):
        box, score, number = predictions[index, :4] * scale, predictions[index, 4], predictions[index, 5]
        false_alarm = judged is not None and judged.matched[index] < 0
        colour = style.FALSE_ALARM if false_alarm else style.HIT
        if judged is None or false_alarm:
            paint_frame(ground, box, style.INK, 1, broad + 1)
        if false_alarm:
            paint_frame(ground, box, style.PAPER, 0, broad)
        paint_frame(ground, box, colour, 0, broad, dash=4 * broad if false_alarm else 0)
        labels.append(Label(f"{_name(number, class_names)} {score:.2f}", box, colour))
    return labels


def _name(number: float, class_names: Sequence[str] | None) -> str:
    known = class_names is not None and 0 <= number < len(class_names)
    return class_names[int(number)] if known else str(int(number))
