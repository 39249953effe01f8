"""Entries that stay as width grows, joined with entries that grow, and multiplied by one matrix."""

import pytest
import torch
from torch import nn

import leadline as ll
from coordinates import slopes

BASE, TARGET = dict(width=32, depth=2), dict(width=64, depth=8)
X = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """``mix(self, h, x)`` makes the stream of features h and data x."""

    def __init__(self, n, depth, mix, more):
        super().__init__()
        self.features, self.mix = nn.Linear(8, n), mix
        self.proj, self.beside = nn.Linear(n + more(n), n, bias=False), nn.Linear(8, n)
        self.norm = nn.LayerNorm(n + more(n))
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(n), nn.Linear(n, n), nn.ReLU(), nn.Linear(n, n))
            for _ in range(depth)
        )
        self.head = nn.Linear(n, 3)

    def forward(self, x):
        h = self.mix(self, torch.relu(self.features(x)), x)
        for block in self.blocks:
            h = h + block(h)
        return self.head(h)


def build(mix, more):
    return lambda n, depth: Net(n, depth, mix, more)


def eight(n):
    return 8


JOINED = {
    "data": build(lambda s, h, x: s.proj(torch.cat([h, x], -1)), eight),
    "data first, behind a norm": build(
        lambda s, h, x: s.proj(s.norm(torch.cat([x, h], -1))), eight
    ),
}


@pytest.mark.parametrize("name", JOINED)
def test_what_stays_beside_what_grows_in_one_matrix_is_refused(name):
    with pytest.raises(
        ValueError, match=r"'proj.weight' multiplies 8 entries that stay.* 32 "
    ) as e:
        ll.plan(JOINED[name], BASE, TARGET, inputs=X)
    assert "roles={'proj.weight': 'hidden'}" in str(e.value)
    plan = ll.plan(JOINED[name], BASE, TARGET, inputs=X, roles={"proj.weight": "hidden"})
    assert plan.factors()["proj.weight"].lr == pytest.approx(0.5)


def test_what_is_refused_does_fade():
    plan = ll.plan(JOINED["data"], BASE, TARGET, inputs=X, roles={"proj.weight": "hidden"})
    sizes = []
    for n in (64, 1024):
        torch.manual_seed(0)
        w = plan.at(n, 2).apply(JOINED["data"](n, 2)).proj.weight.detach()
        sizes.append(float((X @ w[:, n:].T).square().mean().sqrt()))
    assert sizes[1] / sizes[0] == pytest.approx(0.25, rel=0.1)


def test_the_remedy_and_what_is_joined_otherwise_are_planned():
    for mix, more in (
        (lambda s, h, x: s.proj(h) + s.beside(x), lambda n: 0),
        (lambda s, h, x: s.proj(torch.cat([h, s.beside(x)], -1)), lambda n: n),
        # Means of the whole, one entry of which stays.
        (lambda s, h, x: s.proj(h * torch.cat([h, x], -1).mean(-1, keepdim=True)), lambda n: 0),
        # Rows, not entries.
        (lambda s, h, x: s.proj(torch.cat([h, s.beside(x)], 0)), lambda n: 0),
    ):
        plan = ll.plan(build(mix, more), BASE, TARGET, inputs=X)
        assert plan.kinds[plan.names["proj.weight"]].role == "hidden"
    change = slopes(plan, build(mix, more), X, widths=[64, 128, 256], lr=3e-3)[""][1]
    assert abs(change) < 0.2
