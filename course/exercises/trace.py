"""Stage 1: what a value is, in a line; the tree of calls; the way from one call to another."""

from __future__ import annotations

import sys
import time
import weakref
from collections import OrderedDict, namedtuple
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from types import ModuleType

import numpy as np
import torch
from torch import nn

from yolostudy.study.exercise import Exercise

from ._fixtures import attempt

# ---- summarize -----------------------------------------------------------------------------------

summarize = Exercise(
    "trace.summarize",
    stage=1,
    points=2,
    minutes=20,
    goal="Describe any value in one line, and keep no reference to it.",
    hints=(
        "The docstring names the kinds of value. Treat the tensor first, then what stays as it is, then text. "
        "Containers come last, because you call summarize again for each of their entries.",
        "hasattr on the object may run code of its class, and that code may need what is not there yet. hasattr on "
        "type(value) runs no such code. For anything else, the class knows its own name.",
        "Hand on a depth that is one smaller for each entry. At depth 0, count a container instead of opening it. "
        "From a long container take the first MAX_ENTRIES entries, then say how many are missing.",
    ),
)

Pair = namedtuple("Pair", ("boxes", "scores"))


class HalfBuilt:
    """An object whose constructor has not run yet: any question about it raises an error."""

    def __getattr__(self, name: str):
        raise RuntimeError(f"{name} is asked for too early")

    def __repr__(self) -> str:
        return f"HalfBuilt with {self.parts}"

    def __len__(self) -> int:
        raise RuntimeError("not filled yet")


class Disguised:
    """An object that has a shape and a dtype of its own, and is no tensor."""

    def __init__(self):
        self.shape, self.dtype = "round", "none"

    def __repr__(self) -> str:
        return "Disguised()"


class Table:
    """A class with a shape and no dtype, as tables have."""

    @property
    def shape(self):
        return (3, 2)

    def __repr__(self) -> str:
        return "Table()"


class Column:
    """A class with a dtype and no shape."""

    @property
    def dtype(self):
        return "float64"

    def __repr__(self) -> str:
        return "Column()"


class OldArray(Table, Column):
    """An array from the time before there were devices."""


class Held(dict):
    """A dict that can be watched while it disappears."""


@summarize.probe("tensors and arrays")
def _(course):
    say = course.trace.summarize
    return {
        "images": say(torch.zeros(2, 3, 8, 8, dtype=torch.uint8)),
        "a loss": say(torch.tensor(1.5, dtype=torch.float32)),
        "a mask elsewhere": say(torch.zeros(4, dtype=torch.bool, device="meta")),
        "half precision": say(torch.zeros(0, 4, dtype=torch.bfloat16)),
        "a parameter": say(nn.Parameter(torch.zeros(3, 2, dtype=torch.float32))),
        "an array": say(np.zeros((2, 3), np.int64)),
        "an array without a device": say(OldArray()),
    }


@summarize.probe("numbers, text and nothing")
def _(course):
    say = course.trace.summarize
    plain = {
        "none": None,
        "true": True,
        "zero": 0,
        "a whole number": -7,
        "a fraction": 0.25,
        "no text": "",
        "text": "train",
    }
    texts = {"80 letters": "yolostudy " * 8, "81 letters": "yolostudy " * 8 + "!"}
    return {
        "plain": {name: say(value) for name, value in plain.items()},
        "text": {name: say(value) for name, value in texts.items()},
    }


@summarize.probe("a batch, predictions, a list and a tuple")
def _(course):
    say = course.trace.summarize
    row, maps = (
        torch.zeros(2, dtype=torch.float32),
        [torch.zeros(1, 4, side, side, dtype=torch.float32) for side in (4, 2)],
    )
    return {
        "batch": say({"img": torch.zeros(2, 3, 4, 4, dtype=torch.uint8), "im_file": ("a.jpg", "b.jpg"), "ratio": 0.5}),
        "predictions": say(OrderedDict(boxes=row, feats=maps)),
        "a pair": say((row, {"feats": maps})),
        "a named pair": say(Pair(row, maps)),
        "keys that are no text": say({0: "plane", (8, 8): row, None: 1}),
        "keys, afterwards": [type(key).__name__ for key in say({0: "plane", "img": row})],
        "empty": [say({}), say([]), say(())],
    }


@summarize.probe("boxes inside boxes")
def _(course):
    say = course.trace.summarize
    nested = {"a": [{"b": [{"c": 1}, 2]}, "x"], "d": {"e": {"f": {"g": torch.zeros(1, dtype=torch.int64)}}}}
    return {
        "by itself": say(nested),
        **{f"depth {depth}": say(nested, depth) for depth in (0, 1, 2)},
        "a tuple": say((1, 2, 3), 0),
    }


@summarize.probe("more entries than anybody wants to read")
def _(course):
    say = course.trace.summarize
    return {
        "a list of 12": say(list(range(12))),
        "a list of 13": say(list(range(13))),
        "a tuple of 40": say(tuple(range(40))),
        "a dict of 12": say({f"key{n}": n for n in range(12)}),
        "a dict of 13": say({f"key{n}": n for n in range(13)}),
        "a dict of 40": say({n: -n for n in range(40)}),
    }


@summarize.probe("anything else")
def _(course):
    say = course.trace.summarize
    others = {
        "a layer": nn.Conv2d(3, 4, 1),
        "a class": nn.Conv2d,
        "a set": {1},
        "bytes": b"jpg",
        "a shape of its own": Disguised(),
    }
    others |= {"a shape and no dtype": Table(), "a dtype and no shape": Column()}
    return {name: say(value) for name, value in others.items()}


@summarize.probe("an object that is not built yet")
def _(course):
    return attempt(lambda: course.trace.summarize({"self": HalfBuilt()}))


@summarize.probe("what it holds on to")
def _(course):
    tensor, batch = torch.zeros(3, dtype=torch.float32), Held(ratio=[1, 2])
    batch["img"] = tensor
    watched = [weakref.ref(tensor), weakref.ref(batch)]
    told = course.trace.summarize([batch, tensor])
    batch["ratio"].append(3)
    del tensor, batch
    return {"gone once the program lets go": [one() is None for one in watched], "told": told}


summarize.misconception(
    "the tensor itself is kept",
    swap=(
        "return f\"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)} {place}\".rstrip()",
        "return value",
    ),
    because="A tree that holds tensors keeps every activation of the step alive, and its graph too. Memory grows with "
    "each recorded call. And a tensor that is changed in place later shows the new values. Return a line of text "
    "instead.",
)
summarize.misconception(
    "the object is asked instead of its class",
    swap=('hasattr(kind, "shape") and hasattr(kind, "dtype")', 'hasattr(value, "shape") and hasattr(value, "dtype")'),
    because="hasattr runs the object's __getattr__, perhaps in the middle of its constructor. If that raises, it ends "
    "the program that you only wanted to watch. It also takes any object with an attribute `shape` for a tensor. Ask "
    "type(value).",
)
summarize.misconception(
    "repr of whatever is left",
    swap=("return kind.__name__\n", "return repr(value)\n"),
    because="The repr of a network has hundreds of lines, and it would be made again at every call that the network "
    "is an argument of. The repr of an object that is not built yet raises an error in the program that you watch. "
    "The name of the class is enough, and it always exists.",
)
summarize.misconception(
    "only the keys of a dict",
    swap=(
        "{str(key): summarize(value[key], depth - 1) for key in first}",
        "{str(key): type(value[key]).__name__ for key in first}",
    ),
    because="The keys say what a batch holds. But the errors are in the shapes. Summarise each value too, one level "
    "less deep.",
)
summarize.misconception(
    "the depth is never counted down",
    swap=[
        ("summarize(value[key], depth - 1) for key in first", "summarize(value[key], depth) for key in first"),
        ("summarize(item, depth - 1)", "summarize(item, depth)"),
    ],
    because="A dict may contain itself indirectly; then the recursion ends only with an error. And a configuration "
    "twenty levels deep would be copied at every call. Hand on depth - 1.",
)
summarize.misconception(
    "a tuple is not opened",
    swap=("(Mapping, list, tuple)", "(Mapping, list)"),
    because="In evaluation the network returns a tuple, and the loss always does. The tree would say `tuple` where "
    "you ask what came back. Open tuples like lists.",
)
summarize.misconception(
    "everything is kept, however long",
    swap=[
        ("more = len(value) - MAX_ENTRIES", "more = 0"),
        ("zip(value, range(MAX_ENTRIES))", "zip(value, value)"),
        ("value[:MAX_ENTRIES]", "value"),
    ],
    because="A state dict has 355 entries, a list of image files has thousands, and each entry is summarised at every "
    "call that receives it. Keep the first MAX_ENTRIES and say how many more there are.",
)
summarize.misconception(
    "a text is kept whole",
    swap=("value[:MAX_CHARACTERS]", "value"),
    because="A text may be a whole configuration file, and the tree would keep it once for every call that receives "
    "it. Keep the first MAX_CHARACTERS characters.",
)
summarize.misconception(
    "the device is left out",
    swap=('place = getattr(value, "device", "")', 'place = ""'),
    because="Two tensors of the right shape on two devices are the most frequent error of a first training on a "
    "graphics card, and the tree would not show it. Add the device at the end of the line.",
)


# ---- record --------------------------------------------------------------------------------------

record = Exercise(
    "trace.record",
    stage=1,
    points=3,
    minutes=30,
    after="trace.summarize",
    goal="Record every call of a running program below the call that made it.",
    hints=(
        "While the program runs, keep a list of the calls that have begun and not ended. Which of them made the call "
        "that begins now?",
        "On enter: make the Call with begun(frame), append it to the calls of the last entry of your list, then "
        "append it to the list. On leave: take it off the list, and set its time and its result. The list begins with "
        "the root, and no leave takes the root off.",
        "Watch(enter, leave, packages) does nothing before start() and goes on until stop(). The function may raise. "
        "So put the stop, and the root's time, where Python executes them in any case.",
    ),
)

TOY = """
import time


class Criterion:
    def __init__(self, gain=2):
        self.gain = gain

    def __call__(self, preds, batch):
        return self.loss(preds, batch), {"items": 1}

    def loss(self, preds, batch):
        return scale(preds, by=self.gain)


class PoseCriterion(Criterion):
    def loss(self, preds, batch):
        return super().loss(preds, batch) + 1


def scale(value, *more, by=1, **rest):
    return value * by


def step(batch):
    criterion = PoseCriterion(3)
    first = criterion(2, batch)
    scale(5)
    return first


def train():
    for epoch in range(2):
        step({"img": [epoch, 2], "cls": None})
    return "done"


def build():
    return PoseCriterion()


def slow():
    time.sleep(0.004)
    wait()
    wait()


def wait():
    time.sleep(0.002)


def fail(when):
    if when == 0:
        raise ValueError("the loss is NaN")
    return fail(when - 1)


def survive():
    try:
        fail(2)
    except ValueError:
        scale(1)
    return scale(2)


def interrupted():
    scale(3)
    raise KeyboardInterrupt


def order():
    return sorted([3, 1, 2], key=lambda value: scale(-value))
"""


def toy(name: str = "toy") -> ModuleType:
    """A small program of the package `name`; its source claims a file that does not exist."""
    module = ModuleType(f"{name}.program")
    exec(compile(TOY, f"{name}/program.py", "exec"), module.__dict__)
    return module


def profilers() -> int:
    """How many profilers watch this program now."""
    tools = [sys.monitoring.get_tool(number) for number in range(6)] if hasattr(sys, "monitoring") else []
    return (sys.getprofile() is not None) + sum(tool is not None for tool in tools)


@contextmanager
def put_back() -> Iterator[None]:
    """Remove the profiler that a wrong answer leaves running."""
    before = sys.getprofile()
    tools = [number for number in range(6) if not sys.monitoring.get_tool(number)] if hasattr(sys, "monitoring") else []
    try:
        yield
    finally:
        sys.setprofile(before)
        for number in tools:
            if sys.monitoring.get_tool(number):
                sys.monitoring.set_events(number, 0)
                sys.monitoring.free_tool_id(number)


def told(call, depth: int = 20) -> object:
    """A call and what is below it, without times.

    A tree that hangs below itself ends at `depth`.
    """
    if depth == 0:
        return "and so on"
    own = {"call": call.function, "of a": call.owner, "arguments": call.arguments, "result": call.result}
    return {**own, "calls": [told(inner, depth - 1) for inner in call.calls]}


def names(call, depth: int = 20) -> list:
    return [call.function, *([names(inner, depth - 1) for inner in call.calls] if depth else ["and so on"])]


def kind_of_error(act: Callable[[], object]) -> str:
    try:
        act()
    except BaseException as error:
        return type(error).__name__
    return "none"


@record.probe("a function that calls a function")
def _(course):
    with put_back():
        return told(course.trace.record(toy().scale, 4, packages=("toy",)))


@record.probe("who calls whom in two epochs")
def _(course):
    with put_back():
        return names(course.trace.record(toy().train, packages=("toy",)))


@record.probe("the classes, arguments and results of one step")
def _(course):
    with put_back():
        return told(
            course.trace.record(
                toy().step, {"img": torch.zeros(1, 3, 2, 2, dtype=torch.float32)}, packages=("toy.program",)
            )
        )


@record.probe("a caller from another package in between")
def _(course):
    with put_back():
        return told(course.trace.record(toy().order, packages=("toy",)))


@record.probe("an object that comes back")
def _(course):
    with put_back():
        return told(course.trace.record(toy().build, packages=("toy",)))


@record.probe("an exception that the program catches itself")
def _(course):
    with put_back():
        return told(course.trace.record(toy().survive, packages=("toy",)))


@record.probe("an exception that goes through")
def _(course):
    with put_back():
        root, before = course.trace.Call("kept"), profilers()
        raised = kind_of_error(lambda: course.trace.record(toy().fail, 1, packages=("toy",), into=root))
        left = profilers() - before
    return {"raised": raised, "profilers left behind": left, "kept": names(root), "a time": 0 < root.seconds < 60}


@record.probe("an interrupt, and what is left of it")
def _(course):
    with put_back():
        before = profilers()
        raised = kind_of_error(lambda: course.trace.record(toy().interrupted, packages=("toy",)))
        return {"raised": raised, "profilers left behind": profilers() - before}


@record.probe("what is left when all went well")
def _(course):
    with put_back():
        before, program = profilers(), toy()
        root = course.trace.record(program.step, None, packages=("toy",))
        left = profilers() - before
        count = len(root.calls)
        program.scale(1)
        return {"profilers left behind": left, "a call afterwards": len(root.calls) - count}


@record.probe("only the packages that are named")
def _(course):
    with put_back():
        mine, other = toy("toy"), toy("toyshop")

        def both():
            mine.scale(1)
            other.scale(2)
            mine.scale(3)

        return told(course.trace.record(both, packages=("toy",)))


@record.probe("without any package, the function's own")
def _(course):
    with put_back():
        return names(course.trace.record(toy().step, None))


@record.probe("the times")
def _(course):
    with put_back():
        began = time.perf_counter()
        root = course.trace.record(toy().slow, packages=("toy",))
        wall = time.perf_counter() - began
    slow = root.calls[0]
    waits = [wait.seconds for wait in slow.calls]
    return {
        "each wait took its 2 ms": [wait >= 0.002 for wait in waits],
        "slow took longer than both": slow.seconds >= 0.004 + sum(waits),
        "the root took longer than slow": root.seconds >= slow.seconds,
        "nothing took longer than the clock on the wall": root.seconds <= wall,
    }


record.misconception(
    "the watch goes on after an exception",
    swap=(
        "    try:\n        root.result = summarize(function(*arguments))\n    finally:\n        watch.stop()\n"
        "        root.seconds = perf_counter() - root.start\n",
        "    root.result = summarize(function(*arguments))\n    watch.stop()\n    root.seconds = perf_counter() - "
        "root.start\n",
    ),
    because="The line after the call is never reached if the call raises or somebody interrupts it. The profiler then "
    "stays installed: every later cell is slow, and its calls fill a tree that nobody sees. What must happen in any "
    "case belongs in a `finally`.",
)
record.misconception(
    "an exception is swallowed",
    swap=(
        "    finally:\n        watch.stop()",
        '    except BaseException:\n        root.result = "Raised"\n    finally:\n        watch.stop()',
    ),
    because="A trace watches a program and must not change it. A run that failed or was interrupted would look like "
    "one that ended well. Let the exception go on to the caller: use `finally` without `except`.",
)
record.misconception(
    "nothing is taken off the stack",
    swap=("call = stack.pop()", "call = stack[-1]"),
    because="A call that has ended still counts as running, so the next call hangs below it. Two functions called one "
    "after the other look as if the first had called the second, and the tree becomes one long chain. Pop on leave.",
)
record.misconception(
    "every call hangs under the root",
    swap=("stack[-1].calls.append(call)", "root.calls.append(call)"),
    because="That makes a list of calls in the order of time: it says what ran, but not who called it. The caller is "
    "the last one on the stack. Hang the new call there.",
)
record.misconception(
    "the new call is not put on the stack",
    swap=("        stack.append(call)\n", "        stack.append(stack[-1])\n"),
    because="The calls inside the new call then hang beside it instead of below it, and its time and result are "
    "written to its caller. Put the new call itself on the stack.",
)
record.misconception(
    "the result itself is kept",
    swap=("call.result = summarize(value)", "call.result = value"),
    because="The tree would hold every tensor that any function returned, and its graph. Memory grows until the "
    "kernel dies. Keep the summary.",
)
record.misconception(
    "the time of day instead of a duration",
    swap=("call.seconds = perf_counter() - call.start", "call.seconds = perf_counter()"),
    because="perf_counter counts from some moment in the past, often the start of the machine. Only the difference of "
    "two readings means anything. Subtract the call's start.",
)
record.misconception(
    "the function runs before the watch starts",
    swap=[
        ("    watch.start()\n    try:\n", "    value = function(*arguments)\n    watch.start()\n    try:\n"),
        ("summarize(function(*arguments))", "summarize(value)"),
    ],
    because="A profiler reports only what begins after it was installed, so the tree stays empty. Start the watch "
    "first, then call.",
)


# ---- path_between --------------------------------------------------------------------------------

path_between = Exercise(
    "trace.path_between",
    stage=1,
    points=2,
    minutes=25,
    goal="Find in the tree the chain of calls that leads from one call to another.",
    hints=(
        "Walk through the tree as the program did: a call, then each of its calls in turn, each with everything below "
        "it. What do you need to know when you arrive at a call?",
        "Hand down the chain so far, from the first `start` to where you are. It is empty until you have seen a "
        "start. A call that fits `end` counts only if the chain is not empty.",
        "Give each branch a new list: the one from above plus this call. Return the first chain that a branch finds. "
        "If a branch returns an empty list, try the next branch.",
    ),
)


def tree(course, text: str):
    """A tree of calls from an indented list of names.

    `v8DetectionLoss.__call__ of v8PoseLoss` names the owner as well.
    """
    stack = [course.trace.Call("record")]
    for line in filter(None, text.splitlines()):
        depth = (len(line) - len(line.lstrip())) // 2
        function, _, owner = line.strip().partition(" of ")
        call = course.trace.Call(function, owner or function.rpartition(".")[0], line=sum(map(ord, line)))
        del stack[depth + 1 :]
        stack[-1].calls.append(call)
        stack.append(call)
    return stack[0]


STEP = """
Trainer.__init__
  get_dataset
  Model.loss
Trainer.train
  Trainer.setup
    Model.__init__ of PoseModel
      parse
    Loader.__init__
  Trainer.do_train
    Loader.next
      collate
    Model.forward of PoseModel
      Model.predict of PoseModel
        Conv.forward
        Head.forward
      Model.loss of PoseModel
        init_criterion
          Loss.__init__ of PoseLoss
        Loss.__call__ of PoseLoss
          assign
    Trainer.step
  Trainer.validate
    Validator.__call__
      Model.forward of PoseModel
      Loss.__call__ of PoseLoss
"""


def way(course, text: str, start: str, end: str) -> object:
    return attempt(lambda: [call.function for call in course.trace.path_between(tree(course, text), start, end)])


@path_between.probe("from the training loop to the loss")
def _(course):
    return {
        end: way(course, STEP, "Trainer.do_train", end)
        for end in ("Loss.__call__", "init_criterion", "Trainer.step", "collate")
    }


@path_between.probe("names by the class of the object, and by the last part")
def _(course):
    pairs = (
        ("do_train", "PoseLoss.__call__"),
        ("PoseModel.forward", "PoseLoss.__init__"),
        ("train", "assign"),
        ("validate", "forward"),
    )
    return {f"{start} to {end}": way(course, STEP, start, end) for start, end in pairs}


@path_between.probe("a deep way that comes first, and a short one later")
def _(course):
    text = "train\n  step\n    forward\n      loss of first\n  loss of second\n"
    found = course.trace.path_between(tree(course, text), "train", "loss")
    return {"chain": [call.function for call in found], "which": found[-1].owner if found else ""}


@path_between.probe("where there is none")
def _(course):
    pairs = (
        ("Trainer.setup", "Loss.__call__"),
        ("Loss.__call__", "Trainer.train"),
        ("nobody", "assign"),
        ("Trainer.train", "nobody"),
    )
    return {f"{start} to {end}": way(course, STEP, start, end) for start, end in pairs} | {
        "an empty tree": way(course, "", "a", "b")
    }


@path_between.probe("an end that comes before any start, or around one")
def _(course):
    before = "loss\ntrain\n  step\n    loss\n"
    around = "forward\n  train\n    step\n      forward\n"
    return {"before": way(course, before, "train", "loss"), "around": way(course, around, "train", "forward")}


@path_between.probe("starts inside a start")
def _(course):
    text = "Model.forward\n  Block.forward\n    Block.forward\n      Conv.forward\n        conv\n"
    return {
        "outermost": way(course, text, "forward", "conv"),
        "of one class": way(course, text, "Block.forward", "conv"),
    }


@path_between.probe("the same name for both, and the root")
def _(course):
    return {
        "one call": way(course, STEP, "Trainer.do_train", "Trainer.do_train"),
        "nested": way(course, "forward\n  forward\n", "forward", "forward"),
        "from the root": way(course, STEP, "record", "Trainer.step"),
        "the root itself": way(course, STEP, "record", "record"),
    }


@path_between.probe("the calls themselves, and the tree as it was")
def _(course):
    root = tree(course, STEP)
    before = names(root)
    found = course.trace.path_between(root, "Trainer.train", "Loss.__call__")
    held = [any(inner is call for inner in above.calls) for above, call in pairwise(found)]
    again = course.trace.path_between(root, "Trainer.train", "Loss.__call__")
    return {
        "each inside the one before": held,
        "tree unchanged": names(root) == before,
        "the same again": len(again) == len(found),
    }


path_between.misconception(
    "dead ends stay in the chain",
    swap=(
        "chain = [*above, call] if above or call.named(start) else []",
        "chain = above\n        if above or call.named(start):\n            chain.append(call)",
    ),
    because="`append` changes the list of the caller, and of its caller too. Calls from dead ends stay in it, and the "
    "chain names functions that never called one another. Make a new list for each branch.",
)
path_between.misconception(
    "the chain begins at the root",
    swap=("[*above, call] if above or call.named(start) else []", "[*above, call]"),
    because="The chain has to begin at `start`. Without a test for it, every answer begins at the root, even for a "
    "start that never ran. Keep the chain empty until the start is seen.",
)
path_between.misconception(
    "the chain begins anew at an inner start",
    swap=(
        "[*above, call] if above or call.named(start) else []",
        "[call] if call.named(start) else [*above, call] if above else []",
    ),
    because="`forward` calls `forward` in every network. The chain begins at the outermost one, which shows the whole "
    "way. Beginning anew cuts off everything before the innermost. Once a chain has begun, only add to it.",
)
path_between.misconception(
    "the first branch decides",
    swap=(
        "            if found := search(inner, chain):\n                return found\n",
        "            return search(inner, chain)\n",
    ),
    because="The first call of a training loop is never the one that leads to the loss. A branch that finds nothing "
    "returns an empty list. Then go on with the next branch.",
)
path_between.misconception(
    "names only as they are written",
    swap=[("call.named(start)", "call.function == start"), ("call.named(end)", "call.function == end")],
    because="The function that runs is v8DetectionLoss.__call__, and you look for the v8PoseLoss that inherits it. If "
    "you compare names as written, the call is not found; two evenings were lost that way. `named` also knows the "
    "class of the object.",
)
path_between.misconception(
    "nothing is searched inside an end",
    swap=(
        "            return chain\n",
        "            return chain\n        if call.named(end):\n            return []\n",
    ),
    because="A call of the `end` outside of any start is no answer, but the chain that you look for may lie inside "
    "it: a forward calls the training, the training calls a forward. Search inside it too.",
)
path_between.misconception(
    "the last one is found",
    swap=("for inner in call.calls:", "for inner in reversed(call.calls):"),
    because="The chain has to end at the call that began first. The last call of a loss in an epoch belongs to the "
    "validation, which runs on another copy of the network and is called from elsewhere. Walk in the order in which "
    "the calls began.",
)
