"""What a survey finds, field by field, in models small enough to know it by hand."""

import pytest
import torch
from torch import nn

import leadline as ll
from leadline.parametrization.rules import ONE, Power
from leadline.tracing.derived import DerivedWeight
from leadline.tracing.initialization import Rule
from survey_models import (
    BASE,
    TOKENS,
    Model,
    Normed,
    NormedBlock,
    Tied,
    X,
    linear,
    model,
    read_model,
)
from tracing_models import TwoLayers


def test_a_survey_of_a_residual_network():
    s, kinds = read_model(model())
    assert s.base == BASE
    assert s.branches == {"blocks.*": 2}
    assert (s.obstacles, s.derived) == ((), ())
    assert s.names == {
        "i.weight": 0, "o.weight": 1, "blocks.0.a.weight": 2, "blocks.0.b.weight": 3,
        "blocks.1.a.weight": 2, "blocks.1.b.weight": 3,
    }  # fmt: skip
    assert [k.template for k in s.kinds] == [
        "i.weight",
        "o.weight",
        "blocks.*.a.weight",
        "blocks.*.b.weight",
    ]
    i, _, a, b = s.kinds
    assert [k.shape for k in s.kinds] == [(16, 8), (64, 16), (16, 16), (16, 16)]
    assert [k.grows for k in s.kinds] == [(True, False), (False, True), (True, True), (True, True)]
    assert [k.role for k in s.kinds] == ["input", "readout", "hidden", "hidden"]
    assert [(k.branch, k.position, k.layers, k.last) for k in (i, a, b)] == [
        (None, None, None, False), ("blocks.*", 0, 2, False), ("blocks.*", 1, 2, True)]  # fmt: skip
    assert [k.takes for k in s.kinds] == [(), (), (), (("branch", ONE),)]
    assert [k.rule for k in s.kinds] == [
        Rule(),
        Rule("1/√fan_in"),
        Rule("1/√fan_in"),
        Rule("1/√fan_in"),
    ]
    assert [k.present for k in s.kinds] == [ONE] * 4
    # nn.Linear draws from ±1/√fan_in: standard deviation 1/√(3·fan_in).
    assert [k.scale for k in s.kinds] == pytest.approx(
        [(3 * f) ** -0.5 for f in (8, 16, 16, 16)], rel=0.1
    )
    assert [k.tied for k in s.kinds] == [()] * 4
    assert kinds["blocks.*.a.weight"].reason == "fan-in and fan-out grow"


def test_given_roles_and_the_streams_parameters():
    s, kinds = read_model(model(), {"*.a.*": "vector", "*.b.*": dict(role="finite", branch=False)})
    a, b = kinds["blocks.*.a.weight"], kinds["blocks.*.b.weight"]
    assert (a.role, a.reason) == ("vector", "given by roles=")
    # What is left of the branch has one layer, and the user's weight outside takes its multiplier.
    assert (a.position, a.layers, a.last) == (0, 1, True)
    assert (b.role, b.position, b.branch) == ("finite", None, None)
    assert s.obstacles == ()


def test_no_branch_is_left_where_all_are_given_as_the_streams():
    s, _ = read_model(model(), {"blocks.*": dict(role="hidden", branch=False)})
    assert s.branches == {}
    assert {k.position for k in s.kinds} == {None}


def test_a_given_role_in_a_branch():
    s, kinds = read_model(model(), {"*.a.*": dict(role="hidden", branch=True)})
    assert s.branches == {"blocks.*": 2}
    # Its values are drawn as the builder draws them.
    assert kinds["blocks.*.a.weight"].rule == Rule("1/√fan_in")


def test_values_kept_and_values_drawn():
    _, kinds = read_model(model(), {"*.a.*": dict(init=False), "i.*": dict(init=True)})
    assert kinds["blocks.*.a.weight"].rule == Rule(fixed=True)
    assert kinds["blocks.*.a.weight"].role == "hidden"
    assert kinds["i.weight"].rule == Rule()
    assert kinds["blocks.*.b.weight"].rule == Rule("1/√fan_in")


def test_multipliers_that_are_there():
    _, kinds = read_model(
        model(
            run=lambda s, h: s.o(h + sum(b.b(b.a(h)) for b in s.blocks) * 0) * s.o.in_features**-0.5
        )
    )
    assert kinds["o.weight"].present == Power(width=-0.5)


def test_multipliers_of_depth_that_are_there():
    def scaled(s, h):
        for b in s.blocks:
            h = h + b.b(torch.relu(b.a(h))) / len(s.blocks)
        return s.o(h)

    _, kinds = read_model(model(run=scaled))
    assert kinds["blocks.*.b.weight"].present == Power(depth=-1.0)
    assert kinds["blocks.*.a.weight"].present == ONE


def test_an_embedding_that_is_the_readout_too():
    s, kinds = read_model(Tied, inputs=TOKENS)
    assert kinds["e.weight"].role == "input"
    assert kinds["e.weight"].tied == ("e.weight", "o.weight")
    assert kinds["n.weight"].takes == kinds["n.bias"].takes == (("readout", ONE),)
    assert s.obstacles == ()


def test_an_embedding_that_is_not_the_readout():
    _, kinds = read_model(lambda n, depth: Tied(n, depth, tie=False), inputs=TOKENS)
    assert kinds["n.weight"].takes == ()


def test_an_embedding_that_is_the_readout_too_without_a_norm():
    s, _ = read_model(lambda n, depth: Tied(n, depth, norm=False), inputs=TOKENS)
    assert [what for what, _ in s.obstacles] == ["readout"]


def normed(dim):
    def change(self, n, depth):
        self.blocks = nn.ModuleList(NormedBlock(n, dim) for _ in range(depth))

    return model(change)


def test_gains_of_normalised_weights():
    s, kinds = read_model(normed(1))
    g = kinds["blocks.*.g"]
    assert (g.role, g.gain_of, g.takes) == ("vector", "hidden", (("branch", ONE),))
    assert kinds["blocks.*.v"].gain_of is None
    assert s.derived == (
        DerivedWeight(frozenset({"blocks.0.v", "blocks.0.g"}), "hidden"),
        DerivedWeight(frozenset({"blocks.1.v", "blocks.1.g"}), "hidden"),
    )


def test_gains_of_weights_normalised_as_a_whole():
    g = read_model(normed((0, 1)))[1]["blocks.*.g"]
    assert (g.role, g.gain_of) == ("finite", "hidden")
    # |v| of n² entries of size n^-½.
    assert g.takes == (("branch", ONE), ("norm", Power(width=-1.0)))


@pytest.mark.parametrize(("dim", "role", "takes"), [
    # |v| of 8 entries of size 1, whatever the width; of 8 n.
    (1, "vector", ()), ((0, 1), "finite", (("norm", Power(width=-0.5)),)),
])  # fmt: skip
def test_gains_of_normalised_input_weights(dim, role, takes):
    g = read_model(model(lambda s, n, depth: setattr(s, "i", Normed(n, dim, 8))))[1]["i.g"]
    assert (g.role, g.gain_of, g.takes) == (role, "input", takes)


def post_norm(self, n, depth):
    self.norms = nn.ModuleList(nn.LayerNorm(n) for _ in range(depth))


def run_post_norm(s, h):
    for b, norm in zip(s.blocks, s.norms, strict=True):
        h = norm(b(h))
    return s.o(h)


def test_obstacles_are_said_once_for_all_layers():
    def matrices(self, n, depth):
        self.norms = nn.ModuleList(nn.Linear(n, n) for _ in range(depth))

    s, _ = read_model(model(matrices, run_post_norm))
    assert [what for what, _ in s.obstacles] == ["branch"]
    assert "'norms.0.weight' repeats with depth" in s.obstacles[0][1]


def test_norms_behind_the_sums_are_no_obstacle():
    s, _ = read_model(model(post_norm, run_post_norm))
    assert s.obstacles == ()
    assert [k.template for k in s.kinds if k.beside] == ["norms.*.weight", "norms.*.bias"]


def test_what_the_user_says_is_the_streams_is_no_obstacle():
    overrides = {"norms.*": dict(role="vector", branch=False)}
    assert read_model(model(post_norm, run_post_norm), overrides)[0].obstacles == ()


def test_a_model_without_parameters_for_depth_has_a_rule_for_width():
    s, _ = read_model(lambda n, depth: Model(n, 2))
    assert (
        "has the same parameters at width=16, depth=2 and at width=16, depth=4" in s.obstacles[0][1]
    )
    with pytest.raises(ValueError, match="scheme='mup'"):
        ll.plan(lambda n, depth: Model(n, 2), dict(width=16, depth=2))
    ll.plan(lambda n, depth: Model(n, 2), dict(width=16, depth=2), scheme="mup")


def test_a_matrix_shared_by_all_layers_is_an_obstacle():
    def shared(s, h):
        for b in s.blocks:
            h = s.mix(b(h))
        return s.o(h)

    s, _ = read_model(model(lambda s, n, depth: setattr(s, "mix", nn.Linear(n, n)), shared))
    lines = [line for what, line in s.obstacles if what == "branch"]
    assert ["2 times at one depth and 4 times" in line for line in lines][:2] == [True, True]


def test_layers_without_branches_have_no_obstacles():
    def without_branches(s, h):
        for b in s.blocks:
            h = b.b(torch.relu(b.a(h)))
        return s.o(h)

    s, _ = read_model(model(run=without_branches))
    assert (s.branches, s.obstacles) == ({}, ())


def test_products_over_width_and_heads_that_grow_are_obstacles():
    def products(s, h):
        for b in s.blocks:
            h = b(h + (h @ h.mT) @ h)
        return s.o(h)

    s, _ = read_model(model(run=products))
    assert "attention" in {what for what, _ in s.obstacles}


def test_queries_take_the_scale_of_their_heads():
    def attends(s, h):
        q, k = s.q(h), s.k(h)
        return s.o(h + (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1) @ h)

    def change(self, n, depth):
        self.q, self.k = linear(n, n), linear(n, n)

    _, kinds = read_model(model(change, attends))
    assert kinds["q.weight"].takes == (("attention", Power(width=-0.5)),)
    assert kinds["k.weight"].takes == ()


def test_problems_are_said_for_all_layers_and_each_parameter():
    def change(self, n, depth):
        for b in self.blocks:
            for layer in (b.a, b.b):
                nn.utils.parametrizations.orthogonal(layer)

    with pytest.raises(ValueError, match="cannot decide") as e:
        read_model(model(change))
    assert str(e.value).count("\n") == 2
    for name in "ab":
        assert f"roles={{'blocks.*.{name}.parametrizations.weight.original': 'hidden'}}" in str(
            e.value
        )


def twice(s, h):
    for b in s.blocks:
        h = h + b.b(torch.relu(b.b(torch.relu(b.a(h)))))
    return s.o(h)


def test_a_last_layer_that_is_an_inner_one_too_takes_no_multiplier():
    s, kinds = read_model(model(run=twice))
    assert kinds["blocks.*.b.weight"].position == 1
    assert ["acts on it alone" in line for what, line in s.obstacles if what == "branch"] == [True]


def test_what_counts_as_the_streams_is_no_conflict():
    _, kinds = read_model(model(run=twice), {"*.b.*": dict(role="hidden", branch=False)})
    assert kinds["blocks.*.b.weight"].position is None


def deeper(f):
    """A model whose change knows its depth."""
    return model(lambda s, n, depth: f(s, n, depth))


REFUSED = {
    "the readout grows with depth": (
        deeper(lambda s, n, depth: setattr(s, "o", linear(n, 32 * depth))),
        r"'o.weight' has shape .*grows with depth, and is used as a whole.*parameters of its own"),
    "a parameter of one depth": (
        deeper(lambda s, n, depth: setattr(s, f"x{'y' * depth}", linear(n, n))),
        "parameters xyy.weight, xyyyy.weight exist at one depth only"),
    "a layer of another shape": (
        deeper(lambda s, n, depth: [
            setattr(b, "a", nn.Sequential(linear(n, 2 * n), linear(2 * n, n)))
            for b in s.blocks if depth > 2]),
        "exist at one depth only"),
    "later layers of another shape": (
        deeper(lambda s, n, depth: [
            (setattr(b, "a", linear(n, 3 * n)), setattr(b, "b", linear(3 * n, n)))
            for b in s.blocks[2:]]),
        r"the model at width=16, depth=4 is no repetition of the layers at half that depth \(parameter "
        r"'blocks.2.a.weight' has shape \(48, 16\), the plan expects \(16, 16\)\)"),
    "other operations at another width": (
        model(run=lambda s, h: s.o(torch.relu(h) if s.o.in_features > 16 else h)),
        "at width=16, depth=2 and at width=32, depth=2 runs different operations"),
    "a width without growth": (lambda n, depth: Model(16, depth), "build ignores width"),
    "a pass that fails": (
        model(run=lambda s, h: s.o(h[:, :3])),
        "the forward pass at width=16, depth=2 failed with RuntimeError"),
    "layers of unlike places": (
        lambda n, depth: nn.Sequential(
            nn.Embedding(64, n), *(TwoLayers(n) for _ in range(depth)), linear(n, 64)),
        "could be any of 2 parameters of the base model that have different places"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name):
    build, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        read_model(build, inputs=TOKENS if "unlike" in name else X)


def test_roles_that_match_nothing_are_refused_before_work():
    with pytest.raises(ValueError, match="matches no parameter"):
        read_model(model(), {"nothing": "input"})
    # A name of the deeper model alone is one.
    read_model(model(), {"blocks.3.a.weight": "hidden"})


def test_dimensions_that_equal_the_width():
    """A readout of 16 outputs and inputs of 16 numbers, at width 16; a layer more at twice the depth."""

    def build(n, depth):
        blocks = nn.Sequential(*(TwoLayers(n) for _ in range(depth)))
        return nn.Sequential(linear(16, n), blocks, linear(n, 16))

    _, kinds = read_model(build, inputs=torch.randn(3, 16))
    assert [(k.template, k.role) for k in kinds.values()] == [
        ("0.weight", "input"), ("1.*.a.weight", "hidden"), ("1.*.b.weight", "hidden"),
        ("2.weight", "readout")]  # fmt: skip


class Flat(nn.Module):
    """Layers and ends in one list: at twice the depth only growth tells which is which."""

    def __init__(self, n, depth):
        super().__init__()
        self.all = nn.ModuleList(
            [linear(16, n), *(linear(n, n) for _ in range(depth)), linear(n, 16)]
        )

    def forward(self, x):
        h = self.all[0](x)
        for layer in self.all[1:-1]:
            h = h + layer(torch.relu(h))
        return self.all[-1](h)


def test_layers_and_ends_in_one_list():
    s, _ = read_model(Flat, inputs=torch.randn(3, 16))
    assert [s.kinds[s.names[f"all.{i}.weight"]].role for i in range(4)] == [
        "input", "hidden", "hidden", "readout"]  # fmt: skip
    assert s.branches == {"all.*": 1}


def test_ends_in_one_list_with_the_layers_do_not_repeat():
    """Their indices grow with depth, and there is one of each at any depth: nothing adds up in them."""

    def build(n, depth):
        ends = [nn.LayerNorm(n), nn.Linear(n, 3)]
        return nn.Sequential(nn.Linear(8, n), *(TwoLayers(n) for _ in range(depth)), *ends)

    s, _ = read_model(build)
    assert not any(k.beside or "sums over depth" in k.reason for k in s.kinds)
    plan = ll.plan(build, dict(width=16, depth=2), dict(width=16, depth=8), inputs=X)
    rates = {name: f.lr for name, f in plan.factors().items() if f.lr != 1.0}
    assert set(rates) == {f"{k}.b.weight" for k in range(1, 9)}
