"""The museum: the bugs of this course as small broken programs.

A room is one bug. Its program stands in `course/museum/` and runs twice, with the bug and without.
It runs on one of three things:

- the reference with a mistake in it that an exercise knows by name (`mistake`),
- the reference with a patch of its own, where no exercise asks for that definition (`patch`),
- two functions, where the bug is in no exercise (`broken` and `fixed`).

    visit = museum.visit(8)      # in a notebook: visit.finding is what the lens found
    print(visit)
"""

from __future__ import annotations

import ast
import difflib
import functools
import importlib
import sys
import textwrap
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from . import edition_in_use, learner
from .edition import Edition, load
from .errors import CourseError
from .exercise import Misconception

ROWS = 109
COMING: dict[int, tuple[str, int]] = {  # rooms that open with a later stage: symptom, stage
    91: ("a fused network is off by two thousandths", 12),
    92: ("a fused network is off by a tenth", 12),
    93: ("a fused network is off by more than half", 12),
    94: ("a fused network is off by five", 12),
    95: ("a reparameterised block is off by seven", 12),
    96: ("a reparameterised block differs at stride 2", 12),
    97: ("an index of a grouped identity is out of range", 12),
    98: ("training with RepOptimizer drifts away", 12),
    99: ("mAP is 0 after the whole network was quantised", 12),
    100: ("mAP is 0 after calibration", 12),
    101: ("int8 is worse on some processors", 12),
    102: ("the normalisation moved during calibration", 12),
    103: ("zero is not exact after quantisation", 12),
    104: ("nothing learns through a rounding", 12),
    105: ("values beyond the clamp have a gradient", 12),
    106: ("int8 is slower than fp32", 12),
    107: ("one batch too many is used for calibration", 12),
    108: ("boxes of other classes are suppressed", 12),
}


# ---- a room --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """What one run of a room's program showed."""

    shows_bug: bool
    text: str

    def __str__(self) -> str:
        return self.text


class Room:
    """One bug.

    Args:
        row: its number in the museum.
        symptom: what somebody who has it says.
        cause: why it happens and what to do; for a mistake, the exercise says it.
        mistake: exercise, and the name of its mistake.
        patch: definition of the reference, and pairs (old text, new text).
        broken, fixed: what the program gets instead, where there is neither.
        diary: whether the founding diary has it.
    """

    def __init__(
        self,
        row: int,
        symptom: str,
        cause: str = "",
        *,
        mistake: tuple[str, str] | None = None,
        patch: tuple | None = None,
        broken: object = None,
        fixed: object = None,
        diary: bool = False,
    ):
        self.row, self.symptom, self.mistake, self.patch, self.diary = row, symptom, mistake, patch, diary
        self.programs, self._cause = (broken, fixed), cause
        self.tool = ""
        self._look: Callable | None = None
        self._find: Callable | None = None

    def look(self, function: Callable[[object], tuple[bool, object]]) -> Callable:
        """Decorates the program.

        It gets the broken or the fixed thing, and returns whether it shows the bug, and what can be
        seen.
        """
        self._look = function
        return function

    def find(self, tool: str) -> Callable:
        """Decorates a function that finds the cause in the broken thing with `tool`.

        `str` of what it returns says what was found.
        """

        def add(function: Callable[[object], object]) -> Callable:
            self.tool, self._find = tool, function
            return function

        return add

    @property
    def where(self) -> str:
        return Path(self._look.__code__.co_filename).stem

    @property
    def place(self) -> str:
        code = self._look.__code__
        return f"course/museum/{Path(code.co_filename).name}:{code.co_firstlineno}"

    @functools.cached_property
    def misconception(self) -> tuple[str, Misconception] | None:
        """Name of the definition, and the mistake in it; None where the room has two functions."""
        if self.patch:
            name, *swaps = self.patch
            return name, Misconception(self.symptom, tuple(swaps), self._cause, self.row)
        if not self.mistake:
            return None
        name, wanted = self.mistake
        known = {m.name: m for m in learner.judge().exercise(name).misconceptions}
        if wanted not in known:
            raise CourseError(
                f"museum: room {self.row} shows a mistake {wanted!r} that {name} does not know. It knows "
                f"{', '.join(known)}."
            )
        return name, known[wanted]

    @property
    def cause(self) -> str:
        return self._cause or self.misconception[1].because

    @functools.cached_property
    def editions(self) -> tuple[Edition, Edition] | None:
        """The reference with the bug, and without."""
        if self.misconception is None:
            return None
        name, misconception = self.misconception
        right = edition_in_use.course().edition("reference")
        return misconception.edition(right, name), right

    @property
    def subjects(self) -> tuple[object, object]:
        """What the program runs on: broken, fixed."""
        return tuple(load(edition, "museum") for edition in self.editions) if self.editions else self.programs

    @property
    def fix(self) -> str:
        """The lines to change, as a diff."""
        if self.editions is None:
            return ""
        name = self.misconception[0]
        wrong, right = (edition.find(name).text.splitlines() for edition in self.editions)
        changed = list(difflib.unified_diff(wrong, right, lineterm="", n=0))[2:]
        lines = [line for line in changed if line[0] in "+-" and line[1:].strip()]
        bare = textwrap.dedent("\n".join(line[1:] for line in lines)).splitlines()
        return "\n".join(f"{line[0]} {text}" for line, text in zip(lines, bare, strict=True))

    def run(self, subject: object) -> Run:
        """Runs the program once. An exception is a symptom."""
        try:
            shows_bug, text = _seeded(self._look, subject)
        except Exception as error:
            return Run(True, _first_line(error))
        return Run(bool(shows_bug), str(text))

    def cause_in(self, subject: object) -> object:
        """What the lens finds in it."""
        return _seeded(self._find, subject)


def _seeded(function: Callable[[object], object], subject: object) -> object:
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return function(subject)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"


def frames(act: Callable[[], object]) -> str:
    """The traceback of what `act` raises, without the frames of torch; the innermost comes last."""
    try:
        act()
    except Exception as error:
        lines = []
        for frame in traceback.extract_tb(error.__traceback__)[1:]:
            path = Path(frame.filename)
            if "site-packages" not in path.parts and path.parent.name in ("museum", "solutions", "yolostudy"):
                lines.append(f"{path.parent.name}/{path.name}:{frame.lineno} in {frame.name}")
        return "\n".join([*lines, _first_line(error)])
    return "nothing was raised"


# ---- a visit -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Visit:
    """A room that was run: with the bug, under the lens, without the bug."""

    room: Room
    before: Run
    finding: object  # what the lens found
    after: Run

    @property
    def as_it_should_be(self) -> bool:
        return self.before.shows_bug and not self.after.shows_bug

    def __str__(self) -> str:
        room = self.room
        parts = [
            f"{room.row}  {room.symptom}  ({room.where}{', from the diary' if room.diary else ''})",
            _part("What is seen", str(self.before)),
            _part(f"Finding the cause: {room.tool}", str(self.finding)),
            _part("The cause", textwrap.fill(room.cause, 96)),
        ]
        if room.fix:
            parts.append(_part(f"The fix, in {room.misconception[0]}", room.fix))
        parts.append(_part("After it", str(self.after)))
        parts.append(f"The program: {room.place}")
        return "\n\n".join(parts)

    __repr__ = __str__


def _part(title: str, text: str) -> str:
    return f"{title}\n{textwrap.indent(text, '  ')}"


def visit(row: int) -> Visit:
    """Runs a room: with the bug, under the lens, without the bug."""
    if row in COMING:
        raise CourseError(f"museum: room {row} ({COMING[row][0]}) comes with stage {COMING[row][1]}.")
    known = rooms()
    if row not in known:
        raise CourseError(
            f"museum: there is no room {row}. Rooms are numbered from 1 to {ROWS}; `yolostudy museum` lists them."
        )
    room = known[row]
    broken, fixed = room.subjects
    return Visit(room, room.run(broken), room.cause_in(broken), room.run(fixed))


# ---- all rooms -----------------------------------------------------------------------------------


def _folder() -> Path:
    """The folder of the rooms. Raises CourseError if it is missing or the course is sealed."""
    folder = edition_in_use.course().root / "course" / "museum"
    if edition_in_use.course().sealed:
        raise CourseError(
            "museum: this is a sealed edition, for an exam. Every room shows a solution, so it is closed."
        )
    if not folder.is_dir():
        raise CourseError(
            f"museum: there is no folder {folder}. The museum belongs to the repository, not to the installed package."
        )
    return folder


@functools.cache
def rooms() -> dict[int, Room]:
    """Row -> room, of every file in `course/museum/`.

    Files that begin with _ hold what the rooms share.
    """
    folder = _folder()
    shell = ModuleType("_museum")
    shell.__path__ = [str(folder)]
    sys.modules["_museum"] = shell  # it stays: a program looks up the names of its module when it runs
    found: dict[int, Room] = {}
    for file in sorted(folder.glob("[!_.]*.py")):
        for room in vars(importlib.import_module(f"_museum.{file.stem}")).values():
            if isinstance(room, Room) and found.setdefault(room.row, room) is not room:
                raise CourseError(f"museum: {file} has a second room {room.row}. Remove one.")
    return dict(sorted(found.items()))


def labels() -> dict[int, tuple[str, str, str]]:
    """Row -> file, symptom, and the tool that finds the cause.

    The files are read and not imported, so that the list does not wait for torch.
    """
    found = {}
    for file in sorted(_folder().glob("[!_.]*.py")):
        rows, tools = {}, {}
        for statement in ast.parse(file.read_text("utf-8")).body:
            if (
                isinstance(statement, ast.Assign)
                and isinstance(statement.value, ast.Call)
                and getattr(statement.value.func, "id", "") == "Room"
            ):
                rows[statement.targets[0].id] = [argument.value for argument in statement.value.args[:2]]
            for mark in getattr(statement, "decorator_list", []):
                if isinstance(mark, ast.Call) and getattr(mark.func, "attr", "") == "find":
                    tools[mark.func.value.id] = mark.args[0].value
        found |= {row: (file.stem, symptom, tools[name]) for name, (row, symptom) in rows.items()}
    return dict(sorted(found.items()))


def listing() -> str:
    """The list of all rooms, as text."""
    known = labels()
    coming = {row: ("–", symptom, f"comes with stage {stage}") for row, (symptom, stage) in COMING.items()}
    lines = [
        f"{row:>3}  {where:<9} {symptom:<66} {tool}" for row, (where, symptom, tool) in sorted((coming | known).items())
    ]
    lines.append(
        f"{len(known)} rooms are open. `yolostudy museum N` runs one: the symptom, how its cause is found, the fix."
    )
    return "\n".join(lines)
