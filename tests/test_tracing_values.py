"""Parameters that begin with another value in a larger network, and operations that sum over the width."""

import math

import pytest
import torch
from torch import nn

import leadline as ll

BASE, TARGET = dict(width=32, depth=4), dict(width=128, depth=16)
X = torch.randn(8, 16, generator=torch.Generator().manual_seed(0))


class Block(nn.Module):
    def __init__(self, n, value, branch):
        super().__init__()
        self.norm, self.a, self.b = nn.LayerNorm(n), nn.Linear(n, n), nn.Linear(n, n)
        self.c, self.branch = nn.Parameter(value), branch

    def forward(self, h):
        return h + self.branch(self, self.norm(h))


class Net(nn.Module):
    def __init__(self, n, depth, value, branch, end):
        super().__init__()
        self.i, self.o, self.n, self.end = nn.Linear(16, n), nn.Linear(n, 5), n, end
        self.blocks = nn.ModuleList(Block(n, value(n, depth), branch) for _ in range(depth))

    def forward(self, x):
        h = self.i(x)
        for block in self.blocks:
            h = block(h)
        return self.end(self, h)


def layers(s, y):
    return s.b(torch.relu(s.a(y)))


def plan(
    value=lambda n, depth: torch.tensor(1.0),
    branch=lambda s, y: s.c * layers(s, y),
    end=lambda s, h: s.o(h),
    **how,
):
    build = lambda n, depth: Net(n, depth, value, branch, end)  # noqa: E731
    return ll.plan(build, BASE, TARGET, inputs=X, **how)


INSIDE = {
    "tanh": (lambda n, depth: torch.tensor(1 / depth), lambda s, y: torch.tanh(s.c) * layers(s, y)),
    "exp": (
        lambda n, depth: torch.tensor(-math.log(depth)),
        lambda s, y: torch.exp(s.c) * layers(s, y),
    ),
    "an inner layer": (
        lambda n, depth: torch.tensor(depth**-0.5),
        lambda s, y: s.b(s.c * torch.relu(s.a(y))),
    ),
}


@pytest.mark.parametrize("name", INSIDE)
def test_a_value_that_falls_with_depth_and_takes_no_multiplier_is_refused(name):
    value, branch = INSIDE[name]
    with pytest.raises(ValueError, match=r"'blocks.0.c' begins with .* at twice the depth"):
        plan(value, branch)
    assert plan(value, branch, scheme="mup").factors()["blocks.0.c"].init == 1.0
    # The remedy: the same value at every depth.
    f = plan(lambda n, depth: value(n, 4), branch).factors()
    assert f["blocks.0.b.weight"].fold == 0.25


def test_a_value_that_takes_the_multiplier_counts_as_present():
    f = plan(lambda n, depth: torch.tensor(1 / depth)).factors()
    # 1/4 is there already: c stays as built, and its steps fall with it.
    assert (f["blocks.0.c"].init, f["blocks.0.c"].lr) == pytest.approx((1.0, 0.25))


def test_one_number_that_is_drawn_is_no_value_of_a_depth():
    f = plan(lambda n, depth: torch.randn(()), INSIDE["tanh"][1]).factors()
    assert f["blocks.0.b.weight"].fold == 0.25


@pytest.mark.parametrize("last", [1.0, 3.0])
def test_values_that_are_not_all_equal_are_left_as_built(last):
    # From 1 at any size, or back to 1: no number that multiplies the branch.
    def value(n, depth):
        return torch.cat([torch.linspace(1, 2 + 1 / n / depth, n - 1), torch.tensor([last])])

    assert plan(value, INSIDE["tanh"][1]).factors()["blocks.0.b.weight"].fold == 0.25
    f = plan(value).factors()
    assert f["blocks.0.c"].fold == 0.25


@pytest.mark.parametrize("power", [-0.5, 0.5])
@pytest.mark.parametrize("vector", [False, True])
def test_a_value_that_varies_with_width_is_refused(power, vector):
    def value(n, depth):
        return torch.full((n,) if vector else (), n**power)

    with pytest.raises(
        ValueError, match=r"blocks.\*.c: .*every entry begins with .*twice the width"
    ):
        plan(value)
    kept = plan(value, roles={"blocks.*.c": dict(init=False)})
    assert kept.factors()["blocks.0.c"].fold == 0.25
    # The remedy: a number of the forward pass.
    f = plan(branch=lambda s, y: s.c * layers(s, y) * len(s.a.bias) ** power).factors()
    assert f["blocks.0.c"].init == pytest.approx(0.25 * 4**-power)


ENDS = {
    "distances": lambda s, h: torch.cdist(h, h),
    "channels added up": lambda s, h: torch.zeros(len(h), 5).index_add(1, torch.arange(s.n) % 5, h),
    "the same by scatter": lambda s, h: torch.zeros(len(h), 5).scatter_add(
        1, (torch.arange(s.n) % 5).expand(len(h), -1), h
    ),
    "a product of entries": lambda s, h: (1 + h / s.n).prod(-1),
}


@pytest.mark.parametrize("name", ENDS)
def test_what_puts_a_width_of_entries_into_one_is_refused(name):
    with pytest.raises(ValueError, match="over a dimension that grows with width"):
        plan(end=ENDS[name])


def test_rows_that_are_added_up_are_no_width_of_entries():
    def end(s, h):
        rows = torch.zeros(4, s.n).index_add(0, torch.arange(len(h)) % 4, h)
        return s.o(rows)

    assert plan(end=end).factors()["o.weight"].lr == 0.25


def test_a_mixture_of_rows_beside_the_branches_is_refused_over_depth():
    def mixed(s, y):
        return torch.fft.fft(y, dim=0, norm="ortho").real

    class Mixes(Block):
        def forward(self, h):
            return super().forward(h + mixed(self, self.norm(h)))

    def build(n, depth):
        model = Net(n, depth, lambda n, d: torch.tensor(1.0), lambda s, y: s.c * layers(s, y), end)
        model.blocks = nn.ModuleList(
            Mixes(n, torch.tensor(1.0), lambda s, y: s.c * layers(s, y)) for _ in range(depth)
        )
        return model

    def end(s, h):
        return s.o(h)

    with pytest.raises(ValueError, match=r"more in it in every layer than branches add"):
        ll.plan(build, BASE, TARGET, inputs=X)


class Heads(nn.Module):
    """A matrix for every group or head, as many as the width allows."""

    def __init__(self, n, depth, shape, rule):
        super().__init__()
        self.i, self.o = nn.Linear(16, n), nn.Linear(n, 5)
        self.w = nn.Parameter(torch.randn(shape(n)) * shape(n)[1] ** -0.5)
        self.rule = rule

    def forward(self, x):
        h = torch.relu(self.i(x))
        return self.o(torch.einsum(self.rule, h.view(len(h), -1, 8) if "g" in self.rule[:4] else h,
                                   self.w).flatten(1))  # fmt: skip


@pytest.mark.parametrize(
    ("shape", "rule", "role"),
    [
        (lambda n: (n // 8, 8, 8), "bgi,gij->bgj", "input"),
        (lambda n: (n // 8, n, 8), "bi,hij->bhj", "hidden"),
    ],
)
def test_matrices_whose_number_grows_make_outputs_that_grow(shape, rule, role):
    build = lambda n, depth: Heads(n, depth, shape, rule)  # noqa: E731
    p = ll.plan(build, dict(width=32, depth=1), dict(width=128, depth=1), inputs=X, scheme="mup")
    assert p.kinds[p.names["w"]].role == role


class Outputs(nn.Module):
    """Its readout reads what all layers make."""

    def __init__(self, n, depth, joined):
        super().__init__()
        self.i, self.o, self.joined = nn.Linear(16, n), nn.Linear(n, 5), joined
        self.weights = nn.Parameter(torch.ones(depth) / depth)
        self.blocks = nn.ModuleList(
            Block(n, torch.tensor(1.0), lambda s, y: s.c * layers(s, y)) for _ in range(depth)
        )

    def forward(self, x):
        h, outputs = self.i(x), []
        for block in self.blocks:
            h = block(h)
            outputs.append(h)
        return self.o(self.joined(self, outputs))


def test_outputs_of_layers_are_averaged_and_not_added_up():
    def build(joined):
        return lambda n, depth: Outputs(n, depth, joined)

    for joined in (
        lambda s, hs: sum(c * h for c, h in zip(s.weights, hs, strict=True)),
        lambda s, hs: sum(hs) / len(hs),
    ):
        with pytest.raises(ValueError, match=r"take the mean|take torch.stack\(...\).mean\(0\)"):
            ll.plan(build(joined), BASE, TARGET, inputs=X)
    drop = {"weights": dict(role="finite", branch=False)}
    plan = ll.plan(build(lambda s, hs: torch.stack(hs).mean(0)), BASE, TARGET, inputs=X, roles=drop)
    assert plan.factors()["blocks.0.c"].fold == 0.25
