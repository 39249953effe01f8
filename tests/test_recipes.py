"""Recipes: checked settings, the torch optimizers they make, and the classes that torch lacks."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

import leadline as ll
from check_models import Model
from leadline.describe import settings
from leadline.parametrization.updates import (
    ExactMuon,
    LionUpdates,
    SignUpdates,
    muon_factor,
    newton_schulz,
)
from leadline.recipes.base import Recipe

BASE, TARGET = dict(width=16, depth=2), dict(width=32, depth=4)
RECIPES = (
    ll.SGD(lr=0.1, momentum=0.9, weight_decay=0.2),
    ll.Adam(lr=2e-3, betas=(0.8, 0.9), eps=1e-6, weight_decay=0.2),
    ll.AdamW(lr=2e-3, betas=(0.8, 0.9), eps=1e-6, weight_decay=0.2),
    ll.Lion(lr=1e-3, betas=(0.8, 0.9), weight_decay=0.2),
    ll.SignSGD(lr=1e-3, momentum=0.7, weight_decay=0.2),
    ll.Muon(lr=0.02, weight_decay=0.2, adamw=dict(lr=3e-3, eps=1e-6)),
    ll.Muon(lr=0.02, adjust="match-rms", weight_decay=0.2),
)


@pytest.fixture(scope="module")
def plans():
    names = {r.optimizer for r in RECIPES}
    return {n: ll.plan(Model, BASE, TARGET, optimizer=n) for n in names}


def walk(p, optimizer, gradients):
    """Weights after each gradient."""
    out = []
    for g in gradients:
        p.grad = g.clone()
        optimizer.step()
        out.append(p.detach().clone())
    return torch.stack(out)


def drawn(*shape, steps=4, dtype=torch.float64):
    g = torch.Generator().manual_seed(0)
    p = nn.Parameter(torch.randn(*shape, generator=g, dtype=dtype))
    return p, torch.randn(steps, *shape, generator=g, dtype=dtype)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda r: r.optimizer)
def test_optimizers_have_the_settings_of_the_plans_own(recipe, plans):
    """Every parameter once; rates, decays and ε are the base's times the plan's factors."""
    plan = plans[recipe.optimizer]
    model = Model(32, 4)
    made = recipe.optimizers(plan, model)
    named = {id(p): n for n, p in model.named_parameters()}
    groups = [g for o in made for g in o.param_groups]
    assert sorted(named[id(p)] for g in groups for p in g["params"]) == sorted(named.values())
    factors, kinds = plan.factors(model), plan.kind_of(model)
    for g in groups:
        for p in g["params"]:
            f, rule = factors[named[id(p)]], plan.uses(kinds[named[id(p)]])
            own = recipe.rest if isinstance(recipe, ll.Muon) and rule.name == "adamw" else recipe
            assert g["lr"] == own.lr * f.lr
            assert g["weight_decay"] == own.weight_decay * f.weight_decay
            for name in ("betas", "momentum"):
                if hasattr(own, name):
                    assert g[name] == getattr(own, name)
            if rule.has_eps:
                assert g["eps"] == own.eps * f.eps


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda r: r.optimizer)
def test_settings_of_every_parameter(recipe, plans):
    """Vectors without decay; the others' settings are those of the groups."""
    plan, model = plans[recipe.optimizer], Model(32, 4)
    told = replace(recipe, no_decay="vector").settings(plan, model)
    assert told.keys() == dict(model.named_parameters()).keys()
    factors, kinds = plan.factors(model), plan.kind_of(model)
    for name, s in told.items():
        rest = isinstance(recipe, ll.Muon) and plan.uses(kinds[name]).name == "adamw"
        assert s["lr"] == (recipe.rest if rest else recipe).lr * factors[name].lr
        decay = 0.0 if kinds[name].role == "vector" else recipe.weight_decay
        assert s["weight_decay"] == decay * factors[name].weight_decay
        assert issubclass(s["kind"], torch.optim.Optimizer)
        assert (s["kind"] is torch.optim.AdamW) == (rest or isinstance(recipe, ll.AdamW))


def test_a_torch_without_muon(plans, monkeypatch):
    """Only what rounds to bfloat16 needs torch's."""
    monkeypatch.delattr(torch.optim, "Muon")
    assert ll.Muon().optimizers(plans["muon"], Model(32, 4))
    with pytest.raises(ValueError, match=r"no Muon: install torch >= 2.9, or take the exact one"):
        ll.Muon(bfloat16=True).optimizers(plans["muon"], Model(32, 4))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda r: r.optimizer)
def test_what_is_trained_elsewhere_is_left_out(recipe, plans):
    plan, model = plans[recipe.optimizer], Model(32, 4)
    names = dict(model.named_parameters())
    hidden = {n for n, k in plan.kind_of(model).items() if k.role == "hidden"}
    made = recipe.optimizers(plan, model, skip=hidden)
    there = {id(p) for o in made for g in o.param_groups for p in g["params"]}
    assert there == {id(p) for n, p in names.items() if n not in hidden}
    assert recipe.optimizers(plan, model, skip=set(names)) == []
    with pytest.raises(ValueError, match="skip: the model has no parameter 'nowhere'"):
        recipe.optimizers(plan, model, skip={"nowhere"})


def test_a_plan_for_another_optimizer_is_refused(plans):
    with pytest.raises(ValueError, match="recipe is Lion: plan with optimizer='lion'"):
        ll.Lion().optimizers(plans["adamw"], Model(32, 4))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda r: r.optimizer)
def test_a_record_is_a_value(recipe):
    assert isinstance(recipe, Recipe)
    again = replace(recipe)
    assert again == recipe
    assert hash(again) == hash(recipe)
    assert replace(recipe, lr=0.5) != recipe
    assert copy.deepcopy(recipe) == recipe
    said = settings(recipe)
    assert "clip" not in said
    assert said["lr"] == recipe.lr
    assert settings(replace(recipe, clip=2.0))["clip"] == 2.0
    assert settings(replace(recipe, schedule=lambda k: 0.5))["schedule"].startswith("lambda")
    assert replace(recipe, schedule=[1.0] * 10).multiplier(3) == 1.0
    named = replace(recipe, schedule="linear", steps=4)
    assert [named.multiplier(k) for k in range(4)] == [1.0, 0.75, 0.5, 0.25]
    # A name keeps its meaning where the number of steps changes.
    assert replace(named, steps=10).multiplier(9) == pytest.approx(0.1)
    assert settings(named)["schedule"] == "linear"


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: ll.Adam(lr=0), ValueError, "lr=0 is out of range"),
        (lambda: ll.AdamW(betas=(0.9, 1.0)), ValueError, r"betas=1.0 is out of range: .*< 1"),
        (lambda: ll.AdamW(betas=0.9), TypeError, "betas=0.9 is not a sequence"),
        (lambda: ll.AdamW(betas=(0.9,)), ValueError, "is one number: give two"),
        (lambda: ll.AdamW(eps=-1e-8), ValueError, "eps=-1e-08"),
        (lambda: ll.Lion(batch_size=0), ValueError, "batch_size=0 is too small"),
        (lambda: ll.Lion(weight_decay=-1.0), ValueError, "weight_decay=-1.0 is out of range"),
        (lambda: ll.Adam(lr=1e31), ValueError, "lr=1e[+]31 is out of range"),
        (lambda: ll.Lion(steps=-1), ValueError, "steps=-1 is too small"),
        (lambda: ll.Lion(clip=0.0), ValueError, "clip=0.0 is out of range"),
        (lambda: ll.SignSGD(momentum=1.0), ValueError, "momentum=1.0"),
        (lambda: ll.SignSGD(schedule=[1.0]), ValueError, "1 multipliers, steps=10"),
        (lambda: ll.Adam(schedule="cosin"), ValueError, "schedule='cosin'.*did you mean 'cosine'"),
        (lambda: ll.Adam(no_decay=3), TypeError, "no_decay=3"),
        (lambda: ll.Adam(no_decay=("vector", 3)), TypeError, "no_decay=3 is not a str: give roles"),
        (lambda: ll.Muon(ns_steps=0), ValueError, "ns_steps=0"),
        (lambda: ll.Muon(adjust="rms"), ValueError, "did you mean 'match-rms'"),
        (lambda: ll.Muon(adamw=0.1), TypeError, "adamw=0.1 is not a Mapping: give a dict"),
        (lambda: ll.Muon(adamw=dict(steps=3)), ValueError, "adamw='steps' is unknown"),
        (lambda: ll.Muon(adamw=dict(lr=-1.0)), ValueError, "adamw: lr=-1.0"),
        (lambda: ll.SGD(train="hidden").check_model(), ValueError, "train=.* is for a ResNet"),
        (lambda: ll.SGD(center=True).check_model(), ValueError, "center=True is for a ResNet"),
    ],
)  # fmt: skip
def test_refusals(make, error, words):
    with pytest.raises(error, match=words):
        make()


@pytest.mark.parametrize("call", [ll.solve, ll.train, ll.limit, ll.lazy])
def test_a_resnet_trains_by_sgd(call):
    problem = ll.digits(classes=(0, 1), samples=8, test_samples=0)
    size = {} if call in (ll.limit, ll.lazy) else dict(width=8, depth=2)
    with pytest.raises(TypeError, match="a ResNet trains by SGD"):
        call(problem, ll.ResNet(), ll.AdamW(), **size)
    with pytest.raises(ValueError, match=r"no_decay=.* is for a model of a builder"):
        call(problem, ll.ResNet(), ll.SGD(no_decay="vector"), **size)
    with pytest.raises(ValueError, match=r"clip=1\.0 is for a model of a builder"):
        call(problem, ll.ResNet(), ll.SGD(clip=1.0), **size)


def test_lion_by_hand():
    p, gradients = drawn(3, 2)
    w, m, out = p.detach().clone(), torch.zeros(3, 2, dtype=torch.float64), []
    for g in gradients:
        w = w * (1 - 0.01 * 0.5) - 0.01 * torch.sign(0.6 * m + 0.4 * g)
        m = 0.9 * m + 0.1 * g
        out.append(w)
    walked = walk(p, LionUpdates([p], lr=0.01, betas=(0.6, 0.9), weight_decay=0.5), gradients)
    torch.testing.assert_close(walked, torch.stack(out), rtol=1e-15, atol=1e-15)


@pytest.mark.parametrize("momentum", [0.0, 0.6])
def test_signsgd_by_hand(momentum):
    p, gradients = drawn(3, 2)
    w, m, out = p.detach().clone(), torch.zeros(3, 2, dtype=torch.float64), []
    for g in gradients:
        m = momentum * m + (1 - momentum) * g
        w = w * (1 - 0.01 * 0.5) - 0.01 * torch.sign(m)
        out.append(w)
    walked = walk(p, SignUpdates([p], lr=0.01, momentum=momentum, weight_decay=0.5), gradients)
    torch.testing.assert_close(walked, torch.stack(out), rtol=1e-15, atol=1e-15)


def test_newton_schulz_acts_on_singular_values_alone():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(2, 5, 3, generator=g, dtype=torch.float64)
    a, b, c = 3.4445, -4.7750, 2.0315
    u, s, v = torch.linalg.svd(x, full_matrices=False)
    s = s / s.square().sum(-1, keepdim=True).sqrt()
    for _ in range(5):
        s = a * s + b * s**3 + c * s**5
    due = u @ torch.diag_embed(s) @ v
    torch.testing.assert_close(newton_schulz(x), due, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(newton_schulz(x.mT), due.mT, rtol=1e-12, atol=1e-13)
    assert newton_schulz(torch.zeros(2, 2)).abs().max() == 0


@pytest.mark.parametrize("shape", [(6, 4), (4, 6)])
@pytest.mark.parametrize("adjust", ["original", "match_rms_adamw"])
@pytest.mark.parametrize("nesterov", [True, False])
def test_muon_is_torchs_without_its_rounding(shape, adjust, nesterov):
    """bfloat16 keeps 8 bits: singular directions of ratio 10 in 5 iterations are off by a few per cent."""
    how = dict(lr=0.1, weight_decay=0.5, nesterov=nesterov, adjust_lr_fn=adjust, momentum=0.8)
    walks = []
    for kind in (ExactMuon, torch.optim.Muon):
        p, gradients = drawn(*shape, dtype=torch.float32)
        walks.append(walk(p, kind([p], **how), gradients) - p.detach().new_zeros(()))
    scale = 0.1 * muon_factor(adjust, *shape)
    assert (walks[0] - walks[1]).abs().max() < 0.05 * 4 * scale
    start, _ = drawn(*shape, dtype=torch.float32)
    assert (walks[0][-1] - start.detach() * 0.95**4).abs().max() > 0.5 * scale


@pytest.mark.parametrize("kind", [LionUpdates, SignUpdates, ExactMuon])
def test_a_state_goes_on(kind):
    """Two steps, then two of an optimizer that has loaded the state, are four steps."""
    how = dict(momentum=0.9) if kind is SignUpdates else {}
    p, gradients = drawn(4, 3)
    whole = walk(p, kind([p], lr=0.01, **how), gradients)
    q, _ = drawn(4, 3)
    first = kind([q], lr=0.01, **how)
    walk(q, first, gradients[:2])
    second = kind([q], lr=0.01, **how)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    assert torch.equal(walk(q, second, gradients[2:])[-1], whole[-1])
    assert second.step(lambda: 3.0) == 3.0
