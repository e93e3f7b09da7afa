"""The keypoint response: its value, its weights, and the loss that carries it in this course's own engine."""

import copy
import math

import pytest
import torch

from yolostudy.bridge.pose_distillation import (
    PoseDistillationLoss,
    PoseResponse,
    PoseTeacher,
    check_keypoints,
    keypoint_response,
)
from yolostudy.distill import ChannelWiseLoss, DistillationError, ResponseLoss, Teacher
from yolostudy.network import YOLO
from yolostudy.pose import PoseLoss, PoseYOLO
from yolostudy.training import Precision, build_optimizer, train_step

NAMES = ("nose", "tail", "left tip", "right tip")
CLASSES = ("A1", "A2")
LARGE = torch.full((1, 2), 100.0)  # areas in the square of the stride


def answers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_its_value_by_hand():
    """One position of two; half a raw number off in x is one stride, so 1/25 of a box of 25."""
    wanted = torch.zeros(1, 2, 1, 2)
    mine = wanted.clone()
    mine[0, 0, 0, 0] = 0.5
    score, area = torch.tensor([[0.8, 0.0]]), torch.tensor([[25.0, 25.0]])
    assert keypoint_response(mine, wanted, score, area).item() == pytest.approx(0.8 * (1 / 25) / 1)
    assert keypoint_response(mine, wanted, score * 5, area).item() == pytest.approx(1 / 25)  # a mean from a sum of 1 on
    # a box below one cell counts as one cell
    assert keypoint_response(mine, wanted, score, area / 1e6).item() == pytest.approx(0.8)


def test_visibility_is_a_divergence_of_coins_and_the_weight_of_its_point():
    wanted, mine = torch.zeros(1, 1, 1, 3), torch.zeros(1, 1, 1, 3)
    wanted[..., 2], mine[..., 2] = math.log(3), 0.0  # the teacher says 0.75, the student 0.5
    mine[..., 1] = 0.5
    kl = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    found = keypoint_response(mine, wanted, torch.ones(1, 1), torch.full((1, 1), 4.0))
    assert found.item() == pytest.approx(kl + 0.75 * 1 / 4, rel=1e-5)


@pytest.mark.parametrize("dims", [2, 3])
def test_equal_answers_cost_nothing_and_teach_nothing(dims):
    wanted = answers(2, 5, 4, dims)
    mine = wanted.clone().requires_grad_()
    loss = keypoint_response(mine, wanted, torch.rand(2, 5), torch.full((2, 5), 9.0))
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6) and float(mine.grad.abs().max()) < 1e-6


def test_where_the_teacher_sees_nothing_nothing_is_taught():
    mine = answers(1, 2, 4, 3, seed=1).requires_grad_()
    keypoint_response(mine, answers(1, 2, 4, 3), torch.tensor([[0.9, 0.0]]), LARGE).backward()
    assert float(mine.grad[0, 0].abs().min()) > 0 and float(mine.grad[0, 1].abs().max()) == 0


def test_a_far_point_has_a_gradient_and_extreme_logits_are_finite():
    """The similarity itself would be 0 there, and its gradient too."""
    wanted = torch.zeros(1, 2, 1, 3)
    mine = torch.full((1, 2, 1, 3), 200.0).requires_grad_()
    wanted[..., 2] = -200.0
    loss = keypoint_response(mine, wanted, torch.ones(1, 2), LARGE)
    loss.backward()
    assert bool(loss.isfinite()) and float(mine.grad[..., 2].abs().min()) > 0
    wanted[..., 2] = 5.0
    mine.grad = None
    keypoint_response(mine, wanted, torch.ones(1, 2), LARGE).backward()
    assert float(mine.grad[..., :2].min()) > 1


def test_a_flat_copy_of_the_picture_costs_the_same():
    """Twice the positions with twice the objects: the mean over what the teacher sees stays."""
    mine, wanted, score, area = (
        answers(1, 8, 4, 3, seed=1),
        answers(1, 8, 4, 3),
        torch.rand(1, 8) + 0.5,
        torch.ones(1, 8),
    )
    once = keypoint_response(mine, wanted, score, area)
    twice = keypoint_response(*(torch.cat((one, one), 1) for one in (mine, wanted, score, area)))
    torch.testing.assert_close(once, twice)


# In raw maps, and in our own engine
# --------------------------------------------------------------------------------------------------


def a_network(seed: int, classes: int = 2, shape=(4, 3)) -> PoseYOLO:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = PoseYOLO(classes, keypoint_shape=shape)
        for level in model.head.cls:
            level[-1].bias.data.normal_(-1, 1)
    return model


def images_and_targets() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    row = [0, 1, 8, 8, 40, 48, 10, 10, 2, 38, 46, 2, 9, 45, 1, 39, 11, 0]
    return torch.rand(2, 3, 64, 64, generator=generator), torch.tensor([row, [1, 0, *row[2:]]], dtype=torch.float32)


def test_the_two_responses_get_their_own_channels():
    seen = []

    def classes(student, teacher):
        seen.extend((student[0], teacher[0]))
        return student[0].sum() * 0 + 2

    def keypoints(student, teacher, score, area):
        seen.extend((student, teacher, score, area))
        return student.sum() * 0 + 3

    images, _ = images_and_targets()
    student, teacher = a_network(1), a_network(2, classes=5)  # a teacher of more classes
    with torch.no_grad():
        maps, wanted = student(images), teacher(images)
    both = PoseResponse((4, 3), classes, keypoints, 10.0, 100.0)
    assert both(maps, wanted).item() == 320 and [part.item() for part in both.parts] == [20, 300]
    assert torch.equal(seen[0], maps[0][:, :66]) and torch.equal(seen[1], wanted[0][:, :69])
    for given, model, raw in ((seen[2], student, maps), (seen[3], teacher, wanted)):
        assert torch.equal(given, model.split(raw)[1])
    score, area = seen[4], seen[5]
    assert score.shape == area.shape == (2, 84) and 0 < float(score.min()) <= float(score.max()) < 1
    logits = torch.cat([level[:, 64:69].flatten(2) for level in wanted], dim=2).amax(dim=1)
    torch.testing.assert_close(score, logits.sigmoid())
    assert float(area.min()) >= 0 and 1 < float(area.max()) < 31**2


@pytest.mark.parametrize(
    "asked_for", [(True, True, True), (True, False, False), (False, False, True), (False, True, False)]
)
def test_the_parts_of_both_losses(asked_for):
    images, targets = images_and_targets()
    student, teacher = a_network(1).train(), PoseTeacher(a_network(2), CLASSES, NAMES)
    labels = PoseLoss(student)
    feature, response, keypoint = asked_for
    loss = PoseDistillationLoss(
        labels,
        student,
        teacher,
        ChannelWiseLoss() if feature else None,
        ResponseLoss(CLASSES, CLASSES) if response else None,
        keypoint_response if keypoint else None,
        2.0,
        50.0,
        4.0,
    )
    state = copy.deepcopy(student.state_dict())
    parts = loss(student(images), targets)
    student.load_state_dict(state)
    plain = labels(student(images), targets)
    for name in ("box", "pose", "visibility", "cls", "dfl"):
        torch.testing.assert_close(getattr(parts, name), getattr(plain, name))
    assert tuple(part.item() > 0 for part in (parts.feature, parts.response, parts.keypoint)) == asked_for
    torch.testing.assert_close(parts.total, sum(parts[1:]))
    loss.share = 0.5
    less = loss(student(images), targets)
    for name in ("feature", "response", "keypoint"):
        torch.testing.assert_close(getattr(less, name), getattr(parts, name) / 2, rtol=1e-4, atol=1e-6)


def test_it_trains_in_our_engine_and_keeps_no_graph():
    from yolostudy.data.loader import Batch

    images, targets = images_and_targets()
    model, teacher = a_network(1).train(), PoseTeacher(a_network(2), CLASSES)
    before = copy.deepcopy(teacher.model.state_dict())
    loss = PoseDistillationLoss(PoseLoss(model), model, teacher, keypoint_gain=12.0)
    optimizer = build_optimizer(model, 3e-3)
    values = []
    for _ in range(12):
        parts = train_step(
            model, loss, Batch((images * 255).byte(), targets, [], []), optimizer, Precision("cpu", "fp32")
        )
        values.append(parts.keypoint.item())
    assert values[-1] < 0.7 * values[0]
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.model.state_dict().items())
    assert loss.seen is None and loss.response.parts is None
    assert not [name for name, _ in loss.named_parameters()]


def test_keypoints_that_are_not_the_students_are_refused():
    student, pose = a_network(1), PoseTeacher(a_network(2), CLASSES, NAMES)
    with pytest.raises(DistillationError, match="the teacher is a detector, which knows none"):
        PoseDistillationLoss(PoseLoss(student), student, Teacher(YOLO(2), CLASSES))
    with pytest.raises(DistillationError, match=r"shape is \(5, 3\), the student's \(4, 3\)"):
        PoseDistillationLoss(PoseLoss(student), student, PoseTeacher(a_network(3, shape=(5, 3)), CLASSES))
    with pytest.raises(
        DistillationError, match="in another order: nose, tail, left tip, right tip; the student has tail"
    ):
        check_keypoints((4, 3), ("tail", "nose", *NAMES[2:]), pose)
    with pytest.raises(DistillationError, match="under other names"):
        check_keypoints([4, 3], "abcd", pose)
    check_keypoints([4, 3], NAMES, pose)
    check_keypoints((4, 3), (), pose)
