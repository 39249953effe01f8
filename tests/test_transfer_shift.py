"""What measured points say between them, by hand: single landscapes, shifts, spreads."""

import numpy as np
import pytest

from leadline.intervals import Spread, stretch, widened
from leadline.transferring.bounds import bracket, valley
from leadline.transferring.landscapes import Landscape
from leadline.transferring.optimum import optimum, stable
from leadline.transferring.shift import moved, near, shift

INF = np.inf


def over(y, x=None):
    y = np.array(y, float)
    return valley(np.arange(len(y), dtype=float) if x is None else np.array(x, float), y)


# One landscape.


def test_the_smallest_point_where_nothing_smooth_is_supported():
    found = optimum(np.arange(4.0), np.array([0.02, 0.005, 0.0, 0.64]))
    assert (found.x, found.value, found.most) == (2, 0, 0)
    # Secants of slopes -.015 and .64.
    assert found.least == pytest.approx(0.005 - 0.015 * 0.645 / 0.655)
    assert (found.low, found.high) == pytest.approx((1 + 1 / 3, 3))
    assert found.edge == ""
    assert optimum(np.arange(3.0), np.full(3, INF)) is None
    assert optimum(np.arange(3.0), np.array([1.0, 2, 3])).edge == "low"
    assert optimum(np.arange(3.0), np.array([3.0, 2, 1])).edge == "high"
    assert optimum(np.arange(3.0), np.array([3.0, 2, INF])).edge == ""
    assert optimum(np.arange(3.0), np.array([INF, 2, 3])).edge == ""


def test_a_vertex_is_kept_to_the_bounds():
    x = np.arange(-4.0, 5.0)
    found = optimum(x, 0.1 * (x - 0.3) ** 2, 1)
    assert (found.x, found.value) == pytest.approx((0.3, 0), abs=1e-12)
    assert found.bends == pytest.approx((0.2, 0.2))
    assert found.bent == pytest.approx((0.2, 0.2))
    # The same points are asked for a model that misses them: never below the secants, nor above the points.
    y = np.array([0.3, 0.2, 0.1, 0.0, 0.3, 0.6, 0.9, 1.2])
    kink = optimum(np.arange(8.0), y, 1)
    assert (kink.x, kink.value) == (3, 0)
    # Second differences: 0 left and right of the kink, .4 over it.
    assert kink.bent[0] == pytest.approx(0)
    assert kink.bent[1] >= 0.4
    assert np.isnan(optimum(np.arange(2.0), np.array([1.0, 0])).bent).all()
    # Beside the end of the grid there are fewer: steps of -1, 1, 3 and of 5, 8, 12.
    assert optimum(np.arange(4.0), np.array([1.0, 0, 1, 4])).bent == (2, 2)
    assert optimum(np.arange(4.0), np.array([4.0, 1, 0, 3])).bent == (2, 4)
    assert optimum(np.arange(4.0), np.array([0.0, 5, 13, 25])).bent == (3, 3)


def test_the_loss_at_other_rates():
    x = np.arange(-4.0, 5.0)
    smooth = optimum(x, np.where(x < 0.3, 0.1, 0.2) * (x - 0.3) ** 2, 2)
    for at in (-1.5, 0.1, 0.31, 1.2):
        value, least, most = smooth.at(at)
        assert value == pytest.approx((0.1 if at < 0.3 else 0.2) * (at - 0.3) ** 2, abs=0.004)
        assert least <= value <= most
    assert smooth.at(smooth.x) == (smooth.value, smooth.least, smooth.most)
    assert smooth.at(2.0) == pytest.approx((0.2 * 1.7**2,) * 3)
    for outside in (4.5, -4.5):
        assert np.isnan(smooth.at(outside)[0])
        assert smooth.at(outside)[1:] == (-INF, INF)
    # Without a model: a quarter from the chord to the secants, exact in the middle for a parabola.
    plain = optimum(x, 0.1 * x**2)
    assert plain.at(1.5) == pytest.approx((0.225, 0.15, 0.25))
    assert plain.at(0.5) == pytest.approx((0.025, -0.05, 0.05))
    # In the outermost cells there is one secant: of slope .5 from (3, .9), the chord being 1.25.
    assert plain.at(3.5) == plain.at(-3.5) == pytest.approx((1.225, 1.15, 1.25))
    # On a cliff and beyond it: the chord.
    cliff = optimum(np.arange(6.0), np.array([1, 0.4, 0.1, 0, 3, 3.1]))
    assert cliff.at(3.5) == pytest.approx((1.5, -0.05, 3))
    assert cliff.at(4.5) == pytest.approx((3.05, 3, 3.1))


def test_the_loss_at_rates_where_training_diverges():
    found = optimum(np.arange(8.0), np.array([1, 0.4, 0.1, 0, INF, INF, 0.7, INF]))
    assert found.at(3.4) == pytest.approx((0, -0.04, INF))
    assert found.at(3.5) == pytest.approx((0, -0.05, INF))
    assert found.at(3.6) == pytest.approx((INF, -0.06, INF))
    assert found.at(4.0) == found.at(4.5) == (INF, INF, INF)
    # Beyond a rate that diverged only what was measured is known.
    assert found.at(6.0) == (0.7, 0.7, 0.7)
    assert found.at(5.4) == (INF, -INF, INF)
    assert found.at(5.6) == (0.7, -INF, INF)
    assert found.at(7.0) == (INF, INF, INF)
    ends = optimum(np.arange(7.0), np.array([0.7, INF, 1, 0, 1, INF, 0.8]))
    assert (ends.at(0.0), ends.at(6.0)) == ((0.7,) * 3, (0.8,) * 3)
    assert np.isnan([ends.at(-0.1)[0], ends.at(6.1)[0]]).all()


def test_the_edge_of_stability():
    x, y = np.arange(5.0), np.array([1.0, 0.6, 0.3, INF, INF])
    assert stable(x, y) == 2.0
    assert stable(x, np.zeros(5)) == INF
    assert np.isnan(stable(x, np.full(5, INF)))


def test_means_and_noise_of_a_landscape():
    losses = np.exp(np.array([[0.0, 2.0, 4.0], [1.0, 1.0, 4.0], [2.0, 3.0, 4.0]]))
    scape = Landscape(np.arange(3.0), losses)
    assert scape.mean() == pytest.approx([2, 2, 3])
    assert scape.mean(np.array([0, 0, 1])) == pytest.approx([2 / 3, 1, 7 / 3])
    # Less each seed's level (1, 2, 4): (-1, 0, 0), (0, -1, 0), (1, 1, 0), with deviations of √(1/3).
    assert scape.noise() == pytest.approx((1 / 3) ** 0.5 / 3**0.5)
    infinite = np.vstack([losses, [[1.0, INF, 1.0]]])
    assert np.isinf(Landscape(np.arange(4.0), infinite).mean()[3])
    assert Landscape(np.arange(4.0), infinite).noise() == pytest.approx(scape.noise())
    assert Landscape(np.arange(3.0), losses[:, :1]).noise() == 0
    assert Landscape(np.arange(1.0), losses[:1]).noise() == 0
    assert Landscape(np.arange(3.0), np.full((3, 3), INF)).noise() == 0


# Shifts.


def smooth_log(u):
    return np.log((2 ** (-0.5 * u) / 0.5 + 2**u) / 3)


@pytest.mark.parametrize("by", [-2.5, -1.0, -0.3, 0.0, 0.4])
@pytest.mark.parametrize("curve", [lambda u: 0.05 * u**2, smooth_log, lambda u: 0.1 * u**4])
def test_a_shift_is_found_from_shapes(by, curve):
    x = np.arange(-7.0, 8.0)
    base, other = valley(x, curve(x - 0.2)), valley(x, 0.3 + curve(x - 0.2 - by))
    (a, b), (s, t) = bracket(base), bracket(other)
    found = shift(base, other, (s - b, t - a))
    assert found.low <= by <= found.high
    assert found.value == pytest.approx(by, abs=0.06)
    # Much closer than the two brackets leave it.
    assert found.high - found.low < 0.6 * (t - a - s + b)
    # From the other side it is the same with the other sign.
    back = shift(other, base, (a - t, b - s))
    assert back.low == pytest.approx(-found.high, abs=0.03)
    assert back.high == pytest.approx(-found.low, abs=0.03)


def test_the_same_points_are_not_moved_and_how_far_they_may_be():
    x = np.arange(-4.0, 5.0)
    r = valley(x, x**2)
    found = shift(r, r, (-4 / 3, 4 / 3))
    assert found.value == 0
    assert found.low == pytest.approx(-found.high)
    # Heights of 1 over a floor of -.5, of whose depth half counts, may differ by an eighth on all sides.
    assert 0.15 < found.high < 0.3
    # Noise leaves more open.
    noisy = shift(r, r, (-4 / 3, 4 / 3), noise=0.2)
    assert noisy.high > found.high + 0.05


def test_shapes_that_differ_leave_more_open_and_at_last_all():
    x = np.arange(-4.0, 5.0)
    base = valley(x, x**2)
    reach = (-4 / 3, 4 / 3)
    alike, less = (
        shift(base, valley(x, 1.05 * x**2), reach),
        shift(base, valley(x, 1.4 * x**2), reach),
    )
    assert less.high - less.low > alike.high - alike.low
    other = valley(x, np.where(x < 0, 9.0, 1 / 9) * x**2 + 0.0)
    assert shift(base, other, (-1.2, 1.0)) == shift(base, other, (-1.2, 1.0))
    unlike = shift(base, other, (-1.2, 1.0))
    assert (unlike.value, unlike.low, unlike.high) == (0, -1.2, 1.0)


def test_a_straight_fall_and_divergence_leave_a_shift_open():
    line = over([3, 2, 1, 0, INF])
    found = shift(line, line, (-1.0, 1.0))
    assert (found.value, found.low, found.high) == pytest.approx((0, -1, 1))
    # Points cannot lie where the other one diverged: the base has them up to 3, the other's wall is at 3.
    short = over([3, 2, 1, INF, INF])
    found = shift(line, short, (-2.0, 0.0))
    assert found.low == -2
    assert found.high == pytest.approx(0, abs=0.03)
    # One without a bound from below: the points' distance, kept to the reach.
    end = over([3, 2, 1])
    for reach in ((-INF, INF), (-0.5, INF), (-5.0, -2.0)):
        found = shift(line, end, reach)
        assert (found.low, found.high) == reach
        assert found.value == np.clip(-1, *reach)


def test_an_infinite_reach_is_kept_where_the_points_do_not_close_it():
    x = np.arange(-4.0, 5.0)
    r = valley(x, x**2)
    found = shift(r, r, (-INF, INF))
    assert found.value == pytest.approx(0, abs=1e-9)
    assert -0.5 < found.low < found.high < 0.5


def test_which_points_a_shift_uses():
    x = np.arange(-8.0, 9.0)
    points, walls = near(valley(x, x**2))
    # Three on either side where a step is a doubling.
    assert (points.start, points.stop, walls) == (5, 12, (-INF, INF))
    fine = np.arange(-8.0, 8.1, 0.25)
    points, _ = near(valley(fine, fine**2))
    assert points.stop - points.start == 13
    middle = np.arange(-8.0, 8.1, 0.5)
    points, _ = near(valley(middle, middle**2))
    assert points.stop - points.start == 9
    # Walls count where the points reach them.
    assert near(over([1, 0.4, 0.1, 0, INF]))[1] == (-INF, 4)
    assert near(over([INF, 0, 0.1, 0.4, 1]))[1] == (0, INF)
    assert near(over([0, 3, 3.1, INF]))[1] == (-INF, INF)
    assert near(over([9, 5, 2, 1, 0, INF]))[1] == (-INF, 5)
    assert near(over([INF, 9, 5, 2, 1, 0, INF]))[1] == (-INF, 6)


def test_moves_to_first_order():
    x = np.arange(-4.0, 5.0)
    y = 0.1 * x**2
    r = valley(x, y)
    for d in (0.01, -0.02):
        assert moved(r, 0.1 * (x - d) ** 2 + 0.5, y, x) == pytest.approx(d, rel=0.03)
    assert moved(r, y, y, x) == 0
    # With what diverged below.
    wide = np.concatenate([[-6.0, -5.0], x])
    usual = np.concatenate([[INF, INF], y])
    means = np.concatenate([[INF, INF], 0.1 * (x - 0.01) ** 2])
    assert moved(r, means, usual, wide) == pytest.approx(0.01, rel=0.03)
    # A straight line may be anywhere, and two points say nothing.
    line = over([3, 2, 1, 0, INF])
    assert (
        moved(line, np.array([3.1, 2, 1, 0, INF]), np.array([3, 2, 1, 0, INF]), np.arange(5.0)) == 0
    )
    assert moved(over([1, 0]), np.array([2.0, 0]), np.array([1.0, 0]), np.arange(2.0)) == 0


# Spreads.


def test_ends_are_moved_out_by_what_the_replicates_are_beyond_them():
    draws = np.linspace(-1, 1, 201)
    # 2.5 % of 201 lie below -.95.
    low, high = widened((0.0, 0.0), (draws, draws), 1.0)
    assert (low, high) == pytest.approx((-0.95, 0.95))
    assert widened((0.0, 0.0), (draws, draws), 2.0) == pytest.approx((-1.9, 1.9))
    # Replicates within the ends move nothing; those beyond, by their distance.
    assert widened((-2.0, 2.0), (draws, draws), 3.0) == (-2, 2)
    assert widened((-0.45, 2.0), (draws, draws), 3.0) == pytest.approx((-0.45 - 1.5, 2))
    # nan is left out; without any the ends stay.
    holes = np.where(np.arange(201) % 2, np.nan, draws)
    assert widened((0.0, 0.0), (holes, holes), 1.0) == pytest.approx((-0.95, 0.95), abs=0.011)
    empty = np.full(3, np.nan)
    assert widened((0.5, 1.5), (empty, np.array([])), 2.0) == (0.5, 1.5)


def test_ends_that_are_infinite():
    ones = np.ones(5)
    assert widened((1.0, 1.0), (ones, INF * ones), 2.0) == (1, INF)
    assert widened((INF, INF), (ones, ones), 2.0) == (1, INF)
    assert widened((1.0, INF), (-INF * ones, ones), 2.0) == (-INF, INF)


def test_stretch_needs_two_seeds():
    assert np.isnan(stretch(1))
    assert stretch(2) == pytest.approx(12.7062047 / 1.95996398 * 2**0.5)
    assert 1 < stretch(100) < 1.02


def test_spreads_count_how_often_a_replicate_was_drawn():
    draws = [(0.0, -1.0, 1.0), (5.0, -9.0, 9.0)]
    spread = Spread((0.0, 0.0, 0.0), draws, np.array([99, 1]), 1.0)
    found = spread.of(lambda d: d, float)
    assert (found.value, found.low, found.high) == (0, -1, 1)
    often = Spread((0.0, 0.0, 0.0), draws, np.array([90, 10]), 1.0).of(lambda d: d, np.exp)
    assert (often.value, often.low, often.high) == pytest.approx((1, np.exp(-9), np.exp(9)))
    alone = Spread((2.0, 1.0, 3.0), [], np.array([], int), float("nan")).of(lambda d: d, float)
    assert alone.value == 2
    assert np.isnan([alone.low, alone.high]).all()
    assert np.isnan(spread.of(lambda _: (np.nan, 0.0, 1.0), float).low)
