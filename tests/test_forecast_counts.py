"""How often the forecast steps, starts and repeats: what a fit's budget is, and what it is judged by."""

from dataclasses import replace

import numpy as np
import pytest

from leadline.forecasting import choice, fit, noise
from leadline.forecasting.estimate import Fitted, estimate, prepare, residuals, with_scale
from leadline.forecasting.law import Law, Term
from leadline.forecasting.reading import read_runs as read

WIDTH, DEPTH = Term("width"), Term("depth")
# Of sizes that do not vary the first is the mean of log losses.
CONSTANT, FREE = Law((Term("width", 1.0),), floor=False), Law((WIDTH,))


class Counted(Law):
    """A law that counts how often it is evaluated."""

    calls = 0

    def log_value(self, theta, logs):
        Counted.calls += 1
        return super().log_value(theta, logs)


def grid(widths, depths, scatter, power=1.3):
    r = np.random.default_rng(0)
    return read(
        [
            dict(
                width=n,
                depth=l,
                loss=(0.2 + 5 * n**-0.7 + 0.6 * l**-power) * np.exp(scatter * r.standard_normal()),
            )
            for n in widths
            for l in depths
        ]
    )


# Steps.


@pytest.mark.parametrize(
    ("share", "steps"), [(0.0, 1), (0.9975, 1), (0.9985, 2), (1.01, 2), (1.9, 2)]
)
def test_a_gain_of_1e_10_of_the_cost_is_nothing(share, steps):
    """Residuals ±1, a constant away from their mean: the first step gains ``share``·1e-10 of the cost but
    for 1e-4 of it, and is the last if 1 + d = 1.002 times that is at most 1e-10."""
    target = np.where(np.arange(10) % 2, -1.0, 1.0)
    bounds, start = (np.array([-9.0]), np.array([9.0])), np.array([[np.sqrt(share * 1e-10)]])
    Counted.calls = 0
    law = Counted(CONSTANT.terms, floor=False)
    fit.minimise(law, np.zeros((10, 1)), target, np.ones(10), 1e9, start, bounds)
    assert Counted.calls == 1 + steps


def test_two_hundred_steps_are_the_most():
    """Each of two towards a mean that is 600 away."""
    bounds = np.array([-900.0]), np.array([900.0])
    how = (np.zeros((5, 1)), np.full(5, -600.0), np.ones(5), 1e9, np.zeros((1, 1)), bounds)
    assert fit.minimise(CONSTANT, *how)[0][0, 0] == pytest.approx(-400, abs=1e-9)


# Starts and rounds.


def test_a_part_of_the_grid_is_the_same_in_every_release():
    law = Law((WIDTH, DEPTH, Term("samples")))
    logs = np.random.default_rng(0).random((20, 3))
    losses = np.exp(-logs.sum(1)) + 0.1
    full, few = (fit.starts(law, logs, losses, most=k) for k in (64, 9))
    assert np.array_equal(few, full[np.random.default_rng(0).choice(64, 9, replace=False)])


def test_the_scale_is_found_in_three_fits(monkeypatch):
    """With outliers each round changes it. The first fit starts from the grid, the others from the one
    before and from one more."""
    runs = grid((32, 64, 128, 256), (2, 4, 8), 0.05, power=0.0)
    data = prepare(
        replace(runs, loss=runs.loss * np.where(np.arange(12) % 4, 1.0, 1.7)), np.ones(12)
    )
    scale, scales, theta = np.inf, [], None
    for _ in range(6):
        found = estimate(FREE, replace(data, scale=scale), theta, 1 if scales else fit.MOST)
        theta = found.theta
        scale = noise.scale(residuals(FREE, theta, data), FREE.parameters)
        scales.append(scale)
    assert min(abs(scales[i] - scales[2]) for i in (1, 3, 5)) > 1e-5 * scales[2]
    starts, real = [], fit.minimise

    def watched(*arguments, **how):
        starts.append(len(arguments[5]))
        return real(*arguments, **how)

    monkeypatch.setattr(fit, "minimise", watched)
    assert with_scale(FREE, data).scale == pytest.approx(scales[2], rel=1e-9)
    assert starts == [4, 1, 2, 1, 2, 1]  # the best of them goes to the end


def test_how_many_starts_a_fit_has(monkeypatch):
    """The grid's 48 at most, 16 for laws of more than five parameters; without what is held out three and
    the fit with it."""
    third = Term("steps", 1.0)
    assert choice._most(Law((WIDTH, DEPTH))) == 48
    assert choice._most(Law((WIDTH, DEPTH, third))) == 16
    assert choice._most(Law((WIDTH, DEPTH, Term("steps")))) == 16
    starts, real = [], fit.minimise

    def watched(law, *arguments, **how):
        starts.append((law.parameters, len(arguments[4])))
        return real(law, *arguments, **how)

    monkeypatch.setattr(fit, "minimise", watched)
    monkeypatch.setattr(fit, "MOST", 6)
    runs = grid((32, 64, 128, 256), (2, 4, 8, 16), 0.01)
    made = choice.choose(prepare(runs, np.ones(16)), "free", lambda i, k: None)
    assert {k for p, k in starts if p == 5} == {6, 1 + 1, 1 + 3, 1}
    kinds = {type(v) for row in made.table for v in (row.error, row.rejected, row.floor)}
    assert kinds == {float, type(None)}  # what is hopeless is not held out


# What laws are judged by.


def test_the_scale_is_the_fullest_law_s_where_a_simpler_one_has_less():
    """Nothing changes with size: the constant has more degrees of freedom, and less scale."""
    scatter = {32: (0.01, -0.01), 64: (0.0,), 128: (-0.01, 0.01)}
    runs = read([dict(width=n, depth=2, loss=np.exp(x)) for n, v in scatter.items() for x in v])
    data = prepare(runs, np.ones(5))
    scale = {law: with_scale(law, data).scale for law in choice.candidates(runs)}
    assert scale[Law(())] == pytest.approx(0.01, rel=1e-3)
    assert scale[FREE] == pytest.approx(0.01 * 2**0.5, rel=1e-3)
    made = choice.choose(data, "auto", lambda i, k: None)
    assert made.data.scale == scale[FREE]


def test_the_f_test_at_the_ends_of_rounding():
    """25 runs: perfect is below 25e-18, as good is below 25e-16, both ends left out."""

    def p(cost, full):
        small, large = Law((Term("width", 1.0),)), Law((WIDTH, DEPTH))
        found = [
            Fitted(law, {}, 1.0, np.zeros(law.parameters), c, np.zeros((0, law.parameters)))
            for law, c in ((small, cost), (large, full))
        ]
        return choice._against(*found, 25)

    assert 0 < p(30e-18, 1e-18 * 25) < 1
    assert p(30e-18, 24e-18) == 1.0
    assert p(1e-16 * 25, 24e-18) == 0.0
