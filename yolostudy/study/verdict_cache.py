"""Verdicts that are remembered, so that an answer is judged again only after it has changed."""

import contextlib
from pathlib import Path

from .course import Course
from .errors import CourseError
from .judge import Judge
from .progress import Progress
from .verdict import PASSED, Verdict

_judges: dict[Path, Judge] = {}


def judge_of(course: Course) -> Judge:
    """The judge of this process.

    There is one, because it remembers what the probes saw in the reference.
    """
    return _judges.setdefault(course.root, Judge(course))


def check(course: Course, name: str) -> Verdict:
    """Judges the learner's file as it stands now, and remembers the verdict."""
    before, verdict, after = _mark(course, name), judge_of(course).check(name), _mark(course, name)
    if not verdict.interrupted:
        mark = after if before == after else ""  # the file was saved meanwhile: either version may have been judged
        Progress(course).put(name, state=verdict.state, passed=verdict.passed, total=verdict.total, mark=mark)
    return verdict


def _mark(course: Course, name: str) -> str:
    with contextlib.suppress(SyntaxError, FileNotFoundError, CourseError):
        return judge_of(course).fingerprint(name)
    return ""


def accepts(course: Course, module: str, definition: str) -> bool:
    """Whether mine passes, for the hybrid edition. A remembered verdict needs no torch."""
    name = f"{module}.{definition}"
    if name not in course.exercise_names:
        return True  # no exercise asks for it, so nothing judges it
    known = Progress(course).get(name)
    if known["mark"] and known["mark"] == judge_of(course).fingerprint(name):
        return known["state"] == PASSED
    verdict = check(course, name)
    if verdict.interrupted:
        raise KeyboardInterrupt  # the learner interrupted the import that asked
    return bool(verdict)
