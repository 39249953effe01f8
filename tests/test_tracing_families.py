"""What families of models do beside plain layers: gains 1 + w, fused sizes, norms behind sums, caches."""

import functools

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import leadline as ll
from leadline.parametrization.optimizers import OPTIMIZERS
from leadline.parametrization.rules import Place, Power, exponents
from leadline.parametrization.schemes import SCHEMES
from tracing_models import Stack, two

BASE, TARGET = dict(width=32, depth=2), dict(width=64, depth=8)


class OnePlus(nn.Module):
    """A root-mean-square norm whose gain is 1 + w."""

    def __init__(self, n):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(n))

    def forward(self, h):
        return h * torch.rsqrt(h.square().mean(-1, keepdim=True) + 1e-6) * (1.0 + self.weight)


class Sandwich(nn.Module):
    """A branch between two such norms, as in Gemma 2."""

    def __init__(self, n):
        super().__init__()
        self.before, self.after = OnePlus(n), OnePlus(n)
        self.a, self.b = nn.Linear(n, n), nn.Linear(n, n)

    def branch(self, h):
        return self.after(self.b(F.relu(self.a(self.before(h)))))

    def forward(self, h):
        return h + self.branch(h)


def sandwich(n, depth):
    return Stack(nn.Linear(8, n), [Sandwich(n) for _ in range(depth)], OnePlus(n), nn.Linear(n, 5))


def test_a_gain_of_one_plus_w_takes_the_multiplier():
    plan = ll.plan(sandwich, BASE, TARGET)
    f = plan.factors()
    assert f["blocks.7.after.weight"].fold == f["blocks.7.after.weight"].lr == 0.25
    assert f["blocks.7.b.weight"].fold == f["blocks.7.before.weight"].fold == 1.0
    torch.manual_seed(0)
    model = sandwich(64, 8)
    before = model.blocks[3].branch(h := torch.randn(5, 64))
    plan.apply(model)
    assert torch.equal(model.blocks[3].after.weight, torch.full((64,), -0.75))
    assert torch.equal(model.blocks[3].before.weight, torch.zeros(64))
    same = ll.plan(sandwich, BASE, dict(width=32, depth=8))
    narrow = sandwich(32, 8)
    before = narrow.blocks[3].branch(h := torch.randn(5, 32))
    same.apply(narrow)
    torch.testing.assert_close(narrow.blocks[3].branch(h), before / 4)


def test_a_step_of_such_a_gain_is_the_multiplier_times_the_base_step():
    """Adam moves a(1 + w) as a times 1 + w; decay, which pulls it to 1, is off where a is not 1."""
    plan = ll.plan(sandwich, BASE, TARGET)
    model = plan.apply(sandwich(64, 8))
    groups = plan.param_groups(model, lr=1e-2, weight_decay=0.1)
    by_parameter = {id(p): g for g in groups for p in g["params"]}
    after = by_parameter[id(model.blocks[0].after.weight)]
    assert (after["lr"], after["weight_decay"]) == (pytest.approx(1e-2 / 4), 0.0)
    assert by_parameter[id(model.blocks[0].before.weight)]["weight_decay"] == pytest.approx(0.1)
    assert plan.at(32, 2).factors()["blocks.0.after.weight"].weight_decay == 1.0


def test_plain_code_and_files_keep_the_offset():
    plan = ll.plan(sandwich, BASE, TARGET)
    assert ll.Plan.from_json(plan.to_json()).kinds == plan.kinds
    torch.manual_seed(0)
    model = sandwich(64, 8)
    torch.manual_seed(0)
    other = plan.apply(sandwich(64, 8))
    space: dict = {}
    exec(plan.to_code(), space)
    space["rescale_"](model)
    for (name, a), b in zip(model.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b), name


def test_a_weight_that_is_used_with_and_without_the_one_takes_nothing():
    class Twice(OnePlus):
        def forward(self, h):
            return super().forward(h) + 0 * self.weight

    class Block(Sandwich):
        def __init__(self, n):
            super().__init__(n)
            self.after = Twice(n)

    build = lambda n, depth: Stack(  # noqa: E731
        nn.Linear(8, n), [Block(n) for _ in range(depth)], OnePlus(n), nn.Linear(n, 5)
    )
    with pytest.raises(ValueError, match="no weight that acts on it alone"):
        ll.plan(build, BASE, TARGET)


class Fused(nn.Module):
    """Queries of all heads, keys and values of one."""

    def __init__(self, n):
        super().__init__()
        self.n, self.qkv, self.o = n, nn.Linear(n, n + 16), nn.Linear(n, n)

    def forward(self, h):
        q, k, v = self.qkv(h).split([self.n, 8, 8], -1)
        q = q.unflatten(-1, (-1, 8)).transpose(1, 2)
        y = F.scaled_dot_product_attention(q, k[:, None], v[:, None])
        return h + self.o(y.transpose(1, 2).flatten(-2))


def fused(n, depth):
    return Stack(
        nn.Linear(8, n), [Fused(n) for _ in range(depth)], nn.LayerNorm(n), nn.Linear(n, 5)
    )


def test_a_dimension_with_a_constant_part_grows():
    x = torch.randn(2, 6, 8)
    plan = ll.plan(fused, BASE, dict(width=48, depth=8), inputs=x)
    kind = plan.kinds[plan.names["blocks.0.qkv.weight"]]
    assert (kind.role, kind.constant) == ("hidden", (16, 0))
    assert kind.shape_at(1.5) == (64, 32 * 1.5)
    f = plan.factors()["blocks.0.qkv.weight"]
    # nn.Linear draws with 1/√fan_in: nothing is left to make up for.
    assert (f.init, f.lr) == (pytest.approx(1.0), pytest.approx(1 / 1.5))
    assert plan.factors()["blocks.0.o.weight"].fold == 0.25
    plan.apply(fused(48, 8))
    again = ll.Plan.from_json(plan.to_json())
    assert again.kinds == plan.kinds


class PostNorm(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.a, self.b, self.norm = nn.Linear(n, n), nn.Linear(n, n), nn.LayerNorm(n)

    def forward(self, h):
        return self.norm(h + self.b(F.relu(self.a(h))))


def post(n, depth):
    return Stack(
        nn.Linear(8, n), [PostNorm(n) for _ in range(depth)], nn.Identity(), nn.Linear(n, 5)
    )


def test_norms_behind_the_sums():
    plan = ll.plan(post, BASE, TARGET)
    for name in ("blocks.5.norm.weight", "blocks.5.norm.bias"):
        f = plan.factors()[name]
        assert (f.init, f.fold, f.lr, f.weight_decay, f.eps) == (1.0, 1.0, 0.25, 4.0, 0.5)
    unscaled = ll.plan(post, BASE, TARGET, roles={"*norm*": dict(role="vector", branch=False)})
    assert unscaled.factors()["blocks.5.norm.weight"].lr == 1.0
    assert ll.plan(post, BASE, TARGET, "mup").factors()["blocks.5.norm.weight"].lr == 1.0


@pytest.mark.parametrize("name", ["sgd", "adamw", "lion", "adafactor"])
def test_the_rate_of_a_vector_behind_the_sums(name):
    o = OPTIMIZERS[name]
    plain = exponents(SCHEMES["completep"], o, Place("vector"))
    behind = exponents(SCHEMES["completep"], o, Place("vector", beside=True))
    assert behind.lr - plain.lr == Power(depth=-1)
    assert (behind.init, behind.eps) == (plain.init, plain.eps)


def test_what_they_learn_does_not_add_up_over_depth():
    """One Adam-like step of all of them: the stream moves as far at depth 32 as at depth 4."""

    def moved(depth):
        torch.manual_seed(0)
        plan = ll.plan(post, dict(width=32, depth=4), dict(width=32, depth=depth))
        model = plan.apply(post(32, depth))
        x = torch.randn(16, 8)
        before = model(x)
        names = [n for n, _ in model.named_parameters() if "norm" in n]
        f = plan.factors()
        with torch.no_grad():
            # Aligned from layer to layer.
            for n in names:
                model.get_parameter(n)[::2] += 0.02 * f[n].lr
        return float((model(x) - before).detach().norm() / before.detach().norm())

    assert moved(32) / moved(4) == pytest.approx(1.0, abs=0.35)


def test_what_does_not_train_and_is_no_draw_is_left_alone():
    def build(n, depth, draw):
        model = two(n, depth)
        table = torch.randn(n, 10) * n**-0.5 if draw else torch.arange(10.0 * n).view(n, 10) % 7
        model.stem.weight = nn.Parameter(table, requires_grad=False)
        return model

    plan = ll.plan(functools.partial(build, draw=False), BASE, TARGET)
    assert plan.kinds[plan.names["stem.weight"]].role == "frozen"
    assert plan.factors()["stem.weight"].init == 1.0

    def larger(n, depth):
        model = build(n, depth, draw=False)
        model.stem.weight *= n
        return model

    with pytest.raises(
        ValueError, match=r"stem.weight: .*their size is multiplied by 2 at twice the w"
    ):
        ll.plan(larger, BASE, TARGET)
    for how in ("frozen", dict(init=False)):
        assert (
            ll.plan(larger, BASE, TARGET, roles={"stem.weight": how}).factors()["stem.weight"].init
            == 1
        )
    drawn = ll.plan(functools.partial(build, draw=True), BASE, TARGET)
    ratio = TARGET["width"] / BASE["width"]
    assert drawn.factors()["stem.weight"].init == pytest.approx(ratio**0.5)


@functools.lru_cache(maxsize=8)
def kept(rows):
    return torch.arange(rows, dtype=torch.float32)[:, None] / rows


def test_what_is_computed_once_and_kept():
    class Positions(nn.Module):
        def __init__(self, n):
            super().__init__()
            self.f = nn.Linear(8, n)

        def forward(self, x):
            return self.f(x) + kept(len(x))

    def build(n, depth):
        return Stack(Positions(n), two(n, depth).blocks, nn.Identity(), nn.Linear(n, 5))

    kept.cache_clear()
    assert ll.plan(build, BASE, TARGET).factors()["blocks.0.b.weight"].fold == 0.25


def test_the_first_operation_that_differs_is_named():
    class Odd(nn.Linear):
        def forward(self, x):
            return (
                super().forward(x).tanh() if self.out_features > 32 else super().forward(x).relu()
            )

    def build(n, depth):
        return Stack(Odd(10, n), two(n, depth).blocks, nn.Identity(), nn.Linear(n, 5))

    with pytest.raises(ValueError, match="'relu' and 'tanh' in module 'stem'"):
        ll.plan(build, BASE, TARGET)
