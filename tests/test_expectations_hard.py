"""Gaussian expectations where quadrature and series are hard: any norm, slope, kink and correlation.

Functions with a closed form are given as lambdas, so that the numerical way is taken.
"""

import functools
import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.special import ndtr, owens_t

from leadline.activations import closed_forms, find
from leadline.activations.pairs import Pairs
from leadline.kernels import conditional, piecewise
from leadline.kernels.expectations import dual, dual_on_pairs

ONE = Pairs.of(2, np.array([0]), np.array([1]))


def numerical(phi, a, b, rho):
    """Expectations of the pair with standard deviations a, b, their bounds, and the scale, (2,)."""
    found = remembered(phi)(np.array([a * a, b * b, rho * a * b]), ONE)
    values = np.stack([found.phi, found.slope])
    return values[:, 2], found.error[:, 2], np.sqrt(np.abs(values[:, 0] * values[:, 1]))


@functools.cache
def remembered(phi):
    return dual_on_pairs(phi)


def form(which):
    def exact(a, b, rho):
        phi, slope = which(np.array([a * a, b * b, rho * a * b]), ONE)
        return np.array([phi[2], slope[2]])

    return exact


def cubic(a, b, rho):
    """By Isserlis: E[h³h'³] = 9qq'c + 6c³, E[h²h'²] = qq' + 2c²."""
    q, r, c = a * a, b * b, rho * a * b
    return np.array([9 * q * r * c + 6 * c**3, 9 * (q * r + 2 * c * c)])


def step_at(t):
    """P(h > t, h' > t) = Φ(−|t|/a) and so on by Owen's T function (1956)."""

    def exact(a, b, rho):
        h, k, s = -t / a, -t / b, math.sqrt((1 - rho) * (1 + rho))
        if s == 0:
            both = ndtr(min(h, k)) if rho > 0 else max(ndtr(h) + ndtr(k) - 1, 0)
            return np.array([both, 0.0])
        both = 0.5 * (ndtr(h) + ndtr(k))
        both -= owens_t(h, (k / h - rho) / s) + owens_t(k, (h / k - rho) / s)
        return np.array([both - (0.5 if h * k < 0 else 0.0), 0.0])

    return exact


def steep_erf(slope):
    """erf(wh) is erf of a Gaussian with w times the standard deviation."""

    def exact(a, b, rho):
        return form(closed_forms.erf)(slope * a, slope * b, rho) * np.array([1, slope**2])

    return exact


PHIS = {
    "relu": (lambda h: torch.relu(h), form(closed_forms.relu), (1e-9, 1e6)),
    "abs": (lambda h: abs(h), form(closed_forms.absolute), (1e-9, 1e6)),
    "sign": (lambda h: torch.sign(h), form(closed_forms.sign), (1e-9, 1e6)),
    "erf": (lambda h: torch.erf(h), form(closed_forms.erf), (1e-9, 1e4)),
    "gelu": (lambda h: torch.nn.functional.gelu(h), form(closed_forms.gelu), (1e-9, 1e4)),
    "erf 1000": (lambda h: torch.erf(1e3 * h), steep_erf(1e3), (1e-9, 1e3)),
    "erf 1e6": (lambda h: torch.erf(1e6 * h), steep_erf(1e6), (1e-3, 1e2)),
    "sin": (lambda h: torch.sin(h), form(closed_forms.sin), (1e-9, 60.0)),
    "cos": (lambda h: torch.cos(h), form(closed_forms.cos), (1e-9, 60.0)),
    "exp": (lambda h: torch.exp(h), form(closed_forms.exp), (1e-9, 3.0)),
    "cubic": (lambda h: h**3, cubic, (1e-9, 1e6)),
    "step": (lambda h: (h > 1.2345).to(h.dtype) + 0 * h, step_at(1.2345), (0.3, 1e3)),
}
CORRELATIONS = st.one_of(
    st.floats(-1.0, 1.0),
    st.sampled_from([-1.0, 1.0, 0.0]),
    st.floats(-12, -1).map(lambda e: 1 - 10**e),
    st.floats(-12, -1).map(lambda e: 10**e - 1),
)


@pytest.mark.parametrize("name", PHIS)
@settings(max_examples=12, deadline=None, derandomize=True)
@given(st.floats(0, 1), st.floats(0, 1), CORRELATIONS)
@example(0.9, 0.7, 1.0)
@example(0.7, 0.9, -1.0)
@example(0.9, 0.9, 0.9999)
def test_any_norm_slope_and_correlation(name, place, other, rho):
    phi, exact, (low, high) = PHIS[name]
    steep = name.startswith("erf 1")
    if steep and abs(rho) < 1:
        rho = max(min(rho, 1 - 1e-9), 1e-9 - 1)
    a, b = (low * (high / low) ** x for x in (place, other))
    values, error, scale = numerical(phi, a, b, rho)
    expected = exact(a, b, rho)
    # A kink's E[φ'φ'] and a jump's E[φφ'] go as √(1 − ρ): what rounding ρ makes of them.
    rounding = 2e-14 + (4e-16 / math.sqrt(max(1 - abs(rho), 1e-15)) if abs(rho) < 1 else 0)
    assert (error <= 1e-9 * scale + 1e-300).all()
    allowed = error + rounding * scale
    if name == "step":  # Owen's T is known to an absolute 1e-15
        allowed += 5e-15
    if steep:  # E[φ'φ'] goes as 1/√(1 − ρ) until it feels the width of the step
        allowed += 4e-16 / max(1 - abs(rho), 1e-9) * np.abs(expected)
    assert (np.abs(values - expected) <= allowed).all()


def by_panels(phi, a, b, rho, order=20):
    """Both expectations by Gauss panels graded around 0 in h and h', and around h' = E[h'|h]."""
    x, w = np.polynomial.legendre.leggauss(order)
    s = math.sqrt((1 - rho) * (1 + rho))
    graded = np.geomspace(1e-3 / max(a, b, 1.0), 10, 26)
    graded = np.concatenate([-graded[::-1], [0], graded])
    half = 0.5 * np.diff(graded)[:, None]
    at = (0.5 * (graded[1:] + graded[:-1])[:, None] + half * x).ravel()
    weight = (half * w).ravel() * np.exp(-0.5 * at * at) / math.sqrt(2 * math.pi)
    edges = rho * at[:, None] + s * np.linspace(-9, 9, 13)
    edges = np.sort(np.concatenate([edges, np.broadcast_to(graded, (len(at), len(graded)))], 1), 1)
    half = 0.5 * np.diff(edges)[..., None]
    u = 0.5 * (edges[:, 1:] + edges[:, :-1])[..., None] + half * x
    z = (u - rho * at[:, None, None]) / s
    inner = half * w * np.exp(-0.5 * z * z) / (s * math.sqrt(2 * math.pi))
    function = find(phi).value_and_slope
    f = function(torch.from_numpy(a * at))
    g = function(torch.from_numpy(b * u))
    return np.array(
        [weight @ (p.numpy() * (q.numpy() * inner).sum((1, 2))) for p, q in zip(f, g, strict=True)]
    )


@pytest.mark.parametrize(
    ("phi", "a", "b", "rho"),
    [
        ("tanh", 60.0, 60.0, 0.99),
        ("tanh", 130.0, 20.0, -0.9995),
        ("silu", 60.0, 45.0, 0.7),
        (torch.nn.functional.softplus, 40.0, 40.0, 0.999),
        (torch.nn.functional.elu, 30.0, 50.0, 0.95),
        (lambda h: torch.tanh(1000 * h), 60.0, 50.0, 0.9),
        (lambda h: torch.tanh(1000 * h), 0.01, 1.0, 0.999),
        (lambda h: torch.exp(-h * h) * torch.sign(h) + h, 8.0, 3.0, 0.5),
    ],
)
def test_steep_functions_agree_with_graded_panels(phi, a, b, rho):
    values, error, scale = numerical(phi, a, b, rho)
    assert (error <= 1e-9 * scale).all()
    np.testing.assert_array_less(np.abs(values - by_panels(phi, a, b, rho)), error + 1e-11 * scale)


def test_what_was_wrong_by_percents():
    """Variances on the diagonal, in closed form: 4/3·1000/(√(2π)·60) is E[φ'²] of a steep tanh."""
    slope = numerical(lambda h: torch.tanh(1000 * h), 60.0, 60.0, 1.0)[0][1]
    assert slope == pytest.approx(4000 / 3 / (math.sqrt(2 * math.pi) * 60), rel=1e-6)
    slope = numerical("tanh", 60.0, 60.0, 1.0)[0][1]
    leading = 4 / 3 / (math.sqrt(2 * math.pi) * 60)
    # ∫ sech⁴(h)(1 − h²/2q) dh: the next term of the expansion in 1/q, h² on average π²/12 − ½.
    assert slope == pytest.approx(leading * (1 - (math.pi**2 / 12 - 0.5) / 7200), rel=1e-7)
    sine = numerical(lambda h: torch.sin(h), 40.0, 40.0, 1.0)[0]
    np.testing.assert_allclose(sine, 0.5, rtol=1e-10)


@pytest.mark.parametrize(
    ("phi", "word"),
    [
        (lambda h: h.abs().sqrt(), "φ'"),
        (lambda h: torch.log(h.abs()), "φ'"),
        (lambda h: 1 / h, "finite second moment"),
        (lambda h: torch.exp(h * h), "finite second moment"),
        (lambda h: torch.sin(1e7 * h), "too fast"),
    ],
)
def test_moments_that_do_not_exist_or_are_not_reached_are_refused(phi, word):
    with pytest.raises(ValueError, match=r"activation=.*standard deviation.*rtol=1e-06") as caught:
        dual(phi)(np.diag([1.0, 2.0]))
    assert word in str(caught.value)
    assert "larger rtol" in str(caught.value)


def test_a_singular_slope_with_a_second_moment_is_right():
    """|h|^.75: E[φ'²] = (9/16)·E|h|^-½ = (9/16)·2^-¼·Γ(¼)/√π."""
    slope = numerical(lambda h: h.abs() ** 0.75, 1.0, 1.0, 1.0)[0][1]
    expected = 9 / 16 * 2**-0.25 * math.gamma(0.25) / math.sqrt(math.pi)
    assert slope == pytest.approx(expected, rel=1e-8)


def test_values_that_overflow_where_no_neuron_is_do_not_matter():
    """log(1 + eʰ) is infinite for h > 709: 12 standard deviations of 59 away, but 5 of 140."""
    values = numerical(lambda h: torch.log1p(torch.exp(h)), 59.0, 59.0, 1.0)[0]
    expected = numerical(torch.nn.functional.softplus, 59.0, 59.0, 1.0)[0]
    np.testing.assert_allclose(values, expected, rtol=1e-9)
    with pytest.raises(ValueError, match="does not converge"):
        numerical(lambda h: torch.log1p(torch.exp(h)), 140.0, 140.0, 1.0)


def test_a_matrix_is_symmetric_and_obeys_cauchy_and_schwarz():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((7, 4)) * np.geomspace(1e-6, 300, 7)[:, None]
    x[3], x[5] = 2 * x[2], -x[4]
    for phi in ("tanh", torch.nn.functional.hardtanh, lambda h: torch.tanh(50 * h) + 0.1 * h):
        for e in dual(phi)(x @ x.T / 4):
            np.testing.assert_array_equal(e, e.T)
            size = np.sqrt(np.outer(np.diag(e), np.diag(e)))
            assert (np.abs(e) <= size * (1 + 1e-12)).all()
            assert np.linalg.eigvalsh(e / size).min() > -1e-11


def test_equal_correlation_one_is_the_second_moment():
    for phi in ("tanh", "silu", torch.nn.functional.hardtanh):
        values, _, scale = numerical(phi, 3.7, 3.7, 1.0)
        np.testing.assert_allclose(values, scale, rtol=1e-15)
        near = numerical(phi, 3.7, 3.7 * (1 + 1e-9), 1.0)[0]
        np.testing.assert_allclose(near, scale, rtol=1e-7)


def test_pieces_find_kinks_and_jumps_wherever_they_are():
    def phi(h):
        return torch.where(h > 0.7, h - 0.7, 0 * h) + (h < -math.pi).to(h.dtype) + torch.tanh(h)

    function = find(phi).value_and_slope

    def evaluate(h):
        return np.stack([v.numpy() for v in function(torch.from_numpy(h))])

    pieces = piecewise.build(evaluate, 4.0)
    assert pieces.complete
    for place in (0.7, -math.pi):
        assert np.abs(pieces.edges - place).min() < 1e-14
    assert pieces.distance(np.array([2.0, 4.0])).max() < 1e-11
    assert len(pieces.edges) < 120
    h = np.random.default_rng(0).uniform(-12, 12, 1000)
    at = np.searchsorted(pieces.edges, h, "right") - 1
    np.testing.assert_allclose(piecewise.interpolate(pieces, h, at), evaluate(h), atol=1e-11)


def test_a_steep_zone_between_two_pieces_is_not_missed():
    """tanh(1e6·h) is ±1 at every Gauss node of coarse pieces that end at 0."""
    slope = numerical(lambda h: torch.tanh(1e6 * h), 1.0, 1.0, 1.0)[0][1]
    assert slope == pytest.approx(4e6 / 3 / math.sqrt(2 * math.pi), rel=1e-9)


@pytest.mark.parametrize("rho", [-0.95, 0.6, 1 - 1e-9, 1.0])
def test_the_conditional_way_agrees_with_the_series_and_its_mirror(rho):
    found = remembered(torch.nn.functional.silu)
    f, g = found.band(2.0).pieces, found.band(3.0).pieces
    one, error = conditional.moments(found.evaluate, f, g, 2.0, 3.0, rho)
    two, _ = conditional.moments(found.evaluate, g, f, 3.0, 2.0, rho)
    np.testing.assert_allclose(one, two, rtol=0, atol=1e-11)
    assert (error < 1e-9).all()
    np.testing.assert_allclose(
        one, numerical(torch.nn.functional.silu, 2.0, 3.0, rho)[0], atol=1e-11
    )


def test_a_kink_beside_an_end_of_a_panel_is_not_missed():
    """±1 of hardtanh are ends of pieces at S = 1, and just beside those of a grid in h/s at s < 1."""
    values = []
    for s in (1 - 1.3e-5, 1.0, 1 + 1.3e-5):
        values.append(numerical(torch.nn.functional.hardtanh, s, s, 1.0)[0][1])
        assert values[-1] == pytest.approx(math.erf(1 / (s * math.sqrt(2))), rel=1e-11)
