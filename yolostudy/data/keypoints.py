"""What a set says of its keypoints: how many, their names, and which ones a mirror exchanges.

Every message names the file, and the line where the format has lines.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from .records import Problems, refuse

MAX_KEYPOINTS = 1000  # a face mesh has 478; a larger number is a mistake that would fill the memory
# The words for a side, whatever their case. All but left and right count only where they stand
# alone, as in `l_wing` and `eye.R`.
SIDES = re.compile(r"left|right|(?<![a-z0-9])(?:port|starboard|[lr])(?![a-z0-9])", re.IGNORECASE)
OTHER_SIDE = {"left": "right", "port": "starboard", "l": "r"}
OTHER_SIDE |= {right: left for left, right in OTHER_SIDE.items()}
TO_PAIR = (
    "Write, for each keypoint, the number of the one whose place it takes in a mirrored image; flipping twice must "
    "change nothing."
)


def opposite(name: str) -> str:
    """The name with its sides exchanged: `left wing tip` -> `right wing tip`, `nose` -> `nose`."""

    def exchange(found: re.Match) -> str:
        side = found[0]
        other = OTHER_SIDE[side.lower()]
        return other.upper() if side.isupper() else other.capitalize() if side[0].isupper() else other

    return SIDES.sub(exchange, name)


def mirror(keypoint_names: Sequence[str]) -> tuple[int, ...]:
    """The flip index of keypoints, found by exchanging `left` and `right` in their names."""
    numbers = {name: number for number, name in enumerate(keypoint_names)}
    return tuple(numbers.get(opposite(name), number) for number, name in enumerate(keypoint_names))


def checked_shape(where: Path | str, shape: object) -> tuple[int, int]:
    """(K, d) of a `kpt_shape`. Anything but [1 … MAX_KEYPOINTS, 2 or 3] is refused."""
    if not (isinstance(shape, list | tuple) and len(shape) == 2 and all(type(number) is int for number in shape)):
        what = f"kpt_shape is {_short(shape)}, which is not two whole numbers"
    elif not 1 <= shape[0] <= MAX_KEYPOINTS:
        what = f"kpt_shape is {_short(shape)}: an object has 1 to {MAX_KEYPOINTS} keypoints, not {shape[0]}"
    elif shape[1] not in (2, 3):
        what = f"kpt_shape is {_short(shape)}: a keypoint is 2 numbers (x y) or 3 (x y visibility), not {shape[1]}"
    else:
        return shape[0], shape[1]
    refuse(where, what, "Write the number of keypoints and the numbers for each, such as [4, 3].")


def checked_names(where: Path | str, names: object, count: int | None = None) -> tuple[str, ...]:
    """The keypoint names. Refused unless they are a list of `count` different names.

    Args:
        count: K, where the set states it elsewhere too.
    """
    if not isinstance(names, list | tuple):
        refuse(where, f"the keypoint names are {_short(names)}, which is not a list", "Write one name a keypoint.")
    if count is not None and len(names) != count:
        what = f"there are {len(names)} keypoint names, but kpt_shape says {count} keypoints"
        refuse(where, what, "Correct one of the two.")
    names = tuple(str(name) for name in names)
    if len(names) > MAX_KEYPOINTS:
        refuse(where, f"there are {len(names)} keypoint names", f"At most {MAX_KEYPOINTS} are possible; delete some.")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        refuse(where, f"two keypoints have the name {twice!r}", "Give each keypoint its own name.")
    return names


def checked_flip(where: Path | str, flip: object, keypoint_names: Sequence[str]) -> tuple[int, ...]:
    """The flip index; without one (None or empty), the one that the names tell.

    It is refused unless flipping twice gives every keypoint its own place back.
    """
    if flip is None or (isinstance(flip, list | tuple) and not flip):
        return mirror(keypoint_names)
    if not (isinstance(flip, list | tuple) and all(type(number) is int for number in flip)):
        refuse(where, f"the flip index is {_short(flip)}, which is not a list of whole numbers", TO_PAIR)
    if sorted(flip) != list(range(len(keypoint_names))) or any(flip[flip[k]] != k for k in flip):
        refuse(where, f"the flip index {_short(list(flip))} does not pair {len(keypoint_names)} keypoints", TO_PAIR)
    return tuple(flip)


def warn_of_flip(
    where: Path | str, keypoint_names: Sequence[str], flip: Sequence[int], problems: Problems, stated: bool = True
) -> None:
    """Warn where mirrored images would get wrong labels.

    The flip index exchanges nothing, and either some keypoints have a side by their names, or the
    set states nothing from which pairs could be known.

    Args:
        stated: whether the set states a flip index or keypoint names.
    """
    if tuple(flip) != tuple(range(len(keypoint_names))) or len(keypoint_names) < 2:
        return
    sided = [name for name in keypoint_names if opposite(name) != name]
    if sided:
        pairs = mirror(keypoint_names)
        shown = ", ".join(sided[:4]) + (", …" if len(sided) > 4 else "")
        what = f"the flip index exchanges nothing, although keypoints have a side ({shown})"
        remedy = f"Write the flip index {list(pairs)}." if pairs != tuple(flip) else TO_PAIR
        problems.warn(where, f"{what}: mirrored images get wrong labels", remedy)
    elif not stated:
        what = f"there is neither a flip index nor a name for the {len(keypoint_names)} keypoints"
        remedy = "If some are left and right, write flip_idx or kpt_names; if none is, write the identity as flip_idx."
        problems.warn(where, f"{what}: a mirrored image keeps their numbers", remedy)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
