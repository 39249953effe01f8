"""Growing orthonormal bases, and Gram-Schmidt in a fixed order with truncation."""

from __future__ import annotations

import math
import os
import tempfile

import numpy as np
import torch
from torch import Tensor

from leadline.dynamics.shards import Shards
from leadline.dynamics.small import cholesky, inverted

# Smallest remainder, relative to the question, that can be told from rounding.
FLOOR = {torch.float32: 1e-5, torch.float64: 1e-12}
# A float64 Gram matrix resolves squared remainders down to this fraction of the diagonal; what
# lies below waits for the next round, where it is measured from its own, smaller remainder.
_RESOLVED = 1e-10


class Rows:
    """Rows (q, n) in a buffer that grows; a row is contiguous, so appending copies nothing else.

    Args:
        dtype: of the rows that are given and of ``view``.
        storage: of the buffer; None is dtype.
        spill: folder for a file that holds the buffer, mapped into memory; None is memory.
    """

    def __init__(
        self,
        n: int,
        dtype: torch.dtype,
        device: torch.device,
        expected: int = 0,
        storage: torch.dtype | None = None,
        spill: str | None = None,
    ) -> None:
        self.count = 0
        self.dtype, self._spill = dtype, spill
        self._expected = expected if device.type == "cpu" else 0
        self._buffer = torch.empty((0, n), dtype=storage or dtype, device=device)

    @property
    def stored(self) -> Tensor:
        """(q, n) as they are kept, no copy."""
        return self._buffer[: self.count]

    @property
    def view(self) -> Tensor:
        """(q, n): no copy unless they are stored with fewer digits."""
        return self.stored.to(self.dtype)

    def rounded(self, rows: Tensor) -> Tensor:
        """Rows as they will be after ``append``: what is kept of them is then exact."""
        return rows.to(self._buffer.dtype).to(self.dtype)

    def append(self, rows: Tensor) -> None:
        """Add (m, n) rows."""
        need = self.count + len(rows)
        if need > len(self._buffer):
            # On a CPU pages that nobody has written take no memory, so doubling is free there.
            grown = 2 if self._buffer.device.type == "cpu" else 1.25
            buffer = self._empty(max(need, int(grown * len(self._buffer)), self._expected))
            buffer[: self.count] = self.stored
            self._buffer = buffer
        self._buffer[self.count : need] = rows
        self.count = need

    def _empty(self, capacity: int) -> Tensor:
        old = self._buffer
        if self._spill is None or old.shape[1] == 0:
            return old.new_empty((capacity, old.shape[1]))
        # The file has no name any more: it goes with the process, however that ends.
        handle, path = tempfile.mkstemp(prefix="leadline-", dir=self._spill)
        os.close(handle)
        try:
            size = capacity * old.shape[1]
            flat = torch.from_file(path, shared=True, size=size, dtype=old.dtype)
        finally:
            os.unlink(path)
        return flat.view(capacity, old.shape[1])

    def mark(self) -> tuple[int, Tensor]:
        """A point to return to; rows before it are never overwritten."""
        return self.count, self._buffer

    def rollback(self, mark: tuple[int, Tensor]) -> None:
        """Forget every row appended since ``mark`` and free what the growth took."""
        self.count, self._buffer = mark


def choose(gram: np.ndarray, bound: np.ndarray) -> tuple[list[int], np.ndarray | None]:
    """Indices, in order, whose squared remainder after the chosen ones before exceeds the bound.

    Args:
        gram: (m, m) float64, inner products of the candidates.
        bound: (m,) absolute bounds on the squared remainders.

    Returns:
        The indices, and the Cholesky factor of their Gram matrix if it is at hand.
    """
    factor, failed = cholesky(gram)
    if not failed and (factor.diagonal() ** 2 > bound).all():
        return list(range(len(gram))), factor
    schur = gram.copy()
    chosen = []
    for j in range(len(gram)):
        if schur[j, j] > bound[j]:
            chosen.append(j)
            schur -= np.outer(schur[:, j] / schur[j, j], schur[j])
    return chosen, None


def extend(
    e: Tensor,
    sizes: np.ndarray,
    bound: np.ndarray,
    basis: Tensor,
    safe: float = 0.0,
    shards: Shards | None = None,
    gram: np.ndarray | None = None,
    lean: bool = False,
) -> Tensor:
    """Orthonormal directions of the remainders, in a fixed order, above their bounds.

    Gram-Schmidt by Cholesky factors of float64 Gram matrices; each direction is orthogonalised a
    second time unless rounding was amplified by less than ``safe``. A fixed order, not eigenvectors:
    rounding rotates degenerate ones, and answers would stop being reproducible.

    Args:
        e: (P, n) remainders, already projected off ``basis``.
        sizes: (P,) norms that the rows had before they were projected.
        bound: (P,) absolute bounds on the norms: what lies below is not a direction.
        basis: (q, n) orthonormal rows.
        safe: for float32, whose Gram matrices are exact in float64.
        shards: where the n neurons are; here all of them by default.
        gram: the remainders' Gram matrix (P, P) in float64, if it is at hand.
        lean: orthogonalise twice in any case, and without looking: nothing waits for the device.

    Returns:
        Directions k (m, n).

    Raises:
        FloatingPointError: if e is not finite.
    """
    shards = Shards(e.shape[1]) if shards is None else shards
    n = shards.n
    k = e[:0]
    rows, limits = e, bound**2
    while len(k) + len(basis) < n:
        if gram is None:
            wide = rows.double()
            gram = shards.inner((wide, wide))[0].cpu().numpy()
        squares = gram.diagonal()
        if not math.isfinite(squares.sum()):
            raise FloatingPointError("a question to the operator is not finite")
        above = squares > limits
        if not above.all():
            if not above.any():
                break
            index = above.nonzero()[0]
            rows, limits, sizes = rows[_there(index, rows)], limits[index], sizes[index]
            gram = gram[np.ix_(index, index)]
            squares = gram.diagonal()
        chosen, factor = choose(gram, np.maximum(limits, _RESOLVED * squares))
        chosen = chosen[: n - len(k) - len(basis)]
        if not chosen:
            break
        every = len(chosen) == len(rows)
        new, first = rows, sizes
        if not every:
            new, first = rows[_there(np.array(chosen), rows)], sizes[chosen]
        if factor is None or not every:
            factor, _ = cholesky(gram if every else gram[np.ix_(chosen, chosen)])
        inverse = inverted(factor)
        new = _there(inverse, new).to(new.dtype) @ new
        if lean or len(k) or e.dtype == torch.float64 or (np.abs(inverse) @ first).max() > safe:
            known = [earlier for earlier in (basis, k) if len(earlier)]
            for c, earlier in zip(
                shards.inner(*((new, earlier) for earlier in known)), known, strict=True
            ):
                new = torch.addmm(new, c, earlier, alpha=-1)
            # Nearly orthonormal already: its own precision is enough.
            (again,) = shards.inner((new, new))
            if lean:
                factor, _ = torch.linalg.cholesky_ex(again.double())
                new = torch.linalg.solve_triangular(factor.to(new.dtype), new, upper=False)
            else:
                factor, _ = cholesky(again.double().cpu().numpy())
                new = torch.from_numpy(inverted(factor)).to(new) @ new
        k = torch.cat([k, new]) if len(k) else new
        if every:
            break
        # What was not chosen may still hold a direction that its larger part hid.
        left = np.delete(np.arange(len(rows)), chosen)
        left = left[_RESOLVED * squares[left] > limits[left]]
        if not len(left):
            break
        rows, limits, sizes, gram = rows[_there(left, rows)], limits[left], sizes[left], None
        rows = torch.addmm(rows, shards.inner((rows, new))[0], new, alpha=-1)
    return k


def _there(x: np.ndarray, like: Tensor) -> Tensor:
    """On the device of ``like``, without waiting for it."""
    return torch.from_numpy(x).to(like.device, non_blocking=True)


def jittered_cholesky(gram: Tensor) -> Tensor:
    """L with L Lᵀ = gram (m, m) float64, up to rounding where it is singular (equal rows, m > n).

    Raises:
        FloatingPointError: if gram is not finite.
    """
    if not gram.isfinite().all():
        raise FloatingPointError("a question to the operator is not finite")
    scale = gram.diagonal().mean()
    for jitter in (0.0, 1e-15, 1e-14, 1e-13, 1e-12, 1e-11):
        added = gram + jitter * scale * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
        factor, failed = torch.linalg.cholesky_ex(added)
        if not failed:
            return factor
    values, vectors = torch.linalg.eigh(gram)
    return vectors * values.clamp_min(0).sqrt()
