"""The distillation lens: its numbers against the losses and another computation, and its sliders."""

import copy
from base64 import b64decode
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from solutions import distill
from yolostudy import data
from yolostudy.canvas import style
from yolostudy.data.loader import read_image
from yolostudy.runs.detector import Detector
from yolostudy.views import DistillationLens, TeacherAnswers, distillation_numbers, draw_distillation

SHELF = data.DATASETS / "weights"
CLASSES = ("A1", "A2", "A3", "A4")
SOME = ("A3", "A1")


@pytest.fixture(scope="module")
def pair():
    """The shipped detector and the shipped teacher.

    Its class names are turned round, so that no class has the same number in both.
    """
    student, teacher = (
        Detector(SHELF / "planes-n-mini.safetensors"),
        Detector(SHELF / "planes-n-mini-teacher.safetensors"),
    )
    return student.model, distill.Teacher(teacher.model, teacher.class_names), student.class_names[::-1]


@pytest.fixture(scope="module")
def pictures():
    return np.stack([read_image(record.image)[:96, :128] for record in data.open_set("sample", "test").records[:2]])


@pytest.fixture(scope="module")
def answers(pair, pictures):
    student, teacher, names = pair
    return TeacherAnswers(student, teacher, pictures, names, distill)


def asked(pair, pictures, image):
    images = torch.from_numpy(pictures[image : image + 1]).permute(0, 3, 1, 2) / 255
    student, teacher, _ = pair
    with torch.no_grad():
        found = copy.deepcopy(student).eval().features(images)
        return (found["outputs"], [found[level] for level in "XYZ"]), teacher(images)


def test_the_channels_add_up_to_the_loss(pair, pictures, answers):
    (_, own), (_, wanted) = asked(pair, pictures, 1)
    assert answers.levels == ["X", "Y", "Z"]
    for temperature in (0.5, 3.0):
        per_level = [answers.per_channel(1, level, temperature).mean() for level in answers.levels]
        assert sum(per_level) == pytest.approx(float(distill.ChannelWiseLoss(temperature)(own, wanted)), rel=1e-4)


@settings(max_examples=10, deadline=None)
@given(st.sampled_from("XYZ"), st.integers(0, 63), st.floats(2, 30), st.floats(-10, 10))
def test_what_is_shown_is_what_is_counted(answers, level, channel, temperature, shift):
    """Maps and bars are another computation than the losses; from them alone the losses can be had."""
    numbers = distillation_numbers(answers, 0, level, channel, temperature, shift=shift)
    assert numbers.teacher_map.sum() == pytest.approx(1) and numbers.student_map.sum() == pytest.approx(1)

    def divergence(p, q):
        return float(np.sum(p * (np.log(p) - np.log(q)))) * temperature**2

    # The losses are computed in float32: logarithms of about -5 are known to 5e-7, and the
    # difference is multiplied by τ².
    close = dict(rel=1e-4, abs=1e-6 * temperature**2)
    assert numbers.per_channel[channel] == pytest.approx(divergence(numbers.teacher_map, numbers.student_map), **close)
    cake = divergence(numbers.teacher["softmax"], numbers.student["softmax"])
    sides = zip(numbers.teacher["bernoulli"], numbers.student["bernoulli"], strict=True)
    coins = sum(divergence(np.array([p, 1 - p]), np.array([q, 1 - q])) for p, q in sides)
    assert numbers.response["softmax"] == pytest.approx(cake / len(numbers.class_names), **close)
    assert numbers.response["bernoulli"] == pytest.approx(coins / len(numbers.class_names), **close)


def test_classes_are_matched_by_name(pair, pictures, answers):
    (outputs, _), (wanted, _) = asked(pair, pictures, 0)
    numbers = distillation_numbers(answers, 0, "Y", 0, position=(1, 2))
    assert numbers.class_names == pair[1].class_names == tuple(f"A{number}" for number in range(1, 11))
    assert np.allclose(numbers.student["bernoulli"], outputs[1][0, range(83, 73, -1), 1, 2].sigmoid(), atol=1e-5)
    assert np.allclose(numbers.teacher["bernoulli"], wanted[1][0, 64:, 1, 2].sigmoid(), atol=1e-5)
    row, column = answers.surest(0, "Y")
    assert wanted[1][0, 64:].amax(0).argmax() == row * 8 + column


def test_the_softmax_is_blind_to_a_shift_and_the_coins_are_not(answers):
    numbers = distillation_numbers(answers)
    assert numbers.channel == numbers.per_channel.argmax()  # where none is chosen
    still, moved = numbers.response, distillation_numbers(answers, shift=8.0).response
    assert moved["softmax"] == pytest.approx(still["softmax"], abs=1e-5)
    assert abs(moved["bernoulli"] - still["bernoulli"]) > 0.1


def test_the_lens_shows_a_mistake_in_the_loss_that_it_is_given(pair, pictures):
    blind = SimpleNamespace(
        Taps=distill.Taps,
        ChannelWiseLoss=lambda temperature: lambda s, t: torch.tensor(-1.0),
        ResponseLoss=distill.ResponseLoss,
    )
    numbers = distillation_numbers(TeacherAnswers(pair[0], pair[1], pictures, pair[2], blind))
    assert (numbers.per_channel == -1).all()


def test_asking_leaves_the_student_as_it_was(pair, pictures):
    student, teacher, names = pair
    student.train()
    before = copy.deepcopy(student.state_dict())
    TeacherAnswers(student, teacher, pictures, names, distill)
    assert student.training and all(torch.equal(before[name], tensor) for name, tensor in student.state_dict().items())
    assert not student._forward_pre_hooks and not student.neck.csp_x._forward_hooks


def test_a_level_that_is_not_there_is_named(pair, pictures, answers):
    with pytest.raises(ValueError, match="no level 'P3'; there are X, Y, Z"):
        draw_distillation(answers, level="P3")
    figure = draw_distillation(answers, level="Y", channel=3)
    assert (figure.numbers.level, figure.numbers.channel) == ("Y", 3) and len(style.as_png(figure)) <= style.MAX_BYTES
    two = distill.Teacher(pair[1].model, pair[1].class_names, distill.NECK[:2])
    with pytest.raises(ValueError, match="3 raw maps; one for each"):
        TeacherAnswers(pair[0], two, pictures, pair[2], distill)


def test_the_sliders_move_the_numbers(pair, pictures):
    lens = DistillationLens(pair[0], pair[1], pictures, pair[2], distill)
    assert lens.numbers.level == "X" and lens.numbers.channel == lens.numbers.per_channel.argmax()
    assert len(b64decode(lens._repr_mimebundle_()["image/png"])) <= style.MAX_BYTES
    before, picture = lens.numbers, lens.picture.value
    lens.temperature.value = 10
    assert lens.numbers.teacher_map.max() < before.teacher_map.max() and lens.picture.value != picture
    lens.level.value = "Z"
    assert (lens.channel.max, lens.row.max, lens.column.max) == (255, 2, 3)
    assert lens.numbers.channel == lens.numbers.per_channel.argmax() and lens.numbers.teacher_map.shape == (3, 4)
    lens.image.value = 1
    before = lens.numbers.response
    lens.shift.value = 6
    assert abs(lens.numbers.response["bernoulli"] - before["bernoulli"]) > 0.1 and lens.message.value == ""
    lens.channel.value = 7
    assert lens.numbers.channel == 7
