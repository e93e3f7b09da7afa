"""What a teacher of keypoints adds to stage 9: its answers about keypoints, and their loss.

`distill.DistillationLoss` is used as it is. It knows one response loss on raw maps. Here that one
response has two halves: the class response of stage 9, on the channels that a detector has, and a
keypoint response on the channels behind them. Nothing here names Ultralytics, so that the losses
serve this course's own engine as well.

    loss = PoseDistillationLoss(
        PoseLoss(model), model, teacher, response=ResponseLoss(names, names)
    )
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..boxes import decode, flatten_maps, make_anchors
from ..distill import NECK, DistillationError, DistillationLoss, Teacher
from ..pose import PoseParts

# With it the gradient in the keypoint branch is about as long as that of the labels' `pose` term: over the first
# 25 steps on planes mini the ratio at gain 1 was 1 / 1.5 at first, then 1 / 5.1 to 1 / 6.5.
KEYPOINT_GAIN = 5.0


class PoseTeacher(Teacher):
    """A `Teacher` that knows the names of its keypoints.

    Args:
        model: a `PoseYOLO`. class_names, layers: as those of `Teacher`.
        keypoint_names: K names in the order of its channels; empty where nobody knows them.
    """

    def __init__(
        self,
        model: nn.Module,
        class_names: Sequence[str],
        keypoint_names: Sequence[str] = (),
        layers: Sequence[str] = NECK,
    ):
        super().__init__(model, class_names, layers)
        self.keypoint_names = tuple(keypoint_names)


def check_keypoints(shape: Sequence[int], names: Sequence[str], teacher: Teacher) -> None:
    """Refuse a teacher whose keypoints are not the student's.

    A keypoint has no name in the network, only a place among the channels. So a teacher of another
    order would teach the nose as the tail, and no shape would tell.

    Args:
        shape: (K, d) of the student.
        names: K names of the student's keypoints, in order; empty where they are not known. Then,
            or where the teacher does not know its own, only the shapes are compared.

    Errors: DistillationError.
    """
    theirs = getattr(teacher.model, "keypoint_shape", None)
    if theirs is None:
        raise DistillationError(
            "the student learns keypoints and the teacher is a detector, which knows none: take a pose network as "
            "teacher."
        )
    if tuple(theirs) != tuple(shape):
        raise DistillationError(
            f"the teacher's keypoint shape is {tuple(theirs)}, the student's {tuple(shape)}: (keypoints, numbers of "
            "each). They must be equal: take a teacher that was trained on the same keypoints."
        )
    known = getattr(teacher, "keypoint_names", ())
    if names and known and tuple(names) != tuple(known):
        what = "in another order" if sorted(names) == sorted(known) else "under other names"
        raise DistillationError(
            f"the teacher has its keypoints {what}: {', '.join(known)}; the student has {', '.join(names)}. Each "
            "channel is compared with the same channel, so names and order must be equal."
        )


def keypoint_response(student: Tensor, teacher: Tensor, score: Tensor, area: Tensor) -> Tensor:
    """The student's keypoints should lie where the teacher's do, at the positions that see an object.

        Σ_a s_a · 1/K Σ_k (v_k · d_k² / area_a + KL(v_k ‖ v'_k)) / max(Σ_a s_a, 1)

    d_k is the distance between the two answers about keypoint k, s_a the teacher's score at the
    position, v_k its probability that keypoint k is visible. Why in this form:

    - d²/area is the exponent of the keypoint similarity. It is the same for a small and a large
      aircraft. The similarity itself is left out: its gradient dies where a student is far off, and
      it needs a σ. A cell's own area is the least, so that a tiny box does not outweigh all.
    - The score is the weight, because at most positions there is no object, and no label has ever
      told the teacher what to say there. The labels' own loss does not look at those either.
    - v_k is a weight too: no label told the teacher where a hidden keypoint is.
    - Visibility is a coin, so it is compared as the classes are, by the divergence of two coins.

    Args:
        student, teacher: (B, A, K, d) raw keypoints; d = 3 has a logit of visibility.
        score: (B, A) the teacher's largest class probability.
        area: (B, A) of the teacher's box, in the square of the position's stride.

    Returns:
        A scalar, at least 0; 0 if the answers are equal where the score is not 0.
    """
    mine, wanted = student.float(), teacher.float()
    distance = 4 * (mine[..., :2] - wanted[..., :2]).square().sum(dim=-1)  # a raw number counts two strides
    error = distance / area.clamp(min=1)[..., None]  # (B, A, K)
    if mine.shape[-1] == 3:
        logit, wish = mine[..., 2], wanted[..., 2]
        yes, no = F.logsigmoid(wish) - F.logsigmoid(logit), F.logsigmoid(-wish) - F.logsigmoid(-logit)
        visible = wish.sigmoid()
        error = visible * error + visible * yes + (1 - visible) * no
    return (score * error.mean(dim=-1)).sum() / score.sum().clamp(min=1)


class PoseResponse:
    """The two responses of a pose network, as one response loss for `DistillationLoss`.

    Args:
        keypoint_shape: (K, d) of student and teacher.
        classes: a response loss on a detector's raw maps, such as `ResponseLoss`; None for none.
        keypoints: a function with the arguments of `keypoint_response`; None for none.
        class_gain, keypoint_gain: weights of the two.
        reg_max: R.

    Attributes:
        parts: both terms of the latest call, gains included; 0 for one that is not asked for. Whoever
            takes them sets None.
    """

    def __init__(
        self,
        keypoint_shape: Sequence[int],
        classes: Callable | None,
        keypoints: Callable | None = keypoint_response,
        class_gain: float = 1.0,
        keypoint_gain: float = KEYPOINT_GAIN,
        reg_max: int = 16,
    ):
        self.shape, self.reg_max = tuple(keypoint_shape), reg_max
        self.losses, self.gains = (classes, keypoints), (class_gain, keypoint_gain)
        self.parts: tuple[Tensor, Tensor] | None = None

    def __call__(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        """(raw maps of the student, of the teacher), each (B, 4·R + C + K·d, h, w) -> the sum."""
        (mine, points), (wanted, wanted_points) = self._split(student), self._split(teacher)
        classes = keypoints = points.new_zeros(())
        if self.losses[0]:
            classes = self.losses[0](mine, wanted) * self.gains[0]
        if self.losses[1]:
            boxes, scores = decode(wanted, self.reg_max)
            strides = make_anchors([m.shape[2:] for m in wanted], device=boxes.device)[1]  # (A, 1)
            area = ((boxes[..., 2:] - boxes[..., :2]) / strides).clamp(min=0).prod(dim=-1)
            keypoints = self.losses[1](points, wanted_points, scores.amax(dim=-1), area) * self.gains[1]
        self.parts = classes, keypoints
        return classes + keypoints

    def _split(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        """A detector's raw maps, and the raw keypoints (B, A, K, d)."""
        numbers = self.shape[0] * self.shape[1]
        points = flatten_maps([level[:, -numbers:] for level in maps]).float()
        return [level[:, :-numbers] for level in maps], points.unflatten(-1, self.shape)


class PoseDistillationParts(NamedTuple):
    """The loss and its eight parts, each a scalar tensor with its gain included."""

    total: Tensor  # the sum of the eight parts
    box: Tensor
    pose: Tensor
    visibility: Tensor
    cls: Tensor
    dfl: Tensor
    feature: Tensor
    response: Tensor
    keypoint: Tensor


class PoseDistillationLoss(DistillationLoss):
    """Stage 9's loss around a pose loss, with the parts of both.

    Args:
        labels: (raw maps, targets) -> `PoseParts`, such as `pose.PoseLoss`.
        student: a `PoseYOLO`.
        teacher: of the student's `keypoint_shape`.
        feature, response: as those of `DistillationLoss`; the response gets a detector's channels.
        keypoint: a function with the arguments of `keypoint_response`; None for none.
        feature_gain, response_gain, keypoint_gain: weights of the three.

    Shape:
        three raw maps, targets (N, 6 + 3·K) -> `PoseDistillationParts`

    Errors: DistillationError if the teacher's keypoint shape is not the student's.
    """

    def __init__(
        self,
        labels: Callable,
        student: nn.Module,
        teacher: Teacher,
        feature: Callable | None = None,
        response: Callable | None = None,
        keypoint: Callable | None = keypoint_response,
        feature_gain: float = 1.0,
        response_gain: float = 1.0,
        keypoint_gain: float = KEYPOINT_GAIN,
    ):
        shape = getattr(student, "keypoint_shape", None) or getattr(teacher.model, "keypoint_shape", ())
        check_keypoints(shape, (), teacher)
        both = PoseResponse(
            shape, response, keypoint, response_gain, keypoint_gain, getattr(teacher.model, "reg_max", 16)
        )

        def remember(maps: Sequence[Tensor], targets: Tensor) -> PoseParts:
            self.seen = labels(maps, targets)
            return self.seen

        super().__init__(remember, student, teacher, feature, both if response or keypoint else None, feature_gain)
        self.labels = labels  # a module of its own, so that `to` and `state_dict` reach it
        self.seen: PoseParts | None = None

    def forward(self, maps: list[Tensor], targets: Tensor) -> PoseDistillationParts:
        found = super().forward(maps, targets)
        classes = keypoints = torch.zeros_like(found.total)
        if self.response:
            classes, keypoints = (part * self.share for part in self.response.parts)
            self.response.parts = None
        labels, self.seen = self.seen, None  # kept, it would keep the whole graph of this step
        return PoseDistillationParts(found.total, *labels[1:], found.feature, classes, keypoints)
