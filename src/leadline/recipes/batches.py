"""The order in which a training reads its samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

# Entropy words that keep the batch order apart from the weights' streams of the same seed.
_BATCH_ORDER = 0x6261746368


class Batches(Sequence[np.ndarray]):
    """The batches of a training, made on access: one epoch's order is held at a time.

    Going on costs an epoch's order an epoch; going back starts again at the first.
    """

    def __init__(self, samples: int, size: int, steps: int, seed: int) -> None:
        self._samples, self._size, self._steps, self._seed = samples, size, steps, seed
        self._each = -(-samples // size)
        self._epoch, self._order = -1, np.arange(samples)

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, step: Any) -> Any:
        if isinstance(step, slice):
            return [self[k] for k in range(*step.indices(self._steps))]
        if not -self._steps <= step < self._steps:
            raise IndexError(step)
        if self._size == self._samples:
            return self._order
        epoch, at = divmod(step % self._steps, self._each)
        if epoch < self._epoch or self._epoch < 0:
            self._rng, self._epoch = np.random.default_rng([_BATCH_ORDER, self._seed]), -1
        while self._epoch < epoch:
            self._order = self._rng.permutation(self._samples)
            self._epoch += 1
        return self._order[at * self._size : (at + 1) * self._size]
