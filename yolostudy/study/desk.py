"""The desk: what writes into the learner's files. Nothing is ever lost there.

Every version of a file that was written or seen lies byte for byte in `.yolostudy/history/MODULE/`,
named by its hash, and `log.jsonl` beside it says in one line for each when it came and how. The log
is written before the file, so a process that dies at any moment leaves no version behind that the
log does not know. The versions of one definition are read out of
these files: they are stored nowhere else.
"""

import ast
import hashlib
import io
import json
import os
import re
import symtable
import tokenize
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from difflib import SequenceMatcher, unified_diff
from functools import cached_property, lru_cache
from pathlib import Path

from .course import Course
from .edition import Edition, Module, Statement, parse, read_module, replace_file, transplant
from .regions import BEGIN, END, CourseError

try:
    import fcntl
except ImportError:  # Windows: nothing stops two kernels that write at the same moment
    fcntl = None

# A line at the left margin that begins something else: there a definition ends that Python cannot
# read.
NEXT = re.compile(r"@|(?:async\s+def|def|class|from|import|if\s+__name__)\b|[^\W\d][\w.,\s]*(?::[^=]+)?=(?!=)")


class Refusal(CourseError):
    """Nothing was written.

    The message says what was wrong, where, and what to do; `diff` what would be overwritten.
    """

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
    """A definition as it once stood in the learner's file, below the learner's own helpers that it
    uses; or a whole module.
    """

    number: int  # of the event in the log that brought it
    when: str  # UTC
    how: str  # "found" at first sight, "edited" outside, else the word that wrote it
    text: str
    sha: str  # of the file that it stood in
    back: int | None  # the version that undo goes to from this one


class Desk:
    """Writes into the learner's files of one course, and remembers every version of them."""

    def __init__(self, course: Course):
        self.course = course

    def fill(self, name: str, text: str, writer: str = "") -> Change:
        """Puts `module.Name` of a notebook cell into its file, with the learner's own helpers and
        imports that it uses.

        Args:
            text: the cell.
            writer: the notebook. What it did not write itself is overwritten only when the same
                cell comes a second time; the first time raises Refusal with the diff.
        """
        with self._open(name) as page:
            cell = _read_cell(page.definition, text)
            new, stub, old = (m.find(page.definition) for m in (cell, page.stub, page.base))
            if new.same_as(stub) and old and page.content is not None:
                holds = "your work, which stays" if page.error or not old.same_as(stub) else "the stub too"
                return page.change("fill", f"this cell is the untouched stub of {name}; {page.shown} holds {holds}")
            merged, own = page.merge(cell), {n for s in page.parts(cell)[:-1] for n in s.binds - page.given - {"*"}}
            page.ask_once(merged, writer)
            said = f"wrote {name} into {page.shown}" + (f", with {', '.join(sorted(own))}" if own else "")
            left = {
                n
                for s in page.foreign(cell)
                for n in s.binds & page.given
                if (kept := merged.find(n)) and not kept.same_as(s)
            }
            if left:
                said += (
                    f"; {', '.join(sorted(left))} stayed as the file has it: a fill writes one definition and your "
                    "own helpers"
                )
            return page.write("fill", merged, said, writer=writer)

    def solve(self, name: str) -> Change:
        """Puts the reference's definition into the file."""
        with self._open(name) as page:
            reference = self.course.module("reference", page.module)
            return page.write("solve", page.merge(reference), f"wrote the reference's {name} into {page.shown}")

    def reset(self, name: str) -> Change:
        """Puts the stub's definition into the file. The learner's helpers stay."""
        with self._open(name) as page:
            return page.write("reset", page.merge(page.stub), f"put the stub of {name} back into {page.shown}")

    def undo(self, name: str) -> Change:
        """One version back, and with each further call one further. A module's name means its whole
        file.

        What is written after an undo goes on from the version that undo had reached.
        """
        with self._open(name, whole=True) as page:
            version = page.newest  # the file may not hold even this one: the definition is deleted or cannot be read
            while version:
                if not (page.error and isinstance(page.history.module(version.sha), SyntaxError)):
                    change = page.bring("undo", version, to=version.number)
                    if change.written:
                        return change
                version = page.versions.get(version.back)
            return page.change("undo", f"there is no earlier version of {name}")

    def restore(self, name: str, number: int) -> Change:
        """Brings any version back."""
        with self._open(name, whole=True) as page:
            if number not in page.versions:
                raise Refusal(
                    f"there is no version {number} of {name}. `yolostudy undo {name} --list` lists those that there "
                    "are."
                )
            return page.bring("restore", page.versions[number])

    def versions(self, name: str) -> list[Version]:
        """Every version of a definition, or of a module, that was ever written or seen; oldest
        first.
        """
        with self._open(name, whole=True) as page:
            return [*page.versions.values()]

    def notice(self, module: str) -> None:
        """Remembers the file of a module as it is now, if it is not as it was last seen."""
        history = History(self.course, module)
        with history.locked():
            history.see()

    def diff(self, name: str, other: str = "reference") -> str:
        """What makes mine out of the "reference", the "stub", or the version before ("last"), as a
        unified diff.
        """
        with self._open(name) as page:
            if other == "last":
                newest = page.newest
                before = page.versions.get(newest.back) if newest and newest.text == page.text else newest
                theirs = before.text if before else ""
            elif other in ("reference", "stub"):
                theirs = self.course.module(other, page.module).find(page.definition).text
            else:
                raise Refusal(f'there is nothing called {other!r} to compare with. Say "reference", "stub" or "last".')
            return _diff(_unmarked(theirs), _unmarked(page.text), f"{name} ({other})", f"{name} (mine)")

    @contextmanager
    def _open(self, name: str, whole: bool = False) -> Iterator["_Page"]:
        """The learner's file around a definition; or a whole one, where that makes sense."""
        module, _, definition = name.partition(".")
        history = History(self.course, module)
        self.course.plan("stub")  # says so if there are no solutions that a stub could be made of
        with history.locked(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python warns where the code is run; a second time would say nothing new
            stub = self.course.module("stub", module)
            if definition not in stub.definitions and not (whole and name == module):
                known = ", ".join(f"{module}.{d}" for d in dict.fromkeys(stub.definitions))
                raise Refusal(f"{module} has no definition {definition!r}. There are: {known}.")
            content = history.see()
            mine = stub if content is None else history.module(_hash(content))
            yield _Page(
                name,
                module,
                definition,
                history,
                history.file.relative_to(self.course.root).as_posix(),
                content,
                stub,
                mine,
            )


class History:
    """All that one of the learner's files ever was."""

    def __init__(self, course: Course, module: str):
        if module not in course.names:
            raise Refusal(f"there is no exercise module {module!r}. There are: {', '.join(course.names)}.")
        self.name, self.file = module, course.mine / f"{module}.py"
        self.folder = course.root / ".yolostudy" / "history" / module
        self.log = self.folder / "log.jsonl"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else at a desk reads, changes and writes this file meanwhile."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / "lock", "ab") as lock:
            if fcntl:
                fcntl.flock(lock, fcntl.LOCK_EX)  # the system lets go of it when the process dies
            yield

    def content(self) -> bytes | None:
        return self.file.read_bytes() if self.file.exists() else None

    def blob(self, sha: str) -> Path:
        return self.folder / f"{sha}.py"

    def module(self, sha: str) -> Module | SyntaxError:
        return _module(self.blob(sha))

    def events(self) -> list[dict]:
        """The log, without a line that a crash cut in two."""
        events = []
        for line in self.log.read_bytes().splitlines() if self.log.exists() else ():
            with suppress(ValueError):
                events.append(json.loads(line))
        return [event for event in events if self.blob(event["sha"]).exists()]

    def see(self) -> bytes | None:
        """The file as it is now, remembered if it is not as it was last seen."""
        events, content = self.events(), self.content()
        if content is not None and (not events or events[-1]["sha"] != _hash(content)):
            self.keep(content)
            self.add(content, "edited" if events else "found", self.name)
        return content

    def keep(self, content: bytes) -> None:
        if not (blob := self.blob(_hash(content))).exists():
            replace_file(blob, content)

    def add(self, content: bytes, how: str, name: str, **more) -> None:
        """One more line in the log, on disk before this returns."""
        number = max((event["number"] for event in self.events()), default=0) + 1
        event = {
            "number": number,
            "when": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
            "how": how,
            "name": name,
            "sha": _hash(content),
        }
        cut = self.log.exists() and not self.log.read_bytes().endswith(b"\n")
        with open(self.log, "ab") as log:
            log.write(b"\n" * cut + json.dumps(event | more).encode() + b"\n")
            log.flush()
            os.fsync(log.fileno())


@dataclass(frozen=True)
class _Page:
    """One of the learner's files as it is at this moment, locked."""

    name: str  # "blocks.SPPF", or "blocks" for the whole file
    module: str
    definition: str
    history: History
    shown: str  # how messages call the file
    content: bytes | None  # None if the file is missing
    stub: Module
    mine: Module | SyntaxError  # what the file says; the stub if it is missing

    @property
    def error(self) -> SyntaxError | None:
        return self.mine if isinstance(self.mine, SyntaxError) else None

    @cached_property
    def given(self) -> frozenset[str]:
        """The names that are the course's. All others in the file are the learner's own."""
        return frozenset().union(*(s.binds for s in self.stub.statements))

    @cached_property
    def base(self) -> Module:
        """What is written into: the file, with the stub's definition in the place of one that
        Python cannot read.
        """
        if not self.error:
            return self.mine
        with suppress(SyntaxError, ValueError):
            encoding, _ = tokenize.detect_encoding(io.BytesIO(self.content).readline)
            if parts := _cut(self.content.decode(encoding), self.definition):
                whole = _checked(parse(parts[0] + self.stub.find(self.definition).text + parts[2], self.history.file))
                return replace(whole, newline="\r\n" if b"\r\n" in self.content else "\n", encoding=encoding)
        raise Refusal(
            f"{self.shown} has a syntax error in line {self.error.lineno or 1} ({self.error.msg}), and {self.name} "
            "alone cannot be put right. Mend that line, or go back to the last version that could be read: "
            f"`yolostudy undo {self.module}`."
        )

    @property
    def text(self) -> str:
        """The definition as the file has it."""
        if not self.error:
            return self.text_in(self.mine) or ""
        parts = _cut(_decode(self.content), self.definition)
        return parts[1].rstrip("\n") if parts else ""

    def parts(self, module: Module) -> list[Statement]:
        """The definition, and before it the learner's own helpers that it uses, in an order that
        does not depend on their place.
        """
        found = [module.find(self.definition)]
        for statement in found:  # grows while we walk: a helper's helpers
            own = statement.uses - self.given
            found += [s for s in module.statements if s.binds & own and s not in found]
        return [*sorted(found[1:], key=lambda s: sorted(s.binds)), found[0]]

    def foreign(self, donor: Module) -> list[Statement]:
        """What is the course's and no import, and the donor has otherwise: it never comes along
        with another definition.
        """
        others = [s for s in donor.statements if s is not donor.find(self.definition) and s.binds & self.given]
        others = [s for s in others if not isinstance(s.nodes[0], ast.Import | ast.ImportFrom)]
        return [s for s in others if not any(s.same_as(given) for given in self.stub.statements)]

    def text_in(self, module: Module) -> str | None:
        return "\n\n".join(s.text for s in self.parts(module)).rstrip("\n") if module.find(self.definition) else None

    def merge(self, donor: Module) -> Module:
        """The file with the donor's definition, and the donor's text of those of its helpers that
        are the learner's own.
        """
        base, old, stub = self.base, self.base.find(self.definition), self.stub.find(self.definition)
        statements, helpers = [*base.statements], self.parts(donor)[:-1]
        if not old:
            statements.insert(self._place(), stub)
        elif old.binds != {self.definition}:  # what else it binds must stay, and the last one counts
            statements.insert(statements.index(old) + 1, stub)
        own = frozenset().union(*(s.binds for s in helpers)) - self.given
        rest, twins = [s for s in base.statements if s.binds & own and s is not old], {}
        for helper in helpers:
            if twin := next((s for s in rest if s.binds <= helper.binds), None):
                rest.remove(twin)
                twins[twin] = helper
        gone = [s for s in rest if s.binds <= own]
        swapped = [
            s if s not in twins or s.text == twins[s].text else replace(twins[s], lead=s.lead)
            for s in statements
            if s not in gone
        ]
        place = max(i for i, s in enumerate(swapped) if self.definition in s.binds)
        swapped[place:place] = [s for s in donor.statements if s in helpers and s not in twins.values()]
        target, foreign = replace(base, statements=tuple(swapped)), self.foreign(donor)
        donor = replace(donor, statements=tuple(s for s in donor.statements if s not in foreign))
        merged = transplant(
            Edition({self.module: target}), f"{self.module}.{self.definition}", Edition({self.module: donor})
        )
        return merged[self.module]

    def _place(self) -> int:
        """Where a definition that was deleted belongs: above what follows it in the stub."""
        where = {name: i for i, s in enumerate(self.base.statements) for name in s.binds}
        order, here = self.stub.statements, self.stub.statements.index(self.stub.find(self.definition))
        before, after = (
            [where[n] for s in some for n in sorted(s.binds) if n in where]
            for some in (order[:here], order[here + 1 :])
        )
        return after[0] if after else before[-1] + 1 if before else len(self.base.statements)

    @cached_property
    def versions(self) -> dict[int, Version]:
        """By number, oldest first.

        A file that could not be read tells of no definition, only of the whole module.
        """
        found, newest = {}, None
        for event in self.history.events():
            if not self.definition:
                text = _decode(self.history.blob(event["sha"]).read_bytes())
            elif isinstance(module := self.history.module(event["sha"]), SyntaxError) or not (
                text := self.text_in(module)
            ):
                continue
            if newest and (text == newest.text if self.definition else event["sha"] == newest.sha):
                continue
            back = newest.number if newest else None
            # it stands where that version stood
            if event["how"] == "undo" and event["name"] in (self.name, self.module):
                back = next((v.back for v in reversed(found.values()) if v.number <= event["to"]), None)
            newest = found[event["number"]] = Version(
                event["number"], event["when"], event["how"], text, event["sha"], back
            )
        return found

    @property
    def newest(self) -> Version | None:
        return next(reversed(self.versions.values()), None)

    def ask_once(self, merged: Module, writer: str) -> None:
        """Raises Refusal if the file holds what this writer did not write, unless it was the last
        thing that it was told.
        """
        filled, latest, told = set(), {}, ""
        for event in self.history.events():
            if event["how"] == "fill" and event["writer"] == writer:
                filled.update(*event["wrote"].values())
                latest |= event["wrote"]
            elif event["how"] in ("undo", "restore"):  # the learner went back to it at this desk: that is no edit
                latest |= {names: texts for names, texts in event["wrote"].items() if filled.issuperset(texts)}
            if event["name"] == self.name and event.get("writer") == writer:
                told = event.get("told", "")
        known = {_hash(s.text) for s in self.stub.statements}.union(*latest.values())
        goes, comes = _without(self.base, merged), _without(merged, self.base)
        strange = [s for s in goes if _hash(s.text) not in known]
        word = _hash("\0".join([self.text, *(s.text for s in goes), *(s.text for s in comes)]))
        if (self.error or strange) and told != word:
            self.history.add(self.content, "refused", self.name, writer=writer, told=word)
            what = (
                f"has a syntax error in line {self.error.lineno or 1}"
                if self.error
                else "holds what this notebook did not write"
            )
            names = ", ".join(sorted({n for s in strange for n in s.binds})) or self.definition
            raise Refusal(
                f"nothing was written: {self.shown} {what} ({names}). Run the same cell again to overwrite it; "
                f"`yolostudy undo {self.module if self.error else self.name}` would then bring it back.",
                _diff(_decode(self.content), merged.text, self.shown, "this cell"),
            )

    def bring(self, how: str, version: Version, **event) -> Change:
        """Puts an old version into the file."""
        new = (
            self.merge(self.history.module(version.sha))
            if self.definition
            else self.history.blob(version.sha).read_bytes()
        )
        said = f"brought version {version.number} of {self.name} ({version.how}, {version.when}) back into {self.shown}"
        return self.write(how, new, said, **event)

    def write(self, how: str, new: Module | bytes, said: str, **event) -> Change:
        content = self._encode(new) if isinstance(new, Module) else new
        if content == self.content:
            return self.change(how, f"{self.shown} holds this {self.name} already")
        self.history.keep(content)
        after, before = self.history.module(_hash(content)), self.base if self.definition else self.mine
        if self.definition and isinstance(after, SyntaxError):
            raise Refusal(
                f"with this {self.name}, {self.shown} could not be read: {after.msg}, line {after.lineno}. Simplify it."
            )
        if self.history.content() != self.content:
            raise Refusal(f"{self.shown} was saved by something else at this very moment. Do it again.")
        wrote = {}
        for statement in _without(after, before):
            wrote.setdefault(",".join(sorted(statement.binds)), []).append(_hash(statement.text))
        self.history.add(content, how, self.name, wrote=wrote, **event)
        # latin-1 keeps every byte
        Module((), content.decode("latin-1"), self.history.file, "\n", "latin-1").write(self.history.file)
        return self.change(how, said, content)

    def change(self, how: str, said: str, content: bytes | None = None) -> Change:
        before, after = _decode(self.content or b""), _decode(content or b"")
        diff = _diff(before, after, f"{self.shown} before", self.shown) if content is not None else ""
        return Change(self.name, how, self.history.file, content is not None, said, diff)

    def _encode(self, new: Module) -> bytes:
        """A line that the file had before keeps its line end: some files mix them."""
        old = io.StringIO((self.content or b"").decode(new.encoding), newline="").readlines()
        was, now, kept = [line.rstrip("\r\n") + "\n" for line in old], io.StringIO(new.text).readlines(), {}
        for i, j, size in SequenceMatcher(None, was, now, autojunk=False).get_matching_blocks():
            kept |= {j + k: old[i + k] for k in range(size) if old[i + k][-1] in "\r\n" or j + k == len(now) - 1}
        try:
            return "".join(kept.get(i, line[:-1] + new.newline) for i, line in enumerate(now)).encode(new.encoding)
        except UnicodeEncodeError as error:
            lacks = error.object[error.start : error.end]
            raise Refusal(
                f"{self.shown} is written in {new.encoding}, which lacks {lacks!r}. Write that another way."
            ) from error


# ---- texts ---------------------------------------------------------------------------------------


def _read_cell(definition: str, text: str) -> Module:
    """The statements of a cell that defines this name once, as a class or a function at its left
    margin.
    """
    try:
        cell = parse(text, Path("this cell"))
        compile(cell.text, "this cell", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        bound = [s for s in cell.statements if definition in s.binds]
    except (SyntaxError, ValueError) as error:  # ValueError: a null byte, or half of a character
        line = (
            getattr(error, "lineno", None) or text.count("\n", 0, max(text.find("\0"), getattr(error, "start", 0))) + 1
        )
        raise Refusal(
            f"line {line} of this cell has a syntax error ({getattr(error, 'msg', error)}). Mend it, run the cell "
            "again."
        ) from error
    if not bound:
        found = f"It defines {', '.join(cell.definitions)}. " if cell.definitions else ""
        raise Refusal(f"this cell does not define {definition}. {found}Define it as a class or function in this cell.")
    if len(bound) > 1:
        raise Refusal(
            f"this cell defines {definition} more than once, in lines {', '.join(str(s.line) for s in bound)}. Keep "
            "one of them."
        )
    if bound[0].definition != definition:
        where = (
            f"line {bound[0].line} of this cell makes {definition} by an assignment, an import or inside another "
            "statement"
        )
        raise Refusal(f"{where}. Define it as a class or function in this cell, at its left margin.")
    return replace(cell, statements=tuple(replace(s, lead=_lead(s)) for s in cell.statements))


def _lead(statement: Statement) -> str:
    """The comments above a statement of a cell, without the directives of the notebook, spaced for
    a file.
    """
    notes = [line for line in statement.lead.splitlines() if line.startswith("#") and not line.startswith("#|")]
    return "\n" * (2 if statement.definition else 1) + "".join(f"{note}\n" for note in notes)


def _cut(text: str, definition: str) -> tuple[str, str, str] | None:
    """A text that Python cannot read, cut at the margins of one definition: what is above it,
    itself, what is below.
    """
    lines = io.StringIO(re.sub(r"\r\n?", "\n", text)).readlines()
    starts = [i for i, line in enumerate(lines) if re.match(rf"(?:async\s+def|def|class)\s+{definition}\b", line)]
    if len(starts) != 1:
        return None
    first = start = starts[0]
    while first and lines[first - 1].startswith("@"):
        first -= 1
    end = next((i for i in range(start + 1, len(lines)) if NEXT.match(lines[i])), len(lines))
    while end > start + 1 and re.match(r"#|\s*$", lines[end - 1]):  # they belong to what comes next
        end -= 1
    return "".join(lines[:first]), "".join(lines[first:end]), "".join(lines[end:])


@lru_cache(maxsize=4096)
def _module(blob: Path) -> Module | SyntaxError:
    """What a file of the history says: it is named by its content, so it never changes."""
    try:
        return _checked(read_module(blob))
    except SyntaxError as error:
        return error.with_traceback(None)


def _checked(module: Module) -> Module:
    # raises SyntaxError for what only binding a name brings to light
    symtable.symtable(module.text, str(module.file), "exec")
    return module


def _without(one: Module | SyntaxError, other: Module | SyntaxError) -> list[Statement]:
    """The statements of one that the other does not have; of what cannot be read there are none."""
    texts = {s.text for s in getattr(other, "statements", ())}
    return [s for s in getattr(one, "statements", ()) if s.text not in texts]


def _decode(content: bytes) -> str:
    """For eyes: it never fails."""
    encoding = "utf-8"
    with suppress(SyntaxError):
        encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
    return re.sub(r"\r\n?", "\n", content.decode(encoding, "replace"))


def _unmarked(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if line.strip() not in (BEGIN, END))


def _diff(old: str, new: str, before: str, after: str) -> str:
    return "\n".join(unified_diff(old.splitlines(), new.splitlines(), before, after, lineterm=""))


def _hash(content: bytes | str) -> str:
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()[:32]
