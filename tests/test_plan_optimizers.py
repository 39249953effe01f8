"""Folded multipliers train as explicit ones; groups have the table's settings; schedulers keep ratios."""

import pytest
import torch
from torch import nn

import leadline as ll
from check_models import BATCH, Model, mse
from leadline.parametrization.updates import LionUpdates, SignUpdates

X, Y = (t.double() for t in BATCH)


class Explicit(nn.Module):
    """One weight with a multiplier in the forward pass, or with none."""

    def __init__(self, a):
        super().__init__()
        g = torch.Generator().manual_seed(1)
        self.w1 = nn.Parameter(torch.randn(6, 8, generator=g, dtype=torch.float64) / 3)
        self.w2 = nn.Parameter(torch.randn(4, 6, generator=g, dtype=torch.float64) / 3)
        self.b2 = nn.Parameter(torch.randn(4, generator=g, dtype=torch.float64) / 3)
        self.a = a

    def forward(self, x):
        return self.a * (torch.tanh(x @ self.w1.mT) @ self.w2.mT + self.b2)


@pytest.mark.parametrize(
    ("make", "lr", "decay", "eps"),
    [
        (lambda g: torch.optim.SGD(g, lr=0.0, momentum=0.9), 2, -2, 0),
        (lambda g: torch.optim.Adam(g), 1, -2, -1),
        (lambda g: torch.optim.AdamW(g), 1, -1, -1),
    ],
    ids=["sgd", "adam", "adamw"],
)
def test_a_folded_multiplier_trains_as_an_explicit_one(make, lr, decay, eps):
    a, rate, shrink, small = 0.3, 0.02, 0.1, 1e-3
    outside, inside = Explicit(a), Explicit(1.0)
    with torch.no_grad():
        inside.w2.mul_(a)
        inside.b2.mul_(a)

    def groups(model, k):
        def one(params, factor):
            out = dict(params=params, lr=rate * factor**lr, weight_decay=shrink * factor**decay)
            return out | (dict(eps=small * factor**eps) if eps else {})

        return [one([model.w1], 1.0), one([model.w2, model.b2], k)]

    optimizers = [make(groups(outside, 1.0)), make(groups(inside, a))]
    for _ in range(8):
        for model, o in zip((outside, inside), optimizers, strict=True):
            o.zero_grad()
            mse(model, (X, Y)).backward()
            o.step()
        torch.testing.assert_close(outside(X), inside(X), rtol=1e-12, atol=1e-13)


def test_clipping_sees_the_unfolded_norm():
    plan = ll.plan(Model, dict(width=16, depth=2), dict(width=16, depth=8), optimizer="sgd")
    folds = {n: f.fold for n, f in plan.factors().items()}
    assert folds["blocks.0.down.weight"] == 0.25
    model = plan.apply(Model(16, 8))
    mse(model, BATCH).backward()
    grads = {n: p.grad.clone() for n, p in model.named_parameters()}
    due = sum(float((g * folds[n]).square().sum()) for n, g in grads.items()) ** 0.5
    norm = plan.clip_grad_norm_(model, 0.5 * due)
    assert float(norm) == pytest.approx(due, rel=1e-5)
    for n, p in model.named_parameters():
        torch.testing.assert_close(p.grad, grads[n] * 0.5, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize(
    "name", ["sgd", "adam", "adamw", "lion", "signsgd", "adafactor", "muon", "muon-match-rms"]
)
def test_every_optimizer_trains_the_target(name):
    plan = ll.plan(Model, dict(width=16, depth=2), dict(width=64, depth=8), optimizer=name)
    torch.manual_seed(0)
    model = plan.apply(Model(64, 8))
    how = dict(lr=2e-3, weight_decay=0.01)
    if name.startswith("muon"):
        adjust = "match_rms_adamw" if name == "muon-match-rms" else "original"
        optimizers = [
            torch.optim.Muon(plan.param_groups(model, part="muon", **how), adjust_lr_fn=adjust),
            torch.optim.AdamW(plan.param_groups(model, part="adamw", **how)),
        ]
    else:
        if name == "adafactor":
            how |= dict(eps=1e-3, lr=2e-2)
        make = {
            "sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW,
            "lion": LionUpdates, "signsgd": SignUpdates, "adafactor": torch.optim.Adafactor,
        }[name]  # fmt: skip
        optimizers = [make(plan.param_groups(model, **how))]
    losses = []
    for _ in range(20):
        loss = mse(model, BATCH)
        losses.append(float(loss.detach()))
        for o in optimizers:
            o.zero_grad()
        loss.backward()
        for o in optimizers:
            o.step()
    assert losses[-1] < losses[0]


def test_groups_have_the_tables_settings():
    plan = ll.plan(Model, dict(width=16, depth=2), dict(width=64, depth=8), scheme="completep")
    model = plan.apply(Model(64, 8))
    by_name = {}
    names = {id(p): n for n, p in model.named_parameters()}
    for g in plan.param_groups(
        model, lr=1.0, weight_decay=1.0, eps=1.0, no_decay=("vector", "read*")
    ):
        for p in g["params"]:
            by_name[names[id(p)]] = (g["lr"], g["weight_decay"], g["eps"])
    m, r = 4.0, 4.0
    assert by_name["embed.weight"] == (1.0, 1.0, 1 / m)
    assert by_name["embed.bias"] == (1.0, 0.0, 1 / m)
    assert by_name["blocks.3.up.weight"] == (1 / m, m, 1 / (m * r))
    assert by_name["blocks.3.up.bias"] == (1.0, 0.0, 1 / (m * r))
    # The branch multiplier 1/r is folded into the last layer: rate ×1/r, λ ×r, ε ×r.
    assert by_name["blocks.3.down.weight"] == (1 / (m * r), m * r, 1 / m)
    assert by_name["blocks.3.down.bias"] == (1 / r, 0.0, 1 / m)
    assert by_name["readout.weight"] == (1 / m, 0.0, 1.0)
    assert by_name["readout.bias"] == (1.0, 0.0, 1.0)


def test_equal_groups_are_merged():
    plan = ll.plan(Model, dict(width=16, depth=2))
    assert len(plan.param_groups(Model(16, 2), lr=1e-3)) == 1


def test_batch_and_duration():
    plan = ll.plan(Model, dict(width=16, depth=2), batch_ratio=4, token_ratio=2)
    (group,) = plan.param_groups(Model(16, 2), lr=1.0, weight_decay=1.0, eps=1.0, betas=(0.9, 0.99))
    assert group["lr"] == pytest.approx(2**0.5)
    assert group["weight_decay"] == pytest.approx(2**0.5)
    assert group["eps"] == pytest.approx(0.5**0.5)
    assert group["betas"] == pytest.approx((0.8, 0.98))
    with pytest.raises(ValueError, match="the batch is too large for this rule"):
        ll.plan(Model, dict(width=16, depth=2), batch_ratio=32).param_groups(Model(16, 2), lr=1.0)


@pytest.mark.parametrize(
    ("name", "lr", "decay", "eps"),
    [
        ("sgd", 4.0, 1.0, None),
        ("adam", 2.0, 1.0, 0.5),
        ("adamw", 2.0, 2.0, 0.5),
        ("adafactor", 2.0, 2.0, 1.0),
        ("muon", 2.0, 2.0, None),
        ("muon-match-rms", 2.0, 2.0, None),
    ],
)
def test_batch_and_duration_of_every_optimizer(name, lr, decay, eps):
    """By hand for a batch 4 times the base's: a step stands for four with a quarter of the variance."""
    part = "muon" if name.startswith("muon") else None
    plan = ll.plan(Model, dict(width=16, depth=2), optimizer=name, batch_ratio=4)
    how = dict(lr=1.0, weight_decay=1.0, eps=1.0)
    (group,) = plan.param_groups(Model(16, 2), **how, part=part)
    assert (group["lr"], group["weight_decay"]) == (lr, decay)
    kept = group["eps"][1] if name == "adafactor" else group.get("eps")
    assert kept == eps
    if name.startswith("adam"):
        assert group["betas"] == pytest.approx((0.6, 0.996))
    else:
        assert "betas" not in group
    if part:
        (rest,) = plan.param_groups(Model(16, 2), **how, part="adamw")
        assert (rest["lr"], rest["weight_decay"], rest["eps"]) == (2.0, 2.0, 0.5)
        assert rest["betas"] == pytest.approx((0.6, 0.996))


@pytest.mark.parametrize("name", ["lion", "signsgd"])
def test_steps_of_signs_have_no_rule_for_the_batch(name):
    for ratios in (dict(batch_ratio=2), dict(token_ratio=2)):
        with pytest.raises(ValueError, match=f"batch and duration have no rule for {name}"):
            ll.plan(Model, dict(width=16, depth=2), optimizer=name, **ratios)
    both = ll.plan(Model, dict(width=16, depth=2), optimizer=name, batch_ratio=2, token_ratio=2)
    (group,) = both.param_groups(Model(16, 2), lr=1.0, betas=(0.9, 0.99))
    assert (group["lr"], group.get("betas")) == (1.0, (0.9, 0.99) if name == "lion" else None)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("gqa-mup", "2605.15290"),
        ("MSSP", "2605.14200.*constant number of experts"),
        ("hyperp", "2603.28743.*optimizer='muon' with scheme='depth-mup'"),
        ("complete-dp", "scheme='completep' with batch_ratio="),
    ],
)
def test_a_published_rule_that_is_not_here_is_refused_by_name(name, words):
    with pytest.raises(ValueError, match=f"scheme='{name}' is not implemented .*{words}"):
        ll.plan(Model, dict(width=16, depth=2), scheme=name)
    with pytest.raises(ValueError, match=words):
        ll.explain(name)


def test_exclusions_from_decay_must_mean_something():
    plan = ll.plan(Model, dict(width=16, depth=2))
    decays = [g["weight_decay"] for g in plan.param_groups(
        Model(16, 2), lr=1.0, weight_decay=0.1, no_decay="vector")]  # fmt: skip
    assert sorted(decays) == [0.0, 0.1]
    with pytest.raises(
        ValueError, match=r"no_decay: 'vectors' is no role and matches no parameter"
    ):
        plan.param_groups(Model(16, 2), lr=1.0, no_decay=("vectors",))
    with pytest.raises(TypeError, match=r"model is int: give a torch.nn.Module"):
        plan.param_groups(3, lr=1.0)


L = torch.optim.lr_scheduler
MULTIPLICATIVE = {
    "LambdaLR": lambda o: L.LambdaLR(o, lambda k: 1 / (1 + k)),
    "StepLR": lambda o: L.StepLR(o, 3),
    "LinearLR": lambda o: L.LinearLR(o, 0.1, total_iters=5),
    "cosine to 0": lambda o: L.CosineAnnealingLR(o, 10),
}
ABSOLUTE = {
    "OneCycleLR": (L.OneCycleLR, dict(max_lr=0.1, total_steps=12)),
    "cosine to eta_min": (L.CosineAnnealingLR, dict(T_max=10, eta_min=1e-3)),
    "CyclicLR": (L.CyclicLR, dict(base_lr=1e-3, max_lr=1e-1, step_size_up=3)),
}


def rates(o):
    return torch.tensor([g["lr"] for g in o.param_groups], dtype=torch.float64)


def made():
    plan = ll.plan(Model, dict(width=16, depth=2), dict(width=64, depth=8))
    model = plan.apply(Model(64, 8))
    return plan, torch.optim.AdamW(plan.param_groups(model, lr=0.01)), model


@pytest.mark.parametrize("name", MULTIPLICATIVE)
def test_multiplicative_schedulers_just_work(name):
    _, o, _ = made()
    ratios = rates(o) / rates(o)[0]
    s = MULTIPLICATIVE[name](o)
    for _ in range(8):
        o.step()
        s.step()
        torch.testing.assert_close(rates(o) / rates(o)[0], ratios)


@pytest.mark.parametrize("name", ABSOLUTE)
def test_absolute_schedulers_keep_the_ratios_through_the_plan(name):
    plan, o, _ = made()
    factors = rates(o) / 0.01
    factory, how = ABSOLUTE[name]
    s = plan.scheduler(factory, o, lr=0.01, **how)
    alone = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.01, momentum=0.9)
    reference = factory(alone, **how)
    assert isinstance(s, L.LRScheduler)
    for _ in range(8):
        o.step()
        s.step()
        alone.step()
        reference.step()
        now = alone.param_groups[0]["lr"]
        torch.testing.assert_close(rates(o), factors * now, rtol=1e-12, atol=0)
        assert s.get_last_lr() == rates(o).tolist()


def test_a_plain_absolute_scheduler_would_lose_them():
    _, o, _ = made()
    s = L.OneCycleLR(o, max_lr=0.1, total_steps=12)
    o.step()
    s.step()
    assert len(set(rates(o).tolist())) == 1


def test_accumulation_warm_up_and_autocast_go_together():
    plan, o, model = made()
    s = L.SequentialLR(o, [L.LinearLR(o, 0.1, total_iters=2), L.ConstantLR(o, 1.0)], [2])
    ratios = rates(o) / rates(o)[0]
    losses = []
    for _ in range(6):
        o.zero_grad()
        for half in (slice(0, 8), slice(8, 16)):
            with torch.autocast("cpu", torch.bfloat16):
                loss = mse(model, (BATCH[0][half], BATCH[1][half])) / 2
            loss.backward()
        plan.clip_grad_norm_(model, 1.0)
        o.step()
        s.step()
        losses.append(float(loss.detach()))
    torch.testing.assert_close(rates(o) / rates(o)[0], ratios)
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (dict(part=None), "part=None with Muon"),
        (dict(part="sgd"), "part='sgd' is unknown"),
        (dict(part="muon", lr=0.0), "lr=0.0 is out of range"),
        (dict(part="muon", weight_decay=-1.0), "weight_decay=-1.0 is out of range"),
    ],
)
def test_bad_group_arguments(how, message):
    plan = ll.plan(Model, dict(width=16, depth=2), optimizer="muon")
    with pytest.raises(ValueError, match=message):
        plan.param_groups(Model(16, 2), **(dict(lr=1e-3) | how))
