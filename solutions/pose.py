"""Keypoints by regression, as in YOLOv8-pose: a third branch says where the parts of an object are.

    X, Y, Z ── box and class branches ── raw maps of stage 3
        └───── keypoint branch ───────── K keypoints × (x, y[, visibility]), at every position

A keypoint is an offset from its anchor point, in units of the stride, and nothing bounds it: the
wing tip of a large aircraft may lie outside its box. The assigner of stage 5 decides which anchor
answers for which object; the keypoints have no say in it.

Sources: Ultralytics 8.4.190 `nn/modules/head.py`, class Pose, and `utils/loss.py`, classes
KeypointLoss and v8PoseLoss; object keypoint similarity (OKS): Lin et al. 2014, Microsoft COCO, and
`COCOeval.computeOks` in pycocotools.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .assigner import Assignment
from .blocks import ConvModule
from .boxes import decode, flatten_maps, make_anchors, non_maximum_suppression
from .losses import DetectionLoss, pad_targets
from .network import YOLO, Head

COCO_SIGMAS = (26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89)  # thousandths


class KeypointHead(nn.ModuleList):
    """At every position: K keypoints, from a branch that shares nothing with boxes and classes.

    Args:
        channels: channels of X, Y and Z.
        num_keypoints: K.
        dims: d, numbers of a keypoint: 2 for x, y; 3 with the logit of its visibility.

    Shape:
        X, Y, Z -> three maps (B, K·d, H/s, W/s); keypoint by keypoint, x y [visibility]

    Each branch is two 3 × 3 ConvModules and a 1 × 1 convolution, as the other two branches are. The
    width between them is a quarter of X's channels, at least K·d. The branches are this list's own
    members, so that a checkpoint's `cv4.0.1` is `keypoints.0.1`.

    Source: Ultralytics `nn/modules/head.py`, class Pose.
    """

    def __init__(self, channels: tuple[int, int, int], num_keypoints: int, dims: int):
        super().__init__()
        # BEGIN SOLUTION
        numbers = num_keypoints * dims
        width = max(channels[0] // 4, numbers)
        self.extend(
            nn.Sequential(ConvModule(c, width, 3), ConvModule(width, width, 3), nn.Conv2d(width, numbers, 1))
            for c in channels
        )
        # END SOLUTION

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        # BEGIN SOLUTION
        return [branch(x) for branch, x in zip(self, maps, strict=True)]
        # END SOLUTION


class PoseHead(Head):
    """The head of stage 3, and the keypoints of each position behind its 4·R + C channels."""

    def __init__(self, channels: tuple[int, int, int], num_classes: int, reg_max: int, shape: tuple[int, int]):
        super().__init__(channels, num_classes, reg_max)
        self.keypoints = KeypointHead(channels, *shape)

    def forward(self, maps: tuple[Tensor, Tensor, Tensor]) -> list[Tensor]:
        pairs = zip(super().forward(maps), self.keypoints(maps), strict=True)
        return [torch.cat(pair, dim=1) for pair in pairs]


class PoseYOLO(YOLO):
    """The detector with a keypoint branch.

    Args:
        num_classes, size, reg_max: as those of `YOLO`.
        keypoint_shape: (K, d), the number of keypoints and of numbers for each.

    Shape:
        images (B, 3, H, W) in 0…1 -> three raw maps (B, 4·R + C + K·d, H/s, W/s), s = 8, 16, 32

    Errors: ValueError for a shape that is not (1 or more, 2 or 3).
    """

    def __init__(self, num_classes: int, size: str = "n", reg_max: int = 16, keypoint_shape: tuple[int, int] = (17, 3)):
        super().__init__(num_classes, size, reg_max)
        count, dims = keypoint_shape
        if count < 1 or dims not in (2, 3):
            raise ValueError(f"keypoint_shape is {tuple(keypoint_shape)}; it is (keypoints, 2 or 3), such as (17, 3)")
        self.keypoint_shape = (count, dims)
        self.head = PoseHead(self.backbone.channels[1:], num_classes, reg_max, self.keypoint_shape)

    def split(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        """The raw maps of the detector, and the raw keypoints (B, A, K, d) of all positions."""
        channels = 4 * self.reg_max + self.num_classes
        raw = flatten_maps([m[:, channels:] for m in maps]).float()
        return [m[:, :channels] for m in maps], raw.unflatten(-1, self.keypoint_shape)


def decode_keypoints(raw: Tensor, anchors: Tensor, strides: Tensor) -> Tensor:
    """Keypoints in pixels from what the branch says.

    A raw number counts two strides, and 0 is the corner of the position, half a stride before its
    anchor point:

        x = (2·raw_x + anchor_x - 0.5) · stride

    Args:
        raw: (..., A, K, d).
        anchors: (A, 2) in units of the stride. strides: (A, 1) pixels.

    Returns:
        (..., A, K, d): x and y in pixels, unbounded; the visibility, where d is 3, in 0…1.
    """
    # BEGIN SOLUTION
    points = (raw[..., :2] * 2 + anchors[:, None] - 0.5) * strides[:, None]
    return torch.cat((points, raw[..., 2:].sigmoid()), dim=-1)
    # END SOLUTION


def keypoint_similarity(predicted: Tensor, truth: Tensor, area: Tensor, sigmas: Tensor) -> Tensor:
    """Object keypoint similarity: 1 where every visible keypoint is met, towards 0 far away.

        OKS = Σ_k [v_k > 0] · exp(-d_k² / (2 · (2σ_k)² · area)) / Σ_k [v_k > 0]

    Args:
        predicted: (..., K, 2 or more) x, y.
        truth: (..., K, 3) x, y, visibility; occluded keypoints (1) count as visible ones (2) do.
        area: (...) of the object, in the square of the keypoints' unit. An area of 0 gives no NaN.
        sigmas: (K,) how precisely people place each keypoint, as a share of the object's size.

    Returns:
        (...) within 0…1; 0 where no keypoint is visible.

    Leading dimensions broadcast: (P, 1, K, 2) against (1, G, K, 3) gives every pair, (P, G).
    """
    # BEGIN SOLUTION
    visible = truth[..., 2] > 0
    distance = (predicted[..., :2] - truth[..., :2]).square().sum(dim=-1)  # (..., K), squared
    spread = 2 * (2 * sigmas).square() * (area[..., None] + torch.finfo(area.dtype).eps)
    return (torch.exp(-distance / spread) * visible).sum(dim=-1) / visible.sum(dim=-1).clamp(min=1)
    # END SOLUTION


class KeypointLoss:
    """One minus the similarity of each keypoint, and the cross-entropy of its visibility.

    Args:
        sigmas: (K,).
    """

    def __init__(self, sigmas: Sequence[float]):
        self.sigmas = torch.as_tensor(sigmas, dtype=torch.float32)

    def __call__(self, predicted: Tensor, truth: Tensor, area: Tensor) -> tuple[Tensor, Tensor]:
        """Both losses, averaged over objects and keypoints.

        An object with few marked keypoints counts as much as one with many: each of its terms is
        multiplied by K / (number of marked keypoints, v > 0). Averages run over all P·K terms,
        unmarked ones are 0.

        Args:
            predicted: (P, K, d), x and y in units of the stride; the third number is a logit.
            truth: (P, K, 3) x, y in units of the stride, visibility 0, 1 or 2.
            area: (P,) of the target boxes, in the square of the stride. 0 gives no NaN.

        Returns:
            Two scalars. The second is 0 where d is 2. P is at least 1.
        """
        # BEGIN SOLUTION
        visible = (truth[..., 2] != 0).to(predicted.dtype)  # (P, K)
        distance = (predicted[..., :2] - truth[..., :2]).square().sum(dim=-1)
        sigmas = self.sigmas.to(predicted)
        error = distance / (2 * (2 * sigmas).square() * (area[:, None] + 1e-9))
        factor = visible.shape[1] / (visible.sum(dim=1, keepdim=True) + 1e-9)
        points = (factor * (1 - torch.exp(-error)) * visible).mean()
        if predicted.shape[-1] == 2:
            return points, points.new_zeros(())
        return points, F.binary_cross_entropy_with_logits(predicted[..., 2], visible)
        # END SOLUTION


class PoseParts(NamedTuple):
    """The sum and its five parts, each a scalar tensor, gains included."""

    total: Tensor
    box: Tensor
    pose: Tensor
    visibility: Tensor
    cls: Tensor
    dfl: Tensor


class PoseLoss(DetectionLoss):
    """The detection loss, and the keypoint loss of the anchors that answer for an object.

    Args:
        model: a `PoseYOLO`.
        sigmas: (K,) of the loss; COCO's where the shape is (17, 3), else 1 / K, as Ultralytics does.
        pose_gain, visibility_gain: weights of the two new parts. gains: those of `DetectionLoss`.

    Attributes:
        assigned: the `Assignment` that the detection loss made in the last forward.

    Shape:
        three raw maps, targets (N, 6 + 3·K): image index, class, x1 y1 x2 y2, then x y visibility
        of each keypoint, all in pixels -> `PoseParts`

    The keypoint parts are averages over the foreground's keypoints, and 0 without foreground. Unlike
    the box losses they are not weighed by the target scores, and no gradient of theirs reaches
    boxes or scores. The detection loss returns its parts with their gains.
    """

    def __init__(
        self,
        model: PoseYOLO,
        sigmas: Sequence[float] | None = None,
        pose_gain: float = 12.0,
        visibility_gain: float = 1.0,
        **gains: float,
    ):
        super().__init__(model, **gains)
        count = model.keypoint_shape[0]
        # BEGIN SOLUTION
        if sigmas is None:
            is_coco = model.keypoint_shape == (17, 3)
            sigmas = [s / 1000 for s in COCO_SIGMAS] if is_coco else [1 / count] * count
        # END SOLUTION
        if len(sigmas) != count or min(sigmas) <= 0:
            raise ValueError(f"sigmas takes {count} positive numbers, one for each keypoint; these are {list(sigmas)}")
        self.split, self.keypoint_loss = model.split, KeypointLoss(sigmas)
        self.pose_gain, self.visibility_gain = pose_gain, visibility_gain
        self.assigned: Assignment | None = None
        assign = self.assigner

        def remember(*arguments: Tensor) -> Assignment:
            self.assigned = assign(*arguments)
            return self.assigned

        self.assigner = remember

    def forward(self, maps: Sequence[Tensor], targets: Tensor) -> PoseParts:
        detector_maps, raw = self.split(maps)
        found = super().forward(detector_maps, targets[:, :6])
        # BEGIN SOLUTION
        anchors, strides = make_anchors([m.shape[2:] for m in maps], self.strides, raw.device)
        image, anchor = self.assigned.foreground.nonzero(as_tuple=True)  # (P,) each
        pose = visibility = raw[..., :0].sum()  # 0 without foreground
        if len(image):
            # gt_index counts the slots of an image: pad_targets arranges row numbers as it arranged the boxes
            number = torch.arange(len(targets), device=targets.device)
            numbered = torch.cat((targets[:, :1], number[:, None], targets[:, 2:6]), dim=1)
            rows, _, _ = pad_targets(numbered, len(raw))  # (B, G)
            row = rows[image, self.assigned.gt_index[image, anchor]]  # (P,)
            stride = strides[anchor]  # (P, 1)
            truth = targets[row, 6:].unflatten(-1, (-1, 3)).float()
            truth = torch.cat((truth[..., :2] / stride[:, None], truth[..., 2:]), dim=-1)
            boxes = self.assigned.boxes[image, anchor] / stride
            area = (boxes[:, 2:] - boxes[:, :2]).prod(dim=-1)
            points = raw[image, anchor]
            points = torch.cat((points[..., :2] * 2 + anchors[anchor, None] - 0.5, points[..., 2:]), dim=-1)
            pose, visibility = self.keypoint_loss(points, truth, area)
        parts = {"box": found.box, "pose": pose * self.pose_gain, "visibility": visibility * self.visibility_gain}
        parts |= {"cls": found.cls, "dfl": found.dfl}
        return PoseParts(sum(parts.values()), **parts)
        # END SOLUTION


@torch.no_grad()
def predict_poses(
    maps: Sequence[Tensor],
    model: PoseYOLO,
    score_threshold: float = 0.25,
    iou_threshold: float = 0.7,
    max_detections: int = 300,
) -> list[Tensor]:
    """Detections of each image with their keypoints: the boxes that `boxes.predict` keeps.

    Boxes alone decide what is kept. A keypoint may lie outside its box, and outside the image.

    Args:
        maps: the raw maps of `model`, whose channels it tells apart.
        score_threshold, iou_threshold, max_detections: as those of `boxes.predict`.

    Returns:
        Per image (n, 6 + K·d) on the CPU: x1 y1 x2 y2 in pixels, score, class, then each keypoint,
        x y in pixels and, where d is 3, its visibility in 0…1; best score first.
    """
    detector_maps, raw = model.split(maps)
    anchors, strides = make_anchors([m.shape[2:] for m in maps], model.strides, raw.device)
    keypoints = decode_keypoints(raw, anchors, strides).flatten(2)  # (B, A, K·d)
    detections = []
    for boxes, scores, points in zip(*decode(detector_maps, model.reg_max, model.strides), keypoints, strict=True):
        best, label = scores.max(dim=-1)
        anchor = (best > score_threshold).nonzero(as_tuple=True)[0]
        found, score, label = boxes[anchor].cpu(), best[anchor].cpu(), label[anchor].cpu()
        kept = non_maximum_suppression(found, score, label, iou_threshold, max_detections)
        box = torch.cat((found[kept], score[kept, None], label[kept, None].float()), dim=1)
        detections.append(torch.cat((box, points[anchor].cpu()[kept]), dim=1))
    return detections
