"""Remedies that refusals print are followed, and every weight that trains is in one group."""

import re

import pytest
import torch
from torch import nn

import leadline as ll
from coordinates import net
from leadline.parametrization.optimizers import OPTIMIZERS
from leadline.planning.remedies import offered, with_remedies
from test_tracing_refusals import BUILDERS, MODELS
from tracing_models import gpt2, two

BASE, TARGET = dict(width=16, depth=2), dict(width=64, depth=8)
X = torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(0))


def check_groups(plan, model):
    """Every parameter that trains is in exactly one group."""
    parts = ("muon", "adamw") if plan.optimizer_rule.update.startswith("orthogonal") else (None,)
    trained = [
        id(p)
        for part in parts
        for g in plan.param_groups(model, lr=1.0, part=part)
        for p in g["params"]
    ]
    assert sorted(trained) == sorted(id(p) for p in model.parameters() if p.requires_grad)


def followed(message, role):
    """The roles= of a message, as they stand there; dots are the reader's to fill."""
    out = {}
    for text in re.findall(r"roles=(\{[^{}]*\})", message):
        text = text.replace("role=...", f"role={role!r}").replace(": ...}", f": {role!r}}}")
        out |= eval(text, {"dict": dict})
    return out


# What following the remedies leads to: a plan, or a refusal that says something else.
ENDS = {
    "a matrix of all layers in the stream": None,
    "two equal paths": None,
    "spectral norm": None,
    "orthogonal": None,
    "unused": None,
    "frozen": None,
    "drawn as n^-1/3": None,
    "zero at one size": None,
    "one block for all": "no residual branch repeats",
    "a readout of every layer": "adds up what the layers make",
    "grown by another operation": "no residual branch repeats",
}


@pytest.mark.parametrize("name", ENDS)
def test_a_printed_remedy_works_or_leads_to_another_refusal(name):
    build, _ = (MODELS | BUILDERS)[name]
    role = "vector" if "norm shared" in name else "hidden"
    with pytest.raises(ValueError, match="roles=") as refusal:
        ll.plan(build, BASE, TARGET, scheme="completep")
    roles = followed(str(refusal.value), role)
    if ENDS[name] is not None:
        with pytest.raises(ValueError, match=ENDS[name]):
            ll.plan(build, BASE, TARGET, scheme="completep", roles=roles)
        return
    plan = ll.plan(build, BASE, TARGET, scheme="completep", roles=roles)
    model = build(64, 8)
    check_groups(plan, plan.apply(model))
    # Rates of what trains follow a role: a hidden matrix has 1/m of them.
    hidden = [k for k in plan.kinds if k.role == "hidden"]
    assert {plan.exponents(k).lr.width for k in hidden} == {-1.0}
    assert all(torch.isfinite(p).all() for p in model.parameters())


@pytest.mark.parametrize("role", ["input", "hidden", "readout", "vector", "finite"])
@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
def test_whatever_role_is_given_the_weight_trains(role, optimizer):
    how = dict(base=dict(width=8, depth=1), target=dict(width=16, depth=2), optimizer=optimizer)
    for entry in (role, dict(role=role, branch=False), dict(role=role, init=False)):
        plan = ll.plan(two, roles={"blocks.*.a.weight": entry}, **how)
        check_groups(plan, plan.apply(two(16, 2)))


def test_kept_values_have_their_roles_rates():
    plain = ll.plan(two, BASE, TARGET).factors()
    kept = ll.plan(two, BASE, TARGET, roles={"blocks.*": dict(init=False)}).factors()
    for n in ("blocks.0.a.weight", "blocks.7.b.weight"):
        a, b = plain[n], kept[n]
        assert (a.lr, a.weight_decay, a.eps, a.fold) == (b.lr, b.weight_decay, b.eps, b.fold)
    # The branch's 1/4 is folded in all the same.
    assert kept["blocks.0.a.weight"].init == 1.0
    assert kept["blocks.0.b.weight"].init == 0.25
    # A tied embedding keeps what its tie asks for.
    tied = ll.plan(gpt2, dict(width=32, depth=2), dict(width=64, depth=2),
                   roles={"transformer.wte.weight": dict(init=False)})  # fmt: skip
    assert tied.factors()["transformer.ln_f.weight"].fold == 0.5


def test_frozen_is_for_what_does_not_train():
    with pytest.raises(ValueError, match=r"'stem.weight' trains .*dict\(init=False\)") as refusal:
        ll.plan(two, BASE, TARGET, roles={"stem.weight": "frozen"})
    plan = ll.plan(two, BASE, TARGET, roles=followed(str(refusal.value), ""))
    check_groups(plan, plan.apply(two(64, 8)))
    with pytest.raises(ValueError, match=r"blocks.\*.a.weight': dict") as refusal:
        ll.plan(two, BASE, TARGET, roles={"blocks.*.a.weight": "frozen"})
    assert list(followed(str(refusal.value), "")) == ["blocks.*.a.weight"]


def test_what_was_frozen_and_trains_later_is_not_left_out():
    def build(n, depth):
        model = two(n, depth)
        model.stem.requires_grad_(False)
        return model

    plan = ll.plan(build, BASE, TARGET, roles={"stem.weight": "frozen"})
    model = plan.apply(build(64, 8))
    check_groups(plan, model)
    model.stem.requires_grad_(True)
    with pytest.raises(ValueError, match=r"'stem.weight' trains in this model and was frozen"):
        plan.param_groups(model, lr=1.0)
    space = {}
    exec(plan.to_code(), space)
    with pytest.raises(KeyError, match=r"stem\.weight"):
        space["param_groups"](model, lr=1.0)
    model.stem.requires_grad_(False)
    assert sum(len(g["params"]) for g in space["param_groups"](model, lr=1.0)) == 17


@pytest.mark.parametrize("bad", [dict(init=False, rate=1), dict(role="hidden", init="no"), dict()])
def test_entries_that_say_nothing_are_refused(bad):
    with pytest.raises((ValueError, TypeError), match=r"roles\['stem.weight'\]"):
        ll.plan(two, BASE, TARGET, roles={"stem.weight": bad})


def test_messages_name_all_layers_at_once():
    class Block(nn.Module):
        def __init__(self, n, k):
            super().__init__()
            self.a = nn.utils.parametrizations.spectral_norm(nn.Linear(n, n, bias=False))

        def forward(self, h):
            return h + self.a(h)

    with pytest.raises(ValueError, match="is turned into a weight") as refusal:
        ll.plan(net(Block), dict(width=16, depth=4), inputs=X)
    assert str(refusal.value).count("roles=") == 1
    assert "roles={'blocks.*.a.parametrizations.weight.original'" in str(refusal.value)


class Unit(nn.Module):
    """Residual layers whose last weight is divided by its largest entry: its scale is gone."""

    def __init__(self, width, depth):
        super().__init__()
        self.first, self.last = nn.Linear(8, width), nn.Linear(width, 3)
        self.up = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.down = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))

    def forward(self, x):
        x = self.first(x)
        for up, down in zip(self.up, self.down, strict=True):
            w = down.weight
            x = x + torch.relu(up(x)) @ (w / w.abs().amax())
        return self.last(x)


def test_a_refusal_says_what_its_remedy_leads_to():
    with pytest.raises(ValueError, match="With that it comes to this:") as refusal:
        ll.plan(Unit, BASE, TARGET, inputs=X)
    first, *more = str(refusal.value).split("\nWith that it comes to this:\n")
    assert offered(first) == {"roles": {"down.*.weight": "hidden"}}
    # What is named last has been tried too: neither the role nor another scheme brings the scale back.
    with pytest.raises(ValueError, match="plain weight") as last:
        ll.plan(Unit, BASE, TARGET, inputs=X, scheme="mup", **offered(first))
    assert str(last.value) == more[-1]
    assert "give the layer a plain weight" in more[-1]


class Unruly(nn.Module):
    """Residual layers of an unknown initialization, with or without a weight at the end of a branch."""

    def __init__(self, width, depth, end):
        super().__init__()
        self.end, self.first, self.last = end, nn.Linear(8, width), nn.Linear(width, 3)
        self.up = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        for up in self.up:
            nn.init.normal_(up.weight, std=width ** (-1 / 3))

    def forward(self, x):
        x = self.first(x)
        for up in self.up:
            x = x + self.end(up(x))
        return self.last(x)


def test_a_remedy_that_works_is_shown_alone():
    def build(width, depth):
        return Unruly(width, depth, nn.Identity())

    with pytest.raises(ValueError, match="follows no known rule") as refusal:
        ll.plan(build, BASE, TARGET, inputs=X)
    assert "With that" not in str(refusal.value)
    assert ll.plan(build, BASE, TARGET, inputs=X, **offered(str(refusal.value))).branches


def test_a_refusal_names_all_that_it_takes():
    def build(width, depth):
        return Unruly(width, depth, nn.Tanh())

    with pytest.raises(ValueError, match="With that it comes") as refusal:
        ll.plan(build, BASE, TARGET, inputs=X)
    how = offered(str(refusal.value))
    assert set(how) == {"roles", "scheme"}
    assert ll.plan(build, BASE, TARGET, inputs=X, **how).scheme == "mup"


def test_a_refusal_without_a_remedy_keeps_its_type():
    class Own(ValueError):
        """An error of the user's model."""

    def read(scheme, roles):
        raise Own("roles={my own words} are wrong")

    with pytest.raises(Own, match="my own words"):
        with_remedies(read, "auto", None)


def test_one_number_before_a_weight_that_is_used_twice_counts_once():
    class Routed(nn.Module):
        """Shares of a small router, read before and after a layer, from entries divided by the width."""

        def __init__(self, width, depth, divided):
            super().__init__()
            self.first, self.last = nn.Linear(8, width), nn.Linear(width, 3)
            self.router = nn.Linear(width, 2, bias=False)
            self.up = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
            self.norm, self.scale = nn.LayerNorm(width), 16 / width if divided else 1.0

        def shares(self, x):
            return torch.tanh(self.router(self.norm(x) * self.scale))

        def forward(self, x):
            x = self.first(x)
            first = self.shares(x)
            for up in self.up:
                x = x + up(x)
            return self.last(x) + (first * self.shares(x)).mean(-1, keepdim=True)

    factors = [
        ll.plan(lambda w, d, how=how: Routed(w, d, how), BASE, TARGET, scheme="mup", inputs=X)
        .factors()["router.weight"]
        for how in (False, True)
    ]  # fmt: skip
    assert factors[1].init == pytest.approx(4 * factors[0].init)
    assert factors[1].lr == pytest.approx(4 * factors[0].lr)
