"""Exercises: what the learner writes, the probes that observe an answer, and its known mistakes.

A probe takes a loaded package and returns observations; it asserts nothing. A misconception is a
small patch on the reference, with the reason why it is wrong. `course/exercises/` holds one file
for each exercise module.
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
from .errors import CourseError

Look = Callable[[object], object]  # a loaded package -> observations


@dataclass(frozen=True)
class Probe:
    name: str  # what is observed, as the card says it
    look: Look
    rtol: float  # floats may differ by atol + rtol · |expected|
    atol: float


@dataclass(frozen=True)
class Misconception:
    name: str  # the mistake, as the card quotes it
    swaps: tuple[tuple[str, str], ...]  # (text of the reference's definition, what the mistaken one has instead)
    because: str  # why it is wrong, what it leads to, what to do
    museum: int | None = None  # its row in the bug museum

    def edition(self, reference: Edition, exercise: str) -> Edition:
        """The reference with this mistake in it.

        Raises CourseError if the patch does not fit the reference.
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
    minutes: int  # what most learners need
    goal: str  # one sentence
    hints: Sequence[str]  # three, each more detailed
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
        """The misconception of that name. Raises CourseError, with the names that there are."""
        known = {m.name: m for m in self.misconceptions}
        if name not in known:
            raise CourseError(f"{self.name} knows no misconception {name!r}. It knows {', '.join(known)}.")
        return known[name]

    def probe(self, name: str, rtol: float = 1e-4, atol: float = 1e-5) -> Callable[[Look], Look]:
        """Decorates a probe.

        It takes a loaded package and returns observations: plain data and tensors.
        """

        def add(look: Look) -> Look:
            self.probes.append(Probe(name, look, rtol, atol))
            return look

        return add

    def misconception(self, name: str, swap: Sequence, because: str, museum: int | None = None) -> None:
        """Names a mistake.

        `swap` is one pair (old, new) or several; each `old` occurs exactly once in the solution's
        definition.
        """
        swaps = (tuple(swap),) if swap and isinstance(swap[0], str) else tuple(map(tuple, swap))
        self.misconceptions.append(Misconception(name, swaps, because, museum))


_numbers = itertools.count(1)


def read_exercises(folder: Path, modules: Sequence[str] = ()) -> dict[str, Exercise]:
    """The exercises of a folder, by name.

    They are in the order of their stages, within a stage in that of `modules`, and within a module
    as its file has them.
    """
    package = f"_exercises_{next(_numbers)}"
    shell = ModuleType(package)
    shell.__path__ = [str(folder)]
    sys.modules[package] = shell  # it stays: a probe looks up the names of its module when it is called
    found: dict[str, Exercise] = {}
    for file in sorted(folder.glob("[!_.]*.py")):
        module = importlib.import_module(f"{package}.{file.stem}")
        for exercise in vars(module).values():
            if isinstance(exercise, Exercise) and found.setdefault(exercise.name, exercise) is not exercise:
                raise CourseError(f"{file}: there are two exercises {exercise.name}. Remove one.")
    return _in_order(found, modules)


def read_outline(folder: Path, modules: Sequence[str] = ()) -> dict[str, Exercise]:
    """The same exercises without probes and misconceptions.

    Their files are read and not imported, because they import torch. Where a file gives an exercise
    by more than plain values, all files are imported after all.
    """
    found: dict[str, Exercise] = {}
    try:
        for file in sorted(folder.glob("[!_.]*.py")):
            for exercise in _read_plain(ast.parse(file.read_text("utf-8"))):
                if found.setdefault(exercise.name, exercise) is not exercise:
                    return read_exercises(folder, modules)  # raises CourseError, with the file
    except (KeyError, TypeError, ValueError, SyntaxError, AttributeError):
        return read_exercises(folder, modules)
    return _in_order(found, modules)


def _in_order(found: dict[str, Exercise], modules: Sequence[str]) -> dict[str, Exercise]:
    def place(exercise: Exercise) -> tuple[int, int]:
        return exercise.stage, modules.index(exercise.module) if exercise.module in modules else len(modules)

    return {exercise.name: exercise for exercise in sorted(found.values(), key=place)}


def _read_plain(tree: ast.Module) -> Iterator[Exercise]:
    """The exercises of a file that are given by literals, and by names of literals."""
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
