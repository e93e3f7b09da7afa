"""Exercises: what is asked for, the probes that look at an answer, and the mistakes that are known
by name.

A probe takes a loaded package and returns observations; it asserts nothing. A misconception is a
small patch on the reference, with the reason why it is wrong. `course/exercises/*.py` holds one
file for each exercise module.
"""

import ast
import contextlib
import importlib
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType

from .edition import Edition, Statement, parse
from .regions import CourseError

Look = Callable[[object], object]  # a loaded package -> observations


@dataclass(frozen=True)
class Probe:
    name: str  # what is looked at, as the card says it
    look: Look
    rtol: float  # floats may differ by atol + rtol · |expected|
    atol: float


@dataclass(frozen=True)
class Misconception:
    name: str  # the mistake, as the card quotes it
    swaps: tuple[tuple[str, str], ...]  # text in the reference's definition -> what the mistaken one says instead
    because: str  # why it is wrong, what it leads to, what to do
    museum: int | None = None  # its row in the bug museum

    def edition(self, reference: Edition, exercise: str) -> Edition:
        """The reference with this mistake in it.

        Raises CourseError if the patch does not fit any more.
        """
        module, where = exercise.partition(".")[0], f"{exercise}: misconception {self.name!r}"
        right = reference.find(exercise)
        if right is None:
            raise CourseError(f"{where}: the reference defines no {exercise}.")
        text = right.text
        for old, new in self.swaps:
            if (count := text.count(old)) != 1:
                raise CourseError(
                    f"{where}: {old!r} stands {count} times in the solution; a swap needs it exactly once."
                )
            text = text.replace(old, new)
        try:
            wrong = parse("\n" * (right.line - 1) + text, right.file).statements  # a traceback gives lines of the file
        except SyntaxError as error:
            raise CourseError(f"{where}: what the swaps make is not Python: {error.msg}.") from None
        statements: list[Statement] = []
        for statement in reference[module].statements:
            statements += (
                [replace(s, lead=right.lead, future=right.future) for s in wrong] if statement is right else [statement]
            )
        return Edition({**reference, module: replace(reference[module], statements=tuple(statements))})


@dataclass
class Exercise:
    """One top-level definition that a learner writes."""

    name: str  # module.Name
    stage: int
    points: int
    minutes: int  # that it takes most learners
    goal: str  # one sentence
    hints: Sequence[str]  # three, each says more
    after: str | Sequence[str] = ()  # exercises that it builds on
    probes: list[Probe] = field(default_factory=list)
    misconceptions: list[Misconception] = field(default_factory=list)

    def __post_init__(self):
        self.after = tuple(filter(None, (self.after,))) if isinstance(self.after, str) else tuple(self.after)

    @property
    def module(self) -> str:
        return self.name.partition(".")[0]

    @property
    def definition(self) -> str:
        return self.name.partition(".")[2]

    def mistake(self, name: str) -> Misconception:
        """The misconception of that name. Raises CourseError with those that there are."""
        known = {m.name: m for m in self.misconceptions}
        if name not in known:
            raise CourseError(f"{self.name} knows no misconception {name!r}. It knows {', '.join(known)}.")
        return known[name]

    def probe(self, name: str, rtol: float = 1e-4, atol: float = 1e-5) -> Callable[[Look], Look]:
        """Decorates a function that takes a loaded package and returns observations: plain data and
        tensors.
        """

        def add(look: Look) -> Look:
            self.probes.append(Probe(name, look, rtol, atol))
            return look

        return add

    def misconception(self, name: str, swap: Sequence, because: str, museum: int | None = None) -> None:
        """Names a mistake.

        `swap` is one pair (old, new) or several; each `old` stands once in the solution's
        definition.
        """
        swaps = (tuple(swap),) if swap and isinstance(swap[0], str) else tuple(map(tuple, swap))
        self.misconceptions.append(Misconception(name, swaps, because, museum))


_numbers = itertools.count(1)


def read_exercises(folder: Path) -> dict[str, Exercise]:
    """The exercises of a folder of files, by name, in the order of their stages; within a stage as
    they are written down.
    """
    package = f"_exercises_{next(_numbers)}"
    shell = ModuleType(package)
    shell.__path__ = [str(folder)]
    sys.modules[package] = shell  # stays: probes look their module's names up when they are called
    found: dict[str, Exercise] = {}
    for file in sorted(folder.glob("[!_.]*.py")):
        module = importlib.import_module(f"{package}.{file.stem}")
        for exercise in vars(module).values():
            if isinstance(exercise, Exercise) and found.setdefault(exercise.name, exercise) is not exercise:
                raise CourseError(f"{file}: there are two exercises {exercise.name}. Remove one.")
    return dict(sorted(found.items(), key=lambda item: item[1].stage))


def read_outline(folder: Path) -> dict[str, Exercise]:
    """The same exercises, with nothing that looks at an answer: their files are read and not
    imported, for those import torch.

    Where a file does not say them in plain values, all of them are imported after all.
    """
    found: dict[str, Exercise] = {}
    try:
        for file in sorted(folder.glob("[!_.]*.py")):
            for exercise in _read_plain(ast.parse(file.read_text("utf-8"))):
                if found.setdefault(exercise.name, exercise) is not exercise:
                    return read_exercises(folder)  # says what is wrong
    except (KeyError, TypeError, ValueError, SyntaxError, AttributeError):
        return read_exercises(folder)
    return dict(sorted(found.items(), key=lambda item: item[1].stage))


def _read_plain(tree: ast.Module) -> Iterator[Exercise]:
    """The exercises of a file, as far as they are made of literals and of names of literals."""
    values: dict[str, object] = {}

    def value(node: ast.expr) -> object:
        return values[node.id] if isinstance(node, ast.Name) else ast.literal_eval(node)

    for node in tree.body:
        if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
            continue
        if isinstance(call := node.value, ast.Call) and getattr(call.func, "id", "") == "Exercise":
            yield Exercise(*map(value, call.args), **{word.arg: value(word.value) for word in call.keywords})
        else:
            with contextlib.suppress(KeyError, TypeError, ValueError):
                values[node.targets[0].id] = value(node.value)
