"""Every stub fails, every solution passes, every misconception is named, other right answers pass."""

from pathlib import Path

import pytest
import torch

from yolostudy.study import edition_in_use
from yolostudy.study.authoring.faults import faults
from yolostudy.study.edition import read, transplant
from yolostudy.study.judge import Judge
from yolostudy.study.verdict import NOT_ATTEMPTED, NOT_YET, PASSED

JUDGE = Judge(edition_in_use.course())
NAMES = [*JUDGE.exercises]
MISTAKES = [(name, m) for name, exercise in JUDGE.exercises.items() for m in exercise.misconceptions]
# other right answers, a folder for each way of writing: in loops, by library calls, as somebody with a year of PyTorch
ALTERNATIVES = sorted(Path(__file__).parent.joinpath("alternatives").iterdir())
ANSWERS = [
    (folder, name) for folder in ALTERNATIVES for name in NAMES if (folder / f"{name.partition('.')[0]}.py").exists()
]


def answer(folder: Path, name: str):
    return read(folder, [name.partition(".")[0]])


def told(verdict) -> str:
    return f"{verdict}\nnamed: {verdict.misconception and verdict.misconception.name}"


def test_the_course_asks_for_what_the_stages_name():
    stages = {stage: sum(e.stage == stage for e in JUDGE.exercises.values()) for stage in range(1, 12)}
    assert stages == {1: 3, 2: 4, 3: 5, 4: 7, 5: 5, 6: 4, 7: 7, 8: 2, 9: 4, 10: 12, 11: 7}
    assert len(MISTAKES) >= 70


@pytest.mark.parametrize("name", NAMES)
def test_the_exercise_is_sound(name):
    """What `yolostudy author check` tests: stub fails every probe, hints, distinct misconceptions."""
    assert [*faults(JUDGE, [name])] == []


@pytest.mark.parametrize("name", NAMES)
def test_the_stub_is_not_attempted_and_the_solution_passes(name):
    assert JUDGE.check(name, JUDGE.stub).state == NOT_ATTEMPTED
    verdict = JUDGE.check(name, JUDGE.reference)
    assert verdict.state == PASSED, told(verdict)
    assert verdict.line == f"PASS {name} {verdict.total}/{verdict.total}"


@pytest.mark.parametrize(("name", "mistake"), MISTAKES, ids=lambda value: getattr(value, "name", value))
def test_the_mistake_is_caught_and_named(name, mistake):
    verdict = JUDGE.check(name, mistake.edition(JUDGE.reference, name))
    assert verdict.state == NOT_YET
    assert verdict.misconception is mistake, told(verdict)


@pytest.mark.parametrize(("folder", "name"), ANSWERS, ids=lambda value: getattr(value, "name", value))
def test_a_right_answer_written_otherwise_passes(folder, name):
    mine = answer(folder, name)
    assert not mine.find(name).same_as(JUDGE.reference.find(name)), "this is the solution itself"
    verdict = JUDGE.check(name, mine)
    assert verdict.state == PASSED, told(verdict)


def test_every_exercise_has_two_further_right_answers():
    assert [
        name for name in NAMES if sum(name == other and bool(answer(f, name).find(name)) for f, other in ANSWERS) < 2
    ] == []


@pytest.fixture
def settings():
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    yield
    torch.set_num_threads(threads)
    torch.set_default_dtype(dtype)


@pytest.mark.parametrize("threads", [2, 3])
def test_right_answers_pass_with_other_thread_counts(settings, threads):
    torch.set_num_threads(threads)
    wrong = [told(v) for folder, name in ANSWERS if not (v := JUDGE.check(name, answer(folder, name)))]
    assert not wrong, "\n".join(wrong)


def test_right_answers_pass_in_float64(settings):
    """Fixtures, reference and answers in float64.

    DetectionLoss is left out, because its docstring promises float32, and so is PoseLoss, which runs it.
    """
    torch.set_default_dtype(torch.float64)
    judge = Judge(edition_in_use.course())
    names = [name for name in judge.exercises if name not in ("losses.DetectionLoss", "pose.PoseLoss")]
    wrong = [told(v) for name in names if not (v := judge.check(name, judge.reference))]
    wrong += [
        told(v) for folder, name in ANSWERS if name in names and not (v := judge.check(name, answer(folder, name)))
    ]
    assert not wrong, "\n".join(wrong)


def test_a_notebook_that_changes_the_settings_gets_the_same_verdicts(settings):
    torch.set_default_dtype(torch.float64)
    torch.set_grad_enabled(False)
    try:
        wrong = [told(v) for name in NAMES if not (v := JUDGE.check(name, JUDGE.reference))]
    finally:
        torch.set_grad_enabled(True)
    assert not wrong, "\n".join(wrong)


def test_a_definition_depends_on_no_other_of_mine():
    """One exercise is filled in, all others of its module are stubs: it passes, no error cascades."""
    for name in NAMES:
        verdict = JUDGE.check(name, transplant(JUDGE.stub, name, JUDGE.reference))
        assert verdict.state == PASSED, told(verdict)
