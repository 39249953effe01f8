"""limit: the extrapolation, its error bar, its budgets and its refusals."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch

import leadline as ll
import linear_networks
from leadline.limits import ladder as ladders
from leadline.limits import standing
from leadline.solving.solver import run

NET = ll.ResNet("tanh", scheme="depth-mup")
SGD = ll.SGD(lr=0.5, steps=4, train="hidden", center=True)


def four_samples():
    x = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    x = x / x.norm(dim=1, keepdim=True) * math.sqrt(6)
    return ll.arrays(x, np.array([1.0, -1.0, 1.0, -1.0]), standardize=False)


@pytest.mark.parametrize(("coupling", "loss"), [("reused", 0.2755), ("independent", 0.3053)])
def test_limit_of_the_small_problem(coupling, loss):
    """Against the losses at n=16384, L=128, whose own uncertainty is 0.0008."""
    r = ll.limit(four_samples(), NET, SGD, rtol=0.02, coupling=coupling)
    assert r.converged
    assert r.train_loss_error[-1] <= 0.02 * 0.5
    assert abs(r.train_loss[-1] - loss) < r.train_loss_error[-1] + 0.0016
    assert r.train_loss[0] == pytest.approx(0.5, abs=1e-5)
    assert set(r.contributions) == {"sampling", "width", "depth", "truncation"}
    assert "256x8" in repr(r)
    assert json.loads(json.dumps(r.to_json()))["converged"] is True


def test_readout_only_has_a_closed_limit():
    """With only v learning nothing but K_1 matters: the limit is linear training with K_1."""
    p = ll.arrays(np.eye(3, 5) * math.sqrt(5), np.array([1.0, -1.0, 0.5]), standardize=False)
    sgd = ll.SGD(lr=0.5, steps=5, train="readout")
    exact = ll.lazy(p, NET, sgd)
    r = ll.limit(p, NET, sgd, rtol=0.02)
    assert r.converged
    assert (np.abs(r.train_loss - exact.train_loss[0]) < 1.5 * r.train_loss_error + 1e-6).all()
    assert np.abs(r.train_outputs - exact.train_outputs[0]).max() < 0.05


def at_a_fixed_pace(one, progress):
    """A solver that says to have taken a millisecond a layer and seed, on any machine."""
    t = run(one, progress)
    return dataclasses.replace(t, info={**t.info, "seconds": 1e-3 * one.depth * one.seeds})


def oscillating():
    """One sample, T = 2, a rate at which the output swings around its target by more than its size."""
    p = ll.arrays([[-0.325, 0.421]], [1.876], standardize=False)
    return p, ll.ResNet("identity", horizon=2.0), ll.SGD(lr=0.2, steps=6)


def true_outputs(p, network, sgd, depths, coupling="reused"):
    """Of the limit, from linear networks of infinite width, and their error."""
    by_depth = {l: linear_networks.train(p, network, sgd, l, coupling) for l in depths}
    return linear_networks.limit(by_depth)


@pytest.mark.parametrize(
    ("start", "seconds"),
    [(dict(), 0.3), (dict(width=128, depth=4), 0.01), (dict(width=128, depth=4), 0.3)],
    ids=["usual", "smallest", "small"],
)
def test_oscillating_training_is_right_or_undecided(start, seconds, monkeypatch):
    """The loss bounces off 0 and moves back and forth with depth: bars hold the limit, and no loss is
    below 0."""
    p, network, sgd = oscillating()
    truth, off = true_outputs(p, network, sgd, (16, 32, 64))
    monkeypatch.setattr(ladders, "run", at_a_fixed_pace)
    r = ll.limit(p, network, sgd, rtol=0.06, seconds=seconds, **start)
    loss = 0.5 * ((truth - p.y) ** 2).sum(-1).mean(-1)
    slack = np.abs(truth - p.y).mean((1, 2)) * off.mean((1, 2)) + off.mean((1, 2)) ** 2
    assert (r.train_loss >= 0).all()
    assert (np.abs(r.train_loss - loss) < 1.5 * r.train_loss_error + slack + 1e-6).all()
    assert not r.converged
    assert f"stopped by seconds={seconds:g}: error bar" in r.message


def test_the_oscillating_limit_of_linear_networks():
    """Solved at n = 16384, L = 128 its losses are 1.126 1.470 .117 1.648 1.652 from step 2 on."""
    p, network, sgd = oscillating()
    at_128 = linear_networks.train(p, network, sgd, 128, "reused")
    loss = 0.5 * ((at_128 - p.y) ** 2).sum(-1).mean(-1)
    assert loss[2:] == pytest.approx([1.126, 1.470, 0.117, 1.648, 1.652], abs=0.05)


@pytest.mark.parametrize("coupling", ["reused", "independent"])
def test_limits_of_linear_networks(coupling):
    """Three samples, two outputs, momentum, against the networks of infinite width."""
    x = np.random.default_rng(0).standard_normal((3, 2))
    p = ll.arrays(x, [[1.0, 0.0], [0.0, 1.0], [0.5, -1.0]], standardize=False)
    network, sgd = ll.ResNet("identity"), ll.SGD(lr=0.2, steps=4, momentum=0.5)
    truth, off = true_outputs(p, network, sgd, (2, 4, 8, 16), coupling)
    loss = 0.5 * ((truth - p.y) ** 2).sum(-1).mean(-1)
    assert off.max() < 3e-3
    r = ll.limit(p, network, sgd, rtol=0.05, coupling=coupling)
    assert r.converged
    assert (np.abs(r.train_loss - loss) < 1.5 * r.train_loss_error + 3e-3).all()
    assert np.abs(r.train_outputs - truth).max() < 0.1
    assert r.p_value >= 0.01
    assert len({c["width"] for c in r.sizes}) >= 3
    assert len({c["depth"] for c in r.sizes}) >= 3


@pytest.mark.parametrize(
    ("coupling", "due"), [("reused", math.e), ("independent", math.e - 1)], ids=["reused", "copy"]
)
def test_the_first_step_has_a_closed_form(coupling, due):
    """One sample with |x|² = d, T = 1, identity, only W: Δf = η y (e^T T) or η y (e^T − 1)."""
    p = ll.arrays(np.ones((1, 4)), np.array([1.0]), standardize=False)
    sgd = ll.SGD(lr=0.1, steps=1, train="hidden", center=True)
    r = ll.limit(p, ll.ResNet("identity"), sgd, rtol=0.02, coupling=coupling)
    assert r.converged
    assert r.train_loss[0] == pytest.approx(0.5, abs=1e-6)
    assert abs(r.train_loss[1] - 0.5 * (1 - 0.1 * due) ** 2) < r.train_loss_error[1]
    assert r.train_outputs[1, 0, 0] == pytest.approx(0.1 * due, abs=0.02)


def test_budgets_end_with_the_best_answer():
    p, small = four_samples(), dict(width=64, depth=2, seeds=2)
    r = ll.limit(p, NET, SGD, rtol=1e-4, seconds=1e-3, **small)
    assert not r.converged
    assert "stopped by seconds=0.001: error bar" in r.message
    assert "more: give seconds=" in r.message
    assert len(r.sizes) == 3
    assert np.isfinite(r.train_loss).all()
    r = ll.limit(p, NET, SGD, rtol=1e-4, memory=36_000_000, **small)
    assert not r.converged
    assert "stopped by memory" in r.message
    with pytest.raises(MemoryError, match="memory=1,000"):
        ll.limit(p, NET, SGD, memory=1000)


def test_divergence_is_said():
    r = ll.limit(four_samples(), ll.ResNet("relu"), ll.SGD(lr=1e8, steps=6))
    assert not r.converged
    assert "diverges" in r.message
    assert np.isnan(r.train_loss[-1])
    assert np.isnan(r.train_loss_error).all()
    assert json.loads(json.dumps(r.to_json(), allow_nan=False))["train_loss_error"][0] is None


def test_where_some_networks_diverge_it_is_undecided(monkeypatch):
    """Steps before are estimated, from then on nothing is said."""
    real = ladders.run

    def deep_ones_diverge(one, progress):
        t = real(one, progress)
        if one.depth < 4:
            return t
        return dataclasses.replace(t, diverged=np.array([-1, -1, -1, 3]))

    monkeypatch.setattr(ladders, "run", deep_ones_diverge)
    r = ll.limit(four_samples(), NET, SGD, rtol=0.5, width=64, depth=2)
    assert not r.converged
    assert "undecided: 1 of 4 networks of width=64, depth=4 diverge" in r.message
    assert np.isfinite(r.train_loss[:3]).all()
    assert np.isfinite(r.train_loss_error[:3]).all()
    assert np.isnan(r.train_loss[3:]).all()
    assert np.isnan(r.train_outputs[3:]).all()


def test_without_steps_the_limit_is_that_of_the_start():
    r = ll.limit(four_samples(), NET, ll.SGD(lr=0.5, steps=0), width=64, depth=2, seeds=2)
    assert r.converged
    assert r.train_loss == pytest.approx([0.5], abs=1e-5)
    assert len(r.sizes) == 5


def test_test_inputs_are_extrapolated_too():
    p = four_samples()
    p = ll.arrays(p.x, p.y, p.x[:2], p.y[:2], standardize=False)
    r = ll.limit(p, NET, SGD, rtol=0.4, width=64, depth=2, seeds=2)
    same = 0.5 * ((r.test_outputs - p.y[:2]) ** 2).sum(-1).mean(-1)
    assert r.test_loss == pytest.approx(same, rel=1e-9)
    assert np.abs(r.test_outputs - r.train_outputs[:, :2]).max() < 0.3
    assert (r.test_loss_error[1:] > 0).all()
    assert "test_loss" in repr(r)


def test_a_misfit_never_converges(monkeypatch):
    """Where no fit is good enough: more sizes, and in the end no verdict."""
    monkeypatch.setattr(standing, "MISFIT", 1.1)
    monkeypatch.setattr(ladders, "run", at_a_fixed_pace)
    r = ll.limit(four_samples(), NET, SGD, rtol=0.5, seconds=0.08, width=64, depth=2, seeds=2)
    assert not r.converged
    assert "the sizes do not follow" in r.message
    assert "NOT CONVERGED" in repr(r)


def test_a_limit_goes_on_from_its_folder(tmp_path, monkeypatch):
    solved = []
    real = ladders.run

    def count(one, progress):
        solved.append((one.width, one.depth))
        if len(solved) == 4:
            raise KeyboardInterrupt
        return real(one, progress)

    monkeypatch.setattr(ladders, "run", count)
    how = dict(rtol=0.3, width=64, depth=2, seeds=2, checkpoint=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        ll.limit(four_samples(), NET, SGD, **how)
    assert solved == [(64, 2), (64, 2), (128, 2), (64, 4)]
    r = ll.limit(four_samples(), NET, SGD, **how)
    assert solved[4] == (64, 4)
    fresh = ll.limit(four_samples(), NET, SGD, **(how | {"checkpoint": None}))
    np.testing.assert_array_equal(r.train_loss, fresh.train_loss)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (ll.ResNet(scheme="mup"), "has no infinite-depth limit"),
        (ll.ResNet(block_layers=2, scheme="depth-mup-corrected"), "grow like"),
        (ll.ResNet(skip=False), "skip=False"),
        (ll.ResNet(scheme="ntk"), "use leadline.lazy"),
    ],
)
def test_schemes_without_a_limit_are_refused(network, message):
    with pytest.raises(ValueError, match=message):
        ll.limit(four_samples(), network, SGD)


@pytest.mark.parametrize(
    "change", [{"rtol": 0}, {"rtol": 1}, {"rtol": 2}, {"seeds": 1}, {"seconds": -1}, {"depth": 0}]
)
def test_bad_arguments(change):
    with pytest.raises(ValueError, match=f"{next(iter(change))}="):
        ll.limit(four_samples(), NET, SGD, **change)
