"""Batched training is separate training."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import leadline as ll
from leadline.checking.training import torch_optimizers
from leadline.parametrization.updates import SignUpdates
from leadline.planning.factors import Factors
from leadline.sweeps.driver import sweep
from leadline.sweeps.groups import _Stack, train
from leadline.sweeps.modules import first_steps
from leadline.sweeps.optimizers import Stacked
from leadline.sweeps.rates import Planned
from leadline.sweeps.runs import RunGroup, TrainingRun
from leadline.sweeps.schedule import groups
from leadline.sweeps.stacks import NotStacked
from leadline.tasks.builtin import Samples
from leadline.tracing.builder import Size, construct
from sweep_models import Model, plain_loop

BASE = Size(16, 2)


def loop(plan, data, run):
    """The plain way: one model, torch's own optimizer."""
    model = plan.apply(construct(Model, run.size, run.seed))
    how = dict(weight_decay=run.weight_decay)
    if plan.optimizer_rule.name == "sgd":
        groups = plan.param_groups(model, run.lr, **how)
        optimizers = [torch.optim.SGD(groups, lr=run.lr, momentum=run.momentum)]
    elif plan.optimizer_rule.name in ("adam", "adamw"):
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[plan.optimizer_rule.name]
        optimizers = [kind(plan.param_groups(model, run.lr, **how))]
    elif plan.optimizer_rule.name == "signsgd":
        optimizers = [SignUpdates(plan.param_groups(model, run.lr, **how), momentum=run.momentum)]
    else:
        optimizers = torch_optimizers(model, plan, run.lr, run.weight_decay)
    return plain_loop(model, optimizers, data, run)


@pytest.mark.parametrize(
    ("optimizer", "settings"),
    [
        ("sgd", dict()),
        ("sgd", dict(momentum=0.9, weight_decay=0.01)),
        ("sgd", dict(batch_size=8)),
        ("adam", dict(weight_decay=0.01)),
        ("adamw", dict(weight_decay=0.1, batch_size=8)),
        ("lion", dict(weight_decay=0.1)),
        ("signsgd", dict(weight_decay=0.1)),
        ("signsgd", dict(momentum=0.9, batch_size=8)),
        ("muon", dict()),
        ("muon-match-rms", dict()),
    ],
)
def test_a_batch_of_runs_trains_as_separate_ones(digits, optimizer, settings):
    data = Samples(digits)
    plan = ll.plan(Model, dict(width=16, depth=2), dict(width=32, depth=4), optimizer=optimizer)
    runs = tuple(
        TrainingRun("m", "d", 32, 4, lr, seed, "auto", optimizer, 12, base=BASE, **settings)
        for lr, seed in ((1e-3, 0), (4e-3, 1), (8e-3, 1))
    )
    results = train(RunGroup(Model, Planned(plan), data, runs))
    expected = np.array([loop(plan, data, r) for r in runs])
    got = np.array([r.curve for r in results])
    # float32 sums in another order; Muon's bfloat16 iteration rounds to 2^-8 of an update, which
    # twelve steps carry on.
    tolerance = 2e-2 if optimizer.startswith("muon") else 1e-4
    if optimizer in ("lion", "signsgd"):
        # An entry whose gradient is rounding alone moves either way.
        tolerance = 2e-4
    np.testing.assert_allclose(got, expected, rtol=tolerance)
    alone = train(RunGroup(Model, Planned(plan), data, runs[1:2], batched=False))
    np.testing.assert_allclose(alone[0].curve, expected[1], rtol=tolerance)
    for some in (runs[1:2], runs[1:]):
        fewer = train(RunGroup(Model, Planned(plan), data, some))
        np.testing.assert_array_equal(fewer[0].curve, results[1].curve)
        assert fewer[0].values["test_loss"] == results[1].values["test_loss"]


def test_diverged_runs_are_dropped_and_the_others_go_on(digits):
    done = sweep(
        digits,
        Model,
        widths=[16],
        depths=[2],
        lrs=[1e-2, 1e4],
        seeds=2,
        steps=40,
        optimizer="sgd",
        executor="inline",
    )
    by_lr = {lr: [r for r in done.rows if r["lr"] == lr] for lr in (1e-2, 1e4)}
    assert all(r["diverged"] and r["loss"] is None and r["steps_done"] < 40 for r in by_lr[1e4])
    assert all(not r["diverged"] and r["loss"] < 1 and r["steps_done"] == 40 for r in by_lr[1e-2])


def test_hopeless_runs_are_stopped(digits):
    how = dict(widths=[16], depths=[2], seeds=1, steps=60, executor="inline")
    done = sweep(digits, Model, lrs=[1e-7, 1e-2], hopeless=3.0, **how)
    slow, quick = done.rows
    assert (slow["stopped"], slow["loss"]) == (True, None)
    assert slow["steps_done"] < 60
    assert not quick["stopped"]
    assert quick["loss"] < 1


class Steady(Model):
    """Notes how often its forward pass was called in Python."""

    calls = 0

    def forward(self, x):
        type(self).calls += 1
        return super().forward(x)


class Noisy(Model):
    """Random numbers in the forward pass."""

    def forward(self, x):
        return super().forward(torch.nn.functional.dropout(x, 0.1, self.training))


class Branching(Model):
    """Control flow on values."""

    def forward(self, x):
        y = super().forward(x)
        return y if float(y.detach().sum()) > 0 else 2 * y


class Growing(Model):
    """A state that is no parameter, buffer or input."""

    def forward(self, x):
        self.age = getattr(self, "age", 0) + 1
        return self.age * super().forward(x) / 100


def batch(model, digits, steps, count=3):
    plan = ll.plan(Model, dict(width=16, depth=2), optimizer="sgd")
    runs = tuple(
        TrainingRun("m", "d", 16, 2, 1e-3, s, "auto", "sgd", steps, 8, BASE) for s in range(count)
    )
    return RunGroup(model, Planned(plan), Samples(digits), runs)


def test_steps_are_recorded_once(digits):
    Steady.calls = 0
    results = train(batch(Steady, digits, 200))
    # Every seed's own first step, one of them twice; the stack's first step, its recording, two
    # comparisons, two evaluations, and one more beside the model itself.
    assert Steady.calls <= 3 + 1 + 1 + 1 + 2 + 2 + 1
    expected = train(batch(Model, digits, 50))
    np.testing.assert_allclose(results[0].curve[:50], expected[0].curve, rtol=1e-5)


def test_runs_that_end_leave_the_stack(digits):
    """Recordings are made again for what is left, and the others' numbers stay."""
    work = batch(Steady, digits, 400, 4)
    runs = tuple(replace(r, lr=1e6 if i < 2 else 1e-3) for i, r in enumerate(work.runs))
    results = train(replace(work, runs=runs))
    assert [r.values["diverged"] for r in results] == [True, True, False, False]
    alone = train(replace(work, runs=runs[2:3]))
    np.testing.assert_allclose(results[2].curve, alone[0].curve, rtol=1e-3)


@pytest.mark.parametrize("model", [Noisy, Branching])
def test_models_that_cannot_be_mapped_train_one_by_one(digits, model):
    work = batch(model, digits, 10)
    together = train(work)
    alone = train(replace(work, runs=work.runs[1:2]))
    np.testing.assert_allclose(together[1].curve, alone[0].curve, rtol=1e-5)


def test_what_is_no_function_of_its_arguments_is_not_replayed(digits):
    stack = _Stack(batch(Steady, digits, 300))
    stack.train()
    assert stack.gradients.record
    with pytest.raises(NotStacked, match="keeps a state"):
        _Stack(batch(Growing, digits, 300))


@pytest.mark.parametrize(("model", "together"), [(Model, 3), (Noisy, 1)])
def test_steps_of_all_runs_are_reported(digits, model, together):
    seen = []
    train(batch(model, digits, 20), seen.append)
    assert seen == list(range(together, 61, together))


@pytest.mark.parametrize(
    ("optimizer", "how"),
    [
        ("adamw", {}),
        ("sgd", dict(momentum=0.9, weight_decay=0.1)),
        ("muon", {}),
        ("lion", dict(weight_decay=0.1)),
        ("signsgd", dict(momentum=0.9)),
    ],
)
def test_everything_of_a_step_is_on_the_device(digits, optimizer, how):
    """The meta device has no numbers, and like a GPU no operation with tensors of the CPU."""
    plan = ll.plan(Model, dict(width=16, depth=2), optimizer=optimizer)
    runs = tuple(
        TrainingRun("m", "d", 16, 2, 1e-3, s, "auto", optimizer, 20, 8, BASE, **how)
        for s in range(3)
    )
    work = RunGroup(Model, Planned(plan), Samples(digits), runs, device="meta")
    here = first_steps(replace(work, device="cpu"))
    states = {s: {n: t.to("meta") for n, t in state.items()} for s, state in here.states.items()}
    stack = _Stack(work, replace(here, model=here.model.to("meta"), states=states))

    def step(k):
        gradients, losses = stack._gradients(k)
        stack.optimizer.step(stack.parameters, gradients)
        return losses, {t.device.type for t in (*gradients, *stack.parameters, losses)}

    step(0)
    stack.alive[:] = [True, True, False]
    stack._end(np.ones((3, 20), dtype=np.float32), 9, {})
    losses, devices = step(10)
    assert len(losses) == 2
    assert devices == {"meta"}


def test_runs_that_do_not_fit_train_in_halves(digits, monkeypatch):
    """Together they need more memory than there is: the numbers are the same."""
    work = batch(Model, digits, 20, 5)
    expected, seen, sizes = train(work), [], []
    begin = _Stack.__init__

    def short(self, given):
        sizes.append(len(given.runs))
        if len(given.runs) > 2:
            raise torch.OutOfMemoryError("out of memory")
        begin(self, given)

    monkeypatch.setattr(_Stack, "__init__", short)
    found = train(work, seen.append)
    assert sizes == [5, 2, 3, 2, 2]
    assert seen[-1] == 100
    for a, b in zip(found, expected, strict=True):
        assert a.values["loss"] == b.values["loss"]
        assert np.array_equal(a.curve, b.curve)


def test_a_gpu_trains_all_runs_of_a_shape_at_once(digits):
    data, plan = Samples(digits), ll.plan(Model, dict(width=16, depth=2), optimizer="sgd")
    runs = [
        TrainingRun("m", "d", 16, 2, lr, s, "auto", "sgd", 10, 8, BASE)
        for lr in (0.1, 0.2)
        for s in range(500)
    ]
    rates = {runs[0].common: Planned(plan)}
    for device, count in (("cuda", 1), ("cpu", 2)):
        assert len(groups(Model, data, runs, rates, 1 + (device == "cpu"), None, device)) == count


def test_a_seed_begins_in_one_program(digits):
    """Its runs, of all rates, begin as one model, which is built and steps once for all of them."""
    data, plan = Samples(digits), ll.plan(Model, dict(width=16, depth=2), optimizer="sgd")
    runs = [
        TrainingRun("m", "d", 16, 2, lr, s, "auto", "sgd", 10, 8, BASE)
        for lr in (0.1, 0.2, 0.4)
        for s in (5, 1, 3, 2)
    ]
    work = groups(Model, data, runs, {runs[0].common: Planned(plan)}, workers=2)
    assert [[r.seed for r in g.runs] for g in work] == [[5] * 3 + [1] * 3, [3] * 3 + [2] * 3]


def test_a_device_that_is_not_there_is_refused(digits):
    with pytest.raises(ValueError, match="device='cuda:77' cannot be used"):
        sweep(digits, Model, widths=[16], depths=[2], lrs=[0.1], device="cuda:77")
    with pytest.raises(ValueError, match="device='meta' cannot be used"):
        sweep(digits, Model, widths=[16], depths=[2], lrs=[0.1], device="meta")


@pytest.mark.parametrize("optimizer", ["lion", "signsgd"])
def test_the_formulas_of_a_stack_are_the_classes(optimizer):
    """Gradients that are drawn; every run with its own rate, decay and momentum."""
    plan = ll.plan(Model, dict(width=16, depth=2), optimizer=optimizer)
    runs = [
        TrainingRun("m", "d", 16, 2, lr, 0, "auto", optimizer, 4, None, BASE, decay, mu)
        for lr, decay, mu in ((0.1, 0.0, 0.5), (0.2, 0.3, 0.8), (0.3, 0.1, 0.9))
    ]  # fmt: skip
    factors = [(Factors(1.0, 0.5, 2.0, 1.0, 1.0), False), (Factors(1.0, 2.0, 1.0, 1.0, 1.0), False)]
    stack = Stacked(Planned(plan), runs, factors)
    g = torch.Generator().manual_seed(0)
    start = [torch.randn(3, 4, 5, generator=g), torch.randn(3, 6, generator=g)]
    p = [w.clone() for w in start]
    alone = [[torch.nn.Parameter(w[k].clone()) for w in start] for k in range(3)]
    made = []
    for run, some in zip(runs, alone, strict=True):
        pairs = zip(some, factors, strict=True)
        groups = [
            dict(params=[w], lr=run.lr * f.lr, weight_decay=run.weight_decay * f.weight_decay)
            for w, (f, _) in pairs
        ]
        how = dict(momentum=run.momentum) if optimizer == "signsgd" else {}
        made.append(plan.optimizer_rule.make(groups, settings=how)[0])
    for factor in (1.0, 0.5, 2.0, 1.0):
        gradients = [torch.randn(w.shape, generator=g) for w in p]
        stack.step(p, gradients, factor)
        for k, o in enumerate(made):
            for group, (f, _) in zip(o.param_groups, factors, strict=True):
                group["lr"] = runs[k].lr * f.lr * factor
            for w, x in zip(alone[k], gradients, strict=True):
                w.grad = x[k]
            o.step()
    for i, w in enumerate(p):
        due = torch.stack([some[i].detach() for some in alone])
        torch.testing.assert_close(w, due, rtol=1e-5, atol=1e-5)
