"""`yolostudy museum [N]`: the bugs of this course as small broken programs: what is seen, how the
cause is found, what mends it.

A room is one bug. Its program stands in `course/museum/` and runs twice, once with the bug and once
without. What it runs on is

- the reference with a mistake in it that an exercise knows by name (`mistake`),
- the reference with a patch of its own, where no exercise asks for that definition yet (`patch`),
  or
- two functions, where the bug lies in no exercise (`broken` and `mended`).

    visit = museum.visit(8)      # in a notebook: visit.finding is what the lens gave
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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from . import edition_in_use, learner
from .edition import Edition, load
from .exercise import Misconception

ROWS = 50
COMING = {  # rows whose part of the network comes with a later stage: what is seen, and that stage
    44: ("wrong tag for each scale", 10),
}


@dataclass(frozen=True)
class Seen:
    """What one run of a room's program showed: the words, and whether that is the symptom."""

    ill: bool
    text: str

    def __str__(self) -> str:
        return self.text


class Room:
    """One bug.

    Args:
        row: its number in the museum.
        symptom: what somebody says who has it.
        cause: why, and what to do; for a mistake the exercise says it.
        mistake: exercise and name of the mistake.
        patch: definition of the reference, and pairs (old text, new text).
        broken, mended: what the program is given instead, where it is about neither.
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
        mended: object = None,
        diary: bool = False,
    ):
        self.row, self.symptom, self.mistake, self.patch, self.diary = row, symptom, mistake, patch, diary
        self.programs, self._cause = (broken, mended), cause
        self.tool = ""
        self._look: Callable | None = None
        self._find: Callable | None = None

    def look(self, function: Callable[[object], tuple[bool, object]]) -> Callable:
        """Decorates the program: it gets the broken or the mended thing, and returns whether it is
        ill and what is seen.
        """
        self._look = function
        return function

    def find(self, tool: str) -> Callable:
        """Decorates what finds the cause in the broken thing with `tool`; what it returns has words
        (`str`).
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
        """Name of the definition, and what is done to it; None where the room has its own two
        functions.
        """
        if self.patch:
            name, *swaps = self.patch
            return name, Misconception(self.symptom, tuple(swaps), self._cause, self.row)
        if not self.mistake:
            return None
        name, wanted = self.mistake
        known = {m.name: m for m in learner.judge().exercise(name).misconceptions}
        if wanted not in known:
            raise ValueError(
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
        """What the program runs on: broken, mended."""
        return tuple(load(edition, "museum") for edition in self.editions) if self.editions else self.programs

    @property
    def mend(self) -> str:
        """The lines to change, as a diff."""
        if self.editions is None:
            return ""
        name = self.misconception[0]
        wrong, right = (edition.find(name).text.splitlines() for edition in self.editions)
        lines = [
            line
            for line in list(difflib.unified_diff(wrong, right, lineterm="", n=0))[2:]
            if line[0] in "+-" and line[1:].strip()
        ]
        bare = textwrap.dedent("\n".join(line[1:] for line in lines)).splitlines()
        return "\n".join(f"{line[0]} {text}" for line, text in zip(lines, bare, strict=True))

    def run(self, subject: object) -> Seen:
        """The program once. An exception is a symptom, in its own words."""
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            try:
                ill, text = self._look(subject)
            except Exception as error:
                return Seen(True, f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
        return Seen(bool(ill), str(text))

    def cause_in(self, subject: object) -> object:
        """What the lens says to it."""
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return self._find(subject)


@dataclass(frozen=True)
class Visit:
    """A room that was run. `before` and `after` are `Seen`, `finding` is what the lens gave."""

    room: Room
    before: Seen
    finding: object
    after: Seen

    def __str__(self) -> str:
        room = self.room
        parts = [
            f"{room.row}  {room.symptom}  ({room.where}{', from the diary' if room.diary else ''})",
            _part("What is seen", str(self.before)),
            _part(f"Finding the cause: {room.tool}", str(self.finding)),
            _part("What it is", textwrap.fill(room.cause, 96)),
        ]
        if room.mend:
            parts.append(_part(f"The mend, in {room.misconception[0]}", room.mend))
        parts.append(_part("After it", str(self.after)))
        parts.append(f"The program: {room.place}")
        return "\n\n".join(parts)

    __repr__ = __str__


def _part(title: str, text: str) -> str:
    return f"{title}\n{textwrap.indent(text, '  ')}"


def _open_folder() -> Path:
    folder = edition_in_use.course().root / "course" / "museum"
    if edition_in_use.course().sealed:
        raise ValueError(
            "museum: this is a sealed edition, for an exam, and every room shows a solution. It is closed."
        )
    if not folder.is_dir():
        raise ValueError(
            f"museum: there is no folder {folder}. The museum belongs to the repository, not to the installed package."
        )
    return folder


@functools.cache
def rooms() -> dict[int, Room]:
    """Row -> room, of every file in `course/museum/`; files that begin with _ hold what the rooms
    share.
    """
    folder = _open_folder()
    shell = ModuleType("_museum")
    shell.__path__ = [str(folder)]
    sys.modules["_museum"] = shell  # stays: programs look the names of their module up when they run
    found: dict[int, Room] = {}
    for file in sorted(folder.glob("[!_.]*.py")):
        for room in vars(importlib.import_module(f"_museum.{file.stem}")).values():
            if isinstance(room, Room) and found.setdefault(room.row, room) is not room:
                raise ValueError(f"museum: {file} has a second room {room.row}. Remove one.")
    return dict(sorted(found.items()))


def visit(row: int) -> Visit:
    """Run a room: with the bug, under the lens, without the bug."""
    if row in COMING:
        raise ValueError(f"museum: room {row} ({COMING[row][0]}) comes with stage {COMING[row][1]}.")
    known = rooms()
    if row not in known:
        raise ValueError(
            f"museum: there is no room {row}. Rooms are numbered from 1 to {ROWS}; `yolostudy museum` lists them."
        )
    room = known[row]
    broken, mended = room.subjects
    return Visit(room, room.run(broken), room.cause_in(broken), room.run(mended))


def frames(act: Callable[[], object]) -> str:
    """The traceback of what `act` raises, the frames of torch left out: the innermost stands last."""
    try:
        act()
    except Exception as error:
        lines = []
        for frame in traceback.extract_tb(error.__traceback__)[1:]:
            path = Path(frame.filename)
            if "site-packages" not in path.parts and path.parent.name in ("museum", "solutions", "yolostudy"):
                lines.append(f"{path.parent.name}/{path.name}:{frame.lineno} in {frame.name}")
        return "\n".join([*lines, f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"])
    return "nothing was raised"


def labels() -> dict[int, tuple[str, str, str]]:
    """Row -> where it lies, what is seen, what finds it.

    Read, not imported: the list should not wait for torch.
    """
    found = {}
    for file in sorted(_open_folder().glob("[!_.]*.py")):
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
    known = labels()
    coming = {row: ("–", symptom, f"comes with stage {stage}") for row, (symptom, stage) in COMING.items()}
    lines = [
        f"{row:>3}  {where:<9} {symptom:<66} {tool}" for row, (where, symptom, tool) in sorted((coming | known).items())
    ]
    lines.append(
        f"{len(known)} rooms are open. `yolostudy museum N` runs one: the symptom, the finding of its cause, the mend."
    )
    return "\n".join(lines)


def run(numbers: Sequence[int]) -> int:
    """Print the list, or one room. 1 if a room does not show what it should."""
    if not numbers:
        print(listing())
        return 0
    told = [visit(number) for number in numbers]
    print("\n\n".join(map(str, told)))
    return int(any(not one.before.ill or one.after.ill for one in told))
