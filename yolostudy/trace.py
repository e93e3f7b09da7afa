"""Watch a program at work: which function calls which, with what, and what comes back.

Python tells whoever asks about every function that begins and ends. `Watch` asks, and passes on
what happens in the packages that you name; `record` makes a tree of it; `summarize` keeps of each
value what a reader wants to know; `path_between` finds the way from one call to another.

Sources: the Python Library Reference on `sys.setprofile` and `sys.monitoring` (PEP 669, Shannon
2021); telling a call that raised from one that returned None is from coverage.py,
`coverage/pytracer.py`. The Call, a node that knows its children, is that of any profiler.
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

MONITORING = hasattr(sys, "monitoring")  # Python 3.12 and later: what is not watched costs nothing
WIDEST = 12  # entries of one dict or list that a summary keeps
LONGEST = 80  # characters of a text that a summary keeps
HANDS_OVER = ("RETURN_VALUE", "YIELD_VALUE", "RETURN_GENERATOR")  # instructions that end a call without an exception
MOST = 200_000  # calls that one tree holds: about 200 MB; of later ones nothing is kept


@dataclass(slots=True)
class Call:
    """One call, and the calls that were made while it ran.

    Attributes:
        function: the name as it is written where the function is defined:
            "v8DetectionLoss.__call__".
        owner: class of the object whose method it is: "v8PoseLoss", which may inherit the method;
            "" for a plain function.
        module, file, line: where it is defined.
        arguments: summary of each argument, by its name, self left out.
        result: summary of what it returned; "Raised" for a call that an exception ended.
        start, seconds: when it began, by `perf_counter`, and how long it took, the calls inside it
            included.
        calls: the calls made inside it, in the order in which they began.
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
        """Whether this is a call of `name`, as it is written ("v8DetectionLoss.__call__"), by the
        class of its object ("v8PoseLoss.__call__"), or by its last part alone ("__call__").
        """
        last = self.function.rpartition(".")[2]
        return name in (self.function, f"{self.owner}.{last}", last)


class Raised:
    """Stands for the result of a call that ended by an exception."""


def begun(frame: FrameType) -> Call:
    """The Call of a function that begins: its names, its place, its arguments summarised."""
    code, values, owner = frame.f_code, frame.f_locals, ""
    both = bool(code.co_flags & inspect.CO_VARARGS) + bool(code.co_flags & inspect.CO_VARKEYWORDS)
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount + both]
    if names and names[0] in ("self", "cls") and names[0] in values:
        first = values[names[0]]
        owner, names = (first if isinstance(first, type) else type(first)).__name__, names[1:]
    arguments = {name: summarize(values[name]) for name in names if name in values}
    return Call(code.co_qualname, owner, frame.f_globals["__name__"], code.co_filename, code.co_firstlineno, arguments)


class Watch:
    """Tells of the functions of some packages, as this thread calls them.

    Between `start` and `stop` it calls `enter(frame)` as a function begins, and `leave(value)` as
    it ends, with what it returns, or a `Raised`. Every `enter` is followed by its `leave`. Class
    bodies, modules and comprehensions count as part of what is around them; a generator begins and
    ends anew at each value that it gives.

    Args:
        packages: names such as "ultralytics" or "torch.nn"; what lies inside them counts too.
    """

    def __init__(self, enter: Callable[[FrameType], None], leave: Callable[[object], None], packages: Sequence[str]):
        self.enter, self.leave, self.packages = enter, leave, tuple(packages)
        self.known: dict[str, bool] = {}  # whether a module is one of those
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

    def _is_one(self, frame: FrameType) -> bool:
        module = frame.f_globals.get("__name__", "")
        if module not in self.known:
            self.known[module] = module != __name__ and any(
                f"{module}.".startswith(f"{package}.") for package in self.packages
            )
        if not self.known[module]:
            return False
        name = frame.f_code.co_name
        return bool(frame.f_code.co_flags & inspect.CO_OPTIMIZED) and (name[0] != "<" or name == "<lambda>")

    def _begin(self, frame: FrameType) -> None:
        if self.seen < MOST:
            self.seen += 1
            self.open.append(frame)
            self.enter(frame)

    def _end(self, frame: FrameType, value: object) -> None:
        # not so for what is not watched, began before `start`, or came after MOST
        if self.open and self.open[-1] is frame:
            self.open.pop()
            self.leave(value)

    # ---- up to Python 3.11: one function is told of everything -----------------------------------

    def _on_profile(self, frame: FrameType, event: str, value: object) -> None:
        if event == "call":
            if self._is_one(frame):
                self._begin(frame)
        elif event == "return" and self.open and self.open[-1] is frame:
            # None is also what is told of an exception: then the last instruction was none that
            # hands a value over
            if value is None and dis.opname[frame.f_code.co_code[frame.f_lasti]] not in HANDS_OVER:
                value = Raised()
            self._end(frame, value)

    # ---- from Python 3.12 on: one function for each kind of event --------------------------------

    def _start_monitoring(self) -> None:
        monitoring, event, thread = sys.monitoring, sys.monitoring.events, threading.get_ident()

        def begin(code, *_):
            if threading.get_ident() == thread:
                if not self._is_one(sys._getframe(1)):
                    return monitoring.DISABLE  # Python does not ask again about this function
                self._begin(sys._getframe(1))

        def resume(code, *_):  # PY_THROW cannot be switched off for one function
            if threading.get_ident() == thread and self._is_one(sys._getframe(1)):
                self._begin(sys._getframe(1))

        def end(code, _, value):
            if threading.get_ident() == thread:
                if not self._is_one(sys._getframe(1)):
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
    """What a reader wants to know of a value, as plain data that holds on to nothing of it.

    A tensor becomes a line such as "float32 (4, 3, 64, 64) cpu", and so does an array; one without
    a device ends at its shape. A dict becomes a dict of summaries, with its keys as text, a list or
    tuple a list of summaries: `depth` levels of them, below that "dict of 9". Of more than WIDEST
    entries the first WIDEST are kept, and the last entry says how many more there are: "..." ->
    "343 more" in a dict, "... 343 more" in a list. None, bool, int and float stay what they are,
    and so does a text, of which the first LONGEST characters are kept. Of anything else the class
    is named: "v8PoseLoss".

    It is called in the middle of somebody else's program, on objects that may be half built. So it
    never calls their methods: whether something has a `shape` and a `dtype` is asked of its class.
    """
    kind = type(value)
    raise NotImplementedError("exercise trace.summarize: course/01_call_chain.ipynb")


def record(function: Callable, *arguments: object, packages: Sequence[str] = (), into: Call | None = None) -> Call:
    """Call `function(*arguments)` and return the tree of calls that this made.

    The root stands for `record` itself: below it hang the calls that were made from nowhere else in
    the packages. Its result is the summary of what the function returned. Whatever happens, nothing
    of the watch stays behind: an exception goes on to the caller.

    Args:
        packages: whose functions are recorded; what they call elsewhere leaves no trace, but what
            that calls in them again does. Without any: the package that the function is from, and
            what stands in the notebook or script itself.
        into: a call to use as the root. Whoever keeps it has the tree so far even if the function
            raises.
    """
    module = getattr(function, "__module__", None) or type(function).__module__
    packages = tuple(packages) or ("__main__", module.partition(".")[0])
    root = into or Call("record")
    root.start = perf_counter()
    raise NotImplementedError("exercise trace.record: course/01_call_chain.ipynb")


def path_between(tree: Call, start: str, end: str) -> list[Call]:
    """The chain of calls that leads from `start` to `end`, both included: each was made inside the
    one before it.

    Of several calls of `end` inside a `start`, it is the one that began first; the chain begins
    with the outermost `start` around it. A call that answers to both names is a chain of its own.
    Where there is no such chain, the list is empty. Names as `Call.named` takes them.
    """

    raise NotImplementedError("exercise trace.path_between: course/01_call_chain.ipynb")
