"""In which order a training sees its samples; numbers only, no torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

#: What `Trainer` puts behind its seed for the order of its batches.
ORDER_OF_TRAINER = 1_000_003
#: Batches whose samples are sorted by size, so that little is padded.
_SORTED_BATCHES = 40


class BatchOrder:
    """Passes through samples, each in an order of its own: similar sizes beside each other within
    a batch, batches in any order. All of it follows from the seed and the step."""

    def __init__(self, size: NDArray[np.int64], batch: int, seed: Sequence[int]) -> None:
        """Nothing is drawn yet.

        Args:
            size: rows of each sample.
            batch: samples of a step; fewer samples make one step of all.
            seed: of the order.
        """
        self._size, self._batch, self._seed = size, batch, tuple(seed)
        self.steps_per_epoch = max(1, len(size) // batch)
        self._held: tuple[int, list[NDArray[np.int64]]] | None = None

    def __call__(self, step: int) -> NDArray[np.int64]:
        """Samples of a step."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if self._held is None or self._held[0] != epoch:
            self._held = (epoch, self._batches(epoch))
        return self._held[1][place]

    def _batches(self, epoch: int) -> list[NDArray[np.int64]]:
        rng = np.random.default_rng([*self._seed, epoch])
        order, window = rng.permutation(len(self._size)), self._batch * _SORTED_BATCHES
        found: list[NDArray[np.int64]] = []
        for start in range(0, len(order), window):
            part = order[start : start + window]
            part = part[np.argsort(self._size[part], kind="stable")]
            found += [part[at : at + self._batch] for at in range(0, len(part), self._batch)]
        whole = [one for one in found if len(one) == self._batch] or found
        return [whole[int(at)] for at in rng.permutation(len(whole))]
