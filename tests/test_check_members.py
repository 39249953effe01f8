"""Seeds of a check run as one program, or one after the other: the same numbers."""

from dataclasses import replace

import pytest
import torch
from torch import nn

import leadline as ll
import tied_models
from check_models import BATCH, IMAGES, TOKENS, Convolutional, Model, gpt2, mse, next_token
from leadline.checking import members as checking_members
from leadline.checking.members import Members
from leadline.checking.quantities import Inspection
from leadline.checking.training import Setup, run, start, train
from leadline.tasks.task import data_of
from leadline.tracing.builder import Size

SEEDS = (0, 1, 2)
DIGITS = (torch.rand(8, 64, generator=torch.Generator().manual_seed(0)), torch.ones(8, 1))


def setup_of(build, batch, loss_fn):
    plan = ll.plan(
        build,
        dict(width=16, depth=2),
        dict(width=32, depth=4),
        inputs=batch[0] if isinstance(batch, tuple) else batch[:, :-1],
    )
    return Setup(plan, build, data_of(ll.Task(loss_fn, batch=batch)), 1e-2, 3)


CASES = {
    "residual": (Model, BATCH, mse),
    "gpt2": (gpt2, TOKENS, next_token),
    "convolutions": (Convolutional, IMAGES, mse),
}


@pytest.mark.parametrize("case", CASES)
def test_one_program_is_one_model_after_the_other(case, monkeypatch):
    setup = setup_of(*CASES[case])
    _, members = start(setup, Size(32, 4), SEEDS)
    together = run(setup, Size(32, 4), SEEDS)
    assert members.together
    alone = [run(setup, Size(32, 4), (s,))[0] for s in SEEDS]
    for a, b in zip(together, alone, strict=True):
        assert a.losses == pytest.approx(b.losses, rel=1e-4)
        assert a.values.keys() == b.values.keys()
        for key, value in b.values.items():
            # A distance from a linearization is a small difference of large numbers.
            rel = 2e-2 if key[0] == "nonlinear" else 1e-3
            assert a.values[key] == pytest.approx(value, rel=rel, abs=1e-6), key


def test_models_train_on_the_device_that_is_given():
    """And random numbers, batch and verdicts are the same on the one that they were on."""
    setup = setup_of(*CASES["residual"])
    _, members = start(replace(setup, device=torch.device("meta")), Size(32, 4), SEEDS)
    assert {p.device.type for m in members.models for p in m.parameters()} == {"meta"}
    how = dict(widths=(16, 32), depths=(2, 4), lr=1e-2, seeds=2, progress=False)
    here, moved = (
        ll.check(ll.Task(mse, batch=BATCH), setup.plan, device=d, **how) for d in (None, "cpu")
    )
    # All but how long it took.
    assert (here.rows, here.losses, here.notes) == (moved.rows, moved.losses, moved.notes)
    for wrong in ("cuda:77", "meta", "gpu"):
        with pytest.raises(ValueError, match=f"device='{wrong}' cannot be used"):
            ll.check(ll.Task(mse, batch=BATCH), setup.plan, device=wrong, **how)


def test_models_are_really_mapped():
    for build, batch, loss_fn in CASES.values():
        setup = setup_of(build, batch, loss_fn)
        plan, members = start(setup, Size(32, 4), SEEDS)
        inspection = Inspection(plan, members)
        train(setup, plan, members)
        inspection.measure()
        assert members.together


class Wrapped(nn.Module):
    """A model whose output passes through something that ``change`` does."""

    def __init__(self, width, depth, change):
        super().__init__()
        self.inner, self.change = Model(width, depth), change
        self.noise = torch.randn(())

    def forward(self, x):
        return self.change(self, self.inner(x))


def branching(_, out):
    return out if float(out.detach().sum()) > 1e9 else 1.0 * out


def drawing(_, out):
    return nn.functional.dropout(out, 0.1, training=True)


def own_tensor(model, out):
    return out + model.noise


@pytest.mark.parametrize("change", [branching, drawing, own_tensor])
def test_what_cannot_be_mapped_runs_one_after_the_other(change):
    def build(width, depth):
        return Wrapped(width, depth, change)

    setup = setup_of(build, BATCH, mse)
    here, members = start(setup, Size(32, 4), SEEDS)
    Inspection(here, members)
    assert not members.together
    together = run(setup, Size(32, 4), SEEDS)
    for s, a in zip(SEEDS, together, strict=True):
        b = run(setup, Size(32, 4), (s,))[0]
        assert a.losses == b.losses
        assert a.values == b.values


@pytest.mark.parametrize("build", [tied_models.OneModuleTwice, tied_models.Buffers])
def test_modules_with_several_names_are_one(build):
    """In a stack as one after the other, and afterwards the models are what they were."""
    setup = setup_of(build, DIGITS, mse)
    together = run(setup, Size(32, 2), SEEDS)
    plan, members = start(setup, Size(32, 2), SEEDS)
    inspection = Inspection(plan, members)
    train(setup, plan, members)
    inspection.measure()
    assert members.together
    for s, a in zip(SEEDS, together, strict=True):
        b = run(setup, Size(32, 2), (s,))[0]
        assert a.losses == pytest.approx(b.losses, rel=1e-4)
        assert a.values.keys() == b.values.keys()


@pytest.mark.parametrize("build", [tied_models.PlainTensor, tied_models.PlainModule])
def test_what_differs_by_seed_in_more_is_seen(build):
    setup = setup_of(build, DIGITS, mse)
    plan, members = start(setup, Size(32, 2), SEEDS)
    Inspection(plan, members)
    assert not members.together


def test_a_stack_with_other_gradients_is_left(monkeypatch):
    """Losses may agree where a path of the gradient is missing."""
    setup = setup_of(*CASES["residual"])
    right = checking_members.call

    def wrong(model, at, state, args, kwargs=None):
        held = {n: t.detach() if "readout" in n else t for n, t in state.items()}
        return right(model, at, held, args, kwargs)

    expected = [run(setup, Size(32, 4), (s,))[0].losses for s in SEEDS]
    monkeypatch.setattr(checking_members, "call", wrong)
    plan, members = start(setup, Size(32, 4), SEEDS)
    Inspection(plan, members)
    assert members.together
    losses, _ = train(setup, plan, members)
    assert not members.together
    assert losses == expected


def test_unused_parameters_get_no_gradient():
    """A gradient of zero would let weight decay and momentum move them."""

    class Idle(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.idle = nn.Linear(8, 4), nn.Linear(8, 4)

        def forward(self, x):
            return self.used(x)

    members = Members([Idle() for _ in SEEDS], data_of(ll.Task(mse, batch=BATCH)), SEEDS)
    losses = members.backward()
    assert members.together
    assert len(set(losses)) == 3
    for model in members.models:
        assert model.idle.weight.grad is None
        expected = torch.autograd.grad(mse(model, BATCH), model.used.weight)[0]
        torch.testing.assert_close(model.used.weight.grad, expected)
