"""Layers that read more than the stream: modulation, long skips, entries for each layer, shared tables."""

import copy
import functools

import pytest
import torch
from torch import nn

import family_models as models
import leadline as ll
from leadline.parametrization.optimizers import OPTIMIZERS
from leadline.parametrization.rules import Place, Power, exponents
from leadline.parametrization.schemes import SCHEMES

BASE, TARGET = dict(width=16, depth=2), dict(width=32, depth=8)
X, T = torch.randn(2, 6, 8), torch.randn(2, 4)


def factors(build, inputs=X, **how):
    plan = ll.plan(build, BASE, TARGET, inputs=inputs, **how)
    return plan, plan.factors()


def conditioned(block):
    return functools.partial(models.Conditioned, block)


MODULATED = {
    models.Modulated: {
        "attention.o": 0.25,
        "f.2": 0.25,
        "f.0": 1.0,
        "attention.q": 1.0,
        "ada.1": 1.0,
    },
    models.Tables: {"attention.o": 0.25, "f.2": 0.25, "f.0": 1.0, "attention.q": 1.0},
    models.Film: {"b": 0.25, "a": 1.0, "film": 1.0},
}


@pytest.mark.parametrize("block", MODULATED)
def test_modulated_branches_take_one_multiplier(block):
    """A shift of what a branch reads is no branch, and what makes it belongs to the branch."""
    build = conditioned(block)
    plan, f = factors(build, (X, T))
    for name, fold in MODULATED[block].items():
        assert f[f"blocks.5.{name}.weight"].fold == fold, name
        assert plan.kinds[plan.names[f"blocks.5.{name}.weight"]].branch, name
    assert f["time.2.weight"].fold == f["last.weight"].fold == 1.0
    assert plan.kinds[plan.names["last.weight"]].branch is None
    torch.manual_seed(0)
    model = build(16, 8).double()
    h = torch.randn(2, 6, 16, dtype=torch.float64)
    c = torch.randn(2, 96 if block is models.Tables else 16, dtype=torch.float64)
    before = copy.deepcopy(model.blocks[3])
    plan.at(16, 8).apply(model)
    y = model.blocks[3](h, c) - h
    if block is models.Film:
        torch.testing.assert_close(y, (before(h, c) - h) / 4)
    else:
        # Both branches: what the second reads has changed too.
        for last in (before.attention.o, before.f[2]):
            last.weight.data /= 4
            last.bias.data /= 4
        torch.testing.assert_close(y, before(h, c) - h)


def test_the_rates_of_what_makes_a_modulation_are_those_of_a_branch():
    _, f = factors(conditioned(models.Modulated), (X, T), optimizer="sgd")
    assert f["blocks.0.ada.1.weight"].lr == f["blocks.0.f.0.weight"].lr == 4.0
    assert f["time.2.weight"].lr == 1.0


LONG = {
    "a U": (models.net(models.u, models.with_u), ["blocks.5.f.2", "up.5.f.2"], {"skips": 0.25}),
    "the input again": (
        models.net(models.again, models.with_pairs), ["blocks.5.f.2"], {"pairs.5": 0.25}),
    "the first values": (
        models.net(models.values, models.with_shares, models.Attending), ["blocks.5.o"], {"shares": 1.0}),
    "a number for each branch": (
        models.net(models.scaled, models.with_gains), ["blocks.5.f.2"], {"gains": 1.0}),
    "two streams": (
        models.net(models.streams, block=models.Mixed), [],
        {"blocks.5.mix": 0.25, "blocks.5.give": 0.25, "blocks.5.f.2.weight": 0.5}),
}  # fmt: skip


@pytest.mark.parametrize("name", LONG)
def test_long_skips_and_entries_for_each_layer(name):
    """Skips around layers end no branch; what weighs the stream itself learns r times slower."""
    build, last, rates = LONG[name]
    plan, f = factors(build)
    multiplied = {
        n.removesuffix(".weight") for n, x in f.items() if x.fold == 0.25 and "bias" not in n
    }
    assert multiplied >= set(last)
    assert "stem" not in multiplied
    for n, rate in rates.items():
        assert f[n].lr == rate, n
    model = plan.apply(build(32, 8))
    assert sum(len(g["params"]) for g in plan.param_groups(model, lr=1e-3)) == len(f)
    again = ll.Plan.from_json(plan.to_json())
    assert again.factors(build(32, 8)) == f


def test_entries_that_are_used_as_a_whole_are_refused():
    def whole(self, h):
        for k, block in enumerate(self.blocks):
            h = h + self.gains.softmax(0)[k] * block.f(block.norm(h))
        return h

    with pytest.raises(
        ValueError, match=r"'gains' has shape \(2,\), which grows with depth, and is used as"
    ):
        factors(models.net(whole, models.with_gains))


def test_a_layer_between_sums_is_the_streams():
    """Two halves joined by a layer: nothing says how that scales over depth; the remedy is a role."""

    def more(self, n, depth):
        self.up = nn.ModuleList(models.Block(n) for _ in range(depth))
        self.skips = nn.ModuleList(nn.Linear(2 * n, n) for _ in range(depth))

    def run(self, h):
        kept = []
        for block in self.blocks:
            kept.append(h := block(h))
        for block, skip in zip(self.up, self.skips, strict=True):
            h = block(skip(torch.cat([h, kept.pop()], -1)))
        return h

    build = models.net(run, more)
    with pytest.raises(
        ValueError, match=r"roles=\{'skips.\*.weight': dict\(role='hidden', branch=False\)\}"
    ):
        factors(build)
    _, f = factors(build, roles={"skips.*": dict(role="hidden", branch=False)})
    assert f["up.5.f.2.weight"].fold == f["blocks.5.f.2.weight"].fold == 0.25


def test_a_table_that_all_layers_share():
    build = models.net(models.positions, models.with_table, models.Attending)
    plan, f = factors(build)
    kind = plan.kinds[plan.names["table.weight"]]
    assert (kind.role, kind.shared) == ("input", True)
    assert f["table.weight"].lr == 1.0
    # Its gradient is the sum over the layers: ε stays over depth (and falls with width).
    assert (f["table.weight"].eps, f["blocks.5.q.weight"].eps) == (0.5, 0.125)


@pytest.mark.parametrize("scheme", ["depth-mup", "completep"])
def test_the_rule_of_what_layers_share(scheme):
    """Adam moves it as what a layer has of its own; a gradient step has a rate of 1/r of that, since the
    gradient is r times as large."""
    s = SCHEMES[scheme]
    of_each, of_all = Place("finite", 0, 2), Place("finite", 0, 2, shared=True)
    for name, power in (("adamw", Power()), ("sgd", Power(depth=-1))):
        o = OPTIMIZERS[name]
        assert exponents(s, o, of_all).lr - exponents(s, o, of_each).lr == power
    adam = OPTIMIZERS["adamw"]
    assert exponents(s, adam, of_all).eps - exponents(s, adam, of_each).eps == Power(depth=1)


def test_a_matrix_that_all_layers_share_needs_branches_of_one_over_depth():
    def more(self, n, depth):
        for b in self.blocks:
            b.f = self.blocks[0].f

    build = models.net(models.plain, more)
    with pytest.raises(ValueError, match=r"'blocks.0.f.0.weight' is used .*scheme='completep'"):
        factors(build, scheme="depth-mup")
    assert factors(build)[1]["blocks.0.f.2.weight"].fold == 0.25


RECURRENT = {"gru": nn.GRU, "lstm": nn.LSTM, "rnn": nn.RNN}


@pytest.mark.parametrize("name", RECURRENT)
def test_recurrent_layers(name):
    block = functools.partial(models.Recurrent, kind=RECURRENT[name])
    plan, f = factors(models.net(models.plain, block=block))
    roles = {k.template.split("r.")[-1]: k.role for k in plan.kinds if ".r." in k.template}
    assert roles["weight_hh_l0"] == roles["weight_ih_l0"] == "hidden"
    assert f["blocks.5.o.weight"].fold == 0.25
    assert f["blocks.5.r.weight_hh_l0"].fold == 1.0
    assert f["blocks.5.r.weight_hh_l0"].lr == 0.5


def test_stacked_recurrent_layers_without_skips_are_scaled_with_width():
    class Stacked(nn.Module):
        def __init__(self, n, depth):
            super().__init__()
            self.stem, self.head = nn.Linear(8, n), nn.Linear(n, 5)
            self.r = nn.GRU(n, n, num_layers=depth, batch_first=True)

        def forward(self, x):
            return self.head(self.r(self.stem(x))[0])

    with pytest.raises(ValueError, match=r"no residual branch repeats.*scheme='mup'"):
        factors(Stacked)
    _, f = factors(Stacked, scheme="mup")
    assert f["r.weight_hh_l5"].lr == 0.5


def test_learned_queries_are_data():
    """A probe that attends: the matrix that makes its queries is a hidden one, the probe an input."""

    class Pooled(models.Net):
        def __init__(self, n, depth):
            super().__init__(n, depth, models.plain)
            self.probe = nn.Parameter(torch.randn(1, 1, n))
            self.pool = nn.MultiheadAttention(n, n // 8, batch_first=True)

        def forward(self, x):
            h = self.run(self, self.stem(x))
            probe = self.probe.repeat(len(x), 1, 1)
            return self.head(self.norm(self.pool(probe, h, h)[0]))

    plan, f = factors(Pooled)
    roles = {n: plan.kinds[plan.names[n]].role for n in ("probe", "pool.in_proj_weight")}
    assert roles == {"probe": "input", "pool.in_proj_weight": "hidden"}
    assert f["pool.in_proj_weight"].lr == 0.5


def test_the_one_layer_of_another_kind_belongs_to_the_stack():
    """A mixture's first, dense layer: it adds to the same stream."""

    class Other(nn.Module):
        def __init__(self, n, k):
            super().__init__()
            self.norm = nn.LayerNorm(n)
            self.dense, self.wide = (models.mlp(n), None) if k == 0 else (None, models.mlp(n))

        def forward(self, h):
            return h + (self.dense or self.wide)(self.norm(h))

    def build(n, depth):
        model = models.Net(n, depth, models.plain)
        model.blocks = nn.ModuleList(Other(n, k) for k in range(depth))
        return model

    _, f = factors(build)
    assert f["blocks.0.dense.2.weight"].fold == f["blocks.5.wide.2.weight"].fold == 0.25


class Coupled(nn.Module):
    """Two streams of which each adds to the other (a reversible block)."""

    def __init__(self, n):
        super().__init__()
        self.f, self.g = models.mlp(n // 2), models.mlp(n // 2)

    def forward(self, h):
        a, b = h.chunk(2, -1)
        a = a + self.f(b)
        return torch.cat([a, b + self.g(a)], -1)


def test_coupled_streams_have_a_multiplier_each():
    _, f = factors(models.net(models.plain, block=Coupled))
    assert f["blocks.5.f.2.weight"].fold == f["blocks.5.g.2.weight"].fold == 0.25
    assert f["blocks.5.f.0.weight"].fold == f["blocks.5.g.0.weight"].fold == 1.0


class InOneTensor(nn.Module):
    """The weights of all layers in one tensor."""

    def __init__(self, n, depth):
        super().__init__()
        self.stem, self.head = nn.Linear(8, n), nn.Linear(n, 5)
        self.a = nn.Parameter(torch.randn(depth, n, 2 * n) * n**-0.5)
        self.b = nn.Parameter(torch.randn(depth, 2 * n, n) * (2 * n) ** -0.5)

    def forward(self, x):
        h = self.stem(x)
        for a, b in zip(self.a, self.b, strict=True):
            h = h + torch.relu(h @ a) @ b
        return self.head(h)


def test_weights_of_all_layers_in_one_tensor():
    plan, f = factors(InOneTensor)
    assert (f["b"].fold, f["a"].fold) == (0.25, 1.0)
    assert plan.kinds[plan.names["b"]].role == "hidden"
    torch.manual_seed(0)
    model = InOneTensor(16, 8)
    before = model.b.detach().clone()
    torch.testing.assert_close(plan.at(16, 8).apply(model).b.detach(), before / 4)

    class Aside(InOneTensor):
        """One of them acts elsewhere too."""

        def forward(self, x):
            return super().forward(x) + self.head(self.stem(x) @ self.a[0] @ self.b[0])

    with pytest.raises(ValueError, match="no weight that acts on it alone"):
        factors(Aside)


def test_a_tied_readout_behind_the_last_layers_norm():
    class Post(nn.Module):
        def __init__(self, n):
            super().__init__()
            self.f, self.norm = models.mlp(n), nn.LayerNorm(n)

        def forward(self, h):
            return self.norm(h + self.f(h))

    class Tied(nn.Module):
        def __init__(self, n, depth):
            super().__init__()
            self.words = nn.Embedding(11, n)
            self.blocks = nn.ModuleList(Post(n) for _ in range(depth))

        def forward(self, x):
            h = self.words(x)
            for block in self.blocks:
                h = block(h)
            return h @ self.words.weight.t()

    plan, f = factors(Tied, torch.arange(6)[None])
    assert f["blocks.7.norm.weight"].fold == 0.5
    assert {f[f"blocks.{k}.norm.weight"].fold for k in range(7)} == {1.0}
    assert f["words.weight"].init == 1.0
    again = ll.Plan.from_json(plan.to_json())
    assert again.factors(Tied(32, 8)) == f


def test_names_of_a_harness_are_no_obstacle():
    build = models.net(models.plain)

    class Harness(nn.Module):
        """Holds the model, trains it, has no forward."""

        def __init__(self, model):
            super().__init__()
            self.model = model

        def training_step(self, batch, k):
            return self.model(batch)

    plan, f = factors(build)
    inside = Harness(torch.compile(build(32, 8), backend="eager"))
    plan.apply(inside)
    assert set(plan.factors(inside).values()) == set(f.values())
    held, g = factors(lambda n, depth: Harness(build(n, depth)))
    assert {n.removeprefix("model."): x for n, x in g.items()} == f
    held.apply(build(32, 8))
    with pytest.raises(ValueError, match="has shape"):
        plan.apply(Harness(build(16, 8)))
