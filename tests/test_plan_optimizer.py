"""``plan.optimizer``: torch's class, another library's, Muon with AdamW as one; wrong classes."""

import copy
import pickle

import pytest
import torch
from torch import nn

import leadline as ll
from check_models import BATCH, Model, mse
from leadline.planning.joint import JointOptimizer

BASE, TARGET = dict(width=16, depth=2), dict(width=32, depth=4)


@pytest.fixture(scope="module")
def plans():
    names = ("sgd", "adam", "adamw", "lion", "signsgd", "adafactor", "muon", "muon-match-rms")
    return {n: ll.plan(Model, BASE, TARGET, optimizer=n) for n in names}


def fresh(plan):
    torch.manual_seed(0)
    return plan.apply(Model(32, 4))


def train(model, optimizer, steps=3, each=lambda: None):
    for _ in range(steps):
        optimizer.zero_grad()
        mse(model, BATCH).backward()
        optimizer.step()
        each()
    return [p.detach().clone() for p in model.parameters()]


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(
    ("name", "how", "kind", "settings"),
    [
        ("sgd", dict(weight_decay=0.1, momentum=0.9, nesterov=True), torch.optim.SGD,
         dict(momentum=0.9, nesterov=True)),
        ("adam", dict(weight_decay=0.1), torch.optim.Adam, {}),
        ("adamw", dict(weight_decay=0.1, no_decay="vector", amsgrad=True), torch.optim.AdamW,
         dict(amsgrad=True)),
        ("adafactor", dict(d=2.0), torch.optim.Adafactor, dict(d=2.0)),
    ],
)  # fmt: skip
def test_the_class_of_torch_on_the_plans_groups(plans, name, how, kind, settings):
    plan = plans[name]
    optimizer = plan.optimizer(fresh(plan), lr=0.01, **how)
    assert type(optimizer) is kind
    assert optimizer.defaults["lr"] == 0.01
    eps = 1e-3 if name == "adafactor" else 1e-8
    groups_of = {k: v for k, v in how.items() if k in ("weight_decay", "no_decay")}
    by_hand = fresh(plan)
    expected = kind(plan.param_groups(by_hand, lr=0.01, eps=eps, **groups_of), **settings)
    strip = [
        [{**g, "params": len(g["params"])} for g in o.param_groups] for o in (optimizer, expected)
    ]
    assert strip[0] == strip[1]
    # What torch keeps is a plain list.
    assert {type(g["params"]) for g in optimizer.param_groups} == {list}


@pytest.mark.parametrize("name", ["muon", "muon-match-rms"])
def test_muon_and_adamw_are_one(plans, name):
    plan = plans[name]
    whole, by_hand = fresh(plan), fresh(plan)
    how = dict(weight_decay=0.1, eps=1e-6)
    rest = dict(lr=3e-3, betas=(0.8, 0.9), amsgrad=True)
    one = plan.optimizer(whole, lr=0.02, **how, nesterov=False, adamw=rest)
    adjust = None if name == "muon" else "match_rms_adamw"
    groups = [
        plan.param_groups(by_hand, lr=0.02, part="muon", **how),
        plan.param_groups(by_hand, lr=3e-3, betas=(0.8, 0.9), part="adamw", **how),
    ]
    two = [
        torch.optim.Muon(groups[0], nesterov=False, adjust_lr_fn=adjust),
        torch.optim.AdamW(groups[1], amsgrad=True),
    ]
    assert isinstance(one, torch.optim.Optimizer)
    assert one.defaults == {"lr": 0.02}
    assert len(one.param_groups) == len(groups[0]) + len(groups[1])
    held = [id(p) for g in one.param_groups for p in g["params"]]
    assert sorted(held) == sorted(id(p) for p in whole.parameters())
    for _ in range(3):
        for o in two:
            o.zero_grad()
        mse(by_hand, BATCH).backward()
        for o in two:
            o.step()
    assert same(train(whole, one), list(by_hand.parameters()))
    assert {len(s) for s in one.state.values()} == {1, 4}
    one.zero_grad()
    assert all(p.grad is None for p in whole.parameters())


def test_without_settings_both_parts_take_the_same_rate(plans):
    plan = plans["muon"]
    model = fresh(plan)
    one = plan.optimizer(model, lr=0.02)
    both = [g for part in ("muon", "adamw") for g in plan.param_groups(model, lr=0.02, part=part)]
    assert [g["lr"] for g in one.param_groups] == [g["lr"] for g in both]


def test_what_schedulers_and_states_do_to_the_joint_optimizer(plans):
    plan = plans["muon"]

    def start():
        model = fresh(plan)
        one = plan.optimizer(model, lr=0.02, adamw=dict(lr=3e-3))
        scheduler = torch.optim.lr_scheduler.LinearLR(one, 0.25, total_iters=5)
        return model, one, scheduler

    model, one, scheduler = start()
    full = [g["initial_lr"] for g in one.param_groups]
    assert [g["lr"] for g in one.param_groups] == [0.25 * r for r in full]
    whole = train(model, one, 6, scheduler.step)
    assert [g["lr"] for g in one.param_groups] == pytest.approx(full, rel=1e-12)
    # Half of it, then a new one from the state, a deep copy, and a pickled one.
    model, one, scheduler = start()
    train(model, one, 3, scheduler.step)
    saved = pickle.loads(pickle.dumps([x.state_dict() for x in (model, one, scheduler)]))
    pair = copy.deepcopy((model, one))
    picked = pickle.loads(pickle.dumps((model, one)))
    again = start()
    for x, state in zip(again, saved, strict=True):
        x.load_state_dict(state)
    assert same(train(again[0], again[1], 3, again[2].step), whole)
    assert len(again[1].state) == len(list(again[0].parameters()))
    further = train(model, one)
    for m, o in (pair, picked):
        assert isinstance(o, JointOptimizer)
        assert same(train(m, o), further)


def test_absolute_rates_keep_the_ratios_of_the_joint_optimizer(plans):
    plan = plans["muon"]
    model = fresh(plan)
    one = plan.optimizer(model, lr=0.02, adamw=dict(lr=3e-3))
    before = torch.tensor([g["lr"] for g in one.param_groups])
    course = plan.scheduler(
        torch.optim.lr_scheduler.OneCycleLR, one, lr=0.02, max_lr=0.02, total_steps=8
    )
    seen = []
    train(
        model,
        one,
        6,
        lambda: (
            course.step(),
            seen.append(torch.tensor([g["lr"] for g in one.param_groups]) / before),
        ),
    )
    for ratios in seen:
        torch.testing.assert_close(ratios, ratios[0].expand_as(ratios))
    assert float(torch.stack(seen).max()) > 10 * float(torch.stack(seen).min())


def test_a_closure_is_called_once_and_a_scaler_steps(plans):
    plan = plans["muon"]
    one_model, other_model = fresh(plan), fresh(plan)
    calls = []

    def closure():
        calls.append(torch.is_grad_enabled())
        one.zero_grad()
        loss = mse(one_model, BATCH)
        loss.backward()
        return loss

    one = plan.optimizer(one_model, lr=0.02)
    with torch.no_grad():
        losses = [float(one.step(closure)) for _ in range(3)]
    assert calls == [True] * 3
    assert losses[2] < losses[0]
    other = plan.optimizer(other_model, lr=0.02)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    for _ in range(3):
        other.zero_grad()
        scaler.scale(mse(other_model, BATCH)).backward()
        scaler.unscale_(other)
        scaler.step(other)
        scaler.update()
    for a, b in zip(one_model.parameters(), other_model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    # Gradients that overflow train nothing.
    before = [p.detach().clone() for p in other_model.parameters()]
    scaler.scale(mse(other_model, BATCH) * float("inf")).backward()
    scaler.step(other)
    scaler.update()
    assert same(before, list(other_model.parameters()))
    assert scaler.get_scale() == 2.0**9


def test_nothing_is_added_to_the_joint_optimizer(plans):
    one = plans["muon"].optimizer(fresh(plans["muon"]), lr=0.02)
    with pytest.raises(ValueError, match="nothing says which part"):
        one.add_param_group({"params": [nn.Parameter(torch.zeros(2))]})


def other_class(name):
    return type(name, (torch.optim.Optimizer,), {
        "__init__": lambda self, groups, lr=1e-3: torch.optim.Optimizer.__init__(
            self, groups, dict(lr=lr)
        ),
        "step": lambda self, closure=None: None,
    })  # fmt: skip


O = torch.optim


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("adamw", O.SGD, "for adamw and torch's SGD makes other updates.*optimizer='sgd'"),
        ("adamw", O.Adafactor, "optimizer='adafactor'"),
        ("adamw", O.LBFGS, r"LBFGS makes other updates.*take plan\.optimizer\(model, lr=\.\.\.\)$"),
        ("adamw", O.Adam, "for adamw, whose weight decay is decoupled.*optimizer='adam'"),
        ("adamw", O.NAdam, "whose weight decay is decoupled"),
        ("adam", O.AdamW, "for adam, whose weight decay is coupled.*optimizer='adamw'"),
        ("sgd", O.AdamW, "for sgd and torch's AdamW makes other updates.*optimizer='adamw'"),
        ("sgd", O.RMSprop, "makes other updates"),
        ("adafactor", O.AdamW, "makes other updates"),
        ("adamw", other_class("SGDScheduleFree"), "SGDScheduleFree makes other updates"),
        ("adamw", other_class("FusedLAMB"), "makes other updates"),
        ("sgd", other_class("PagedAdamW8bit"), "optimizer='adamw'"),
    ],
)  # fmt: skip
def test_a_class_that_makes_other_updates_is_refused(plans, name, kind, words):
    plan = plans[name]
    model = fresh(plan)
    groups = plan.param_groups(model, lr=1e-3, weight_decay=0.1)
    with pytest.raises(ValueError, match=words):
        kind(groups)
    with pytest.raises(ValueError, match=words):
        plan.optimizer(model, lr=1e-3, weight_decay=0.1, factory=kind)
    # A copy, in a list of one's own, refuses too.
    with pytest.raises(ValueError, match=words):
        kind([dict(g) for g in copy.deepcopy(groups)])


@pytest.mark.parametrize(
    ("name", "kind", "decay"),
    [
        ("adamw", O.Adam, 0.0),
        ("adamw", lambda g, lr: O.NAdam(g, lr=lr, decoupled_weight_decay=True), 0.1),
        ("adamw", O.Adamax, 0.0),
        ("sgd", O.ASGD, 0.1),
        ("lion", other_class("FusedLion"), 0.1),
        ("adamw", other_class("AdamWScheduleFree"), 0.1),
        ("adamw", other_class("Sophia"), 0.1),
        ("sgd", other_class("SGD8bit"), 0.1),
    ],
)
def test_a_class_that_suits_is_taken(plans, name, kind, decay):
    plan = plans[name]
    model = fresh(plan)
    one = plan.optimizer(model, lr=1e-3, weight_decay=decay, factory=kind)
    assert sum(len(g["params"]) for g in one.param_groups) == len(list(model.parameters()))
    groups = plan.param_groups(model, lr=1e-3)
    # Anyone else reads the parameters as those of a list.
    assert [p for g in groups for p in g["params"]] == [
        p for g in groups for p in list(g["params"])
    ]


def test_the_parts_of_muon_are_not_exchanged(plans):
    plan = plans["muon"]
    model = fresh(plan)
    matrices = plan.param_groups(model, lr=0.02, part="muon")
    rest = [g for g in plan.param_groups(model, lr=0.02, part="adamw") if g["params"][0].ndim == 2]
    assert rest
    with pytest.raises(ValueError, match="for muon and torch's AdamW makes other updates"):
        torch.optim.AdamW(matrices)
    with pytest.raises(ValueError, match="for adamw and torch's Muon makes other updates"):
        torch.optim.Muon(rest)
    with pytest.raises(ValueError, match="adjust_lr_fn='original' and not 'match_rms_adamw'"):
        torch.optim.Muon(matrices, adjust_lr_fn="match_rms_adamw")
    with pytest.raises(ValueError, match="plan with optimizer='muon'"):
        torch.optim.Muon(plans["muon-match-rms"].param_groups(fresh(plan), lr=0.02, part="muon"))
    with pytest.raises(ValueError, match="not 'match_rms_adamw'"):
        plan.optimizer(model, lr=0.02, adjust_lr_fn="match_rms_adamw")


@pytest.mark.parametrize(
    ("name", "how", "error", "words"),
    [
        ("signsgd", dict(betas=(0.9, 0.99)), ValueError, "signsgd has none"),
        ("adamw", dict(adamw=dict(lr=1e-3)), ValueError, "is for what Muon leaves to AdamW"),
        ("sgd", dict(betas=(0.9, 0.99)), ValueError, "sgd has none"),
        ("adafactor", dict(betas=(0.9, 0.99)), ValueError, "adafactor has none"),
        ("sgd", dict(momemtum=0.9), TypeError, r"SGD\(groups, lr=0.01, momemtum=0.9\) cannot be made"),
        ("adamw", dict(factory=lambda g, lr: None), TypeError, "returned NoneType"),
        ("adamw", dict(lr=-1.0), ValueError, "lr=-1.0"),
        ("muon", dict(adamw=dict(lr=-1.0)), ValueError, "lr=-1.0"),
    ],
)  # fmt: skip
def test_refusals(plans, name, how, error, words):
    how = dict(lr=0.01) | how
    with pytest.raises(error, match=words):
        plans[name].optimizer(fresh(plans[name]), **how)


def test_a_torch_without_muon(plans, monkeypatch):
    monkeypatch.delattr(torch.optim, "Muon")
    with pytest.raises(ValueError, match=r"has no Muon: install torch >= 2\.9"):
        plans["muon"].optimizer(fresh(plans["muon"]), lr=0.02)


class Held(nn.Module):
    """A model under another's name, as a LightningModule holds it."""

    def __init__(self, width, depth):
        super().__init__()
        self.model = Model(width, depth)

    def forward(self, x):
        return self.model(x)


def test_a_model_inside_another_is_known(plans):
    plan = plans["adamw"]
    outer = Held(32, 4)
    plan.apply(outer)
    expected = {f"model.{n}": f for n, f in plan.factors().items()}
    assert plan.factors(outer) == expected
    twice = Held(32, 4)
    twice.model = Held(32, 4)
    assert plan.factors(twice) == {f"model.{n}": f for n, f in expected.items()}
    # Something beside the model is not known, whatever it is called.
    outer.readout = nn.Linear(32, 4)
    with pytest.raises(ValueError, match="unknown to the plan"):
        plan.factors(outer)


class Step(nn.Module):
    """No forward: a loss of a batch, as Lightning's modules have."""

    def __init__(self, width, depth):
        super().__init__()
        self.model = Model(width, depth)

    def training_step(self, batch, index):
        assert index == 0
        return mse(self.model, batch)


def test_a_model_with_nothing_but_a_training_step_is_read(plans):
    plan = ll.plan(Step, BASE, TARGET, inputs=BATCH)
    expected = {f"model.{n}": f for n, f in plans["adamw"].factors().items()}
    assert plan.factors() == expected
    assert plan.factors(plan.apply(Step(32, 4))) == expected
    with pytest.raises(ValueError, match=r"Step has no forward.*give inputs=, a batch"):
        ll.plan(Step, BASE, TARGET)
    forward = type("Forward", (Step,), {"forward": lambda self, x: self.model(x)})
    assert ll.plan(forward, BASE, TARGET).factors() == expected


def test_a_model_with_neither_is_refused():
    with pytest.raises(ValueError, match="the forward pass at width=16, depth=2 failed"):
        ll.plan(lambda w, d: nn.ModuleList([Model(w, d)]), BASE, TARGET, inputs=torch.zeros(2, 8))
