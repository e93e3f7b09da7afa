"""The desk: what writes into the learner's files. Nothing is ever lost there.

Every version of a file that was written or seen lies byte for byte in `.yolostudy/history/MODULE/`, named by its hash, and
`log.jsonl` beside it says in one line for each when it came and how. The log is written before the file, so a process that
dies at any moment leaves no version behind that the log does not know. The versions of one definition are read out of
these files: they are stored nowhere else.
"""

import ast
import hashlib
import io
import json
import re
import symtable
import tokenize
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from difflib import SequenceMatcher, unified_diff
from functools import cached_property
from pathlib import Path

from .course import Course
from .edition import Edition, Module, Statement, parse, read_module, replace_file, transplant
from .regions import BEGIN, END, EditionError

try:
    import fcntl
except ImportError:  # Windows: nothing stops two kernels that write at the same moment
    fcntl = None

# A line at the left margin that begins something else: there a definition ends that Python cannot read.
NEXT = re.compile(r"@|(?:async\s+def|def|class|from|import|if\s+__name__)\b|[^\W\d][\w.,\s]*(?::[^=]+)?=(?!=)")


class Refusal(EditionError):
    """Nothing was written. The message says what was wrong, where, and what to do; `diff` what would be overwritten."""

    def __init__(self, message: str, diff: str = ""):
        super().__init__(message)
        self.diff = diff


@dataclass(frozen=True)
class Change:
    """What became of the learner's file."""

    name: str
    how: str  # "fill", "solve", "reset", "undo" or "restore"
    file: Path
    written: bool
    message: str
    diff: str = ""


@dataclass(frozen=True)
class Version:
    """A definition as it once stood in the learner's file, below the learner's own helpers that it uses; or a whole module."""

    number: int  # of the event in the log that brought it
    when: str  # UTC
    how: str  # "found" at first sight, "edited" outside, else the word that wrote it
    text: str
    sha: str  # of the file that it stood in
    back: int | None  # the version that undo goes to from this one


@dataclass(frozen=True)
class _Page:
    """One of the learner's files as it is at this moment; nobody else at a desk writes it meanwhile."""

    name: str  # "blocks.SPPF", or "blocks" for the whole file
    file: Path
    shown: str  # how messages call the file
    content: bytes | None  # None if the file is missing
    mine: Module | SyntaxError  # what it says; the stub if it is missing
    stub: Module

    @property
    def definition(self) -> str:
        return self.name.partition(".")[2]

    @cached_property
    def given(self) -> frozenset[str]:
        """The names that are the course's. All others in the file are the learner's own."""
        return frozenset().union(*(s.binds for s in self.stub.statements))

    @cached_property
    def base(self) -> Module:
        """What is written into: the file, with the stub's definition in the place of one that Python cannot read."""
        if isinstance(self.mine, Module):
            return self.mine
        with suppress(SyntaxError, ValueError, TypeError):
            encoding, _ = tokenize.detect_encoding(io.BytesIO(self.content).readline)
            before, _, after = _cut(self.content.decode(encoding), self.definition)
            whole = _checked(parse(before + self.stub.find(self.definition).text + after, self.file))
            return replace(whole, newline="\r\n" if b"\r\n" in self.content else "\n", encoding=encoding)
        raise Refusal(
            f"{self.shown} has a syntax error in line {self.mine.lineno} ({self.mine.msg}) that is not {self.name}'s alone. Mend it, or "
            f"go back to the last version that could be read: `yolostudy undo {self.name.partition('.')[0]}`."
        )

    @property
    def text(self) -> str:
        """The definition as it stands."""
        if isinstance(self.mine, Module):
            return _text(self, self.mine) or ""
        return (_cut(self.content.decode("utf-8", "replace"), self.definition) or ("", "", ""))[1]


class Desk:
    """Writes into the learner's files of one course, and remembers every version of them."""

    def __init__(self, course: Course):
        self.course = course
        self._read: dict[Path, Module | SyntaxError] = {}  # what the files of the history say: they never change

    # ---- the words ---------------------------------------------------------------------------------------------------

    def fill(self, name: str, text: str, writer: str = "") -> Change:
        """Puts `module.Name` of a notebook cell into its file, with the learner's own helpers and imports.

        Args:
            text: the cell.
            writer: the notebook. What this notebook did not write is overwritten only when the same cell comes a second
                time; the first time raises Refusal, with the diff.
        """
        with self._open(name) as page:
            cell = _read_cell(page.definition, text)
            stub, broken = page.stub.find(page.definition), not isinstance(page.mine, Module)
            old = None if page.content is None else page.base.find(page.definition)
            if old and cell.find(page.definition).same_as(stub):
                holds = "your work, which stays as it is" if broken or not old.same_as(stub) else "the stub too"
                return Change(name, "fill", page.file, False, f"this cell is the untouched stub of {name}; {page.shown} holds {holds}")
            merged = _merge(page, cell)
            own = {n for s in _parts(page, cell)[:-1] for n in s.binds - page.given - {"*"}}
            said = f"wrote {name} into {page.shown}" + (f", with {', '.join(sorted(own))}" if own else "")
            if others := _left_out(page, cell, merged):
                said += f"; {', '.join(others)} stayed as the file has it, because a fill writes one exercise and your own helpers"
            self._ask_once(page, merged, writer)
            return self._write(page, "fill", merged, said, writer=writer)

    def solve(self, name: str) -> Change:
        """Puts the reference's definition into the file."""
        with self._open(name) as page:
            merged = _merge(page, self.course.module("reference", name.partition(".")[0]))
            return self._write(page, "solve", merged, f"wrote the reference's {name} into {page.shown}")

    def reset(self, name: str) -> Change:
        """Puts the stub's definition into the file. The learner's helpers stay."""
        with self._open(name) as page:
            return self._write(page, "reset", _merge(page, page.stub), f"put the stub of {name} back into {page.shown}")

    def undo(self, name: str) -> Change:
        """One version back, and with each further call one further back. A module's name means its whole file.

        What is written after an undo goes on from the version that undo had reached.
        """
        with self._open(name, whole=True) as page:
            versions = self._versions(page)
            version = next(reversed(versions.values()), None)  # where the file does not hold even this one, go there first
            while version:
                unread = page.name == name.partition(".")[0] and isinstance(self._module(page, version.sha), SyntaxError)
                if not (unread and isinstance(page.mine, SyntaxError)):
                    back = self._at(page, version)
                    if self._encode(page, back) != page.content:
                        return self._write(page, "undo", back, _brought(page, version), to=version.number)
                version = versions.get(version.back)
            return Change(name, "undo", page.file, False, f"there is no earlier version of {name}")

    def restore(self, name: str, number: int) -> Change:
        """Brings any version back."""
        with self._open(name, whole=True) as page:
            versions = self._versions(page)
            if number not in versions:
                raise Refusal(f"there is no version {number} of {name}. There are: {', '.join(map(str, versions)) or 'none yet'}.")
            return self._write(page, "restore", self._at(page, versions[number]), _brought(page, versions[number]))

    def versions(self, name: str) -> list[Version]:
        """Every version of a definition, or of a module, that was ever written or seen; oldest first."""
        with self._open(name, whole=True) as page:
            return [*self._versions(page).values()]

    def notice(self, module: str) -> None:
        """Remembers the file of a module as it is now, if it is not as it was last seen."""
        with _locked(self._folder(module)):
            self._see(module)

    def diff(self, name: str, other: str = "reference") -> str:
        """What makes mine of the "reference", of the "stub", or of the version before ("last"), as a unified diff."""
        with self._open(name) as page:
            if other == "last":
                versions = self._versions(page)
                now = next(reversed(versions.values()), None)
                before = versions.get(now.back) if now and now.text == page.text.rstrip("\n") else now
                theirs = before.text if before else ""
            elif other in ("reference", "stub"):
                theirs = self.course.module(other, name.partition(".")[0]).find(page.definition).text
            else:
                raise Refusal(f'there is nothing called {other!r} to compare with. Say "reference", "stub" or "last".')
            return _diff(theirs, page.text, f"{name} ({other})", f"{name} (mine)")

    # ---- one file, open ------------------------------------------------------------------------------------------------

    @contextmanager
    def _open(self, name: str, whole: bool = False) -> Iterator[_Page]:
        module, _, definition = name.partition(".")
        if module not in self.course.names:
            raise Refusal(f"there is no exercise module {module!r}. There are: {', '.join(self.course.names)}.")
        self.course.plan("stub")  # says so if there are no solutions that a stub could be made of
        with warnings.catch_warnings(), _locked(self._folder(module)):
            warnings.simplefilter("ignore")  # Python warns where the code is run; a second time says nothing new
            stub = self.course.module("stub", module)
            if definition not in stub.definitions and not (whole and name == module):
                known = ", ".join(f"{module}.{d}" for d in stub.definitions)
                raise Refusal(f"{module} has no definition {definition!r}. There are: {known}.")
            file = self.course.mine / f"{module}.py"
            page = _Page(name, file, file.relative_to(self.course.root).as_posix(), self._see(module), stub, stub)
            yield page if page.content is None else replace(page, mine=self._module(page, _hash(page.content)))

    def _encode(self, page: _Page, new: Module | bytes) -> bytes:
        """The bytes of a new text. A line that the file had before keeps its line end: some files mix them."""
        if isinstance(new, bytes):
            return new
        old = re.findall(r"[^\r\n]*(?:\r\n?|\n)|[^\r\n]+", (page.content or b"").decode(new.encoding))
        lines, last = io.StringIO(new.text).readlines(), len(io.StringIO(new.text).readlines()) - 1
        blocks = SequenceMatcher(None, [line.rstrip("\r\n") + "\n" for line in old], lines, autojunk=False).get_matching_blocks()
        kept = {b + i: old[a + i] for a, b, size in blocks for i in range(size)}
        ended = [kept[i] if i in kept and (i == last or kept[i][-1] in "\r\n") else line[:-1] + new.newline for i, line in enumerate(lines)]
        try:
            _checked(new)
            return "".join(ended).encode(new.encoding)
        except UnicodeEncodeError as error:
            wrong = error.object[error.start : error.end]
            raise Refusal(f"{page.shown} is written in {new.encoding}, which has no {wrong!r}. Write something else for it.") from error
        except SyntaxError as error:
            raise Refusal(f"with {page.name}, {page.shown} could not be read: {error.msg}, line {error.lineno}. Simplify it.") from error

    def _write(self, page: _Page, how: str, new: Module | bytes, said: str, **event) -> Change:
        content = self._encode(page, new)
        if content == page.content:
            return Change(page.name, how, page.file, False, f"{page.shown} holds this {page.name} already")
        if content_of(page.file) != page.content:
            raise Refusal(f"{page.shown} was saved by something else at this very moment. Do it again.")
        self._remember(page.name, content, how, **event)
        Module((), content.decode("latin-1"), page.file, "\n", "latin-1").write(page.file)  # latin-1 writes every byte as it is
        change = _diff(_decoded(page.content or b""), _decoded(content), f"{page.shown} (before)", page.shown)
        return Change(page.name, how, page.file, True, said, change)
