"""What runs beside a network and leaves its plan as it is: a second pass, choices, joined features."""

import functools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import leadline as ll

BASE, TARGET = {"width": 16, "depth": 2}, {"width": 64, "depth": 8}


class Block(nn.Module):
    def __init__(self, w):
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(w), nn.Linear(w, 2 * w), nn.Linear(2 * w, w)

    def forward(self, x):
        return x + self.down(torch.relu(self.up(self.norm(x))))


class Net(nn.Module):
    def __init__(self, width, depth):
        super().__init__()
        self.inp = nn.Linear(5, width)
        self.layers = nn.ModuleList(Block(width) for _ in range(depth))
        self.norm, self.out = nn.LayerNorm(width), nn.Linear(width, 3)

    def stream(self, x):
        h = self.inp(x)
        for layer in self.layers:
            h = layer(h)
        return h

    def forward(self, x):
        return self.out(self.norm(self.stream(x)))


class Twins(Net):
    """One network on two inputs."""

    def forward(self, x):
        return super().forward(x) - super().forward(-x)


class Halves(Net):
    """Its second half runs a second time, on something else."""

    def forward(self, x):
        h = self.stream(x)
        half = len(self.layers) // 2
        again = self.inp(x.flip(0))
        for layer in self.layers[half:]:
            again = layer(again)
        return self.out(self.norm(h)) - self.out(self.norm(again))


class Codes(Net):
    """The nearest entry of a codebook is added, which a sum over the width finds."""

    def __init__(self, width, depth):
        super().__init__(width, depth)
        self.codes = nn.Parameter(torch.randn(7, width))

    def forward(self, x):
        h = self.stream(x)
        near = h.pow(2).sum(-1, keepdim=True) - 2 * F.normalize(h, dim=-1) @ self.codes.t()
        return self.out(self.norm(h + F.embedding(near.argmin(-1), self.codes)))


class Normalized(Codes):
    """The codebook is compared after a norm of its own, too."""

    def forward(self, x):
        h = self.stream(x)
        near = F.normalize(h, dim=-1) @ F.normalize(self.codes, dim=-1).t()
        return self.out(self.norm(h + F.embedding(near.argmax(-1), self.codes)))


class Left(Net):
    """A softmax over the width that nothing reads."""

    def forward(self, x):
        h = self.stream(x)
        torch.softmax(h, -1)
        return self.out(self.norm(h))


class Sampled(Net):
    """Positions sampled from a table."""

    def __init__(self, width, depth):
        super().__init__(width, depth)
        self.places = nn.Parameter(torch.randn(9, width))

    def forward(self, x):
        table = self.places.t().reshape(1, -1, 3, 3)
        grid = torch.linspace(-0.9, 0.9, 2 * len(x)).reshape(1, 1, len(x), 2)
        at = F.grid_sample(table, grid, align_corners=False)
        h = self.inp(x) + at[0, :, 0].t()
        for layer in self.layers:
            h = layer(h)
        return self.out(self.norm(h))


class Joined(Net):
    """Features of the last two layers, added up by a head."""

    def __init__(self, width, depth):
        super().__init__(width, depth)
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x):
        h = self.inp(x)
        for layer in self.layers:
            before, h = h, layer(h)
        return self.out(self.norm(self.first(before) + self.second(h)))


def plan(build):
    return ll.plan(build, BASE, TARGET, optimizer="adamw", inputs=torch.randn(4, 5))


def read(p):
    """What is said of every kind, by name."""
    return {
        k.template: (k.role, k.branch, k.position, k.last, k.takes)
        for k in p.kinds
        if k.template.split(".")[0] not in ("codes", "places", "first", "second")
    }


@pytest.mark.parametrize("build", [Twins, Halves, Codes, Normalized, Left, Sampled, Joined])
def test_what_runs_beside_a_network_leaves_its_plan_as_it_is(build):
    made = plan(build)
    assert read(made) == read(plan(Net))
    assert dict(made.branches) == {"layers.*": 2}
    table = [k.role for k in made.kinds if k.template in ("codes", "places")]
    assert table == (["input"] if hasattr(build(16, 2), "codes") or build is Sampled else [])


def test_the_multiplier_of_a_branch_is_in_its_last_layer_once_however_often_that_runs():
    states = []
    for build in (Net, Twins):
        p = plan(build)
        torch.manual_seed(0)
        states.append(p.apply(build(64, 8)).state_dict())
    for name in states[0]:
        torch.testing.assert_close(states[0][name], states[1][name])


def test_a_norm_over_the_width_that_is_returned_still_has_no_plan():
    class Norms(Net):
        def forward(self, x):
            h = self.stream(x)
            return self.out(self.norm(h)), h.pow(2).sum(-1)

    with pytest.raises(ValueError, match="sums over a dimension that grows with width"):
        plan(Norms)


def test_last_layers_that_run_beside_a_branch_too_take_no_multiplier():
    class Plain(Net):
        """The same layers again, without their skips."""

        def forward(self, x):
            h = self.inp(-x)
            for layer in self.layers:
                h = layer.down(torch.relu(layer.up(layer.norm(h))))
            return super().forward(x) + self.out(h)

    with pytest.raises(ValueError, match="can take the branch's multiplier"):
        plan(Plain)


def test_one_readout_behind_every_layer_has_no_scale_over_depth():
    class Every(Net):
        def forward(self, x):
            h = self.inp(x)
            return sum(self.out(self.norm(h := layer(h))) for layer in self.layers)

    with pytest.raises(ValueError, match=r"'out\.\w+' is used 2 times at one depth and 4 times"):
        plan(Every)
    how = dict(optimizer="adamw", scheme="mup", inputs=torch.randn(4, 5))
    assert ll.plan(Every, BASE, TARGET, **how).branches == {"layers.*": 2}


class TwoLookups(nn.Module):
    """A table looked up for two streams, each times a number, and tied to the readout or not."""

    def __init__(self, n, depth, first, second, tied):
        super().__init__()
        self.e, self.o = nn.Embedding(64, n), nn.Linear(n, 64, bias=False)
        nn.init.normal_(self.e.weight, std=0.02)
        self.n = nn.LayerNorm(n)
        self.blocks = nn.ModuleList(Block(n) for _ in range(depth))
        self.numbers = first(n), second(n)
        if tied:
            self.o.weight = self.e.weight

    def forward(self, x):
        h = self.e(x) * self.numbers[0]
        h = h + self.e(x.flip(0)) * self.numbers[1]
        for b in self.blocks:
            h = b(h)
        return self.o(self.n(h))


def lookups(first, second, tied):
    build = functools.partial(TwoLookups, first=first, second=second, tied=tied)
    plan = ll.plan(
        build,
        dict(width=16, depth=2),
        dict(width=64, depth=2),
        inputs=(torch.arange(12).view(2, 6),),
    )
    return plan.factors()


@pytest.mark.parametrize("tied", [False, True])
def test_a_number_at_each_place_where_a_table_is_looked_up_counts_once(tied):
    once = lookups(lambda n: n**0.5, lambda n: 3 * n**0.5, tied)
    never = lookups(lambda n: 1.0, lambda n: 3.0, tied)
    # √n · w is to stay: w falls as 1/√n, and so do its steps.
    for what in ("init", "lr"):
        ratio = getattr(once["e.weight"], what) / getattr(never["e.weight"], what)
        assert ratio == pytest.approx(0.5), what
    # The readout's 1/n is in the table and the norm together.
    ends = [f["e.weight"].init * f["n.weight"].fold for f in (once, never)]
    assert ends == pytest.approx([0.25, 0.25] if tied else [0.5, 1.0])


@pytest.mark.parametrize("tied", [False, True])
def test_numbers_that_differ_in_power_where_a_table_is_looked_up_are_refused(tied):
    with pytest.raises(ValueError, match=r"'e.weight' is looked up in several places.*4, 1 at"):
        lookups(lambda n: n**0.5, lambda n: 1.0, tied)
