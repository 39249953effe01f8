"""Gram-Schmidt in a fixed order with truncation: new directions of an orthonormal basis."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from leadline.solving.shards import Shards

# Smallest remainder, relative to the query, that can be told from rounding.
FLOOR = {torch.float32: 1e-5, torch.float64: 1e-12}
# A float64 Gram matrix resolves squared remainders down to this fraction of the diagonal; what
# lies below waits for the next round, where it is measured from its own, smaller remainder.
_RESOLVED = 1e-10
_EPS = float(np.finfo(np.float64).eps)
# Squared remainder, relative to the row, that is rounding where a Gram matrix is singular.
_DEPENDENT = 1e-12
# Largest part of a direction that may be rounding before it is orthogonalised a second time.
_LOST = 0.1

# Multiplications up to which OpenBLAS, numpy's library, takes one thread for a product with a matrix, and
# with a vector. It keeps further ones waiting busily for some milliseconds, on cores that torch's threads
# need by then: solves took twice as long.
_ONE_THREAD, _ONE_THREAD_VECTOR = 64**3, 64**2
# Rows that are chosen from together: enough to make products of the rest.
_BLOCK = 32


def above_bound(c: Tensor, squares: np.ndarray, bound: np.ndarray) -> np.ndarray:
    """Rows (…, P) whose remainders may be above their bounds, by |u⊥|² = |u|² − |c|².

    Its rounding blurs tol, by less than a half, where ``Settings.blurred`` is false.

    Args:
        c: (…, P, q) coefficients. squares, bound: (…, P).
    """
    small = c.cpu().numpy()
    return squares - np.einsum("...ij,...ij->...i", small, small, dtype=np.float64) > bound


def choose(
    gram: np.ndarray, bound: np.ndarray, room: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Indices, in order, whose squared remainder after the chosen ones before exceeds the bound.

    Args:
        gram: (m, m) float64, inner products of the candidates.
        bound: (m,) absolute bounds on the squared remainders.
        room: most indices to choose.

    Returns:
        The indices, and the lower Cholesky factor of their Gram matrix.
    """
    m = len(gram)
    factor, failed = cholesky(gram)
    if not failed and (factor.diagonal() ** 2 > bound).all() and (room is None or m <= room):
        return np.arange(m), factor
    chosen = _in_order(gram, bound, m if room is None else room)
    index = np.array(chosen, dtype=np.intp)
    factor, failed = cholesky(gram[np.ix_(index, index)])
    while failed:  # what comes before the failure is right
        index = index[: failed - 1]
        factor, failed = cholesky(gram[np.ix_(index, index)])
    return index, factor


def _in_order(gram: np.ndarray, bound: np.ndarray, room: int) -> list[int]:
    """The indices of ``choose``: Cholesky's elimination by blocks, without rows below their bounds."""
    m, k, chosen = len(gram), 0, list[int]()
    # Coefficients of all rows along the directions of those chosen.
    c = np.empty((m, min(m, room)))
    for first in range(0, m, _BLOCK):
        end = min(first + _BLOCK, m)
        left = gram[first:end, first:end] - _times(c[first:end, :k], c[first:end, :k].T)
        here: list[int] = []
        with np.errstate(over="raise", invalid="raise"):  # training that diverges, not a warning
            for j in range(end - first):
                if left[j, j] > bound[first + j] and k + len(here) < room:
                    c[first:end, k + len(here)] = left[j] / np.sqrt(left[j, j])
                    left -= left[j] * (left[j, :, None] / left[j, j])
                    here.append(j)
        new = [first + j for j in here]
        chosen, there = chosen + new, k + len(new)
        if there >= room:
            break
        if new and end < m:
            across = gram[end:, new] - _times(c[end:, :k], c[new, :k].T)
            c[end:, k:there] = _times(across, inverted(np.tril(c[new, k:there])).T)
        k = there
    return chosen


def extend(
    e: Tensor,
    squares: np.ndarray,
    bound: np.ndarray,
    basis: Tensor,
    *,
    defect: float = 0.0,
    most: float = 0.0,
    shards: Shards | None = None,
    gram: np.ndarray | None = None,
    lean: bool = False,
    rounded: bool = False,
) -> tuple[Tensor, float]:
    """Orthonormal directions of the remainders, in a fixed order, above their bounds.

    Gram-Schmidt by Cholesky factors of float64 Gram matrices. A remainder that is a small part of its row
    amplifies rounding, and what the basis lacks of being orthonormal: directions are orthogonalised a
    second time unless both stay below ``most``, so that defects do not grow on one another. A fixed
    order, not eigenvectors: rounding rotates degenerate ones, and answers would stop being reproducible.

    Args:
        e: (P, n) remainders, already projected off ``basis``.
        squares: (P,) squared norms that the rows had before they were projected, in float64.
        bound: (P,) absolute bounds on the squared norms: what lies below is not a direction.
        basis: (q, n) orthonormal rows.
        defect: bound on overlaps within ``basis``.
        most: that they may grow to, for float32, whose Gram matrices are exact in float64.
        shards: where the n neurons are; here all of them by default.
        gram: the remainders' Gram matrix (P, P) in float64, if it is at hand.
        lean: orthogonalise twice in any case, without a decision that waits for the device.
        rounded: the basis is stored with fewer digits, which is more than ``defect`` knows of.

    Returns:
        Directions k (m, n), and the bound on overlaps once they belong to the basis.

    Raises:
        FloatingPointError: if e is not finite.
    """
    shards = Shards(e.shape[1]) if shards is None else shards
    room = shards.n - basis.shape[0]
    twice, eps = lean or e.dtype == torch.float64, torch.finfo(e.dtype).eps
    k, count, rows = e[:0], 0, e
    while count < room:
        if gram is None:
            wide = rows.double()
            (inner,) = shards.inner((wide, wide))
            gram = inner.cpu().numpy()
        remain = gram.diagonal()
        if not np.isfinite(remain).all():
            raise FloatingPointError("a query of the operator is not finite")
        pick = select(gram, squares, bound, room - count, eps + defect)
        if pick is None:
            break
        chosen, waiting, inverse, grown = pick
        every = len(chosen) == len(gram)
        new = rows if every else rows[_there(chosen, rows)]
        new = _there(inverse, new).to(new.dtype) @ new
        if not (twice or count) and grown <= most:
            defect = max(defect, grown)
        else:
            new = _again(new, [basis, k], shards, lean, rounded)
        k, count = torch.cat([k, new]) if count else new, count + len(chosen)
        if every:
            break
        left = remaining(remain, bound, chosen, waiting)
        if not len(left):
            break
        rows, bound, squares, gram = rows[_there(left, rows)], bound[left], squares[left], None
        (part,) = shards.inner((rows, new))
        rows = torch.addmm(rows, part, new, alpha=-1)
    return k, defect


def select(
    gram: np.ndarray, squares: np.ndarray, bound: np.ndarray, room: int, error: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float] | None:
    """Which of m remainders become directions in one round of Gram-Schmidt, and how.

    Args:
        gram: (m, m) float64, their inner products. squares, bound: as of ``extend``.
        room: most directions. error: relative rounding of the rows, with the overlaps of their basis.

    Returns:
        Indices chosen; indices that wait for the next round; rows (k, k) that make orthonormal directions
        of those chosen; and the largest part of a direction that is rounding. None where none is chosen.
    """
    remain = gram.diagonal()
    chosen, factor = choose(gram, np.maximum(bound, _RESOLVED * remain), room)
    if not len(chosen):
        return None
    inverse = inverted(factor)
    # What rounding makes of each direction: that of the rows, and that of their Gram matrix, which
    # counts in squares. One that is mostly rounding waits for the next round, and with it those
    # after it, which were orthogonalised against it.
    sizes = np.abs(inverse)
    lost = _times(sizes, np.sqrt(squares[chosen])) * error
    blurred = _times(sizes, np.sqrt(remain[chosen])) ** 2 * _EPS
    good = max(int(np.argmax(np.append(np.maximum(lost, blurred), np.inf) > _LOST)), 1)
    return chosen[:good], chosen[good:], inverse[:good, :good], float(lost[:good].max())


def remaining(
    remain: np.ndarray, bound: np.ndarray, chosen: np.ndarray, waiting: np.ndarray
) -> np.ndarray:
    """Indices that may still hold a direction, which their larger part hid."""
    left = np.delete(np.arange(len(remain)), chosen)
    return left[(_RESOLVED * remain[left] > bound[left]) | np.isin(left, waiting)]


def _again(new: Tensor, known: list[Tensor], shards: Shards, lean: bool, rounded: bool) -> Tensor:
    """Orthonormal rows, from rows (m, n) that nearly are, off what is known."""
    # Nearly orthonormal already: its own precision is enough. Where what is known is orthonormal too, the
    # Gram matrix of what is left needs no second sum over the neurons.
    *coefficients, gram = shards.inner(*((new, earlier) for earlier in known), (new, new))
    for c, earlier in zip(coefficients, known, strict=True):
        new = torch.addmm(new, c, earlier, alpha=-1)
        gram = torch.addmm(gram, c, c.mT, alpha=-1)
    if rounded:
        (gram,) = shards.inner((new, new))
    if lean:
        factor, _ = torch.linalg.cholesky_ex(gram.double())
        return torch.linalg.solve_triangular(factor.to(new.dtype), new, upper=False)
    factor, _ = cholesky(gram.double().cpu().numpy())
    return _there(inverted(factor), new).to(new.dtype) @ new


def _there(x: np.ndarray, like: Tensor) -> Tensor:
    """On the device of ``like``, without waiting for it."""
    return torch.from_numpy(x).to(like.device, non_blocking=True)


def gram_factor(gram: Tensor) -> Tensor:
    """L with L Lᵀ = gram (m, m) float64, up to rounding where it is singular (equal rows, m > n).

    Raises:
        FloatingPointError: if gram is not finite.
    """
    if not gram.isfinite().all():
        raise FloatingPointError("a query of the operator is not finite")
    factor, failed = torch.linalg.cholesky_ex(gram)
    if not (failed or nearly_singular(factor, gram)):
        return factor
    # In a fixed order, rows that depend on those before them add nothing: eigenvectors would turn with
    # the rounding.
    a = gram.cpu().numpy()
    chosen, small = choose(a, _DEPENDENT * a.diagonal())
    every = np.zeros_like(a)
    if len(chosen):
        every[:, chosen] = _times(a[:, chosen], inverted(small).T)
    return torch.from_numpy(np.tril(every)).to(gram.device)


def nearly_singular(factor: Tensor, gram: Tensor) -> Tensor:
    """Whether a pivot of a Cholesky factor (…, m, m) is mostly rounding, or not a number: (…)."""
    pivots = factor.diagonal(dim1=-2, dim2=-1).square()
    return ~(pivots > _DEPENDENT * gram.diagonal(dim1=-2, dim2=-1)).all(-1)


def cholesky(a: np.ndarray) -> tuple[np.ndarray, int]:
    """The lower factor of a float64 matrix, and 0, or the number of the first row that it has none for."""
    # LAPACK by torch: importing scipy's takes as long as a small solve.
    factor, failed = torch.linalg.cholesky_ex(torch.from_numpy(a))
    return factor.numpy(), int(failed)


def inverted(factor: np.ndarray) -> np.ndarray:
    """The inverse of a lower triangular factor, whose other half is zero."""
    eye = torch.eye(len(factor), dtype=torch.float64)
    return torch.linalg.solve_triangular(torch.from_numpy(factor), eye, upper=False).numpy()


def _times(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a b of float64 arrays."""
    few = a.size * b.shape[1] <= _ONE_THREAD if b.ndim == 2 else a.size <= _ONE_THREAD_VECTOR
    if few:
        return a @ b
    return (torch.from_numpy(a) @ torch.from_numpy(b)).numpy()
