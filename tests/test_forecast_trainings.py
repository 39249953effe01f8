"""Rows of one training: how they are told, and their draws; laws without a floor that fit as well."""

from dataclasses import replace

import numpy as np
import pytest

import leadline as ll
from leadline.forecasting.analysis import analyse
from leadline.forecasting.choice import candidates, fullest_of
from leadline.forecasting.estimate import Data, estimate, prepare
from leadline.forecasting.misfit import _apart, dependent
from leadline.forecasting.outliers import least_scattered
from leadline.forecasting.reading import read_runs
from leadline.forecasting.resampling import bootstrap
from planted_laws import CONSTANT


@pytest.mark.parametrize("counts", [(2, 3, 5, 4), (1, 1, 1, 1), (12, 1, 1)])
def test_draws_of_trainings_by_their_definition(counts):
    """Of a mean the hat matrix is 1/N everywhere: a training's block has the one eigenvalue n_g/N, its sum
    of residuals is over (1 - n_g/N)^.8, and G trainings have G - 1 degrees of freedom."""
    r, n = np.random.default_rng(0), sum(counts)
    losses = np.exp(0.1 * r.standard_normal(n))
    runs = read_runs(
        [dict(width=32, depth=2 * (1 + i % 3), loss=x) for i, x in enumerate(losses)]
        if n > 4
        else [dict(width=32, depth=2 * (1 + i), loss=x) for i, x in enumerate(losses)]
    )
    groups = np.repeat(np.arange(len(counts)), counts)
    data = Data(replace(runs, groups=groups), np.ones(n), 1e3, {"width": 32.0, "depth": 2.0})
    made = estimate(CONSTANT, data)
    drawn = bootstrap(made, data, 30, np.random.default_rng(3), "groups").draws[:, 0]
    rng, dof = np.random.default_rng(3), len(counts) - 1
    signs = rng.choice((-1.0, 1.0), (30, len(counts)))
    stretch = np.sqrt(dof / rng.chisquare(dof, 30))
    sums = np.bincount(groups, np.log(losses) - np.log(losses).mean())
    share = np.maximum(1 - np.array(counts) / n, 0.15)
    expected = np.log(losses).mean() + stretch * (signs * sums / share**0.8).sum(1) / n
    assert drawn == pytest.approx(expected, abs=1e-6)


def test_a_training_that_the_law_takes_up_has_no_degree_of_freedom():
    """One term fits the offset of each of three trainings: what is left are their rows' residuals, and
    1 degree of freedom is the least."""
    runs = read_runs(
        [dict(width=w, depth=l, loss=1 + 9 / w + 1 / l) for w in (8, 16, 32) for l in (1, 2, 4, 8)]
    )
    data = prepare(replace(runs, groups=np.repeat(np.arange(3), 4)), np.ones(12))
    law = next(k for k in candidates(runs, "free", "sum") if k.parameters == 5)
    made = estimate(law, data)
    drawn = bootstrap(made, data, 20, np.random.default_rng(0), "groups").draws
    assert np.isfinite(drawn).all()
    assert drawn == pytest.approx(np.tile(made.theta, (20, 1)), abs=1e-2)


@pytest.mark.parametrize(("offset", "told"), [(0.0, False), (0.6, False), (1.2, True)])
def test_trainings_that_differ_by_more_than_their_rows(offset, told):
    """Offsets ±a of 8 trainings of 6 rows that scatter by exactly 1: F = 6a² (6·1.44 = 8.6; 6·.36 = 2.2).
    Trainings of two rows say nothing."""
    rows = np.array([-1.0, 1, -1, 1, -1, 1]) * np.sqrt(5 / 6)
    groups = np.repeat(np.arange(8), 6)
    r = np.tile(rows, 8) + offset * np.where(groups % 2, 1.0, -1.0)
    assert _apart(r, groups) is told
    pairs = np.repeat(np.arange(100, 120), 2)
    assert _apart(np.append(r, np.where(pairs % 2, 9.0, -9.0)), np.append(groups, pairs)) is told


def trainings(seed, shared):
    """Sixteen trainings of eight checkpoints; noise of 1 % a training and a third of that a row."""
    r = np.random.default_rng(seed)
    size = [(w, l, k) for w in (64, 128, 256, 512) for l in (2, 4, 8, 16) for k in range(1, 9)]
    w, l, k = np.array(size, float).T
    law = 1 + 2 * (w / 64) ** -0.5 + 0.6 * (l / 2) ** -0.7 + 1.5 * (10 * k) ** -0.4
    offsets = np.repeat(r.standard_normal(16), 8) if shared else r.standard_normal(128)
    loss = law * np.exp(0.01 * offsets + 0.003 * r.standard_normal(128))
    return {"width": w, "depth": l, "samples": k * 1e10, "loss": loss}


@pytest.mark.parametrize("shared", [True, False])
def test_checkpoints_are_told_from_runs(shared):
    """Of each 10 tables all."""
    for seed in range(10):
        runs = read_runs(trainings(seed, shared))
        data, law = least_scattered(
            prepare(runs, np.ones(len(runs))), fullest_of(candidates(runs, "free", "sum"))
        )
        groups = dependent(estimate(law, data, most=4), data)
        assert (groups is not None) is shared


def test_a_law_without_a_floor_that_fits_as_well_is_enclosed():
    """Draws of a fit with E ≥ 0 see nothing of what lies beyond 0: the law without it is asked too."""
    r = np.random.default_rng(0)
    n, d = np.exp(r.uniform(np.log(3e7), np.log(3e9), 60)), np.exp(r.uniform(20, 25, 60))
    noise = np.exp(0.01 * r.standard_normal(60))
    bare = read_runs({"N": n, "D": d, "loss": (400 * n**-0.3 + 1000 * d**-0.33) * noise})

    def laws(runs, kind="sum"):
        made = analyse(runs, "free", kind, 50, np.random.default_rng(0), lambda *_: None)
        return {f.law.floor: f for f in made.laws}

    both = laws(bare)
    assert set(both) == {True, False}
    assert len(both[False].draws) == len(both[True].draws) == 50
    floor = read_runs({"N": n, "D": d, "loss": (1.8 + 480 * n**-0.35 + 2085 * d**-0.37) * noise})
    assert set(laws(floor)) == {True}


def test_exponents_are_of_both_fits_together():
    r = np.random.default_rng(4)
    n, d = np.exp(r.uniform(np.log(3e7), np.log(3e9), 60)), np.exp(r.uniform(20, 25, 60))
    loss = (400 * n**-0.3 + 1000 * d**-0.33) * np.exp(0.01 * r.standard_normal(60))
    f = ll.forecast({"N": n, "D": d, "loss": loss}, law="sum", draws=60)
    assert {k.law.floor for k in f.laws} == {True, False}
    for axis in "ND":
        drawn = np.concatenate([k.exponents[axis][1:] for k in f.laws])
        ends = f.exponents[axis].low, f.exponents[axis].high
        assert ends == (
            np.quantile(drawn, 0.025, method="lower"), np.quantile(drawn, 0.975, method="higher"),
        )  # fmt: skip
    assert f.floor.low == 0
    loss = f.predict(N=1e10, D=1e12)
    (other,) = [k for k in f.laws if str(k.law) != f.law]
    at = {a: np.array([x]) for a, x in loss.at.items()}
    assert loss.rivals == {str(other.law): other.values(at)[0, 0]}
