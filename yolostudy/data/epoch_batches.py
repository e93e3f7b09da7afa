"""Which samples make which batch: an order that can be repeated, resumed and shared by processes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from .records import DataError


class EpochBatches(Sampler[list[tuple[int, int]]]):
    """Batches of (epoch, index) keys for one rank.

    The order of epoch e depends on (seed, e) only.
    """

    def __init__(
        self, count: int, batch_size: int, *, shuffle: bool, seed: int, drop_last: bool, rank: int, world_size: int
    ) -> None:
        self.count, self.batch_size, self.shuffle, self.seed = count, batch_size, shuffle, seed
        self.rank, self.world_size = rank, world_size
        self.epoch = self.skip = 0
        whole, rest = divmod(count, batch_size * world_size)
        self.length = whole + (rest > 0 and not drop_last)
        if not drop_last and 0 < rest < world_size:
            raise DataError(
                f"The last batch has {rest} image(s) for {world_size} processes. Use drop_last=True, another batch "
                "size, or fewer processes."
            )
        if self.length == 0:
            raise DataError(
                f"{count} images do not fill one batch of {batch_size} for {world_size} process(es). Use a smaller "
                "batch size."
            )

    def __len__(self) -> int:
        """Batches of a whole epoch, even if the next pass starts in the middle of one."""
        return self.length

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        # A list, not a generator, so that epoch and skip are read now and not with the first batch.
        return iter([self._batch(indices) for indices in self._global_batches()[self.skip :]])

    def _global_batches(self) -> list[np.ndarray]:
        order = (
            np.random.default_rng((self.seed, self.epoch)).permutation(self.count)
            if self.shuffle
            else np.arange(self.count)
        )
        step = self.batch_size * self.world_size
        return [order[start : start + step] for start in range(0, self.length * step, step)]

    def _batch(self, indices: np.ndarray) -> list[tuple[int, int]]:
        share = np.array_split(indices, self.world_size)[self.rank] if self.world_size > 1 else indices
        return [(self.epoch, index) for index in share.tolist()]
