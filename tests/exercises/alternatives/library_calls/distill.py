"""Stage 9 by torch's kl_div, stage 7's freeze, and cross-entropy minus entropy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .boxes import flatten_maps
from .training import freeze

NECK = ("neck.csp_x", "neck.csp_y", "neck.csp_z")


class DistillationError(ValueError):
    """Given; the judge uses the reference's."""


class DistillationParts(NamedTuple):
    """Given; the judge uses the reference's."""

    total: Tensor


class Taps:
    """Given; the judge uses the reference's."""


class Teacher:
    def __init__(self, model: nn.Module, class_names: Sequence[str], layers: Sequence[str] = NECK):
        self.model, self.class_names = model, tuple(class_names)
        self.taps = Taps(model, layers, training_only=False)
        freeze(model)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        maps = self.model.train(False)(images)
        _, features = self.taps.take()
        return maps, features


class ChannelWiseLoss:
    def __init__(self, temperature: float = 1.0):
        self.temperature = temperature

    def __call__(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        losses = []
        for s, t in zip(student, teacher, strict=True):
            rows = s.shape[0] * s.shape[1]
            log_s = (s.float() / self.temperature).reshape(rows, -1).log_softmax(-1)
            log_t = (t.detach().float() / self.temperature).reshape(rows, -1).log_softmax(-1)
            losses.append(F.kl_div(log_s, log_t, reduction="batchmean", log_target=True))
        return torch.stack(losses).sum() * self.temperature**2


class ResponseLoss:
    def __init__(
        self,
        student_classes: Sequence[str],
        teacher_classes: Sequence[str],
        kind: str = "bernoulli",
        temperature: float = 1.0,
        reg_max: int = 16,
    ):
        self.kind, self.temperature, self.reg_max = kind, temperature, reg_max
        shared = [name for name in teacher_classes if name in student_classes]
        self.student_index = [list(student_classes).index(name) for name in shared]
        self.teacher_index = [list(teacher_classes).index(name) for name in shared]

    def __call__(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        s = self.shared(student, self.student_index)
        t = self.shared(teacher, self.teacher_index).detach()
        if self.kind == "softmax":
            mean = F.kl_div(s.log_softmax(-1), t.log_softmax(-1), reduction="mean", log_target=True)
        else:
            answers = t.sigmoid()
            cross = F.binary_cross_entropy_with_logits(s, answers, reduction="none")
            own = F.binary_cross_entropy_with_logits(t, answers, reduction="none")
            mean = (cross - own).mean()
        return mean * self.temperature**2

    def shared(self, maps: Sequence[Tensor], index: list[int]) -> Tensor:
        channels = torch.tensor(index, device=maps[0].device) + 4 * self.reg_max
        return flatten_maps(maps).index_select(2, channels).float() / self.temperature


class DistillationLoss(nn.Module):
    def __init__(
        self,
        detection: nn.Module,
        student: nn.Module,
        teacher: Teacher,
        feature: Callable | None = None,
        response: Callable | None = None,
        feature_gain: float = 1.0,
        response_gain: float = 1.0,
    ):
        super().__init__()
        self.detection, self.teacher, self.feature, self.response = detection, teacher, feature, response
        self.feature_gain, self.response_gain, self.share = feature_gain, response_gain, 1.0
        self.taps = Taps(student, teacher.taps.layers if feature else ())

    def forward(self, maps: list[Tensor], targets: Tensor) -> DistillationParts:
        images, features = self.taps.take()
        dtype = maps[0].dtype
        with torch.autocast(images.device.type, dtype=dtype, enabled=dtype in (torch.bfloat16, torch.float16)):
            wanted_maps, wanted_features = self.teacher(images)
        total, *parts = self.detection(maps, targets)
        none = torch.zeros_like(total)
        taught = [
            none if loss is None else self.share * gain * loss(mine, wanted)
            for loss, gain, mine, wanted in (
                (self.feature, self.feature_gain, features, wanted_features),
                (self.response, self.response_gain, maps, wanted_maps),
            )
        ]
        return DistillationParts(total + sum(taught), *parts, *taught)
