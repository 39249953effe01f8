"""What must not change a check's verdict, and what must."""

import pytest
import torch
from torch import nn

import leadline as ll
from check_models import BATCH, TOKENS, Model, gpt2, mse, next_token
from leadline.checking.members import Members
from leadline.checking.quantities import Inspection
from leadline.tasks.task import data_of

SIZES = dict(widths=(16, 32, 64), depths=(2, 4, 8), seeds=2, progress=False, lr=1e-3)
OUTPUTS = BATCH[1].shape[1]


def plan(build=Model, **how):
    return ll.plan(build, dict(width=16, depth=2), **how)


class Outside(nn.Module):
    """The model adds the branches itself."""

    def __init__(self, width, depth):
        super().__init__()
        self.embed = nn.Linear(8, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
            for _ in range(depth)
        )
        self.readout = nn.Linear(width, OUTPUTS)

    def forward(self, x):
        h = self.embed(x)
        for block in self.blocks:
            h = h + block(h)
        return self.readout(h)


class Lists(nn.Module):
    """Layers in lists side by side."""

    def __init__(self, width, depth):
        super().__init__()
        self.embed = nn.Linear(8, width)
        self.up = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.down = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.readout = nn.Linear(width, OUTPUTS)

    def forward(self, x):
        h = self.embed(x)
        for up, down in zip(self.up, self.down, strict=True):
            h = h + down(torch.relu(up(h)))
        return self.readout(h)


@pytest.mark.parametrize(("build", "name"), [(Outside, "blocks.*"), (Lists, "up.*")])
def test_the_stream_is_found_however_branches_are_added(build, name):
    report = ll.check(ll.Task(mse, batch=BATCH), plan(build), **SIZES)
    assert report.ok, report.failures
    rows = [r for r in report.rows if r.quantity == "stream"]
    assert {r.parameter for r in rows} == {name}
    assert all(r.exponent is not None and abs(r.exponent.value) < 0.15 for r in rows)


def test_divergence_is_a_failure():
    how = dict(widths=(16, 64), depths=(2,), steps=60, lr=1e3, seeds=1, progress=False)
    report = ll.check(ll.Task(mse, batch=BATCH), plan(scheme="sp", optimizer="sgd"), **how)
    assert not report.ok
    assert any("exploding" in f for f in report.failures)
    assert '"exponent"' in report.to_json()
    assert report.figure().data


def test_functional_dropout_is_off():
    def build(width, depth):
        model = gpt2(width, depth)
        for module in model.modules():
            for name in ("attn_dropout", "resid_dropout", "dropout", "drop"):
                if isinstance(getattr(module, name, None), nn.Dropout):
                    getattr(module, name).p = 0.5
        return model

    here = plan(build)
    inspection = Inspection(
        here, Members([here.apply(build(16, 2))], data_of(ll.Task(next_token, batch=TOKENS)), (0,))
    )
    assert float(inspection.moved().abs().max()) == 0


def test_a_cache_does_not_change_what_is_measured():
    def without(width, depth):
        model = gpt2(width, depth)
        model.config.use_cache = False
        return model

    how = SIZES | dict(depths=(2,), seeds=1)
    a, b = (
        ll.check(ll.Task(next_token, batch=TOKENS), plan(x), **how).rows for x in (gpt2, without)
    )
    pick = [[r.values for r in rows if r.quantity == "nonlinear"] for rows in (a, b)]
    assert pick[0]
    assert pick[0][0] == pytest.approx(pick[1][0], rel=1e-3)


def adamw(model, here, lr):
    """Another rate for the embedding, and layerwise decay: ratios to the base are kept."""
    groups = []
    for g in here.param_groups(model, lr):
        for p in g["params"]:
            k = 10 if p is model.embed.weight else 0.5 if p is model.blocks[0].up.weight else 1
            groups.append({**g, "params": [p], "lr": g["lr"] * k})
    return torch.optim.AdamW(groups)


def muon(model, here, lr):
    return [
        torch.optim.Muon(here.param_groups(model, 0.01, part="muon"), lr=1, weight_decay=0.0),
        torch.optim.AdamW(here.param_groups(model, lr, part="adamw")),
    ]


@pytest.mark.parametrize(("name", "make"), [("adamw", adamw), ("muon", muon)])
def test_rates_of_ones_own_keep_their_ratios(name, make):
    report = ll.check(ll.Task(mse, batch=BATCH), plan(optimizer=name), **SIZES, optimizer=make)
    assert report.lost == ()


@pytest.mark.parametrize(
    ("layer", "wrong"),
    [
        ("blocks.*.down.weight", lambda g, here: {**g, "lr": 1e-3}),
        ("embed.weight", lambda g, here: {**g, "lr": g["lr"] / here.m}),
        ("readout.weight", lambda g, here: {**g, "lr": g["lr"] * here.m * here.r}),
    ],
)
def test_a_wrong_rate_is_laid_at_its_own_door(layer, wrong):
    def make(model, here, lr):
        kinds = here.kind_of(model)
        names = {id(p): kinds[n].template for n, p in model.named_parameters()}
        groups = [{**g, "params": [p]} for g in here.param_groups(model, lr) for p in g["params"]]
        return torch.optim.AdamW(
            [wrong(g, here) if names[id(g["params"][0])] == layer else g for g in groups]
        )

    report = ll.check(ll.Task(mse, batch=BATCH), plan(), **SIZES, optimizer=make)
    assert len(report.lost) == 1
    assert report.lost[0].startswith(f"{layer}: its learning rate")


def test_a_single_rate_for_all_spares_what_needs_no_other():
    def make(model, here, lr):
        return torch.optim.AdamW(model.parameters(), lr=lr, eps=0.0)

    report = ll.check(ll.Task(mse, batch=BATCH), plan(), **SIZES, optimizer=make)
    blamed = {line.partition(":")[0] for line in report.lost}
    assert blamed == {"blocks.*.up.weight", "blocks.*.down.weight", "blocks.*.down.bias"} | {
        "readout.weight"
    }


def test_the_scheduler_is_named():
    def scheduler(o):
        return torch.optim.lr_scheduler.CosineAnnealingLR(o, T_max=4, eta_min=1e-3)

    report = ll.check(
        ll.Task(mse, batch=BATCH), plan(), **(SIZES | dict(lr=1e-2)), scheduler=scheduler
    )
    assert any("CosineAnnealingLR set absolute" in line for line in report.lost)
    assert any("plan.scheduler" in line for line in report.lost)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda m, b: m(b[0], 3), r"loss\(model, batch\) failed with TypeError"),
        (lambda m, b: m.embed(b[0]).mean(), "call model"),
        (lambda m, b: m(b[0]), "return a scalar tensor"),
    ],
)
def test_a_loss_that_cannot_be_used(loss, message):
    with pytest.raises(ValueError, match=message):
        ll.check(ll.Task(loss, batch=BATCH), plan(), **SIZES)
