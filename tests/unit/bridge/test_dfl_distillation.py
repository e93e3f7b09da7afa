"""DFL distillation: its value and gradient against a plain loop, and the loss that carries it."""

import copy
import gc
import math

import pytest
import torch

from yolostudy.boxes import flatten_maps
from yolostudy.bridge.dfl_distillation import DflDistillationLoss, add_part, distance_divergence
from yolostudy.bridge.pose_distillation import PoseDistillationLoss, PoseTeacher
from yolostudy.distill import DistillationError, DistillationLoss, ResponseLoss, Teacher
from yolostudy.losses import DetectionLoss, LossParts
from yolostudy.network import YOLO
from yolostudy.pose import PoseLoss, PoseYOLO

CLASSES = ("A1", "A2")


def drawn(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_hand(student, teacher, weight, temperature: float, bins: int):
    """The definition, number by number: the value, and its gradient by the student's logits."""

    def softmax(logits):
        powers = [math.exp(logit / temperature) for logit in logits]
        return [power / sum(powers) for power in powers]

    value, gradient = 0.0, []
    for mine, wanted, w in zip(student.tolist(), teacher.tolist(), weight.tolist(), strict=True):
        gradient.append([])
        for edge in range(4):
            p_s, p_t = (softmax(logits[edge * bins : (edge + 1) * bins]) for logits in (mine, wanted))
            for s, t in zip(p_s, p_t, strict=True):
                value += temperature**2 * w / 4 * t * math.log(t / s)
                gradient[-1].append(temperature * w / 4 * (s - t))  # of τ² KL: one τ is left
    return value, torch.tensor(gradient)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_value_and_gradient_are_those_of_a_plain_loop(temperature):
    student, teacher, weight = drawn(5, 24, seed=0) * 2, drawn(5, 24, seed=1) * 2, drawn(5, seed=2).abs()
    mine = student.float().requires_grad_()
    found = distance_divergence(mine, teacher, weight, temperature, reg_max=6)
    found.backward()
    value, gradient = by_hand(student, teacher, weight, temperature, 6)
    assert found.item() == pytest.approx(value, rel=1e-5) and value > 0.1
    torch.testing.assert_close(mine.grad, gradient, rtol=1e-4, atol=1e-6)


def test_equal_distributions_cost_nothing_and_a_constant_on_an_edge_changes_nothing():
    teacher = drawn(3, 64, seed=0).float()
    shifted = (teacher.unflatten(-1, (4, 16)) + torch.arange(4.0)[:, None]).flatten(1)
    assert distance_divergence(shifted, teacher, torch.ones(3)).item() == pytest.approx(0, abs=1e-5)
    assert distance_divergence(teacher.roll(1, dims=1), teacher, torch.ones(3)).item() > 0.1


def test_half_precision_extreme_logits_and_no_position_at_all():
    wanted = torch.full((1, 64), -300.0)
    wanted[:, ::16] = 300.0
    mine = (-wanted).to(torch.bfloat16).requires_grad_()
    loss = distance_divergence(mine, wanted, torch.ones(1))
    loss.backward()
    assert loss.dtype == torch.float32 and bool(loss.isfinite()) and bool(mine.grad.isfinite().all())
    none = torch.empty(0, 64, requires_grad=True)
    nothing = distance_divergence(none, torch.empty(0, 64), torch.empty(0))
    nothing.backward()
    assert nothing.item() == 0 and none.grad.shape == (0, 64)


# Around the losses of detection and pose
# --------------------------------------------------------------------------------------------------


def a_network(seed: int, pose: bool = False, **shape) -> YOLO:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = PoseYOLO(2, keypoint_shape=(4, 3)) if pose else YOLO(2, **shape)
        for level in model.head.cls:
            level[-1].bias.data.normal_(-1, 1)
        for level in model.head.box:  # an untrained head says the same of every edge
            level[-1].bias.data.normal_(0, 1)
    return model


def images_and_targets(pose: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    row = [0, 1, 8, 8, 40, 48, 10, 10, 2, 38, 46, 2, 9, 45, 1, 39, 11, 0][: 18 if pose else 6]
    targets = torch.tensor([row, [1, 0, *row[2:]]], dtype=torch.float32)
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(2)), targets


def a_loss(student: YOLO, teacher: YOLO, pose: bool = False):
    if pose:
        return PoseDistillationLoss(PoseLoss(student), student, PoseTeacher(teacher, CLASSES), keypoint_gain=5.0)
    response = ResponseLoss(CLASSES, CLASSES)
    return DistillationLoss(DetectionLoss(student), student, Teacher(teacher, CLASSES), None, response, 0.0, 50.0)


@pytest.mark.parametrize("pose", [False, True])
def test_the_part_is_the_divergence_on_the_foreground_and_the_other_parts_stay(pose):
    images, targets = images_and_targets(pose)
    student, teacher = a_network(1, pose).train(), a_network(2, pose)
    state = copy.deepcopy(student.state_dict())
    maps = student(images)
    plain = a_loss(student, teacher, pose)
    labels = plain.labels if pose else plain.detection
    assigner, kept = labels.assigner, []
    labels.assigner = lambda *arguments: kept.append(assigner(*arguments)) or kept[-1]
    student.load_state_dict(state)
    without = plain(student(images), targets)
    student.load_state_dict(state)
    loss = DflDistillationLoss(a_loss(student, teacher, pose), student, gain=3.0, temperature=2.0)
    parts = loss(student(images), targets)

    assert parts._fields == (*without._fields, "distance")
    for name in without._fields[1:]:
        assert torch.equal(getattr(parts, name), getattr(without, name)), name
    torch.testing.assert_close(parts.total, sum(parts[1:]))
    with torch.no_grad():
        wanted = teacher.eval()(images)
    mine, wanted = (flatten_maps(level)[..., :64][kept[0].foreground] for level in (maps, wanted))
    weight = kept[0].scores.sum(dim=-1)[kept[0].foreground]
    value, _ = by_hand(mine, wanted, weight, 2.0, 16)
    assert parts.distance.item() == pytest.approx(3 * value / max(kept[0].scores.sum().item(), 1), rel=1e-4)
    assert len(weight) > 4 and parts.distance.item() > 0.01


def test_its_gradient_reaches_the_student_and_not_the_teacher():
    images, targets = images_and_targets()
    student, teacher = a_network(1).train(), a_network(2)
    before = copy.deepcopy(teacher.state_dict())
    loss = DflDistillationLoss(a_loss(student, teacher), student)
    loss(student(images), targets).distance.backward()
    moved = {name for name, p in student.named_parameters() if p.grad is not None and float(p.grad.abs().max()) > 0}
    assert "head.box.0.2.bias" in moved and "backbone.stem.conv.weight" in moved
    assert not any(name.startswith("head.cls") for name in moved)
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())
    assert not list(loss.parameters()) and not loss.seen  # nothing of this step is kept


def test_the_share_fades_it_with_the_teachers_other_parts():
    images, targets = images_and_targets()
    student = a_network(1).eval()  # batch statistics do not move
    loss = DflDistillationLoss(a_loss(student, a_network(2)), student)
    loss.loss.taps = _always(student)
    full = loss(student(images), targets)
    loss.share = 0.25
    less = loss(student(images), targets)
    assert loss.share == loss.loss.share == 0.25
    for name in ("response", "distance"):
        torch.testing.assert_close(getattr(less, name), getattr(full, name) / 4)
    assert torch.equal(less.box, full.box)


def _always(student):
    from yolostudy.distill import Taps

    return Taps(student, (), training_only=False)


def test_images_without_objects_teach_no_distance():
    images, targets = images_and_targets()
    student = a_network(1).train()
    parts = DflDistillationLoss(a_loss(student, a_network(2)), student)(student(images), targets[:0])
    parts.total.backward()
    assert parts.distance.item() == 0 and bool(parts.total.isfinite())


def test_what_does_not_fit_is_refused():
    student = a_network(1)
    with pytest.raises(DistillationError, match="the teacher's distances have 8 bins, the student's 16"):
        DflDistillationLoss(a_loss(student, a_network(2, reg_max=8)), student)
    for wrong in ({"gain": -1.0}, {"temperature": 0.0}, {"gain": math.nan}):
        with pytest.raises(ValueError, match="gain of at least 0 and a temperature above 0"):
            DflDistillationLoss(a_loss(student, a_network(2)), student, **wrong)


def test_nothing_is_left_on_the_student_once_the_loss_is_gone():
    student = a_network(1)
    loss = DflDistillationLoss(a_loss(student, a_network(2)), student)
    assert student._forward_pre_hooks
    del loss
    gc.collect()
    assert not student._forward_pre_hooks


def test_a_part_is_added_to_the_total():
    one = torch.tensor(1.0)
    parts = add_part(LossParts(one * 6, one, one * 2, one * 3), "distance", one * 4)
    assert parts._asdict() == {"total": 10, "box": 1, "cls": 2, "dfl": 3, "distance": 4}
    assert type(parts) is type(add_part(LossParts(one, one, one, one), "distance", one))
