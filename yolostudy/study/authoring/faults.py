"""What is wrong with the exercises themselves. Nothing may be, before they ship."""

from collections.abc import Iterator

from ..edition import transplant
from ..errors import CourseError
from ..exercise import Exercise
from ..isolation import Stopped
from ..judge import Judge, same
from ..observation import Seen

LINE_LENGTH = 14  # a solution's line of more characters must not be in a hint


def faults(judge: Judge, names: list[str] | None = None) -> Iterator[str]:
    """The faults of all exercises, or of those named: one sentence each."""
    for exercise in judge.exercises.values():
        if names is None or exercise.name in names:
            for fault in _faults(judge, exercise):
                yield f"course/exercises/{exercise.module}.py: {exercise.name}: {fault}"


def _faults(judge: Judge, exercise: Exercise) -> Iterator[str]:
    solution = judge.reference.find(exercise.name)
    if not solution or solution.same_as(judge.stub.find(exercise.name)):
        yield "the reference has no marked region in it."
        return
    if unknown := [name for name in exercise.after if name not in judge.exercises]:
        yield f"it comes after {unknown[0]}, which is no exercise."
    yield from _faults_of_hints(judge, exercise)
    if not exercise.probes:
        yield "there is no probe."
        return
    try:
        right = judge.reference_seen(exercise)
        yield from _faults_of_probes(judge, exercise, right)
        yield from _faults_of_misconceptions(judge, exercise, right)
    except (CourseError, Stopped) as error:
        yield str(error)


def _faults_of_hints(judge: Judge, exercise: Exercise) -> Iterator[str]:
    if len(exercise.hints) != 3 or len({*exercise.hints}) != 3 or not all(exercise.hints):
        yield "there must be three hints that differ."
    solution, stub = (
        {line.strip() for line in edition.find(exercise.name).text.splitlines()}
        for edition in (judge.reference, judge.stub)
    )
    lines = [line for line in solution - stub if len(line) > LINE_LENGTH]
    for number, hint in enumerate(exercise.hints, start=1):
        flat = "".join(hint.split())
        if given := next((line for line in lines if "".join(line.partition("  #")[0].split()) in flat), None):
            yield f"hint {number} gives a line of the solution away: {given}"


def _faults_of_probes(judge: Judge, exercise: Exercise, right: list[Seen]) -> Iterator[str]:
    again = judge.look(exercise, judge.reference)
    if changing := [p.name for p, *two in zip(exercise.probes, right, again) if not same(p, *two)]:
        yield f"the probe {changing[0]!r} sees something else each time."
    empty = judge.look(exercise, transplant(judge.reference, exercise.name, judge.stub))
    if passing := [p.name for p, *two in zip(exercise.probes, right, empty) if same(p, *two)]:
        yield f"the stub passes the probe {passing[0]!r}."


def _faults_of_misconceptions(judge: Judge, exercise: Exercise, right: list[Seen]) -> Iterator[str]:
    known: list[tuple[str, list[Seen]]] = []
    for misconception in exercise.misconceptions:
        seen = judge.misconception_seen(exercise, misconception)
        if all(same(*item) for item in zip(exercise.probes, right, seen)):
            yield f"no probe distinguishes the misconception {misconception.name!r} from the solution."
        for other, its in known:
            if all(same(*item) for item in zip(exercise.probes, its, seen)):
                yield f"misconceptions {other!r} and {misconception.name!r} look the same to the probes."
        known.append((misconception.name, seen))
