"""Layers of several kinds in one stack, inputs that all layers share, inner skips: nothing is refused."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import leadline as ll
from coordinates import net

BASE, TARGET = dict(width=16, depth=2), dict(width=32, depth=8)
X = torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(0))


def planned(build, **how):
    return ll.plan(build, BASE, TARGET, inputs=X, **how)


class Between(nn.Module):
    """A norm before the branch in even layers, at its end in odd ones; their weights are called alike."""

    def __init__(self, n, k):
        super().__init__()
        self.a, self.b = nn.Linear(n, n), nn.Linear(n, n)
        self.before, self.after = [(nn.LayerNorm(n), None), (None, nn.LayerNorm(n))][k % 2]

    def forward(self, h):
        y = self.b(F.relu(self.a(h if self.before is None else self.before(h))))
        return h + (y if self.after is None else self.after(y))


def test_layers_that_hold_different_modules_are_told_apart(tmp_path):
    plan = planned(net(Between))
    plan.save(tmp_path / "plan.json")
    read = ll.Plan.load(tmp_path / "plan.json").factors(net(Between)(32, 8))
    for f in (plan.factors(), read):
        for k in range(8):
            assert f[f"blocks.{k}.b.weight"].fold == (0.25 if k % 2 == 0 else 1.0)
            if k % 2:
                assert f[f"blocks.{k}.after.weight"].fold == 0.25


def test_either_branch_is_multiplied_exactly():
    plan = ll.plan(net(Between), BASE, dict(width=16, depth=8), inputs=X)
    model = net(Between)(16, 8).double()
    h = torch.randn(3, 6, 16, dtype=torch.float64)
    with torch.no_grad():
        before = [block(h) - h for block in model.blocks]
        plan.apply(model)
        after = [block(h) - h for block in model.blocks]
    torch.testing.assert_close(torch.stack(after), torch.stack(before) / 4)


class TwoKinds(nn.Module):
    """Three weight layers in even layers, two in odd ones; the last is called alike."""

    def __init__(self, n, k):
        super().__init__()
        self.norm, self.a, self.o = nn.LayerNorm(n), nn.Linear(n, n), nn.Linear(n, n)
        self.c = nn.Linear(n, n) if k % 2 == 0 else None

    def forward(self, h):
        y = F.relu(self.a(self.norm(h)))
        return h + self.o(y if self.c is None else F.relu(self.c(y)))


def test_a_longer_branch_behind_the_first_layer_is_no_long_skip():
    """The base has it at its first layer alone, which adds to something else than a sum."""
    plan = planned(net(TwoKinds))
    f = plan.factors()
    assert {f[f"blocks.{k}.o.weight"].fold for k in range(8)} == {0.25}
    assert not any(k.beside for k in plan.kinds)


class ByDepth(nn.Module):
    """One of five experts, which depends on depth: the pass at twice the depth leaves out others."""

    def __init__(self, n, depth):
        super().__init__()
        self.i, self.h = nn.Linear(8, n), nn.Linear(n, 5)
        self.blocks = nn.ModuleList(
            nn.ModuleList(
                nn.ModuleDict(dict(a=nn.Linear(n, n), b=nn.Linear(n, n))) for _ in range(5)
            )
            for _ in range(depth)
        )

    def forward(self, x):
        x = self.i(x)
        for k, experts in enumerate(self.blocks):
            expert = experts[(k + len(self.blocks)) % 5]
            x = x + expert["b"](F.relu(expert["a"](x)))
        return self.h(x)


def test_which_experts_are_hit_may_depend_on_depth():
    f = planned(ByDepth).factors()
    assert {x.fold for n, x in f.items() if n.endswith(".b.weight")} == {0.25}


class Shared(nn.Module):
    """Inputs of every layer, made at once: of the stream's start by one matrix, of classes by one table."""

    def __init__(self, n, depth, size, apart):
        super().__init__()
        self.i, self.h, self.d, self.apart = nn.Linear(8, n), nn.Linear(n, 5), size(n), apart
        many, parts = (1, depth) if apart else (depth, 1)
        self.p = nn.ModuleList(nn.Linear(n, many * self.d) for _ in range(parts))
        self.e = nn.ModuleList(nn.Embedding(7, many * self.d) for _ in range(parts))
        self.norm = nn.LayerNorm(self.d, elementwise_affine=False)
        self.blocks = nn.ModuleList(
            nn.ModuleDict(dict(gate=nn.Linear(n, self.d), out=nn.Linear(self.d, n)))
            for _ in range(depth)
        )
        for p in (*self.p, *self.e):
            nn.init.normal_(p.weight, std=0.1)
        for p in self.p:
            nn.init.zeros_(p.bias)

    def forward(self, x):
        x = self.i(x)
        ids = torch.arange(6).expand(2, 6) + 0 * x[..., 0].long()
        made = [self.norm(p(x).unflatten(-1, (-1, self.d))) for p in self.p]
        looked = [e(ids).unflatten(-1, (-1, self.d)) for e in self.e]
        if not self.apart:
            made, looked = (t[0].unbind(-2) for t in (made, looked))
        for k, b in enumerate(self.blocks):
            x = x + b["out"](F.silu(b["gate"](x)) * (made[k] + looked[k]).reshape(*x.shape[:2], -1))
        return self.h(x)


@pytest.mark.parametrize("size", [lambda n: 4, lambda n: n // 2], ids=["fixed", "growing"])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_one_matrix_that_makes_the_inputs_of_all_layers(size, optimizer):
    """It is as a matrix for each."""
    f, each = (
        planned(lambda n, depth, a=a: Shared(n, depth, size, a), optimizer=optimizer).factors()
        for a in (False, True)
    )
    for name in (
        "p.0.weight",
        "p.0.bias",
        "e.0.weight",
        "blocks.3.gate.weight",
        "blocks.3.out.weight",
    ):
        assert f[name] == each[name], name


class Summed(Shared):
    def forward(self, x):
        x = self.i(x)
        made = self.p[0](x).unflatten(-1, (-1, self.d)).mean(-2)
        for b in self.blocks:
            x = x + b["out"](F.silu(b["gate"](x)) * made)
        return self.h(x)


class Halved(Shared):
    def forward(self, x):
        x = self.i(x)
        made = self.p[0](x).chunk(2, -1)[0]
        return self.h(x) + made.mean()


@pytest.mark.parametrize("model", [Summed, Halved])
def test_what_it_makes_must_be_taken_apart(model):
    with pytest.raises(ValueError, match="used as a whole"):
        planned(lambda n, depth: model(n, depth, lambda n: 4, False))


class Convolved(nn.Module):
    """A branch that ends in a skip around a convolution, which scales with what goes in."""

    def __init__(self, n, k):
        super().__init__()
        self.norm, self.a, self.o = nn.LayerNorm(n), nn.Linear(n, n), nn.Linear(n, n)
        self.c = nn.Conv1d(n, n, 3, padding=1, groups=n, bias=False)

    def forward(self, h):
        y = self.o(F.relu(self.a(self.norm(h))))
        return h + (y + self.c(y.mT).mT)


def test_a_branch_that_ends_in_its_own_skip():
    f = planned(net(Convolved)).factors()
    assert (f["blocks.3.o.weight"].fold, f["blocks.3.c.weight"].fold) == (0.25, 1.0)


class Masked(nn.Module):
    """Counts the entries of a mask, as checks of the inputs do."""

    def __init__(self, n, depth):
        super().__init__()
        self.n, self.net = n, net(TwoKinds)(n, depth)

    def forward(self, x):
        mask = x[..., 0] > 0
        torch.eq(mask.sum() * self.n, 3)
        return self.net(x)


def test_counts_have_no_size():
    f = planned(Masked).factors()
    assert f["net.blocks.0.o.weight"].fold == 0.25


class OffCentre(nn.Module):
    def __init__(self, n, k):
        super().__init__()
        self.a, self.b = nn.Linear(n, n), nn.Linear(n, n)
        for layer in (self.a, self.b):
            nn.init.uniform_(layer.weight, 0, 0.1)

    def forward(self, h):
        return h + self.b(F.relu(self.a(h)))


def test_one_remedy_for_all_initializations_without_a_rule():
    roles = {f"blocks.*.{k}.weight": dict(init=False) for k in "ab"}
    remedy = ", ".join(f"{n!r}: dict(init=False)" for n in roles)
    with pytest.raises(ValueError, match=r"follows no known rule") as refused:
        planned(net(OffCentre))
    assert f"roles={{{remedy}}}" in str(refused.value)
    assert planned(net(OffCentre), roles=roles).factors()["blocks.0.b.weight"].fold == 0.25


class Relative(nn.Module):
    """Rows of a table, by distance, multiplied with queries: one table for all layers, or one for each."""

    def __init__(self, n, depth, shared):
        super().__init__()
        self.i, self.h, self.shared = nn.Linear(8, n), nn.Linear(n, 5), shared
        self.tables = nn.ModuleList(nn.Embedding(11, 8) for _ in range(1 if shared else depth))
        self.blocks = nn.ModuleList(
            nn.ModuleDict({k: nn.Linear(n, n) for k in "qkvo"}) for _ in range(depth)
        )

    def forward(self, x):
        x = self.i(x)
        places = torch.arange(6)
        for i, b in enumerate(self.blocks):
            q, k, v = (b[name](x).unflatten(-1, (-1, 8)).transpose(1, 2) for name in "qkv")
            rows = self.tables[0 if self.shared else i](places[:, None] - places + 5)
            logits = q @ k.mT / 8 + torch.einsum("bhld,lrd->bhlr", q, rows)
            x = x + b["o"]((logits.softmax(-1) @ v).transpose(1, 2).flatten(2))
        return self.h(x)


@pytest.mark.parametrize("shared", [True, False])
def test_a_table_whose_rows_are_multiplied_with_queries(shared):
    plan = planned(lambda n, depth: Relative(n, depth, shared))
    kind = plan.kinds[plan.names["tables.0.weight"]]
    assert (kind.role, kind.shared, kind.position) == ("finite", shared, 1)
    assert plan.factors()["tables.0.weight"].lr == 1.0


class Picked(nn.Module):
    """Places of a table are added, one by name and others by what the data say."""

    def __init__(self, n, depth):
        super().__init__()
        self.table, self.net = nn.Parameter(torch.randn(7, n)), net(TwoKinds)(n, depth)

    def forward(self, x):
        x = self.net.stem(x)
        rows = (x[..., 0] > 0).long()
        x = x + self.table[0] + self.table[rows]
        for b in self.net.blocks:
            x = b(x)
        return self.net.head(x)


def test_a_table_that_is_added_by_name_and_by_choice():
    plan = planned(Picked)
    assert plan.kinds[plan.names["table"]].role == "input"


class Queries(nn.Module):
    """Learned queries attend to each other, then to the data; the stream begins as zeros."""

    def __init__(self, n, depth):
        super().__init__()
        self.stem, self.h = nn.Linear(8, n), nn.Linear(n, 5)
        self.queries = nn.Parameter(torch.randn(3, n))
        names = ("q", "k", "v", "o", "cq", "ck", "cv", "co")
        self.blocks = nn.ModuleList(Attends(n, names) for _ in range(depth))

    def forward(self, x):
        data, places = self.stem(x), self.queries.expand(len(x), -1, -1)
        h = torch.zeros_like(places)
        for b in self.blocks:
            h = b(h, places, data)
        return self.h(h)


class Attends(nn.Module):
    def __init__(self, n, names):
        super().__init__()
        self.m = nn.ModuleDict({k: nn.Linear(n, n) for k in names})
        self.one, self.two = nn.LayerNorm(n), nn.LayerNorm(n)

    def forward(self, h, places, data):
        m, at = self.m, lambda t: t.unflatten(-1, (-1, 8)).transpose(1, 2)
        q, k, v = at(m["q"](places)), at(m["k"](places)), at(m["v"](h))
        h = self.one(h + m["o"](F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)))
        q, k, v = at(m["cq"](h)), at(m["ck"](data)), at(m["cv"](data))
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.two(h + m["co"](y))


def test_the_first_branch_of_a_decoder_whose_stream_begins_as_zeros():
    f = planned(Queries).factors()
    for name in "qkvo":
        assert {f[f"blocks.{k}.m.{name}.weight"] for k in range(8)} == {
            f[f"blocks.7.m.{name}.weight"]
        }
    assert f["blocks.0.m.o.weight"].fold == f["blocks.0.m.co.weight"].fold == 0.25
