"""Kernels followed along curves in the angle equal those of every pair followed by itself."""

import functools

import numpy as np
import pytest

from leadline.activations.pairs import Pairs, every, matrix
from leadline.architecture import ResNet
from leadline.kernels import curves as pairs
from leadline.kernels import kernels as module
from leadline.kernels.curves import follow

input_kernels = functools.partial(module.input_kernels, seconds=None)

PARTS = ("features", "gradients", "tangent", "feature_path", "gradient_path")


def inputs(samples, norms, seed=0):
    """Random inputs of d = 8 with |x|²/d in turn one of ``norms``; two point the same way."""
    x = np.random.default_rng(seed).standard_normal((samples, 8))
    x[3] = x[2]
    x /= np.sqrt((x * x).mean(1, keepdims=True))
    return x * np.sqrt(np.resize(norms, samples))[:, None]


@pytest.fixture
def asked(monkeypatch):
    """How many pairs were followed, call by call."""
    counts = []
    original = pairs.follow

    def counting(k0, work, degrees, **how):
        def counted(which, start):
            counts.append(len(start))
            return work(which, start)

        # The second run, of a few inputs, is the measurement of the first.
        return original(k0, counted if len(k0) > 7 else work, degrees, **how)

    monkeypatch.setattr("leadline.kernels.kernels.follow", counting)
    return counts


@pytest.mark.parametrize("depth", [None, 12])
@pytest.mark.parametrize("norms", [[1.0], [0.6, 1.7]])
@pytest.mark.parametrize(
    "network",
    [
        ResNet("relu"),
        ResNet("erf", gain=1.3),
        ResNet("tanh", horizon=2.0),
        ResNet("gelu", block_layers=2),
        ResNet("relu", block_layers=3),
    ],
)
def test_curves_equal_every_pair(network, norms, depth, asked, monkeypatch):
    x = inputs(60, norms)
    fast = input_kernels(x, network, depth, times=[0.0, 0.5])
    reached = list(asked)
    monkeypatch.setattr(pairs, "_by_curves", lambda *a: None)
    slow = input_kernels(x, network, depth, times=[0.0, 0.5])
    assert asked[-1] == 60 * 61 // 2
    if norms == [1.0]:
        assert sum(reached) < asked[-1] / 4
    for name in PARTS:
        a, b = getattr(fast, name), getattr(slow, name)
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-10 * np.abs(b).max(), err_msg=name)


def test_homogeneous_activations_need_one_variance(asked):
    x = inputs(60, np.linspace(0.2, 3.0, 60))
    kernels = input_kernels(x, ResNet("relu"))
    assert asked[-1] <= 129
    s = np.sqrt((x * x).mean(1))
    unit = input_kernels(x / s[:, None], ResNet("relu"))
    expected = unit.features * np.outer(s, s)
    np.testing.assert_allclose(kernels.features, expected, rtol=0, atol=1e-13)
    # Two inputs are equal: ρ = 1 up to rounding, and θ = arccos ρ ~ √ε enters linearly.
    np.testing.assert_allclose(kernels.gradients, unit.gradients, rtol=2e-8)


def test_opposite_inputs(asked):
    """At ρ = -1 the depth equation of relu starts with a square root: 1e-8, by any way."""
    x = inputs(60, [1.0])
    x[1] = -x[0]
    among = input_kernels(x, ResNet("relu"))
    assert asked[-1] <= 129
    alone = input_kernels(x[:2], ResNet("relu"))
    for name in ("features", "gradients", "tangent"):
        a, b = getattr(among, name)[:2, :2], getattr(alone, name)
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-8)


def test_a_zero_input_among_many_is_followed_by_itself(asked):
    x = np.vstack([inputs(60, [1.0]), np.zeros(8)])
    kernels = input_kernels(x, ResNet("relu"))
    np.testing.assert_allclose(kernels.features[-1], 0, atol=1e-15)
    assert kernels.gradients[-1, -1] == 1.0
    alone = input_kernels(x[:3], ResNet("relu"))
    np.testing.assert_allclose(kernels.tangent[:3, :3], alone.tangent, rtol=1e-8)


def test_an_unresolved_kernel_falls_back_to_every_pair():
    x = inputs(60, [1.0])
    k0 = x @ x.T / 8
    calls = []

    def steps(which, k):
        """A jump in ρ, which no polynomial resolves."""
        calls.append(len(k))
        return (np.sign(k - 0.1),)

    (out,) = follow(k0, steps, (0,))
    np.testing.assert_array_equal(out, np.sign(k0 - 0.1))
    assert len(calls) > 1
    assert calls[-1] == 60 * 61 // 2


def test_pairs_and_matrices():
    which = every(3)
    assert isinstance(which, Pairs)
    assert which.left.tolist() == [0, 1, 2, 0, 0, 1]
    k = np.arange(9.0).reshape(3, 3)
    k = k + k.T
    np.testing.assert_array_equal(matrix(k[which.left, which.right], which), k)
    q, rho = which.correlation(np.array([4.0, 1.0, 0.0, 1.0, 0.0, 0.0]))
    np.testing.assert_array_equal(q, [4, 1, 0])
    np.testing.assert_array_equal(rho, [1, 1, 0, 0.5, 0, 0])
