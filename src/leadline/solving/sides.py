"""The two sides of an operator: which vectors were queried on each, and what was answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from leadline.solving.basis import extend
from leadline.solving.configuration import Settings
from leadline.solving.growing import Rows
from leadline.solving.noise import Draws
from leadline.solving.shards import Shards


@dataclass(frozen=True)
class Rectangle:
    """A matrix (n_out, n_in) with entries N(0, std²), and the draws for its n_in inputs."""

    n_out: int
    n_in: int
    std: float
    noise: Draws
    scratch: Draws | None = None


class Side:
    """One side of the operator: orthonormal queries and the answers of W̄ (or W̄ᵀ) to them.

    Args:
        near, far: the neurons of the queries, and those of the answers.
    """

    def __init__(self, s: Settings, near: Shards, far: Shards) -> None:

        def empty(neurons: Shards) -> Rows:
            return Rows(
                neurons.width,
                s.dtype,
                s.device,
                expected=s.expected,
                storage=s.storage,
                spill=s.spill,
                seeds=s.seeds,
            )

        self.queries, self.answers = empty(near), empty(far)
        self.shards, self.far = near, far
        self.defect = 0.0
        """Bound on overlaps within the queries."""

    def inner(self, *pairs: tuple[Tensor, Tensor], beyond: tuple[Tensor, Tensor]) -> list[Tensor]:
        """Sums over the queries' neurons, and for the last pair over the answers'."""
        if self.shards is self.far:
            return self.shards.inner(*pairs, beyond)
        return [*self.shards.inner(*pairs), *self.far.inner(beyond)]

    def directions(
        self, e: Tensor, squares: np.ndarray, bound: np.ndarray, s: Settings, **how: Any
    ) -> Tensor:
        """Orthonormal directions of remainders e, which are to join the queries; see ``extend``."""
        known, defect = self.queries.view, self.defect
        how |= dict(shards=self.shards, rounded=s.rounded)
        k, self.defect = extend(e, squares, bound, known, defect=defect, most=s.defect, **how)
        return k

    def mark(self) -> tuple[Any, Any]:
        """A point to return to with ``rollback``."""
        return self.queries.mark(), self.answers.mark()

    def rollback(self, mark: tuple[Any, Any]) -> None:
        """Forget what came since ``mark``."""
        self.queries.rollback(mark[0])
        self.answers.rollback(mark[1])

    def rest(self) -> None:
        """What lies in files leaves memory."""
        self.queries.rest()
        self.answers.rest()
