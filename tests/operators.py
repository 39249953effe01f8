"""Operators that tests query: new ones, and one that was trained."""

import torch

from leadline.solving.configuration import Settings
from leadline.solving.noise import Noise
from leadline.solving.operator import Operator
from leadline.solving.updates import Step

F64, F32, BF16 = torch.float64, torch.float32, torch.bfloat16


def operator(n, dtype=F64, seed=0, scratch=True, **settings):
    noises = Noise(seed, (0,), n), Noise(seed, (1,), n) if scratch else None
    return Operator(Settings(n=n, dtype=dtype, **settings), *noises)


def normal(*shape, seed=0, dtype=F64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def trained(n=60, seed=0, momentum=0.0, decay=0.3, tol=0.0, **settings):
    """An operator that was asked on both sides and updated twice with decay, so that its scale is
    not 1, the transposed questions and their answers now, and those by W(0)."""
    op = operator(n, seed=seed, tol=tol, **settings)
    u, z = normal(3, n, seed=1), normal(4, n, seed=2)
    op.query(u)
    before, _ = op.query_transposed(z)
    for step in range(2):
        _, cu = op.query(u)
        _, cz = op.query_transposed(z[:3])
        op.update(cz / n, cu, Step(0.2 + 0.1 * step, momentum=momentum, decay=decay))
    assert abs(op.learned.scale - 1) > 0.05
    return op, z, op.query_transposed(z)[0], before


def same(answers, z, transposed, u, tolerance=1e-11):
    """z·(Wu) = (Wᵀz)·u."""
    left, right = z @ answers.mT, transposed @ u.mT
    scale = transposed.norm() * u.norm()
    return float((left - right).abs().max() / scale) < tolerance
