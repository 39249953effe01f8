"""Growing orthonormal bases, and Gram-Schmidt in a fixed order with truncation."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

# Smallest remainder, relative to the question, that can be told from rounding.
FLOOR = {torch.float32: 1e-5, torch.float64: 1e-12}
# A float64 Gram matrix resolves squared remainders down to this fraction of the diagonal; what
# lies below waits for the next round, where it is measured from its own, smaller remainder.
_RESOLVED = 1e-10


class Rows:
    """Rows (q, n) in a buffer that grows; a row is contiguous, so appending copies nothing else."""

    def __init__(self, n: int, dtype: torch.dtype, device: torch.device, expected: int = 0) -> None:
        self.count = 0
        self._expected = expected if device.type == "cpu" else 0
        self._buffer = torch.empty((0, n), dtype=dtype, device=device)

    @property
    def view(self) -> Tensor:
        """(q, n), no copy."""
        return self._buffer[: self.count]

    def append(self, rows: Tensor) -> None:
        """Add (m, n) rows."""
        need = self.count + len(rows)
        if need > len(self._buffer):
            # On a CPU pages that nobody has written take no memory, so doubling is free there.
            grown = 2 if self._buffer.device.type == "cpu" else 1.25
            capacity = max(need, int(grown * len(self._buffer)), self._expected)
            buffer = torch.empty(
                (capacity, self._buffer.shape[1]),
                dtype=self._buffer.dtype,
                device=self._buffer.device,
            )
            buffer[: self.count] = self.view
            self._buffer = buffer
        self._buffer[self.count : need] = rows
        self.count = need

    def mark(self) -> tuple[int, Tensor]:
        """A point to return to; rows before it are never overwritten."""
        return self.count, self._buffer

    def rollback(self, mark: tuple[int, Tensor]) -> None:
        """Forget every row appended since ``mark`` and free what the growth took."""
        self.count, self._buffer = mark


def choose(gram: np.ndarray, bound: np.ndarray) -> list[int]:
    """Indices, in order, whose squared remainder after the chosen ones before exceeds the bound.

    Args:
        gram: (m, m) float64, inner products of the candidates.
        bound: (m,) absolute bounds on the squared remainders.
    """
    try:
        if (np.diag(np.linalg.cholesky(gram)) ** 2 > bound).all():
            return list(range(len(gram)))
    except np.linalg.LinAlgError:
        pass
    schur = gram.copy()
    chosen = []
    for j in range(len(gram)):
        if schur[j, j] > bound[j]:
            chosen.append(j)
            schur -= np.outer(schur[:, j] / schur[j, j], schur[j])
    return chosen


def extend(e: Tensor, bound: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
    """Orthonormal directions of the remainders, in a fixed order, above their bounds.

    Gram-Schmidt by Cholesky factors of float64 Gram matrices, each direction orthogonalised twice.
    A fixed order, not eigenvectors: rounding rotates degenerate ones, and answers would stop being
    reproducible.

    Args:
        e: (P, n) remainders, already projected off ``basis``.
        bound: (P,) absolute bounds on the norms: what lies below is not a direction.
        basis: (q, n) orthonormal rows.

    Returns:
        Directions k (m, n), and coefficients of e in them (P, m).

    Raises:
        FloatingPointError: if e is not finite.
    """
    n = e.shape[1]
    k = e.new_empty((0, n))
    rows, limits = e, bound.double().cpu().numpy()
    while len(k) + len(basis) < n:
        wide = rows.double()
        gram = (wide @ wide.mT).cpu().numpy()
        if not np.isfinite(gram).all():
            raise FloatingPointError("a question to the operator is not finite")
        above = np.flatnonzero(np.diag(gram) > limits**2)
        if len(above) == 0:
            break
        if len(above) < len(rows):
            rows, limits, gram = rows[above], limits[above], gram[np.ix_(above, above)]
        limit = np.maximum(limits**2, _RESOLVED * np.diag(gram))
        chosen = choose(gram, limit)[: n - len(k) - len(basis)]
        if not chosen:
            break
        every = len(chosen) == len(rows)
        new = rows if every else rows[chosen]
        new = _orthonormal(new, gram if every else gram[np.ix_(chosen, chosen)])
        for earlier in (basis, k):
            if len(earlier):
                new = torch.addmm(new, new @ earlier.mT, earlier, alpha=-1)
        new = _orthonormal(new)
        k = torch.cat([k, new]) if len(k) else new
        if every:
            break
        # What was not chosen may still hold a direction that its larger part hid.
        left = np.setdiff1d(np.arange(len(rows)), chosen)
        rows, limits = rows[left], limits[left]
        rows = torch.addmm(rows, rows @ new.mT, new, alpha=-1)
    return k, e @ k.mT


def _orthonormal(k: Tensor, gram: np.ndarray | None = None) -> Tensor:
    """Rows orthonormalised in order: L⁻¹k with k kᵀ = L Lᵀ."""
    if gram is None:
        # Nearly orthonormal already: its own precision is enough.
        gram = (k @ k.mT).double().cpu().numpy()
    inverse = np.linalg.inv(np.linalg.cholesky(gram))
    return torch.from_numpy(np.tril(inverse)).to(k) @ k
