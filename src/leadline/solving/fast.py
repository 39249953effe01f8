"""The fast operator: W(0) multiplied in O(n log n) and never remembered, and a learned part of low rank.

    W = s·W(0) + Rᵀ C Q,        W(0) = std·√max · Oᵀ diag(quantiles) O'    (``rotations.FastGaussian``)

It has the interface of ``operator.Operator`` and the same limit at infinite width, not its law at a
finite one. A query draws nothing and leaves nothing behind, so that there is nothing to forget: the rank is
that of what was learned, which is far below the number of queries. Q (q, n_in) and R (r, n_out) are
orthonormal rows; they take in the rows of every update and are cut back to the singular vectors that count.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from leadline.solving.basis import extend
from leadline.solving.configuration import Settings
from leadline.solving.rotations import FastGaussian
from leadline.solving.shards import Shards
from leadline.solving.updates import LearnedPart, MuonStep, Step
from leadline.solving.variance_reduction import Avoided

# Bases are cut once they have grown by so much since the last time: a cut costs as much as some queries.
_GROWTH = 1.5


class FastOperator:
    """W of one layer, (n_out, n_in), through a fast product and its learned part.

    Args:
        settings: ``reused`` False makes transposed products those of an independent W(0) with the same
            learned part; ``tol`` bounds what is cut from the learned part, relative to it.
        sequence: where W(0) comes from.
        n_in, n_out, std: shape and standard deviation of W(0); square with 1/√n by default.
    """

    def __init__(
        self,
        settings: Settings,
        sequence: np.random.SeedSequence,
        *,
        n_in: int | None = None,
        n_out: int | None = None,
        std: float | None = None,
    ) -> None:
        self.settings = settings
        n_in, n_out = n_in or settings.n, n_out or settings.n
        std = n_in**-0.5 if std is None else std
        dtype, device = settings.dtype, settings.device
        self._ahead = self._back = FastGaussian(n_out, n_in, std, sequence, dtype, device)
        if not settings.reused:
            entropy, key = sequence.entropy, sequence.spawn_key
            other = np.random.SeedSequence(entropy, spawn_key=(*key, 1))
            self._back = FastGaussian(n_out, n_in, std, other, dtype, device)
        self.learned = LearnedPart(dtype, device)
        self._near, self._far = _Basis(settings, n_in), _Basis(settings, n_out)
        self._kept = 0
        """The rank after the last cut."""

    @property
    def ranks(self) -> tuple[int, int]:
        """q and r of the learned part."""
        return self._near.count, self._far.count

    def query(
        self, u: Tensor, *, initial: Tensor | None = None, **drawing: Any
    ) -> tuple[Tensor, Tensor]:
        """W u for rows u (p, n_in): answers (p, n_out), and what ``update`` needs of u, here u itself.

        Args:
            initial: (p,) bool, rows to be answered by W(0) alone, without what was learned.
            drawing: the other options of ``Operator.query``, which say how answers are drawn and
                remembered; of no effect, since nothing is.
        """
        return self._answers(u, initial, ahead=True), u

    def query_transposed(
        self, z: Tensor, *, initial: Tensor | None = None, **drawing: Any
    ) -> tuple[Tensor, Tensor]:
        """Wᵀ z for rows z (p, n_out): answers (p, n_in), and z; the options are those of ``query``."""
        return self._answers(z, initial, ahead=False), z

    def sample(
        self, u: Tensor, *, initial: Tensor | None = None, avoid: Avoided | None = None
    ) -> Tensor:
        """The answers of ``query``."""
        return self._answers(u, initial, ahead=True)

    def _answers(self, x: Tensor, initial: Tensor | None, *, ahead: bool) -> Tensor:
        q, r = self.ranks
        learned, scale = self.learned, self.learned.scale
        near, far = (self._near, self._far) if ahead else (self._far, self._near)
        out = self._ahead(x) if ahead else self._back.transposed(x)
        if scale != 1.0:
            out.mul_(scale if initial is None else _chosen(initial, 1.0, scale, out))
        if not (q and r):
            return out
        table = learned.table.view(r, q)
        c = (x @ near.rows.mT) @ (table.mT if ahead else table)
        if initial is not None:
            c.masked_fill_(initial[:, None], 0.0)
        return out.addmm_(c, far.rows)

    def update(self, z: Tensor, u: Tensor, step: Step | MuonStep) -> None:
        """One step of the optimizer with gradient zᵀu.

        Args:
            z: (B, n_out), what ``query_transposed`` returned, scaled as the gradient is. u: (B, n_in), what
                ``query`` returned.
        """
        z, u = self._far.coordinates(z, together=True), self._near.coordinates(u)
        q, r = self.ranks
        self.learned.update(z, u, (r, q), step)
        if self.settings.tol and max(q, r) > _GROWTH * self._kept:
            self._cut()
            self._kept = max(self.ranks)

    def _cut(self) -> None:
        """Leave out the smallest directions of the learned part and of its momentum buffer.

        Both sides are cut to the leading eigenvectors of T Tᵀ/|T|² and TᵀT/|T|², summed over both tables T:
        what is lost of either is at most tol of its norm.
        """
        q, r = self.ranks
        learned = self.learned
        tables = [t for t in (learned.table, learned.table_buffer) if t.buffer.numel()]
        wide = [t.view(r, q).double().cpu() for t in tables]
        if not all(x.isfinite().all() for x in wide):
            raise FloatingPointError("the learned part is not finite")
        shares = [t / size for t in wide if (size := float(t.norm())) > 0]
        if not shares:
            return
        far = _leading(torch.stack([t @ t.mT for t in shares]).sum(0), self.settings.tol)
        near = _leading(torch.stack([t.mT @ t for t in shares]).sum(0), self.settings.tol)
        for t, values in zip(tables, wide, strict=True):
            t.replace((far.mT @ values @ near).to(t.buffer))
        self._far.turn(far)
        self._near.turn(near)

    def mark(self) -> tuple[Any, ...]:
        """A point to return to with ``rollback``: queries leave nothing behind."""
        return ()

    def rollback(self, mark: tuple[Any, ...]) -> None:
        """Forget every query since ``mark``."""

    def rest(self) -> None:
        """Nothing lies in files."""

    def tensors(self) -> dict[str, Tensor]:
        """The state for a checkpoint; W(0) follows from the seed."""
        learned = self.learned
        numbers = [
            learned.scale,
            learned.scale_buffer,
            self._near.defect,
            self._far.defect,
            self._kept,
        ]
        return {
            "Q": self._near.rows,
            "R": self._far.rows,
            "C": learned.table.buffer,
            "D": learned.table_buffer.buffer,
            "s": torch.tensor(numbers, dtype=torch.float64),
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Continue from ``tensors()``."""
        device, learned = self.settings.device, self.learned
        for basis, name in ((self._near, "Q"), (self._far, "R")):
            basis.rows = state[name].to(device).clone()
        for table, name in ((learned.table, "C"), (learned.table_buffer, "D")):
            table.replace(state[name].to(device).clone())
        learned.scale, learned.scale_buffer, *defects, kept = state["s"].tolist()
        self._near.defect, self._far.defect = defects
        self._kept = int(kept)


class _Basis:
    """Orthonormal rows (q, n) of one side of the learned part."""

    def __init__(self, settings: Settings, n: int) -> None:
        self._settings, self._shards = settings, Shards(n, device=settings.device)
        self.rows = torch.zeros((0, n), dtype=settings.dtype, device=settings.device)
        self.defect = 0.0
        """Bound on overlaps within the rows."""

    @property
    def count(self) -> int:
        return len(self.rows)

    def coordinates(self, x: Tensor, *, together: bool = False) -> Tensor:
        """Coefficients (B, q) of rows x (B, n), after what is new in them has joined the basis.

        Args:
            together: what is new is measured by the largest of the rows, not by each of them.
        """
        s, rows = self._settings, self.rows
        c = x @ rows.mT
        e = torch.addmm(x, c, rows, alpha=-1)
        squares = torch.linalg.vector_norm(x, dim=1).double().square().cpu().numpy()
        if not np.isfinite(squares).all():
            raise FloatingPointError("a query of the operator is not finite")
        bound = s.floor**2 * squares
        if together and len(bound):
            bound = np.full_like(bound, bound.max())
        k, self.defect = extend(
            e,
            squares,
            bound,
            rows,
            defect=self.defect,
            most=s.defect,
            shards=self._shards,
            lean=s.lean,
        )
        if not len(k):
            return c
        self.rows = torch.cat([rows, k])
        return torch.cat([c, e @ k.mT], dim=1)

    def turn(self, vectors: Tensor) -> None:
        """Leave the rows' combinations (q, k), orthonormal columns, in their place."""
        self.rows = vectors.mT.to(self.rows) @ self.rows


def _leading(gram: Tensor, tol: float) -> Tensor:
    """Eigenvectors (m, k) of a Gram matrix, without the smallest, of which at most tol²/2 is lost."""
    values, vectors = torch.linalg.eigh(gram)
    return vectors[:, values.clamp_min(0).cumsum(0) > 0.5 * tol**2]


def _chosen(rows: Tensor, there: float, elsewhere: float, like: Tensor) -> Tensor:
    """(p, 1): one value in the rows that are true, another elsewhere."""
    return torch.where(rows[:, None], like.new_tensor(there), like.new_tensor(elsewhere))
