"""The learner's words in the terminal: the words of the notebook, with the card as text."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable
from datetime import datetime

from ..study import edition_in_use, learner
from ..study.errors import Refusal
from ..study.history import Version
from ..study.progress import Progress
from ..study.verdict import NOT_ATTEMPTED, PASSED, Verdict
from .terminal import columns, complain, say, show

HOW = {"found": "first seen", "fill": "notebook", "restore": "undo --to"}  # the other events keep their names


def say_what_is_in_use(modules: Iterable[str]) -> None:
    """Warn where the reference is in use for one of the modules: then it is what is judged."""
    if any(map(learner.uses_reference, modules)):
        say(f"{edition_in_use.describe()}, so the reference is judged, not your file. {how_to_change()}")


def how_to_change() -> str:
    """What chose the edition in use, and how to choose another."""
    if os.environ.get(edition_in_use.VARIABLE):
        return (
            f"{edition_in_use.VARIABLE}={edition_in_use.using()} in your environment chose it: `unset "
            f"{edition_in_use.VARIABLE}` ends that."
        )
    return f"`yolostudy use {edition_in_use.using()}` chose it: `yolostudy use mine` ends that."


def unreadable(module: str) -> str:
    """Why my file cannot be read, and what to do; empty if it can be."""
    course = edition_in_use.course()
    file = f"{course.package}/{module}.py"
    try:
        course.module("mine", module)
    except SyntaxError as error:
        return (
            f"Python cannot read {file}, line {error.lineno}: {error.msg}. Correct it, or go back: `yolostudy undo "
            f"{module}`."
        )
    except FileNotFoundError:
        return f"{file} is missing. `yolostudy undo {module}` brings it back."
    return ""


# check
# --------------------------------------------------------------------------------------------------


def check(word: str) -> int:
    """Judge the exercises that the word names; the exit status is 0 if all pass."""
    from tqdm import tqdm

    chosen = learner.judge().select(word)
    say_what_is_in_use({exercise.module for exercise in chosen})
    verdicts, _ = [], learner.judge().exercises  # imports torch, before the bar starts
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
    """Print a line for each verdict, then files that could not be read, then what to do next."""
    width = max(len(verdict.line) for verdict in verdicts)
    for verdict in verdicts:
        line = f"{verdict.line:<{width}}  {reason(verdict)}".rstrip()
        show(line if not columns() or len(line) <= columns() else line[: columns() - 1] + "…")
    for problem in {verdict.exercise.module: verdict.problem for verdict in verdicts[::-1] if verdict.problem}.values():
        say(problem)
    passed = sum(map(bool, verdicts))
    more = "" if passed == len(verdicts) else " `yolostudy check EXERCISE` says more about one."
    say(f"{passed} of {len(verdicts)} passed.{more}")
    if attempted := [v for v in verdicts if v.state not in (PASSED, NOT_ATTEMPTED)]:
        say(f"First to look at: {attempted[0].exercise.name}")


def reason(verdict: Verdict) -> str:
    """Why an exercise does not pass, short enough to stand behind its line."""
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
    if verdict.results:  # without results the file could not be read, and no hint helps
        shown = max(1, Progress(edition_in_use.course()).get(name)["hints"])
        lines += [
            f"  Hint {n} of {len(exercise.hints)}: {hint}" for n, hint in enumerate(exercise.hints[:shown], start=1)
        ]
        lines += [f"  `yolostudy hint {name}` says more."] * (shown < len(exercise.hints))
    return "\n".join([*lines, verdict.line])


def place(name: str) -> str:
    """Where an exercise is filled in: notebook, file and line."""
    module, _, definition = name.partition(".")
    course = edition_in_use.course()
    notebook = course.notebooks.get(module)
    with contextlib.suppress(SyntaxError, FileNotFoundError):
        if found := course.module("mine", module).find(definition):
            where = f"{course.package}/{module}.py, line {found.line}"
            return f"Fill it in in course/{notebook}.ipynb, or in {where}." if notebook else f"Fill it in in {where}."
    return ""


# hint, solve, reset, undo, diff, status, use
# --------------------------------------------------------------------------------------------------


def each(word: str, act: Callable[[str], str], tell: Callable[[str], None] = say, again: bool = False) -> int:
    """Do something to every exercise that a word names, and print the answers.

    Args:
        act: takes the name of an exercise, and returns what to print or raises Refusal.
        tell: prints an answer.
        again: try refused exercises once more after the others, because another one may have
            repaired the file.

    Returns 1 if an exercise was refused, else 0.
    """
    names = left = [exercise.name for exercise in learner.judge().select(word)]
    while left:
        refused: dict[str, Refusal] = {}
        for name in left:
            try:
                answer = act(name)
                tell(answer if name in answer or len(names) == 1 else f"{name}: {answer}")
            except Refusal as refusal:
                refused[name] = refusal
        left = [*refused] if again and len(refused) < len(left) else []
    for name, refusal in refused.items():
        complain(refusal, name)
    return int(bool(refused))


def write(verb: str, word: str, versions: bool = False, to: int | None = None) -> int:
    """solve, reset or undo.

    `undo MODULE` takes the whole file back, not each of its exercises.
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
    """Every version of a definition or a module, what changed with it, and where undo leads."""
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
    """The newest version, if the file still holds it.

    None where the definition was deleted, or where Python cannot read the file.
    """
    module, _, definition = name.partition(".")
    with contextlib.suppress(SyntaxError, FileNotFoundError):
        mine = edition_in_use.course().module("mine", module)
        found = mine.find(definition) if definition else None
        if versions and (not definition or (found and versions[-1].text.endswith(found.text.rstrip("\n")))):
            return versions[-1]
    return None


def changed(old: str, new: str) -> tuple[int, int]:
    """How many lines were added and removed."""
    from difflib import unified_diff

    lines = [*unified_diff(old.splitlines(), new.splitlines(), n=0, lineterm="")][2:]
    return sum(line.startswith("+") for line in lines), sum(line.startswith("-") for line in lines)


def diff(word: str, against: str) -> int:
    """Compare my definition with the reference (once mine passes), the stub or a past version."""

    def act(name: str) -> str:
        if against == "reference":
            if learner.uses_reference(name.partition(".")[0]):
                raise Refusal(f"{name} is the reference now, so there is nothing to compare. {how_to_change()}")
            learner.diff(name)  # raises Refusal until mine passes
        return learner.desk().diff(name, against) or f"{name}: no difference"

    return each(word, act, show)


def status(word: str) -> int:
    """Print the progress map, after files that cannot be read."""
    found = learner.progress(word)
    modules = dict.fromkeys(row.name.partition(".")[0] for row in found.rows)
    say_what_is_in_use(modules)
    for problem in filter(None, map(unreadable, modules)):
        say(problem)
    show(str(found))
    return 0


def use(word: str) -> int:
    """Choose the edition for this folder, if a word is given, and say which one is in use."""
    if word:
        edition_in_use.keep(word)
    say(edition_in_use.describe())
    variable = edition_in_use.VARIABLE
    if (chosen := os.environ.get(variable)) and chosen != edition_in_use.using():
        say(
            f"{variable}={chosen} in your environment still goes first: `unset {variable}` lets this folder's word "
            "count."
        )
    elif edition_in_use.using() != "mine":
        say(how_to_change())
    return 0
