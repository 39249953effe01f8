"""Less fluctuation at equal width, for extrapolating to the limit.

Fluctuations of relative size 1/√n that are no part of the limit are removed from the draws: the columns
of [U v] are made orthogonal with norm √n ("ends"), and every fresh noise is made orthogonal to the earlier
answers, to h_0, h_{l-1} and v, with its norm's expectation kept ("balanced"). What is left of the bias is
O(1/n); "none" is the law of a dense network.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from leadline.solving.shards import Shards

# Squared size, over that of all rows, below which a direction of rows to avoid may be rounding.
_ROUNDING = 1e-6

VARIANCE_REDUCTIONS = ("none", "ends", "balanced")


def orthogonal_ends(u: Tensor, v: Tensor, shards: Shards) -> tuple[Tensor, Tensor]:
    """The columns of [U v] made orthogonal, with norm √n; as they are if they do not fit."""
    n, d = shards.n, u.shape[1]
    q = torch.cat([u, v], dim=1).double().mT
    if len(q) > n // 2:
        return u, v
    for _ in range(2):
        factor = torch.linalg.cholesky(shards.inner((q, q))[0])
        q = torch.linalg.solve_triangular(factor, q, upper=False)
    q = q.mT * math.sqrt(n)
    return q[:, :d].to(u).contiguous(), q[:, d:].to(v).contiguous()


class Avoided:
    """Rows that balanced noise is made orthogonal to: some for a whole pass, others for one layer.

    They are made orthonormal where noise is first drawn, those of the pass once.

    Args:
        rows: (p, n), or (S, p, n) for S seeds, dependent ones too.
    """

    def __init__(self, rows: Tensor, shards: Shards) -> None:
        self._whole, self._shards = rows, shards
        self._whole_basis: Tensor | None = None
        self._layer: Tensor | None = None
        self._basis: Tensor | None = None

    def at(self, rows: Tensor) -> Avoided:
        """The same pass at a layer with rows (…, p, n) of its own."""
        self._layer, self._basis = rows, None
        return self

    @property
    def count(self) -> int:
        """The number of rows."""
        return self._whole.shape[-2] + (0 if self._layer is None else self._layer.shape[-2])

    def basis(self, broken: set[int] | None = None) -> Tensor:
        """Orthonormal rows (…, count, n) of the same span, zero where rows depend on others.

        Args:
            broken: where the places of seeds are noted whose rows are not finite, and zero here.

        Raises:
            FloatingPointError: if rows are not finite, without ``broken``.
        """
        if self._whole_basis is None:
            self._whole_basis = self._orthonormal(self._whole, None, broken)
        if self._layer is None:
            return self._whole_basis
        if self._basis is None:
            whole = self._whole_basis
            layer = self._orthonormal(self._layer, whole, broken)
            self._basis = torch.cat([whole, layer], dim=-2)
        return self._basis

    def _orthonormal(self, rows: Tensor, known: Tensor | None, broken: set[int] | None) -> Tensor:
        inner, left = self._shards.inner, rows
        if known is None:
            (squares,) = inner(squares=rows)
        else:
            c, squares = inner((rows, known), squares=rows)
            left = rows - c @ known
        wide = left.double()
        (gram,) = inner((wide, wide))
        finite = gram.isfinite().all(-1).all(-1)
        if not finite.all():
            if broken is None:
                raise FloatingPointError("the features are not finite")
            over = torch.nonzero(~finite)[:, 0].tolist()
            broken.update(over)
            gram[over], squares[over], left = 0.0, 0.0, left.clone()
            left[over] = 0.0
        values, vectors = torch.linalg.eigh(gram)
        least = _ROUNDING * squares.double().sum(-1, keepdim=True)
        scale = torch.where(values > least, values.rsqrt(), 0.0)
        return (vectors * scale[..., None, :]).mT.to(left) @ left


def balance(
    g: Tensor,
    answers: Tensor,
    other: Tensor,
    avoid: Avoided | None,
    shards: Shards,
    counts: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None,
    broken: set[int] | None = None,
) -> Tensor:
    """Noise made orthogonal to other rows and to itself; as it is where the rows leave no room.

    Args:
        g: (m, n) fresh noise, or (S, m, n) for S seeds, and so for the rest.
        answers: (q, n) earlier answers, nearly orthonormal themselves.
        other: (r, n) orthonormal rows. avoid: p more rows, or None.
        counts: (S,) rows of each seed's answers, other and g; the remaining rows are zero.
        broken: as of ``Avoided.basis``.
    """
    n, inner, start = shards.n, shards.inner, g
    rows = counts or [np.array([x.shape[-2]]) for x in (answers, other, g)]
    roomy = rows[0] + rows[1] + rows[2] + (0 if avoid is None else avoid.count) <= n // 2
    if not roomy.any():
        return g
    basis = None if avoid is None else avoid.basis(broken)
    for _ in range(2):
        for known in (answers, basis, other):
            if known is not None:
                (part,) = inner((g, known))
                g = g - part @ known
    # Noise off at most half of n rows is far from dependent: its own precision is enough.
    (gram,) = inner((g, g))
    gram = gram.double()
    norm = torch.from_numpy(np.sqrt((n - rows[1]) / n)).to(g)
    if counts is not None:
        free = torch.arange(g.shape[-2]) >= torch.from_numpy(rows[2])[:, None]
        gram.diagonal(dim1=-2, dim2=-1).add_(free.to(gram))
    # A seed without room has no factor; its noise stays as it is.
    factor, _ = torch.linalg.cholesky_ex(gram)
    eye = torch.eye(g.shape[-2], dtype=gram.dtype, device=gram.device)
    even = torch.linalg.solve_triangular(factor, eye, upper=False).to(g) @ g
    if counts is None:
        return even * norm
    even *= norm[:, None, None]
    return torch.where(torch.from_numpy(roomy).to(g.device)[:, None, None], even, start)
