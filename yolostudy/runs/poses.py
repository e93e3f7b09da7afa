"""Measure a pose model over a loader: its boxes and its keypoints, from the same predictions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from ..metrics import Evaluation, evaluate
from ..pose import PoseYOLO, predict_poses
from ..training import Precision, to_unit
from .keypoint_metrics import KeypointEvaluation, evaluate_keypoints


class PoseEvaluation(NamedTuple):
    """Boxes and keypoints of the same predictions. `str` of it is both tables."""

    boxes: Evaluation
    keypoints: KeypointEvaluation

    @property
    def map50(self) -> float:
        return self.boxes.map50

    @property
    def map50_95(self) -> float:
        return self.boxes.map50_95

    @property
    def figures(self) -> dict[str, float]:
        """The figures for a log, by name."""
        return self.boxes.figures | {"oks_ap": self.keypoints.ap, "pixels": self.keypoints.median_error}

    def __str__(self) -> str:
        return f"{self.boxes}\n\n{self.keypoints}"


def validate_poses(
    model: PoseYOLO,
    loader,
    precision: Precision | None = None,
    class_names: Sequence[str] | None = None,
    sigmas: float | Sequence[float] | None = None,
    keypoint_names: Sequence[str] | None = None,
    score_threshold: float = 0.001,
) -> PoseEvaluation:
    """Average precision of a pose model's boxes and keypoints over a loader, letterboxed images.

    Afterwards the model is in the mode that it was in before.

    Args:
        loader: of a set with keypoints; with or without pose targets.
        sigmas: of the metric, see `evaluate_keypoints`.
    """
    device = next(model.parameters()).device
    precision = precision or Precision(device)
    was_training = model.training
    model.eval()
    predictions, truths = [], []
    with torch.no_grad():
        for batch in loader:
            if batch.keypoints is None:
                raise ValueError("This loader gives no keypoints. Make it from a set that has them.")
            with precision.autocast():
                maps = model(to_unit(batch.images, device))
            predictions += predict_poses(maps, model, score_threshold, max_detections=100)
            rows = torch.cat((batch.targets[:, 1:6], batch.keypoints.flatten(1)), dim=1).cpu()
            truths += [rows[batch.targets[:, 0].cpu() == index] for index in range(len(batch.images))]
    model.train(was_training)
    boxes = evaluate([own[:, :6] for own in predictions], [own[:, :5] for own in truths], class_names)
    names = {"keypoint_names": keypoint_names, "class_names": class_names}
    return PoseEvaluation(boxes, evaluate_keypoints(predictions, truths, sigmas, **names))
