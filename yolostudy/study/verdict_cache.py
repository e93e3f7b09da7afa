"""Verdicts that are remembered: what is known about an answer is not found out again before it
changes.
"""

import contextlib
from pathlib import Path

from .course import Course
from .judge import Judge, Verdict
from .progress import Progress
from .regions import CourseError

_judges: dict[Path, Judge] = {}


def judge_of(course: Course) -> Judge:
    """One judge serves a process: it remembers what the probes saw of the reference."""
    return _judges.setdefault(course.root, Judge(course))


def check(course: Course, name: str) -> Verdict:
    """Judges the learner's file as it stands now, and remembers the verdict."""
    before, verdict, after = _mark(course, name), judge_of(course).check(name), _mark(course, name)
    if not verdict.interrupted:
        mark = after if before == after else ""  # saved meanwhile: nobody knows which of the two was judged
        Progress(course).put(name, state=verdict.state, passed=verdict.passed, total=verdict.total, mark=mark)
    return verdict


def _mark(course: Course, name: str) -> str:
    with contextlib.suppress(SyntaxError, FileNotFoundError, CourseError):
        return judge_of(course).fingerprint(name)
    return ""


def accepts(course: Course, module: str, definition: str) -> bool:
    """Whether mine passes, for the hybrid edition. For what is known this needs no torch."""
    name = f"{module}.{definition}"
    if name not in course.exercise_names:
        return True  # what no exercise asks for is mine wherever it is filled in
    known = Progress(course).get(name)
    if known["mark"] and known["mark"] == judge_of(course).fingerprint(name):
        return known["state"] == "passed"
    verdict = check(course, name)
    if verdict.interrupted:
        raise KeyboardInterrupt  # it is the import that was interrupted
    return bool(verdict)
