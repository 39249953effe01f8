"""Intervals of a transfer analysis: how they read, how replicates widen them, who made the axis."""

import math

import numpy as np
import pytest

from leadline.intervals import LEVEL, Interval, Spread, stretch, widened
from leadline.transferring.analysis import analyse
from leadline.transferring.landscapes import Landscape

INF, NAN = math.inf, math.nan


@pytest.mark.parametrize(
    ("interval", "words"),
    [
        (Interval(1.23456, 0.98765, 2.34567), "1.23 [0.988, 2.35]"),
        (Interval(1.23456), "1.23"),
        (Interval(0.0), "0"),
        (Interval(1.0, 0.0, 2.0), "1 [0, 2]"),
        (Interval(NAN, 0.0, 1.0), "–"),
        (Interval(INF), "diverged"),
        (Interval(INF, INF, INF), "diverged"),
        (Interval(INF, -INF, INF), "diverged"),
        (Interval(INF, 0.12345, INF), "diverged [0.123, ∞]"),
        (Interval(1.0, 0.5, INF), "1 [0.5, ∞]"),
        (Interval(1.0, -INF, 2.0), "1 [-∞, 2]"),
        (Interval(1.0, -INF, INF), "1 [-∞, ∞]"),
    ],
)
def test_how_an_interval_reads(interval, words):
    assert str(interval) == words


def test_two_and_a_half_percent_lie_beyond_either_end():
    """Of a thousand and one replicates the 26th from either side, whatever their order."""
    assert LEVEL == 0.95
    draws = np.random.default_rng(0).permutation(np.arange(1001.0))
    assert widened((500.0, 500.0), (draws, draws), 1.0) == (25, 975)
    assert widened((500.0, 500.0), (draws, draws), 1.5) == (500 - 1.5 * 475, 500 + 1.5 * 475)
    # Each end by its own replicates; what lies within the ends moves nothing.
    assert widened((20.0, 980.0), (draws, draws), 3.0) == (20, 980)
    assert widened((30.0, 970.0), (draws + 2, draws - 1), 2.0) == (24, 978)
    assert widened((30.0, 970.0), (draws + 6, draws - 9), 2.0) == (30, 970)


def test_replicates_without_a_number_are_left_out():
    draws = np.where(np.arange(2002) % 2, NAN, np.arange(2002) // 2)
    nothing = np.full(5, NAN)
    assert widened((500.0, 500.0), (draws, draws), 1.0) == (25, 975)
    assert widened((0.5, 1.5), (nothing, draws), 1.0) == (0.5, 975)
    assert widened((0.5, 975.5), (draws, nothing), 1.0) == (0.5, 975.5)


def test_ends_without_a_bound():
    """An infinite end, or infinite replicates: the farther of the two."""
    ones = np.ones(40)
    assert widened((0.0, 0.0), (-INF * ones, INF * ones), 2.0) == (-INF, INF)
    assert widened((-INF, INF), (ones, ones), 2.0) == (-INF, INF)
    # From the other side: replicates that trained where the point did not.
    assert widened((INF, -INF), (ones, 2 * ones), 2.0) == (1, 2)
    assert widened((3.0, 3.0), (INF * ones, -INF * ones), 2.0) == (3, 3)
    # One in forty is beyond the percentile, two are not.
    for many, end in ((1, 3.0), (2, INF)):
        drawn = np.where(np.arange(40) < many, INF, 3.0)
        assert widened((1.0, 1.0), (ones, drawn), 1.0) == (1, end)


def test_spread_of_a_number():
    draws = [(0.0, -1.0, 1.0), (0.0, -2.0, 3.0), (0.0, -3.0, 9.0)]
    point = (0.5, -0.5, 1.5)
    spread = Spread(point, draws, np.array([90, 9, 1]), 2.0)
    found = spread.of(lambda d: d, float)
    assert (found.value, found.low, found.high) == (0.5, -0.5 - 2 * 1.5, 1.5 + 2 * 1.5)
    assert all(type(v) is float for v in (found.value, found.low, found.high))
    twice = spread.of(lambda d: d, lambda v: 2 * v)
    assert (twice.value, twice.low, twice.high) == (1.0, -7.0, 9.0)
    # Nothing of the point, and no replicates.
    none = spread.of(lambda d: (NAN, d[1], d[2]), float)
    assert np.isnan([none.value, none.low, none.high]).all()
    alone = Spread(point, [], np.array([], int), NAN).of(lambda d: d, np.exp)
    assert alone.value == pytest.approx(math.exp(0.5))
    assert type(alone.value) is float
    assert np.isnan([alone.low, alone.high]).all()


def test_an_estimate_has_no_interval_unless_given():
    assert np.isnan([Interval(1.0).low, Interval(1.0).high]).all()


def test_stretch_is_student_s_over_the_percentiles():
    """t(.975, n − 1)/z(.975)·√(n/(n − 1))."""
    known = {2: 12.7062047362, 3: 4.30265272975, 4: 3.18244630528, 31: 2.04227245630}
    for n, t in known.items():
        assert stretch(n) == pytest.approx(t / 1.95996398454 * math.sqrt(n / (n - 1)), rel=1e-9)
    assert math.isnan(stretch(1))
    assert math.isnan(stretch(0))


def test_an_axis_says_who_made_it_and_how_many_seeds_it_needs():
    x = np.arange(-4.0, 5.0)
    for seeds, enough in ((1, False), (2, False), (3, True)):
        scape = Landscape(x, np.exp(np.stack([0.1 * x**2] * seeds, 1)))
        found = analyse("mup", "depth", {32: scape, 64: scape})
        assert (found.scheme, found.axis) == ("mup", "depth")
        assert math.isnan(found.drift.low) != enough
        assert type(found.drift.value) is float
