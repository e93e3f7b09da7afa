"""The judge and observations: differences, errors, isolation, what is remembered, cards."""

import json
import math
import random
import re
import signal
import sys
import time
import warnings
from collections import namedtuple
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tests.tiny_course import EXERCISES, fill, run, write_course, write_exercises
from yolostudy.study import edition_in_use, verdict_cache
from yolostudy.study.authoring.release import release
from yolostudy.study.card import Card, card, notice, side_by_side
from yolostudy.study.errors import CourseError
from yolostudy.study.exercise import Exercise, Misconception, read_exercises, read_outline
from yolostudy.study.fill_cell import exercises_in
from yolostudy.study.isolation import Stopped, time_limit, untouched
from yolostudy.study.judge import Judge
from yolostudy.study.observation import Frame, Raised, Seen, dumps, first_difference, loads, plain
from yolostudy.study.progress import Progress
from yolostudy.study.verdict import NOT_ATTEMPTED, NOT_YET, PASSED, Result, Verdict

ROOT = Path(__file__).parents[3]
DIAGONAL = 'raise NotImplementedError("exercise shapes.diagonal: course/01_shapes.ipynb")'
STUB = 'raise NotImplementedError("exercise shapes.Square: course/01_shapes.ipynb")'
quick = settings(max_examples=60, deadline=None, derandomize=True)


@pytest.fixture
def course(tmp_path):
    course = write_course(tmp_path)
    write_exercises(course)
    release(course)
    return course


def diagonal(course, answer: str, patience: float = 30.0) -> Verdict:
    """The verdict on the exercise diagonal with these lines as its body."""
    fill(course, "shapes", DIAGONAL, answer.replace("\n", "\n    "))
    return Judge(course, patience).check("diagonal")


# ---- observations: what differs ------------------------------------------------------------------


def told(expected, yours, rtol=1e-4, atol=1e-5) -> str:
    found = first_difference(Seen(plain(expected)), Seen(plain(yours)), rtol, atol)
    return str(found) if found else ""


Point = namedtuple("Point", "x y")
ALIKE = [
    (1.0, 1.0 + 9e-5),
    (0.0, 1e-5),
    (torch.ones(2), np.ones(2)),
    (torch.ones(2, dtype=torch.float16), torch.ones(2, dtype=torch.float64, requires_grad=True)),
    (torch.tensor([1.5, float("nan")], dtype=torch.bfloat16), np.array([1.5, np.nan])),
    (math.inf, torch.tensor(math.inf)),
    (3, torch.tensor(3, dtype=torch.int16)),
    (np.uint8(3), 3),
    (True, np.bool_(True)),
    (torch.Size([2, 3]), [2, 3]),
    (Point(1, 2.0), {"x": 1, "y": 2.0}),
    ("a", np.str_("a")),
    (np.array(["a", "b"]), ["a", "b"]),
    ({"b", "a"}, ["a", "b"]),
    (torch.float32, "torch.float32"),
    (None, None),
    ({}, {}),
    (torch.zeros(0, 4), np.zeros((0, 4))),
    (1 + 2j, torch.tensor(1 + 2j)),
]


@pytest.mark.parametrize(("expected", "yours"), ALIKE)
def test_the_same_told_otherwise(expected, yours):
    assert told(expected, yours) == told(yours, expected) == ""


DIFFERENT = [
    (torch.zeros(2, 3), torch.zeros(3, 2), "expected shape (2, 3), yours (3, 2)"),
    (1.0, torch.ones(1), "expected shape () (one number), yours (1,)"),
    (torch.ones(3), [1.0, 1.0, 1.0], "expected an array of shape (3,), yours a list of 3"),
    (2.0, 2, "expected float, yours int (2. against 2)"),
    (1, True, "expected int, yours bool (1 against True)"),
    (torch.zeros(2), torch.zeros(2, dtype=torch.int64), "expected float, yours int"),
    (1 + 1j, 1 + 2j, "expected 1+1j, yours 1+2j"),
    (1.0, 1.0 + 2e-4, "expected 1., yours 1.0002"),
    (1.0, 1.0 + 2e-9, "expected 1., yours 1.000000002", 0.0, 0.0),
    (2**60 + 1, 2**60, f"expected {2**60 + 1}, yours {2**60}"),
    (3, 10**30, "expected 3, yours 'an int of 100 bits'"),
    (0.5, math.nan, "expected 0.5, yours nan"),
    (math.inf, -math.inf, "expected inf, yours -inf"),
    (1e300, math.inf, "expected 1e+300, yours inf"),
    (
        torch.zeros(2, 2),
        torch.tensor([[0.0, math.nan], [1.0, 0.0]]),
        "2 of 4 values differ (1 are NaN), first at [0, 1]: expected 0., yours nan",
    ),
    (torch.zeros(2), torch.ones(2), "all 2 values differ, first at [0]: expected 0., yours 1."),
    (
        torch.tensor([True, False]),
        torch.tensor([True, True]),
        "1 of 2 values differ, first at [1]: expected False, yours True",
    ),
    ({"a": 1, "b": 2}, {"a": 1}, "b: expected, and yours has none"),
    ({"a": 1}, {"a": 1, "c": 2, "d": 3}, "yours has 'c', which is not expected"),
    ({"a": {"b": [1, 2]}}, {"a": {"b": [1, 3]}}, "a / b[1]: expected 2, yours 3"),
    ([1, 2], [1, 2, 3], "expected 2 items, yours 3"),
    ([1, 2], (1, 2, 3), "expected 2 items, yours 3"),
    ([1], {"0": 1}, "expected a list of 1, yours a dict of 1"),
    (None, 0.0, "expected None, yours 0."),
    (torch.ones(2), None, "expected an array of shape (2,), yours None"),
    ("left", "right", "expected 'left', yours 'right'"),
    ("1", 1, "expected '1', yours 1"),
    (np.array([object(), 1], dtype=object), np.array([1, 1]), "expected a list of 2, yours an array of shape (2,)"),
    (1.0, object(), "expected 1., yours 'an object of object'"),
]


@pytest.mark.parametrize("case", DIFFERENT, ids=lambda case: case[2][:40])
def test_what_differs_is_said(case):
    assert told(*case[:2], *case[3:]) == case[2]
    assert told(case[1], case[0], *case[3:]), "and the other way round"


@pytest.mark.parametrize(
    ("expected", "yours", "sentence"),
    [
        (Raised("ValueError", "a\nb"), Raised("ValueError", "a\nc"), ""),
        (Raised("ValueError", "a"), Raised("TypeError", "a"), "expected ValueError: a, yours TypeError: a"),
        (Raised("ValueError", ""), None, "expected ValueError, yours raised nothing"),
        (None, Raised("KeyError", "'x'"), "KeyError: 'x'"),
    ],
)
def test_exceptions_are_compared_by_class_and_first_line(expected, yours, sentence):
    found = first_difference(Seen(error=expected), Seen(error=yours))
    assert (str(found) if found else "") == sentence


@given(st.floats(-1e6, 1e6), st.floats(0, 1e-2), st.floats(0, 1e-2), st.floats(-0.99, 0.99), st.sampled_from([-1, 1]))
@quick
def test_tolerance(expected, rtol, atol, inside, side):
    room = atol + rtol * abs(expected)
    assert told(expected, expected + inside * room, rtol, atol) == "" or abs(inside * room) < 4 * math.ulp(expected)
    outside = expected + side * (1.01 * room + 4 * math.ulp(expected))
    assert told(expected, outside, rtol, atol) != ""
    assert told([np.full(3, expected)], [np.array([expected, outside, expected])], rtol, atol).startswith(
        "[0]: 1 of 3 values differ"
    )


# ---- observations: on paper ----------------------------------------------------------------------

numbers = arrays.arrays(
    st.one_of(
        *(
            getattr(arrays, f"{kind}_dtypes")()
            for kind in ("boolean", "integer", "unsigned_integer", "floating", "complex_number")
        )
    ),
    arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5) | numbers,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(anything)
@quick
def test_observations_survive_json(value):
    seen = [Seen(plain(value)), Seen(error=Raised("E", "<b>\n", (Frame("a.py", 3, "f", "x = 1"),)))]
    again = loads(dumps(seen))
    assert first_difference(seen[0], again[0]) is first_difference(again[0], seen[0]) is None
    assert again[1] == seen[1]
    assert dumps(again) == dumps(seen)


PAGE = '[{"values": %s, "error": null}]'
ARRAY = '{"#dtype": "<f8", "shape": [1], "data": "AAAAAAAAAAA="}'


@pytest.mark.parametrize(
    "text",
    ["", "{", "{}", "[1]", '""', '"ab"', "null", "3", '[{"values": 1}]', '[{"error": null}]', "[" * 100_000]
    + [
        PAGE % value
        for value in (
            ARRAY.replace("<f8", "O"),
            ARRAY.replace("<f8", "no"),
            ARRAY.replace("[1]", "[2]"),
            ARRAY[:-2] + "x}",
        )
    ]
    + [
        PAGE % value
        for value in ('{"#dtype": "<f8"}', ARRAY.replace("[1]", "null"), ARRAY.replace('"AAAAAAAAAAA="', "7"))
    ]
    + [
        f'[{{"values": 1, "error": {error}}}]'
        for error in ('{"kind": 1}', "7", '{"kind": "a", "message": "b", "frames": [{"file": 1}]}')
    ],
)
def test_garbage_is_refused(text):
    with pytest.raises(ValueError):
        loads(text)


# ---- the judge: verdicts -------------------------------------------------------------------------


def test_states(course):
    judge = Judge(course)
    assert judge.check("diagonal").state == NOT_ATTEMPTED
    verdict = diagonal(course, "return 1.41421356")
    assert (verdict.state, verdict.line, bool(verdict)) == (PASSED, "PASS shapes.diagonal 1/1", True)
    assert judge.check("diagonal").passed == 1, "the file is read again each time"
    assert judge.check("diagonal", judge.stub).state == NOT_ATTEMPTED
    fill(course, "shapes", "def diagonal", "diagonal = 3\n\n\ndef diagonale")
    assert "diagonal is assigned in yolostudy/shapes.py:22." in judge.check("diagonal").problem
    (course.mine / "shapes.py").unlink()
    gone = judge.check("diagonal")
    assert (gone.state, gone.problem[:31]) == (NOT_ATTEMPTED, "yolostudy/shapes.py is missing.")


def test_a_mistake_is_named_only_if_everything_is_the_same(course):
    assert diagonal(course, "return 2 * square.side").misconception.name == "half the way round"
    fill(course, "shapes", "return 2 * square.side", "return 2.1 * square.side")
    assert Judge(course).check("diagonal").misconception is None
    text = (course.mine / "shapes.py").read_text()
    answer = "self.side = side\n\n    def area", "return 3.0 if self.side == 3 else self.side"
    (course.mine / "shapes.py").write_text(text.replace(f"{STUB}\n\n    def area", answer[0]).replace(STUB, answer[1]))
    verdict = Judge(course).check("Square")
    assert verdict.misconception.name == "a side is taken for an area"
    fill(course, "shapes", "return 3.0 if", "return 3.5 if")
    assert Judge(course).check("Square").misconception is None, "one of two probes sees the same"


def test_a_changed_signature_is_noted_even_if_it_passes(course):
    fill(course, "shapes", "def diagonal(square: Square)", "def diagonal(one: Square, two=None)")
    verdict = diagonal(course, "return math.hypot(one.side, one.side)")
    assert verdict and verdict.notes == (
        "diagonal was given as diagonal(square), yours is diagonal(one, two): others call it so.",
    )
    assert verdict.notes[0] in str(verdict) and verdict.notes[0] in card(verdict)


def test_names_and_words(course):
    second = EXERCISES.replace('"shapes.Square", stage=1', '"rooms.Square", stage=12').replace(
        '"shapes.diagonal"', '"rooms.Room"'
    )
    (course.exercises / "rooms.py").write_text(second)
    judge = Judge(course)
    with pytest.raises(CourseError, match=r"'Square' could be shapes\.Square or rooms\.Square\. Write the module too"):
        judge.exercise("Square")
    assert judge.exercise("shapes.Square").stage == 1
    assert judge.exercise("Room").name == "rooms.Room"
    for word, names in {
        "": ["shapes.Square", "shapes.diagonal", "rooms.Room", "rooms.Square"],
        "rooms": ["rooms.Room", "rooms.Square"],
        "1": ["shapes.Square", "shapes.diagonal", "rooms.Room"],
        "01": ["shapes.Square", "shapes.diagonal", "rooms.Room"],
        "12": ["rooms.Square"],
        "diagonal": ["shapes.diagonal"],
    }.items():
        assert sorted(e.name for e in judge.select(word)) == sorted(names), word
    with pytest.raises(CourseError, match=r"no exercises of stage 7; there are those of 1, 12\."):
        judge.select("7")
    with pytest.raises(CourseError, match=r"Did you mean Room\?"):
        judge.exercise("room")
    with pytest.raises(CourseError, match=r"no exercise 'nothing.like'. There are .*shapes: Square, diagonal"):
        judge.exercise("nothing.like")


# ---- exercises without their probes --------------------------------------------------------------


def test_the_outline_is_the_exercises():
    whole, outline = read_exercises(ROOT / "course" / "exercises"), read_outline(ROOT / "course" / "exercises")
    assert [*outline] == [*whole]
    for name, exercise in whole.items():
        assert replace(exercise, probes=[], misconceptions=[]) == outline[name]


def test_an_outline_that_is_computed_is_imported(course):
    (course.exercises / "shapes.py").write_text(EXERCISES.replace("minutes=5", "minutes=2 + 3"))
    assert [e.minutes for e in read_outline(course.exercises).values()] == [5, 5]
    (course.exercises / "again.py").write_text(EXERCISES)
    with pytest.raises(CourseError, match=r"there are two exercises shapes\."):
        read_outline(course.exercises)


def test_exercises_stand_in_the_order_of_their_notebook():
    course = edition_in_use.course()
    outline = [*Judge(course).outline.values()]
    for stage in {exercise.stage for exercise in outline}:
        own = [exercise for exercise in outline if exercise.stage == stage]
        source = course.source(course.notebooks[own[0].module]).read_text("utf-8")
        assert [exercise.name for exercise in own] == exercises_in(source)


# ---- what an answer may do -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("exit(3)", "SystemExit: your code called exit(3)"),
        ("raise BaseException('odd')", "BaseException: odd"),
        ("raise GeneratorExit", "GeneratorExit"),
        ("return diagonal(square)", "RecursionError: maximum recursion depth exceeded"),
        ("raise NotImplementedError('later')", "NotImplementedError: later"),
        ("raise ValueError('first\\nsecond ' * 9000)", "ValueError: first"),
        ("class Odd(Exception):\n    def __str__(self): return 1 / 0\nraise Odd", "Odd"),
        ("return {}[square]", "KeyError: <"),
        ("import nowhere_to_be_found", "ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
    ],
)
def test_whatever_an_answer_raises_is_told(course, answer, message):
    verdict = diagonal(course, answer)
    assert str(verdict.first.difference).startswith(message)
    frames = verdict.first.error.frames
    assert {frame.file for frame in frames} == {"yolostudy/shapes.py"} and len(frames) <= 3
    assert frames[-1].function in ("diagonal", "__str__")
    assert len(verdict.first.error.message) <= 2000


def test_frames_are_those_of_the_learners_file(course):
    helper = "def inner(side):\n    return math.sqrt(side)\n\n\ndef diagonal"
    fill(course, "shapes", "def diagonal", helper)
    verdict = diagonal(course, "import json\nreturn json.loads('{', object_hook=inner) or inner(square)")
    assert [(f.function, f.line, f.code[:18]) for f in verdict.first.error.frames] == [
        ("diagonal", 28, "return json.loads(")
    ]
    fill(course, "shapes", "json.loads('{', object_hook=inner)", "None")
    verdict = Judge(course).check("diagonal")
    assert [(f.function, f.line) for f in verdict.first.error.frames] == [("diagonal", 28), ("inner", 23)]
    assert "yolostudy/shapes.py:23 in inner" in card(verdict)


def test_what_is_not_filled_in_says_so(course):
    text = (course.mine / "shapes.py").read_text().replace(STUB, "self.side = side", 1)
    (course.mine / "shapes.py").write_text(text)
    first = Judge(course).check("Square").first
    assert str(first.difference) == "a part is not filled in yet (area, yolostudy/shapes.py:17)"


def test_what_an_answer_prints_is_kept_short(course):
    import sys as system

    verdict = diagonal(
        course, "for i in range(40): print(i, 'x' * 300)\nimport sys; print('error', file=sys.stderr)\nreturn 2**0.5"
    )
    lines = verdict.printed.splitlines()
    assert verdict and len(lines) == 13 and lines[0] == "0 " + "x" * 158 and lines[-1] == "... 29 more lines"
    assert system.stdout is not None and "0 xxx" in card(verdict)
    started = time.monotonic()
    fill(course, "shapes", "for i in range(40): print(i, 'x' * 300)", "while True: print('x' * 1000)")
    judge = Judge(course, 0.3)
    assert "still running after 0.3 seconds" in judge.check("diagonal").problem
    assert time.monotonic() - started < 600


@pytest.mark.parametrize("swallowed", ["Exception", "BaseException"])
def test_an_endless_loop_ends(course, swallowed):
    verdict = diagonal(course, f"try:\n    while True: pass\nexcept {swallowed}: pass\nwhile True: pass", patience=0.2)
    assert verdict.state == NOT_YET and not verdict.interrupted
    assert verdict.problem.startswith(
        "shapes.diagonal was still running after 0.2 seconds. Is there a loop that never ends? It was in"
    )
    assert "yolostudy/shapes.py:2" in verdict.problem


@pytest.mark.parametrize("where", ["the answer", "the reference", "a misconception"])
def test_an_interrupt_is_no_verdict(course, where):
    fill(course, "shapes", DIAGONAL, "return 1.0")
    judge = verdict_cache.judge_of(course)
    calls, look = iter(["the reference", "the answer", "a misconception"]), judge.look

    def interrupted(exercise, *rest):
        if next(calls, "the answer") == where:
            with time_limit(30, exercise, ()):
                raise KeyboardInterrupt
        return look(exercise, *rest)

    judge.look = interrupted
    verdict = verdict_cache.check(course, "shapes.diagonal")
    assert verdict.interrupted and verdict.problem == "interrupted while shapes.diagonal was being checked."
    assert not Progress(course).table
    judge.look = look
    assert verdict_cache.check(course, "shapes.diagonal").state == NOT_YET
    assert Progress(course).get("shapes.diagonal")["mark"]
    fill(course, "shapes", "return 1.0", "return 1.5")
    calls, where = iter(()), "the answer"
    judge.look = interrupted
    with pytest.raises(KeyboardInterrupt):
        verdict_cache.accepts(course, "shapes", "diagonal")


EXERCISE = Exercise("shapes.diagonal", stage=1, points=1, minutes=1, goal="", hints=())


def test_a_timer_that_ran_before_goes_on():
    rings = []
    handler = signal.signal(signal.SIGALRM, lambda *_: rings.append(time.monotonic()))
    try:
        started = time.monotonic()
        signal.setitimer(signal.ITIMER_REAL, 2)
        with time_limit(5, EXERCISE, ()), time_limit(5, EXERCISE, ()):
            time.sleep(0.05)
        assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] < 2
        with pytest.raises(Stopped, match=r"after 0\.1 seconds"), time_limit(0.1, EXERCISE, ()):
            time.sleep(600)
        while not rings and time.monotonic() - started < 600:
            time.sleep(0.01)
        assert 1.9 < rings[0] - started
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with time_limit(5, EXERCISE, ()):
            time.sleep(0.2)
        time.sleep(0.05)
        assert len(rings) == 2, "one that was due meanwhile rings right after"
        assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
        assert signal.getsignal(signal.SIGALRM) is not handler
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)


def state() -> tuple:
    return (
        random.getstate(),
        str(np.random.get_state()),
        torch.get_rng_state().numpy().tobytes(),
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.is_grad_enabled(),
        torch.get_num_threads(),
        torch.is_anomaly_enabled(),
        np.geterr(),
        sys.getrecursionlimit(),
        sys.stdout,
        sys.stderr,
        tuple(warnings.filters),
    )


def disturb():
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    torch.set_grad_enabled(False)
    torch.autograd.set_detect_anomaly(True)
    torch.set_num_threads(torch.get_num_threads() + 1)
    np.seterr(all="raise")
    sys.setrecursionlimit(5000)
    warnings.simplefilter("error")


@pytest.mark.parametrize("end", [None, ValueError, SystemExit, KeyboardInterrupt])
def test_nothing_is_left_behind(end):
    before = state()
    try:
        with untouched(__import__("io").StringIO()):
            disturb()
            if end:
                raise end
    except BaseException as error:
        assert isinstance(error, end)
    assert state() == before


def test_what_a_notebook_has_set_does_not_reach_the_probes(course):
    (course.exercises / "shapes.py").write_text(
        f"import torch\n{EXERCISES}".replace('{"length": ', '{"more": torch.ones(1) / 3, "length": ')
    )
    fill(course, "shapes", DIAGONAL, "return 2**0.5")
    judge = Judge(course)
    judge.exercises  # noqa: B018
    before = state()
    try:
        disturb()
        during = state()
        assert judge.check("diagonal")
        (seen,) = judge.look(judge.exercise("diagonal"), judge.reference)
        assert seen.values["more"].dtype == np.float32
        assert state() == during
    finally:
        random.setstate(before[0])
        torch.set_default_dtype(before[3])
        torch.set_default_device(None)
        torch.set_grad_enabled(before[5])
        torch.set_num_threads(before[6])
        torch.autograd.set_detect_anomaly(before[7])
        np.seterr(**before[8])
        sys.setrecursionlimit(before[9])


# ---- what is remembered --------------------------------------------------------------------------


def test_the_mark_of_an_answer(course):
    judge = Judge(course)
    fill(course, "shapes", "def diagonal", "def half(x):\n    return x / 2\n\n\ndef diagonal")
    marks = [judge.fingerprint("shapes.diagonal")]

    def mark_after(file, old, new):
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))
        marks.append(judge.fingerprint("shapes.diagonal"))

    mark_after(course.mine / "shapes.py", DIAGONAL, "return 2 * half(2**0.5)")
    mark_after(course.mine / "shapes.py", "return x / 2", "return x * 0.5")
    mark_after(course.solutions / "shapes.py", "metres", "yards")
    mark_after(course.solutions / "rooms.py", "sum(", "0 + sum(")
    mark_after(course.exercises / "shapes.py", "a diagonal", "the diagonal")
    assert len({*marks}) == 6
    for old, new in (("UNIT = 1.0", "UNIT = 2.0"), (STUB, "pass"), ('return "given"', "return 1")):
        mark_after(course.mine / "shapes.py", old, new)
        assert marks[-1] == marks[-2], f"{old} is not part of the answer"


def test_hybrid_judges_an_answer_once(course):
    (course.exercises / "shapes.py").write_text(f"import torch\n{EXERCISES}")
    # in other processes only: here it is imported already
    (course.root / "torch.py").write_text("raise SystemExit('torch was imported')")
    fill(course, "shapes", "def diagonal", "def half(x):\n    return x / 2\n\n\ndef diagonal")
    fill(course, "shapes", DIAGONAL, "return 2 * half(2**0.5)")
    code = "from yolostudy.shapes import diagonal; print(diagonal.__code__.co_filename.split('/')[-2])"

    done = run(course, code, use="hybrid")
    assert "torch was imported" in done.stderr
    assert verdict_cache.accepts(course, "shapes", "diagonal")
    assert run(course, code, use="hybrid").stdout == "yolostudy\n"
    fill(course, "shapes", "return x / 2", "return x / 3")
    assert "torch was imported" in run(course, code, use="hybrid").stderr
    assert not verdict_cache.accepts(course, "shapes", "diagonal")
    assert run(course, code, use="hybrid").stdout == "solutions\n"
    assert verdict_cache.accepts(course, "shapes", "given"), "nobody asks for it"


def test_an_answer_that_is_saved_while_it_is_judged_is_judged_again(course):
    fill(course, "shapes", DIAGONAL, "return 2**0.5")
    judge = verdict_cache.judge_of(course)
    check = judge.check

    def slow(name):
        verdict = check(name)
        fill(course, "shapes", "return 2**0.5", "return 1.0")
        return verdict

    judge.check = slow
    assert verdict_cache.check(course, "shapes.diagonal")
    assert Progress(course).get("shapes.diagonal")["mark"] == ""
    judge.check = check
    assert not verdict_cache.accepts(course, "shapes", "diagonal")


# ---- cards ---------------------------------------------------------------------------------------

HOSTILE = "</pre><script>alert(1)</script>&\"'`code`"


def verdict_of(expected, yours, error: Raised | None = None, **more) -> Verdict:
    exercise = Exercise("shapes.diagonal", 1, 1, 5, HOSTILE, ())
    exercise.probe(HOSTILE)(None)
    difference = first_difference(Seen(plain(expected)), Seen(plain(yours), error))
    return Verdict(exercise, NOT_YET if difference else PASSED, (Result(HOSTILE, difference, error),), **more)


def tree(page: str) -> ElementTree.Element:
    """The page as a browser would see it: well formed, with no text that became an element."""
    page = ElementTree.fromstring(page.replace("&nbsp;", " "))
    assert not [element for element in page.iter() if element.tag == "script"]
    return page


def test_hostile_text_stays_text():
    error = Raised("ValueError", HOSTILE, (Frame(HOSTILE, 1, HOSTILE, HOSTILE),))
    mistake = Misconception(HOSTILE, (), HOSTILE)
    verdict = verdict_of(1, 2, error, misconception=mistake, problem=HOSTILE, notes=(HOSTILE,), printed=HOSTILE)
    pages = [
        card(verdict),
        Card(verdict)._repr_html_(),
        notice(HOSTILE, HOSTILE, f"+{HOSTILE}\n-{HOSTILE}\n {HOSTILE}"),
    ]
    pages += [side_by_side(HOSTILE, f"{HOSTILE}\nx", HOSTILE), card(replace(verdict, state=NOT_ATTEMPTED, problem=""))]
    pages += [card(verdict_of({HOSTILE: HOSTILE}, {HOSTILE: "x"}))]
    for page in pages:
        assert "alert(1)" in "".join(tree(page).itertext())


numeric = st.one_of(
    *(
        arrays.arrays(dtype, shape)
        for dtype in (np.float64, np.float32, np.float16, np.int64, np.uint8, np.bool_)
        for shape in ((), (0,), (5,), (40,), (0, 3), (2, 2), (20, 30), (1, 1, 1, 4), (2, 3, 16, 15))
    )
)


odd_ones = st.sampled_from([math.nan, math.inf, -math.inf, 1e308, -1e308, 5e-324, 0.0])


@given(numeric, st.randoms(use_true_random=False), odd_ones, odd_ones)
@settings(quick, max_examples=150)
def test_any_two_arrays_can_be_drawn(expected, chance, odd, other_odd):
    yours = expected.copy()
    if yours.size and yours.dtype.kind == "f":
        with np.errstate(all="ignore"):
            yours.flat[chance.randrange(yours.size)] = odd
            yours.flat[-1], expected.flat[-1] = odd, other_odd
            yours.flat[0], expected.flat[0] = 1e308, 1e308
    elif yours.size:
        yours.flat[chance.randrange(yours.size)] ^= 1
    for other in (yours, yours[..., None], yours.astype(bool), yours.astype(np.float64), yours.reshape(-1)[:7]):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            page = card(verdict_of(expected, other))
        tree(page)
        assert len(page) < 110_000


def test_the_heat_map_is_of_the_first_difference():
    expected, yours = np.zeros(60), np.zeros(60)
    yours[50] = 1.0
    assert tree(card(verdict_of(expected, yours))).findall(".//rect[@fill='#08306b']"), "the dark one is in the window"
    expected, yours = np.zeros((2, 3, 40, 40)), np.zeros((2, 3, 40, 40))
    yours[1, 2, 35, 3] = 1.0
    assert tree(card(verdict_of(expected, yours))).findall(".//rect[@fill='#08306b']")
    many = tree(card(verdict_of(np.zeros((2,) * 7), np.zeros((2,) * 8))))
    edge = max(float(rect.get("x")) + float(rect.get("width")) for rect in many.iter("rect"))
    assert edge <= float(many.find(".//svg").get("width")), "a shape of many axes is drawn whole"


def test_a_passed_card_is_the_same_everywhere(course):
    fill(course, "shapes", DIAGONAL, "print('half', {1, 2})\n    return 2**0.5")
    code = f"""
        from yolostudy.study.course import Course
        from yolostudy.study.judge import Judge
        from yolostudy.study.card import card
        from pathlib import Path
        print(card(Judge(Course.open(Path({str(course.root)!r}), "yolostudy")).check("diagonal")))
    """
    pages = [run(course, code).stdout, run(course, code).stdout, card(Judge(course).check("diagonal")) + "\n"]
    assert pages[0] == pages[1] == pages[2] and "1 of 1, passed" in pages[0]
    assert not re.search(r"\d\.\d|seconds", re.sub(r'style="[^"]*"', "", pages[0]))
    assert json.dumps(pages[0])
