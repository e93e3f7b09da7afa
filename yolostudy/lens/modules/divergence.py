"""The first module whose output differs between two networks that should be equal, and by how much.

Both networks run once on the same input, with a hook on every module. Calls are then paired: by
name where a mapping is given, else by what the modules are (the same weights, the same shapes, the
same place in the order of calls). Names and nesting may differ, so our network can be compared with
Ultralytics'. A container is a pair where the layers inside it are pairs. So a mistake between
modules (a forgotten shortcut, two maps joined in the wrong order) shows in the first container
whose output differs although all layers in it agree.

Weights are compared as they are: copy them first, with `copy_weights` or with the course's own
`weights.transfer`.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ..module_calls import ModuleCall, in_mode, watch_modules
from .pairing import paired, renaming

# Relative to the larger output's largest value: what another order of float32 additions makes over
# about sixty layers.
TOLERANCE = 1e-5


@dataclass(frozen=True, slots=True)
class LayerDifference:
    """One call in each network, side by side.

    Attributes:
        name, other: the module's name in a and in b.
        kind, other_kind: their classes.
        call: which call of that module in a, from 1.
        shape, other_shape: of the first output tensor of each.
        absolute: the largest absolute difference over all output tensors; infinite where shapes or
            NaNs differ.
        relative: the same, over the largest absolute value of either.
        input_relative: the relative difference of the inputs; None where they cannot be compared.
        leaf: whether the module called no other module.
        parent: the name of the module of a that called it.
        differs: whether `relative` is above the tolerance.
        input_differs: whether `input_relative` is above the tolerance.
    """

    name: str
    other: str
    kind: str
    other_kind: str
    call: int
    shape: tuple[int, ...] | None
    other_shape: tuple[int, ...] | None
    absolute: float
    relative: float
    input_relative: float | None
    leaf: bool
    parent: str
    differs: bool
    input_differs: bool


@dataclass(frozen=True, slots=True)
class Divergence:
    """The result of `first_divergence`.

    Attributes:
        rows: one for each pair of calls, in the order in which a's modules returned.
        first: the first row that differs, or None.
        leaves: the rows of layers, without containers.
        only_a, only_b: names of the layers without a partner. An extra layer is harmless as long as
            the rows after it agree.
        errors: the error that ended a's and b's forward pass, or None. The calls before it are
            compared.
        tolerance: the relative difference above which a row differs.
    """

    rows: tuple[LayerDifference, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    errors: tuple[str | None, str | None]
    tolerance: float

    @property
    def first(self) -> LayerDifference | None:
        return next((row for row in self.rows if row.differs), None)

    @property
    def leaves(self) -> tuple[LayerDifference, ...]:
        return tuple(row for row in self.rows if row.leaf)

    @property
    def advice(self) -> str:
        """Where to look, in one sentence."""
        first = self.first
        if first is None:
            return ""
        if first.input_differs:
            before = [row for row in self.rows[: self.rows.index(first)] if row.leaf]
            after, of = f"after {before[-1].name}" if before else "before it", first.parent or "the whole"
            return (
                f"Its input differs already, while all modules before it agree: look at the code {after}, in the "
                f"forward of {of}."
            )
        if first.shape != first.other_shape:
            return "Its output has another shape."
        if not first.leaf:
            return f"Its input agrees, and so does every module in it: look at the code of {first.kind}.forward."
        return "Its input agrees: the cause lies in this module, its weights or its settings."

    def __str__(self) -> str:
        lines = []
        if self.first is None:
            lines.append(f"No difference in {len(self.rows)} pairs of calls (tolerance {self.tolerance:g}).")
        else:
            row = self.first
            again = f", call {row.call}" if row.call > 1 else ""
            lines.append(
                f"First difference: {row.name or 'the whole'} ({row.kind}{again}) against {row.other or 'the whole'} "
                f"({row.other_kind})."
            )
            if row.shape != row.other_shape:
                lines.append(f"Shapes: {written(row.shape)} and {written(row.other_shape)}.")
            else:
                lines.append(
                    f"Largest difference {row.absolute:.3g}, which is {row.relative:.2g} of the largest value; shape "
                    f"{written(row.shape)}."
                )
            lines.append(self.advice)
            agreeing = sum(not row.differs for row in self.leaves)
            lines.append(f"{agreeing} of {len(self.leaves)} pairs of layers agree (tolerance {self.tolerance:g}).")
        for title, names in (("Only in a", self.only_a), ("Only in b", self.only_b)):
            if names:
                lines.append(
                    f"{title}: {', '.join(names[:6])}{f' and {len(names) - 6} more' if len(names) > 6 else ''}."
                )
        lines += [f"{side} stopped at an error: {error}" for side, error in zip("ab", self.errors) if error]
        return "\n".join(lines)

    __repr__ = __str__


def first_divergence(
    a,
    b,
    *inputs,
    names: Mapping[str, str] | Callable[[str], str | None] | None = None,
    tolerance: float = TOLERANCE,
    training: bool = False,
) -> Divergence:
    """Run two networks on the same input and find the first module whose output differs.

    Every output is copied until the comparison: about 0.5 GB for each nano with one image of 640
    pixels. Smaller images do as well.

    Args:
        a, b: any `nn.Module`s: mine and the reference, or ours and Ultralytics'. Both stay as they
            are, running statistics included.
        inputs: what both are called with. Take random images: a plain one does not show wrong
            resampling.
        names: module name in a -> module name in b; a mapping of prefixes ({"backbone.stem":
            "model.0"}) or a function. Modules that it does not name are paired by weights, shapes
            and order.
        tolerance: the relative difference above which a row differs.
        training: compare in training mode, where batch statistics count; else in evaluation mode,
            whatever mode the networks are in.
    """
    calls_a, error_a = _recorded(a, inputs, training)
    calls_b, error_b = _recorded(b, inputs, training)
    pairs = paired(calls_a, calls_b, renaming(names))
    rows = [_difference(calls_a[i], calls_b[j], tolerance) for i, j in sorted(pairs.items())]
    only_a = [call.name for i, call in enumerate(calls_a) if call.leaf and i not in pairs]
    only_b = [call.name for j, call in enumerate(calls_b) if call.leaf and j not in set(pairs.values())]
    return Divergence(tuple(rows), tuple(only_a), tuple(only_b), (error_a, error_b), tolerance)


# Recording
# --------------------------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class CallRecord:
    """A call that returned, with copies of its input and output tensors.

    Attributes:
        given, made: copies of the tensors that went in and came out.
        before: how many calls had returned when it began. The calls from there up to its own place
            in the list happened inside it.
        index: which call of that module it is, from 1.
        state: what a layer is made of, to recognise it; see `_state`. Empty for a container.
    """

    call: ModuleCall
    given: list
    made: list
    before: int
    index: int
    state: tuple

    name = property(lambda self: self.call.name)
    leaf = property(lambda self: self.call.leaf)
    kind = property(lambda self: type(self.call.module).__name__)
    shapes = property(lambda self: tuple(tuple(tensor.shape) for tensor in self.made))
    shape = property(lambda self: self.shapes[0] if self.made else None)


def _recorded(model, inputs: Sequence, training: bool) -> tuple[list[CallRecord], str | None]:
    """The calls in the order in which they returned, and the error that ended the forward pass."""
    import torch
    from torch.utils._pytree import tree_map_only

    from .. import random_state

    begun: dict[ModuleCall, tuple] = {}
    ended: list[CallRecord] = []
    times: Counter = Counter()
    state = functools.cache(_state)

    def enter(call: ModuleCall, given) -> None:
        begun[call] = len(ended), _copied(given)

    def leave(call: ModuleCall, output) -> None:
        before, given = begun.pop(call)
        times[call.name] += 1
        own = state(call.module) if call.leaf else ()
        ended.append(CallRecord(call, given, _copied(output), before, times[call.name], own))

    error = None
    # seeded, so that dropout draws the same for both
    with in_mode(model, training), watch_modules(model, enter, leave) as calls, random_state.seeded(0):
        try:
            with torch.no_grad():
                model(*tree_map_only(torch.Tensor, torch.clone, inputs))
        except Exception as caught:
            text = str(caught).splitlines()[0] if str(caught) else ""
            where = calls.broken.name if calls.broken is not None else ""
            error = f"{type(caught).__name__} in {where or 'its forward'}: {text}"
    return ended, error


def _copied(value) -> list:
    """Copies of the tensors in a value: an in-place activation would change the originals."""
    import torch

    from ..nan.values import tensors_in

    return [
        tensor.detach().clone() if tensor.layout is torch.strided else tensor.detach().to_dense()
        for tensor in tensors_in(value)
    ]


def _state(module) -> tuple:
    """Shape and hash of every float tensor that a layer holds itself, to recognise the layer."""
    import torch

    held = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    held = [tensor.detach().cpu().contiguous() for tensor in held if tensor.is_floating_point()]
    return tuple((tuple(tensor.shape), hash(tensor.flatten().view(torch.uint8).numpy().tobytes())) for tensor in held)


# Comparing
# --------------------------------------------------------------------------------------------------


def _difference(one: CallRecord, two: CallRecord, tolerance: float) -> LayerDifference:
    absolute, relative = _distance(one.made, two.made)
    given = _distance(one.given, two.given)[1] if [t.shape for t in one.given] == [t.shape for t in two.given] else None
    return LayerDifference(
        name=one.name,
        other=two.name,
        kind=one.kind,
        other_kind=two.kind,
        call=one.index,
        shape=one.shape,
        other_shape=two.shape,
        absolute=absolute,
        relative=relative,
        input_relative=given,
        leaf=one.leaf,
        parent=one.call.parent.name if one.call.parent else "",
        differs=relative > tolerance,
        input_differs=given is not None and given > tolerance,
    )


def _distance(left: list, right: list) -> tuple[float, float]:
    """The largest absolute difference, and the largest relative to its tensor's largest value.

    NaN counts as equal to NaN.
    """
    import torch

    if [tensor.shape for tensor in left] != [tensor.shape for tensor in right]:
        return math.inf, math.inf
    absolute = relative = 0.0
    for one, two in zip(left, right):
        if one.device == two.device and one.dtype == two.dtype and torch.equal(one, two):
            continue  # without copies: most pairs before the first difference are equal
        wide = torch.complex128 if one.is_complex() or two.is_complex() else torch.float64
        one, two = one.to("cpu", wide), two.to("cpu", wide)
        same = (one == two) | (one.isnan() & two.isnan())
        if bool(same.all()):
            continue
        difference = (one - two).abs().masked_fill(same, 0).nan_to_num(math.inf, math.inf)
        scale = max(float(tensor.abs().nan_to_num(0, 0, 0).max()) for tensor in (one, two))
        absolute = max(absolute, float(difference.max()))
        relative = max(relative, float(difference.max()) / max(scale, 1e-300))
    return absolute, relative


def written(shape: tuple[int, ...] | None) -> str:
    return "nothing" if shape is None else " × ".join(map(str, shape)) or "one number"
