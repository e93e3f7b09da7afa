"""The sandbox: untrusted answers run in another process, and only observations come back.

The grader sends an edition that holds the answer, with the reference around it. The edition lacks
the reference's own definition of the exercise, and the misconceptions, whose patches quote it. The
server (`server.py`) imports what the probes need once and forks for each exercise. What comes back
is data, and is compared in the grader's process. So an answer gains nothing when it patches the
comparison, or sends observations without knowing the right ones.

An answer is limited in time, memory and file size, and its environment holds no secrets. An audit
hook forbids processes, connections, signals, native functions by their address, reading anything
but Python and its packages, and writing. On Linux the kernel (Landlock) guards files from 5.13 on,
TCP from 6.7 on, and signals to other processes from 6.12 on.

Not guarded: an answer may import what is installed, and Ultralytics has many of these layers. Read
a passing answer before you praise it. A learner who has `solutions/` can copy them. Native code in
an installed package is not seen by the audit hook: without Landlock it can write files, and
everywhere it can start processes (the kernel refuses unless you grade as root) and send datagrams.
Strangers' answers belong in a container.
"""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from ..course import Course
from ..edition import Edition
from ..errors import CourseError
from ..exercise import Exercise
from ..isolation import Stopped
from ..observation import Frame, Seen, loads
from .messages import MAX_PRINTED, pack, receive, send

START_PATIENCE = 180.0  # seconds for the server to start: torch on a slow disk


class Sandbox:
    """Runs answers like `Judge.look`, in another process.

    Use it in a `with` block. One sandbox serves any number of learners.
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
            send(self._server.stdin.fileno(), json.dumps(order).encode())
            answer = receive(self._server.stdout.fileno(), self.patience + 30)
        except (OSError, EOFError, ValueError):  # the answer has damaged the server, which else would have replied
            self._stop()
            raise Stopped(f"{exercise.name}: the process in which it ran has ended, or did not answer.") from None
        try:
            told = json.loads(answer)
            if told.get("stopped"):
                raise Stopped(str(told["stopped"])[:MAX_PRINTED], tuple(Frame(**f) for f in told["frames"][:20]))
            seen, printed = loads(told["seen"]), str(told["printed"])[:MAX_PRINTED]
        except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError, MemoryError):
            raise Stopped(f"{exercise.name}: what its process sent back are no observations.") from None
        if len(seen) != len(exercise.probes):
            raise Stopped(
                f"{exercise.name}: its process gave {len(seen)} observations for {len(exercise.probes)} probes."
            )
        stream.write(printed)
        return seen

    def _start(self) -> None:
        self._stop()
        kept = ("PATH", "LANG", "LC_ALL", "SYSTEMROOT")
        environment = {name: os.environ[name] for name in kept if name in os.environ} | {
            "HOME": self._home.name,
            "TMPDIR": self._home.name,
            "OMP_NUM_THREADS": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "CUDA_VISIBLE_DEVICES": "",  # CUDA cannot be used in a fork of a process that has used it
        }
        root = str(self.course.root)
        code = f"import sys; sys.path.insert(0, {root!r}); from {__package__}.server import serve; serve()"
        command = [sys.executable, "-P", "-c", code, root, self.course.package]
        log = Path(self._home.name, "log")
        with open(log, "wb") as errors:
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": errors}
            self._server = subprocess.Popen(
                command, cwd=self._home.name, env=environment, start_new_session=True, bufsize=0, **pipes
            )
        try:
            receive(self._server.stdout.fileno(), START_PATIENCE)
        except (OSError, EOFError, ValueError):
            self._stop()
            last = log.read_text("utf-8", "replace").strip().rpartition("\n")[2]
            raise CourseError(f"the sandbox did not start. {last or 'It said nothing.'}") from None

    def _stop(self) -> None:
        if self._server:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._server.pid, signal.SIGKILL)  # the server and its children
            self._server.wait()
            self._server.stdin.close()
            self._server.stdout.close()
            self._server = None
