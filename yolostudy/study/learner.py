"""What a learner can say, in a notebook as in the terminal: check, hint, solve, reset, undo, diff, progress.

One judge and one desk serve a process. What is checked is what is in use: mine on disk, or the reference while that one is in use.
"""

import contextlib
import functools

from . import overlay, verdicts
from .card import Card
from .desk import Change, Desk, Refusal
from .edition import Package, load
from .judge import NOT_ATTEMPTED, PASSED, Judge, Verdict
from .judge import mistaken as _mistaken
from .progress import Map, Progress, Row
from .regions import EditionError


def judge() -> Judge:
    return verdicts.judge_of(overlay.course())


@functools.cache
def desk() -> Desk:
    return Desk(overlay.course())


def uses_reference(module: str) -> bool:
    """Whether this process runs on the reference for a module: then that is what is checked, and nothing is written."""
    return overlay.course().plan(overlay.using()).get(module) == "reference"


def check(name: str) -> Verdict:
    """Judge one exercise as it stands now."""
    exercise = judge().exercise(name)
    if uses_reference(exercise.module):
        return judge().check(exercise.name, judge().reference)
    with contextlib.suppress(OSError):
        desk().notice(exercise.module)
    return verdicts.check(overlay.course(), exercise.name)


def hint(name: str) -> str:
    """The next hint; after the third, the third again."""
    exercise = judge().exercise(name)
    shown = min(Progress(overlay.course()).get(exercise.name)["hints"] + 1, len(exercise.hints))
    Progress(overlay.course()).put(exercise.name, hints=shown)
    last = f" That was the last one: solve({exercise.name!r}) writes the solution, and undo({exercise.name!r}) takes it back."
    return f"Hint {shown} of {len(exercise.hints)}: {exercise.hints[shown - 1]}" + (last if shown == len(exercise.hints) else "")


def write(word: str, name: str) -> Change:
    """`solve`, `reset` or `undo` one exercise; `undo` takes a module too."""
    if word == "solve":
        _needs_solutions()
    name = name if word == "undo" and name in overlay.course().names else judge().exercise(name).name
    _may_write(name)
    return getattr(desk(), word)(name)


def fill(name: str, text: str, writer: str = "") -> Change:
    _may_write(name)
    return desk().fill(name, text, writer)


def _may_write(name: str) -> None:
    if uses_reference(name.partition(".")[0]):
        raise Refusal(f'nothing was written: the reference is in use for {name.partition(".")[0]}. `yolostudy.use("mine")` changes that.')


def _needs_solutions() -> None:
    if overlay.course().sealed:
        raise Refusal("this is a sealed edition, for an exam: there is no solution in it.")


def diff(name: str) -> tuple[str, str]:
    """My definition and the reference's, as texts. Refused before mine passes: the hints and solve() are there for that."""
    _needs_solutions()
    exercise = judge().exercise(name)
    if not uses_reference(exercise.module) and not check(exercise.name):
        raise Refusal(
            f"{exercise.name} does not pass yet, and diff shows the reference. "
            "hint() says more, solve() writes it into your file, undo() takes it back."
        )
    module = overlay.course().module("reference" if uses_reference(exercise.module) else "mine", exercise.module)
    return module.find(exercise.definition).text, judge().reference.find(exercise.name).text


def progress(word: str = "") -> Map:
    """All exercises and how they stand. What was changed since it was judged is judged again."""
    course, rows = overlay.course(), []
    for exercise in judge().select(word):
        known = Progress(course).get(exercise.name)
        if uses_reference(exercise.module):
            known |= {"state": PASSED, "passed": len(exercise.probes), "total": len(exercise.probes)}
        else:
            try:
                attempted = exercise.definition in course.filled_in(exercise.module)
                if not attempted:
                    known["state"], known["passed"] = NOT_ATTEMPTED, 0
                elif known["mark"] != judge().fingerprint(exercise.name):
                    verdict = check(exercise.name)
                    known |= {"state": verdict.state, "passed": verdict.passed, "total": verdict.total}
            except (SyntaxError, FileNotFoundError, EditionError):
                known["state"] = "not yet"
        rows.append(
            Row(exercise.name, exercise.stage, exercise.points, known["state"], known["passed"], len(exercise.probes), exercise.goal)
        )
    notebooks = {exercise.stage: course.notebooks.get(exercise.module, "") for exercise in judge().exercises.values()}
    return Map(tuple(rows), notebooks)


def package(word: str = "reference") -> Package:
    """An edition as a package of its own, beside what is in use: `package("reference").blocks.SPPF`."""
    return load(overlay.course().edition(word, functools.partial(verdicts.accepts, overlay.course())), word.partition(":")[0])


def mistaken(name: str, misconception: str) -> Package:
    """The reference with one named mistake in it."""
    _needs_solutions()
    return _mistaken(judge(), name, misconception)


def rehearse(name: str, misconception: str) -> Card:
    """The card that a named mistake gets; nothing is written. For a demonstration."""
    _needs_solutions()
    exercise = judge().exercise(name)
    known = {m.name: m for m in exercise.misconceptions}
    if misconception not in known:
        raise EditionError(f"{exercise.name} knows no misconception {misconception!r}. It knows {', '.join(known)}.")
    return Card(judge().check(exercise.name, known[misconception].edition(judge().reference, exercise.name)))
