"""The words of a learner in the terminal: the same that a notebook has, with the same card as text."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from ..study import learner, overlay
from ..study.desk import Refusal
from ..study.judge import NOT_ATTEMPTED, PASSED, Verdict
from ..study.progress import Progress

LOOK_EVERY = 0.3  # seconds between two looks of `watch`


def say(text: str) -> None:
    """Prints a card, coloured where a terminal shows colours."""
    from rich.console import Console
    from rich.text import Text

    styles = {"PASS": "green", "FAIL": "yellow", "TODO": "bright_black", "+": "green", "-": "red"}
    console = Console(soft_wrap=True, highlight=False)
    for line in text.splitlines():
        style = next((s for start, s in styles.items() if line.startswith(start)), "")
        console.print(Text(line, style=style))


def report(verdict: Verdict) -> str:
    """The card as text, with what to do next."""
    name = verdict.exercise.name
    if verdict.state == PASSED:
        return f"{verdict.line}\n  `yolostudy diff {name}` shows yours beside the reference."
    if verdict.state == NOT_ATTEMPTED and not verdict.problem:
        return f"{verdict.line}\n  not attempted yet: {verdict.exercise.goal}"
    shown = max(1, Progress(overlay.course()).get(name)["hints"])
    hints = [f"  Hint {n} of 3: {hint}" for n, hint in enumerate(verdict.exercise.hints[:shown], start=1)]
    more = [f"  `yolostudy hint {name}` says more."] if shown < 3 else []
    return "\n".join([str(verdict), *hints, *more, verdict.line])


def check(word: str) -> int:
    """Judge what the word names; the exit status is 0 if all of it passes."""
    from tqdm import tqdm

    if learner.uses_reference(overlay.course().names[0]):
        print(f"{overlay.describe()}, so that is what is checked ({overlay.VARIABLE})")
    chosen = learner.judge().select(word)
    bar = tqdm(chosen, unit="exercise", delay=2, leave=False)
    verdicts = [learner.check(exercise.name) for exercise in bar]
    for verdict in verdicts:
        say(report(verdict) if len(verdicts) == 1 else verdict.line)
    if len(verdicts) > 1:
        passed = sum(map(bool, verdicts))
        print(f"{passed} of {len(verdicts)} passed. `yolostudy check EXERCISE` says more about one.")
        attempted = [v for v in verdicts if v.state not in (PASSED, NOT_ATTEMPTED)]
        if attempted:
            print(f"First to look at: {attempted[0].exercise.name}")
    return 0 if all(verdicts) else 1


def each(word: str, act: Callable[[str], str]) -> int:
    """Does something to every exercise that a word names, and prints what each says; 1 if one was refused."""
    refused = 0
    for exercise in learner.judge().select(word):
        try:
            say(act(exercise.name))
        except Refusal as refusal:
            refused += 1
            print(f"{exercise.name}: {refusal}", file=sys.stderr)
            if getattr(refusal, "diff", ""):
                print(refusal.diff, file=sys.stderr)
    return int(bool(refused))


def write(verb: str, word: str, versions: bool = False, to: int | None = None) -> int:
    """`solve`, `reset` or `undo`."""
    if verb == "undo" and versions:
        for version in learner.desk().versions(learner.judge().exercise(word).name):
            lines = version.text.count("\n") + 1
            print(f"{version.number:>5}  {version.when}  {version.how:<8} {lines:>3} lines")
        return 0
    if verb == "undo" and to is not None:
        return each(word, lambda name: learner.desk().restore(name, to).message)
    if verb == "undo" and word in overlay.course().names:
        print(learner.write("undo", word).message)
        return 0
    return each(word, lambda name: learner.write(verb, name).message)


def diff(word: str, against: str) -> int:
    """My definition against the reference (once it passes), the stub, or the version before."""

    def told(name: str) -> str:
        if against == "reference":
            learner.diff(name)  # refuses before mine passes
        return learner.desk().diff(name, against) or f"{name}: no difference"

    return each(word, told)


def watch() -> int:
    """Checks again whatever was saved, until Ctrl-C."""
    course = overlay.course()
    files = {course.mine / f"{name}.py": name for name in course.names}
    asked = [(e, e.module) for e in learner.judge().exercises.values()]  # imports torch before the first save
    stamps, texts = {}, {}

    def look(first: bool = False) -> None:
        for file, module in files.items():
            stamp = file.stat().st_mtime_ns if file.exists() else None
            if stamp == stamps.get(file):
                continue
            stamps[file] = stamp
            for exercise, home in asked:
                if home != module:
                    continue
                text = text_of(exercise.module, exercise.definition)
                if texts.get(exercise.name) != text and not first:
                    say(f"{time.strftime('%H:%M:%S')} {report(learner.check(exercise.name))}")
                texts[exercise.name] = text

    look(first=True)
    print(f"Watching {len(files)} files in {course.mine.name}/. Save one, and what you changed is checked. Ctrl-C ends this.")
    try:
        while True:
            time.sleep(LOOK_EVERY)
            look()
    except KeyboardInterrupt:
        print("\nno longer watching")
        return 0


def text_of(module: str, definition: str) -> str:
    """My definition's text; for a file that Python cannot read the whole of it, so that each save is told."""
    file = overlay.course().mine / f"{module}.py"
    try:
        found = overlay.course().module("mine", module).find(definition)
        return found.text if found else ""
    except SyntaxError:
        return file.read_text("utf-8", "replace")
    except FileNotFoundError:
        return ""
