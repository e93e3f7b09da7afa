"""The NaN microscope: names the first torch operation that makes a non-finite value.

    with NaNMicroscope() as microscope:
        loss = criterion(model(images), targets)
        loss.backward()
    print(microscope.finding)

A function mode sees each call of torch from Python. A tensor is finite when its sum is, and a sum
reads it once; values are counted only where the sum is not finite. For the backward pass, each
operation leaves its place on its node of the graph, and hooks look at the gradients there.

A NaN always counts. An infinity does not count while it was written on purpose (a mask filled with
-inf) or came in from outside; it is remembered, and named when a NaN comes of it or when it reaches
the loss. C++ code (a fused kernel) counts as one operation; a scripted function is not seen at all.
Code that was compiled runs uncompiled.
"""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode

from ..module_calls import uncompiled
from .events import BIRTH, CONSTANT, OUTSIDE, SPREAD, UNINITIALISED, Event, Place, Value, ancestors, descendants
from .finding import Finding
from .gradients import KEY, BackwardWatch
from .places import ModelNames, Spot, where
from .values import (
    is_finite,
    number_value,
    numbers_in,
    quick_range,
    renamed,
    storage_of,
    tensors_in,
    value_of,
    with_origin,
)

EMPTY = {"empty", "empty_like", "empty_strided", "empty_permuted", "new_empty", "new_empty_strided"}
QUIET = {
    "__get__",
    "__set__",
    "__delete__",
    "detach",
    "size",
    "item",
    "tolist",
    "requires_grad_",
    "set_",
    "_set_grad_enabled",
    "share_memory_",
}
# Operations that overwrite their first argument without reading it.
WRITES = set(
    (
        "__setitem__ copy_ fill_ zero_ set_data masked_fill_ masked_scatter_ scatter_ index_fill_ index_copy_ "
        "index_put_ put_"
    ).split()
)
WRITES |= set(
    (
        "uniform_ normal_ random_ bernoulli_ exponential_ trunc_normal_ constant_ ones_ zeros_ eye_ dirac_ orthogonal_"
    ).split()
)
WRITES |= set(
    "kaiming_uniform_ kaiming_normal_ xavier_uniform_ xavier_normal_ sparse_ log_normal_ cauchy_ geometric_".split()
)
AUGMENTED = {
    f"__{name}__" for name in "setitem iadd isub imul itruediv idiv ifloordiv imod ipow iand ior ixor imatmul".split()
}


# Calls a function so that the microscope sees the calls inside it. Older versions of torch lack it.
REDISPATCH = getattr(torch.overrides, "redispatch_function", None)


class ReplayEnded(BaseException):
    """Ends a replay: when the cause is known, or before an optimizer moves a weight.

    It is no Exception, so that no `except Exception` on the way stops it.
    """


class NaNMicroscope(TorchFunctionMode):
    """Finds the first operation that makes a non-finite value out of finite ones.

    It sees the thread of its `with` block, forward and backward. What other threads compute is not
    seen, except the gradients of a backward pass.

    Args:
        fill_uninitialised: write NaN into the memory that `torch.empty` reserves. A program that
            writes before it reads does not notice.
        stop_when_found: raise `ReplayEnded` after the backward pass that settles the finding.

    Attributes:
        finding: a `Finding`, or None. The first non-finite loss or gradient settles it; from then
            on the microscope looks at nothing more.
        events: every operation with a non-finite result, until then.
        operations: how many operations were looked at.
    """

    def __init__(self, fill_uninitialised: bool = True, stop_when_found: bool = False):
        super().__init__()
        self.fill_uninitialised, self.stop_when_found = fill_uninitialised, stop_when_found
        self.events: list[Event] = []
        self.operations = 0
        self._settled: Finding | None = None
        self._roots: list[Tensor] = []  # of the backward pass that is running
        self._uncompiled = contextlib.ExitStack()
        self._losses = 0  # finite losses that a backward pass began from
        self._made: dict[int, tuple[StorageWeakRef, int]] = {}  # storage -> the last event that made it non-finite
        self._empty: dict[int, tuple[StorageWeakRef, Spot, str]] = {}  # storage -> where it was reserved, and by what
        self._weights: set[int] = set()  # events that wrote to a leaf of the graph
        self._names = ModelNames()

    @property
    def finding(self) -> Finding | None:
        if self._settled is not None:
            return self._settled
        first = next((event for event in self.events if event.counts), None)
        if first is None:
            return None
        chain = descendants(self.events, first.number, None)
        if any(event.number in self._weights for event in chain):
            return self._found(first, chain, "the weights")
        return self._found(first, chain, "neither the loss nor a gradient" if self._losses else "")

    def __enter__(self) -> NaNMicroscope:
        self._uncompiled.enter_context(uncompiled())
        return super().__enter__()

    def __exit__(self, *error) -> None:
        super().__exit__(*error)
        self._uncompiled.close()
        self._made, self._empty, self._names = {}, {}, ModelNames()  # the finding holds no tensor and no module

    # ---- forward ---------------------------------------------------------------------------------

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name = getattr(func, "__name__", "")
        if name in QUIET:
            return func(*args, **kwargs) if kwargs else func(*args)
        kwargs = kwargs or {}
        if name == "backward" or (name == "grad" and getattr(func, "__module__", "") == "torch.autograd"):
            return self._backward(func, args, kwargs)
        if self._settled is not None:
            return func(*args, **kwargs)
        first = args[0] if args else None
        in_place = (name[-1:] == "_" and name[-2:] != "__") or name in AUGMENTED
        before = None
        if (in_place or kwargs.get("inplace") or (len(args) > 2 and args[-1] is True)) and isinstance(first, Tensor):
            with torch._C.DisableTorchFunction():
                before = self._value("argument 0", first) if (span := quick_range(first)) is None else span
        out = func(*args, **kwargs)
        found = first if in_place else out
        if isinstance(found, Tensor):
            results = (found,)
        elif isinstance(found, list | tuple):
            results = tuple(tensors_in(found))
        else:
            return out
        if results:
            self.operations += 1
            with torch._C.DisableTorchFunction():
                self._look(name, args, kwargs, results, before, in_place)
        return out

    def _look(self, name: str, args: tuple, kwargs: dict, results: Sequence[Tensor], before, in_place: bool) -> None:
        first, base = args[0] if args else None, results[0]._base
        spot, bad = None, False
        if (
            base is None
            or results[0] is first
            or not isinstance(first, Tensor)
            or not (base is first or base is first._base)
        ):
            for tensor in results:  # a view of the first argument holds nothing new
                bad = bad or not is_finite(tensor)
        for tensor in results:
            node = tensor.grad_fn
            if node is not None:
                spot = spot or self._names.spot(sys._getframe(2))
                node.metadata.setdefault(KEY, (name, spot))
                if in_place and tensor._base is not None and tensor._base.grad_fn is not None:
                    tensor._base.grad_fn.metadata.setdefault(KEY, (name, spot))
        if name in EMPTY:
            self._reserve(name, results, spot or self._names.spot(sys._getframe(2)))
        elif bad:
            self._judge(name, args, kwargs, results, before, in_place, spot or self._names.spot(sys._getframe(2)))

    def _reserve(self, name: str, results: Sequence[Tensor], spot: Spot) -> None:
        if len(self._empty) > 1000:
            self._empty = {key: kept for key, kept in self._empty.items() if not kept[0].expired()}
        for tensor in results:
            if self.fill_uninitialised and (tensor.is_floating_point() or tensor.is_complex()) and tensor.numel():
                tensor.detach().fill_(math.nan)
                storage = tensor.untyped_storage()
                self._empty[storage._cdata] = (StorageWeakRef(storage), spot, name)

    def _judge(
        self, name: str, args: tuple, kwargs: dict, results: Sequence[Tensor], before, in_place: bool, spot: Spot
    ) -> None:
        """An output is non-finite: find out what kind of event that is, and note it."""
        first = args[0] if args else None
        writes, fused = name in WRITES, name.startswith("_fused")
        inputs, numbers = [], []
        for label, value in [*((f"argument {place}", value) for place, value in enumerate(args)), *kwargs.items()]:
            if label == "out" or (label == "argument 0" and in_place and (writes or not isinstance(first, Tensor))):
                continue  # written to, not read
            if fused and label not in ("argument 1",):
                continue
            if value is first and before is not None:
                inputs.append(renamed(before, label, first))
                continue
            parts = list(tensors_in(value))
            labels = [f"{label}[{i}]" for i in range(len(parts))] if len(parts) > 1 else [label]
            inputs += [self._value(self._named(text, tensor), tensor) for text, tensor in zip(labels, parts)]
            numbers += [number_value(label, number) for number in numbers_in(value)]
        outputs = tuple(
            self._value("output" if len(results) == 1 else f"output {i}", tensor) for i, tensor in enumerate(results)
        )
        outputs = tuple(value for value in outputs if not value.finite)
        if not outputs:
            return  # it became finite in between, or only the sum overflowed
        broken = [value for value in inputs if not value.finite]
        if writes and not broken and not any(not number.finite for number in numbers):
            old = renamed(before, "", first) if before is not None else None
            if old is None or not old.finite:
                return  # its non-finite values were there before
        kind = self._kind(inputs, numbers, outputs)
        if kind == OUTSIDE:
            inputs = self._initialised(inputs, args, kwargs)
            kind = SPREAD if any(value.origin >= 0 for value in inputs) else kind
        self._add(kind, "forward", name, spot, (*inputs, *numbers), outputs, results)

    @staticmethod
    def _kind(inputs: list[Value], numbers: list[Value], outputs: tuple[Value, ...]) -> str:
        nan_made = any(value.nans for value in outputs)
        guilty = [value for value in inputs if value.nans or (value.infs and not nan_made)]
        if guilty:
            return SPREAD if any(value.origin >= 0 for value in guilty) else OUTSIDE
        if any(number.nans or (number.infs and not nan_made) for number in numbers):
            return CONSTANT
        return BIRTH

    def _initialised(self, inputs: list[Value], args: tuple, kwargs: dict) -> list[Value]:
        """The inputs of an operation, where unwritten memory has its reservation as its origin."""
        found = {}
        for tensor in tensors_in((args, kwargs)):
            key = storage_of(tensor)
            if key in self._empty and not is_finite(tensor):
                _, spot, name = self._empty.pop(key)
                made = self._value("output", tensor)
                found[key] = self._add(UNINITIALISED, "forward", name, spot, (), (made,), [tensor]).number
        if not found:
            return inputs
        origin = next(iter(found.values()))
        return [value if value.finite or value.origin >= 0 else with_origin(value, origin) for value in inputs]

    def _add(self, kind: str, phase: str, op: str, spot: Spot, inputs, outputs, results: Iterable[Tensor]) -> Event:
        place = Place.of(spot.code, spot.line, spot.instruction, self._names.of_module(spot.module))
        shown = op.strip("_") if op[:2] == "__" or op in AUGMENTED else op
        shown = "setitem" if op == "__setitem__" else shown
        event = Event(len(self.events), kind, phase, shown, place, tuple(inputs), tuple(outputs))
        self.events.append(event)
        for tensor in results:
            if not is_finite(tensor):
                storage = tensor.untyped_storage()
                self._made[storage._cdata] = (StorageWeakRef(storage), event.number)
                if tensor.is_leaf and tensor.requires_grad:
                    self._weights.add(event.number)
        return event

    def _value(self, label: str, tensor: Tensor) -> Value:
        return value_of(label, tensor, self._made.get(storage_of(tensor), (None, -1))[1])

    def _named(self, label: str, tensor: Tensor) -> str:
        name, node = self._names.of(tensor), tensor.grad_fn
        if node is not None and KEY not in node.metadata:
            name = f"made unseen by {node.name()}"
        return f"{label} ({name})" if name else label

    # ---- backward --------------------------------------------------------------------------------

    def _backward(self, func: Callable, args: tuple, kwargs: dict):
        given = args[0] if args else kwargs.get("tensors", kwargs.get("outputs"))
        roots, outer = list(tensors_in(given)), self._roots
        if self._settled is not None or [*map(id, roots)] == [*map(id, outer)]:
            return self._call_visibly(func, args, kwargs)
        with torch._C.DisableTorchFunction():
            if not outer:  # else this is a checkpoint: a part of the graph is computed once more
                self._settle_by_loss(roots)
            watch = BackwardWatch(self, roots) if self._settled is None else None
        try:
            self._roots, begun = roots, len(self.events)
            result = self._call_visibly(func, args, kwargs)
        finally:
            self._roots = outer
            if watch is not None:
                watch.remove()
        if watch is not None and not outer:
            self._losses += 1
            self._settle_by_gradient(watch, begun)
        if self.stop_when_found and self._settled is not None and not outer:
            raise ReplayEnded
        return result

    def _call_visibly(self, func: Callable, args: tuple, kwargs: dict):
        """Call a function and look at what Python computes inside it.

        That is the backward of a custom function, a hook, a checkpoint.
        """
        if REDISPATCH is None:
            return func(*args, **kwargs)
        TorchFunctionMode.__enter__(self)
        try:
            return REDISPATCH(func, (), args, kwargs)
        finally:
            TorchFunctionMode.__exit__(self, None, None, None)

    def _settle_by_loss(self, roots: list[Tensor]) -> None:
        for root in roots:
            if is_finite(root):
                continue
            last = self._made.get(storage_of(root), (None, -1))[1]
            if last < 0:  # the microscope did not see how it was made
                value = self._value("the loss", root)
                last = self._add(
                    OUTSIDE, "forward", "backward", where(sys._getframe(1)), (value,), (value,), [root]
                ).number
            cause = self._cause(last)
            self._settled = self._found(cause, descendants(self.events, cause.number, last), "the loss")
            return

    def _cause(self, end: int) -> Event:
        """The first event that counts among those that led to `end`."""
        before = sorted(ancestors(self.events, end))
        return self.events[next((number for number in before if self.events[number].counts), before[0])]

    def _settle_by_gradient(self, watch: BackwardWatch, begun: int) -> None:
        bad = next((event for event in self.events[begun:] if event.phase == "backward"), None)
        if bad is not None:
            first = self._cause(bad.number)
            chain = descendants(self.events, first.number, None)
            names = tuple(
                self._names.of(leaf) or "a parameter"
                for leaf in watch.leaves
                if leaf.grad is not None and not is_finite(leaf.grad)
            )
            self._settled = self._found(first, chain, "the gradients", names)

    def _found(self, event: Event, chain: tuple[Event, ...], reaches: str, parameters: tuple[str, ...] = ()) -> Finding:
        harmless = ancestors(self.events, event.number) - {event.number}
        wrote = tuple(
            self.events[number] for number in sorted(harmless) if self.events[number].kind in (CONSTANT, OUTSIDE)
        )
        return Finding(event, chain, reaches, wrote, parameters)
