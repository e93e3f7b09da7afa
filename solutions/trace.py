"""Watch a running program: which function calls which, with what, and what comes back.

Python reports every function that begins and ends to anyone who registers for it. `Watch` registers
and passes on the reports about the packages that you name. `record` builds the tree of calls from
them. `summarize` reduces each value to what a reader wants to know. `path_between` finds the chain
of calls from one call to another.

Sources: the Python Library Reference on `sys.setprofile` and `sys.monitoring` (PEP 669, Shannon
2021); telling a call that raised from one that returned None is from coverage.py,
`coverage/pytracer.py`. `Call`, a node that knows its children, is what any profiler has.
"""

from __future__ import annotations

import dis
import inspect
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from types import FrameType

MONITORING = hasattr(sys, "monitoring")  # Python 3.12 and later: functions that are not watched cost nothing
MAX_ENTRIES = 12  # entries of one dict or list that a summary keeps
MAX_CHARACTERS = 80  # characters of a text that a summary keeps
MAX_CALLS = 200_000  # calls that one tree keeps, about 200 MB; later calls are dropped
# instructions that end a call without an exception
RETURN_OPCODES = ("RETURN_VALUE", "YIELD_VALUE", "RETURN_GENERATOR")


@dataclass(slots=True)
class Call:
    """One call, and the calls that were made while it ran.

    Attributes:
        function: name as the definition gives it: "v8DetectionLoss.__call__".
        owner: class of the object that the method was called on: "v8PoseLoss", which may inherit
            the method; "" for a plain function.
        module, file, line: where the function is defined.
        arguments: summary of each argument by its name, without self.
        result: summary of the returned value; "Raised" if an exception ended the call.
        start: when the call began, by `perf_counter`.
        seconds: how long it took, inner calls included.
        calls: inner calls, in the order in which they began.
    """

    function: str
    owner: str = ""
    module: str = ""
    file: str = ""
    line: int = 0
    arguments: dict[str, object] = field(default_factory=dict)
    result: object = None
    start: float = field(default_factory=perf_counter)
    seconds: float = 0.0
    calls: list[Call] = field(default_factory=list, repr=False)

    def named(self, name: str) -> bool:
        """Whether `name` means this call.

        Three forms fit: the name in the definition ("v8DetectionLoss.__call__"), the same with the
        class of the object ("v8PoseLoss.__call__"), and the last part alone ("__call__").
        """
        last = self.function.rpartition(".")[2]
        return name in (self.function, f"{self.owner}.{last}", last)


class Raised:
    """Stands for the result of a call that an exception ended."""


def begun(frame: FrameType) -> Call:
    """The Call of a function that has just begun: names, place, summarised arguments."""
    code, values, owner = frame.f_code, frame.f_locals, ""
    variadic = bool(code.co_flags & inspect.CO_VARARGS) + bool(code.co_flags & inspect.CO_VARKEYWORDS)
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount + variadic]
    if names and names[0] in ("self", "cls") and names[0] in values:
        first = values[names[0]]
        owner, names = (first if isinstance(first, type) else type(first)).__name__, names[1:]
    arguments = {name: summarize(values[name]) for name in names if name in values}
    return Call(code.co_qualname, owner, frame.f_globals["__name__"], code.co_filename, code.co_firstlineno, arguments)


class Watch:
    """Report the calls of some packages' functions in this thread.

    Between `start` and `stop`, a function that begins triggers `enter(frame)`. When it ends, it
    triggers `leave(value)` with the returned value, or with a `Raised`. Every `enter` is followed
    by its `leave`. Class bodies, modules and comprehensions count as part of the code around them.
    A generator begins and ends anew at each value that it yields.

    Args:
        enter, leave: the two functions to call.
        packages: names such as "ultralytics" or "torch.nn"; their subpackages count too.
    """

    def __init__(self, enter: Callable[[FrameType], None], leave: Callable[[object], None], packages: Sequence[str]):
        self.enter, self.leave, self.packages = enter, leave, tuple(packages)
        self.known: dict[str, bool] = {}  # module name -> whether it lies in one of the packages
        self.open: list[FrameType] = []
        self.seen = 0

    def start(self) -> None:
        if MONITORING:
            self._start_monitoring()
        else:
            self.before = sys.getprofile()
            sys.setprofile(self._on_profile)

    def stop(self) -> None:
        if MONITORING:
            sys.monitoring.set_events(self.tool, 0)
            sys.monitoring.free_tool_id(self.tool)
        else:
            sys.setprofile(self.before)
        self.open.clear()

    def _is_watched(self, frame: FrameType) -> bool:
        module = frame.f_globals.get("__name__", "")
        if module not in self.known:
            inside = (f"{module}.".startswith(f"{package}.") for package in self.packages)
            self.known[module] = module != __name__ and any(inside)
        if not self.known[module]:
            return False
        name = frame.f_code.co_name
        return bool(frame.f_code.co_flags & inspect.CO_OPTIMIZED) and (name[0] != "<" or name == "<lambda>")

    def _begin(self, frame: FrameType) -> None:
        if self.seen < MAX_CALLS:
            self.seen += 1
            self.open.append(frame)
            self.enter(frame)

    def _end(self, frame: FrameType, value: object) -> None:
        # false for a function that is not watched, that began before `start`, or that came after MAX_CALLS
        if self.open and self.open[-1] is frame:
            self.open.pop()
            self.leave(value)

    # ---- up to Python 3.11: one function receives every event ------------------------------------

    def _on_profile(self, frame: FrameType, event: str, value: object) -> None:
        if event == "call":
            if self._is_watched(frame):
                self._begin(frame)
        elif event == "return" and self.open and self.open[-1] is frame:
            # Python reports None for an exception too; the last instruction tells the two cases apart
            if value is None and dis.opname[frame.f_code.co_code[frame.f_lasti]] not in RETURN_OPCODES:
                value = Raised()
            self._end(frame, value)

    # ---- from Python 3.12 on: one function for each kind of event --------------------------------

    def _start_monitoring(self) -> None:
        monitoring, event, thread = sys.monitoring, sys.monitoring.events, threading.get_ident()

        def begin(code, *_):
            if threading.get_ident() == thread:
                if not self._is_watched(sys._getframe(1)):
                    return monitoring.DISABLE  # Python does not ask again about this function
                self._begin(sys._getframe(1))

        def resume(code, *_):  # PY_THROW cannot be switched off for one function
            if threading.get_ident() == thread and self._is_watched(sys._getframe(1)):
                self._begin(sys._getframe(1))

        def end(code, _, value):
            if threading.get_ident() == thread:
                if not self._is_watched(sys._getframe(1)):
                    return monitoring.DISABLE
                self._end(sys._getframe(1), value)

        def unwind(code, *_):
            if threading.get_ident() == thread:
                self._end(sys._getframe(1), Raised())

        kinds = {event.PY_START: begin, event.PY_RESUME: begin, event.PY_THROW: resume}
        kinds |= {event.PY_RETURN: end, event.PY_YIELD: end, event.PY_UNWIND: unwind}
        self.tool = next(number for number in range(6) if monitoring.get_tool(number) is None)
        monitoring.use_tool_id(self.tool, "yolostudy.trace")
        for kind, function in kinds.items():
            monitoring.register_callback(self.tool, kind, function)
        monitoring.set_events(self.tool, sum(kinds))
        monitoring.restart_events()  # an earlier watch may have had other packages


def summarize(value: object, depth: int = 3) -> object:
    """Describe a value in plain data that keeps no reference to it.

    - A tensor or array, which is anything whose class has a `shape` and a `dtype`, becomes a line:
      "float32 (4, 3, 64, 64) cpu". The line of an array without a device ends at the shape.
    - None, bool, int and float stay as they are.
    - A text keeps its first MAX_CHARACTERS characters.
    - A dict becomes a dict of summaries, with its keys as text. A list or tuple becomes a list of
      summaries. Only `depth` levels are opened; a container below them becomes "dict of 9".
      Only the first MAX_ENTRIES entries are kept. If there are more, one last entry counts them:
      "..." -> "343 more" in a dict, "... 343 more" in a list.
    - Anything else becomes the name of its class: "v8PoseLoss".

    `summarize` runs in the middle of somebody else's program, on objects that may be half built. So
    it never calls their methods: it asks the class, not the object, for `shape` and `dtype`.
    """
    kind = type(value)
    # BEGIN SOLUTION
    if hasattr(kind, "shape") and hasattr(kind, "dtype"):
        place = getattr(value, "device", "")
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)} {place}".rstrip()
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str):
        return value[:MAX_CHARACTERS]
    if not isinstance(value, (Mapping, list, tuple)):
        return kind.__name__
    if depth == 0:
        return f"{kind.__name__} of {len(value)}"
    more = len(value) - MAX_ENTRIES
    if isinstance(value, Mapping):
        first = [key for key, _ in zip(value, range(MAX_ENTRIES))]
        kept = {str(key): summarize(value[key], depth - 1) for key in first}
        return kept | ({"...": f"{more} more"} if more > 0 else {})
    kept = [summarize(item, depth - 1) for item in value[:MAX_ENTRIES]]
    return kept + ([f"... {more} more"] if more > 0 else [])
    # END SOLUTION


def record(function: Callable, *arguments: object, packages: Sequence[str] = (), into: Call | None = None) -> Call:
    """Call `function(*arguments)` and return the tree of calls that this made.

    The root stands for `record` itself. Below it hang the calls that no other recorded call made.
    Its result is the summary of what the function returned, its time that of the whole recording.
    An exception goes on to the caller. The watch is stopped in any case.

    Args:
        function: what to call.
        packages: functions of these packages are recorded. Calls elsewhere leave no trace, but a
            function of the packages that is called from there does. Default: the package of the
            function, and the notebook or script itself.
        into: a Call to use as the root. Keep it to have the tree so far even if the function
            raises.

    Returns:
        The root.
    """
    module = getattr(function, "__module__", None) or type(function).__module__
    packages = tuple(packages) or ("__main__", module.partition(".")[0])
    root = into or Call("record")
    root.start = perf_counter()
    # BEGIN SOLUTION
    stack = [root]  # the calls that are running, innermost last

    def enter(frame: FrameType) -> None:
        call = begun(frame)
        stack[-1].calls.append(call)
        stack.append(call)

    def leave(value: object) -> None:
        call = stack.pop()
        call.seconds = perf_counter() - call.start
        call.result = summarize(value)

    watch = Watch(enter, leave, packages)
    watch.start()
    try:
        root.result = summarize(function(*arguments))
    finally:
        watch.stop()
        root.seconds = perf_counter() - root.start
    return root
    # END SOLUTION


def path_between(tree: Call, start: str, end: str) -> list[Call]:
    """The chain of calls from `start` to `end`, both included.

    Each call of the chain was made inside the one before it. The chain ends at the call of `end`
    that began first inside a `start`. It begins at the outermost `start` around that call. A call
    that both names mean is a chain of its own. If there is no such chain, the list is empty.

    Args:
        tree: the root, which may be part of the chain.
        start, end: names as `Call.named` takes them.
    """

    # BEGIN SOLUTION
    def search(call: Call, above: list[Call]) -> list[Call]:
        chain = [*above, call] if above or call.named(start) else []
        if chain and call.named(end):
            return chain
        for inner in call.calls:
            if found := search(inner, chain):
                return found
        return []

    return search(tree, [])
    # END SOLUTION
