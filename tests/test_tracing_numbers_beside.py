"""Numbers that vary with width: one plan however they are written, refused where they reach more."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import leadline as ll
from test_tracing_products import BASE, ROWS, TARGET, X, attend, net, readout, square

# Pairs that compute the same, and how what grows is written.
SPELLINGS = {
    "alpha of addmm": (
        lambda s, h: torch.addmm(h.new_zeros(3), h, s.o.weight.T, alpha=1 / s.n),
        lambda s, h: h @ s.o.weight.T * (1 / s.n),
    ),
    "alpha of a sum": (
        lambda s, h: s.o(torch.add(h, s.q(h), alpha=s.n**-0.5)),
        lambda s, h: s.o(h + s.q(h) * s.n**-0.5),
    ),
    "behind alpha": (
        lambda s, h: torch.add(s.o(h), s.r(h / s.n), alpha=2.0),
        lambda s, h: s.o(h) + s.r(h / s.n) * 2.0,
    ),
    "value of addcmul": (
        lambda s, h: s.o(torch.addcmul(h, s.q(h), s.k(h), value=s.n**-0.5)),
        lambda s, h: s.o(h + s.q(h) * s.k(h) * s.n**-0.5),
    ),
    "a factor of addcmul": (
        lambda s, h: s.o(torch.addcmul(h, s.q(h) * s.n**-0.5, s.k(h))),
        lambda s, h: s.o(h + s.q(h) * s.n**-0.5 * s.k(h)),
    ),
    "a product behind alpha": (
        lambda s, h: torch.add(s.o(h), (s.q(h) @ s.k(h).mT)[:, :3], alpha=0.5),
        lambda s, h: s.o(h) + (s.q(h) @ s.k(h).mT)[:, :3] * 0.5,
    ),
    "a product in addcmul": (
        lambda s, h: torch.addcmul(s.o(h), s.o(h).cos(), (s.q(h) @ s.k(h).mT)[:, :3]),
        lambda s, h: s.o(h) + s.o(h).cos() * (s.q(h) @ s.k(h).mT)[:, :3],
    ),
}  # fmt: skip
PARTS = dict(q=square, k=square, v=square, c=square, o=readout, r=readout)


def factors_of(run):
    """What the plan multiplies each parameter's settings by."""
    plan = ll.plan(net(run, **PARTS), BASE, TARGET, scheme="mup", inputs=X)
    return {n: (f.fold, f.init, f.lr) for n, f in plan.factors().items()}


@pytest.mark.parametrize("name", SPELLINGS)
def test_two_spellings_of_one_function_have_one_plan(name):
    one, other = (factors_of(run) for run in SPELLINGS[name])
    assert one == other
    # Of what the width asks for something is left to do.
    assert any(fold != 1 or init != 1 for fold, init, _ in one.values())


def shaw(s, h):
    """Positions that keys have: their products with queries are in one sum with the others."""
    q = s.q(h)
    logits = q @ s.k(h).mT + torch.einsum("bin,ijn->bij", q, s.p.view(5, 5, -1))
    return s.o((logits * s.n**-0.5).softmax(-1) @ s.v(h))


def seen_twice(s, h):
    logits = s.q(h) @ s.k(h).mT
    return s.o((logits * s.n**-0.5).softmax(-1) @ h) + s.o(logits.mT.softmax(-1) @ h)


def with_bias(s, h):
    return s.o(((s.q(h) @ s.k(h).mT + s.t) * s.n**-0.5).softmax(-1) @ s.v(h))


def twice(s, h):
    q = s.q(h) * s.n**-0.25 * s.n**-0.25
    return s.o((q @ s.k(h).mT).softmax(-1) @ s.v(h)) + s.o(q)


def nested(s, h):
    """The bias is in a sum with another product first."""
    q = s.q(h)
    logits = q @ s.k(h).mT + (q @ s.c(h).mT + s.t)
    return s.o((logits * s.n**-0.5).softmax(-1) @ s.v(h))


MORE = {
    "a term that a parameter makes": shaw,
    "two numbers": twice,
    "a bias in a sum of its own": nested,
    "a bias": with_bias,
    "a bias in the product": lambda s, h: s.o(
        (torch.baddbmm(s.t.expand(2, 5, 5), s.q(h), s.k(h).mT) / s.n).softmax(-1) @ s.v(h)),
    "logits that are read without it": seen_twice,
    "a side that is returned": lambda s, h: ((a := s.q(h) * s.n**-0.5) @ s.k(h).mT, a),
    "queries that are returned": lambda s, h: (
        (a := s.q(h) * s.n**-0.5), (a @ s.k(h).mT).softmax(-1) @ s.v(h)),
}  # fmt: skip


@pytest.mark.parametrize("name", MORE)
def test_numbers_that_reach_more_than_a_product_are_refused(name):
    parts = dict(
        p=lambda n: nn.Parameter(torch.randn(25, n)), t=lambda n: nn.Parameter(torch.ones(5, 5))
    )
    with pytest.raises(ValueError, match="what a product reads or makes and something"):
        ll.plan(net(MORE[name], **PARTS, **parts), BASE, TARGET, inputs=ROWS)


def test_a_sum_of_two_products_shares_its_number():
    """As in Transformer-XL: of both, queries take what is left."""

    def run(s, h):
        q, logits = s.q(h), lambda k, q: q @ k(h).mT
        return s.o(((logits(s.k, q) + logits(s.c, q)) * s.n**-0.5).softmax(-1) @ s.v(h))

    factors = ll.plan(net(run, **PARTS), BASE, TARGET, inputs=ROWS).factors()
    assert factors["q.weight"].fold == pytest.approx(2**-0.5, rel=1e-12)


def test_the_remedy_for_a_shared_number_is_to_multiply_the_product_alone():
    def run(s, h):
        return s.o(attend(s.q(h), s.k(h), s.v(h)) + F.gelu(s.c(h)))

    assert ll.plan(net(run, **PARTS), BASE, TARGET, inputs=ROWS).factors()["q.weight"].fold < 1
