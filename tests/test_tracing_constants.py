"""What layers make of constants and of parameters alone is data: learned queries, times, positions."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import leadline as ll
from survey_models import X, linear, read_model
from tracing_models import TwoLayers

ROWS = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))


def heads(t):
    return t.unflatten(-1, (-1, 8)).transpose(1, 2)


def eager(q, k, v):
    return (q @ k.mT * 8**-0.5).softmax(-1) @ v


def dropped(q, k, v):
    return F.dropout((q @ k.mT * 8**-0.5).softmax(-1), 0.1) @ v


class Attention(nn.Module):
    """Queries, keys and values of a few learned rows, and attention from or to data."""

    def __init__(self, n, attend, bias, scaled=False):
        super().__init__()
        self.attend = attend
        self.q, self.k, self.v, self.o = (nn.Linear(n, n, bias=bias) for _ in range(4))
        self.scale = nn.Parameter(torch.zeros(8)) if scaled else None

    def forward(self, x, y):
        q = heads(self.q(x))
        if self.scale is not None:
            q = q * 1.4427 * F.softplus(self.scale)
        return self.o(self.attend(q, heads(self.k(y)), heads(self.v(y))).transpose(1, 2).flatten(2))


class Learned(nn.Module):
    """Rows of numbers that are learned: they attend to themselves and to data, or data to them."""

    def __init__(self, n, depth, way, **how):
        super().__init__()
        self.i, self.o, self.way = nn.Linear(8, n), nn.Linear(n, 3), way
        self.rows = nn.Parameter(torch.randn(1, 3, n))
        self.blocks = nn.ModuleList(TwoLayers(n) for _ in range(depth))
        self.own, self.other = Attention(n, **how), Attention(n, **how)

    def forward(self, x):
        h = self.i(x)
        for b in self.blocks:
            h = b(h)
        rows = self.rows.expand(len(x), -1, -1)
        if self.way == "themselves":
            rows = rows + self.own(rows, rows)
        if self.way == "to them":
            return self.o(h + self.other(h, rows))
        return self.o(self.other(rows, h))


HOW = {
    "eager": dict(attend=eager, bias=True),
    "without biases": dict(attend=eager, bias=False),
    "dropout": dict(attend=dropped, bias=True),
    "fused": dict(attend=F.scaled_dot_product_attention, bias=True),
    "a scale for every entry": dict(attend=eager, bias=True, scaled=True),
}


@pytest.mark.parametrize("way", ["themselves", "of them", "to them"])
@pytest.mark.parametrize("how", HOW)
def test_learned_rows_in_attention(way, how):
    s, kinds = read_model(lambda n, depth: Learned(n, depth, way, **HOW[how]), inputs=ROWS)
    assert s.branches == {"blocks.*": 2}
    used = ["own", "other"] if way == "themselves" else ["other"]
    for name in used:
        roles = {p: kinds[f"{name}.{p}.weight"].role for p in "qkvo"}
        assert set(roles.values()) == {"hidden"}
        if HOW[how]["bias"]:
            assert {kinds[f"{name}.{p}.bias"].role for p in "qkvo"} == {"vector"}
    assert kinds["rows"].role == "input"


class Timed(nn.Module):
    """Every layer is modulated by a time that is the same in each pass."""

    def __init__(self, n, depth):
        super().__init__()
        self.i, self.o, self.n = linear(8, n), linear(n, 4), n
        self.blocks = nn.ModuleList(TwoLayers(n) for _ in range(depth))
        self.down = nn.ModuleList(linear(n, 3) for _ in range(depth))
        self.up = nn.ModuleList(linear(3, n) for _ in range(depth))

    def forward(self, x):
        h, t = self.i(x), torch.cos(torch.arange(float(self.n)) / self.n)
        for b, down, up in zip(self.blocks, self.down, self.up, strict=True):
            h = h + b.branch(h * (1 + up(F.gelu(down(t)))))
        return self.o(h)


def test_what_layers_make_of_a_constant_time_has_their_roles():
    s, kinds = read_model(Timed)
    # The first contracts what grows: read as the gain that it ends in, it would be an input's.
    assert (kinds["down.*.weight"].role, kinds["up.*.weight"].role) == ("readout", "input")
    assert s.branches == {"blocks.*": 2}


class Shifted(nn.Module):
    """Attention to relative positions whose logits are masked in place."""

    def __init__(self, n, depth):
        super().__init__()
        self.i, self.o = nn.Linear(8, n), nn.Linear(n, 3)
        names = "qkvpo"
        self.blocks = nn.ModuleList(
            nn.ModuleDict({p: nn.Linear(n, n, bias=False) for p in names}) for _ in range(depth)
        )

    def forward(self, x):
        h = self.i(x)
        rows, n = h.shape[-2:]
        table = torch.sin(torch.arange(2.0 * rows - 1)[:, None] / torch.arange(1, n + 1))
        for b in self.blocks:
            q, k, v = (heads(b[p](h)) for p in "qkv")
            at = q @ b["p"](table).unflatten(-1, (-1, 8)).transpose(0, 1).mT
            at = F.pad(at, (1, 0)).view(*at.shape[:2], -1, rows)[:, :, 1:].view_as(at)[..., :rows]
            at = at.mul(8**-0.5).masked_fill_(torch.eye(rows) > 0, -1e4)
            y = (q @ k.mT * 8**-0.5 + at).softmax(-1) @ v
            h = h + b["o"](y.transpose(1, 2).flatten(-2))
        return self.o(h)


def test_positions_whose_logits_are_masked_in_place():
    kinds = read_model(Shifted, inputs=ROWS)[1]
    assert (kinds["blocks.*.p.weight"].role, kinds["blocks.*.p.weight"].last) == ("hidden", False)


class Router(nn.Module):
    """Two experts; the router's weight has an addition of low rank."""

    def __init__(self, n, depth):
        super().__init__()
        self.i, self.o, self.router = linear(8, n), linear(n, 4), linear(n, 2)
        self.a, self.b = nn.Parameter(torch.randn(4, n)), nn.Parameter(torch.randn(2, 4))
        self.blocks = nn.ModuleList(TwoLayers(n) for _ in range(depth))

    def forward(self, x):
        h = self.i(x)
        for b in self.blocks:
            h = b(h)
        shares = F.linear(h, self.router.weight + self.b @ self.a).softmax(-1)
        return self.o(h * shares[:, :1]) + self.o(h.flip(-1) * shares[:, 1:])


def test_a_routers_weight_that_is_made_of_several_is_not_taken_for_keys():
    with pytest.raises(ValueError, match=r"'router.weight' is turned into a weight"):
        read_model(Router)


class Features(nn.Module):
    """One norm for what every layer leaves, of which the last alone is returned."""

    def __init__(self, n, depth, every):
        super().__init__()
        self.i, self.o, self.norm = linear(8, n), linear(n, 4), nn.LayerNorm(n)
        self.blocks = nn.ModuleList(TwoLayers(n) for _ in range(depth))
        self.every = every

    def forward(self, x):
        h, out = self.i(x), []
        for b in self.blocks:
            h = b(h)
            out.append(self.norm(h))
        return self.o(torch.stack(out).mean(0) if self.every else out[-1])


def test_uses_that_make_no_output_do_not_count():
    base, target = dict(width=16, depth=2), dict(width=32, depth=8)
    plan = ll.plan(lambda n, depth: Features(n, depth, False), base, target, inputs=X)
    assert plan.factors()["norm.weight"].lr == 1.0
    with pytest.raises(ValueError, match=r"'norm.weight' is used 2 times at one depth and 4 times"):
        ll.plan(lambda n, depth: Features(n, depth, True), base, target, inputs=X)


def test_forward_mode_derivatives_are_refused_by_name():
    class Derivative(Timed):
        def forward(self, x):
            return torch.func.jvp(super().forward, (x,), (torch.ones_like(x),))[1]

    with pytest.raises(ValueError, match=r"uses forward-mode derivatives \(torch.func.jvp\)"):
        read_model(Derivative)


def test_what_a_cache_for_all_models_keeps_is_no_difference_between_widths():
    kept = {}

    class Cached(Timed):
        def forward(self, x):
            if kept.get("n") != self.n:
                kept["n"], kept["of"] = self.n, torch.arange(float(self.n)).cos()
            return super().forward(x) + kept["of"].mean()

    for _ in range(2):  # The second time it holds what the first left.
        Cached(16, 2)(X)
        assert read_model(Cached)[0].branches == {"blocks.*": 2}


def part(make, run):
    """build(n, L): residual layers, and ``run(self, h)`` of what ``make(self, n)`` adds."""

    class Part(nn.Module):
        def __init__(self, n, depth):
            super().__init__()
            self.i, self.o = linear(8, n), linear(n, 4)
            self.blocks = nn.ModuleList(TwoLayers(n) for _ in range(depth))
            make(self, n)

        def forward(self, x):
            h = self.i(x)
            for b in self.blocks:
                h = b(h)
            return run(self, h)

    return Part


def made(s, n):
    s.e, s.w, s.t = nn.Embedding(5, n), linear(n, n), nn.Parameter(torch.randn(n))
    s.few, s.up, s.down = nn.Parameter(torch.randn(2, 3)), linear(3, n), linear(n, 4)


# By name: what is made of the rows, and their role.
LEAVES = {
    "a table through a layer": (lambda s, h: h + s.w(s.e.weight)[:1], "e.weight", "input"),
    "its transpose": (lambda s, h: h + (s.w.weight @ s.e.weight.T).T[:1], "e.weight", "input"),
    "a vector": (lambda s, h: h + s.w.weight @ s.t, "t", "vector"),
    "a gate of a vector": (lambda s, h: h * torch.sigmoid(s.w.weight @ s.t), "t", "vector"),
    "few numbers": (lambda s, h: h + s.up(s.few)[:1], "few", "finite"),
    "added to a product": (lambda s, h: torch.addmm(s.e.weight[:3], h, s.w.weight), "e.weight", "input"),
}  # fmt: skip


@pytest.mark.parametrize("name", LEAVES)
def test_rows_that_layers_read_as_data(name):
    run, leaf, role = LEAVES[name]
    kinds = read_model(part(made, lambda s, h: s.o(run(s, h))))[1]
    assert kinds[leaf].role == role
    if name != "few numbers":
        assert kinds["w.weight"].role == "hidden"
    else:
        assert kinds["up.weight"].role == "input"


def test_a_bias_that_a_network_makes():
    def run(s, h):
        return F.linear(h, s.o.weight, bias=s.down(torch.relu(s.up(s.few)))[0])

    kinds = read_model(part(made, run))[1]
    roles = {n: kinds[n].role for n in ("few", "up.weight", "down.weight", "o.weight")}
    assert list(roles.values()) == ["finite", "input", "readout", "readout"]


def low_rank(s, n):
    s.router, s.a, s.b = (
        linear(n, 2),
        nn.Parameter(torch.randn(4, n)),
        nn.Parameter(torch.randn(2, 4)),
    )
    s.experts = nn.Parameter(torch.randn(2, n, 4))


ROUTERS = {
    "mixed by a product": lambda s, h: torch.einsum(
        "be,bem->bm",
        (h @ (s.router.weight + s.b @ s.a).T).softmax(-1),
        torch.einsum("bn,enm->bem", h, s.experts),
    ),
    "of low rank alone": lambda s, h: s.o(h) * (h @ (s.b @ s.a).T).softmax(-1)[:, :1],
}


@pytest.mark.parametrize("name", ROUTERS)
def test_a_weight_of_low_rank_is_not_taken_for_learned_queries(name):
    with pytest.raises(ValueError, match="is turned into a weight by operations"):
        read_model(part(low_rank, ROUTERS[name]))


def test_a_loss_that_layers_leave_behind_counts_over_depth():
    def run(s, h):
        s.losses = [s.down(h * k).pow(2).mean() for k in range(len(s.blocks))]
        return s.o(h)

    with pytest.raises(ValueError, match=r"'down.weight' is used 2 times at one depth and 4 times"):
        ll.plan(part(made, run), dict(width=16, depth=2), dict(width=32, depth=4), inputs=X,
                roles={p: dict(branch=False) for p in ("e.*", "w.*", "t", "few", "up.*")})  # fmt: skip


def test_one_number_that_a_layer_makes_of_a_vector():
    def make(s, n):
        s.t, s.w = nn.Parameter(torch.randn(1, n)), linear(n, 1)

    kinds = read_model(part(make, lambda s, h: s.o(h * torch.sigmoid(s.w(s.t)))))[1]
    assert (kinds["w.weight"].role, kinds["t"].role) == ("readout", "input")


@pytest.mark.parametrize("f", [F.silu, torch.tanh, lambda e: F.layer_norm(F.gelu(e), e.shape[-1:])])
def test_what_functions_make_of_rows_is_read_by_layers(f):
    kinds = read_model(part(made, lambda s, h: s.o(h + s.w(f(s.e.weight))[:1])))[1]
    assert (kinds["w.weight"].role, kinds["e.weight"].role) == ("hidden", "input")
