"""A process that has imported what is slow to import, and forks for the programs that tests start.

Importing torch, its compiler, Ultralytics and matplotlib takes four seconds of processor time, and
the tests start many Pythons that do so. `words(...)` gives a command that runs `-c CODE` or
`-m MODULE` in a fork instead: in a process of its own, with its own arguments, environment, folder,
streams and exit status. Nothing of yolostudy is imported before the fork. A test about what a
Python imports, or how soon it starts, starts one of its own.

This file is a program too: `serve` is the process that forks, `start` is the command.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

# torch._dynamo: every optimizer loads it
IMPORTS = """
    torch torch._dynamo torch.utils.data torch.utils.tensorboard torchvision ultralytics ultralytics.models
    ultralytics.nn.tasks ultralytics.utils.loss ultralytics.models.yolo.detect ultralytics.models.yolo.pose matplotlib.pyplot
    matplotlib.backends.backend_agg matplotlib.backends.backend_pdf matplotlib_inline.backend_inline cv2
    scipy.optimize PIL.Image psutil rich.console yaml tqdm.auto safetensors.torch
    ipykernel.kernelapp ipykernel.ipkernel ipywidgets nbval.plugin pytest
""".split()
FORKS = sys.platform == "linux"  # elsewhere each program starts a Python, which only takes longer


# ---- in the tests --------------------------------------------------------------------------------


def words(*arguments: str) -> list[str]:
    """A command like `[sys.executable, *arguments]`, run by a fork.

    `arguments` begin with -c or -m. Signals to the command reach the program.
    """
    if not FORKS:
        return [sys.executable, *arguments]
    return [sys.executable, "-S", "-E", __file__, "start", _address(), *arguments]


def kernel(folder: Path) -> None:
    """Makes `python3` a kernel that is forked, for a Jupyter with this folder as its JUPYTER_PATH."""
    place = folder / "kernels" / "python3"
    place.mkdir(parents=True)
    spec = {
        "argv": words("-m", "ipykernel_launcher", "-f", "{connection_file}"),
        "display_name": "Python 3",
        "language": "python",
        # as a kernel sets it for a matplotlib that is not imported yet
        "env": {"MPLBACKEND": "module://matplotlib_inline.backend_inline"},
    }
    (place / "kernel.json").write_text(json.dumps(spec))


def notebook(command: list[str], folder: Path) -> tuple[list[str], dict[str, str]]:
    """What `nbval_plugin.command` gives, run by a fork with a kernel that is forked, and its environment.

    Args:
        folder: for Jupyter; this makes it.
    """
    if not FORKS:
        return command, dict(os.environ)
    kernel(folder)
    _, *arguments = command
    arguments[arguments.index("--nbval-current-env")] = "--nbval-kernel-name=python3"
    environment = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    return words(*arguments), environment | {"JUPYTER_PATH": str(folder)}


def _address() -> str:
    """Where the process listens that forks. All workers of pytest share it.

    The first who asks starts it. It ends once all who asked have ended.
    """
    global _held
    name = os.environ.get("PYTEST_XDIST_TESTRUNUID", f"{os.getpid()}")
    address = f"\0yolostudy-tests-{os.getuid()}-{name}"
    if _held is None:
        _held = _connect(address)
    return address[1:]


_held: socket.socket | None = None  # the process goes on for as long as somebody holds a connection
_server: subprocess.Popen | None = None


def _connect(address: str) -> socket.socket:
    global _server
    listening = socket.socket(socket.AF_UNIX)
    try:
        listening.bind(address)  # only one can
    except OSError:
        listening.close()
    else:
        listening.listen(64)
        environment = {n: v for n, v in os.environ.items() if n not in ("MPLBACKEND", "YOLOSTUDY_USE", "PYTHONPATH")}
        with listening:
            _server = subprocess.Popen(
                [sys.executable, "-P", __file__, "serve", str(listening.fileno())],
                pass_fds=[listening.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,  # Ctrl-C ends the tests first
            )
    held = socket.socket(socket.AF_UNIX)
    held.connect(address)
    held.sendall(b"hold")
    return held


# ---- the command ---------------------------------------------------------------------------------


def start(address: str, arguments: list[str]) -> None:
    """Has the program run by a fork, passes signals on to it, and ends as it ends.

    It also ends with the process that started it, and the program with it: nobody else would end a
    kernel whose notebook was killed.
    """
    import select

    parent, answers = os.getppid(), b""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect("\0" + address)
    order = json.dumps({"arguments": arguments, "environment": dict(os.environ), "folder": os.getcwd()}).encode()
    socket.send_fds(connection, [b"%8d" % len(order)], [0, 1, 2])
    connection.sendall(order)
    while b"\n" not in answers:
        answers += _receive(connection, 1)
    child, answers = int(answers), b""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, frame: os.kill(child, number))
    while b"\n" not in answers:
        if select.select([connection], [], [], 1.0)[0]:
            answers += _receive(connection, 1)
        elif os.getppid() != parent:
            os._exit(1)
    status = int(answers)
    if status < 0:
        if -status != signal.SIGKILL:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)


# ---- the process that forks ----------------------------------------------------------------------


def serve(listening: socket.socket) -> dict:
    """Forks for each order until nobody is left. Returns the order, in the fork."""
    import gc
    import importlib
    import select

    for name in IMPORTS:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # what all share is never looked at again, so it is not copied either
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the shepherds
    held: list[socket.socket] = []
    while True:
        for ready in select.select([listening, *held], [], [])[0]:
            if ready is not listening:  # its owner has ended: that is all it can say
                ready.close()
                held.remove(ready)
                if not held:
                    os._exit(0)
                continue
            connection = listening.accept()[0]
            head, streams, _, _ = socket.recv_fds(connection, 8, 3)
            if head == b"hold":
                held.append(connection)
                continue
            order = None
            with contextlib.suppress(EOFError, ValueError):  # of a command that was killed at its start
                order = json.loads(_receive(connection, int(head)))
            if order and os.fork() == 0:
                for other in (listening, *held):
                    other.close()
                return _herd(connection, streams, order)
            for stream in streams:
                os.close(stream)
            connection.close()


def _receive(connection: socket.socket, size: int) -> bytes:
    content = b""
    while len(content) < size:
        if not (more := connection.recv(size - len(content))):
            raise EOFError("the other side has ended")
        content += more
    return content


def _herd(connection: socket.socket, streams: list[int], order: dict) -> dict:
    """In a fork: forks the program, ends it if the command is killed, and says how it ended.

    Returns the order in the program's own process.
    """
    import threading

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    child = os.fork()
    if child == 0:
        connection.close()
        os.setsid()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        return order
    for stream in streams:
        os.close(stream)
    connection.sendall(b"%d\n" % child)

    def watch():
        with contextlib.suppress(OSError):
            connection.recv(1)  # the command sends nothing more: this returns when it has ended
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with contextlib.suppress(OSError):
        connection.sendall(b"%d\n" % status)
    os._exit(0)


def become(order: dict) -> None:
    """Runs the program, as a Python that was started with these arguments would."""
    import runpy

    import matplotlib
    import numpy

    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environment"])
    sys.dont_write_bytecode = bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    numpy.random.seed()  # else all would draw the same
    if backend := os.environ.get("MPLBACKEND"):
        matplotlib.rcParams["backend"] = backend
    kind, what, *arguments = order["arguments"]
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:0] = ["" if kind == "-c" else os.getcwd(), *map(os.path.abspath, paths)]
    sys.stdin, sys.stdout, sys.stderr = (
        open(number, mode, closefd=False, buffering=1) for number, mode in enumerate("rww")
    )
    sys.argv = ["-c" if kind == "-c" else "-m", *arguments]
    if kind == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        main = sys.modules["__main__"] = type(sys)("__main__")
        main.__builtins__ = __builtins__
        exec(compile(what, "<string>", "exec"), vars(main))


def end(error: BaseException | None) -> None:
    """Ends as Python would, without taking four thousand modules apart, which takes seconds."""
    import atexit
    import threading

    status = 1 if error else 0
    if isinstance(error, SystemExit):
        status = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
        if status and not isinstance(error.code, int):
            print(error.code, file=sys.stderr)
    elif error:
        sys.excepthook(type(error), error, error.__traceback__)
    with contextlib.suppress(BaseException):
        threading._shutdown()
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    if isinstance(error, KeyboardInterrupt):
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(status & 0xFF)


if __name__ == "__main__":
    if sys.argv[1] == "start":
        start(sys.argv[2], sys.argv[3:])
    else:
        told, failed = serve(socket.socket(fileno=int(sys.argv[2]))), None
        try:
            become(told)
        except BaseException as error:
            failed = error
        end(failed)
