"""The words of a learner in the terminal: the same that a notebook has, with the same card as text."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path

from ..study import edition_in_use, learner
from ..study.edition import Edition, transplant
from ..study.errors import CourseError, Refusal
from ..study.history import Version
from ..study.progress import Progress
from ..study.verdict import NOT_ATTEMPTED, PASSED, Verdict

LOOK_EVERY = 0.2  # seconds between two looks of `watch`
WIDEST = 100  # characters of a line of prose, however wide the terminal is
COLOURS = {"PASS": "green", "FAIL": "yellow", "TODO": "bright_black", "+": "green", "-": "red", "@@": "cyan"}
PLAIN = str.maketrans({"●": "x", "◐": "/", "○": ".", "…": "~"})  # where these cannot be written
HOW = {"found": "first seen", "fill": "notebook", "restore": "undo --to"}  # the other events are called what they are


# ---- printing ------------------------------------------------------------------------------------


def columns() -> int:
    """How wide lines may be; 0, which is no limit, where nobody said and no terminal reads along."""
    if not sys.stdout.isatty() and not os.environ.get("COLUMNS"):
        return 0
    return max(30, min(shutil.get_terminal_size().columns, WIDEST))


def wrapped(text: str) -> str:
    """Its lines, broken at the terminal's width and with their indent kept.

    What is indented by four or more is code and stays.
    """
    lines = []
    for line in text.splitlines():
        indent = line[: len(line) - len(line.lstrip())]
        if not columns() or len(line) <= columns() or len(indent) >= 4:
            lines.append(line)
        else:
            lines += textwrap.wrap(
                line, columns(), subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
            )
    return "\n".join(lines)


def show(text: str) -> None:
    """Prints lines as they are, in colours where a terminal shows them.

    What would steer a terminal, or has no place in it, is masked.
    """
    text = re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]", "\ufffd", text)
    coding = sys.stdout.encoding or "utf-8"
    try:
        text.encode(coding)
    except UnicodeEncodeError:  # such as a pipe on Windows
        text = text.translate(PLAIN).encode(coding, "replace").decode(coding)
    if not sys.stdout.isatty():
        print(text, flush=True)
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(soft_wrap=True, highlight=False)
    for line in text.splitlines():
        console.print(
            Text(line, style=next((colour for start, colour in COLOURS.items() if line.startswith(start)), ""))
        )


def say(text: str) -> None:
    """Prints sentences."""
    show(wrapped(text))


def complain(refusal: CourseError, name: str = "") -> None:
    """To where errors go."""
    message = f"yolostudy: {refusal}" if name in str(refusal) else f"yolostudy: {name}: {refusal}"
    print(wrapped(message), file=sys.stderr)
    if diff := getattr(refusal, "diff", ""):
        print(diff, file=sys.stderr)


def say_what_is_in_use(modules: Iterable[str]) -> None:
    if any(map(learner.uses_reference, modules)):
        say(f"{edition_in_use.describe()}, so that is what is looked at. {how_to_change()}")


def how_to_change() -> str:
    """Who said which edition is in use, and how to say something else."""
    if os.environ.get(edition_in_use.VARIABLE):
        return (
            f"{edition_in_use.VARIABLE}={edition_in_use.using()} in your environment says so: `unset "
            f"{edition_in_use.VARIABLE}` ends that."
        )
    return f"`yolostudy use {edition_in_use.using()}` said so: `yolostudy use mine` ends that."


# ---- check ---------------------------------------------------------------------------------------


def check(word: str) -> int:
    """Judges what the word names; the exit status is 0 if all of it passes."""
    from tqdm import tqdm

    chosen = learner.judge().select(word)
    say_what_is_in_use({exercise.module for exercise in chosen})
    verdicts, _ = [], learner.judge().exercises  # imports torch, which is no progress
    for exercise in tqdm(chosen, unit="exercise", delay=2, leave=False, disable=None):
        verdicts.append(learner.check(exercise.name))
        if verdicts[-1].interrupted:
            say(report(verdicts[-1]))
            raise KeyboardInterrupt
    if len(verdicts) == 1:
        say(report(verdicts[0]))
    else:
        summarise(verdicts)
    return 0 if all(verdicts) else 1


def summarise(verdicts: list[Verdict]) -> None:
    """One line for each, then what keeps a whole file from being judged, then what to do."""
    wide = max(len(verdict.line) for verdict in verdicts)
    for verdict in verdicts:
        line = f"{verdict.line:<{wide}}  {reason(verdict)}".rstrip()
        show(line if not columns() or len(line) <= columns() else line[: columns() - 1] + "…")
    for problem in {verdict.exercise.module: verdict.problem for verdict in verdicts[::-1] if verdict.problem}.values():
        say(problem)
    passed = sum(map(bool, verdicts))
    say(
        f"{passed} of {len(verdicts)} passed."
        + ("" if passed == len(verdicts) else " `yolostudy check EXERCISE` says more about one.")
    )
    if attempted := [v for v in verdicts if v.state not in (PASSED, NOT_ATTEMPTED)]:
        say(f"First to look at: {attempted[0].exercise.name}")


def reason(verdict: Verdict) -> str:
    """Why it does not pass, as far as it fits behind its line."""
    if verdict.misconception:
        return f'"{verdict.misconception.name}"'
    return f"{verdict.first.probe}: {verdict.first.difference}" if verdict.first else ""


def report(verdict: Verdict) -> str:
    """The card as text, with what to do next."""
    exercise = verdict.exercise
    name, (_, *body) = exercise.name, str(verdict).splitlines()
    if verdict.state == PASSED:
        return "\n".join([verdict.line, *body, f"  `yolostudy diff {name}` shows yours beside the reference."])
    if verdict.state == NOT_ATTEMPTED and not verdict.problem:
        about = f"{exercise.goal} About {exercise.minutes} minutes, {exercise.points} points."
        return f"{verdict.line}\n  not attempted yet: {about}\n  {place(exercise.name)} `yolostudy hint {name}` helps."
    count = f"{verdict.passed} of {verdict.total}"
    lines = [f"{name:<{(columns() or 80) - len(count) - 1}} {count}", *body]
    if verdict.results:  # else nothing could be looked at, and no hint helps
        shown = max(1, Progress(edition_in_use.course()).get(name)["hints"])
        lines += [
            f"  Hint {n} of {len(exercise.hints)}: {hint}" for n, hint in enumerate(exercise.hints[:shown], start=1)
        ]
        lines += [f"  `yolostudy hint {name}` says more."] * (shown < len(exercise.hints))
    return "\n".join([*lines, verdict.line])


def place(name: str) -> str:
    """Where an exercise is filled in."""
    module, _, definition = name.partition(".")
    course = edition_in_use.course()
    notebook = course.notebooks.get(module)
    with contextlib.suppress(SyntaxError, FileNotFoundError):
        if found := course.module("mine", module).find(definition):
            where = f"{course.package}/{module}.py, line {found.line}"
            return f"Fill it in in course/{notebook}.ipynb, or in {where}." if notebook else f"Fill it in in {where}."
    return ""


# ---- hint, solve, reset, undo, diff, status, use -------------------------------------------------


def each(word: str, act: Callable[[str], str], tell: Callable[[str], None] = say, again: bool = False) -> int:
    """Does something to every exercise that a word names, and prints what each says; 1 if one was
    refused.

    again: what was refused is tried once more after the others, because one of them may have mended
    the file.
    """
    names = left = [exercise.name for exercise in learner.judge().select(word)]
    while left:
        refused: dict[str, Refusal] = {}
        for name in left:
            try:
                said = act(name)
                tell(said if name in said or len(names) == 1 else f"{name}: {said}")
            except Refusal as refusal:
                refused[name] = refusal
        left = [*refused] if again and len(refused) < len(left) else []
    for name, refusal in refused.items():
        complain(refusal, name)
    return int(bool(refused))


def write(verb: str, word: str, versions: bool = False, to: int | None = None) -> int:
    """`solve`, `reset` or `undo`.

    For `undo` a module is its whole file, not all of its exercises.
    """
    whole = verb == "undo" and word in edition_in_use.course().names
    modules = {word} if whole else {exercise.module for exercise in learner.judge().select(word)}
    if not versions and (given := sorted(filter(learner.uses_reference, modules))):
        raise Refusal(f"nothing was written, because {', '.join(given)} is the reference now. {how_to_change()}")

    def act(name: str) -> str:
        if versions:
            return history(name)
        change = learner.write(verb, name) if to is None else learner.desk().restore(name, to)
        if verb == "undo" and to is None and not change.written:
            raise Refusal(change.message)
        return change.message

    if whole:
        (show if versions else say)(act(word))
        return 0
    return each(word, act, show if versions else say, again=verb != "undo")


def history(name: str) -> str:
    """Every version of a definition or of a module, what changed with it, and where undo leads."""
    versions = learner.desk().versions(name)
    now = current(name, versions)
    lines, before = [f"{name}, oldest first:"], ""
    for version in versions:
        when = datetime.fromisoformat(version.when).astimezone()
        more, less = changed(before, version.text)
        mark = "*" if version is now else " "
        lines.append(
            f"{mark}{version.number:>5}  {when:%Y-%m-%d %H:%M}  {HOW.get(version.how, version.how):<10}  +{more} "
            f"-{less} lines"
        )
        before = version.text
    back = now.back if now else versions[-1].number if versions else None
    lines.append("* is what the file holds." if now else "The file holds none of them now.")
    if back is not None:
        lines[-1] += f" `yolostudy undo {name}` goes back to {back}, `yolostudy undo {name} --to NUMBER` to any."
    return "\n".join(lines)


def current(name: str, versions: list[Version]) -> Version | None:
    """The newest one, if the file still holds it: it may have been deleted, or Python cannot read
    the file.
    """
    module, _, definition = name.partition(".")
    with contextlib.suppress(SyntaxError, FileNotFoundError):
        mine = edition_in_use.course().module("mine", module)
        found = mine.find(definition) if definition else None
        if versions and (not definition or (found and versions[-1].text.endswith(found.text.rstrip("\n")))):
            return versions[-1]
    return None


def changed(old: str, new: str) -> tuple[int, int]:
    """How many lines came and went."""
    from difflib import unified_diff

    lines = [*unified_diff(old.splitlines(), new.splitlines(), n=0, lineterm="")][2:]
    return sum(line.startswith("+") for line in lines), sum(line.startswith("-") for line in lines)


def diff(word: str, against: str) -> int:
    """My definition against the reference (once it passes), the stub, or the version before."""

    def told(name: str) -> str:
        if against == "reference":
            if learner.uses_reference(name.partition(".")[0]):
                raise Refusal(f"{name} is the reference now, so there is nothing to compare. {how_to_change()}")
            learner.diff(name)  # refuses before mine passes
        return learner.desk().diff(name, against) or f"{name}: no difference"

    return each(word, told, show)


def status(word: str) -> int:
    """The map as text."""
    found = learner.progress(word)
    modules = dict.fromkeys(row.name.partition(".")[0] for row in found.rows)
    say_what_is_in_use(modules)
    for problem in filter(None, map(unreadable, modules)):
        say(problem)
    show(str(found))
    return 0


def unreadable(module: str) -> str:
    """Why my file cannot be looked at, and what to do; nothing if it can be."""
    course = edition_in_use.course()
    file = f"{course.package}/{module}.py"
    try:
        course.module("mine", module)
    except SyntaxError as error:
        return (
            f"Python cannot read {file}, line {error.lineno}: {error.msg}. Mend it, or go back: `yolostudy undo "
            f"{module}`."
        )
    except FileNotFoundError:
        return f"{file} is missing. `yolostudy undo {module}` brings it back."
    return ""


def use(word: str) -> int:
    """Keeps a word for this folder, and says what it runs on."""
    if word:
        edition_in_use.keep(word)
    say(edition_in_use.describe())
    if (said := os.environ.get(edition_in_use.VARIABLE)) and said != edition_in_use.using():
        variable = edition_in_use.VARIABLE
        say(
            f"{variable}={said} in your environment still goes first: `unset {variable}` lets this folder's word count."
        )
    elif edition_in_use.using() != "mine":
        say(how_to_change())
    return 0


# ---- watch ---------------------------------------------------------------------------------------


def watch() -> int:
    """Checks again whatever was saved, until Ctrl-C."""
    course = edition_in_use.course()
    modules = [name for name in course.names if not learner.uses_reference(name)]
    if not modules:
        raise Refusal(f"{edition_in_use.describe()}, so none of your files counts. {how_to_change()}")
    files = {course.mine / f"{name}.py": name for name in modules}
    exercises = [*learner.judge().exercises]  # imports torch before the first save
    if exercises:
        learner.judge().check(exercises[-1], learner.judge().reference)  # the same for what the reference needs
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


def stamp(file: Path) -> tuple[int, int] | None:
    with contextlib.suppress(FileNotFoundError):
        found = file.stat()
        return found.st_mtime_ns, found.st_size
    return None


def settled(file: Path) -> tuple[int, int] | None:
    """The stamp of a file that nobody writes to any more: some editors empty it first."""
    before, now = (), stamp(file)
    while now != before:
        time.sleep(0.05)
        before, now = now, stamp(file)
    return now


def saved(file: Path, before: dict[str, str]) -> dict[str, str]:
    """Tells what has become of a file, with a card for each definition that changed; returns its
    answers.
    """
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
    mine, stub = (
        Edition({module: edition_in_use.course().module("mine", module)}),
        Edition({module: judge.stub[module]}),
    )
    for exercise in judge.exercises.values():
        if exercise.module == module:
            answers[exercise.name] = ""
            with contextlib.suppress(CourseError):  # it is not defined any more
                answers[exercise.name] = transplant(stub, exercise.name, mine)[module].text
    return answers
