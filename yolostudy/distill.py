"""Learning from another detector, not from labels alone.

    images ─┬─ student ─ maps, features ─┬─ detection loss, against the labels
            │                            ├─ feature loss:  where does each channel look?
            └─ teacher ─ maps, features ─┴─ response loss: how likely is each shared class?

The engine knows nothing of this, because the teacher lives inside the loss. Only the student is
trained, averaged, evaluated and saved.

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
    """Teacher and student do not fit together; the message says why, and what to do."""


class DistillationParts(NamedTuple):
    """The loss and its five parts, each a scalar tensor with its gain included."""

    total: Tensor  # the sum of the five parts
    box: Tensor
    cls: Tensor
    dfl: Tensor
    feature: Tensor
    response: Tensor


class Taps:
    """Record the input of a model and the outputs of some of its layers in the latest forward pass.

    The hooks are removed when this object is deleted.

    Args:
        model: the model to listen to.
        layers: names of its submodules.
        training_only: record in training mode only, so that validation and the averaged copy leave
            nothing here.
    """

    def __init__(self, model: nn.Module, layers: Sequence[str], training_only: bool = True):
        self.layers, self.seen = tuple(layers), {}
        seen = self.seen  # a hook that held `self` would keep this object alive

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
        """Return the images and the list of the layers' outputs, and keep neither."""
        if "images" not in self.seen:
            raise DistillationError(
                "the student has not run in training mode since the last loss; call the model that this loss was "
                "made for."
            )
        taken = [self.seen.pop(name) for name in ("images", *self.layers)]
        return taken[0], taken[1:]


class Teacher:
    """A trained detector that only answers.

    It is no `nn.Module`. So the weights are in no `parameters()` and no `state_dict()` of a module
    that owns the teacher, and no `train()` reaches them. The wrapped model is in eval mode at every
    answer, so that its batch normalisations use their running statistics and do not change them.

    Args:
        model: images (B, 3, H, W) in 0…1 -> raw maps; its parameters no longer require gradients.
        class_names: names of its class channels, in order.
        layers: names of the submodules whose outputs it returns too.
    """

    def __init__(self, model: nn.Module, class_names: Sequence[str], layers: Sequence[str] = NECK):
        self.model, self.class_names = model, tuple(class_names)
        self.taps = Taps(model, layers, training_only=False)
        raise NotImplementedError("exercise distill.Teacher: course/09_distillation.ipynb")

    def __call__(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Return the raw maps (B, 4·R + C, h, w) and the outputs of the layers, without gradient."""
        raise NotImplementedError("exercise distill.Teacher: course/09_distillation.ipynb")


class ChannelWiseLoss:
    """CWD: each channel of the student's maps should look at the same places as the teacher's.

    A softmax over all positions turns each channel into a distribution. The loss of a map is the
    divergence of the student's distributions from the teacher's; it is summed over the maps:

        τ² / (B·C) · Σ_{b,c} KL(p_T ‖ p_S),   p = softmax over h·w of map / τ

    It does not change if a constant is added to a channel, or if a map is tiled.

    Args:
        temperature: τ. With a larger τ more positions count; τ² keeps the size of the gradient.
    """

    def __init__(self, temperature: float = 1.0):
        self.temperature = temperature

    def __call__(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        """The loss of several maps.

        Args:
            student, teacher: lists of maps (B, C, h, w); the two maps of a pair have the same
                shape. Any float dtype; the loss is computed in float32.

        Returns:
            A scalar, at least 0; 0 for equal maps.

        Errors: ValueError if the lists differ in length.
        """
        raise NotImplementedError("exercise distill.ChannelWiseLoss: course/09_distillation.ipynb")


class ResponseLoss:
    """KL: at every position the student should give the shared classes the teacher's probabilities.

        τ² / (B·A·C) · Σ KL(p_T ‖ p_S),   p = sigmoid or softmax of the shared classes' logits / τ

    "bernoulli": YOLOv8's classes are independent. Each has a sigmoid, and "none of them" is an
    answer too. So each class is a coin, and the loss is the divergence of two coins.
    "softmax": the founding assignment takes a softmax over the classes. It compares the classes
    with each other and does not notice if all logits are shifted: a teacher that is sure of nothing
    and one that is sure of everything teach the same.

    Args:
        student_classes, teacher_classes: names in the order of the class channels. Classes of the
            same name are shared; C counts them.
        kind: "bernoulli" or "softmax".
        temperature: τ.
        reg_max: R; the first 4·R channels of a raw map belong to the box.

    Errors: DistillationError if no class is shared.
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
            student, teacher: raw maps of all levels, each with 4·R channels and one for each of its
                own classes.

        Returns:
            A scalar, at least 0; 0 if the shared classes' logits are equal.

        Errors: DistillationError if a map has another number of channels.
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
    """A feature loss as a plain function: the squared difference, weighed by the teacher's strength.

    Places and channels count more where the teacher's map is strong.

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
    """The detection loss plus a feature loss and a response loss from a teacher.

    Args:
        detection: (raw maps, targets) -> parts with total, box, cls, dfl; such as
            `losses.DetectionLoss`.
        student: the model whose maps this loss will get. It has submodules with the names in
            `teacher.taps.layers`.
        teacher: gets the student's images, and computes in the student's number format.
        feature: any function (student's list, teacher's list) -> scalar, on the outputs of the
            layers; None for no feature loss.
        response: the same on raw maps.
        feature_gain, response_gain: weights of the two.

    Attributes:
        share: factor on both gains, 1 at first; a schedule may lower it.

    Shape:
        three raw maps, targets (N, 6) -> `DistillationParts`

    Errors: DistillationError if a layer's output has another shape in the teacher.
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
        dtype = maps[0].dtype
        with torch.autocast(images.device.type, dtype=dtype, enabled=dtype in (torch.bfloat16, torch.float16)):
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
