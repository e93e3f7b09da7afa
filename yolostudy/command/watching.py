"""`yolostudy watch`: check again what the learner saved, until Ctrl-C."""

from __future__ import annotations

import contextlib
import time
from datetime import datetime
from pathlib import Path

from ..study import edition_in_use, learner
from ..study.desk import Refusal
from ..study.edition import CourseError, Edition, transplant
from .study import how_to_change, report, unreadable
from .terminal import say

LOOK_EVERY = 0.2  # seconds between two looks at the files
Stamp = tuple[int, int] | None  # time of change and size; None for a file that is missing


def watch() -> int:
    """Check again every definition that a save has changed."""
    course = edition_in_use.course()
    modules = [name for name in course.names if not learner.uses_reference(name)]
    if not modules:
        raise Refusal(f"{edition_in_use.describe()}, so none of your files counts. {how_to_change()}")
    files = {course.mine / f"{name}.py": name for name in modules}
    exercises = [*learner.judge().exercises]  # imports torch, before the first save waits for it
    if exercises:
        learner.judge().check(exercises[-1], learner.judge().reference)  # imports what the reference needs
    stamps = {file: stamp(file) for file in files}
    answers = {file: answers_in(file.stem) for file in files}
    say(
        f"Watching {len(files)} files in {course.package}/. Save one, and what you changed in it is checked. Ctrl-C "
        "ends this."
    )
    try:
        while True:
            time.sleep(LOOK_EVERY)
            for file in files:
                if stamp(file) != stamps[file]:
                    stamps[file] = settled(file)
                    answers[file] = saved(file, answers[file])
    except KeyboardInterrupt:
        say("\nno longer watching")
        return 0


def stamp(file: Path) -> Stamp:
    """What tells whether a file has changed."""
    with contextlib.suppress(FileNotFoundError):
        found = file.stat()
        return found.st_mtime_ns, found.st_size
    return None


def settled(file: Path) -> Stamp:
    """The stamp of a file once nobody writes to it any more: some editors empty it first."""
    before, now = (), stamp(file)
    while now != before:
        time.sleep(0.05)
        before, now = now, stamp(file)
    return now


def saved(file: Path, before: dict[str, str]) -> dict[str, str]:
    """Print a card for each definition that changed. Returns the file's answers."""
    if problem := unreadable(file.stem):
        say(f"{datetime.now():%H:%M:%S} {problem}")
        return before
    answers = answers_in(file.stem)
    names = [name for name in answers if answers[name] != before.get(name, learner.judge().stub[file.stem].text)]
    say(f"{datetime.now():%H:%M:%S} {file.name}: {', '.join(names) or 'nothing changed in an exercise'}")
    for name in names:
        verdict = learner.check(name)
        say(report(verdict))
        if verdict.interrupted:
            raise KeyboardInterrupt
    return answers


def answers_in(module: str) -> dict[str, str]:
    """Exercise -> my definition with its helpers, as the judge would see it."""
    judge, answers = learner.judge(), {}
    if unreadable(module):
        return answers
    mine = Edition({module: edition_in_use.course().module("mine", module)})
    stub = Edition({module: judge.stub[module]})
    for exercise in judge.exercises.values():
        if exercise.module == module:
            answers[exercise.name] = ""
            with contextlib.suppress(CourseError):  # the definition was deleted
                answers[exercise.name] = transplant(stub, exercise.name, mine)[module].text
    return answers
