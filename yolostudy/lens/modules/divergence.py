"""Two networks that should be equal, one input: the first module whose output differs, and by how
much.

Both networks run once with a hook on every module. Calls are then paired, by a name mapping where
one is given, else by what the modules
are: the same weights, the same shapes, the same place in the order of calls. Names and nesting may
differ, so our network can be laid beside Ultralytics'. A container is a pair where the layers
inside it are pairs; so code between modules (a forgotten shortcut, two maps joined in the wrong
order) shows in the first container whose output differs although all in it agrees.

Weights are compared as they are: copy them first, with `copy_weights` or with the course's own
`weights.transfer`.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...canvas import style
from ..watch import Call, in_mode, watched

# of the larger output's largest value: what another order of float32 additions makes over some
# sixty layers
TOLERANCE = 1e-5


@dataclass(frozen=True, slots=True)
class Row:
    """One call in each network, side by side.

    Attributes:
        name, other: of the module in a and in b; kind, other_kind: their classes.
        call: which call of that module in a, from 1.
        shape, other_shape: of the first tensor that each gave.
        absolute: the largest absolute difference of all tensors that the calls gave; infinite where
            shapes or NaNs differ.
        relative: the same, over the largest absolute value of either.
        input_relative: the same of what the calls were given; None where inputs cannot be compared.
        leaf: whether it called no module in turn. parent: the name of the module of a that called
            it.
        differs: relative is above the tolerance. input_differs: and so is input_relative.
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
    """What `first_divergence` found. `rows` stand in the order in which a's modules finished.

    Attributes:
        first: the first row that differs, or None.
        only_a, only_b: names of the calls without a partner. An extra layer is harmless as long as
            the rows after it agree.
        errors: what stopped a and b, or None; rows up to there are compared.
        tolerance: relative, above which a row differs.
    """

    rows: tuple[Row, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    errors: tuple[str | None, str | None]
    tolerance: float

    @property
    def first(self) -> Row | None:
        return next((row for row in self.rows if row.differs), None)

    @property
    def leaves(self) -> tuple[Row, ...]:
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
                f"Its input differs already while all modules before it agree: look at the code {after}, in the "
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
                lines.append(f"Shapes: {_written(row.shape)} and {_written(row.other_shape)}.")
            else:
                lines.append(
                    f"Largest difference {row.absolute:.3g}, which is {row.relative:.2g} of the largest value; shape "
                    f"{_written(row.shape)}."
                )
            lines.append(self.advice)
            agreeing = sum(not row.differs for row in self.leaves)
            lines.append(f"{agreeing} of {len(self.leaves)} pairs of layers agree (tolerance {self.tolerance:g}).")
        for title, names in (("Only in a", self.only_a), ("Only in b", self.only_b)):
            if names:
                lines.append(
                    f"{title}: {', '.join(names[:6])}{f' and {len(names) - 6} more' if len(names) > 6 else ''}."
                )
        lines += [f"{side} broke off: {error}" for side, error in zip("ab", self.errors) if error]
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

    Every output is copied until the comparison: at 640 pixels and one image that is about 0.5 GB
    for each nano; smaller images do as well.

    Args:
        a, b: any `nn.Module`s: mine and the reference, or ours and Ultralytics'. Both stay as they
            are, running statistics included.
        inputs: what both are called with. Random images serve better than a plain one, in which
            resampling cannot show.
        names: module name in a -> module name in b; a mapping of prefixes ({"backbone.stem":
            "model.0"}) or a function. What it does not name, or names without such a module in b,
            is paired by weights, shapes and order.
        tolerance: relative difference from which a row differs.
        training: compare in training mode, where batch statistics count. Evaluation mode otherwise,
            whatever mode they are in.
    """
    calls_a, error_a = _recorded(a, inputs, training)
    calls_b, error_b = _recorded(b, inputs, training)
    pairs = _paired(calls_a, calls_b, _renamed(names))
    rows = [_row(calls_a[i], calls_b[j], tolerance) for i, j in sorted(pairs.items())]
    only_a = [call.name for i, call in enumerate(calls_a) if call.leaf and i not in pairs]
    only_b = [call.name for j, call in enumerate(calls_b) if call.leaf and j not in set(pairs.values())]
    return Divergence(tuple(rows), tuple(only_a), tuple(only_b), (error_a, error_b), tolerance)


def copy_weights(
    source, target, names: Mapping[str, str] | Callable[[str], str | None] | None = None
) -> list[tuple[str, str]]:
    """Copy parameters and buffers from one network into another, by name, or by the order of shapes
    where no names are given.

    By order, both networks have to define their layers in the same order; one may have tensors more
    than the other.

    Args:
        names: module or tensor name in the source -> name in the target, as in `first_divergence`.

    Returns:
        (name in the source, name in the target) of everything copied.

    Errors: ValueError if a tensor of the target is left without a source; then nothing is copied.
        Parameters that cannot learn may be left:
    they are constants, such as the bins of Ultralytics' DFL.
    """
    import torch

    given, taken = (
        {name: held for name, held in m.state_dict().items() if isinstance(held, torch.Tensor)}
        for m in (source, target)
    )
    if names is None:
        left, right = list(given), list(taken)
        worth = np.array(
            [[(given[one].shape == taken[two].shape) * (1 + (one == two)) for two in right] for one in left], int
        )
        pairs = [(left[i], right[j]) for i, j in _aligned(worth.reshape(len(left), len(right)))]
    else:
        rename = _renamed(names)
        pairs = [(name, rename(name)) for name in given]
        pairs = [(name, new) for name, new in pairs if new in taken and given[name].shape == taken[new].shape]
    constants = {name for name, parameter in target.named_parameters() if not parameter.requires_grad}
    missing = taken.keys() - {new for _, new in pairs} - constants
    if missing:
        first = next(name for name in taken if name in missing)
        raise ValueError(
            f"copy_weights: {len(missing)} of {len(taken)} tensors find no source; the first is {first}, "
            f"{tuple(taken[first].shape)}."
        )
    with torch.no_grad():
        for name, new in pairs:
            taken[new].copy_(given[name])
    return pairs


# What is recorded
# --------------------------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class _Record:
    """A call that ended: copies of the tensors that it was given and that it made."""

    call: Call
    given: list
    made: list
    before: int  # how many calls had ended when it began: those after it, up to its own place, happened in it
    index: int  # which call of that name, from 1
    state: tuple  # of a leaf: see _state

    name = property(lambda self: self.call.name)
    leaf = property(lambda self: self.call.leaf)
    kind = property(lambda self: type(self.call.module).__name__)
    shapes = property(lambda self: tuple(tuple(tensor.shape) for tensor in self.made))
    shape = property(lambda self: self.shapes[0] if self.made else None)


def _recorded(model, inputs: Sequence, training: bool) -> tuple[list[_Record], str | None]:
    """Every call of a module, in the order in which they ended, and what stopped the network."""
    import torch
    from torch.utils._pytree import tree_map_only

    from .. import chance

    begun: dict[Call, tuple] = {}
    ended: list[_Record] = []
    times: Counter = Counter()
    state = functools.cache(_state)

    def enter(call: Call, given) -> None:
        begun[call] = len(ended), _copied(given)

    def leave(call: Call, output) -> None:
        before, given = begun.pop(call)
        times[call.name] += 1
        own = state(call.module) if call.leaf else ()
        ended.append(_Record(call, given, _copied(output), before, times[call.name], own))

    error = None
    # dropout draws the same for both
    with in_mode(model, training), watched(model, enter, leave) as calls, chance.seeded(0):
        try:
            with torch.no_grad():
                model(*tree_map_only(torch.Tensor, torch.clone, inputs))
        except Exception as caught:
            text = str(caught).splitlines()[0] if str(caught) else ""
            where = calls.broken.name if calls.broken is not None else ""
            error = f"{type(caught).__name__} in {where or 'its forward'}: {text}"
    return ended, error


def _copied(value) -> list:
    """Copies of the tensors in something, because an in-place activation would change what was
    recorded before it.
    """
    import torch

    from ..nan.values import tensors_in

    return [
        tensor.detach().clone() if tensor.layout is torch.strided else tensor.detach().to_dense()
        for tensor in tensors_in(value)
    ]


def _state(module) -> tuple:
    """What a layer is made of, to recognise it: shape and a hash of the bytes of every float tensor
    that it holds itself.
    """
    import torch

    held = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    held = [tensor.detach().cpu().contiguous() for tensor in held if tensor.is_floating_point()]
    return tuple((tuple(tensor.shape), hash(tensor.flatten().view(torch.uint8).numpy().tobytes())) for tensor in held)


# Which belongs to which
# --------------------------------------------------------------------------------------------------


def _renamed(names) -> Callable[[str], str | None]:
    if names is None:
        return lambda name: None
    if callable(names):
        return names
    prefixes = sorted(names, key=len, reverse=True)

    def rename(name: str) -> str | None:
        found = next((prefix for prefix in prefixes if not prefix or f"{name}.".startswith(f"{prefix}.")), None)
        return None if found is None else f"{names[found]}.{name.removeprefix(found).strip('.')}".strip(".")

    return rename


def _paired(a: list[_Record], b: list[_Record], rename: Callable[[str], str | None]) -> dict[int, int]:
    """Index of each call in a -> index of its partner in b."""
    pairs: dict[int, int] = {}
    by_name = {(call.name, call.index): j for j, call in enumerate(b)}
    for i, call in enumerate(a):
        partner = by_name.get((rename(call.name), call.index))
        if partner is not None:
            pairs[i] = partner
    _pair_layers(a, b, pairs)
    _pair_containers(a, b, pairs)
    return pairs


def _pair_layers(a: list[_Record], b: list[_Record], pairs: dict[int, int]) -> None:
    left = [i for i, call in enumerate(a) if call.leaf and i not in pairs]
    right = [j for j, call in enumerate(b) if call.leaf and j not in set(pairs.values())]

    def same(of: Callable) -> np.ndarray:
        """(len(left), len(right)) bool: where a property of two calls is equal."""
        numbers: dict = {}
        one, two = (
            [numbers.setdefault(of(calls[k]), len(numbers)) for k in chosen]
            for calls, chosen in ((a, left), (b, right))
        )
        return np.array(one, int)[:, None] == np.array(two, int)

    shapes, state = same(lambda call: call.shapes), same(lambda call: call.state)
    kind, name = same(lambda call: call.kind), same(lambda call: call.name)
    heavy = np.array([bool(a[i].state) for i in left], bool)[:, None]
    # A layer whose twin with the same weights is elsewhere belongs to that twin; of equal layers
    # (fresh norms), as many as have one.
    counts = [Counter(calls[k].state for k in chosen) for calls, chosen in ((a, left), (b, right))]
    spoken_a = np.array([counts[1][a[i].state] >= counts[0][a[i].state] for i in left], bool)[:, None]
    spoken_b = np.array([counts[0][b[j].state] >= counts[1][b[j].state] for j in right], bool)
    taken = heavy & ~state & (spoken_a | spoken_b)
    fits = shapes & same(lambda call: tuple(shape for shape, _ in call.state)) & ~taken
    worth = fits * (1 + 2 * kind + 2 * name + 4 * (state & heavy))
    aligned = _aligned(worth)
    free_a, free_b = [
        np.setdiff1d(np.arange(count), used) for count, used in zip(worth.shape, zip(*aligned) if aligned else ((), ()))
    ]
    # What is computed in another order: a head that does all boxes first and then all classes, say.
    for i in list(free_a):
        if len(free_b) and worth[i, free_b].max() > 0:
            best = free_b[worth[i, free_b].argmax()]
            aligned.append((i, best))
            free_a, free_b = free_a[free_a != i], free_b[free_b != best]
    pairs.update((left[i], right[j]) for i, j in aligned)
    # And what should have the same shape but has not, between two pairs that have.
    known = np.array(sorted(pairs.items()), int).reshape(-1, 2)
    rest_a, rest_b = [left[i] for i in free_a], [right[j] for j in free_b]
    before_a, before_b = np.array(rest_a, int)[:, None] > known[:, 0], np.array(rest_b, int)[:, None] > known[:, 1]
    gap = (before_a[:, None] == before_b).all(-1) & kind[np.ix_(free_a, free_b)]
    pairs.update((rest_a[i], rest_b[j]) for i, j in _aligned(gap * (1 + name[np.ix_(free_a, free_b)])))


def _pair_containers(a: list[_Record], b: list[_Record], pairs: dict[int, int]) -> None:
    """Two containers are a pair where what is paired inside the one is paired inside the other."""

    def inside(calls: list[_Record], known: Mapping[int, int]) -> dict[int, list[int]]:
        containers = ((index, call) for index, call in enumerate(calls) if not call.leaf)
        return {
            index: [k for k in range(call.before, index) if calls[k].leaf and k in known] for index, call in containers
        }

    back = {j: i for i, j in pairs.items()}
    groups: dict[frozenset, list[int]] = {}
    for j, members in inside(b, back).items():
        if members and j not in back:
            groups.setdefault(frozenset(members), []).append(j)
    for i, members in inside(a, pairs).items():
        if not members or i in pairs:
            continue
        candidates = groups.get(frozenset(pairs[member] for member in members), [])
        partner = next((j for j in candidates if a[i].shapes == b[j].shapes), None)
        if partner is not None:
            pairs[i] = partner
            candidates.remove(partner)


def _aligned(worth: np.ndarray) -> list[tuple[int, int]]:
    """The pairs in order that are worth most together (Needleman and Wunsch, 1970, without a price
    for gaps); 0 makes no pair.
    """
    best = np.zeros((len(worth) + 1, worth.shape[1] + 1))
    for i in range(len(worth)):
        best[i + 1, 1:] = np.maximum.accumulate(np.maximum(best[i, 1:], best[i, :-1] + worth[i]))
    pairs, i, j = [], *worth.shape
    while i and j:
        if best[i, j] == best[i - 1, j]:
            i -= 1
        elif best[i, j] == best[i, j - 1]:
            j -= 1
        else:
            i, j = i - 1, j - 1
            pairs.append((i, j))
    return pairs[::-1]


# Numbers and picture
# --------------------------------------------------------------------------------------------------


def _row(one: _Record, two: _Record, tolerance: float) -> Row:
    absolute, relative = _apart(one.made, two.made)
    given = _apart(one.given, two.given)[1] if [t.shape for t in one.given] == [t.shape for t in two.given] else None
    return Row(
        *(one.name, two.name, one.kind, two.kind, one.index, one.shape, two.shape, absolute, relative, given),
        *(
            one.leaf,
            one.call.parent.name if one.call.parent else "",
            relative > tolerance,
            given is not None and given > tolerance,
        ),
    )


def _apart(left: list, right: list) -> tuple[float, float]:
    """The largest absolute difference, and the largest in proportion to its tensor's largest value.

    NaN equals NaN.
    """
    import torch

    if [tensor.shape for tensor in left] != [tensor.shape for tensor in right]:
        return math.inf, math.inf
    absolute = relative = 0.0
    for one, two in zip(left, right):
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


def _written(shape: tuple[int, ...] | None) -> str:
    return "nothing" if shape is None else " × ".join(map(str, shape)) or "one number"


@style.house()
def draw_divergence(result: Divergence) -> style.StudyFigure:
    """A strip over all layers: below the tolerance a green stub, above it an orange bar; the strip
    under it names the parts of a.
    """
    rows = [row for row in result.rows if row.leaf or row is result.first]
    figure, axes = style.figure(height=3.3)
    floor, at = result.tolerance / 1e3, np.arange(len(rows))
    top = max([100 * result.tolerance, *(3 * row.relative for row in rows if math.isfinite(row.relative))])
    for wrong, colour, label in ((False, style.HIT, "agrees"), (True, style.FALSE_ALARM, "differs")):
        here = [(x, min(max(row.relative, 30 * floor), top)) for x, row in zip(at, rows) if row.differs == wrong]
        if here:
            axes.bar(
                *zip(*((x, height - floor) for x, height in here)), bottom=floor, width=0.9, color=colour, label=label
            )
    axes.axhline(result.tolerance, color=style.INK, linestyle=(0, (4, 3)), linewidth=1.2, label="tolerance")
    axes.set(yscale="log", ylim=(floor, top * 20), xlim=(-0.6, len(rows) - 0.4), ylabel="relative difference")
    axes.set_title(f"{sum(not row.differs for row in rows)} of {len(rows)} pairs agree")
    starts = [x for x, row in enumerate(rows) if x == 0 or _part(row) != _part(rows[x - 1])]
    shades, spread = ("#d6e6f5", "#fbe3cf"), [*starts, len(rows)]
    for number, (start, end) in enumerate(itertools.pairwise(spread)):
        axes.axvspan(start - 0.5, end - 0.5, ymax=0.05, color=shades[number % 2], zorder=3)
    few = len(starts) <= 40
    axes.set_xticks([(start + end - 1) / 2 for start, end in itertools.pairwise(spread)] if few else [])
    axes.set_xticklabels(
        [_part(rows[start]) for start in starts] if few else [],
        rotation=55,
        ha="right",
        rotation_mode="anchor",
        fontsize=8,
    )
    axes.grid(axis="x", visible=False)
    axes.tick_params(axis="x", length=0)
    if result.first is not None:
        x = rows.index(result.first)
        side = "right" if x > len(rows) / 2 else "left"
        note = f"{result.first.name or 'the whole'} ({result.first.kind})"
        arrow = dict(arrowstyle="-|>", color=style.INK)
        height = min(max(result.first.relative, 30 * floor), top)
        axes.annotate(
            note, (x, height), (x, top * 6), ha=side, va="center", fontsize=10, weight="bold", arrowprops=arrow
        )
    axes.legend(loc="lower right", bbox_to_anchor=(1, 0.98), ncols=3)
    return figure


def _part(row: Row) -> str:
    """As much of the name as fits under the strip: the first two words of the path, without the
    layer itself.
    """
    return ".".join(row.name.split(".")[:-1][:2]) or row.name
