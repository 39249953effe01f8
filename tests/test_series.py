"""The error model of limit: its covariances, its estimates on planted laws, its test of itself."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from leadline.limits import estimate as estimates
from leadline.limits import series
from leadline.limits.estimate import estimate
from leadline.limits.series import Model, Sizes, infer
from leadline.problems.losses import chi, loss_value
from leadline.trajectory import Trajectory

GRID = [(256, 8), (512, 8), (256, 16), (1024, 16), (1024, 32), (512, 4)]


def sizes(grid=GRID, rank=30.0):
    n, l = np.array(grid, dtype=float).T
    return Sizes(n, l, rank)


def test_covariances_are_those_of_smooth_functions_through_0():
    """exp(−(x−y)²/2) given the value 0 at 0: exp(−(x−y)²/2) − exp(−(x²+y²)/2)."""
    s, scales = sizes(), np.array([1.0, 5.0, 300.0])
    depth, width = s.covariances(scales)

    def smooth(x, y):
        return np.exp(-((x - y) ** 2) / 2) - np.exp(-(x**2) / 2) * np.exp(-(y**2) / 2)

    for r, a in enumerate(scales):
        for i, (n, l) in enumerate(GRID):
            for j, (m, k) in enumerate(GRID):
                in_depth, in_width = smooth(a / l, a / k), smooth(30 / n, 30 / m)
                expected = in_depth * (1 + in_width)
                assert depth[r, i, j] == pytest.approx(expected, rel=1e-9, abs=1e-15)
                assert width[r, i, j] == pytest.approx(in_width, rel=1e-9)
    assert depth[2, 0, 2] < 1e-6, "below a depths say nothing of each other"
    at_limit = s.and_one(np.inf, np.inf).covariances(scales)
    assert all((k[:, -1] == 0).all() for k in at_limit)


def test_variance_of_a_model_is_that_of_generalised_least_squares():
    s, noise = sizes(), np.array([1e-4, 2e-4, 3e-4, 4e-4, 5e-4, 6e-4])
    a, b = s.covariances(np.array([3.0]))
    k = 0.7**2 * a[0] + 0.2**2 * b[0] + np.diag(noise)
    one = np.ones(6)
    assert Model(3.0, 0.7, 0.2).variance(s, noise) == pytest.approx(
        1 / (one @ np.linalg.inv(k) @ one), rel=1e-9
    )


@given(st.sampled_from([(2048, 8), (256, 64), (64, 2), (1024, 16)]), st.floats(0.1, 64))
@settings(max_examples=30, deadline=None)
def test_a_size_more_never_makes_it_worse(size, scale):
    s, noise, model = sizes(), np.full(6, 1e-4), Model(scale, 1.0, 0.3)
    more = model.variance(s.and_one(*size), np.append(noise, 1e-4))
    assert more <= model.variance(s, noise) * (1 + 1e-9)


def planted(rng, s, scale, depth, width, noise, steps=5, outputs=4):
    """y (R, c, M) of the model itself, with limit 0."""
    a, b = s.covariances(np.full(steps, scale))
    k = depth**2 * a + width**2 * b + noise * np.eye(len(s.n))
    root = np.linalg.cholesky(k + 1e-12 * np.eye(len(s.n)))
    return np.einsum("rcd,rdm->rcm", root, rng.standard_normal((steps, len(s.n), outputs)))


def inferred(s, y, noise):
    r = len(y)
    return infer(s, y, np.full(y.shape[:2], noise), np.ones(r), np.arange(1.0, r + 1) / r)


def test_a_constant_is_its_own_limit():
    y = np.full((3, 6, 2), 0.7)
    found = inferred(sizes(), y, 1e-6)
    weights = found.mean_weights
    assert weights.sum(1) == pytest.approx(np.ones(3), abs=1e-9)
    assert np.einsum("rc,rcm->rm", weights, y) == pytest.approx(np.full((3, 2), 0.7), abs=1e-9)
    assert found.probability.sum(0) == pytest.approx(np.ones(3), abs=1e-12)


def test_a_law_of_first_order_is_extrapolated():
    """E + A/n + B/L without noise: what is left of both terms, at most some percent, is in the bar."""
    s = sizes()
    y = 0.3 + 7.0 / s.n - 1.6 / s.l
    found = inferred(s, np.tile(y[None, :, None], (4, 1, 1)), 1e-12)
    left = found.mean_weights @ y - 0.3
    bar = 2 * np.sqrt(
        found.depth
        + found.width
        + found.spread(np.tile(np.outer(y - y.mean(), y - y.mean()), (4, 1, 1)))
    )
    assert (np.abs(left) < 0.05 * 1.6 / 32).all()
    assert (np.abs(left) < bar).all()
    assert (bar < 1.6 / 32).all()


@pytest.mark.parametrize("scale", [2.0, 8.0])
def test_limits_of_planted_series_are_inside_the_bars(scale):
    """Over 60 draws of the model, 4 outputs each: two standard deviations hold 95 % (binomial error
    1.4 %; what is averaged over is not known exactly, which widens), and half of that at most 90 %."""
    rng, s, inside, half = np.random.default_rng(0), sizes(), [], []
    for _ in range(60):
        y = planted(rng, s, scale, 0.5, 0.1, 1e-5)
        found = inferred(s, y, 1e-5)
        weights = found.mean_weights
        spread = found.spread(np.einsum("rcm,rdm->rcd", y, y) / y.shape[2])
        variance = found.depth + found.width + spread + (weights**2 * 1e-5).sum(1)
        z = np.einsum("rc,rcm->rm", weights, y)[2] / np.sqrt(variance[2])
        inside.append(np.abs(z) < 2)
        half.append(np.abs(z) < 1)
    assert np.mean(inside) >= 0.91
    assert np.mean(half) <= 0.9


def test_the_scale_of_depth_is_learned():
    """Data that turn at L = 8 make models with a ≥ 8 likelier, and flat ones those with less."""
    s = sizes([(512, l) for l in (4, 8, 16, 32)] + [(1024, 8), (2048, 8)], rank=10.0)

    def below_8(y):
        found = inferred(s, np.tile(y[None, :, None], (6, 1, 1)), 1e-6)
        return found.probability[found.models[:, -1, 0] < 8, -1].sum()

    turning = np.cos(24 / s.l)
    assert below_8(turning) < 0.1 < 0.3 < below_8(1 - 1.0 / s.l)


def trajectory(rng, n, l, value, spread, seeds=4, **more):
    """A run whose outputs (S, R, P, C) are value (R, P, C) plus noise of standard deviation spread."""
    outputs = value + spread * rng.standard_normal((seeds, *value.shape))
    outputs[:, 0] = value[0]
    info = dict(width=n, depth=l, seeds=seeds, largest_rank=20, seconds=1.0)
    return Trajectory(
        steps=np.arange(len(value)),
        train_loss=0.5 * (outputs**2).sum(-1).mean(-1),
        train_outputs=outputs,
        info=info,
        **more,
    )


def runs(rng, move=0.0, at=4, noise=0.01):
    """Outputs 1 + A/n + B/L at three steps, noise ∝ 1/√n, one size moved by so many standard errors."""
    out = []
    for i, (n, l) in enumerate([*GRID, (2048, 8)]):
        spread = noise * np.sqrt(256 / n)
        value = np.zeros((4, 2, 1))
        value[1:] = 1 + 2.0 / n - 0.5 / l + (i == at) * move * spread / 2
        out.append(trajectory(rng, n, l, value, spread))
    return out


def test_p_values_are_no_smaller_than_chance_where_the_series_is_right():
    """40 draws: at most 3 below 2 %, 9 below 10 % (three binomial errors above); the three questions'
    p-values are joined by Bonferroni, so most are large."""
    rng = np.random.default_rng(1)
    p = [estimate(runs(rng), "train", "mse", np.zeros((2, 1))).p_value for _ in range(40)]
    assert np.sum(np.array(p) < 0.02) <= 3
    assert np.sum(np.array(p) < 0.1) <= 9
    assert np.median(p) > 0.3


@pytest.mark.parametrize(("at", "move"), [(4, 12.0), (6, 12.0)], ids=["deepest", "widest"])
def test_a_misfit_is_seen(at, move):
    """The largest size moved by 12 standard errors of its mean, beside what smaller ones made expect."""
    rng = np.random.default_rng(2)
    p = [
        estimate(runs(rng, move=move, at=at), "train", "mse", np.zeros((2, 1))).p_value
        for _ in range(10)
    ]
    assert np.sum(np.array(p) < 0.01) >= 9


def test_one_size_leaves_nothing_to_test():
    one = [trajectory(np.random.default_rng(0), 256, 8, np.ones((3, 2, 1)), 0.01)]
    found = estimate(one, "train", "mse", np.zeros((2, 1)))
    assert np.isnan(found.p_value)
    assert np.isfinite(found.bar).all()


def test_bars_of_losses_hold_the_truth():
    """Limits of planted runs, loss ½f² at f = 1 and at its minimum: 95 % inside (binomial error 4 %, and
    bars are a little wide), no loss below 0."""
    rng, inside, at_minimum = np.random.default_rng(3), [], []
    for _ in range(30):
        found = estimate(runs(rng), "train", "mse", np.zeros((2, 1)))
        inside.append(abs(found.loss[2] - 0.5) < found.bar[2])
        lowest = estimate(runs(rng), "train", "mse", np.ones((2, 1)))
        at_minimum.append(lowest.loss[2] < lowest.bar[2])
        assert (lowest.loss >= 0).all()
    assert np.mean(inside) >= 0.9
    assert np.mean(at_minimum) >= 0.9


def test_sources_add_up_and_scale():
    """In squares to the bar; a tenth of the noise is a tenth of the sampling where little else counts."""
    y = np.zeros((2, 1))
    found = estimate(runs(np.random.default_rng(4)), "train", "mse", y)
    total = np.sqrt(sum(v**2 for v in found.sources.values()))
    assert total == pytest.approx(found.bar, rel=1e-9)
    assert found.bar[0] == 0.0
    few = estimate(runs(np.random.default_rng(4), noise=1e-3), "train", "mse", y)
    assert (few.sources["sampling"][1:] < 0.6 * found.sources["sampling"][1:]).all()


def test_noise_joins_a_size_with_all_sizes():
    """Four seeds: three degrees of freedom of its own, three of the pool ∝ 1/n; of a mean over 4."""
    variance, n, seeds = np.array([[4.0, 1.0]]), np.array([100.0, 200.0]), np.array([4.0, 4.0])
    pool = (400 + 200) / 2
    expected = [(3 * 4.0 + 3 * pool / 100) / 6 / 4, (3 * 1.0 + 3 * pool / 200) / 6 / 4]
    found = estimates.noise_of_means(variance, Sizes(n, np.full(2, 8.0), 1.0), seeds)
    assert found[0] == pytest.approx(expected, rel=1e-12)


def test_noise_pools_along_depth():
    """Noise that falls as depth⁻² pools so where many depths show it, and less steeply where two do."""
    seeds, depths = 4.0, 2.0 ** np.arange(9)
    n = np.where(np.arange(9) % 2, 100.0, 300.0)
    variance = np.stack([depths**-2 / n, np.ones(9) / n])
    found = estimates.noise_of_means(variance, Sizes(n, depths, 1.0), np.full(9, seeds))
    assert found[0] == pytest.approx(variance[0] / seeds, rel=0.1)
    assert found[1] == pytest.approx(variance[1] / seeds, rel=1e-12)
    two = Sizes(np.full(2, 100.0), np.array([4.0, 16.0]), 1.0)
    # The exponent is shrunk by x·x over x·x plus the variance of log χ²₃, π²/2 − 4.
    x = math.log(2.0)
    exponent = -2 * 2 * x**2 / (2 * x**2 + math.pi**2 / 2 - 4)
    trend = np.array([2.0**-exponent, 2.0**exponent])
    pool = np.mean(two.l**-2.0 / trend) * trend
    found = estimates.noise_of_means(two.l[None] ** -2.0, two, np.full(2, seeds))
    assert found[0] == pytest.approx((two.l**-2.0 + pool) / 2 / seeds, rel=1e-12)


def test_no_noise_stays_none():
    found = estimates.noise_of_means(
        np.zeros((1, 2)), Sizes(np.full(2, 64.0), np.array([4.0, 8.0]), 1.0), np.full(2, 3.0)
    )
    assert (found == 0).all()


def test_few_seeds_widen_by_students_quantile():
    """One size: its own degrees of freedom and the pool's. Two alike: twice as many (Satterthwaite)."""
    one, both = np.array([[1.0, 0.0]]), np.array([[1.0, 1.0]])
    for shares, freedom in ((one, 6), (both, 12)):
        expected = stats.t.ppf(0.975, freedom) / stats.norm.ppf(0.975)
        assert estimates.widening(shares, np.array([4.0, 4.0])) == pytest.approx([expected])
    assert estimates.widening(np.zeros((1, 2)), np.array([4.0, 4.0])) == pytest.approx([1.0])


@pytest.mark.parametrize("kind", ["mse", "cross_entropy"])
def test_loss_slope_and_curvature_are_derivatives(kind):
    rng = np.random.default_rng(5)
    f, y = rng.standard_normal((2, 3, 2)), np.eye(2)[[0, 1, 1]]
    loss, slope, curvature = estimates._loss(kind, f, y)
    tf, ty = torch.tensor(f), torch.tensor(y)
    assert loss == pytest.approx(loss_value(kind, tf, ty).numpy(), rel=1e-12)
    assert slope == pytest.approx(chi(kind, tf, ty).numpy() / 3, rel=1e-12)
    for r in range(2):
        hessian = torch.autograd.functional.hessian(lambda x: loss_value(kind, x, ty), tf[r])
        trace = torch.einsum("pcpc->", hessian)
        assert curvature[r] == pytest.approx(float(trace), rel=1e-9)


def test_typical_is_the_farthest_movement_so_far():
    f = np.zeros((4, 2, 1))
    f[:, :, 0] = [[5, 5], [6, 6], [3, 3], [5, 4]]
    assert estimates._typical(f) == pytest.approx([0, 1, 2, 2])


def test_p_values_join_over_steps():
    """Copies of one p-value join to itself; one tiny among many joins to about their number times it."""

    def ratio(p):
        return stats.f.isf(p, 4, 12)

    assert estimates._p_value(np.full(7, ratio(0.03)), 4, 12) == pytest.approx(0.03, rel=1e-6)
    mixed = np.array([ratio(1e-6)] + [ratio(0.5)] * 9)
    assert estimates._p_value(mixed, 4, 12) == pytest.approx(1e-5, rel=0.01)


def test_many_steps_are_worked_on_in_parts():
    """The same numbers, whatever the length of a part."""
    rng, s = np.random.default_rng(6), sizes()
    y = planted(rng, s, 2.0, 0.5, 0.1, 1e-5, steps=series._CHUNK + 3)
    whole = inferred(s, y, 1e-5)
    part = dataclasses.asdict(whole)
    old, series._CHUNK = series._CHUNK, 7
    try:
        again = dataclasses.asdict(inferred(s, y, 1e-5))
    finally:
        series._CHUNK = old
    for name, value in part.items():
        np.testing.assert_allclose(again[name], value, rtol=1e-6, atol=1e-9)


def smooth(x, y):
    """Covariance of a smooth function that is 0 at 0, at two places."""
    return math.exp(-((x - y) ** 2) / 2) - math.exp(-(x**2 + y**2) / 2)


@pytest.mark.parametrize("at", [(np.inf, np.inf), (4096.0, 64.0)])
def test_a_posterior_in_plain_loops(at):
    """a in 1, 2, …, 64 at the last step, growing as step to the 0, ½ or 1; sizes of g 2, ½, ⅛ and of h 1,
    ¼, 1/16 of an output's movement: weights, variances, misfits and probabilities of each model."""
    rng = np.random.default_rng(11)
    s, progress, typical = (
        sizes(GRID[:4], 25.0),
        np.array([0.25, 0.5, 1.0]),
        np.array([0.3, 0.7, 0.9]),
    )
    y, noise = rng.standard_normal((3, 4, 5)), rng.uniform(0.01, 0.1, (3, 4))
    found = infer(s, y, noise, typical, progress, at)
    laws = [(2.0**i, growth) for i in range(7) for growth in (0.0, 0.5, 1.0)]
    amplitudes = [(2.0 / 4**i, 1.0 / 4**j) for i in range(3) for j in range(3)]
    places = [*zip(s.n, s.l, strict=True), at]
    likelihood = np.zeros((len(laws), len(amplitudes), 3))
    weights, misfit = np.zeros((len(laws), len(amplitudes), 3, 4)), np.zeros(likelihood.shape)
    left = np.zeros((len(laws), len(amplitudes), 3, 2))
    for (i, (a, growth)), (j, (depth, width)), k in itertools.product(
        enumerate(laws), enumerate(amplitudes), range(3)
    ):
        scale = a * progress[k] ** growth
        pairs = [[(p, q) for q in places] for p in places]
        h = np.array([[smooth(25 / p[0], 25 / q[0]) for p, q in row] for row in pairs])
        g = np.array([[smooth(scale / p[1], scale / q[1]) for p, q in row] for row in pairs])
        kd, kw = (depth * typical[k]) ** 2 * g * (1 + h), (width * typical[k]) ** 2 * h
        c = (kd + kw)[:4, :4] + np.diag(noise[k] + (1e-4 * typical[k]) ** 2)
        # Lagrange: weights of the smallest variance that sum to 1.
        system = np.block([[c, np.ones((4, 1))], [np.ones((1, 4)), np.zeros((1, 1))]])
        w = np.linalg.solve(system, np.append((kd + kw)[:4, 4], 1.0))[:4]
        mean = np.linalg.solve(c, np.ones(4)) / np.linalg.solve(c, np.ones(4)).sum()
        rest = y[k] - mean @ y[k]
        quadratic = np.einsum("cm,cm->", rest, np.linalg.solve(c, rest)) / 5
        weights[i, j, k], misfit[i, j, k] = w, quadratic
        logarithm = np.linalg.slogdet(c)[1] + math.log(np.linalg.solve(c, np.ones(4)).sum())
        likelihood[i, j, k] = -0.5 * (quadratic + logarithm)
        contrast = np.append(w, -1.0)
        left[i, j, k] = contrast @ kd @ contrast, contrast @ kw @ contrast
        assert found.models[i * 9 + j, k] == pytest.approx(
            [scale, depth * typical[k], width * typical[k]]
        )
    assert found.weights.reshape(weights.shape) == pytest.approx(weights, rel=1e-6, abs=1e-9)
    # A step's neighbours count half as much as it does, and the mean of all trained steps as one.
    every = likelihood[..., 1:].mean(-1)
    l0, l1, l2 = likelihood[..., 0], likelihood[..., 1], likelihood[..., 2]
    pooled = np.stack([l0 + l1 / 2 + every, l1 + (l0 + l2) / 2 + every, l2 + l1 / 2 + every], -1)
    law = np.log(np.exp(pooled).mean(1))[:, 1:].mean(1)
    law = np.exp(law) / np.exp(law).sum()
    probability = law[:, None, None] * np.exp(pooled) / np.exp(pooled).sum(1, keepdims=True)
    flat = probability.reshape(-1, 3)
    assert found.probability == pytest.approx(flat, rel=1e-6)
    assert found.probability.sum(0) == pytest.approx(np.ones(3))
    assert found.depth == pytest.approx((probability * left[..., 0]).sum((0, 1)), rel=1e-6)
    assert found.width == pytest.approx((probability * left[..., 1]).sum((0, 1)), rel=1e-6)
    assert found.misfit == pytest.approx(misfit.reshape(-1, 3)[flat.argmax(0), range(3)], rel=1e-6)
    assert found.mean_weights == pytest.approx(
        (probability[..., None] * weights).sum((0, 1)), rel=1e-6
    )
    best = np.argsort(-flat[:, 2], kind="stable")[:6]
    likely = found.likely(2)
    assert [p for p, _ in likely] == pytest.approx(flat[best, 2], rel=1e-6)
    assert [m.scale for _, m in likely] == pytest.approx(found.models[best, 2, 0])
    k = s.covariances(progress)
    model = likely[0][1]
    noise = np.full(4, 0.02)
    g, h = s.covariances(np.array([model.scale]))
    c = model.depth**2 * g[0] + model.width**2 * h[0] + np.diag(noise)
    assert model.variance(s, noise) == pytest.approx(1 / np.linalg.solve(c, np.ones(4)).sum())
    assert k[0].shape == (3, 4, 4)


def test_spread_is_the_variance_over_models():
    rng = np.random.default_rng(12)
    y = rng.standard_normal((2, 4, 3))
    found = infer(sizes(GRID[:4]), y, np.full((2, 4), 0.05), np.ones(2), np.array([0.5, 1.0]))
    gram = np.einsum("rcm,rdm->rcd", y, y) / 3
    for k in range(2):
        each, p = found.weights[:, k] @ y[k], found.probability[:, k]
        expected = (p @ (each - p @ each) ** 2).mean()
        assert found.spread(gram)[k] == pytest.approx(expected, rel=1e-8)


def test_one_step_has_its_own_evidence():
    found = infer(
        sizes(GRID[:4]), np.ones((1, 4, 2)), np.full((1, 4), 0.05), np.ones(1), np.ones(1)
    )
    assert found.probability.sum() == pytest.approx(1.0)
    assert np.isfinite(found.probability).all()
