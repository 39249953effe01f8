"""Warm-up, schedules, clipping, accumulation and bfloat16 train as a plain loop with them does."""

import math

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import leadline as ll
from leadline.schedules import course
from leadline.sweeps.driver import sweep
from leadline.sweeps.optimizers import clipped
from leadline.tasks.data import Accumulated, copied
from leadline.tasks.task import data_of
from task_models import Net, drawn, mse, rows

X, Y = rows(24)
STEPS = 12
TASK = ll.Task(mse, batches=drawn, eval_batch=(X, Y))


def plain(lr, factors, seed=0, *, clip=None, decay=0.0, parts=1, autocast=False, build=Net):
    """The test loss of an ordinary AdamW loop."""
    torch.manual_seed(seed)
    model = build(16, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=decay)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: factors(min(step, STEPS - 1))
    )
    data = data_of(TASK)

    def loss_of(batch):
        if not autocast:
            return mse(model, batch)
        with torch.autocast("cpu", torch.bfloat16):
            return mse(model, batch).float()

    for step in range(STEPS):
        optimizer.zero_grad()
        for part in range(parts):
            (loss_of(data.batch(step * parts + part, None, seed)) / parts).backward()
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        scheduler.step()
    with torch.no_grad():
        return float(loss_of((X, Y)))


def cosine(step):
    warm = min((step + 1) / 3, 1.0)
    return warm * 0.5 * (1 + math.cos(math.pi * max(step - 3, 0) / (STEPS - 3)))


def half_of_it(step, steps):
    return 1.0 if step < steps / 2 else 0.25


CASES = {
    "warm-up and cosine": (dict(schedule="cosine", warmup=3), dict(factors=cosine)),
    "linear": (dict(schedule="linear"), dict(factors=lambda i: 1 - i / STEPS)),
    "wsd": (
        dict(schedule="wsd"), dict(factors=lambda i: min((STEPS - i) / (0.2 * STEPS), 1.0))),
    "function": (
        dict(schedule=half_of_it), dict(factors=lambda i: half_of_it(i, STEPS))),
    "clip": (dict(clip=0.05), dict(factors=lambda i: 1.0, clip=0.05)),
    "decay": (
        dict(weight_decay=0.3, schedule="linear"),
        dict(factors=lambda i: 1 - i / STEPS, decay=0.3)),
    "accumulation": (dict(accumulation=3), dict(factors=lambda i: 1.0, parts=3)),
    "bfloat16": (dict(precision="bfloat16"), dict(factors=lambda i: 1.0, autocast=True)),
    "all": (
        dict(schedule="cosine", warmup=3, clip=0.05, accumulation=2, weight_decay=0.1),
        dict(factors=cosine, clip=0.05, parts=2, decay=0.1)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_stack_and_a_single_run_train_as_a_plain_loop(name, monkeypatch):
    how, loop = CASES[name]
    grid = dict(widths=[16], depths=[2], lrs=[3e-3, 1e-2], seeds=2, steps=STEPS, executor="inline")
    together = sweep(TASK, Net, **grid, **how).rows
    monkeypatch.setattr("leadline.sweeps.schedule._BATCHED", 0.0)
    alone = sweep(TASK, Net, **grid, **how).rows
    for one, other in zip(together, alone, strict=True):
        expected = plain(one["lr"], seed=one["seed"], **loop)
        assert one["test_loss"] == pytest.approx(expected, rel=2e-4)
        assert other["test_loss"] == pytest.approx(expected, rel=2e-4)


def test_each_setting_changes_the_numbers():
    grid = dict(widths=[16], depths=[2], lrs=[1e-2], steps=STEPS, executor="inline")
    losses = [sweep(TASK, Net, **grid, **how).rows[0]["test_loss"] for how, _ in CASES.values()]
    losses.append(sweep(TASK, Net, **grid).rows[0]["test_loss"])
    assert len(set(losses)) == len(losses)


def test_clipping_is_in_the_bases_units():
    """A weight that holds a multiplier a has the gradient of the base's times 1/a."""
    gradients = [torch.full((2, 3, 4), 1.0), torch.full((2, 4), 2.0)]
    norm = math.sqrt(12 * 0.25**2 + 4 * 4)
    small = clipped(gradients, [0.25, 1.0], norm / 2)
    assert torch.allclose(small[0], gradients[0] / 2, rtol=1e-5)
    same = clipped(gradients, [0.25, 1.0], 2 * norm)
    assert torch.equal(same[1], gradients[1])
    model = Net(64, 8)
    plan = ll.plan(Net, dict(width=16, depth=2), dict(width=64, depth=8), inputs=X)
    plan.apply(model)
    mse(model, (X, Y)).backward()
    folds = [plan.kind_factors(plan.kind_of(model)[n]).fold for n, _ in model.named_parameters()]
    assert min(folds) < 1
    ours = clipped([p.grad[None].clone() for p in model.parameters()], folds, 1e-2)
    plan.clip_grad_norm_(model, 1e-2)
    for a, p in zip(ours, model.parameters(), strict=True):
        assert torch.allclose(a[0], p.grad, rtol=1e-4)


def test_warm_up_and_schedule_are_axes_of_a_sweep(tmp_path):
    grid = dict(widths=[16], depths=[1], lrs=[1e-2], steps=4, executor="inline", store=tmp_path)
    done = sweep(TASK, Net, **grid, warmup=[0, 2], schedule=["constant", "cosine"])
    assert {(r.get("warmup", 0), r.get("schedule", "constant")) for r in done.rows} == {
        (0, "constant"), (2, "constant"), (0, "cosine"), (2, "cosine"),
    }  # fmt: skip
    assert sweep(TASK, Net, **grid).fresh == 0
    assert sweep(TASK, Net, **grid, schedule=half_of_it).fresh == 1
    assert sweep(TASK, Net, **grid, schedule=half_of_it).fresh == 0


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (dict(schedule="cosin"), "did you mean 'cosine'"),
        (dict(warmup=-1), "warmup=-1 is too small"),
        (dict(warmup=9), "warmup=9 is longer than steps=4"),
        (dict(clip=0.0), "clip=0.0 is out of range"),
        (dict(accumulation=0), "accumulation=0 is too small"),
        (dict(precision="float16"), "precision='float16' is unknown"),
        (dict(schedule=lambda step, steps: -1.0), "returned -1.0: return a factor >= 0"),
        (dict(schedule=lambda step: 1.0), "failed with TypeError"),
    ],
)
def test_bad_recipes(how, message):
    grid = dict(widths=[16], depths=[1], lrs=[1e-2], steps=4, executor="inline")
    with pytest.raises(ValueError, match=message):
        sweep(TASK, Net, **grid, **how)


def test_courses():
    assert course("constant", 0, 3).tolist() == [1, 1, 1]
    assert course("constant", 4, 4).tolist() == [0.25, 0.5, 0.75, 1]
    assert course("cosine", 1, 5).round(3).tolist() == [1, 1, 0.854, 0.5, 0.146]
    assert course("wsd", 0, 10).tolist() == [1] * 9 + [0.5]
    for name in ("constant", "cosine", "linear", "wsd"):
        values = course(name, 5, 50)
        assert values.min() > 0
        assert values.max() <= 1
        assert np.all(np.diff(values[5:]) <= 0)


def test_accumulated_batches_are_each_used_once():
    loader = DataLoader(TensorDataset(X, Y), batch_size=8)
    data = data_of(ll.Task(mse, batches=loader))
    some = Accumulated(data, 3)
    assert torch.equal(torch.cat([x for x, _ in some.batch(0, None, 0)]), X)
    model = Net(16, 1)
    whole = float(some.loss(model, copied(some.batch(1, None, 0))).detach())
    assert whole == pytest.approx(float(mse(model, (X, Y)).detach()), rel=1e-5)
    with torch.no_grad():
        each = [float(data.loss(model, b)) for b in data.train()]
        assert float(some.loss(model, some.train()[0])) == pytest.approx(np.mean(each), rel=1e-5)
