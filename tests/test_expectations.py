"""Gaussian expectations against closed forms and independent quadrature."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import dblquad

from leadline.activations import find
from leadline.kernels.expectations import dual


def covariance(samples, dimension, *, equal, seed=0):
    x = np.random.default_rng(seed).standard_normal((samples, dimension))
    if equal:
        x /= np.sqrt((x**2).mean(1, keepdims=True))
    return x @ x.T / dimension


def pair(rho, q=1.0, r=1.0):
    c = rho * math.sqrt(q * r)
    return np.array([[q, c], [c, r]])


def by_double_integral(phi, k):
    """E over two independent unit Gaussians, by adaptive quadrature; the pair (Φ, S)."""
    root = np.linalg.cholesky(k)
    function = find(phi).value_and_slope

    def integrand(b, a, which):
        h = torch.tensor([root[0, 0] * a, root[1, 0] * a + root[1, 1] * b], dtype=torch.float64)
        values = function(h)[which].numpy()
        return values[0] * values[1] * math.exp(-0.5 * (a * a + b * b)) / (2 * math.pi)

    return [dblquad(integrand, -6.5, 6.5, -6.5, 6.5, (w,), 1e-8, 1e-8)[0] for w in (0, 1)]


def trapezoid(phi, k):
    """The same on a fine grid: the trapezoid rule is exponentially accurate for smooth φ."""
    x = np.arange(-9, 9, 0.05)
    w = 0.05 * np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
    root = np.linalg.cholesky(k)
    h = root[0, 0] * x[:, None] + 0 * x
    h2 = root[1, 0] * x[:, None] + root[1, 1] * x
    a, b = find(phi).value_and_slope(torch.from_numpy(np.stack([h, h2])))
    return [float(w @ (v[0] * v[1]).numpy() @ w) for v in (a, b)]


@pytest.mark.parametrize("equal", [True, False])
@pytest.mark.parametrize("name", ["erf", "relu", "gelu"])
def test_the_series_agrees_with_closed_forms(name, equal):
    k = covariance(12, 20, equal=equal)
    numerical = dual(lambda h: find(name).value(h))
    for closed, series in zip(dual(name)(k), numerical(k), strict=True):
        np.testing.assert_allclose(series, closed, rtol=0, atol=1e-11)


def test_named_and_plain_torch_functions_agree():
    k = covariance(8, 10, equal=False)
    for name in ("tanh", "gelu", "silu"):
        function = {"tanh": torch.tanh}.get(name) or getattr(torch.nn.functional, name)
        for a, b in zip(dual(name)(k), dual(function)(k), strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-13)
    linear = dual(lambda h: 1.0 * h)(k)
    for a, b in zip(dual("identity")(k), linear, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "k", [pair(0.6), pair(-0.9, 0.5, 1.7), pair(0.999, 2.0, 2.0), pair(0.0, 0.01, 3.0)]
)
@pytest.mark.parametrize("name", ["tanh", "gelu", "silu"])
def test_smooth_functions_agree_with_a_fine_grid(name, k):
    for values, expected in zip(dual(name)(k), trapezoid(name, k), strict=True):
        assert values[0, 1] == pytest.approx(expected, abs=1e-10)


def test_tanh_agrees_with_adaptive_double_integration():
    k = pair(0.5, 1.0, 0.7)
    phi, slope = dual("tanh")(k)
    expected = by_double_integral("tanh", k)
    assert [phi[0, 1], slope[0, 1]] == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("rho", [0.5, 0.98, 0.999, 1 - 1e-7, -1 + 1e-4])
def test_accuracy_with_kinks(rho):
    k = pair(rho, 1.0, 2.0)
    leaky = dual(lambda h: torch.nn.functional.leaky_relu(h, 0.2))(k)
    relu, slope = dual("relu")(k)
    c = k[0, 1]  # leaky = .2 h + .8 relu, E[h relu(h')] = c/2, E[relu'] = 1/2
    expected = 0.04 * c + 0.16 * c + 0.64 * relu[0, 1], 0.04 + 0.16 + 0.64 * slope[0, 1]
    assert leaky[0][0, 1] == pytest.approx(expected[0], abs=1e-12)
    assert leaky[1][0, 1] == pytest.approx(expected[1], abs=1e-11)


def test_kinks_away_from_zero():
    q = 0.8
    k = pair(0.0, q, q)
    phi, slope = dual(torch.nn.functional.hardtanh)(k)
    inside = math.erf(1 / math.sqrt(2 * q))
    second = q * inside - math.sqrt(2 * q / math.pi) * math.exp(-0.5 / q) + 1 - inside
    np.testing.assert_allclose(phi, np.diag([second, second]), atol=1e-12)
    np.testing.assert_allclose(np.diag(slope), inside, atol=1e-12)
    assert slope[0, 1] == pytest.approx(inside**2, abs=1e-12)
    together = dual(torch.nn.functional.hardtanh)(pair(0.5, q, q))[1][0, 1]
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 400_000))
    h = math.sqrt(q) * np.stack([a, 0.5 * a + math.sqrt(0.75) * b])
    assert together == pytest.approx((np.abs(h) < 1).all(0).mean(), abs=4e-3)


@pytest.mark.parametrize(
    "phi",
    ["identity", "relu", "erf", "tanh", "gelu", torch.abs, torch.cos, lambda h: torch.relu(h)],
)
def test_zero_variance_and_full_correlation(phi):
    k = covariance(3, 5, equal=False)
    k = np.pad(k, (0, 2))
    k[3] = k[2]
    k[:, 3] = k[:, 2]
    for e in dual(phi)(k):
        assert np.isfinite(e).all()
        np.testing.assert_allclose(e, e.T, rtol=0, atol=1e-15)
        np.testing.assert_allclose(e[2, 3], e[2, 2], rtol=1e-12)
        np.testing.assert_allclose(np.linalg.eigvalsh(e).min(), 0, atol=1e-12)
    function = find(phi).value_and_slope
    at_zero = [float(v) for v in function(torch.zeros(1, dtype=torch.float64))]
    for e, v in zip(dual(phi)(k), at_zero, strict=True):
        assert e[4, 4] == pytest.approx(v * v, abs=1e-14)


def test_biased_function_at_zero_variance():
    k = np.diag([1.0, 0.0])
    phi, slope = dual(lambda h: torch.relu(h + 1))(k)
    mean = math.exp(-0.5) / math.sqrt(2 * math.pi) + 0.5 * (1 + math.erf(1 / math.sqrt(2)))
    np.testing.assert_allclose(phi[1], [mean, 1], atol=1e-12)
    np.testing.assert_allclose(slope[1], [0.5 * (1 + math.erf(1 / math.sqrt(2))), 1], atol=1e-12)


def test_small_functions_keep_their_relative_accuracy():
    k = covariance(4, 6, equal=True)
    for big, small in zip(
        dual(torch.tanh)(k), dual(lambda h: 1e-8 * torch.tanh(h))(k), strict=True
    ):
        np.testing.assert_allclose(1e16 * small, big, rtol=0, atol=1e-12)


def test_a_function_without_moments_is_refused():
    with pytest.raises(ValueError, match="finite second moment"):
        dual(lambda h: h / torch.zeros_like(h))(np.eye(2))
