"""W(0) drawn whole, given all that was revealed of it: what is cheapest once most of it is known.

A query of rows costs about 10 n·q operations a row at rank q, a product with a matrix that is stored 2 n².
From a rank of about a third of n on, and where a query's many small operations cost more than its
arithmetic, the rest of W̄ is drawn from its conditional law and the matrix is kept,

    W̄ = G + (Mᵀ − G Qᵀ) Q,      then      W̄ ← W̄ + Rᵀ (Y − R W̄),      G ~ N(0, 1/n)

(queries and answers as in ``operator``), the second line where the weights are reused: both sides'
answers are kept because R M ᵀ = Y Qᵀ. With independent weights the two lines make two matrices. Every
later answer has the law that the operator's would have had, without truncation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from leadline.solving.configuration import Settings
from leadline.solving.operator import Operator
from leadline.solving.updates import Step, StoredWeight

# Largest width: above it, drawing n² numbers and projecting them costs more than it saves.
WIDTH = 512
# Share of n that the rows queried, those of the next step included, are to reach.
_SHARE = 0.3


def pays(n: int, rows: int, steps_before: int, steps_left: int) -> bool:
    """Whether to complete W(0) before a step.

    Not a function of ranks, which differ between seeds: seeds that are solved together and one by one
    take the same decisions. Where every row is a new direction, balanced noise (``variance_reduction``) has
    no room by then; else what is drawn whole is not balanced.

    Args:
        rows: of a step.
    """
    return n <= WIDTH and rows * (steps_before + 1) >= _SHARE * n and rows * steps_left >= n


class CompleteOperator:
    """W/√n of one layer as a matrix, with the interface of ``Operator``.

    Args:
        initial: W̄ (n, n) of forward products and, with independent weights, that of transposed ones.
        weights: the same matrices as they are now.
        ranks: q and r of the operator that it was.
    """

    def __init__(
        self,
        settings: Settings,
        initial: tuple[Tensor, ...],
        weights: tuple[StoredWeight, ...],
        ranks: tuple[int, int],
    ) -> None:
        self.settings, self.initial, self.weights = settings, initial, weights
        self.ranks = ranks

    @classmethod
    def of(cls, o: Operator) -> CompleteOperator:
        """What is not known of an operator's W̄ is drawn from its noise."""
        query, answer = o.forward.queries.view, o.forward.answers.view
        other, back = o.transposed.queries.view, o.transposed.answers.view
        n, (q, r) = o.settings.n, o.ranks

        def onto_forward(w: Tensor) -> Tensor:
            return w + (answer.mT - w @ query.mT) @ query

        def onto_transposed(w: Tensor) -> Tensor:
            return w + other.mT @ (back - other @ w)

        if o.settings.reused:
            initial = (onto_transposed(onto_forward(o.noise_whole(n))),)
        else:
            initial = (onto_forward(o.noise_whole(n)), onto_transposed(o.noise_whole(n)))
        learned = o.learned

        def grown(scale: float, w: Tensor, table: Tensor) -> Tensor:
            return scale * w + other.mT @ (table @ query)

        weights = []
        for w in initial:
            value, buffer = grown(learned.scale, w, learned.table.view(r, q)), None
            if learned.table_buffer.buffer.numel():
                buffer = grown(learned.scale_buffer, w, learned.table_buffer.view(r, q))
            weights.append(StoredWeight(value, buffer))
        return cls(o.settings, initial, tuple(weights), o.ranks)

    def query(
        self, u: Tensor, *, initial: Tensor | None = None, **unused: Any
    ) -> tuple[Tensor, Tensor]:
        """(W/√n) u for rows u (P, n), and u, which ``update`` takes; ``initial`` as of ``Operator``."""
        return self._answers(u, initial, 0), u

    def query_transposed(
        self, z: Tensor, *, initial: Tensor | None = None, **unused: Any
    ) -> tuple[Tensor, Tensor]:
        """(W/√n)ᵀ z for rows z (P, n), and z."""
        return self._answers(z, initial, -1), z

    def sample(self, u: Tensor, *, initial: Tensor | None = None, **unused: Any) -> Tensor:
        """The answers of ``query``."""
        return self._answers(u, initial, 0)

    def _answers(self, x: Tensor, initial: Tensor | None, side: int) -> Tensor:
        def product(w: Tensor) -> Tensor:
            return x @ (w if side else w.mT)

        out = product(self.weights[side].value)
        if initial is None:
            return out
        return torch.where(initial[:, None], product(self.initial[side]), out)

    def update(self, z: Tensor, u: Tensor, step: Step) -> None:
        """One step of the optimizer with gradient zᵀu of rows z (B, n), scaled as it is, and u (B, n)."""
        gradient = z.mT @ u
        for weight in self.weights:
            weight.update(gradient, step)

    def mark(self) -> tuple[Any, ...]:
        """A point to return to with ``rollback``: queries leave nothing behind."""
        return ()

    def rollback(self, mark: tuple[Any, ...]) -> None:
        """Forget every query since ``mark``."""

    def rest(self) -> None:
        """Nothing lies in files."""

    def keep(self, seeds: list[int]) -> None:
        """Go on with some seeds of a leading axis."""
        self.initial = tuple(w[seeds] for w in self.initial)
        for weight in self.weights:
            weight.keep(seeds)

    def tensors(self) -> dict[str, Tensor]:
        """The state for a checkpoint."""
        out = {"ranks": torch.tensor(self.ranks)}
        for side, (initial, weight) in enumerate(zip(self.initial, self.weights, strict=True)):
            out |= {f"initial{side}": initial, f"whole{side}": weight.value}
            if weight.buffer is not None:
                out[f"buffer{side}"] = weight.buffer
        return out

    @classmethod
    def restored(cls, settings: Settings, state: Mapping[str, Tensor]) -> CompleteOperator:
        """Continue from ``tensors()``."""
        sides = range(1 if settings.reused else 2)
        # Copies, not views into a file: a product rounds by how its factors are aligned.
        here = {k: state[k].to(settings.device, copy=True) for k in state}
        weights = (StoredWeight(here[f"whole{i}"], here.get(f"buffer{i}")) for i in sides)
        q, r = here["ranks"].tolist()
        initial = tuple(here[f"initial{i}"] for i in sides)
        return cls(settings, initial, tuple(weights), (q, r))
