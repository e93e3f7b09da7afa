"""Stage 9 as somebody with a year of PyTorch writes it: einsum, coins as pairs of logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .boxes import flatten_maps

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
        [parameter.requires_grad_(False) for parameter in model.parameters()]

    def __call__(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        modes = {module: module.training for module in self.model.modules()}
        self.model.eval()
        with torch.no_grad():
            maps = [own.detach() for own in self.model(images.detach())]
        for module, mode in modes.items():
            module.training = mode
        return maps, self.taps.take()[-1]


class ChannelWiseLoss:
    def __init__(self, temperature: float = 1.0):
        self.temperature = temperature

    def __call__(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        square = self.temperature**2
        return sum(square * self.one(s.double(), t.double()).float() for s, t in zip(student, teacher, strict=True))

    def one(self, s: Tensor, t: Tensor) -> Tensor:
        batch, channels, height, width = s.shape
        s, t = (own.reshape(batch * channels, height * width) / self.temperature for own in (s, t))
        log_p, log_q = (own - own.logsumexp(dim=1, keepdim=True) for own in (t, s))
        return torch.einsum("rp,rp->", log_p.exp(), log_p - log_q) / len(s)


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
        start = 4 * self.reg_max
        s = flatten_maps([m[:, start:] for m in student])[:, :, self.student_index].float() / self.temperature
        t = flatten_maps([m[:, start:] for m in teacher])[:, :, self.teacher_index].float() / self.temperature
        count = s.numel()
        if self.kind == "bernoulli":  # a coin is a choice between the logit and 0
            s, t = (torch.stack((own, torch.zeros_like(own)), dim=-1) for own in (s, t))
        log_p, log_q = t - t.logsumexp(-1, keepdim=True), s - s.logsumexp(-1, keepdim=True)
        return torch.einsum("...c,...c->", log_p.exp(), log_p - log_q) / count * self.temperature**2


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

        def weighed(loss: Callable | None, gain: float, *lists: list[Tensor]) -> Tensor:
            return maps[0].new_zeros((), dtype=torch.float32) if loss is None else loss(*lists) * gain * self.share

        one = weighed(self.feature, self.feature_gain, features, wanted_features)
        other = weighed(self.response, self.response_gain, maps, wanted_maps)
        own = self.detection(maps, targets)
        return DistillationParts(own[0] + one + other, own[1], own[2], own[3], one, other)
