"""Where untrusted answers run: a process of their own, from which only observations come back.

The grader sends an edition that holds the answer and, around it, the reference; the reference's own version of what is asked for is not in
it. A server imports what the probes need once and forks for each exercise. What runs there has a time limit, a memory limit and no
secrets in its environment; an audit hook keeps it from opening files for writing, reading the course's folders, starting processes and
connecting to anything. It guards against an answer that cheats or breaks things, not against an attacker who knows CPython from inside: for
that, grade in a container.
"""

import contextlib
import io
import json
import linecache
import os
import select
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from .course import Course
from .edition import Edition, Module, parse
from .exercise import Exercise
from .judge import Judge, Stopped
from .observation import Frame, Seen, dumps, loads

MEMORY = 8 << 30  # bytes of address space beyond what the server has, for each exercise
LARGEST = 64 << 20  # bytes of observations
FORBIDDEN = (
    "subprocess.",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "os.kill",
    "os.killpg",
    "socket.",
    "ctypes.",
    "shutil.",
    "pty.",
)
CHANGES = ("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.chmod", "os.chown", "os.link", "os.symlink", "os.truncate", "os.unlink")


# ---- the grader's side -----------------------------------------------------------------------------------------------


class Sandbox:
    """Looks at answers like `Judge.look`, elsewhere. Use it in a `with` block."""

    def __init__(self, course: Course, patience: float = 20.0):
        self.course, self.patience = course, patience
        self._server: subprocess.Popen | None = None

    def __enter__(self) -> "Sandbox":
        self._home = tempfile.TemporaryDirectory(prefix="graded-")
        return self

    def __exit__(self, *error) -> None:
        self._stop()
        self._home.cleanup()

    def look(self, exercise: Exercise, edition: Edition, files: tuple[str, ...], stream: io.StringIO) -> list[Seen]:
        """What each probe sees. Raises Stopped for an answer that took too long, or that ended its process."""
        if self._server is None or self._server.poll() is not None:
            self._start()
        order = {"exercise": exercise.name, "edition": pack(edition), "files": list(files), "patience": self.patience}
        try:
            self._server.stdin.write(json.dumps(order).encode() + b"\n")
            self._server.stdin.flush()
            answer = self._read(self.patience + 60)  # the first waits for the imports
        except BrokenPipeError:
            answer = b""
        if not answer:
            self._stop()
            raise Stopped(f"{exercise.name}: the process in which it ran has ended, or did not answer.")
        try:
            told = json.loads(answer)
            if told.get("stopped"):
                raise Stopped(str(told["stopped"]), tuple(Frame(**f) for f in told["frames"]))
            stream.write(str(told["printed"]))
            seen = loads(told["seen"])
        except (ValueError, KeyError, TypeError, AttributeError):
            raise Stopped(f"{exercise.name}: what came out of its process are no observations.") from None
        if len(seen) != len(exercise.probes):
            raise Stopped(f"{exercise.name}: its process gave {len(seen)} observations for {len(exercise.probes)} probes.")
        return seen

    def _start(self) -> None:
        environment = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "SYSTEMROOT") if name in os.environ}
        environment |= {"HOME": self._home.name, "TMPDIR": self._home.name, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        code = f"import sys; sys.path.insert(0, {str(self.course.root)!r}); from {__name__} import serve; serve()"
        command = [sys.executable, "-P", "-c", code, str(self.course.root), self.course.package]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self._server = subprocess.Popen(command, cwd=self._home.name, env=environment, start_new_session=True, **pipes)

    def _read(self, seconds: float) -> bytes:
        line = bytearray()
        while select.select([self._server.stdout], [], [], seconds)[0]:
            piece = os.read(self._server.stdout.fileno(), 1 << 16)
            line += piece
            if not piece or len(line) > LARGEST:
                return b""
            if line.endswith(b"\n"):
                return bytes(line)
        return b""

    def _stop(self) -> None:
        if self._server:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._server.pid, 9)  # the server and whatever runs under it
            self._server.wait()
            for pipe in (self._server.stdin, self._server.stdout):
                with contextlib.suppress(OSError):
                    pipe.close()
            self._server = None


def pack(edition: Edition) -> dict:
    """An edition as plain data; each statement keeps its own file and line."""
    return {
        name: {"file": str(m.file), "tail": m.tail, "statements": [[s.lead, s.text, str(s.file), s.line, s.future] for s in m.statements]}
        for name, m in edition.items()
    }


def unpack(packed: dict) -> Edition:
    modules = {}
    for name, module in packed.items():
        statements = []
        for lead, text, file, line, future in module["statements"]:
            for statement in parse("\n" * (line - 1) + text, Path(file)).statements:
                statements.append(replace(statement, lead=lead, future=future))
        modules[name] = Module(tuple(statements), module["tail"], Path(module["file"]))
    return Edition(modules)


# ---- the answer's side -----------------------------------------------------------------------------------------------


def serve() -> None:
    """Reads orders from stdin, one line each, and answers each with one line on stdout."""
    root, package = Path(sys.argv[1]), sys.argv[2]
    answers = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # nothing that an answer prints reaches the grader's pipe
    judge = Judge(Course.open(root, package))
    _ = judge.exercises  # imports torch
    for name, module in list(sys.modules.items()):
        if name.startswith("_exercises_") and hasattr(module, "warm_up"):
            module.warm_up()  # once, instead of in every child
    for line in sys.stdin.buffer:
        order = json.loads(line)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(answers)
            os.close(reading)
            os.close(0)
            try:
                result = _obey(judge, order, root)
            except BaseException as error:
                result = {"stopped": f"{order['exercise']}: {type(error).__name__}: {error}", "frames": []}
            content = json.dumps(result).encode() + b"\n"
            while content:
                content = content[os.write(writing, content) :]
            os._exit(0)
        os.close(writing)
        answer, overdue = _drain(reading, order["patience"] + 10)
        if overdue:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, 9)
        os.close(reading)
        _, status = os.waitpid(child, 0)
        if not answer.endswith(b"\n"):
            why = (
                "was still running when its time was over" if overdue else f"ended its process (status {os.waitstatus_to_exitcode(status)})"
            )
            answer = json.dumps({"stopped": f"{order['exercise']} {why}.", "frames": []}).encode() + b"\n"
        while answer:
            answer = answer[os.write(answers, answer) :]


def _drain(pipe: int, seconds: float) -> tuple[bytes, bool]:
    """All that comes out of a pipe until it is closed, and whether the time was over before."""
    import time

    content, deadline = bytearray(), time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0 and len(content) < LARGEST:
        if select.select([pipe], [], [], left)[0]:
            piece = os.read(pipe, 1 << 16)
            if not piece:
                return bytes(content), False
            content += piece
    return bytes(content), True


def _obey(judge: Judge, order: dict, root: Path) -> dict:
    exercise, stream = judge.exercise(order["exercise"]), io.StringIO()
    edition = unpack(order["edition"])
    texts = {str(s.file): [] for m in edition.values() for s in m.statements}
    for statement in (s for m in edition.values() for s in m.statements):
        lines = texts[str(statement.file)]
        own = statement.text.splitlines(keepends=True)
        lines += [""] * (statement.line - 1 + len(own) - len(lines))
        lines[statement.line - 1 : statement.line - 1 + len(own)] = own
    for file in order["files"]:
        linecache.cache[file] = (0, None, texts.get(file, []), file)  # the file itself is not here
    judge.patience = order["patience"]
    _confine(root)
    try:
        seen = judge.look(exercise, edition, tuple(order["files"]), stream)
    except Stopped as stopped:
        return {"stopped": str(stopped), "frames": [vars(frame) for frame in stopped.frames]}
    return {"seen": dumps(seen), "printed": stream.getvalue()[:4000]}


def _confine(root: Path) -> None:
    """From here on: limits, and an audit hook that nothing can take away again."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    hidden = tuple(str(root / folder) + os.sep for folder in ("solutions", "course", "tests", ".git"))
    writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

    def guard(event: str, details: tuple) -> None:
        if event.startswith(FORBIDDEN) or event in CHANGES:
            raise PermissionError(f"an answer may not do this while it is graded: {event}")
        if event == "open" and isinstance(details[0], (str, bytes, os.PathLike)):
            place = os.path.realpath(os.fsdecode(details[0]))
            if place.startswith(hidden) and not place.startswith(hidden[1] + "exercises"):
                raise PermissionError("an answer may not read the course's files while it is graded")
            if (details[2] or 0) & writes:
                raise PermissionError("an answer may not write files while it is graded")

    sys.addaudithook(guard)
