"""DFL distillation: the student learns how sure the teacher is of each edge, not only where it is.

A detector says the distance of each edge as a distribution over R bins. A blurred edge makes a wide
distribution, and the label, a single number, cannot teach that. Here the teacher's distribution is
the target, at the positions that the labels' loss has assigned to objects:

    loss = DistillationLoss(DetectionLoss(model), model, teacher)  # of stage 9, or a pose run's
    loss = DflDistillationLoss(loss, model, gain=1.0)

Nothing here names a framework, so that the loss serves any loss that has a `teacher`.

Sources: YOLOv6 `yolov6/models/losses/loss_distill.py` and `loss_distill_ns.py`, distill_loss_dfl;
Zheng et al. 2022, Localization Distillation for Dense Object Detection.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Sequence
from functools import cache
from typing import Any

from torch import Tensor, nn

from ..assigner import Assignment
from ..boxes import flatten_maps
from ..distill import DistillationError
from ..losses import sum_over_processes


def distance_divergence(
    student: Tensor, teacher: Tensor, weight: Tensor, temperature: float = 1.0, reg_max: int = 16
) -> Tensor:
    """The divergence of the student's four distributions from the teacher's, weighed and summed.

        τ² · Σ_p w_p · 1/4 Σ_e KL(p_T ‖ p_S),   p = softmax over the R bins of logits / τ

    Each position has its own weight. YOLOv6 averages the divergence over all positions before it
    multiplies by the weights, so a position that sees its object badly teaches as much as any other.

    Args:
        student, teacher: (P, 4·R) raw distributions of P positions. Any float dtype; the loss is
            computed in float32.
        weight: (P,).
        temperature: τ. With a larger τ the improbable bins count more, and τ² keeps the size of the
            gradient. YOLOv6 takes 20.
        reg_max: R.

    Returns:
        A scalar, at least 0; 0 for equal distributions. With P = 0 it is 0 and still has a gradient.
    """
    edges, wanted = (part.float().unflatten(-1, (4, reg_max)) / temperature for part in (student, teacher))
    log_p_s, log_p_t = edges.log_softmax(dim=-1), wanted.log_softmax(dim=-1)  # (P, 4, R)
    divergence = (log_p_t.exp() * (log_p_t - log_p_s)).sum(dim=-1).mean(dim=-1)  # (P,)
    return (divergence * weight).sum() * temperature**2


class DflDistillationLoss(nn.Module):
    """A distillation loss plus the divergence of the distances' distributions, as a part `distance`.

    The positions and their weights are those of the labels' box loss: the foreground of the
    student's own assignment, and the sum of the target scores. The divergence is divided by what
    the box loss is divided by. No gradient flows into the teacher or through the assignment.

    Args:
        loss: (raw maps, targets) -> parts, with a `teacher` that answers (raw maps, features), a
            `share`, and in it a module with an `assigner`; such as `distill.DistillationLoss`
            around `losses.DetectionLoss`, or `pose_distillation.PoseDistillationLoss`. From now on
            it belongs to this loss.
        student: its reg_max is read; it is not kept.
        gain: weight of the part. temperature: τ.

    Attributes:
        share: the factor of `loss` on what a teacher says; it applies to this part too.

    Shape:
        three raw maps, targets -> the parts of `loss`, and `distance`

    Errors: DistillationError if the teacher has another reg_max; ValueError for a gain below 0 or a
    temperature that is not above 0.
    """

    def __init__(self, loss: nn.Module, student: nn.Module, gain: float = 1.0, temperature: float = 1.0):
        super().__init__()
        if not gain >= 0 or not temperature > 0:
            raise ValueError(
                f"DFL distillation: gain is {gain} and temperature is {temperature}. Give a gain of at least 0 and a "
                "temperature above 0."
            )
        theirs = loss.teacher.model.reg_max
        if theirs != student.reg_max:
            raise DistillationError(
                f"the teacher's distances have {theirs} bins, the student's {student.reg_max}: DFL distillation "
                f"compares bin with bin. Take a teacher with reg_max {student.reg_max}, or leave dfl_gain at 0."
            )
        self.loss, self.gain, self.temperature, self.reg_max = loss, gain, temperature, student.reg_max
        self.seen = _overhear(loss)

    @property
    def share(self) -> float:
        return self.loss.share

    @share.setter
    def share(self, share: float) -> None:
        self.loss.share = share

    def forward(self, maps: list[Tensor], targets: Tensor) -> Any:
        parts = self.loss(maps, targets)
        assigned: Assignment = self.seen.pop("assigned")
        wanted: Sequence[Tensor] = self.seen.pop("maps")
        image, anchor = assigned.foreground.nonzero(as_tuple=True)  # (P,) each
        mine, wanted = (self._distributions(level)[image, anchor] for level in (maps, wanted))
        weight = assigned.scores[image, anchor].sum(dim=-1)
        distance = distance_divergence(mine, wanted, weight, self.temperature, self.reg_max)
        total, processes = sum_over_processes(assigned.scores.sum())
        return add_part(parts, "distance", distance * processes / total.clamp(min=1) * self.gain * self.share)

    def _distributions(self, maps: Sequence[Tensor]) -> Tensor:
        """(B, A, 4·R) of raw maps."""
        return flatten_maps([level[:, : 4 * self.reg_max] for level in maps])


def _overhear(loss: nn.Module) -> dict[str, Any]:
    """The dict in which each step leaves the teacher's raw `maps` and the `assigned` targets."""
    seen: dict[str, Any] = {}  # the two functions do not hold the module, so that it can be deleted
    labels = next(part for part in loss.modules() if hasattr(part, "assigner"))
    teacher, assigner = loss.teacher, labels.assigner

    def answer(images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        maps, features = teacher(images)
        seen["maps"] = maps
        return maps, features

    def assign(*arguments: Tensor) -> Assignment:
        seen["assigned"] = assigner(*arguments)
        return seen["assigned"]

    loss.teacher, labels.assigner = answer, assign
    return seen


def add_part(parts: Any, name: str, value: Tensor) -> Any:
    """The parts of a loss with one more part, which is in the total too.

    Args:
        parts: a named tuple with `total` first, such as `losses.LossParts`.
        name: of the new part, the last one. value: a scalar.
    """
    return _parts((*parts._fields, name))(parts.total + value, *parts[1:], value)


@cache
def _parts(fields: tuple[str, ...]) -> type:
    return namedtuple("Parts", fields)
