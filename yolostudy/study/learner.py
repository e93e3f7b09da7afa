"""The commands of a learner, in a notebook and in the terminal.

A process has one judge and one desk. The edition in use is judged: mine as it stands on disk, or
the reference.
"""

import ast
import contextlib
import functools

from . import edition_in_use, verdict_cache
from .card import Card
from .desk import Change, Desk
from .edition import Package, Statement, load
from .errors import CourseError, Refusal
from .exercise import Exercise
from .judge import Judge
from .progress import ExerciseState, Map, Progress
from .regions import BEGIN, END
from .verdict import NOT_ATTEMPTED, NOT_YET, PASSED, Verdict


def judge() -> Judge:
    return verdict_cache.judge_of(edition_in_use.course())


@functools.cache
def desk() -> Desk:
    return Desk(edition_in_use.course())


def uses_reference(module: str) -> bool:
    """Whether this process runs on the reference for a module.

    Then the reference is judged, and nothing is written.
    """
    return edition_in_use.course().plan(edition_in_use.using()).get(module) == "reference"


def check(name: str) -> Verdict:
    """Judge one exercise as it stands on disk."""
    exercise = judge().exercise(name)
    if uses_reference(exercise.module):
        return judge().check(exercise.name, judge().reference)
    with contextlib.suppress(OSError):
        desk().notice(exercise.module)
    return verdict_cache.check(edition_in_use.course(), exercise.name)


def hint(name: str) -> str:
    """The next hint. After the third one, the third again."""
    exercise = judge().known(name)
    shown = min(Progress(edition_in_use.course()).get(exercise.name)["hints"] + 1, len(exercise.hints))
    Progress(edition_in_use.course()).put(exercise.name, hints=shown)
    last = ""
    if shown == len(exercise.hints) and not edition_in_use.course().sealed:
        last = " That was the last one: `solve` writes the solution into your file, and `undo` takes it back."
    return f"Hint {shown} of {len(exercise.hints)}: {exercise.hints[shown - 1]}{last}"


def write(word: str, name: str) -> Change:
    """`solve`, `reset` or `undo` one exercise; `undo` also takes a module."""
    if word == "solve":
        _needs_solutions()
    name = name if word == "undo" and name in edition_in_use.course().names else judge().known(name).name
    _may_write(name)
    return getattr(desk(), word)(name)


def fill(name: str, text: str, writer: str = "") -> Change:
    _may_write(name)
    return desk().fill(name, text, writer)


def _may_write(name: str) -> None:
    if uses_reference(module := name.partition(".")[0]):
        raise Refusal(
            f'nothing was written: the reference is in use for {module}. `yolostudy.use("mine")` changes that.'
        )


def _needs_solutions() -> None:
    if edition_in_use.course().sealed:
        raise Refusal("this is a sealed edition, for an exam: there is no solution in it.")


def diff(name: str) -> tuple[str, str]:
    """My definition and the reference's, as texts.

    Raises Refusal before mine passes: the hints and solve() are there for that.
    """
    _needs_solutions()
    exercise = judge().known(name)
    if not uses_reference(exercise.module) and not _passes(exercise):
        raise Refusal(
            f"{exercise.name} does not pass yet, and diff shows the reference. "
            "`hint` says more, `solve` writes it into your file, `undo` takes it back."
        )
    module = edition_in_use.course().module("reference" if uses_reference(exercise.module) else "mine", exercise.module)
    return _to_compare(module.find(exercise.definition)), _to_compare(judge().reference.find(exercise.name))


def _to_compare(statement: Statement) -> str:
    """A definition without its docstring and the markers, which both sides have in common."""
    lines = statement.text.splitlines()
    first = getattr(statement.nodes[0], "body", [None])[0]
    if first and ast.get_docstring(statement.nodes[0], clean=False) is not None:
        start, end = (number - statement.line for number in (first.lineno, first.end_lineno))
        del lines[start : end + 1]
    return "\n".join(line for line in lines if line.strip() not in (BEGIN, END)).replace(":\n\n", ":\n", 1)


def _passes(exercise: Exercise) -> bool:
    with contextlib.suppress(SyntaxError, FileNotFoundError, CourseError):
        return verdict_cache.accepts(edition_in_use.course(), exercise.module, exercise.definition)
    return False


def progress(word: str = "") -> Map:
    """The state of every exercise. An answer that has changed is judged again."""
    course, rows = edition_in_use.course(), []
    filled_in = functools.cache(course.filled_in)
    for exercise in judge().select(word):
        known = Progress(course).get(exercise.name)
        if uses_reference(exercise.module):
            known |= {"state": PASSED, "total": 0}  # its probes are not run
        else:
            try:
                if exercise.definition not in filled_in(exercise.module):
                    known["state"], known["passed"] = NOT_ATTEMPTED, 0
                elif known["mark"] != judge().fingerprint(exercise.name):
                    verdict = check(exercise.name)
                    known |= {"state": verdict.state, "passed": verdict.passed, "total": verdict.total}
            except (SyntaxError, FileNotFoundError, CourseError):
                known["state"] = NOT_YET
        counts = known["state"], known["passed"], known["total"]
        rows.append(ExerciseState(exercise.name, exercise.stage, exercise.points, *counts, exercise.goal))
    notebooks = {exercise.stage: course.notebooks.get(exercise.module, "") for exercise in judge().outline.values()}
    return Map(tuple(rows), notebooks)


def package(word: str = "reference") -> Package:
    """An edition as a package beside the one in use: `package("reference").blocks.SPPF`."""
    course = edition_in_use.course()
    return load(course.edition(word, functools.partial(verdict_cache.accepts, course)), word.partition(":")[0])


def mistaken(name: str, misconception: str) -> Package:
    """The reference with one named mistake in it, as a package."""
    _needs_solutions()
    exercise = judge().exercise(name)
    return load(exercise.mistake(misconception).edition(judge().reference, exercise.name), "mistaken")


def rehearse(name: str, misconception: str) -> Card:
    """The card that a named mistake gets, for a demonstration. Nothing is written."""
    _needs_solutions()
    exercise = judge().exercise(name)
    return Card(judge().check(exercise.name, exercise.mistake(misconception).edition(judge().reference, exercise.name)))
