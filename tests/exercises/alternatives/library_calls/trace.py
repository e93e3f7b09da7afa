"""Stage 1 by an exit stack and a generator of all chains."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from time import perf_counter

from solutions.trace import MAX_CHARACTERS, MAX_ENTRIES, Call, Watch, begun


def line_about(value) -> str:
    device = f" {value.device}" if hasattr(type(value), "device") else ""
    return "{} {}{}".format(str(value.dtype).split(".")[-1], tuple(value.shape), device)


def entries(value, depth: int):
    if depth <= 0:
        return f"{type(value).__name__} of {len(value)}"
    over = max(0, len(value) - MAX_ENTRIES)
    if isinstance(value, Mapping):
        told = {str(key): summarize(value[key], depth - 1) for key in list(value)[:MAX_ENTRIES]}
        if over:
            told["..."] = f"{over} more"
        return told
    return [summarize(one, depth - 1) for one in list(value)[:MAX_ENTRIES]] + [f"... {over} more"] * bool(over)


def summarize(value: object, depth: int = 3) -> object:
    if value is None or issubclass(type(value), (bool, int, float)):
        return value
    if issubclass(type(value), str):
        return value if len(value) <= MAX_CHARACTERS else value[:MAX_CHARACTERS]
    if all(hasattr(type(value), name) for name in ("shape", "dtype")):
        return line_about(value)
    if isinstance(value, (dict, Mapping, list, tuple)):
        return entries(value, depth)
    return value.__class__.__name__


def record(function: Callable, *arguments: object, packages: Sequence[str] = (), into: Call | None = None) -> Call:
    packages = packages or ("__main__", function.__module__.partition(".")[0])
    root = into if into else Call("record")
    running: list[Call] = []

    def enter(frame) -> None:
        caller = running[-1] if running else root
        running.append(begun(frame))
        caller.calls += [running[-1]]

    def leave(value) -> None:
        now = perf_counter()
        running[-1].seconds = now - running[-1].start
        running[-1].result = summarize(value)
        running.pop()

    def finish() -> None:
        watch.stop()
        root.seconds = perf_counter() - root.start

    watch = Watch(enter, leave, packages)
    with ExitStack() as stack:
        stack.callback(finish)
        watch.start()
        root.result = summarize(function(*arguments))
    return root


def chains(call: Call, above: list[Call], start: str) -> Iterator[list[Call]]:
    """Every chain that begins at an outermost `start`, in the order of the calls."""
    if above or call.named(start):
        above = [*above, call]
        yield above
    for inner in call.calls:
        yield from chains(inner, above, start)


def path_between(tree: Call, start: str, end: str) -> list[Call]:
    return next((chain for chain in chains(tree, [], start) if chain[-1].named(end)), [])
