"""Which name of a checkpoint a renaming maps to which name of a model."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

ASIDE = "not asked for"  # a constant, which the renaming gives no name, or a name outside of the part
FATES = ("matched", "wrong shape", "missing", "unexpected", ASIDE)

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Key:
    """One tensor, in the checkpoint, in the model, or in both.

    Attributes:
        key, shape: in the checkpoint, or None.
        layer: of the checkpoint, such as "model.9", or "".
        name, own_shape, own_layer: the same in the model. For an unexpected key, `name` is the
            result of the renaming.
        fate: one of FATES.
        count: number of values in the tensor, by the model's shape where it has one.
    """

    key: str | None
    shape: Shape | None
    layer: str
    name: str | None
    own_shape: Shape | None
    own_layer: str
    fate: str
    count: int


@dataclass(frozen=True, slots=True)
class KeyMap:
    """Every name of both sides.

    Attributes:
        keys: those of the checkpoint in its order, then those of the model that no key is mapped
            to.
        order: all of the model's names.
    """

    keys: tuple[Key, ...]
    order: tuple[str, ...]

    @property
    def fates(self) -> dict[str, int]:
        """Fate -> number of names."""
        found = Counter(key.fate for key in self.keys)
        return {fate: found[fate] for fate in FATES}

    @property
    def share(self) -> float:
        """The share of the values asked for that match, 0…1."""
        asked = sum(key.count for key in self.keys if key.own_shape is not None and key.fate != ASIDE)
        return sum(key.count for key in self.keys if key.fate == "matched") / (asked or 1)

    def search(self, text: str = "", fate: str = "") -> tuple[Key, ...]:
        """The keys with this text in a name on either side and this fate; "" stands for any."""
        return tuple(
            key for key in self.keys if fate in ("", key.fate) and (text in (key.key or "") or text in (key.name or ""))
        )

    def __str__(self) -> str:
        return (
            ", ".join(f"{count} {fate}" for fate, count in self.fates.items() if count)
            + f"; {self.share:.1%} of the numbers fit"
        )


def map_keys(state: Mapping, model, rename: Callable[[str], str | None] | None = None, part: str = "all") -> KeyMap:
    """Rename every key of a checkpoint and look it up in a model. Nothing is copied.

    Args:
        state: name -> tensor.
        model: any module, or its state dict.
        rename: a checkpoint's key -> the model's name, or None for a key that the model does not
            need; by default `weights.rename_key` of the edition in use. Of two keys with one name
            the last counts, as in a dictionary, and the other is unexpected.
        part: "all", or a prefix such as "backbone".
    """
    if rename is None:
        from ...weights import rename_key as rename
    own = {name: tuple(tensor.shape) for name, tensor in getattr(model, "state_dict", lambda: model)().items()}
    asked = {name for name in own if part == "all" or name.startswith(f"{part}.")}
    names = {key: rename(key) for key in state}
    last = {name: key for key, name in names.items()}
    # The head of an Ultralytics checkpoint is one layer with two branches: a layer whose names go to
    # several layers of the model is split.
    reached: dict[str, set[str]] = {}
    for key, name in names.items():
        if name in own:
            reached.setdefault(layer_of(key), set()).add(layer_of(name))
    keys = []
    for key, tensor in state.items():
        name, shape = names[key], tuple(tensor.shape)
        layer = layer_of(key, 3 if len(reached.get(layer_of(key), ())) > 1 else 2)
        if not name or (part != "all" and not name.startswith(f"{part}.")):
            fate = ASIDE
        elif name not in asked or last[name] != key:
            fate = "unexpected"
        else:
            fate = "matched" if own[name] == shape else "wrong shape"
        there = fate != "unexpected" and name in own
        own_shape, own_layer = (own[name], layer_of(name)) if there else (None, "")
        keys.append(Key(key, shape, layer, name, own_shape, own_layer, fate, math.prod(own_shape or shape)))
    for name, shape in own.items():
        if name not in last:
            fate = "missing" if name in asked else ASIDE
            keys.append(Key(None, None, "", name, shape, layer_of(name), fate, math.prod(shape)))
    return KeyMap(tuple(keys), tuple(own))


def layer_of(key: str, words: int = 2) -> str:
    """The layer that a name is counted to: its first words, without the last of all."""
    return ".".join(key.split(".")[:-1][:words]) or key
