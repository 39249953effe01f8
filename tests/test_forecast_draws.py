"""Bootstrap draws against closed forms and their definition."""

import numpy as np
import pytest

from leadline.forecasting.estimate import Data, estimate, leverages, prepare, residuals
from leadline.forecasting.reading import read_runs as read
from leadline.forecasting.resampling import bootstrap
from planted_laws import CONSTANT, FREE, ONE, problem, rows, theta_of


def test_leverages():
    """The diagonal of J(JᵀJ)⁻¹Jᵀ; of columns that are the same but for 1e-10, those of one of them."""
    j = np.random.default_rng(0).standard_normal((9, 3))
    hat = j @ np.linalg.solve(j.T @ j, j.T)
    assert leverages(j) == pytest.approx(hat.diagonal(), abs=1e-12)
    for much, rank in ((1e-10, 2), (1e-8, 3)):
        j[:, 2] = j[:, 1] + much * np.random.default_rng(1).standard_normal(9)
        assert leverages(j).sum() == pytest.approx(rank, abs=1e-5)


def constant(count=30, weight=None, seed=0):
    r = np.random.default_rng(seed)
    weight = np.ones(count) if weight is None else weight
    data = read(
        [
            dict(width=32, depth=2 * (1 + i % 3), loss=float(np.exp(x)))
            for i, x in enumerate(0.1 * r.standard_normal(count) / weight)
        ]
    )
    return Data(data, weight, 1e3, {"width": 32.0, "depth": 2.0})


def test_draws_of_a_mean():
    """log E is a mean of N logs: its draws have mean θ and variance s²/N · ν/(ν−2), s² = Σr²/ν.

    20000 draws: the relative standard error of the standard deviation is 0.006, of the mean 0.007
    standard deviations; tolerances are four of them.
    """
    data = constant(30)
    found = estimate(CONSTANT, data)
    assert found.theta[0] == pytest.approx(data.target.mean(), abs=1e-9)
    drawn = bootstrap(found, data, 20000, np.random.default_rng(0)).draws[:, 0]
    error = np.sqrt(data.target.var(ddof=1) / 30 * 29 / 27)
    assert drawn.std() == pytest.approx(error, rel=0.025)
    assert drawn.mean() == pytest.approx(found.theta[0], abs=0.03 * error)


def test_draws_with_weights():
    """A weight is an inverse standard deviation: the weighted mean's variance is s²/Σw² · ν/(ν−2)."""
    w = np.linspace(0.3, 2.0, 30)
    data = constant(30, w)
    found = estimate(CONSTANT, data)
    mean = (w**2 * data.target).sum() / (w**2).sum()
    assert found.theta[0] == pytest.approx(mean, abs=1e-9)
    drawn = bootstrap(found, data, 20000, np.random.default_rng(0)).draws[:, 0]
    s = np.sqrt(((data.target - mean) ** 2 * w**2).sum() / 29)
    assert drawn.std() == pytest.approx(s / np.sqrt((w**2).sum()) * np.sqrt(29 / 27), rel=0.025)


def mean_draws(data, theta, draws, seed):
    """The definition for one constant, whose leverages are w²/Σw² and whose fit is the weighted mean."""
    w, n, rng = data.weight, len(data.runs), np.random.default_rng(seed)
    r, leverage = (data.target - theta) * w, w**2 / (w**2).sum()
    fair = leverage < 0.95 if (leverage < 0.95).sum() >= 3 else np.ones(n, bool)
    pool = r[fair] / np.sqrt(np.maximum(1 - leverage[fair], 0.05))
    pool = pool - pool.mean()
    pool = pool * np.sqrt((r**2).sum() / (n - 1) / (pool**2).mean())
    noisy = rng.choice(pool, (draws, n)) * np.sqrt((n - 1) / rng.chisquare(n - 1, (draws, 1)))
    return theta + (noisy * w).sum(1) / (w**2).sum()


@pytest.mark.parametrize(
    "weight",
    [
        [1.0, 1.0, 1.0, 1.0, 1.0],
        [0.5, 1.0, 1.5, 2.0, 2.5],
        [1.0, 1.0, 1.0, 1.0, 9.0],  # a leverage of 0.953: its residual says nothing
        [1.0, 1.0, 1.0, 1.0, 8.5],  # of 0.948
        [1.0, 1.0, 7.0],  # two fair runs are too few: all three
        [1.0, 1.0, 1.0, 9.0],  # three are not
    ],
)
def test_draws_by_their_definition(weight):
    """Residuals over √(1 − leverage), centred, with the variance of the fit, times √(ν/χ²_ν)."""
    weight = np.array(weight)
    data = constant(len(weight), weight)
    found = estimate(CONSTANT, data)
    drawn = bootstrap(found, data, 40, np.random.default_rng(3)).draws[:, 0]
    assert drawn == pytest.approx(mean_draws(data, found.theta[0], 40, 3), abs=1e-6)


def test_few_runs_draw_wider():
    """ν = 3: the standard deviation is uncertain, and beyond 3.182 of them lie 5 % of Student's draws;
    of resampled residuals alone all four would have to be one of the two largest: under 1 %."""
    data = constant(4, seed=2)
    found = estimate(CONSTANT, data)
    drawn = bootstrap(found, data, 4000, np.random.default_rng(0)).draws[:, 0]
    s = data.target.std(ddof=1) / 2
    share = float((np.abs(drawn - found.theta[0]) > 3.182 * s).mean())
    assert 0.02 < share < 0.08


def test_draws_of_a_law():
    """Two linear parameters: the draws' covariance is that of least squares, through the leverages.

    log loss = log(E + A x) linearised: cov θ = s² (JᵀJ)⁻¹ ν/(ν−2), J the derivatives at the estimate.
    Noise is small (1 %), so that curvature does not matter; 8000 draws, tolerances four errors.
    """
    runs = rows(ONE, theta_of(0.2, 0.5), noise_=0.01, seeds=3)
    data = prepare(runs, np.ones(len(runs)))
    found = estimate(ONE, data)
    drawn = bootstrap(found, data, 8000, np.random.default_rng(0)).draws
    j = ONE.log_value(found.theta, data.logs(ONE))[1][0].T
    dof = len(runs) - 2
    s2 = (residuals(ONE, found.theta, data) ** 2).sum() / dof
    expected = s2 * np.linalg.inv(j.T @ j) * dof / (dof - 2)
    assert np.cov(drawn.T) == pytest.approx(expected, rel=0.08)
    assert drawn.mean(0) == pytest.approx(found.theta, abs=0.1 * np.sqrt(expected.diagonal()).max())


def test_draws_without_noise_are_the_estimate():
    truth = theta_of(0.2, 0.5, 0.7)
    data, _ = problem(FREE, truth)
    found = estimate(FREE, data)
    drawn = bootstrap(found, data, 5, np.random.default_rng(0))
    assert drawn.draws == pytest.approx(np.tile(truth, (5, 1)), abs=1e-6)
    assert drawn.theta is found.theta
