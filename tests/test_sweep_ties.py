"""Whatever a module does, a sweep trains it as a plain loop does."""

import random

import numpy as np
import pytest
import torch

import leadline as ll
import tied_models
from leadline.store.store import Store
from leadline.sweeps import groups as groups_module
from leadline.sweeps.driver import sweep
from leadline.sweeps.groups import together, train
from leadline.sweeps.modules import FirstSteps
from leadline.sweeps.rates import Planned
from leadline.sweeps.runs import ENGINE, RunGroup, TrainingRun
from leadline.sweeps.stacks import NotStacked
from leadline.tasks.builtin import Samples, Tokens
from leadline.tasks.data import mean_loss
from leadline.tracing.builder import Size, construct, seed_of_passes
from sweep_models import plain_loop
from tied_models import ALONE, STACKED, Residual, Tied

BASE = Size(16, 2)


def loop(build, plan, data, run):
    """One model and torch's own optimizer: losses before each step, and the last, in eval mode."""
    model = plan.apply(construct(build, run.size, run.seed))
    groups = plan.param_groups(model, run.lr, weight_decay=run.weight_decay)
    optimizer = torch.optim.AdamW(groups)
    torch.manual_seed(seed_of_passes(run.seed))
    random.seed(seed_of_passes(run.seed))
    losses = plain_loop(model, [optimizer], data, run)
    model.eval()
    return losses, float(mean_loss(data, model, data.train()).detach())


def of(build, digits, steps=12, decay=0.1):
    # Plans have no rule for sums over a dimension that grows, nor for numbers with two names.
    views = build in (tied_models.View, tied_models.TwoOnOneMemory)
    sizes = dict(width=16, depth=2), dict(width=24, depth=2)
    plan = ll.plan(build, *sizes, scheme="sp" if views else "auto")
    size = plan.target
    runs = tuple(
        TrainingRun(
            "m", "d", size.width, 2, lr, s, "auto", "adamw", steps, 8, BASE, weight_decay=decay
        )
        for lr in (1e-3, 4e-3)
        for s in (0, 1)
    )
    return plan, RunGroup(build, Planned(plan), Samples(digits), runs)


def compare(build, plan, work, results):
    for run, result in zip(work.runs, results, strict=True):
        losses, final = loop(build, plan, work.data, run)
        # float32 sums in another order, for as many steps.
        np.testing.assert_allclose(result.curve, losses, rtol=1e-4)
        assert result.values["loss"] == pytest.approx(final, rel=1e-4)


@pytest.mark.parametrize("build", STACKED)
def test_modules_that_a_stack_can_replace(digits, build):
    plan, work = of(build, digits)
    results = together(work)
    compare(build, plan, work, results)


@pytest.mark.parametrize("build", ALONE)
def test_modules_that_hold_more_train_as_they_are(digits, build):
    plan, work = of(build, digits)
    with pytest.raises(NotStacked):
        together(work)
    compare(build, plan, work, train(work))


def test_a_replayed_stack_keeps_its_buffers(digits):
    """Long enough to be recorded, were it not for the buffers."""
    plan, work = of(tied_models.Buffers, digits, steps=300)
    compare(tied_models.Buffers, plan, work, together(work))


@pytest.mark.parametrize("what", ["gradient", "loss"])
def test_a_stack_that_computes_something_else_is_not_trained(digits, what, monkeypatch):
    """Whatever makes a stack wrong, its first step or its last loss shows it."""
    plan, work = of(Residual, digits)
    right = groups_module.call

    def wrong(model, at, state, arguments):
        if what == "gradient":
            state = {n: t.detach() if n == "model.readout.weight" else t for n, t in state.items()}
        elif not model.model.training:
            state = {n: 1.1 * t for n, t in state.items()}
        return right(model, at, state, arguments)

    monkeypatch.setattr(groups_module, "call", wrong)
    with pytest.raises(NotStacked, match="first step" if what == "gradient" else "last loss"):
        together(work)
    compare(Residual, plan, work, train(work))


def test_a_first_step_that_rounding_turned_is_repeated_in_float64(digits, monkeypatch):
    """A unit that is on in one sum and off in another makes gradients differ by more than rounding."""
    plan, work = of(Residual, digits)
    monkeypatch.setattr(FirstSteps, "different", lambda *_: [work.runs[0].seed])
    compare(Residual, plan, work, together(work))


@pytest.fixture(scope="module")
def bytes_():
    return ll.text(context=8, limit_bytes=50_000)


@pytest.mark.parametrize(
    ("build", "executor"),
    [
        (Tied, "inline"),
        (Tied, "processes"),
        (ll.gpt(context=8, head_size=8, tied=True), "inline"),
    ],
)
def test_tied_weights_stay_tied(bytes_, build, executor):
    """A tied two-block model reaches the loss of a plain loop."""
    how = dict(widths=[16, 32], depths=[2], lrs=[1e-3, 1e-2], seeds=2, steps=20, batch_size=8)
    done = sweep(bytes_, build, executor=executor, workers=2, **how)
    data = Tokens(bytes_)
    assert len(done.rows) == 8
    for row in done.rows[::3]:
        plan = ll.plan(build, dict(width=16, depth=2), dict(width=row["width"], depth=2))
        run = TrainingRun("m", "d", row["width"], 2, row["lr"], row["seed"], steps=20, batch_size=8)
        assert row["loss"] == pytest.approx(loop(build, plan, data, run)[1], rel=1e-4)
        assert not row["diverged"]


def test_runs_of_an_engine_that_was_wrong_are_trained_again(digits, tmp_path):
    how = dict(widths=[16], depths=[2], lrs=[1e-3], steps=3, executor="inline")
    (right,) = sweep(digits, Residual, **how).rows
    with Store(tmp_path / "s") as store:
        first = sweep(digits, Residual, store=store, **how)
        (spec,) = [r.spec for r in store.records()]
        assert spec["engine"] == ENGINE > 1
    false = {"loss": None, "test_loss": None, "diverged": True, "stopped": False, "steps_done": 1}
    with Store(tmp_path / "old") as store:
        store.put(spec | {"engine": 1}, false, {"loss": np.array([np.nan])})
        again = sweep(digits, Residual, store=store, **how)
    assert (first.fresh, again.fresh) == (1, 1)
    assert again.rows[0]["loss"] == right["loss"]


def test_numbers_with_two_names_are_not_scaled_twice():
    build = tied_models.TwoOnOneMemory
    plan = ll.plan(build, dict(width=16, depth=2), dict(width=32, depth=4))
    with pytest.raises(
        ValueError, match=r"'embed.weight' and 'readout.weight' lie on the same memory"
    ):
        plan.apply(build(32, 4))
