"""Copy the weights of one network into another, so that the two can be compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from .pairing import aligned, renaming


def copy_weights(
    source, target, names: Mapping[str, str] | Callable[[str], str | None] | None = None
) -> list[tuple[str, str]]:
    """Copy parameters and buffers from one network into another.

    Without names, tensors are matched by shape and order: both networks must define their layers in
    the same order. The source may have more tensors than the target.

    Args:
        names: module or tensor name in the source -> name in the target, as in `first_divergence`.

    Returns:
        (name in the source, name in the target) of everything copied.

    Errors: ValueError where a tensor of the target has no source; then nothing is copied. A
        parameter without a gradient may be left over: it is a constant, such as the bins of DFL.
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
        pairs = [(left[i], right[j]) for i, j in aligned(worth.reshape(len(left), len(right)))]
    else:
        rename = renaming(names)
        pairs = [(name, rename(name)) for name in given]
        pairs = [(name, new) for name, new in pairs if new in taken and given[name].shape == taken[new].shape]
    constants = {name for name, parameter in target.named_parameters() if not parameter.requires_grad}
    missing = taken.keys() - {new for _, new in pairs} - constants
    if missing:
        first = next(name for name in taken if name in missing)
        raise ValueError(
            f"copy_weights: {len(missing)} of {len(taken)} tensors of the target find no source; the first is {first}, "
            f"{tuple(taken[first].shape)}. Give `names`, from the source's names to the target's."
        )
    with torch.no_grad():
        for name, new in pairs:
            taken[new].copy_(given[name])
    return pairs
