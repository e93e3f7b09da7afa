"""One of the learner's files at one moment: what it says about a definition, and how it is changed.

A definition is never alone: the learner's own helpers that it uses belong to it, and are read and
written with it. What the course gives in the same file stays as it is.
"""

import ast
import io
import re
import tokenize
from contextlib import suppress
from dataclasses import dataclass, replace
from difflib import SequenceMatcher, unified_diff
from functools import cached_property
from pathlib import Path

from .edition import Edition, Module, Statement, parse, transplant
from .errors import Refusal
from .history import History, Version, checked, digest, readable

# The start of a statement at the left margin. In a file that Python cannot read, a definition ends there.
STATEMENT = re.compile(r"@|(?:async\s+def|def|class|from|import|if\s+__name__)\b|[^\W\d][\w.,\s]*(?::[^=]+)?=(?!=)")


@dataclass(frozen=True)
class Change:
    """What was done to the learner's file."""

    name: str
    how: str  # "fill", "solve", "reset", "undo" or "restore"
    file: Path
    written: bool
    message: str
    diff: str = ""


@dataclass(frozen=True)
class Page:
    """One of the learner's files, while its history is locked."""

    name: str  # "blocks.SPPF", or "blocks" for the whole file
    module: str
    definition: str
    history: History
    shown: str  # the file's name in messages
    content: bytes | None  # None if the file is missing
    stub: Module
    mine: Module | SyntaxError  # what the file says; the stub if it is missing

    # ---- what the file says ----------------------------------------------------------------------

    @property
    def error(self) -> SyntaxError | None:
        return self.mine if isinstance(self.mine, SyntaxError) else None

    @cached_property
    def given(self) -> frozenset[str]:
        """The names that the course gives. All others in the file are the learner's own."""
        return frozenset().union(*(s.binds for s in self.stub.statements))

    @cached_property
    def base(self) -> Module:
        """The module that is written into: the file.

        Where Python cannot read the definition, the stub's stands in its place.
        """
        if not self.error:
            return self.mine
        with suppress(SyntaxError, ValueError):
            encoding, _ = tokenize.detect_encoding(io.BytesIO(self.content).readline)
            if parts := _cut(self.content.decode(encoding), self.definition):
                whole = checked(parse(parts[0] + self.stub.find(self.definition).text + parts[2], self.history.file))
                return replace(whole, newline="\r\n" if b"\r\n" in self.content else "\n", encoding=encoding)
        raise Refusal(
            f"{self.shown} has a syntax error in line {self.error.lineno or 1} ({self.error.msg}), and {self.name} "
            "alone cannot be put right. Correct that line, or go back to the last version that could be read: "
            f"`yolostudy undo {self.module}`."
        )

    @property
    def text(self) -> str:
        """The definition as the file has it."""
        if not self.error:
            return self.text_in(self.mine) or ""
        parts = _cut(readable(self.content), self.definition)
        return parts[1].rstrip("\n") if parts else ""

    def text_in(self, module: Module) -> str | None:
        return "\n\n".join(s.text for s in self.parts(module)).rstrip("\n") if module.find(self.definition) else None

    def parts(self, module: Module) -> list[Statement]:
        """The learner's helpers that the definition uses, sorted by name, then the definition."""
        found = [module.find(self.definition)]
        for statement in found:  # grows while we walk: a helper's helpers
            own = statement.uses - self.given
            found += [s for s in module.statements if s.binds & own and s not in found]
        return [*sorted(found[1:], key=lambda s: sorted(s.binds)), found[0]]

    def changed_givens(self, donor: Module) -> list[Statement]:
        """The given statements that the donor has changed, except imports.

        They are not written with another definition.
        """
        others = [s for s in donor.statements if s is not donor.find(self.definition) and s.binds & self.given]
        others = [s for s in others if not isinstance(s.nodes[0], ast.Import | ast.ImportFrom)]
        return [s for s in others if not any(s.same_as(given) for given in self.stub.statements)]

    # ---- a definition is put in its place --------------------------------------------------------

    def merge(self, donor: Module) -> Module:
        """The file with the donor's definition and the learner's helpers that it uses."""
        base, old, stub = self.base, self.base.find(self.definition), self.stub.find(self.definition)
        statements, helpers = [*base.statements], self.parts(donor)[:-1]
        if not old:
            statements.insert(self._place(), stub)
        elif old.binds != {self.definition}:  # it binds other names too, which must stay; the last definition counts
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
        left_out = self.changed_givens(donor)
        donor = replace(donor, statements=tuple(s for s in donor.statements if s not in left_out))
        target = Edition({self.module: replace(base, statements=tuple(swapped))})
        return transplant(target, f"{self.module}.{self.definition}", Edition({self.module: donor}))[self.module]

    def _place(self) -> int:
        """Where a deleted definition belongs: above what follows it in the stub."""
        where = {name: i for i, s in enumerate(self.base.statements) for name in s.binds}
        order, here = self.stub.statements, self.stub.statements.index(self.stub.find(self.definition))
        before, after = (
            [where[n] for s in some for n in sorted(s.binds) if n in where]
            for some in (order[:here], order[here + 1 :])
        )
        return after[0] if after else before[-1] + 1 if before else len(self.base.statements)

    # ---- versions --------------------------------------------------------------------------------

    @cached_property
    def versions(self) -> dict[int, Version]:
        """By number, oldest first.

        A file that Python could not read is a version of the module, and of none of its
        definitions.
        """
        found, newest = {}, None
        for event in self.history.events():
            if not self.definition:
                text = readable(self.history.version_file(event["sha"]).read_bytes())
            elif isinstance(module := self.history.module(event["sha"]), SyntaxError) or not (
                text := self.text_in(module)
            ):
                continue
            if newest and (text == newest.text if self.definition else event["sha"] == newest.sha):
                continue
            back = newest.number if newest else None
            # an undo leads where the version leads that it went back to
            if event["how"] == "undo" and event["name"] in (self.name, self.module):
                back = next((v.back for v in reversed(found.values()) if v.number <= event["to"]), None)
            newest = found[event["number"]] = Version(
                event["number"], event["when"], event["how"], text, event["sha"], back
            )
        return found

    @property
    def newest(self) -> Version | None:
        return next(reversed(self.versions.values()), None)

    def bring(self, how: str, version: Version, **event) -> Change:
        """Puts an old version into the file."""
        if self.definition:
            new = self.merge(self.history.module(version.sha))
        else:
            new = self.history.version_file(version.sha).read_bytes()
        said = f"brought version {version.number} of {self.name} ({version.how}, {version.when}) back into {self.shown}"
        return self.write(how, new, said, **event)

    # ---- writing ---------------------------------------------------------------------------------

    def refuse_once(self, merged: Module, writer: str) -> None:
        """Raises Refusal if the file holds what this writer did not write.

        The same text a second time in a row passes.
        """
        filled, latest, told = set(), {}, ""
        for event in self.history.events():
            if event["how"] == "fill" and event["writer"] == writer:
                filled.update(*event["wrote"].values())
                latest |= event["wrote"]
            elif event["how"] in ("undo", "restore"):  # the learner went back to what this writer wrote: no edit
                latest |= {names: texts for names, texts in event["wrote"].items() if filled.issuperset(texts)}
            if event["name"] == self.name and event.get("writer") == writer:
                told = event.get("told", "")
        known = {digest(s.text) for s in self.stub.statements}.union(*latest.values())
        goes, comes = without(self.base, merged), without(merged, self.base)
        strange = [s for s in goes if digest(s.text) not in known]
        asked = digest("\0".join([self.text, *(s.text for s in goes), *(s.text for s in comes)]))
        if (self.error or strange) and told != asked:
            self.history.add(self.content, "refused", self.name, writer=writer, told=asked)
            if self.error:
                what = f"has a syntax error in line {self.error.lineno or 1}"
            else:
                what = "holds what this notebook did not write"
            names = ", ".join(sorted({n for s in strange for n in s.binds})) or self.definition
            raise Refusal(
                f"nothing was written: {self.shown} {what} ({names}). Run the same cell again to overwrite it; "
                f"`yolostudy undo {self.module if self.error else self.name}` would then bring it back.",
                unified(readable(self.content), merged.text, self.shown, "this cell"),
            )

    def write(self, how: str, new: Module | bytes, said: str, **event) -> Change:
        """Writes the file: first the version and the line in the log, then the file itself."""
        content = self._encode(new) if isinstance(new, Module) else new
        if content == self.content:
            return self.change(how, f"{self.shown} holds this {self.name} already")
        self.history.keep(content)
        after, before = self.history.module(digest(content)), self.base if self.definition else self.mine
        if self.definition and isinstance(after, SyntaxError):
            raise Refusal(
                f"with this {self.name}, {self.shown} could not be read: {after.msg}, line {after.lineno}. Simplify it."
            )
        if self.history.content() != self.content:
            raise Refusal(f"{self.shown} was saved by something else at this very moment. Try again.")
        wrote = {}
        for statement in without(after, before):
            wrote.setdefault(",".join(sorted(statement.binds)), []).append(digest(statement.text))
        self.history.add(content, how, self.name, wrote=wrote, **event)
        # latin-1 keeps every byte
        Module((), content.decode("latin-1"), self.history.file, "\n", "latin-1").write(self.history.file)
        return self.change(how, said, content)

    def change(self, how: str, said: str, content: bytes | None = None) -> Change:
        before, after = readable(self.content or b""), readable(content or b"")
        diff = unified(before, after, f"{self.shown} before", self.shown) if content is not None else ""
        return Change(self.name, how, self.history.file, content is not None, said, diff)

    def _encode(self, new: Module) -> bytes:
        """The bytes of the new file.

        A line that the file had before keeps its line end: some files mix them.
        """
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


def _cut(text: str, definition: str) -> tuple[str, str, str] | None:
    """A text that Python cannot read, in three parts: above a definition, the definition, below it.

    None if the definition does not begin exactly once.
    """
    lines = io.StringIO(re.sub(r"\r\n?", "\n", text)).readlines()
    starts = [i for i, line in enumerate(lines) if re.match(rf"(?:async\s+def|def|class)\s+{definition}\b", line)]
    if len(starts) != 1:
        return None
    first = start = starts[0]
    while first and lines[first - 1].startswith("@"):
        first -= 1
    end = next((i for i in range(start + 1, len(lines)) if STATEMENT.match(lines[i])), len(lines))
    while end > start + 1 and re.match(r"#|\s*$", lines[end - 1]):  # they belong to what comes next
        end -= 1
    return "".join(lines[:first]), "".join(lines[first:end]), "".join(lines[end:])


def without(one: Module | SyntaxError, other: Module | SyntaxError) -> list[Statement]:
    """The statements of one that the other lacks. What Python cannot read has no statements."""
    texts = {s.text for s in getattr(other, "statements", ())}
    return [s for s in getattr(one, "statements", ()) if s.text not in texts]


def unified(old: str, new: str, before: str, after: str) -> str:
    return "\n".join(unified_diff(old.splitlines(), new.splitlines(), before, after, lineterm=""))
