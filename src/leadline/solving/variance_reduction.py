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


def balance(
    g: Tensor,
    answers: Tensor,
    other: Tensor,
    avoid: Tensor | None,
    shards: Shards,
    counts: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None,
) -> Tensor:
    """Noise made orthogonal to other rows and to itself; as it is where the rows leave no room.

    Args:
        g: (m, n) fresh noise, or (S, m, n) for S seeds, and so for the rest.
        answers: (q, n) earlier answers, nearly orthonormal themselves.
        other: (r, n) orthonormal rows. avoid: (p, n) any rows, dependent ones too.
        counts: (S,) rows of each seed's answers, other and g; the remaining rows are zero.
    """
    n, inner, start = shards.n, shards.inner, g
    rows = counts or [np.array([x.shape[-2]]) for x in (answers, other, g)]
    roomy = rows[0] + rows[1] + rows[2] + (0 if avoid is None else avoid.shape[-2]) <= n // 2
    if not roomy.any():
        return g
    if avoid is not None:
        wide = avoid.double()
        (gram,) = inner((wide, wide))
        if not gram.isfinite().all():
            raise FloatingPointError("the features are not finite")
        values, vectors = torch.linalg.eigh(gram)
        scale = torch.where(values > 1e-6 * values[..., -1:], values.rsqrt(), 0.0)
        avoid = ((vectors * scale[..., None, :]).mT @ wide).to(g)
    for _ in range(2):
        for known in (answers, avoid, other):
            if known is not None:
                (part,) = inner((g, known))
                g = g - part @ known
    wide = g.double()
    (gram,) = inner((wide, wide))
    norm = torch.from_numpy(np.sqrt((n - rows[1]) / n)).to(g)
    if counts is None:
        factor = torch.linalg.cholesky(gram)
        return torch.linalg.solve_triangular(factor, wide, upper=False).to(g) * norm
    free = torch.arange(g.shape[-2]) >= torch.from_numpy(rows[2])[:, None]
    gram.diagonal(dim1=-2, dim2=-1).add_(free.to(gram))
    # A seed without room has no factor; its noise stays as it is.
    factor, _ = torch.linalg.cholesky_ex(gram)
    even = torch.linalg.solve_triangular(factor, wide, upper=False).to(g) * norm[:, None, None]
    return torch.where(torch.from_numpy(roomy).to(g.device)[:, None, None], even, start)
