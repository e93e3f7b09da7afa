"""How an answer is run: it leaves no traces, its prints are kept, and it ends in time."""

import contextlib
import io
import random
import signal
import sys
import threading
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator

from .exercise import Exercise
from .observation import Frame

MAX_PRINTED = 100_000  # characters that are kept of what an answer prints
MAX_REPEATS = 3  # times that one line may occur in the frames of an error


class Stopped(Exception):
    """An answer was stopped from outside while it ran; `frames` say where it was."""

    def __init__(self, message: str, frames: tuple[Frame, ...] = (), interrupted: bool = False):
        super().__init__(message)
        self.frames, self.interrupted = frames, interrupted


class Overdue(BaseException):
    """The time is up. An answer's `except Exception` does not catch it."""


class Printed(io.StringIO):
    """What an answer prints, up to a limit: an endless loop that prints would fill the memory."""

    def write(self, text: str) -> int:
        return super().write(text) if self.tell() < MAX_PRINTED else len(text)


def message_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # an answer's own exception may have a wrong __str__
        return ""


def frames_of(error: BaseException, files: tuple[str, ...]) -> tuple[Frame, ...]:
    """The frames of a traceback that lie in some files.

    Each line occurs at most three times: a recursion passes it a thousand times.
    """
    found, times = [], Counter()
    for f in traceback.extract_tb(error.__traceback__):
        times[f.filename, f.lineno] += 1
        if f.filename in files and times[f.filename, f.lineno] <= MAX_REPEATS:
            found.append(Frame(f.filename, f.lineno or 0, f.name, f.line or ""))
    return tuple(found)


@contextlib.contextmanager
def time_limit(seconds: float, exercise: Exercise, files: tuple[str, ...]) -> Iterator[None]:
    """Raises Stopped in what runs for longer, or is interrupted.

    Only the main thread can be timed, and only where the system has signals.
    """

    def ring(number, frame):
        raise Overdue

    timed = hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()
    started = time.monotonic()
    if timed:
        handler = signal.signal(signal.SIGALRM, ring)
        # it rings again and again: an answer may swallow the first ring
        remaining, interval = signal.setitimer(signal.ITIMER_REAL, seconds, seconds)
    try:
        yield
    except Overdue as error:
        sentence = f"{exercise.name} was still running after {seconds:g} seconds. Is there a loop that never ends?"
        raise Stopped(sentence, frames_of(error, files)) from None
    except KeyboardInterrupt as error:
        sentence = f"interrupted while {exercise.name} was being checked."
        raise Stopped(sentence, frames_of(error, files), interrupted=True) from None
    finally:
        if timed:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, handler)
            if remaining:
                signal.setitimer(signal.ITIMER_REAL, max(0.001, remaining - (time.monotonic() - started)), interval)


@contextlib.contextmanager
def untouched(stream: io.StringIO, dtype: object = None) -> Iterator[None]:
    """What runs inside prints into `stream` and changes no random state or setting outside."""
    torch, numpy = sys.modules.get("torch"), sys.modules["numpy"]
    states: list[tuple[Callable, object]] = [
        (random.setstate, random.getstate()),
        (numpy.random.set_state, numpy.random.get_state()),
    ]
    settings = [(sys.getrecursionlimit, sys.setrecursionlimit), (numpy.geterr, lambda old: numpy.seterr(**old))]
    if torch:
        states.append((torch.set_rng_state, torch.get_rng_state()))
        settings += [
            (torch.get_default_dtype, torch.set_default_dtype),
            (torch.get_default_device, torch.set_default_device),
            (torch.is_grad_enabled, torch.set_grad_enabled),
            (torch.get_num_threads, torch.set_num_threads),
            (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
        ]
    before = [read() for read, _ in settings]
    if torch:
        torch.set_grad_enabled(True)
        torch.set_default_dtype(dtype or torch.get_default_dtype())
        if torch.get_default_device().type != "cpu":
            torch.set_default_device("cpu")  # where the fixtures were made
    try:
        with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for put_back, state in states:
            put_back(state)
        for (read, put_back), old in zip(settings, before, strict=True):
            if read() != old:
                put_back(old)
