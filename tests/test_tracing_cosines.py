"""Cosines of two streams (CLIP) or of one (SimCLR): norms over growing dimensions are no obstacle there."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import leadline as ll
from coordinates import slopes

BASE, TARGET = dict(width=32, depth=2), dict(width=64, depth=8)
X = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))


class Tower(nn.Module):
    def __init__(self, n, depth):
        super().__init__()
        self.i, self.h = nn.Linear(8, n), nn.Linear(n, n)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(n), nn.Linear(n, n), nn.ReLU(), nn.Linear(n, n))
            for _ in range(depth)
        )

    def forward(self, x):
        x = self.i(x)
        for block in self.blocks:
            x = x + block(x)
        return self.h(x)


def two(logits):
    """build(n, L) of two towers and what compares them."""

    class Pair(nn.Module):
        def __init__(self, n, depth):
            super().__init__()
            self.one, self.other = Tower(n, depth), Tower(n, depth)
            self.scale, self.out = nn.Parameter(torch.tensor(1.0)), nn.Linear(n, n)
            self.scales, self.n = nn.Parameter(torch.ones(1)), n

        def forward(self, x):
            return logits(self, self.one(x), self.other(x.flip(-1)))

    return Pair


def root(x):
    return (x**2).sum(-1, keepdim=True) ** 0.5


def unit(x):
    return F.normalize(x, dim=-1)


def both(x, y):
    return torch.cat([unit(x), unit(y)])


COSINES = {
    "normalize twice": lambda s, x, y: unit(unit(x)) @ unit(y).mT,
    "by roots, twice": lambda s, x, y: (u := x / root(x)) / root(u) @ unit(unit(y)).mT,
    "normalize": lambda s, x, y: F.normalize(x, dim=-1) @ F.normalize(y, dim=-1).mT,
    "norms": lambda s, x, y: (
        (x / x.norm(p=2, dim=-1, keepdim=True))
        @ (y / y.norm(p=2, dim=-1, keepdim=True)).mT
        * s.scale.exp()
    ),
    "roots of sums": lambda s, x, y: (x / root(x)) @ (y / root(y)).mT,
    "reciprocal roots": lambda s, x, y: (
        (x * torch.rsqrt((x * x).sum(-1, keepdim=True) + 1e-6))
        @ (y * torch.rsqrt((y * y).sum(-1, keepdim=True) + 1e-6)).mT
    ),
    "with itself": lambda s, x, y: (z := unit(x)) @ z.T / 0.1 + (w := unit(y)) @ w.T,
    "of both views": lambda s, x, y: (z := both(x, y)) @ z.T,
    "a number before": lambda s, x, y: (10 * unit(x)) @ unit(y).T,
    "a number behind it": lambda s, x, y: unit(x) @ (unit(y) / 0.1).T,
    "a parameter before": lambda s, x, y: s.scale.exp() * unit(x) @ unit(y).T,
    "a parameter in a vector": lambda s, x, y: (unit(x) * s.scales) @ unit(y).T,
    "both ways": lambda s, x, y: (a := s.scale.exp() * unit(x) @ unit(y).T, a.T),
    "one by one": lambda s, x, y: 2 - 2 * (unit(x) * unit(y)).sum(-1),
    "torch's": lambda s, x, y: F.cosine_similarity(x[:, None], y[None], dim=-1),
    "into a softmax": lambda s, x, y: (10 * unit(x) @ unit(y).T).log_softmax(-1),
    "as an attention": lambda s, x, y: (10 * unit(x) @ unit(y).T).softmax(-1) @ s.out(y),
}
OTHERS = {
    "the first of two into a layer, too": lambda s, x, y: (
        unit(u := unit(x)) @ unit(y).mT + s.out(u).mean()
    ),
    "one alone": lambda s, x, y: F.normalize(x, dim=-1) @ y.mT,
    "into a layer": lambda s, x, y: s.out(F.normalize(x, dim=-1)),
    "into a layer, too": lambda s, x, y: (
        (n := F.normalize(x, dim=-1)) @ F.normalize(y, dim=-1).mT + s.out(n).mean()
    ),
    "a norm that is used": lambda s, x, y: (
        F.normalize(x, dim=-1) @ F.normalize(y, dim=-1).mT
        + (m := x.norm(dim=-1, keepdim=True))
        + (x / m).mean()
    ),
    "sums of absolute values": lambda s, x, y: (
        F.normalize(x, p=1, dim=-1) @ F.normalize(y, p=1, dim=-1).mT
    ),
    "another's norm": lambda s, x, y: (
        (x / y.norm(dim=-1, keepdim=True)) @ F.normalize(y, dim=-1).mT
    ),
    "the number's product into a layer, too": lambda s, x, y: (
        (n := 10 * unit(x)) @ unit(y).T + s.out(n).mean()
    ),
    "a product into a layer, too": lambda s, x, y: (
        (p := unit(x) * unit(y)).sum(-1) + s.out(p).mean()
    ),
    "a number made of data": lambda s, x, y: (unit(x) * y.mean()) @ unit(y).T,
    "joined with another": lambda s, x, y: torch.cat([unit(x), x]) @ unit(y).T,
    "joined along their entries": lambda s, x, y: (
        torch.cat([unit(x), unit(y)], -1) @ torch.cat([unit(y), unit(x)], -1).T
    ),
    "the mean of products": lambda s, x, y: (unit(x) * unit(y)).mean(-1),
    "sums": lambda s, x, y: (x / x.sum(-1, keepdim=True)) @ (y / y.sum(-1, keepdim=True)).mT,
}


@pytest.mark.parametrize("name", COSINES)
def test_norms_of_cosines_are_no_obstacle(name):
    plan = ll.plan(two(COSINES[name]), BASE, TARGET, inputs=X)
    f = plan.factors()
    assert f["one.blocks.0.3.weight"].fold == f["other.blocks.7.3.weight"].fold == 0.25
    roles = {plan.kinds[plan.names[n]].role for n in ("one.h.weight", "other.h.weight")}
    assert roles == {"hidden"}


@pytest.mark.parametrize("name", OTHERS)
def test_other_norms_are_refused(name):
    with pytest.raises(ValueError, match="over a dimension that grows"):
        ll.plan(two(OTHERS[name]), BASE, TARGET, inputs=X)


def test_norms_over_another_dimension_make_no_cosines():
    build = two(lambda s, x, y: F.normalize(x, dim=0) @ F.normalize(y, dim=0).T)
    with pytest.raises(ValueError, match="multiplies two tensors that hold no parameter"):
        ll.plan(build, BASE, TARGET, inputs=torch.randn(32, 8))


def test_a_number_that_varies_with_width_is_refused():
    with pytest.raises(ValueError, match=r"by 5\.657 at one width and by 8 at twice that"):
        ll.plan(two(lambda s, x, y: s.n**0.5 * unit(x) @ unit(y).T), BASE, TARGET, inputs=X)


@pytest.mark.parametrize(
    "name", ["normalize", "normalize twice", "a parameter before", "of both views", "one by one"]
)
def test_the_change_of_cosines_keeps_its_size(name):
    build = two(COSINES[name])
    plan = ll.plan(build, BASE, BASE, inputs=X)
    change = slopes(plan, build, X, widths=[64, 128, 256], lr=3e-3)[""][1]
    assert abs(change) < 0.2


class Pairs(nn.Module):
    """A readout that multiplies queries and keys of every position."""

    def __init__(self, width, depth, how):
        super().__init__()
        self.how, self.first = how, nn.Linear(8, width)
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.q, self.k = (nn.Linear(width, 16 if how == "fixed" else width) for _ in range(2))

    def forward(self, x):
        x = self.first(x)
        for block in self.blocks:
            x = x + block(x)
        q, k = self.q(x), self.k(x)
        if self.how == "cosine":
            q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        if self.how == "mean":
            return (q.unsqueeze(-2) * k.unsqueeze(-3)).mean(-1)
        if self.how == "bounded":
            q, k = torch.tanh(q), torch.tanh(k)
        return q @ k.transpose(-1, -2)


@pytest.mark.parametrize("how", ["fixed", "cosine", "mean"])
def test_what_a_refused_product_of_data_may_become(how):
    sizes, x = (dict(width=16, depth=2), dict(width=64, depth=8)), torch.randn(2, 5, 8)
    with pytest.raises(ValueError, match=r"keep that dimension constant.*divide by it.*cosine"):
        ll.plan(lambda n, d: Pairs(n, d, "bounded"), *sizes, inputs=x)
    plan = ll.plan(lambda n, d: Pairs(n, d, how), *sizes, inputs=x)
    role = "readout" if how == "fixed" else "hidden"
    assert {plan.kinds[plan.names[n]].role for n in ("q.weight", "k.weight")} == {role}
