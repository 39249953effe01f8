"""Layers that the forward pass leaves out at random are read as if they all ran."""

import pytest
import torch
from torch import nn

import leadline as ll
from survey_models import X, read_model

WAYS = {
    "compared": lambda: torch.rand([]) < 0.9,
    "as a number": lambda: torch.rand(1).item() < 0.9,
    "kept above": lambda: not torch.empty(()).uniform_() > 0.9,
    "a coin": lambda: not torch.empty(1).bernoulli_(0.1),
}


class Dropped(nn.Module):
    """A residual network of which each layer is left out nine times in ten."""

    def __init__(self, width, depth, skips=lambda: False):
        super().__init__()
        self.i, self.o, self.skips = nn.Linear(8, width), nn.Linear(width, 3), skips
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
            for _ in range(depth)
        )

    def forward(self, x):
        # How many random numbers a dropout takes depends on width: other layers are left out.
        h = nn.functional.dropout(self.i(x), 0.1, self.training)
        for block in self.blocks:
            if not self.skips():
                h = h + block(h)
        return self.o(h)


@pytest.mark.parametrize("way", WAYS)
def test_layers_that_are_left_out_at_random(way):
    kinds = read_model(lambda width, depth: Dropped(width, depth))[0].kinds
    s, _ = read_model(lambda width, depth: Dropped(width, depth, WAYS[way]))
    assert s.branches == {"blocks.*": 2}
    assert s.kinds == kinds


def test_a_drawn_number_that_chooses_nothing_stays():
    """Noise of a random size is no choice of what runs."""

    class Noisy(Dropped):
        def forward(self, x):
            return super().forward(x * torch.rand(()))

    s, _ = read_model(lambda width, depth: Noisy(width, depth))
    assert s.branches == {"blocks.*": 2}
    plan = ll.plan(Noisy, {"width": 16, "depth": 2}, {"width": 32, "depth": 4}, inputs=X)
    assert {plan.kinds[k].role for k in plan.names.values()} == {
        "input",
        "hidden",
        "readout",
        "vector",
        "finite",
    }


def test_a_derived_weight_beside_a_size_that_is_drawn():
    """Passes that draw other sizes are not compared with each other."""

    class Sized(Dropped):
        def __init__(self, width, depth):
            super().__init__(width, depth)
            self.a, self.b = (nn.Parameter(torch.randn(8, width)) for _ in range(2))

        def forward(self, x):
            rows = int(torch.randint(1, 9, ()))
            return super().forward(x) + super().forward(x * 0 + self.mixed(x[:, :rows]))

        def mixed(self, x):
            return (x @ self.a[: x.shape[-1]].tanh()).mean(-1, keepdim=True)

    how = dict(inputs=X, roles={"a": "input", "b": "input"})
    plan = ll.plan(Sized, {"width": 16, "depth": 2}, {"width": 32, "depth": 2}, **how)
    assert plan.factors()["a"].init == 1.0
