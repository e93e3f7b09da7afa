"""Ultralytics' loss, decoding and NMS, called with this course's maps, targets and boxes.

Source: Ultralytics 8.4.190 `utils/loss.py` v8DetectionLoss, `nn/modules/head.py` Detect._inference,
`utils/nms.py` non_max_suppression.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .framework import load
from .networks import head_of, to_predictions

# The loss
# --------------------------------------------------------------------------------------------------


class Parts(NamedTuple):
    """Box, class and DFL loss: scalars with their gains, not multiplied by the number of images."""

    box: Tensor
    cls: Tensor
    dfl: Tensor

    @property
    def total(self) -> Tensor:
        return self.box + self.cls + self.dfl


class Criterion:
    """Ultralytics' `v8DetectionLoss`, called with raw maps and pixel targets.

    The parts have the default gains (box 7.5, class 0.5, DFL 1.5) and gradients to the maps.
    Ultralytics' own call multiplies them by B, and its trainer calls backward on that:
    `B · criterion(...).total`.

    Args:
        num_classes, reg_max: C and R of the maps.
        model: a `DetectionModel` that gives strides, gains and device; without it, YOLOv8's
            defaults on the CPU.
    """

    def __init__(self, num_classes: int, reg_max: int = 16, model: nn.Module | None = None):
        load()
        from ultralytics.utils.loss import v8DetectionLoss

        self.reg_max = reg_max
        self.loss = v8DetectionLoss(model if model is not None else _Outline(num_classes, reg_max))
        if (self.loss.nc, self.loss.reg_max) != (num_classes, reg_max):
            raise ValueError(
                f"The model has {self.loss.nc} classes and {self.loss.reg_max} bins, but {num_classes} and {reg_max} "
                "were asked for; pass the model's own numbers."
            )

    def __call__(self, maps: Sequence[Tensor], targets: Tensor, image_size: tuple[int, int]) -> Parts:
        """Compute the loss.

        Args:
            maps: three raw maps (B, 4·R + C, H/s, W/s).
            targets: (N, 6) image index, class, x1 y1 x2 y2 in pixels. Ultralytics works on
                normalised centres, which rounds them by up to about 1e-5 of the image's side:
                `pixel_targets(to_batch(targets))` is what it sees.
            image_size: (H, W) in pixels.
        """
        predictions = to_predictions(maps, self.reg_max)
        return Parts(*self.loss.get_assigned_targets_and_loss(predictions, to_batch(targets, image_size))[1])


class _Outline(nn.Module):
    """The parts of a `DetectionModel` that its loss reads, so that any R needs no network."""

    def __init__(self, num_classes: int, reg_max: int):
        super().__init__()
        from ultralytics.cfg import get_cfg

        self.args = get_cfg()
        self.model = [head_of(num_classes, reg_max)]
        self.device_probe = nn.Parameter(torch.zeros(()))


def to_batch(targets: Tensor, image_size: tuple[int, int]) -> dict[str, Tensor]:
    """Pixel targets as the batch dict of Ultralytics.

    Rows are sorted by image, as its collate function leaves them. Its padding relies on that and
    mixes up unsorted rows without an error.

    Args:
        targets: (N, 6) image index, class, x1 y1 x2 y2 in pixels; for pose (N, 6 + 3·K) with x, y,
            visibility of each keypoint.
        image_size: (H, W) in pixels.

    Returns:
        batch_idx (N,), cls (N, 1), bboxes (N, 4) as centre x, centre y, width, height in 0…1; for
        pose keypoints (N, K, 3), x and y in 0…1.
    """
    targets = targets[targets[:, 0].argsort(stable=True)].float()
    x1, y1, x2, y2 = targets[:, 2:6].unbind(1)
    centre_size = torch.stack(((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1), 1)  # (N, 4)
    scale = _scale(image_size, targets)
    batch = {"batch_idx": targets[:, 0], "cls": targets[:, 1:2], "bboxes": centre_size / scale}
    if targets.shape[1] > 6:
        points = targets[:, 6:].unflatten(1, (-1, 3))
        batch["keypoints"] = torch.cat((points[..., :2] / scale[:2], points[..., 2:]), -1)
    return batch


def pixel_targets(batch: dict[str, Tensor], image_size: tuple[int, int]) -> Tensor:
    """A batch dict as (N, 6) pixel targets, equal to what Ultralytics' loss uses to the last bit.

    Give the result to our loss and the batch to theirs: then no difference comes from rounding in
    the boxes. Where the batch has keypoints, (N, 6 + 3·K).
    """
    from ultralytics.utils.ops import xywh2xyxy

    scale = _scale(image_size, batch["bboxes"])
    parts = [batch["batch_idx"].view(-1, 1), batch["cls"].view(-1, 1), xywh2xyxy(batch["bboxes"] * scale)]
    if "keypoints" in batch:
        points = batch["keypoints"]
        parts.append(torch.cat((points[..., :2] * scale[:2], points[..., 2:]), -1).flatten(1))
    return torch.cat(parts, 1)


def _scale(image_size: tuple[int, int], like: Tensor) -> Tensor:
    height, width = image_size
    return torch.tensor([width, height, width, height], dtype=torch.float32, device=like.device)


# From maps to boxes
# --------------------------------------------------------------------------------------------------


@torch.no_grad()
def decode(source: nn.Module | Sequence[Tensor], images: Tensor | None = None, reg_max: int = 16) -> Tensor:
    """Every anchor's box and class scores, as Ultralytics' forward returns them in evaluation mode.

    Args:
        source: a `DetectionModel`, with `images`; or three raw maps, ours or theirs.
        images: (B, 3, H, W) float in 0…1.
        reg_max: R of the maps.

    Returns:
        (B, 4 + C, A): centre x, centre y, width, height in pixels, then C scores after the sigmoid.
    """
    if isinstance(source, nn.Module):
        was_training = source.training
        decoded = source.eval()(images)[0]
        source.train(was_training)
        return decoded
    load()
    head = head_of(source[0].shape[1] - 4 * reg_max, reg_max).to(source[0].device)
    head.stride = head.stride.to(source[0].device)  # a plain attribute, which `.to` does not move
    return head._inference(to_predictions(source, reg_max))


def nms(
    decoded: Tensor,
    score_threshold: float = 0.25,
    iou_threshold: float = 0.7,
    max_detections: int = 300,
    multi_label: bool = False,
) -> list[Tensor]:
    """Ultralytics' per-class non-maximum suppression.

    Args:
        decoded: (B, 4 + C, A) from `decode`.
        multi_label: one anchor may give several classes. Ultralytics' validator does that (with
            score_threshold=0.001), its predictor does not.

    Returns:
        per image (n, 6): x1 y1 x2 y2 score class, best score first.
    """
    load()
    from ultralytics.utils.nms import non_max_suppression

    unlimited = 1e9  # seconds an image; by default it stops after 2 s and returns empty images
    return non_max_suppression(
        decoded, score_threshold, iou_threshold, max_det=max_detections, multi_label=multi_label, max_time_img=unlimited
    )
