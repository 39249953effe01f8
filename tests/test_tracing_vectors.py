"""Vectors that make one number of a row (a readout without a matrix), and what is none."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import leadline as ll
from coordinates import slopes
from tracing_models import Stack, TwoLayers

BASE, TARGET = dict(width=32, depth=2), dict(width=128, depth=2)
X = torch.randn(6, 10, generator=torch.Generator().manual_seed(0))


class Head(nn.Module):
    def __init__(self, n, shape, make, draw=None):
        super().__init__()
        shape = [n // -s if s < 0 else s for s in shape]
        self.a = nn.Parameter(draw(*shape) if draw else torch.randn(shape) * n**-0.5)
        self.make, self.n = make, n

    def forward(self, h):
        return self.make(self, h)


def model(*head):
    """build(n, L); in shapes -k is n/k."""
    return lambda n, depth: Stack(
        nn.Linear(10, n), [TwoLayers(n) for _ in range(depth)], nn.LayerNorm(n), Head(n, *head)
    )


def row(build):
    plan = ll.plan(build, BASE, TARGET, inputs=X)
    f = plan.factors()["head.a"]
    return plan.kinds[plan.names["head.a"]].role, f.init, f.lr


def scores(s, h):
    """Those of a graph attention, four heads."""
    one = (h.view(-1, 4, s.n // 4) * s.a).sum(-1)
    return F.leaky_relu(one[:, None] + one[None]).softmax(1)


# Drawn as n^-½, of which 1/n is due: m^-½, and the rate 1/m.
READOUTS = {
    "a product with a vector": ([-1], lambda s, h: h @ s.a),
    "from the left": ([-1], lambda s, h: s.a @ h.T),
    "row by row": ([-1], lambda s, h: torch.stack([torch.dot(x, s.a) for x in h[:2]])),
    "a product and a sum": ([-1], lambda s, h: (h * s.a).sum(-1)),
    "a kept dimension": ([1, -1], lambda s, h: (s.a * h).sum(-1, keepdim=True)),
    "several rows": ([3, -1], lambda s, h: (h[:, None] * s.a).sum(2)),
    "a graph attention": ([1, 4, -4], scores),
    "of squares": ([-1], lambda s, h: (h * h * s.a).sum(-1)),
}


@pytest.mark.parametrize("name", READOUTS)
def test_a_vector_that_is_a_readout(name):
    assert row(model(*READOUTS[name])) == pytest.approx(("readout", 0.5, 0.25))


def test_a_root_that_is_divided_by_already():
    by_root = lambda s, h: (h * s.a).sum(-1) / s.n**0.5  # noqa: E731
    assert row(model([-1], by_root)) == pytest.approx(("readout", 1.0, 0.5))


def test_means_and_sums_of_few_entries_are_no_readouts():
    mean = lambda s, h: (h * s.a).sum(-1) / s.n  # noqa: E731
    assert row(model([-1], mean)) == pytest.approx(("vector", 2.0, 1.0))
    few = lambda s, h: (h.view(-1, s.n // 4, 4) * s.a).sum(-1).mean(-1)  # noqa: E731
    assert row(model([1, -4, 4], few)) == pytest.approx(("input", 2.0, 1.0))


OTHERS = {
    "broadcast": ([1], lambda s, h: (h * s.a).sum(-1)),
    "a ReLU between": ([-1], lambda s, h: (h * s.a).relu().sum(-1)),
    "a part of the product": ([-1], lambda s, h: (p := h * s.a).sum(-1) + p[:, 0]),
    "no parameter": ([-1], lambda s, h: (h * h.flip(0)).sum(-1) + (h * s.a).sum(-1)),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_sums_are_refused(name):
    # Of two tensors without a parameter it is a product of rows.
    match = (
        "multiplies two tensors" if name == "no parameter" else "sums over a dimension that grows"
    )
    with pytest.raises(ValueError, match=match):
        ll.plan(model(*OTHERS[name]), BASE, TARGET, inputs=X)


def test_a_vector_of_ones_that_is_summed_is_no_draw():
    with pytest.raises(ValueError, match=r"head\.a"):
        ll.plan(model([-1], lambda s, h: h @ s.a, torch.ones), BASE, TARGET, inputs=X)


def test_a_vector_of_zeros_stays():
    role, _, lr = row(model([-1], lambda s, h: h @ s.a, torch.zeros))
    assert (role, lr) == ("readout", 0.25)


@pytest.mark.parametrize("name", ["a product with a vector", "a product and a sum"])
def test_the_change_of_the_output_keeps_its_size(name):
    build = model(*READOUTS[name])
    plan = ll.plan(build, dict(width=64, depth=2), inputs=X)
    assert abs(slopes(plan, build, X, widths=[64, 128, 256], lr=3e-3)["head"][1]) < 0.2
