"""The random generators of torch, Python and NumPy: what they stand at, and a stretch of program
that begins from a seed.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch


def state() -> tuple:
    """For `put_back`. On CUDA only where a program uses it already."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return torch.get_rng_state(), cuda, random.getstate(), np.random.get_state()


def put_back(state: tuple) -> None:
    torch.set_rng_state(state[0])
    torch.cuda.set_rng_state_all(state[1])
    random.setstate(state[2])
    np.random.set_state(state[3])


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """From this seed within, and as if nothing had been drawn afterwards."""
    before = state()
    try:
        torch.default_generator.manual_seed(seed)
        if before[1]:
            torch.cuda.manual_seed_all(seed)
        random.seed(seed)
        np.random.seed(seed)
        yield
    finally:
        put_back(before)
