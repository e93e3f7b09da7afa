"""The history of a learner's files: every version that was written or seen.

The content of each version lies in `.yolostudy/history/MODULE/`, in a file named by its hash.
`log.jsonl` beside it has one line for each version: when it came, and how. The log is written
before the learner's file. So the log knows every version, whenever a process dies.
"""

import hashlib
import io
import json
import os
import re
import symtable
import tokenize
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

from .course import Course
from .edition import Module, read_module
from .errors import Refusal
from .files import replace_file

try:
    import fcntl
except ImportError:  # Windows: nothing keeps two kernels from writing at the same moment
    fcntl = None


@dataclass(frozen=True)
class Version:
    """A definition, or a whole module, as it once stood in the learner's file.

    The learner's own helpers that a definition uses stand above it.
    """

    number: int  # of the line in the log that brought it
    when: str  # UTC
    how: str  # "found" at first sight, "edited" outside, else the command that wrote it
    text: str
    sha: str  # of the file that it stood in
    back: int | None  # the version that undo goes to from this one


class History:
    """All versions of one of the learner's files."""

    def __init__(self, course: Course, module: str):
        if module not in course.names:
            raise Refusal(f"there is no exercise module {module!r}. There are: {', '.join(course.names)}.")
        self.name, self.file = module, course.mine / f"{module}.py"
        self.folder = course.state / "history" / module
        self.log = self.folder / "log.jsonl"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps every other process that uses this history out."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / "lock", "ab") as lock:
            if fcntl:
                fcntl.flock(lock, fcntl.LOCK_EX)  # the system releases it when the process dies
            yield

    def content(self) -> bytes | None:
        """The learner's file as it is now; None if it is missing."""
        return self.file.read_bytes() if self.file.exists() else None

    def version_file(self, sha: str) -> Path:
        return self.folder / f"{sha}.py"

    def module(self, sha: str) -> Module | SyntaxError:
        return _module(self.version_file(sha))

    def events(self) -> list[dict]:
        """The lines of the log, but for one that a crash cut in two."""
        events = []
        for line in self.log.read_bytes().splitlines() if self.log.exists() else ():
            with suppress(ValueError):
                events.append(json.loads(line))
        return [event for event in events if self.version_file(event["sha"]).exists()]

    def see(self) -> bytes | None:
        """The learner's file as it is now. A new version is remembered."""
        events, content = self.events(), self.content()
        if content is not None and (not events or events[-1]["sha"] != digest(content)):
            self.keep(content)
            self.add(content, "edited" if events else "found", self.name)
        return content

    def keep(self, content: bytes) -> None:
        """Stores a version."""
        if not (file := self.version_file(digest(content))).exists():
            replace_file(file, content)

    def add(self, content: bytes, how: str, name: str, **more) -> None:
        """Adds a line to the log. It is on disk before this returns."""
        number = max((event["number"] for event in self.events()), default=0) + 1
        event = {
            "number": number,
            "when": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
            "how": how,
            "name": name,
            "sha": digest(content),
        }
        cut = self.log.exists() and not self.log.read_bytes().endswith(b"\n")
        with open(self.log, "ab") as log:
            log.write(b"\n" * cut + json.dumps(event | more).encode() + b"\n")
            log.flush()
            os.fsync(log.fileno())


@lru_cache(maxsize=4096)
def _module(file: Path) -> Module | SyntaxError:
    """What a version says. Its file is named by its content, so it never changes."""
    try:
        return checked(read_module(file))
    except SyntaxError as error:
        return error.with_traceback(None)


def checked(module: Module) -> Module:
    """The same module.

    Raises SyntaxError for errors that only the symbol table shows, such as a global argument.
    """
    symtable.symtable(module.text, str(module.file), "exec")
    return module


def readable(content: bytes) -> str:
    """The content of a file, to be shown: decoding it never fails."""
    encoding = "utf-8"
    with suppress(SyntaxError):
        encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
    return re.sub(r"\r\n?", "\n", content.decode(encoding, "replace"))


def digest(content: bytes | str) -> str:
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()[:32]
