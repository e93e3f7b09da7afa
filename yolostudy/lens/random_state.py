"""The random generators of torch, Python and NumPy: read and set their state, seed a block."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch


def get_state() -> tuple:
    """The state of all generators, for `set_state`. CUDA is read only where the program uses it."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return torch.get_rng_state(), cuda, random.getstate(), np.random.get_state()


def set_state(state: tuple) -> None:
    torch.set_rng_state(state[0])
    torch.cuda.set_rng_state_all(state[1])
    random.setstate(state[2])
    np.random.set_state(state[3])


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run the block from this seed; afterwards all generators continue as if it had not run."""
    before = get_state()
    try:
        torch.default_generator.manual_seed(seed)
        if before[1]:
            torch.cuda.manual_seed_all(seed)
        random.seed(seed)
        np.random.seed(seed)
        yield
    finally:
        set_state(before)
