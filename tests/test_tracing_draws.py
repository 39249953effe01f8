"""The builder's own initialization: kept layer by layer, left alone where it is no draw."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import leadline as ll
from coordinates import net, slopes
from leadline.tracing.initialization import Rule

X = torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(0))
BASE, TARGET = dict(width=16, depth=2), dict(width=64, depth=8)


class Block(nn.Module):
    """Two layers; ``draw`` is what is done to them at construction."""

    def __init__(self, n, k, draw):
        super().__init__()
        self.a, self.b = nn.Linear(n, n, bias=False), nn.Linear(n, n, bias=False)
        with torch.no_grad():
            draw(self, n, k)

    def forward(self, h):
        return h + self.b(torch.relu(self.a(h)))


def drawn(draw):
    return net(lambda n, k: Block(n, k, draw))


def planned(build, **how):
    plan = ll.plan(build, BASE, TARGET, inputs=X, **how)
    return plan, {k.template.removeprefix("blocks.*."): k for k in plan.kinds}


def std(m, n):
    nn.init.normal_(m.weight, std=n)


BY_LAYER = {
    # Draw, rule, (init of a, init of b) at four times width and depth.
    "constant over width": (
        lambda s, n, k: std(s.a, 0.02 / (2 * (k + 1)) ** 0.5),
        Rule("constant", layers=True), 0.5),
    "1/√fan_in": (
        lambda s, n, k: std(s.a, (n * (k + 1)) ** -0.5), Rule("1/√fan_in", layers=True), 1.0),
    "1/fan_in": (
        lambda s, n, k: std(s.a, 3.0 ** -k / n), Rule("1/fan_in", layers=True), 2.0),
    "growing, and not on": (
        lambda s, n, k: std(s.a, n**-0.5 * (2 - 0.5**k)), Rule("1/√fan_in", layers=True), 1.0),
    "the first alone": (
        lambda s, n, k: std(s.a, n**-0.5 * (2 if k == 0 else 1)), Rule("1/√fan_in", layers=True), 1.0),
    "all but the first zero": (
        lambda s, n, k: std(s.a, n**-0.5 * (k == 0)), Rule("1/√fan_in", layers=True), 1.0),
}  # fmt: skip


@pytest.mark.parametrize("name", BY_LAYER)
def test_layers_of_their_own_scale_are_kept(name):
    draw, rule, init = BY_LAYER[name]
    plan, kinds = planned(drawn(draw))
    assert kinds["a.weight"].rule == rule
    f = plan.factors()
    assert [f[f"blocks.{k}.a.weight"].init for k in range(8)] == pytest.approx([init] * 8)
    # The rates are those of any other draw.
    plain = planned(drawn(lambda s, n, k: None))[0].factors()["blocks.0.a.weight"]
    assert (f["blocks.7.a.weight"].lr, f["blocks.7.a.weight"].eps) == (plain.lr, plain.eps)
    torch.manual_seed(3)
    model = drawn(draw)(64, 8)
    before = [b.a.weight.detach().clone() for b in model.blocks]
    for b, x in zip(plan.apply(model).blocks, before, strict=True):
        torch.testing.assert_close(b.a.weight.detach(), x * init)


def test_layers_whose_scale_grows_on_and_on_are_refused():
    with pytest.raises(
        ValueError, match="numbers that grow with depth at initialization under this plan"
    ):
        planned(drawn(lambda s, n, k: std(s.a, n**-0.5 * (1 + k))))


def deep(f):
    """Draws of layer and depth."""

    def build(n, depth):
        return net(lambda n, k: Block(n, k, lambda s, n, k: std(s.b, n**-0.5 * f(k, depth))))(
            n, depth
        )

    return build


def test_a_depth_factor_of_every_layer_is_taken_for_the_branchs():
    """std ∝ 1/√L in each layer: of the 1/r that is due r^-½ is there."""
    plan, kinds = planned(deep(lambda k, depth: (k + 1) ** -0.5 * depth**-0.5))
    assert kinds["b.weight"].rule == Rule("1/√fan_in", "1/√depth", layers=True)
    assert plan.factors()["blocks.0.b.weight"].init == pytest.approx(4**-0.5)
    plan, kinds = planned(deep(lambda k, depth: (k + 1) / depth))
    assert kinds["b.weight"].rule == Rule("1/√fan_in", "1/depth", layers=True)
    assert plan.factors()["blocks.0.b.weight"].init == pytest.approx(1.0)


def test_a_function_of_layer_and_depth_is_kept():
    plan, kinds = planned(deep(lambda k, depth: 1 - k / (2 * depth)))
    assert kinds["b.weight"].rule == Rule("1/√fan_in", layers=True)
    assert plan.factors()["blocks.3.b.weight"].init == 0.25


def test_layers_that_change_differently_with_width_are_refused():
    with pytest.raises(ValueError, match=r"blocks.\*.a.weight: .*its layers change differently"):
        planned(drawn(lambda s, n, k: std(s.a, n ** -(0.5 + k / 2))))


def test_coordinates_of_a_draw_by_layer():
    build = drawn(lambda s, n, k: [std(m, 0.1 / (2 * (k + 1)) ** 0.5) for m in (s.a, s.b)])
    plan = ll.plan(build, dict(width=32, depth=2), inputs=X)
    found = slopes(plan, build, X, widths=(32, 64, 128, 256))
    for name in ("blocks.0.a", "blocks.1.a", "blocks.1.b"):
        assert np.abs(found[name]).max() < 0.15, (name, found[name])


class Scan(nn.Module):
    """Heads of eight, each with a decay of its own, exp(-exp(rate)), and a slope."""

    def __init__(self, n, k, rates, bias=None):
        super().__init__()
        self.norm, self.i = nn.LayerNorm(n), nn.Linear(n, n, bias=False)
        self.o = nn.Linear(n, n, bias=False)
        self.rate = nn.Parameter(rates(n // 8))
        self.slope = nn.Parameter(2.0 ** -torch.linspace(1, 8, n // 8))

    def forward(self, h):
        y = self.i(self.norm(h)).unflatten(-1, (-1, 8))
        y = y * (1 + torch.exp(-torch.exp(self.rate)) + self.slope)[:, None]
        return h + self.o(y.flatten(-2))


VALUES = {
    "log of 1, 2, 3": lambda k: torch.log(torch.arange(1.0, k + 1)),
    "evenly spaced": lambda k: torch.linspace(0.1, k, k),
    "inverse softplus": lambda k: torch.log(torch.expm1(torch.logspace(-3, -1, k))),
    "partly drawn": lambda k: torch.log(torch.arange(1.0, k + 1)) + 0.1 * torch.randn(k),
    "drawn around a value": lambda k: torch.empty(k).uniform_(1, 16).log() * k**0.5,
}


@pytest.mark.parametrize("name", VALUES)
def test_values_that_are_no_draw_are_left_alone(name):
    build = net(lambda n, k: Scan(n, k, VALUES[name]))
    plan = ll.plan(build, dict(width=64, depth=2), dict(width=512, depth=4), inputs=X)
    f = plan.factors()
    for p in ("rate", "slope"):
        kind = next(k for k in plan.kinds if k.template == f"blocks.*.{p}")
        assert (kind.role, kind.rule.fixed) == ("vector", True)
        assert f[f"blocks.0.{p}"].init == 1.0
    assert f["blocks.0.o.weight"].init == 0.5
    torch.manual_seed(0)
    model = build(512, 4)
    before = model.blocks[1].rate.detach().clone()
    assert torch.equal(plan.apply(model).blocks[1].rate.detach(), before)


def test_coordinates_of_heads_that_decay():
    build = net(lambda n, k: Scan(n, k, VALUES["log of 1, 2, 3"]))
    plan = ll.plan(build, dict(width=64, depth=2), inputs=X)
    found = slopes(plan, build, X, widths=(64, 128, 256))
    for name in ("blocks.0.i", "blocks.1.i", "blocks.1.o"):
        # More heads decay faster, so that their mean is no exact constant.
        assert np.abs(found[name]).max() < 0.2, (name, found[name])


def seeding(how):
    """A builder that seeds its own random numbers: its values are the same in every build."""

    def build(n, depth):
        model = net(lambda n, k: Block(n, k, lambda s, n, k: None))(n, depth)
        generator = torch.Generator().manual_seed(0)
        if how == "global":
            torch.manual_seed(0)
            generator = None
        for p in model.parameters():
            if how == "numpy":
                draw = np.random.default_rng(0).normal(size=tuple(p.shape), scale=0.02)
                p.data.copy_(torch.tensor(draw))
            else:
                nn.init.normal_(p, std=0.02, generator=generator)
        return model

    return build


@pytest.mark.parametrize("how", ["global", "generator"])
def test_a_builder_that_seeds_its_own_draws(how):
    _, kinds = planned(seeding(how))
    assert {k.rule for k in kinds.values()} == {Rule("constant")}
    state = torch.get_rng_state()
    planned(seeding(how))
    assert torch.equal(torch.get_rng_state(), state)


def test_matrices_that_are_no_draw_and_grow_with_width_are_refused():
    """As those of a generator that cannot be seen: constant where 1/√n is due."""
    with pytest.raises(
        ValueError, match=r"the same in every build.*\n  give it .*dict\(init=False\)"
    ):
        planned(seeding("numpy"))
    plan, kinds = planned(seeding("numpy"), roles={"*": dict(init=False)})
    assert {k.rule for k in kinds.values()} == {Rule(fixed=True)}
    assert plan.factors()["blocks.0.a.weight"].init == 1.0
    assert plan.factors()["blocks.0.b.weight"].init == 0.25
    assert plan.factors()["blocks.0.a.weight"].lr == 0.25
    with pytest.raises(ValueError, match=r"% of its mean square is the same in every build"):
        planned(drawn(lambda s, n, k: s.a.weight.add_(torch.eye(n))))


def test_identities_and_gains_of_a_value_are_left_alone():
    def draw(s, n, k):
        nn.init.eye_(s.a.weight)
        s.b.weight.copy_(torch.ones(n, n) / n)

    plan, _ = planned(drawn(draw))
    f = plan.factors()["blocks.0.a.weight"], plan.factors()["blocks.0.b.weight"]
    assert [x.init for x in f] == [1.0, 0.25]
    assert [x.lr for x in f] == [0.25, 0.0625]


@pytest.mark.parametrize(("power", "init"), [(0.0, 0.25), (0.5, 0.5), (1.0, 1.0)])
def test_a_gain_that_falls_with_depth_is_the_branchs_multiplier(power, init):
    """What ends the branch has L^-power of the 1/L that is due."""

    class Scaled(Block):
        def __init__(self, n, k, depth):
            super().__init__(n, k, lambda s, n, k: None)
            self.gain = nn.Parameter(torch.full((n,), 0.5 * depth**-power))

        def forward(self, h):
            return h + self.gain * self.b(torch.relu(self.a(h)))

    def build(n, depth):
        return net(lambda n, k: Scaled(n, k, depth))(n, depth)

    plan, _ = planned(build)
    assert plan.factors()["blocks.0.gain"].init == pytest.approx(init)
    assert plan.factors()["blocks.0.gain"].fold == 0.25


def test_a_gain_in_steps_of_depth_is_kept():
    """CaiT's: 0.1, 1e-5 from some depth on; at the target another one than at the three small sizes."""

    class Scaled(Block):
        def __init__(self, n, k, depth):
            super().__init__(n, k, lambda s, n, k: None)
            self.gain = nn.Parameter(torch.full((n,), 0.1 if depth < 6 else 1e-5))

        def forward(self, h):
            return h + self.gain * self.b(F.relu(self.a(h)))

    def build(n, depth):
        return net(lambda n, k: Scaled(n, k, depth))(n, depth)

    plan, _ = planned(build)
    model = plan.apply(build(64, 8))
    torch.testing.assert_close(model.blocks[0].gain.detach(), torch.full((64,), 1e-5 / 4))


def test_loaded_values_are_still_noticed():
    build = drawn(lambda s, n, k: std(s.a, (k + 1) ** -0.5 / math.sqrt(n)))
    plan, _ = planned(build)
    model = build(64, 8)
    with torch.no_grad():
        model.head.weight.mul_(3)
    with pytest.raises(ValueError, match=r"'head.weight' has root mean square .*no fresh values"):
        plan.apply(model)


def test_a_small_base_with_one_output():
    """1/√fan_in and 1/√(fan_in + fan_out), at most 6 % apart at larger widths, are taken for one."""
    made = ll.plan(
        ll.residual_mlp(4, 1), base=dict(width=8, depth=2), target=dict(width=16, depth=2)
    )
    assert made.kinds[made.names["readout.weight"]].rule == Rule("1/√fan_in")
