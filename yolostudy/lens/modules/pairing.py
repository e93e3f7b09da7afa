"""Pairs of calls in two networks that belong together: by name, weights, shapes and order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np


def renaming(names) -> Callable[[str], str | None]:
    """A function from a name in a to the name in b, or None where `names` does not tell.

    Args:
        names: None, such a function, or a mapping of prefixes such as {"backbone.stem": "model.0"}.
    """
    if names is None:
        return lambda name: None
    if callable(names):
        return names
    prefixes = sorted(names, key=len, reverse=True)

    def rename(name: str) -> str | None:
        found = next((prefix for prefix in prefixes if not prefix or f"{name}.".startswith(f"{prefix}.")), None)
        return None if found is None else f"{names[found]}.{name.removeprefix(found).strip('.')}".strip(".")

    return rename


def paired(a: Sequence, b: Sequence, rename: Callable[[str], str | None]) -> dict[int, int]:
    """Index of each call in a -> index of its partner in b.

    Args:
        a, b: records of calls with name, index, leaf, kind, shapes, state and before; see
            `divergence.CallRecord`.
        rename: name in a -> name in b, or None where the name does not decide.
    """
    pairs: dict[int, int] = {}
    by_name = {(call.name, call.index): j for j, call in enumerate(b)}
    for i, call in enumerate(a):
        partner = by_name.get((rename(call.name), call.index))
        if partner is not None:
            pairs[i] = partner
    _pair_layers(a, b, pairs)
    _pair_containers(a, b, pairs)
    return pairs


def _pair_layers(a: Sequence, b: Sequence, pairs: dict[int, int]) -> None:
    """Pair the layers that names do not decide: by weights, shapes, class and order."""
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
    # A layer with the same weights as a layer elsewhere belongs to that one. Of several equal layers
    # (fresh norms), as many are taken as have a partner.
    counts = [Counter(calls[k].state for k in chosen) for calls, chosen in ((a, left), (b, right))]
    claimed_a = np.array([counts[1][a[i].state] >= counts[0][a[i].state] for i in left], bool)[:, None]
    claimed_b = np.array([counts[0][b[j].state] >= counts[1][b[j].state] for j in right], bool)
    taken = heavy & ~state & (claimed_a | claimed_b)
    fits = shapes & same(lambda call: tuple(shape for shape, _ in call.state)) & ~taken
    worth = fits * (1 + 2 * kind + 2 * name + 4 * (state & heavy))
    pairs_in_order = aligned(worth)
    free_a, free_b = [
        np.setdiff1d(np.arange(count), used)
        for count, used in zip(worth.shape, zip(*pairs_in_order) if pairs_in_order else ((), ()))
    ]
    # Layers that run in another order: a head may compute all boxes first, then all classes.
    for i in list(free_a):
        if len(free_b) and worth[i, free_b].max() > 0:
            best = free_b[worth[i, free_b].argmax()]
            pairs_in_order.append((i, best))
            free_a, free_b = free_a[free_a != i], free_b[free_b != best]
    pairs.update((left[i], right[j]) for i, j in pairs_in_order)
    # Layers of one class whose shapes differ, between two pairs that are known.
    known = np.array(sorted(pairs.items()), int).reshape(-1, 2)
    rest_a, rest_b = [left[i] for i in free_a], [right[j] for j in free_b]
    before_a, before_b = np.array(rest_a, int)[:, None] > known[:, 0], np.array(rest_b, int)[:, None] > known[:, 1]
    gap = (before_a[:, None] == before_b).all(-1) & kind[np.ix_(free_a, free_b)]
    pairs.update((rest_a[i], rest_b[j]) for i, j in aligned(gap * (1 + name[np.ix_(free_a, free_b)])))


def _pair_containers(a: Sequence, b: Sequence, pairs: dict[int, int]) -> None:
    """Pair two containers where the layers inside them are paired with one another."""

    def inside(calls: Sequence, known: Mapping[int, int]) -> dict[int, list[int]]:
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


def aligned(worth: np.ndarray) -> list[tuple[int, int]]:
    """The pairs (i, j), both rising, whose worth adds up to most. Worth 0 makes no pair.

    Source: Needleman and Wunsch, 1970, with gaps that cost nothing.
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
