"""The server of the sandbox: it runs each answer in a process of its own, behind walls."""

import io
import json
import linecache
import os
import signal
import sys
import time
from pathlib import Path

from .. import edition as editions
from ..course import Course
from ..edition import Edition
from ..isolation import Stopped
from ..judge import Judge
from ..observation import dumps
from .messages import MAX_BYTES, MAX_PRINTED, receive, send, unpack
from .walls import guard, limit, python_folders, wall


def serve() -> None:
    """Takes orders from stdin and answers each on stdout, until the grader closes the pipe."""
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
    import ctypes  # noqa: F401 - once, for the walls of all children

    send(answers, b"ready")
    os.dup2(nowhere, 2)
    while True:
        try:
            order = json.loads(receive(orders, 1e9))
        except EOFError:
            return
        send(answers, _run(judge, order, (orders, answers)))


def _run(judge: Judge, order: dict, pipes: tuple[int, int]) -> bytes:
    """Runs one answer in a child process, and gives what it sends, or says how it ended."""
    name, patience = order["exercise"], order["patience"]
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        for pipe in (*pipes, reading):
            os.close(pipe)
        try:
            try:
                result = _obey(judge, order)
            except BaseException as error:
                result = {"stopped": f"{name}: {type(error).__name__}: {error}"[:MAX_PRINTED], "frames": []}
            send(writing, json.dumps(result).encode())
        finally:
            os._exit(0)
    os.close(writing)
    try:
        answer, why = receive(reading, 1.25 * patience + 1), ""  # the child has an alarm clock of its own
    except TimeoutError:
        answer, why = b"", f"was still running after {patience:g} seconds and could not be interrupted"
    except ValueError as error:
        answer, why = b"", f"gave more than the {MAX_BYTES} bytes of observations that are taken: {error}"
    except EOFError:
        answer, why, child = b"", f"ended its process: {_ended(child)}", 0
    os.close(reading)
    if child:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return answer or json.dumps({"stopped": f"{name} {why}.", "frames": []}).encode()


def _ended(child: int) -> str:
    """How a process ended that has closed its pipe. If it still runs, it is killed."""
    for _ in range(100):
        if (found := os.waitpid(child, os.WNOHANG))[0]:
            status = os.waitstatus_to_exitcode(found[1])
            return f"exit status {status}" if status >= 0 else signal.strsignal(-status) or f"signal {-status}"
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "it closed the way back"


def _obey(judge: Judge, order: dict) -> dict:
    """Builds the walls around this process, then runs the answer."""
    exercise, stream = judge.exercise(order["exercise"]), io.StringIO()
    edition = unpack(order["edition"])
    _remember_lines(edition, order["files"])
    # an answer that says `from yolostudy.blocks import ...` gets the edition that is judged
    editions.serving[judge.course.package] = edition.get
    judge.patience = order["patience"]
    readable = python_folders()
    limit(judge.patience)
    wall(readable)
    sys.addaudithook(guard(readable))
    try:
        seen = judge.look(exercise, edition, tuple(order["files"]), stream)
    except Stopped as stopped:
        return {"stopped": str(stopped), "frames": [vars(frame) for frame in stopped.frames]}
    return {"seen": dumps(seen), "printed": stream.getvalue()[:MAX_PRINTED]}


def _remember_lines(edition: Edition, files: list[str]) -> None:
    """Gives Python the lines of the learner's files, for tracebacks. The files are not here."""
    texts: dict[str, list[str]] = {}
    for statement in (s for m in edition.values() for s in m.statements):
        lines = texts.setdefault(str(statement.file), [])
        own = statement.text.splitlines(keepends=True)
        lines += [""] * (statement.line - 1 + len(own) - len(lines))
        lines[statement.line - 1 : statement.line - 1 + len(own)] = own
    for file in files:
        linecache.cache[file] = (0, None, texts.get(file, []), file)
