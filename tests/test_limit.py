"""limit: the extrapolation, its error bar, its budgets and its refusals."""

import json
import math

import numpy as np
import pytest
import torch

import leadline as ll
from leadline.dynamics.extrapolation import _rows

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
    assert (np.abs(r.train_loss - exact.train_loss[0]) < 1.5 * r.train_loss_error + 1e-6).all()
    assert np.abs(r.train_outputs - exact.train_outputs[0]).max() < 0.05


def test_the_extrapolation_is_exact_for_its_model():
    """E + A/n + B/L is reproduced whatever the sizes."""
    sizes = [(256, 8), (512, 8), (256, 16), (1024, 16), (512, 32)]
    n, rows = _rows(sizes)
    l = np.array([s[1] for s in sizes])
    values = 0.3 + 7.0 / n - 0.4 / l
    assert rows @ values == pytest.approx([0.3, 7.0 / 1024, -0.4 / 32], abs=1e-12)


def test_budgets_end_with_the_best_answer():
    p = four_samples()
    r = ll.limit(p, NET, SGD, rtol=1e-4, seconds=1e-3)
    assert not r.converged
    assert "stopped by seconds=0.001" in r.message
    assert len(r.sizes) == 3
    assert np.isfinite(r.train_loss).all()
    r = ll.limit(p, NET, SGD, rtol=1e-4, memory=5_000_000)
    assert not r.converged
    assert "stopped by memory" in r.message
    with pytest.raises(MemoryError, match="memory=1,000"):
        ll.limit(p, NET, SGD, memory=1000)


def test_divergence_is_said():
    r = ll.limit(four_samples(), ll.ResNet("relu"), ll.SGD(lr=1e8, steps=6))
    assert not r.converged
    assert "diverges" in r.message


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


@pytest.mark.parametrize("change", [{"rtol": 0}, {"rtol": 2}, {"seeds": 1}, {"seconds": -1}])
def test_bad_arguments(change):
    with pytest.raises(ValueError, match=f"{next(iter(change))}="):
        ll.limit(four_samples(), NET, SGD, **change)
