"""Learning from another detector, not from labels alone.

    images ──┬── student ── maps, features ──┬── detection loss, against the labels
             │                               ├── feature loss:  where in the map does each channel look?
             └── teacher ── maps, features ──┴── response loss: how likely is each class that both know?

The engine knows nothing of this. The teacher lives inside the loss; what is trained, averaged,
evaluated and saved is the student alone.

Sources: Shu et al. 2021, Channel-wise Knowledge Distillation for Dense Prediction (equation 4), as
TorchDistiller, mmrazor and YOLOv6 have it; Hinton et al. 2015, Distilling the Knowledge in a Neural
Network (section 2); YOLOv6 `yolov6/models/losses/loss_distill.py` for the decay.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .boxes import flatten_maps

NECK = ("neck.csp_x", "neck.csp_y", "neck.csp_z")  # the three maps that the head reads


class DistillationError(ValueError):
    """A teacher that cannot teach this student; the message says why, and what to do."""


class DistillationParts(NamedTuple):
    """The sum, and what it is the sum of; each a scalar tensor, gains included."""

    total: Tensor
    box: Tensor
    cls: Tensor
    dfl: Tensor
    feature: Tensor
    response: Tensor


class Taps:
    """What a model was given, and what some of its layers gave, in its latest forward pass.

    Args:
        model: listened to in training mode alone, so neither validation nor an averaged copy of it
            leaves anything here.
        layers: names of submodules.

    The listeners go when this object goes.
    """

    def __init__(self, model: nn.Module, layers: Sequence[str], training_only: bool = True):
        self.layers, self.seen = tuple(layers), {}
        seen = self.seen  # the listeners must not hold this object itself

        def listen(name: str, value: Tensor, module: nn.Module) -> None:
            if module.training or not training_only:
                seen[name] = value

        handles = [model.register_forward_pre_hook(lambda module, inputs: listen("images", inputs[0], module))]
        for name in self.layers:
            layer = model.get_submodule(name)
            handles.append(
                layer.register_forward_hook(lambda module, _, output, name=name: listen(name, output, module))
            )
        self.remove = weakref.finalize(self, lambda: [handle.remove() for handle in handles])

    def take(self) -> tuple[Tensor, list[Tensor]]:
        """The images and the layers' outputs, which are not kept any longer."""
        if "images" not in self.seen:
            raise DistillationError(
                "the student has not run in training mode since the last loss; call the model that this loss was "
                "made for."
            )
        taken = [self.seen.pop(name) for name in ("images", *self.layers)]
        return taken[0], taken[1:]


class Teacher:
    """A trained detector that only answers.

    It is no `nn.Module`, so a module that owns it does not own its weights: they are in nobody's
    `parameters()` and `state_dict()`, and nobody's `train()` reaches them. The wrapped model is
    always in eval mode when it answers, so that its batch normalisations use what they have learned
    and learn nothing more.

    Args:
        model: images (B, 3, H, W) in 0…1 -> raw maps; its parameters stop asking for gradients.
        class_names: of its class channels, in order.
        layers: names of the submodules whose outputs it also gives.
    """

    def __init__(self, model: nn.Module, class_names: Sequence[str], layers: Sequence[str] = NECK):
        self.model, self.class_names = model, tuple(class_names)
        self.taps = Taps(model, layers, training_only=False)
        raise NotImplementedError("exercise distill.Teacher: course/09_distillation.ipynb")

    def __call__(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Raw maps (B, 4·R + C, h, w) and the outputs of the layers, without any gradient."""
        raise NotImplementedError("exercise distill.Teacher: course/09_distillation.ipynb")


class ChannelWiseLoss:
    """CWD: each channel of a map says where it looks; the student is to look at the same places.

    Of each channel, a softmax over all positions makes a distribution. The loss is how far the
    student's is from the teacher's:

        τ² / (B·C) · Σ_{b,c} KL(p_T ‖ p_S),   p = softmax over H·W of map / τ,   summed over the maps

    It does not change when a constant is added to a channel, nor when a map is tiled.

    Args:
        temperature: τ. The larger, the more positions count; τ² keeps the size of the gradient.
    """

    def __init__(self, temperature: float = 1.0):
        self.temperature = temperature

    def __call__(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        """The loss of several maps.

        Args:
            student, teacher: lists of maps (B, C, h, w), equal in shape one by one; of any float
                type, computed in float32.

        Returns:
            A scalar, at least 0, and 0 for equal maps.

        Errors: ValueError where the lists differ in length.
        """
        raise NotImplementedError("exercise distill.ChannelWiseLoss: course/09_distillation.ipynb")


class ResponseLoss:
    """KL: the student is to find the classes that both know as likely as the teacher does, at every
    position.

    YOLOv8's classes are independent: each has a sigmoid, and "none of them" is an answer. So a
    class is a coin, and the loss the divergence of two coins ("bernoulli"). The founding assignment
    takes a softmax over the classes instead, which compares their order
    and is blind to a shift of all of them: a teacher that is sure of nothing and one that is sure
    of everything teach the same ("softmax").

        τ² / (B·A·C) · Σ KL(p_T ‖ p_S),   p = sigmoid or softmax of the shared classes' logits / τ

    Args:
        student_classes, teacher_classes: names in the order of the class channels; those of equal
            names are compared.
        kind: "bernoulli" or "softmax".
        temperature: τ.
        reg_max: R; the first 4·R channels of a raw map are the box's.

    Errors: DistillationError where no class is shared.
    """

    def __init__(
        self,
        student_classes: Sequence[str],
        teacher_classes: Sequence[str],
        kind: str = "bernoulli",
        temperature: float = 1.0,
        reg_max: int = 16,
    ):
        if kind not in ("bernoulli", "softmax"):
            raise ValueError(f"unknown kind of response loss {kind!r}; choose bernoulli or softmax")
        self.kind, self.temperature, self.reg_max = kind, temperature, reg_max
        self.counts = len(student_classes), len(teacher_classes)
        shared = [name for name in teacher_classes if name in student_classes]
        if not shared:
            raise DistillationError(
                f"teacher and student share no class: the teacher knows {', '.join(teacher_classes)}; the student "
                f"learns {', '.join(student_classes)}. Classes are matched by name."
            )
        self.student_index = [list(student_classes).index(name) for name in shared]
        self.teacher_index = [list(teacher_classes).index(name) for name in shared]

    def __call__(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        """The loss of two sets of raw maps.

        Args:
            student, teacher: raw maps (B, 4·R + C, h, w) of all levels; each has its own C.

        Returns:
            A scalar, at least 0, and 0 where the shared classes' logits are equal.

        Errors: DistillationError where a map has another number of channels.
        """
        for whose, maps, count in zip(("student", "teacher"), (student, teacher), self.counts, strict=True):
            if (channels := maps[0].shape[1]) != 4 * self.reg_max + count:
                raise DistillationError(
                    f"the {whose}'s raw maps have {channels} channels; its {count} classes and 4 · {self.reg_max} for "
                    f"the box make {4 * self.reg_max + count}. Give two lists of raw maps (B, channels, h, w), the "
                    "student's first."
                )
        raise NotImplementedError("exercise distill.ResponseLoss: course/09_distillation.ipynb")


def attention_loss(student: Sequence[Tensor], teacher: Sequence[Tensor], temperature: float = 0.5) -> Tensor:
    """A feature loss as a plain function: the squared difference, where and in which channels the
    teacher's map is strong.

    Source: Yang et al. 2022, Focal and Global Knowledge Distillation, equations 2 to 6, without its
    masks of the true boxes.
    """
    loss = 0.0
    for mine, wanted in zip(student, teacher, strict=True):
        mine, wanted = mine.float(), wanted.float()
        strength = wanted.abs()
        places = (strength.mean(dim=1).flatten(1) / temperature).softmax(dim=-1)  # (B, h·w), sums to 1
        channels = (strength.mean(dim=(2, 3)) / temperature).softmax(dim=-1)  # (B, C), sums to 1
        loss = loss + torch.einsum("bcn,bc,bn->b", (mine - wanted).flatten(2).square(), channels, places).mean()
    return loss


class DistillationLoss(nn.Module):
    """The detection loss, and what the teacher adds to it.

    Args:
        detection: (raw maps, targets) -> parts with total, box, cls, dfl; such as
            `losses.DetectionLoss`.
        student: the model whose maps it will be given, with submodules of the names of
            `teacher.taps.layers`.
        teacher: answers for the images that the student was given, in the number format that the
            student computed in.
        feature: (student's list, teacher's list) -> scalar, on the outputs of the layers; any
            function; None for none.
        response: the same on raw maps.
        feature_gain, response_gain: weights of the two.

    Attributes:
        share: of both gains, 1 at first; a schedule may lower it.

    Shape:
        three raw maps, targets (N, 6) -> `DistillationParts`

    Errors: DistillationError where a layer of the teacher has another shape than the student's.
    """

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
        form = maps[0].dtype
        with torch.autocast(images.device.type, dtype=form, enabled=form in (torch.bfloat16, torch.float16)):
            wanted_maps, wanted_features = self.teacher(images)
        if self.feature:
            for name, mine, wanted in zip(self.taps.layers, features, wanted_features, strict=True):
                if mine.shape != wanted.shape:
                    raise DistillationError(
                        f"{name}: the student's map is {tuple(mine.shape)}, the teacher's {tuple(wanted.shape)}. A "
                        "feature loss compares channel with channel: take a teacher of the student's size, or the "
                        "response loss alone."
                    )
        raise NotImplementedError("exercise distill.DistillationLoss: course/09_distillation.ipynb")
