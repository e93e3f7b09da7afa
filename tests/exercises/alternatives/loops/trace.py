"""Stage 1 in loops in place of recursion, and with an object in place of closures."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from types import FrameType

from solutions.trace import MAX_CHARACTERS, MAX_ENTRIES, Call, Watch, begun


def summarize(value: object, depth: int = 3) -> object:
    match value:
        case None | bool() | int() | float():
            return value
        case str():
            return "".join(itertools.islice(value, MAX_CHARACTERS))
    names = {name for base in type(value).__mro__ for name in vars(base)}
    if {"shape", "dtype"} <= names:
        parts = [str(value.dtype).replace("torch.", ""), str(tuple(value.shape))]
        return " ".join([*parts, str(value.device)]) if "device" in names else " ".join(parts)
    if isinstance(value, Mapping):
        if not depth:
            return " of ".join((type(value).__name__, str(len(value))))
        summary = {}
        for number, (key, own) in enumerate(value.items()):
            if number == MAX_ENTRIES:
                summary["..."] = f"{len(value) - MAX_ENTRIES} more"
                break
            summary[str(key)] = summarize(own, depth - 1)
        return summary
    if isinstance(value, (list, tuple)):
        if not depth:
            return " of ".join((type(value).__name__, str(len(value))))
        rows = [summarize(own, depth - 1) for own in itertools.islice(value, MAX_ENTRIES)]
        if len(value) > MAX_ENTRIES:
            rows.append(f"... {len(value) - MAX_ENTRIES} more")
        return rows
    return type(value).__name__


class Recorder:
    """The tree so far, and the calls that are running."""

    def __init__(self, root: Call):
        self.running = [root]

    def enter(self, frame: FrameType) -> None:
        self.running.append(begun(frame))
        self.running[-2].calls.append(self.running[-1])

    def leave(self, value: object) -> None:
        ended = self.running[-1]
        del self.running[-1]
        ended.result, ended.seconds = summarize(value), perf_counter() - ended.start


def record(function: Callable, *arguments: object, packages: Sequence[str] = (), into: Call | None = None) -> Call:
    if not packages:
        packages = ["__main__", function.__module__.split(".")[0]]
    root = Call("record") if into is None else into
    recorder = Recorder(root)
    watch = Watch(recorder.enter, recorder.leave, packages)
    watch.start()
    try:
        result = function(*arguments)
    except BaseException:
        watch.stop()
        root.seconds = perf_counter() - root.start
        raise
    watch.stop()
    root.result = summarize(result)
    root.seconds = perf_counter() - root.start
    return root


def path_between(tree: Call, start: str, end: str) -> list[Call]:
    waiting: list[tuple[Call, tuple[Call, ...]]] = [(tree, ())]
    while waiting:
        call, chain = waiting.pop()
        if chain or call.named(start):
            chain += (call,)
        if chain and call.named(end):
            return list(chain)
        waiting += [(inner, chain) for inner in reversed(call.calls)]
    return []
