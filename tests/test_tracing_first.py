"""First layers that are called like all others and stand elsewhere."""

import pytest
import torch
from torch import nn

import leadline as ll
from survey_models import X, linear, read_model
from tracing_models import TwoLayers

BASE, TARGET = {"width": 16, "depth": 2}, {"width": 64, "depth": 8}


class FirstPlain(nn.Module):
    """The first of its layers has no skip connection, as in each stage of HGNet."""

    def __init__(self, n, depth, plain=lambda k: k == 0):
        super().__init__()
        self.i, self.o = linear(8, n), linear(n, 4)
        self.blocks = nn.ModuleList(TwoLayers(n) for _ in range(depth))
        self.plain = plain

    def forward(self, x):
        h = self.i(x)
        for k, b in enumerate(self.blocks):
            h = b.branch(h) if self.plain(k) else b(h)
        return self.o(h)


class Layer(TwoLayers):
    """A residual layer; of the first one the norm is before a shortcut of its own."""

    def __init__(self, n, first):
        super().__init__(n)
        self.norm = nn.LayerNorm(n)
        self.shortcut = linear(n, n) if first else None

    def forward(self, x):
        y = self.norm(x)
        return (self.shortcut(y) if self.shortcut else x) + self.branch(y)


class OwnShortcut(FirstPlain):
    def __init__(self, n, depth):
        super().__init__(n, depth, lambda k: False)
        self.blocks = nn.ModuleList(Layer(n, k == 0) for k in range(depth))


def test_a_first_layer_without_a_skip_is_no_branch():
    s, _ = read_model(FirstPlain)
    assert s.branches == {"blocks.*": 2}
    plan = ll.plan(FirstPlain, BASE, TARGET, scheme="completep", inputs=X)
    kinds = {n: plan.kinds[k] for n, k in plan.names.items()}
    assert [kinds[f"blocks.{k}.a.weight"].branch for k in range(8)] == [None] + 7 * ["blocks.*"]
    assert [kinds[f"blocks.{k}.b.weight"].begins for k in range(3)] == [True, False, False]
    factors = plan.factors()
    # Four times as wide and deep: 1/4 of Adam's rate for width, and the branches' multiplier 1/4.
    assert {factors[f"blocks.{k}.a.weight"].lr for k in range(8)} == {0.25}
    assert [factors[f"blocks.{k}.b.weight"].fold for k in range(3)] == [1.0, 0.25, 0.25]
    assert ll.Plan.from_json(plan.to_json()).kinds == plan.kinds


def test_some_other_layer_without_a_skip_is_refused():
    """That the second of two is the last one, and of four the second, nobody can tell of eight."""

    def build(n, depth):
        return FirstPlain(n, depth, lambda k: k == 1)

    with pytest.raises(ValueError, match="could be any of 2 parameters"):
        ll.plan(build, BASE, TARGET, inputs=X)


def test_a_first_layer_with_a_shortcut_of_its_own_is_told_by_that():
    plan = ll.plan(OwnShortcut, BASE, TARGET, inputs=X)
    kinds = {n: plan.kinds[k] for n, k in plan.names.items()}
    assert [kinds[f"blocks.{k}.norm.weight"].branch for k in range(3)] == [
        None,
        "blocks.*",
        "blocks.*",
    ]
    assert kinds["blocks.0.shortcut.weight"].branch is None


def test_positions_that_are_made_of_data_and_of_constants():
    """One matrix of a few coordinates, as a product with data and in what is added to it."""

    class Positions(nn.Module):
        def __init__(self, n, depth):
            super().__init__()
            self.i, self.o, self.p = linear(8, n), linear(n, 4), nn.Parameter(torch.randn(2, n))
            self.blocks = nn.ModuleList(TwoLayers(n) for _ in range(depth))

        def forward(self, x):
            grid = torch.arange(6.0).view(3, 2) / 6
            h = self.i(x) + torch.sin(grid @ self.p) + torch.sin(x[:, :2] @ self.p)
            for b in self.blocks:
                h = b(h)
            return self.o(h)

    s, kinds = read_model(Positions)
    assert (kinds["p"].role, kinds["p"].branch) == ("input", None)
    assert s.branches == {"blocks.*": 2}
