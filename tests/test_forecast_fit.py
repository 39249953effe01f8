"""The forecast's regression against closed forms and independent solvers: minimum, starts, estimate."""

import itertools

import numpy as np
import pytest
from scipy.optimize import lsq_linear

from leadline.forecasting import fit, noise
from leadline.forecasting.estimate import Data, Fitted, estimate, prepare, residuals, with_scale
from leadline.forecasting.law import Law, Term
from leadline.forecasting.reading import read_runs as read
from planted_laws import CONSTANT, FREE, ONE, TWO, problem, rows, sizes, theta_of


def soft(law, theta, logs, target, weight, scale):
    """Σ 2c²(√(1 + (wr/c)²) − 1) = Σ 2c² · 2 sinh²(asinh(wr/c)/2), which cancels nothing."""
    r = (target - np.log(law.value(theta, logs)[0])) * weight
    return float((2 * scale**2 * 2 * np.sinh(np.arcsinh(r / scale) / 2) ** 2).sum())


def slope(function, theta, step=1e-5):
    out = []
    for k in range(len(theta)):
        up, down = theta.copy(), theta.copy()
        up[k], down[k] = up[k] + step, down[k] - step
        out.append((function(up) - function(down)) / (2 * step))
    return np.array(out)


# --- the minimum ---


def test_every_start_ends_where_nothing_falls_any_more():
    """The cost is the formula's, a target of its own for each start, and its slope is 0 there, or
    pushes against a bound."""
    data, logs = problem(TWO, theta_of(0.2, 0.5, 0.7, 0.4), noise_=0.05)
    starts = fit.starts(TWO, logs, data.runs.loss)
    r = np.random.default_rng(1)
    target = data.target + 0.1 * r.standard_normal((len(starts), len(logs)))
    low, high = bounds = TWO.bounds(data.runs.loss)
    theta, cost = fit.minimise(TWO, logs, target, data.weight, 0.05, starts, bounds)
    assert theta.shape == (4, 4)
    for t, c, y in zip(theta, cost, target, strict=True):

        def formula(x, y=y):
            return soft(TWO, x, logs, y, data.weight, 0.05)

        assert c == pytest.approx(formula(t), rel=1e-9)
        g = slope(formula, t)
        held = ((t <= low) & (g > 0)) | ((t >= high) & (g < 0))
        assert (np.abs(g[~held]) < 1e-5).all()


@pytest.mark.parametrize("end", [0, 1])
def test_a_minimum_beyond_a_bound_is_on_it(end):
    """Losses of an exponent outside the bounds: it stays on its bound, out of the Newton system, so that
    the others converge as soon as they would alone, to the best there."""
    data, logs = problem(FREE, theta_of(0.2, 0.5, 0.7))
    bounds = FREE.bounds(data.runs.loss)
    at = bounds[end][2] = np.log([0.9, 0.5][end])
    start = np.array([[0.37, -0.5, np.log(0.7)]])
    start[0, 2] += [0.5, -0.5][end]
    how = (FREE, logs, data.target, data.weight, 1.0, start, bounds)
    theta, cost = fit.minimise(*how)
    assert theta[0, 2] == at
    assert fit.minimise(*how, 8)[0] == pytest.approx(theta, abs=1e-7)

    def formula(x):
        return soft(FREE, np.array([*x, at]), logs, data.target, data.weight, 1.0)

    assert cost[0] == pytest.approx(formula(theta[0, :2]), rel=1e-9)
    assert slope(formula, theta[0, :2]) == pytest.approx(np.zeros(2), abs=1e-7)


def test_a_start_on_a_bound_leaves_it():
    """Where the cost falls inwards, however little: bounds a twentieth from the truth, from all corners."""
    truth = theta_of(0.2, 0.5, 0.7)
    data, logs = problem(FREE, truth)
    corners = np.array(list(itertools.product(*zip(truth - 0.05, truth + 0.05, strict=True))))
    bounds = (truth - 0.05, truth + 0.05)
    how = (FREE, logs, data.target, data.weight, 1.0, corners, bounds)
    assert fit.minimise(*how, 30)[0] == pytest.approx(np.tile(truth, (8, 1)), abs=1e-8)


def test_starts_outside_the_bounds_are_brought_inside():
    data, logs = problem(FREE, theta_of(0.2, 0.5, 0.7))
    low, high = bounds = FREE.bounds(data.runs.loss)
    start = np.array([low - 5, high + 5])
    for iterations in (0, 1, 30):
        theta, _ = fit.minimise(FREE, logs, data.target, data.weight, 1, start, bounds, iterations)
        assert (theta >= low).all()
        assert (theta <= high).all()
        if not iterations:
            assert np.array_equal(theta, [low, high])


def test_more_iterations_never_cost_more_and_few_are_enough():
    """Without noise the minimum is 0 and Newton steps converge: 30 reach it, and the cost only falls."""
    truth = theta_of(0.2, 0.5, 0.7)
    data, logs = problem(FREE, truth)
    bounds = FREE.bounds(data.runs.loss)
    starts = truth + np.array([[0.3, -0.4, 0.2], [-1.0, 0.5, 0.5], [0.0, 0.0, -1.0]])
    given = starts.copy()
    costs = []
    for iterations in (0, 1, 2, 3, 5, 8, 30):
        theta, cost = fit.minimise(
            FREE, logs, data.target, data.weight, 1.0, starts, bounds, iterations
        )
        costs.append(cost)
    assert np.array_equal(starts, given)
    assert (np.diff(costs, axis=0) <= 0).all()
    assert (costs[1] < costs[0]).all()
    assert (costs[-1] < 1e-20).all()
    assert theta == pytest.approx(np.tile(truth, (3, 1)), abs=1e-8)


def flat(distance, iterations, count=10):
    """What is left of a distance to the mean, of one constant under squares, after some steps."""
    logs, target = np.zeros((count, 1)), np.full(count, -distance)
    bounds = np.array([-90.0]), np.array([90.0])
    how = (CONSTANT, logs, target, np.ones(count), 1e9, np.zeros((1, 1)), bounds)
    return fit.minimise(*how, iterations)[0][0, 0] + distance


def test_damping_falls_to_a_fifth():
    """A damped step on a parabola leaves d/(1 + d) of the distance, d = 0.01, 0.002, 0.0004."""
    left = 1.0
    for k in range(4):
        assert flat(1.0, k) == pytest.approx(left, rel=1e-6)
        assert flat(-1.0, k) == pytest.approx(-left, rel=1e-6)
        d = 0.01 * 0.2**k
        left *= d / (1 + d)


def test_no_step_is_longer_than_two():
    for k in range(4):
        assert flat(20.0, k) == pytest.approx(20 - 2 * k, abs=1e-9)
        assert flat(-20.0, k) == pytest.approx(-20 + 2 * k, abs=1e-9)


def test_damping_rises_sixfold():
    """Of a law whose bounds hold all but the exponent: steps that cost more are not taken, and the
    first that is taken is the Newton step over 1 + d at d = 0.01 · 6^k."""
    x = np.log(np.array([1.0, 2.0, 4.0, 8.0, 64.0]))[:, None]
    truth = theta_of(1e-3, 1.0, 1.0)
    target, weight = np.log(FREE.value(truth, x)[0]), np.ones(5)
    start = np.array([*truth[:2], np.log(0.3)])
    low, high = start.copy(), start.copy()
    low[2], high[2] = -5.0, 5.0

    def cost(p):
        return float(((target - np.log(FREE.value(np.array([*truth[:2], p]), x)[0])) ** 2).sum())

    value, j = FREE.log_value(start, x)
    j, r = j[0][2], target - value[0]
    newton, p = (j @ r) / (j @ j), start[2]
    tried = [p + np.clip(newton / (1 + 0.01 * 6.0**k), -2, 2) for k in range(12)]
    first = next(k for k, t in enumerate(tried) if cost(t) <= cost(p))
    assert first >= 2
    how = (FREE, x, target, weight, 1e9, start[None], (low, high))
    for k in range(first + 1):
        assert fit.minimise(*how, k)[0][0, 2] == p
    theta, reached = fit.minimise(*how, first + 1)
    assert theta[0, 2] == pytest.approx(tried[first], abs=1e-9)
    assert reached[0] == pytest.approx(cost(tried[first]), rel=1e-6)
    assert fit.minimise(*how)[0][0] == pytest.approx(truth, abs=1e-6)


class Counted(Law):
    """A law that counts how often it is evaluated."""

    calls = 0

    def log_value(self, theta, logs):
        Counted.calls += 1
        return super().log_value(theta, logs)


@pytest.mark.parametrize(("widths", "most"), [((32, 64), 18), ((32, 64, 128, 256), 36)])
def test_the_end_is_where_nothing_is_gained(widths, most):
    """Two widths do not determine three parameters: however far steps go along the flat valley, they gain
    nothing, and that is the end; as it is where all are determined. Until steps are nothing too it takes
    half as long again and more (29, 45)."""
    data, logs = problem(FREE, theta_of(0.2, 0.5, 0.7), noise_=1.0, widths=widths)
    starts, bounds = fit.starts(FREE, logs, data.runs.loss), FREE.bounds(data.runs.loss)
    Counted.calls = 0
    how = (Counted(FREE.terms), logs, data.target, data.weight, 1.0, starts, bounds)
    _, cost = fit.minimise(*how)
    assert Counted.calls <= most
    assert np.ptp(cost) < 1e-9 * cost.min()


def test_an_outlier_counts_by_its_absolute_value():
    """One constant, targets 0 but for one of size d ≫ c: the minimum θ solves the weighted balance
    (N−1)·θ = (d−θ)/√(1 + ((d−θ)/c)²) → about c."""
    n, c, d = 40, 0.01, 5.0
    logs, weight = np.zeros((n, 1)), np.ones(n)
    target = np.zeros(n)
    target[3] = d
    bounds = np.array([-9.0]), np.array([9.0])
    theta, _ = fit.minimise(CONSTANT, logs, target, weight, c, np.array([[1.0]]), bounds)
    r = d - theta[0, 0]
    lean = theta[0, 0] / np.sqrt(1 + (theta[0, 0] / c) ** 2)
    assert (n - 1) * lean == pytest.approx(r / np.sqrt(1 + (r / c) ** 2), rel=1e-6)
    assert theta[0, 0] == pytest.approx(c / (n - 1), rel=0.02)


def test_newton_steps():
    """The damped system over what is free, zero where held, for each problem of the batch."""
    r = np.random.default_rng(0)
    a = r.standard_normal((3, 5, 4))
    h, g = np.matmul(a.swapaxes(1, 2), a), r.standard_normal((3, 4))
    held = np.array([[0, 0, 0, 0], [1, 0, 0, 1], [1, 1, 1, 1]], bool)
    damping = np.array([0.0, 0.3, 2.0])
    step = fit._solve(h, g, damping, held)
    assert (step[held] == 0).all()
    assert step[0] == pytest.approx(np.linalg.solve(h[0], g[0]), rel=1e-9)
    free = h[1][1:3, 1:3]
    damped = free + 0.3 * np.diag(np.diag(free))
    assert step[1, 1:3] == pytest.approx(np.linalg.solve(damped, g[1, 1:3]), rel=1e-9)
    # A direction that the data do not see is damped by a millionth of the largest.
    flat = np.diag([2.0, 0.0])[None]
    step = fit._solve(flat, np.array([[1.0, 1e-3]]), np.array([0.5]), np.zeros((1, 2), bool))
    assert step[0] == pytest.approx([1 / 3.0, 1e-3 / (0.5 * 2e-6 + 2e-12)], rel=1e-9)


def test_the_best_is_the_lowest():
    theta, cost = fit.best(np.array([[1.0], [2.0], [3.0]]), np.array([2.0, 0.5, 1.0]))
    assert (theta[0], cost) == (2.0, 0.5)
    assert type(cost) is float


# --- starts ---


def test_starts_are_linear_least_squares_at_a_grid_of_exponents():
    """At each exponent: E and coefficients ≥ 0 with the least relative residuals, as lsq_linear has
    them, and at least a hundredth of the lowest loss."""
    data, logs = problem(TWO, theta_of(0.2, 0.5, 0.5, 0.4), noise_=0.2)
    losses = data.runs.loss
    starts = fit.starts(TWO, logs, losses)
    assert np.exp(starts[:, 2]) == pytest.approx([0.25, 0.5, 1.0, 2.0])
    for row in starts:
        e, terms, powers = TWO.split(row)
        assert powers[0, 1] == 1.0
        columns = np.exp(-powers[0] * logs)
        design = np.column_stack([np.ones(len(losses)), columns]) / losses[:, None]
        best = lsq_linear(design, np.ones(len(losses)), (0, np.inf), tol=1e-14).x
        least = 0.01 * losses.min()
        assert [e[0], *terms[0]] == pytest.approx(np.maximum(best, least), rel=1e-4)


def test_a_law_of_the_grid_is_a_start():
    truth = theta_of(0.2, 0.5, 0.5, 0.4)
    data, logs = problem(TWO, truth)
    starts = fit.starts(TWO, logs, data.runs.loss)
    assert starts[1] == pytest.approx(truth, abs=1e-9)


def test_the_number_of_starts():
    law = Law((Term("width"), Term("depth"), Term("samples")))
    logs = np.random.default_rng(0).random((20, 3))
    losses = np.exp(-logs.sum(1)) + 0.1
    full = fit.starts(law, logs, losses, most=64)
    assert len(full) == 64
    assert len(np.unique(np.round(full[:, 2::2], 9), axis=0)) == 64
    some = fit.starts(law, logs, losses)
    assert len(np.unique(np.round(some[:, 2::2], 9), axis=0)) == len(some) == 48
    few = fit.starts(law, logs, losses, most=9)
    assert len(np.unique(np.round(few[:, 2::2], 9), axis=0)) == 9
    assert np.array_equal(few, fit.starts(law, logs, losses, most=9))
    # A part of the grid, spread over it: not its first nine.
    assert len(np.unique(np.round(few[:, 2], 9))) > 1
    assert len(fit.starts(CONSTANT, np.zeros((20, 1)), losses)) == 1


# --- one law's fit ---


def test_runs_as_the_fit_sees_them():
    data = prepare(rows(TWO, theta_of(0.2, 0.5, 0.7, 0.4)), np.arange(12.0))
    assert data.origin == {"width": 32.0, "depth": 2.0}
    assert data.target == pytest.approx(np.log(data.runs.loss / data.unit))
    assert data.target.mean() == pytest.approx(0.0, abs=1e-12)
    logs = data.logs(Law((Term("depth"), Term("width"))))
    assert logs[:, 0] == pytest.approx(np.log(sizes()["depth"] / 2))
    assert logs[:, 1] == pytest.approx(np.log(sizes()["width"] / 32))
    some = data.take(sizes()["width"] > 32)
    assert np.array_equal(some.weight, np.arange(3.0, 12.0))
    assert len(some.runs) == 9
    # Sizes are over the same origin, whatever was taken.
    assert some.logs(ONE).min() == pytest.approx(np.log(2))


def test_values_of_a_fit_and_its_draws():
    draws = np.array([theta_of(0.1, 0.5, 1.0), theta_of(0.3, 0.25, 2.0)])
    f = Fitted(FREE, {"width": 32.0}, 1.0, theta_of(0.2, 0.5, 0.7), 0.0, draws)
    at = {"width": [32, 128], "depth": [2, 2]}
    e, a, p = np.array([[0.2, 0.5, 0.7], [0.1, 0.5, 1.0], [0.3, 0.25, 2.0]]).T
    assert f.all.shape == (3, 3)
    assert f.values(at) == pytest.approx(np.stack([e + a, e + a * 4.0**-p], axis=1))
    flat = Fitted(Law(()), {}, 2.0, np.array([0.1]), 0.0, np.array([[0.15]]))
    assert flat.values(at) == pytest.approx(np.array([[0.2, 0.2], [0.3, 0.3]]))


def test_an_estimate_takes_the_starts_it_is_given():
    """From a grid of one start far off and the truth as a start; the lowest cost wins, none is drawn."""
    truth = theta_of(0.2, 0.5, 0.7)
    data, _ = problem(FREE, truth)
    for starts in (truth, truth[None], np.stack([truth, truth + 1])):
        found = estimate(FREE, data, starts, most=1)
        assert found.theta == pytest.approx(truth, abs=1e-9)
    assert found.draws.shape == (0, 3)
    assert found.origin == data.origin
    assert found.cost < 1e-20
    assert np.array_equal(found.all, found.theta[None])


def test_a_given_start_may_be_the_best():
    """Losses with outliers, whose cost has two minima: the grid's one start ends in the higher one."""
    r = np.random.default_rng(129)
    e, a, p = np.exp(r.normal(-1, 1)), np.exp(r.normal(0, 1)), np.exp(r.uniform(-2.8, 1.36))
    n = 2.0 ** np.arange(6)
    losses = (e + a * n**-p) * np.exp(r.choice([0, 0.1, 1.0]) * r.standard_t(1.5, 6))
    runs = read([dict(width=w, depth=2, loss=x) for w, x in zip(n, losses, strict=True)])
    data = Data(runs, np.ones(6), 0.025, {"width": 1.0})
    best, one = estimate(FREE, data), estimate(FREE, data, most=1)
    assert one.cost > 1.02 * best.cost
    again = estimate(FREE, data, best.theta, most=1)
    assert again.cost == pytest.approx(best.cost, rel=1e-9)


def test_the_robust_bound_is_two_standard_deviations():
    """Data's scale is σ: the minimum is that of the soft cost at 2σ."""
    data, logs = problem(FREE, theta_of(0.2, 0.5, 0.7), noise_=0.3)
    data = Data(data.runs, data.weight, 0.05, data.origin)
    found = estimate(FREE, data)

    def formula(x):
        return soft(FREE, x, logs, data.target, data.weight, 0.1)

    assert found.cost == pytest.approx(formula(found.theta), rel=1e-9)
    low, high = FREE.bounds(data.runs.loss)
    free = (found.theta > low + 1e-6) & (found.theta < high - 1e-6)
    assert (np.abs(slope(formula, found.theta))[free] < 1e-5).all()


def test_residuals_are_weighted_logarithms():
    data, _ = problem(FREE, theta_of(0.2, 0.5, 0.7))
    off = theta_of(0.4, 1.0, 0.7)  # twice the loss
    assert residuals(FREE, off, data) == pytest.approx(-np.log(2) * data.weight)


def test_the_scale_is_that_of_its_own_residuals():
    """Least squares first, then robustly: the scale's last fit is at the scale before it, which
    differs little; and it is the standard deviation that was planted, to 1/√(2·92) four times."""
    data = prepare(rows(FREE, theta_of(0.2, 0.5, 0.7), noise_=0.05, seeds=8), np.ones(96))
    found = with_scale(FREE, data)
    assert found.scale == pytest.approx(0.05, rel=0.3)
    again = estimate(FREE, found)
    own = noise.scale(residuals(FREE, again.theta, found), FREE.parameters)
    assert own == pytest.approx(found.scale, rel=1e-3)
    assert found.runs is data.runs
    # Twice the weight is twice the scale: the same fit.
    twice = with_scale(FREE, prepare(data.runs, 2 * np.ones(96)))
    assert twice.scale == pytest.approx(2 * found.scale, rel=1e-6)
