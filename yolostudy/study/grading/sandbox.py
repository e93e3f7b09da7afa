"""Where untrusted answers run: a process of their own, from which only observations come back.

The grader sends an edition that holds the answer and, around it, the reference. The reference's own
version of what is asked for is not in it, and neither are the misconceptions, whose patches quote
it. A server imports what the probes need once and forks for each exercise. What comes back is data
and is compared in the grader's process: it helps nobody to patch what compares, or to send
observations of one's own making without knowing the right ones.

An answer is held back by limits of time, memory and file size, by an environment without secrets,
and by an audit hook: no process, no connection, no signal, no native function by its address, no
reading beyond Python and its packages, no writing. On Linux from 5.13 on the kernel (Landlock)
guards the files too, from 6.7 TCP, from 6.12 signals to other processes.

Not guarded: an answer may import what is installed, and Ultralytics has many of these layers; read
a passing answer before you praise it. A learner who has `solutions/` can copy them. Native code
that an installed package lets an answer reach passes by the audit hook; where there is no Landlock
it can write files, and everywhere it can start processes (the kernel refuses unless you grade as
root) and send datagrams. Strangers' answers belong in a container.
"""

import ast
import contextlib
import io
import json
import linecache
import os
import select
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from .. import edition as editions
from ..course import Course
from ..edition import CourseError, Edition, Module, parse
from ..exercise import Exercise
from ..judge import Judge, Stopped
from ..observation import Frame, Seen, dumps, loads

MEMORY = 4 << 30  # bytes of address space beyond what the server has, for each exercise
LARGEST = 16 << 20  # bytes of observations: an exercise of this course gives a hundredth of it at most
PRINTED = 4000  # characters
STARTING = 180.0  # seconds: torch on a slow disk


# ---- the grader's side ---------------------------------------------------------------------------


class Sandbox:
    """Looks at answers like `Judge.look`, elsewhere.

    Use it in a `with` block; one serves any number of learners.
    """

    def __init__(self, course: Course, patience: float = 20.0):
        self.course, self.patience = course, patience
        self._server: subprocess.Popen | None = None

    def __enter__(self) -> "Sandbox":
        if not hasattr(os, "fork"):
            raise CourseError(
                "answers are graded in processes that are forked, which this system cannot do. Use Linux, macOS or WSL."
            )
        self._home = tempfile.TemporaryDirectory(prefix="graded-")
        return self

    def __exit__(self, *error) -> None:
        self._stop()
        self._home.cleanup()

    def look(self, exercise: Exercise, edition: Edition, files: tuple[str, ...], stream: io.StringIO) -> list[Seen]:
        """What each probe sees.

        Raises Stopped for an answer that took too long, or that ended its process.
        """
        if self._server is None or self._server.poll() is not None:
            self._start()
        order = {"exercise": exercise.name, "edition": pack(edition), "files": list(files), "patience": self.patience}
        try:
            _send(self._server.stdin.fileno(), json.dumps(order).encode())
            answer = _receive(self._server.stdout.fileno(), self.patience + 30)
        except (OSError, EOFError, ValueError):  # ours would have answered: the answer got at the server
            self._stop()
            raise Stopped(f"{exercise.name}: the process in which it ran has ended, or did not answer.") from None
        try:
            told = json.loads(answer)
            if told.get("stopped"):
                raise Stopped(str(told["stopped"])[:PRINTED], tuple(Frame(**f) for f in told["frames"][:20]))
            seen, printed = loads(told["seen"]), str(told["printed"])[:PRINTED]
        except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError, MemoryError):
            raise Stopped(f"{exercise.name}: what came out of its process are no observations.") from None
        if len(seen) != len(exercise.probes):
            raise Stopped(
                f"{exercise.name}: its process gave {len(seen)} observations for {len(exercise.probes)} probes."
            )
        stream.write(printed)
        return seen

    def _start(self) -> None:
        self._stop()
        environment = {
            name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "SYSTEMROOT") if name in os.environ
        }
        environment |= {
            "HOME": self._home.name,
            "TMPDIR": self._home.name,
            "OMP_NUM_THREADS": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        environment |= {"CUDA_VISIBLE_DEVICES": ""}  # a GPU that the server had touched could not be used after a fork
        code = f"import sys; sys.path.insert(0, {str(self.course.root)!r}); from {__name__} import serve; serve()"
        command = [sys.executable, "-P", "-c", code, str(self.course.root), self.course.package]
        log = Path(self._home.name, "log")
        with open(log, "wb") as errors:
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": errors}
            self._server = subprocess.Popen(
                command, cwd=self._home.name, env=environment, start_new_session=True, bufsize=0, **pipes
            )
        try:
            _receive(self._server.stdout.fileno(), STARTING)
        except (OSError, EOFError, ValueError):
            self._stop()
            last = log.read_text("utf-8", "replace").strip().rpartition("\n")[2]
            raise CourseError(f"the sandbox did not start. {last or 'It said nothing.'}") from None

    def _stop(self) -> None:
        if self._server:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._server.pid, signal.SIGKILL)  # the server and what runs under it
            self._server.wait()
            self._server.stdin.close()
            self._server.stdout.close()
            self._server = None


def pack(edition: Edition) -> dict:
    """An edition as plain data; each statement keeps its own file and line."""
    return {
        name: {
            "file": str(m.file),
            "tail": m.tail,
            "statements": [[s.lead, s.text, str(s.file), s.line, s.future] for s in m.statements],
        }
        for name, m in edition.items()
    }


def unpack(packed: dict) -> Edition:
    modules = {}
    for name, module in packed.items():
        statements = []
        for lead, text, file, line, future in module["statements"]:
            for statement in parse(text, Path(file)).statements:
                for node in statement.nodes:
                    ast.increment_lineno(node, line - 1)
                statements.append(replace(statement, lead=lead, line=statement.line + line - 1, future=future))
        modules[name] = Module(tuple(statements), module["tail"], Path(module["file"]))
    return Edition(modules)


# ---- between the two: messages of known length, so that nothing an answer writes is taken for a se


def _send(pipe: int, content: bytes) -> None:
    content = struct.pack(">Q", len(content)) + content
    while content:
        content = content[os.write(pipe, content) :]


def _receive(pipe: int, seconds: float) -> bytes:
    """One message.

    Raises TimeoutError, EOFError if it ends too soon, or ValueError for one that is too long.
    """
    content, deadline = bytearray(), time.monotonic() + seconds
    while len(content) < 8 or len(content) < 8 + _length(content):
        if not select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise TimeoutError
        if not (piece := os.read(pipe, 1 << 16)):
            raise EOFError
        content += piece
    return bytes(content[8 : 8 + _length(content)])


def _length(content: bytearray) -> int:
    (length,) = struct.unpack_from(">Q", content)
    if length > LARGEST:
        raise ValueError(f"{length} bytes")
    return length


# ---- the answer's side ---------------------------------------------------------------------------


def serve() -> None:
    """Takes orders from stdin and answers each on stdout, until the grader has gone."""
    root, package = Path(sys.argv[1]), sys.argv[2]
    orders, answers, nowhere = os.dup(0), os.dup(1), os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)  # nothing that an answer prints reaches the grader's pipe
    judge = Judge(Course.open(root, package))
    for exercise in judge.exercises.values():  # imports torch
        exercise.misconceptions.clear()  # they quote the solution
        exercise.hints = ()
    for name, module in list(sys.modules.items()):
        if name.startswith("_exercises_") and hasattr(module, "warm_up"):
            module.warm_up()  # once, instead of in every child
    import ctypes  # noqa: F401 - here once, for the walls of all children

    _send(answers, b"ready")
    os.dup2(nowhere, 2)
    while True:
        try:
            order = json.loads(_receive(orders, 1e9))
        except EOFError:
            return
        reading, writing = os.pipe()
        if (child := os.fork()) == 0:
            for pipe in (orders, answers, reading):
                os.close(pipe)
            try:
                try:
                    result = _obey(judge, order)
                except BaseException as error:
                    result = {
                        "stopped": f"{order['exercise']}: {type(error).__name__}: {error}"[:PRINTED],
                        "frames": [],
                    }
                _send(writing, json.dumps(result).encode())
            finally:
                os._exit(0)
        os.close(writing)
        try:
            answer, why = _receive(reading, 1.25 * order["patience"] + 1), ""  # it has an alarm clock of its own
        except TimeoutError:
            answer, why = b"", f"was still running after {order['patience']:g} seconds and could not be interrupted"
        except ValueError as error:
            answer, why = b"", f"gave more than the {LARGEST} bytes of observations that are taken: {error}"
        except EOFError:
            answer, why, child = b"", f"ended its process: {_ended(child)}", 0
        os.close(reading)
        if child:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        _send(answers, answer or json.dumps({"stopped": f"{order['exercise']} {why}.", "frames": []}).encode())


def _ended(child: int) -> str:
    """How a process ended that has closed its pipe. One that lives on without it is killed."""
    for _ in range(100):
        if (found := os.waitpid(child, os.WNOHANG))[0]:
            status = os.waitstatus_to_exitcode(found[1])
            return f"exit status {status}" if status >= 0 else signal.strsignal(-status) or f"signal {-status}"
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "it closed the way back"


def _obey(judge: Judge, order: dict) -> dict:
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
    # whoever writes `from yolostudy.blocks import ...` gets what is judged
    editions.serving[judge.course.package] = edition.get
    judge.patience = order["patience"]
    readable = python_folders()
    _limit(judge.patience)
    wall(readable)
    sys.addaudithook(_guard(readable))
    try:
        seen = judge.look(exercise, edition, tuple(order["files"]), stream)
    except Stopped as stopped:
        return {"stopped": str(stopped), "frames": [vars(frame) for frame in stopped.frames]}
    return {"seen": dumps(seen), "printed": stream.getvalue()[:PRINTED]}


# ---- walls ---------------------------------------------------------------------------------------


def python_folders() -> list[str]:
    """What Python and the installed packages read while they run.

    The course lies in none of them, though its .venv may lie in it.
    """
    roots = dict.fromkeys(
        ["", "/usr", "/usr/local", sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix]
    )
    folders = [f"{root}/{part}" for root in roots for part in ("bin", "lib", "lib64", "share")]
    folders += [
        os.path.dirname(os.__file__),
        *(place for place in sys.path if place.endswith("-packages")),
        "/sys/devices/system",
    ]
    files = [
        "/etc/ld.so.cache",
        "/etc/localtime",
        "/dev/null",
        "/dev/urandom",
        "/proc/self",
        "/proc/cpuinfo",
        "/proc/meminfo",
    ]
    return [*folders, *files, f"{sys.prefix}/pyvenv.cfg"]


def _limit(patience: float) -> None:
    try:
        import resource
    except ImportError:
        return
    with contextlib.suppress(OSError, ValueError):
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    seconds = int(patience) + 10  # of one core: ends it also where nobody is left to watch
    for what, limit in (
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_CPU, seconds),
    ):
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(what, (limit, limit))


def _guard(readable: Sequence[str]) -> Callable[[str, tuple], None]:
    """An audit hook.

    The events are those that CPython 3.11 to 3.13 raise; `os.remove` is unlink too, `os.rename`
    replace.
    """
    places = tuple(os.path.realpath(place) + os.sep for place in readable)
    writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

    # Literals and defaults, because an answer can change what it reaches by a name, or through the
    # frame of the error that it catches.
    def guard(
        event, details, places=places, writes=writes, real=os.path.realpath, text=os.fsdecode, kind=type, number=int
    ):
        if event.startswith(
            (
                *(
                    "subprocess.",
                    "os.system",
                    "os.exec",
                    "os.posix_spawn",
                    "os.fork",
                    "os.kill",
                    "socket.",
                    "ctypes.",
                    "sqlite3.",
                ),
                *("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "os.utime"),
                *("os.chmod", "os.chown", "os.chflags", "os.setxattr", "os.removexattr", "gc.get_", "resource."),
            )
        ):
            raise PermissionError(f"an answer may not do this while it is graded: {event}")
        if event == "open" and kind(details[0]) is not number:
            if (details[2] or 0) & writes:
                raise PermissionError("an answer may not write files while it is graded")
            if not f"{real(text(details[0]))}/".startswith(places):
                raise PermissionError("an answer may not read files while it is graded")

    return guard


# Landlock: numbers of its system calls, the same on every machine; bits of struct
# landlock_ruleset_attr in linux/landlock.h.
CREATE, ADD, RESTRICT = 444, 445, 446
ACCESSES = {1: 13, 2: 14, 3: 15, 4: 15}  # version -> how many kinds of access to files it knows; 16 from version 5 on
STARTING_PROGRAMS, READING = 0b0001, 0b1100  # a file, a folder
OF_A_FILE = 0b1100_0000_0000_0111  # what makes sense for a single file
NO_NEW_PRIVILEGES = 38  # of prctl: the kernel asks for it first


def landlock() -> int:
    """The version of Landlock that the kernel has; 0 for none."""
    return max(0, _call(CREATE, None, 0, 1)) if sys.platform == "linux" else 0


def wall(readable: Sequence[str], writable: Sequence[str] = (), programs: bool = False) -> bool:
    """From here on this process, and what it starts, reads and writes only there, whatever code it
    runs. False where the kernel cannot.

    programs: whether it may start programs that lie there, and use the network.
    """
    if not (version := landlock()):
        return False
    files = (1 << ACCESSES.get(version, 16)) - 1
    handled = struct.pack("QQQ", files, 0b11 if version >= 4 and not programs else 0, 0b11 if version >= 6 else 0)
    rules = _call(CREATE, handled, len(handled), 0)
    for places, access in ((readable, READING | STARTING_PROGRAMS * programs), (writable, files)):
        for place in places:
            with contextlib.suppress(OSError):
                opened = os.open(place, os.O_PATH)
                allowed = access if os.path.isdir(place) else access & OF_A_FILE & files
                _call(ADD, rules, 1, struct.pack("=Qi", allowed, opened), 0)
                os.close(opened)
    _libc().prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    held = _call(RESTRICT, rules, 0) == 0
    os.close(rules)
    return held


def _call(number: int, *arguments) -> int:
    from ctypes import c_long

    return _libc().syscall(c_long(number), *(c_long(a) if isinstance(a, int) else a for a in arguments))


def _libc():
    import ctypes

    return ctypes.CDLL(None)


def walled(command: Sequence[str], root: Path, readable: Sequence[str], writable: Sequence[str]) -> list[str]:
    """The command that runs another one behind a wall, with the network left to it."""
    code = (
        f"import json, os, sys; sys.path.insert(0, {str(root)!r}); from {__name__} import wall; "
        "readable, writable, *command = json.loads(sys.argv[1]); wall(readable, writable, programs=True); "
        "os.execv(command[0], command)"
    )
    return [sys.executable, "-P", "-c", code, json.dumps([[*readable], [*writable], *command])]
