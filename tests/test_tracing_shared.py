"""Layers that one pass goes through several times, and layers that two streams share."""

import pytest
import torch
from torch import nn

import family_models as models
import leadline as ll

BASE, TARGET = dict(width=16, depth=2), dict(width=16, depth=8)


class Looped(nn.Module):
    """All layers, three times over; from the second on the input is added again."""

    def __init__(self, n, depth):
        super().__init__()
        self.stem, self.head = nn.Linear(8, n), nn.Linear(n, 5)
        self.blocks = nn.ModuleList(models.mlp(n) for _ in range(depth))

    def forward(self, x, factor=1.0):
        h = start = self.stem(x)
        for k in range(3):
            h = h + start if k else h
            for block in self.blocks:
                h = h + factor * block(h)
        return self.head(h)


class TwoStreams(nn.Module):
    """Two streams that read each other through the same layers."""

    def __init__(self, n, depth):
        super().__init__()
        self.one, self.two, self.head = nn.Linear(8, n), nn.Linear(8, n), nn.Linear(n, 5)
        self.blocks = nn.ModuleList(models.mlp(n) for _ in range(depth))

    def forward(self, x, factor=1.0):
        a, b = self.one(x), self.two(x)
        for block in self.blocks:
            a, b = a + factor * block(a * b.tanh()), b + factor * block(b * a.tanh())
        return self.head(a * b)


@pytest.mark.parametrize("build", [Looped, TwoStreams])
@pytest.mark.parametrize(("scheme", "s"), [("completep", -1.0), ("depth-mup", -0.5)])
def test_layers_of_several_branches_take_one_multiplier(build, scheme, s):
    x = torch.randn(4, 8).double()
    plan = ll.plan(build, BASE, TARGET, scheme, inputs=x.float())
    torch.manual_seed(1)
    model = build(16, 8).double()
    there = model(x, factor=4**s)
    torch.testing.assert_close(plan.apply(model)(x), there, rtol=1e-12, atol=1e-12)


class Aside(Looped):
    """Each of the layers acts outside the stream too."""

    def forward(self, x):
        h = self.stem(x)
        beside = torch.stack([block(h) for block in self.blocks]).mean(0)
        return super().forward(x) + self.head(beside)


class Longer(Looped):
    """As often as there are layers."""

    def forward(self, x):
        h = self.stem(x)
        for _ in self.blocks:
            for block in self.blocks:
                h = h + block(h)
        return self.head(h)


@pytest.mark.parametrize("build", [Aside, Longer])
def test_layers_that_do_something_else_too_are_refused(build):
    with pytest.raises(ValueError, match=r"no weight that acts on it alone|several places"):
        ll.plan(build, BASE, TARGET, inputs=torch.randn(4, 8))
