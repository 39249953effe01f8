"""Roles and places of every sort of layer, in small models."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

import leadline as ll
from test_tracing_roles import line
from tracing_models import (
    Attention,
    Pool,
    Residual,
    Stack,
    Tokens,
    TwoLayers,
    dense,
    llama,
    sequence,
    two,
)

BASE, TARGET = dict(width=16, depth=2), dict(width=64, depth=8)
M, R = 4.0, 4.0


def lines(build, **how):
    """Role, place and folds by name, and the plan."""
    plan = ll.plan(build, BASE, TARGET, **how)
    return {k.template: line(k)[1:] for k in plan.kinds}, plan


def block(make, forward):
    """A module from ``make(self, n)`` and ``forward(self, h)``."""

    class Block(nn.Module):
        def __init__(self, n):
            super().__init__()
            make(self, n)

        def forward(self, h):
            return forward(self, h)

    return Block


def test_every_dimension_of_convolutions_and_group_norm():
    for dims, conv in ((1, nn.Conv1d), (2, nn.Conv2d), (3, nn.Conv3d)):

        def build(n, depth, conv=conv):
            def layers():
                yield nn.GroupNorm(4, n)
                yield conv(n, 2 * n, 3, padding=1, bias=False)
                yield nn.ReLU()
                yield conv(2 * n, n, 3, padding=1)

            blocks = [Residual(*layers()) for _ in range(depth)]
            stem = conv(3, n, 3, padding=1, bias=False)
            return Stack(stem, blocks, Pool(), nn.Linear(n, 10, bias=False))

        found, _ = lines(build)
        assert found == {
            "stem.weight": ("input", "-", "-"),
            "blocks.*.f.0.weight": ("vector", "1/2", "-"),
            "blocks.*.f.0.bias": ("vector", "1/2", "-"),
            "blocks.*.f.1.weight": ("hidden", "1/2", "-"),
            "blocks.*.f.3.weight": ("hidden", "2/2!", "branch"),
            "blocks.*.f.3.bias": ("vector", "2/2!", "branch"),
            "head.weight": ("readout", "-", "-"),
        }, dims


def test_a_convolutional_readout_is_a_readout():
    from check_models import Convolutional

    found, plan = lines(Convolutional, inputs=torch.randn(2, 3, 8, 8))
    assert found["head.weight"] == ("readout", "-", "-")
    head = plan.factors()["head.weight"]
    assert (head.init, head.lr) == pytest.approx((M**-0.5, 1 / M))


def test_depthwise_and_transposed_convolutions():
    def make(self, n):
        self.deep = nn.Conv2d(n, n, 3, padding=1, groups=n, bias=False)
        self.up = nn.Conv2d(n, 2 * n, 2, 2, bias=False)
        self.down = nn.ConvTranspose2d(2 * n, n, 2, 2, bias=False)

    blocks = block(make, lambda self, h: h + self.down(F.relu(self.up(self.deep(h)))))

    def build(n, depth):
        stem = nn.Conv2d(3, n, 1, bias=False)
        return Stack(stem, [blocks(n) for _ in range(depth)], Pool(), nn.Linear(n, 10))

    found, _ = lines(build)
    # One channel in, however wide: a depthwise filter's fan-in does not grow.
    assert found["blocks.*.deep.weight"] == ("input", "1/3", "-")
    assert found["blocks.*.up.weight"] == ("hidden", "2/3", "-")
    assert found["blocks.*.down.weight"] == ("hidden", "3/3!", "branch")


def test_rms_norm_and_packed_projections():
    def make(self, n):
        self.norm = nn.RMSNorm(n)
        self.pair, self.out = nn.Linear(n, 4 * n, bias=False), nn.Linear(2 * n, n, bias=False)

    def forward(self, h):
        gate, up = self.pair(self.norm(h)).chunk(2, -1)
        return h + self.out(F.silu(gate) * up)

    found, _ = lines(dense(block(make, forward), norm=nn.RMSNorm))
    assert found["norm.weight"] == ("vector", "-", "-")
    assert found["blocks.*.norm.weight"] == ("vector", "1/2", "-")
    assert found["blocks.*.pair.weight"] == ("hidden", "1/2", "-")
    assert found["blocks.*.out.weight"] == ("hidden", "2/2!", "branch")


@pytest.mark.parametrize(("start", "role"), [(torch.ones, "vector"), (torch.zeros, "vector")])
def test_layer_scale_takes_the_multiplier_alone(start, role):
    def make(self, n):
        self.up, self.down = nn.Linear(n, n, bias=False), nn.Linear(n, n, bias=False)
        self.gain = nn.Parameter(0.1 * start(n))

    build = dense(block(make, lambda self, h: h + self.gain * self.down(F.relu(self.up(h)))))
    found, plan = lines(build)
    assert found["blocks.*.gain"] == (role, "2/2!", "branch")
    assert found["blocks.*.down.weight"] == ("hidden", "2/2!", "-")
    factors = plan.factors()
    assert factors["blocks.0.gain"].fold == 1 / R
    # The layer before the gain sees gradients with the multiplier in them, and is itself not scaled.
    down = factors["blocks.0.down.weight"]
    assert (down.fold, down.lr, down.eps) == (1.0, 1 / M, 1 / (M * R))
    model = plan.apply(build(64, 8))
    assert torch.equal(model.blocks[0].gain.detach(), 0.1 * start(64) / R)


def test_a_scalar_gain_is_finite():
    def make(self, n):
        self.up, self.down = nn.Linear(n, n, bias=False), nn.Linear(n, n, bias=False)
        self.gain = nn.Parameter(torch.tensor(0.5))

    build = dense(block(make, lambda self, h: h + self.gain * self.down(F.relu(self.up(h)))))
    assert lines(build)[0]["blocks.*.gain"] == ("finite", "2/2!", "branch")


def test_weight_norm_folds_into_its_gain():
    def make(self, n):
        self.up = nn.Linear(n, n, bias=False)
        self.down = weight_norm(nn.Linear(n, n, bias=False))

    found, _ = lines(dense(block(make, lambda self, h: h + self.down(F.relu(self.up(h))))))
    assert found["blocks.*.down.parametrizations.weight.original0"] == (
        "vector",
        "2/2!",
        "branch",
    )
    assert found["blocks.*.down.parametrizations.weight.original1"] == ("hidden", "2/2!", "-")


def test_bare_parameters_used_by_matmul_and_einsum():
    def make(self, n):
        self.a = nn.Parameter(torch.randn(n, n) / n**0.5)
        self.b = nn.Parameter(torch.randn(n, n) / n**0.5)
        self.shift = nn.Parameter(torch.zeros(n))

    def forward(self, h):
        u = F.relu(h @ self.a + self.shift)
        return h + torch.einsum("bi,oi->bo", u, self.b)

    found, _ = lines(dense(block(make, forward)))
    assert found["blocks.*.a"] == ("hidden", "1/2", "-")
    assert found["blocks.*.b"] == ("hidden", "2/2!", "branch")
    assert found["blocks.*.shift"] == ("vector", "1/2", "-")


@pytest.mark.parametrize(
    "add",
    [
        lambda h, y: h + y,
        lambda h, y: y + h,
        lambda h, y: h - y,
        lambda h, y: torch.add(h, y, alpha=0.5),
        lambda h, y: h.clone().add_(y),
        lambda h, y: torch.addcmul(h, y, torch.full((), 0.5)),
        lambda h, y: h + F.dropout(y, 0.1),
        lambda h, y: h + y * torch.bernoulli(torch.full((len(h), 1), 0.9)) / 0.9,
    ],
    ids="plain swapped minus alpha inplace addcmul dropout stochastic-depth".split(),
)
def test_streams_are_found_however_they_are_added(add):
    class Block(TwoLayers):
        def forward(self, h):
            return add(h, self.branch(h))

    found, _ = lines(dense(Block))
    assert found["blocks.*.a.weight"] == ("hidden", "1/2", "-")
    assert found["blocks.*.b.weight"] == ("hidden", "2/2!", "branch")


def test_attention_and_mlp_in_parallel():
    def make(self, n):
        self.norm = nn.LayerNorm(n)
        self.attention = nn.MultiheadAttention(n, n // 8, batch_first=True)
        self.up, self.down = nn.Linear(n, 2 * n), nn.Linear(2 * n, n)

    def forward(self, h):
        x = self.norm(h)
        mixed = self.attention(x, x, x, need_weights=False)[0]
        return h + mixed + self.down(F.gelu(self.up(x)))

    found, _ = lines(sequence(block(make, forward)))
    assert found["blocks.*.norm.weight"] == ("vector", "1/2", "-")
    for name in ("attention.in_proj_weight", "up.weight"):
        assert found[f"blocks.*.{name}"] == ("hidden", "1/2", "-")
    for name in ("attention.out_proj.weight", "down.weight"):
        assert found[f"blocks.*.{name}"] == ("hidden", "2/2!", "branch")


def test_a_projection_shortcut_is_the_streams():
    class Widening(nn.Module):
        def __init__(self, n):
            super().__init__()
            self.skip = nn.Linear(n, 2 * n, bias=False)
            self.up, self.down = nn.Linear(n, n, bias=False), nn.Linear(n, 2 * n, bias=False)

        def forward(self, h):
            return self.skip(h) + self.down(F.relu(self.up(h)))

    def build(n, depth):
        blocks = [*(TwoLayers(n) for _ in range(depth))]
        after = [TwoLayers(2 * n) for _ in range(depth)]
        head = nn.Sequential(*after, nn.Linear(2 * n, 3))
        model = Stack(nn.Linear(10, n), blocks, Widening(n), head)
        model.registered_twice = nn.ModuleList(after)
        return model

    found, _ = lines(build)
    assert found["norm.skip.weight"] == ("hidden", "-", "-")
    # A branch that does not repeat gets no depth factor.
    assert found["norm.up.weight"] == ("hidden", "-", "-")
    assert found["blocks.*.b.weight"] == ("hidden", "2/2!", "branch")
    assert found["head.*.b.weight"] == ("hidden", "2/2!", "branch")


class Tied(nn.Module):
    """Embedding and readout share a weight; 1/√n at the embedding's output is made up for or not."""

    def __init__(self, n, depth, root=False):
        super().__init__()
        self.stem = Tokens(n)
        self.blocks = nn.ModuleList(TwoLayers(n) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(n), nn.Linear(n, 50, bias=False)
        self.head.weight = self.stem.words.weight
        self.root = n**0.5 if root else 1.0

    def forward(self, x):
        h = self.stem.words(x) * self.root + self.stem.places
        for b in self.blocks:
            h = b(h)
        return self.head(self.norm(h))


@pytest.mark.parametrize("root", [False, True])
def test_tied_embeddings(root):
    inputs = torch.randint(0, 50, (2, 8))
    found, plan = lines(lambda n, depth: Tied(n, depth, root), inputs=inputs)
    assert found["stem.words.weight"] == ("input", "-", "-")
    assert found["norm.weight"] == found["norm.bias"] == ("vector", "-", "readout")
    f = plan.factors()
    # Drawn with a constant scale: √n at the output is divided out of the embedding, which the readout
    # through the same weight has less of 1/m to take.
    assert f["stem.words.weight"].init == pytest.approx(M**-0.5 if root else 1.0)
    assert f["norm.weight"].init == pytest.approx(M**-0.5 if root else 1 / M)


def test_heads_grow_or_their_size():
    more = lines(sequence(lambda n: Attention(n, n // 8)))[1].factors()
    assert more["blocks.0.q.weight"].fold == 1.0
    for fused in (False, True):
        found, plan = lines(sequence(lambda n, f=fused: Attention(n, 2, fused=f)))
        assert found["blocks.*.q.weight"] == ("hidden", "1/2", "attention")
        # 1/√d is there, 1/d is due: the query projection takes m^-½, with the rates of a fold.
        q, k = (plan.factors()[f"blocks.0.{x}.weight"] for x in "qk")
        assert q.fold == pytest.approx(M**-0.5)
        assert (q.init / k.init, q.lr / k.lr) == pytest.approx((M**-0.5, M**-0.5))
        assert (q.weight_decay / k.weight_decay, q.eps / k.eps) == pytest.approx((M**0.5, M**0.5))
    _, plan = lines(sequence(lambda n: Attention(n, 2, scale=lambda d: 1 / d)))
    assert plan.factors()["blocks.0.q.weight"].fold == 1.0
    _, plan = lines(sequence(lambda n: Attention(n, 2)), scheme="ntk")
    assert plan.factors()["blocks.0.q.weight"].fold == 1.0


def test_grouped_queries_whose_head_size_grows():
    plan = ll.plan(lambda n, depth: llama(n, depth, heads=4), dict(width=32, depth=2),
                   dict(width=128, depth=2))  # fmt: skip
    assert plan.factors()["model.layers.0.self_attn.q_proj.weight"].fold == pytest.approx(0.5)
    assert plan.factors()["model.layers.0.self_attn.k_proj.weight"].fold == 1.0


class Fused(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.norm = nn.LayerNorm(n)
        self.a = nn.MultiheadAttention(n, 2, batch_first=True)

    def forward(self, h):
        x = self.norm(h)
        return h + self.a(x, x, x, need_weights=False)[0]


def test_fused_projections_cannot_take_a_growing_heads_scale():
    with pytest.raises(
        ValueError, match=r"head size in 'blocks.0.a' grows.*keep the head size constant"
    ):
        lines(sequence(Fused))


@pytest.mark.parametrize(
    ("multiplier", "draw"),
    [(lambda n, depth: 1 / depth, 1.0), (lambda n, depth: 0.3, 1 / R)],
    ids=["present", "constant"],
)
def test_multipliers_that_are_there_are_counted(multiplier, draw):
    class Model(nn.Module):
        def __init__(self, n, depth):
            super().__init__()
            self.stem, self.head = nn.Linear(10, n), nn.Linear(n, 3)
            self.blocks = nn.ModuleList(TwoLayers(n) for _ in range(depth))
            self.a = multiplier(n, depth)

        def forward(self, x):
            h = self.stem(x)
            for b in self.blocks:
                h = h + self.a * b.branch(h)
            return self.head(h)

    _, plan = lines(Model)
    assert plan.factors()["blocks.0.b.weight"].fold == draw


def test_an_output_multiplier_that_is_there_is_counted():
    class Model(Stack):
        def forward(self, x):
            return super().forward(x) / self.stem.out_features

    def build(n, depth):
        blocks = [TwoLayers(n) for _ in range(depth)]
        return Model(nn.Linear(10, n), blocks, nn.Identity(), nn.Linear(n, 3, bias=False))

    readout = lines(build)[1].factors()["head.weight"]
    assert readout.fold == M
    # 1/n in the forward pass: the weight keeps its size (drawn 1/√n), Adam's rate is 1.
    assert (readout.init, readout.lr) == pytest.approx((M**0.5, 1.0))


def test_names_may_hold_the_layers_number():
    def build(n, depth):
        model = nn.Sequential()
        model.add_module("stem1", nn.Linear(10, n))
        for i in range(depth):
            model.add_module(f"layer_{i}", TwoLayers(n))
        model.add_module("head", nn.Linear(n, 3))
        return model

    found, plan = lines(build)
    assert found["layer_*.b.weight"] == ("hidden", "2/2!", "branch")
    assert found["stem1.weight"] == ("input", "-", "-")
    assert len(plan.factors()) == 4 + 2 * TARGET["depth"]


def test_post_norm():
    def make(self, n):
        self.up, self.down, self.norm = nn.Linear(n, n), nn.Linear(n, n), nn.LayerNorm(n)

    build = dense(block(make, lambda self, h: self.norm(h + self.down(F.relu(self.up(h))))))
    for roles in (None, {"blocks.*.norm.*": dict(role="vector", branch=False)}):
        found, plan = lines(build, roles=roles)
        assert found["blocks.*.norm.weight"] == ("vector", "-", "-")
    assert plan.factors()["blocks.0.norm.weight"].lr == 1.0
    assert lines(build, scheme="mup")[0]["blocks.*.norm.weight"] == ("vector", "-", "-")


def test_width_alone_needs_no_branches():
    def build(n, depth):
        hidden = [nn.Sequential(nn.Linear(n, n), nn.ReLU()) for _ in range(depth)]
        return nn.Sequential(nn.Linear(10, n), nn.Sequential(*hidden), nn.Linear(n, 3))

    with pytest.raises(ValueError, match=r"no residual branch repeats with depth.*scheme='mup'"):
        lines(build)
    found, _ = lines(build, scheme="mup")
    assert found["1.*.0.weight"] == ("hidden", "-", "-")


def test_half_precision_and_checkpointing_change_nothing():
    from torch.utils.checkpoint import checkpoint

    class Saved(TwoLayers):
        def forward(self, h):
            return h + checkpoint(self.branch, h, use_reentrant=False)

    plain = lines(two)[0]
    assert lines(lambda n, depth: two(n, depth).bfloat16())[0] == plain
    assert lines(dense(Saved))[0] == plain


def test_dimensions_that_happen_to_equal_the_width():
    """16 inputs and 64 outputs stay what they are at widths 16 and 64, and where base = target."""
    build = dense(TwoLayers, d=16, c=64)
    found, plan = lines(build)
    assert found["stem.weight"] == ("input", "-", "-")
    assert found["head.weight"] == ("readout", "-", "-")
    same = ll.plan(build, BASE)
    assert [(k.template, line(k)) for k in same.kinds] == [
        (k.template, line(k)) for k in plan.kinds
    ]
    for width in (16, 64):
        roles = {n: k.role for n, k in plan.at(width, 2).kind_of(build(width, 2)).items()}
        assert (roles["stem.weight"], roles["head.weight"]) == ("input", "readout")
        assert roles["blocks.1.a.weight"] == "hidden"
