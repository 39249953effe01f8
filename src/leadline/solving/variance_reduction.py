"""Less fluctuation at equal width, for extrapolating to the limit.

Fluctuations of relative size 1/√n that are no part of the limit are removed from the draws: the columns
of [U v] are made orthogonal with norm √n ("ends"), and every fresh noise is made orthogonal to the earlier
answers, to h_0, h_{l-1} and v, with its norm's expectation kept ("balanced"). What is left of the bias is
O(1/n); "none" is the law of a dense network.
"""

from __future__ import annotations

import math

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
    g: Tensor, answers: Tensor, other: Tensor, avoid: Tensor | None, shards: Shards
) -> Tensor:
    """Noise made orthogonal to other rows and to itself; as it is where the rows leave no room.

    Args:
        g: (m, n) fresh noise. answers: (q, n) earlier answers, nearly orthonormal themselves.
        other: (r, n) orthonormal rows. avoid: (p, n) any rows, dependent ones too.
    """
    n, inner = shards.n, shards.inner
    if len(answers) + len(other) + len(g) + (0 if avoid is None else len(avoid)) > n // 2:
        return g
    if avoid is not None:
        wide = avoid.double()
        (gram,) = inner((wide, wide))
        if not gram.isfinite().all():
            raise FloatingPointError("the features are not finite")
        values, vectors = torch.linalg.eigh(gram)
        keep = values > 1e-6 * values[-1]
        avoid = ((vectors[:, keep] * values[keep].rsqrt()).mT @ wide).to(g)
    for _ in range(2):
        for rows in (answers, avoid, other):
            if rows is not None:
                (part,) = inner((g, rows))
                g = torch.addmm(g, part, rows, alpha=-1)
    wide = g.double()
    (gram,) = inner((wide, wide))
    factor = torch.linalg.cholesky(gram)
    norm = math.sqrt((n - len(other)) / n)
    return torch.linalg.solve_triangular(factor, wide, upper=False).to(g) * norm
