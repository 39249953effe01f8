"""Products with a wide weight are those of dense entries: values, gradients of inputs and weight."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from leadline.matrixfree import products, views  # noqa: F401  (both fill the table of torch's functions)
from leadline.matrixfree.matrix import Passes, WideMatrix
from leadline.matrixfree.weight import Layout, WideWeight
from leadline.solving.configuration import Settings
from leadline.solving.fast import FastOperator


def wide(rows, columns, experts=0, kernel=()):
    """A weight, its entries, and its matrices."""
    settings = Settings(
        n=rows, expected=rows, reused=True, tol=0.0, dtype=torch.float64, device=torch.device("cpu")
    )
    made, passes = [], Passes()
    for e in range(experts or 1):
        answers = FastOperator(
            settings, np.random.SeedSequence(e), n_in=columns, n_out=rows, std=0.5
        )
        made.append(WideMatrix(rows, columns, answers, passes, torch.float64, whole=True))
    layout = Layout("w", tuple(made), (0, rows), (0, columns), stacked=experts > 0, kernel=kernel)
    entries = torch.stack([m.initial() for m in made]).reshape(layout.shape)
    weight = WideWeight.parameter(layout, torch.float64, torch.device("cpu"))
    return weight, entries.requires_grad_(), made


def same(function, x_shape, *shape, **options):
    weight, entries, made = wide(*shape, **options)
    g = torch.Generator().manual_seed(0)
    xs = [torch.randn(x_shape, generator=g, dtype=torch.float64) for _ in range(1)]
    a, b = (x.clone().requires_grad_() for x in xs * 2)
    y, z = function(a, weight), function(b, entries)
    assert y.shape == z.shape
    torch.testing.assert_close(y, z, rtol=1e-12, atol=1e-12)
    c = torch.randn(z.shape, generator=g, dtype=torch.float64)
    with made[0].passes.gradient():
        (y * c).sum().backward()
    (z * c).sum().backward()
    torch.testing.assert_close(a.grad, b.grad, rtol=1e-12, atol=1e-12)
    formed = torch.stack([u.mT @ v for u, v in (m.gradient() for m in made)])
    torch.testing.assert_close(formed.reshape(entries.shape), entries.grad, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(
    "function",
    [
        lambda x, w: F.linear(x, w),
        lambda x, w: F.linear(input=x, weight=w[2:5]),
        lambda x, w: x @ w.mT / 3,
        lambda x, w: (w @ x.mT).mT,
        lambda x, w: torch.einsum("bpi,ji->jbp", x, w),
        lambda x, w: torch.cat([F.linear(x, p) for p in w.split([1, 7])], -1),
        lambda x, w: F.linear(x, w.narrow(0, -3, 2)) * 2,
        lambda x, w: F.linear(x[..., :4], w[:, 8:]) + F.linear(x, w).sum(-1, keepdim=True),
        lambda x, w: F.linear(x, w.detach()) + F.linear(x, w) ** 2,
    ],
)
def test_matrices(function):
    same(function, (3, 5, 12), 8, 12)


@pytest.mark.parametrize("options", [{}, dict(stride=2), dict(dilation=2, padding="same")])
@pytest.mark.parametrize("groups", [1, 2])
def test_convolutions(options, groups):
    def function(x, w):
        return F.conv2d(x, w, groups=groups, **options)

    same(function, (2, 3 * groups, 7, 6), 8, 3 * 6, kernel=(2, 3))


def test_experts():
    same(lambda x, w: x @ w, (3, 5, 8), 8, 12, experts=3)
    same(lambda x, w: torch.einsum("pi,eij->pj", x, w), (5, 8), 8, 12, experts=3)
