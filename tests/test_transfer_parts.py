"""What an axis's analysis is made of: replicates, places, the drift; from hand-made parts."""

import dataclasses
import math

import numpy as np
import pytest

from leadline.intervals import Interval, Spread, stretch, widened
from leadline.transferring import analysis
from leadline.transferring.analysis import Places, Replicate, measure
from leadline.transferring.landscapes import Landscape
from leadline.transferring.optimum import optimum
from leadline.transferring.shift import Shift, moved, shift

INF, NAN = math.inf, math.nan
X = np.arange(-4.0, 5.0)
DIVERGED, NOTHING = (INF,) * 3, (NAN,) * 3


def parabola(centre=0.0, floor=0.0):
    return floor + 0.1 * (X - centre) ** 2


def scape(*curves):
    """A seed for each curve of log loss."""
    return Landscape(X, np.exp(np.stack(curves, 1)))


def same(*triple):
    return tuple(pytest.approx(v, nan_ok=True) for v in triple)


# Replicates.


BASE, OTHER = optimum(X, parabola(0.25), 1), optimum(X, parabola(1.25, 0.5), 1)


def test_numbers_of_a_replicate():
    r = Replicate([BASE, OTHER], [INF, INF], [parabola(0.25), parabola(1.25, 0.5)])
    assert r.rate(0) == same(0.25, BASE.low, BASE.high)
    assert r.rate(1) == same(1.25, OTHER.low, OTHER.high)
    assert r.best(1) == same(0.5, OTHER.least, OTHER.most)
    assert OTHER.most == pytest.approx(0.5 + 0.1 * 0.25**2)
    assert r.at_base(0) == same(0, BASE.least, BASE.most)
    assert r.at_base(1) == OTHER.at(0.25)
    assert r.at_base(1)[0] == pytest.approx(0.6)
    # Loss at the base's rate over the size's own best: the most over the least, and the other way round.
    _, least, most = OTHER.at(0.25)
    assert r.regret(1) == same(0.1, max(least - OTHER.most, 0), most - OTHER.least)
    assert r.regret(0) == (0.0, 0.0, 0.0)
    assert r.sharpness(1) == same(0.2, *OTHER.bent)
    uneven = optimum(X, np.where(X < 0.25, 0.1, 0.2) * (X - 0.25) ** 2, 2)
    assert Replicate([uneven], [INF], [X]).sharpness(0)[0] == pytest.approx(0.3, rel=0.05)


def test_bends_of_a_model_count_beside_the_secants():
    """Of 0.2 and 0.6 left and right of .25: the second differences are between them."""
    found = optimum(X, np.where(X < 0.25, 0.1, 0.3) * (X - 0.25) ** 2, 2)
    secants = optimum(X, np.where(X < 0.25, 0.1, 0.3) * (X - 0.25) ** 2).bent
    assert found.bent == (min(*secants, *found.bends), max(*secants, *found.bends))
    assert found.bent != secants
    bent = dataclasses.replace(found, bends=(0.05, 0.9)).bent
    assert bent == (0.05, 0.9)


def test_a_regret_is_never_below_zero_at_its_least():
    far = Replicate([optimum(X, parabola(-2.0), 1), OTHER], [INF] * 2, [X, X])
    value, least, most = OTHER.at(-2.0)
    assert least > OTHER.most
    assert far.regret(1) == same(value - 0.5, least - OTHER.most, most - OTHER.least)
    near = Replicate([OTHER, OTHER], [INF] * 2, [X, X])
    assert near.regret(1) == same(0, 0, OTHER.most - OTHER.least)


def test_sizes_that_diverged_at_every_rate():
    some = Replicate([BASE, None, OTHER], [INF, NAN, INF], [X] * 3)
    assert (some.rate(1), some.sharpness(1)) == (same(*NOTHING), same(*NOTHING))
    assert some.best(1) == some.at_base(1) == some.regret(1) == DIVERGED
    assert some.regret(2)[0] == pytest.approx(0.1)
    assert some.at_base(2) == OTHER.at(0.25)
    # The last's, and the base's: the base alone has no rate to be tried at the others.
    last = Replicate([BASE, OTHER, None], [INF, INF, NAN], [X] * 3)
    assert last.regret(1)[0] == pytest.approx(0.1)
    first = Replicate([None, OTHER, BASE], [NAN, INF, INF], [X] * 3)
    assert first.best(1)[0] == pytest.approx(0.5)
    assert first.at_base(1) == first.regret(1) == first.regret(0) == DIVERGED


def test_a_replicate_is_of_the_chosen_seeds():
    scapes = [scape(parabola(0.25), parabola(-1.75)), scape(parabola(1.25), parabola(1.25) + INF)]
    one = analysis._replicate(scapes, [1, 1], np.array([0, 0]))
    assert [o.x for o in one.optima] == pytest.approx([0.25, 1.25])
    assert one.stable == [INF, INF]
    assert one.means[1] == pytest.approx(parabola(1.25))
    two = analysis._replicate(scapes, [1, 0], np.array([1, 1]))
    assert two.optima[0].x == pytest.approx(-1.75)
    assert two.optima[1] is None
    assert math.isnan(two.stable[1])
    both = analysis._replicate(scapes[:1], [1], None)
    assert both.optima[0].x == pytest.approx(-0.75)
    # Without a model the smallest point: each size has its own.
    points = analysis._replicate(scapes, [1, 0], np.array([0, 0]))
    assert [o.x for o in points.optima] == pytest.approx([0.25, 1.0])
    with pytest.raises(ValueError, match="zip"):
        analysis._replicate(scapes, [1], None)


def test_sides_are_those_that_all_seeds_support():
    assert analysis._sides(scape(parabola(), parabola())) == 1
    assert analysis._sides(scape(np.where(X < 0.25, 0.01, 0.15) * (X - 0.25) ** 2)) == 2
    assert analysis._sides(scape(np.abs(X))) == 0
    assert analysis._sides(scape(parabola(), np.full(9, INF))) == 0
    # What misses by little may be the noise of the seeds.
    noise = 0.3 * np.where(np.arange(9) % 2, 1.0, -1.0)
    bent = parabola() + 0.5 * np.maximum(X - 1, 0) ** 2
    quiet, loud = scape(bent, bent), scape(bent + noise, bent - noise)
    assert analysis._sides(quiet) == 0
    assert analysis._sides(loud) == 1


def test_replicates_are_the_different_choices_of_seeds(monkeypatch):
    """Of three seeds there are ten, each counted as often as it was drawn, in every run the same."""
    spreads, chosen = [], []
    real, of = analysis._replicate, analysis._places
    monkeypatch.setattr(
        analysis, "_replicate", lambda a, b, seeds: chosen.append(seeds) or real(a, b, seeds)
    )
    monkeypatch.setattr(
        analysis, "_places", lambda a, spread: spreads.append(spread) or of(a, spread)
    )
    measure({w: scape(*[parabola()] * 3) for w in (32, 64)})
    drawn = np.random.default_rng(0).integers(0, 3, (400, 3))
    different, often = np.unique(np.sort(drawn, axis=1), axis=0, return_counts=True)
    assert len(different) == 10
    assert chosen[0] is None
    assert np.array_equal(chosen[1:], different)
    assert np.array_equal(spreads[0].often, often)
    assert spreads[0].stretch == stretch(3)


def test_the_noise_of_few_rates():
    """Deviations of -.1, 0, .1 from each seed's level at one of two rates, and none at a single one."""
    logs = np.array([[0.0, 0.0, 0.0], [0.2, 0.0, -0.2]])
    two = Landscape(np.arange(2.0), np.exp(logs))
    assert two.noise() == pytest.approx(0.1 / 3**0.5)
    assert two.mean() == pytest.approx([0, 0])
    assert Landscape(np.arange(1.0), np.exp(logs[1:])).noise() == 0
    assert Landscape(np.arange(2.0), np.full((2, 3), INF)).noise() == 0
    assert Landscape(np.arange(2.0), np.exp(logs[:, :2])).noise() == pytest.approx(0.05)


def test_the_loss_between_two_points_alone():
    """Nothing bounds it from below: the chord."""
    found = optimum(np.arange(2.0), np.array([0.0, 1.0]))
    assert found.at(0.25) == (0.25, -INF, 1 / 4)
    assert (found.at(0.0)[0], found.at(1.0)) == (0.0, (1.0, 1.0, 1.0))


# The least regret.


def test_the_least_regret_is_over_all_rates_between():
    """|u| has its least at 0, the middle of 33 rates; beyond it rises to both sides."""
    found = optimum(X, np.where(X < 0, -1.0, 2.0) * X)
    assert (found.x, found.least, found.most) == (0, 0, 0)
    assert analysis._least(found, -1.0, 1.0) == 0
    assert analysis._least(found, 0.5, 2.0) == pytest.approx(1.0)
    assert analysis._least(found, -3.0, -0.5) == pytest.approx(0.5)
    # Steps are of 1/32.
    assert analysis._least(found, -1 / 34, 33 / 34) == pytest.approx(2 * (1 / 32 - 1 / 34))
    # Over what was measured, not over the least that the minimum can be.
    smooth = optimum(X, parabola(0.25), 1)
    assert analysis._least(smooth, 2.0, 3.0) == pytest.approx(parabola(0.25)[6] - parabola(0.25)[4])
    for open_end in ((-INF, 1.0), (-1.0, INF)):
        assert analysis._least(smooth, *open_end) == 0


def test_costs_are_relative_and_at_least_zero():
    assert analysis._cost(0.5) == pytest.approx(math.exp(0.5) - 1)
    assert analysis._cost(-0.5) == 0
    assert analysis._cost(INF) == INF
    assert type(analysis._cost(0.5)) is float


@pytest.mark.parametrize("lost", range(3))
def test_the_least_regret_of_what_diverged(lost):
    """Without the base's best rate or the last size's there is none: what it costs is infinite. Else the
    base's best rate can be up to 2/3, where the secant from 2 to 1, extended, is at .4/3."""
    scapes = {2**k: scape(*[parabola(2.0 * (k == 7))] * 2) for k in (5, 6, 7)}
    assert measure(scapes).least == pytest.approx(math.expm1(0.4 / 3))
    scapes[2 ** (5 + lost)] = Landscape(X, np.full((9, 2), INF))
    found = measure(scapes)
    if lost == 1:
        assert found.least == pytest.approx(math.expm1(0.4 / 3))
    else:
        assert (found.least, found.costs.value, found.costs.low) == (INF, INF, INF)


# Places and drift.


def three(noise=(0.0, 0.0, 0.0), seeds=3):
    """Three sizes whose best rates move by a quarter, and the point of their spread."""
    rng = np.random.default_rng(0)
    scapes = [
        scape(*(parabola(0.25 * k) + s * rng.standard_normal(9) for _ in range(seeds)))
        for k, s in enumerate(noise)
    ]
    sides = [analysis._sides(s) for s in scapes]
    return scapes, sides, analysis._replicate(scapes, sides, None)


def test_places_of_few_seeds_are_the_grid_s():
    scapes, _, point = three(seeds=2)
    p = analysis._places(scapes, Spread(point, [], np.array([], int), NAN))
    assert p.known == [0, 1, 2]
    assert [(r.value, r.low, r.high) for r in p.rates] == [point.rate(i) for i in range(3)]
    assert p.off.shape == (3, 0)
    assert p.shifts[0] == Shift(0.0, 0.0, 0.0)
    runs = [o.valley for o in point.optima]
    for k in (1, 2):
        reach = (p.rates[k].low - p.rates[0].high, p.rates[k].high - p.rates[0].low)
        assert p.shifts[k] == shift(runs[0], runs[k], reach, 0.0)
        assert p.shifts[k].value == pytest.approx(0.25 * k, abs=0.02)


@pytest.mark.parametrize("loud", [0, 1, 2])
def test_places_of_seeds(loud):
    """Rates are widened by the replicates, moves are to first order, the louder of two sizes sets the
    noise of their shift."""
    scapes, sides, point = three([0.03 if k == loud else 0.001 for k in range(3)])
    chosen = [np.array(c) for c in ((0, 0, 1), (1, 2, 2), (0, 1, 2))]
    draws = [analysis._replicate(scapes, sides, c) for c in chosen]
    spread = Spread(point, draws, np.array([1, 3, 2]), 1.5)
    p = analysis._places(scapes, spread)
    assert p.rates == [spread.of(lambda d, i=i: d.rate(i), float) for i in range(3)]
    assert p.rates[loud].high > point.rate(loud)[2] + 1e-3
    runs = [o.valley for o in point.optima]
    own = np.array(
        [[moved(runs[i], d.means[i], point.means[i], X) for d in draws] for i in range(3)]
    )
    assert p.off == pytest.approx(own[:, [0, 1, 1, 1, 2, 2]])
    for k in (1, 2):
        reach = (p.rates[k].low - p.rates[0].high, p.rates[k].high - p.rates[0].low)
        noise = max(scapes[0].noise(), scapes[k].noise())
        assert p.shifts[k] == shift(runs[0], runs[k], reach, noise)
        if loud in (0, k):
            quiet = shift(runs[0], runs[k], reach, scapes[k if loud == 0 else 0].noise())
            assert p.shifts[k] != quiet


def test_places_of_what_trained():
    scapes, sides, _ = three()
    scapes[0] = Landscape(X, np.full((9, 3), INF))
    point = analysis._replicate(scapes, [0, *sides[1:]], None)
    draws = [point, point]
    p = analysis._places(scapes, Spread(point, draws, np.array([2, 1]), 1.0))
    assert p.known == [1, 2]
    assert p.off == pytest.approx(np.zeros((2, 3)))
    assert p.shifts[1].value == pytest.approx(0.25, abs=0.02)


def places(shifts, rates=None, off=None, known=(0, 1, 2)):
    wide = [(-INF, INF)] * len(shifts)
    return Places(
        list(known),
        [Interval(0.0, *r) for r in (wide if rates is None else rates)],
        [Shift(*s) for s in shifts],
        np.zeros((len(shifts), 0)) if off is None else np.array(off, float),
    )


def test_a_drift_is_a_slope_by_least_squares():
    """Sizes 16, 32, 128 lie at -4/3, -1/3, 5/3 doublings about their mean, squares 42/9."""
    shifts = [(0.0, 0.0, 0.0), (0.5, 0.4, 0.7), (1.5, 1.0, 1.8)]
    grid, drift = analysis._drift([16, 32, 128], places(shifts), NAN)
    w = np.array([-4, -1, 5]) / 3 / (42 / 9)
    assert grid.value == drift.value == pytest.approx(w @ [0.0, 0.5, 1.5])
    assert grid.low == pytest.approx(w @ [0.0, 0.7, 1.0])
    assert grid.high == pytest.approx(w @ [0.0, 0.4, 1.8])
    # Of NumPy's numbers the difference of two infinite ends would warn.
    assert type(grid.low) is type(grid.high) is float
    assert math.isnan(drift.low)
    # Sizes that trained at no rate are left out.
    grid, _ = analysis._drift([16, 32, 64, 128], places(shifts, known=(0, 1, 3)), NAN)
    assert grid.value == pytest.approx(w @ [0.0, 0.5, 1.5])


def test_a_size_in_the_middle_has_no_weight_however_open_it_is():
    shifts = [(0.0, 0.0, 0.0), (0.0, -INF, INF), (1.0, 0.5, 1.5)]
    grid, _ = analysis._drift([16, 32, 64], places(shifts), NAN)
    assert (grid.value, grid.low, grid.high) == (0.5, 0.25, 0.75)


def test_seeds_widen_a_drift_within_the_brackets():
    shifts = [(0.0, 0.0, 0.0), (1.0, 0.5, 1.5)]
    off = [[0.0, 0.1, -0.1, 0.0], [0.2, -0.2, 0.1, 0.0]]
    both = np.array(off[1]) - off[0]
    less, more = widened((0.0, 0.0), (both, both), 2.0)
    assert less < -0.2
    assert more > 0.2
    how = dict(known=(0, 1), off=off)
    grid, drift = analysis._drift([16, 32], places(shifts, **how), 2.0)
    assert (grid.low, grid.high) == (0.5, 1.5)
    assert (drift.value, drift.low, drift.high) == same(1.0, 0.5 + less, 1.5 + more)
    # The brackets leave -.1 - .4 and .2 + .9 at their ends, or more than the seeds do.
    near = [(-0.1, 0.2), (0.6, 1.6)]
    _, drift = analysis._drift([16, 32], places(shifts, near, **how), 2.0)
    assert (drift.value, drift.low, drift.high) == same(1.0, 0.4, 1.7)
    with pytest.raises(ValueError, match="zip"):
        analysis._drift([16, 32], places(shifts, near[:1], **how), 2.0)


def test_one_size_that_trained_has_no_drift():
    for known in ((), (1,)):
        shifts = [(0.0, 0.0, 0.0)]
        found = analysis._drift([16, 32], places(shifts, known=known), 2.0)
        assert np.isnan([v for e in found for v in (e.value, e.low, e.high)]).all()


# All of it.


def test_the_numbers_of_an_axis():
    """Four seeds that differ in level and place: each number is its spread over the replicates."""
    rng = np.random.default_rng(2)
    scapes = {
        w: scape(*(parabola(c + 0.05 * rng.standard_normal(), 0.01 * k) for k in range(4)))
        for w, c in ((64, 0.75), (32, 0.25), (128, 1.25))
    }
    found = measure(scapes)
    assert [s.size for s in found.sizes] == [32, 64, 128]
    assert [math.log2(s.lr.value) for s in found.sizes] == pytest.approx(
        [0.25, 0.75, 1.25], abs=0.1
    )
    last = found.sizes[-1]
    assert last.loss.value == pytest.approx(math.exp(0.015), rel=1e-3)
    assert last.at_base.value == pytest.approx(math.exp(0.115), rel=0.02)
    assert last.regret.value == pytest.approx(math.expm1(0.1), rel=0.15)
    assert last.regret.value == pytest.approx(last.at_base.value / last.loss.value - 1)
    assert last.sharpness.value == pytest.approx(0.2)
    assert (last.stable.value, last.edge) == (INF, "")
    assert found.costs.value == pytest.approx(last.regret.value)
    assert found.drift.value == pytest.approx(0.5, abs=0.05)
    for e in (found.drift, last.lr, last.loss, last.at_base, last.regret, last.sharpness):
        assert e.low < e.value < e.high
