"""Shifts and smooth minima against independent solvers: a linear program, brute force; bounds at cliffs."""

import math

import numpy as np
import pytest
from scipy.optimize import linprog

from leadline.transferring import smooth
from leadline.transferring.bounds import Valley, above, below, bracket, floor, valley
from leadline.transferring.shift import Points, moved, near, shift
from leadline.transferring.smooth import believed, vertex, window

INF = math.inf


def over(y, x=None):
    y = np.array(y, float)
    return valley(np.arange(len(y), dtype=float) if x is None else np.array(x, float), y)


X = np.arange(-4.0, 5.0)
BOWL = valley(X, X**2)


# Points.


def test_points_have_their_own_smallest_at_zero():
    other = over([INF, 7.3, 3.3, 3.0, 4.1, INF], x=np.arange(6) / 2)
    p = Points.of(BOWL, other)
    (at, _), (here, _) = near(BOWL), near(other)
    assert p.x.tolist() == [*X[at], *other.x[here]]
    assert p.y == pytest.approx([*X[at] ** 2, *(other.y[here] - 3.0)])
    assert p.mine.tolist() == [0.0] * 7 + [1.0] * 4
    # Half of the depth that the minimum may have counts as height.
    assert floor(BOWL) == -0.5
    assert p.up[:7] == pytest.approx(X[at] ** 2 + 0.25)
    assert p.up[7:] == pytest.approx(other.y[here] - 3.0 + (3.0 - floor(other)) / 2)
    assert p.walls == ((-INF, INF), (0.0, 2.5))
    assert Points.of(other, over([3, 2, 1])) is None
    assert Points.of(over([3, 2, 1]), other) is None


def on_a_convex_curve(p, d, level, noise):
    """Whether heights within their tolerances, the other's less any constant, are those of a convex
    function of the rates, its own moved back by ``d``; by a linear program."""
    x = p.x - d * p.mine
    order = np.argsort(x)
    x, y, mine = x[order], p.y[order], p.mine[order]
    slack = (level * p.up + level / 0.1 * 0.5 * noise)[order] + 1e-10
    # Unknown: the curve's heights f and the constant c: |f + c·mine - y| ≤ slack.
    n = len(x)
    one = np.column_stack([np.eye(n), mine])
    rows, ends = [one, -one], [y + slack, slack - y]
    for i in range(1, n - 1):
        row = np.zeros(n + 1)
        row[i - 1], row[i + 1] = x[i] - x[i + 1], x[i - 1] - x[i]
        row[i] = x[i + 1] - x[i - 1]
        rows.append(row[None])
        ends.append([1e-12])
    found = linprog(
        np.zeros(n + 1), np.concatenate(rows), np.concatenate(ends), bounds=(None, None)
    )
    return found.status == 0


def test_points_pass_where_a_linear_program_finds_a_curve():
    """Random landscapes, shifts, tolerances; rates are never equal."""
    rng, seen = np.random.default_rng(0), []
    for k in range(6):
        power = rng.uniform(0.7, 1.4)
        base = valley(X, np.abs(X - 0.3) ** 1.6)
        y = np.abs(X - 0.9) ** 1.6 * power + 0.02 * rng.standard_normal(9)
        other = valley(X + 0.01, y)
        p, noise = Points.of(base, other), 0.1 * (k % 2)
        d = 0.6 + rng.uniform(-0.7, 0.7, 3)
        for level in (0.05, 0.15, 0.3):
            found = p.pass_at(d, level, noise)
            expected = [on_a_convex_curve(p, v, level, noise) for v in d]
            assert found.tolist() == expected
            seen += expected
    assert 15 < sum(seen) < 40


def test_points_at_one_rate_pass_where_they_differ_by_one_constant():
    p = Points.of(BOWL, valley(X, X**2 + 3.0))
    assert p.pass_at(np.array([0.0, 1.0, 1e-3]), 0.0, 0.0).tolist() == [True, False, False]


def test_one_landscape_s_own_points_must_be_convex_too():
    """The other's one point is far away and may be at any height."""
    none = (-INF, INF)
    mine, up = np.array([0.0, 0, 0, 1]), np.array([1.0, 1, 1, 0])
    p = Points(np.array([0.0, 1, 2, 5]), np.array([0.0, 0.3, 0, 0]), up, mine, (none, none))
    # .3 above the chord, of which every point may take its tolerance twice.
    for level, passes in ((0.0, False), (0.149, False), (0.151, True)):
        assert p.pass_at(np.array([0.0, -1.0]), level, 0.0).tolist() == [passes] * 2


def test_walls_keep_points_away():
    """The base trained from -3 to 2, the other from -2 to 3; what diverged beside them did so for both."""
    base, other = Valley(X[1:7], X[1:7] ** 2, 3, (0, 5), (-4.0, 3.0)), None
    other = Valley(X[2:8], X[2:8] ** 2, 2, (0, 5), (-3.0, 4.0))
    p = Points.of(base, other)
    assert p.walls == ((-4, 3), (-3, 4))
    d = np.array([-1.0, 0.0, 0.001, 0.5, 1.0, 1.999, 2.0, 2.5])
    # The other's points, moved back, are from -2 - d to 3 - d: above -4 and below 3; the base's, moved,
    # from -3 + d to 2 + d: above -3 and below 4.
    assert p._within_walls(d).tolist() == [False, False, True, True, True, True, False, False]


@pytest.mark.parametrize("wall", range(4))
def test_each_wall_alone(wall):
    walls = [[-INF, INF], [-INF, INF]]
    walls[wall // 2][wall % 2] = 2.5 if wall % 2 else -2.5
    p = Points(
        np.array([-2.0, 0, 2, -2, 0, 2]), np.zeros(6), np.zeros(6), np.repeat([0.0, 1.0], 3),
        (tuple(walls[0]), tuple(walls[1])),
    )  # fmt: skip
    d = np.array([-0.6, -0.5, -0.4, 0.0, 0.4, 0.5, 0.6])
    # A wall of the base stops the other's points, and the other way round: moved back they go down.
    down, up = [True] * 5 + [False] * 2, [False] * 2 + [True] * 5
    assert p._within_walls(d).tolist() == [down, up, up, down][wall]


# Shifts.


def by_hand(base, other, reach, noise=0.0):
    """The definition, of 129 shifts."""
    p = Points.of(base, other)
    d = np.linspace(*reach, 129)
    level = next(
        v for v in (0, 0.01, 0.02, 0.04, 0.07, 0.1, 0.15, 0.3) if p.pass_at(d, v, noise).any()
    )
    best = d[p.pass_at(d, level, noise)]
    open_ = d[p.pass_at(d, level + 0.1, noise)]
    low = reach[0] if open_[0] == reach[0] else open_[0] - (d[1] - d[0])
    high = reach[1] if open_[-1] == reach[1] else open_[-1] + (d[1] - d[0])
    return level, ((best[0] + best[-1]) / 2, low, high)


@pytest.mark.parametrize(
    ("factor", "level"),
    [
        *((1.0, 0), (1.015, 0.01), (1.03, 0.02), (1.06, 0.04)),
        *((1.12, 0.07), (1.17, 0.1), (1.3, 0.15), (1.6, 0.3)),
    ],
)
@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_shapes_that_differ_by_a_factor(factor, level, noise):
    other = valley(X + 0.1, factor * X**2)
    reach = (-0.5, 0.7)
    needed, expected = by_hand(BOWL, other, reach, noise)
    assert needed == level or noise
    found = shift(BOWL, other, reach, noise)
    assert (found.value, found.low, found.high) == pytest.approx(expected, abs=1e-12)
    assert found.value == pytest.approx(0.1, abs=0.05)


def test_a_reach_without_an_end_is_tried_as_far_as_the_grids_overlap():
    """From -4 to 4 + 1 they are nine doublings long: shifts from -9 to 9, or to an end there is."""
    for by in (1, -1):
        other = valley(X + by, X**2)
        for reach, ends in (
            ((-INF, INF), (-9.0, 9.0)),
            ((-INF, 2.0), (-9.0, 2.0)),
            ((-2.0, INF), (-2.0, 9.0)),
        ):
            found = shift(BOWL, other, reach)
            expected = by_hand(BOWL, other, ends)[1]
            assert (found.value, found.low, found.high) == pytest.approx(expected, abs=1e-12)


def test_an_end_of_the_reach_that_passes_is_kept():
    found = shift(BOWL, BOWL, (-0.05, 0.01))
    assert (found.low, found.high) == (-0.05, 0.01)
    assert shift(BOWL, BOWL, (-0.05, INF)).low == -0.05
    # Where no level is enough all of it is left.
    other = valley(X, np.where(X < 0, 25.0, 1 / 25) * X**2)
    found = shift(BOWL, other, (0.3, 0.9))
    assert (found.value, found.low, found.high) == (0.3, 0.3, 0.9)
    found = shift(BOWL, over([3, 2, 1]), (-0.5, 0.7))
    assert (found.value, found.low, found.high) == (0.7, -0.5, 0.7)


# Points that are used.


def test_few_points_far_away_and_many_near():
    # Steps of 1.5: three on either side however far; of 0.7: two doublings hold two, three are used;
    # of 0.4 five; of 0.2 six at most.
    for step, count in ((1.5, 3), (1.0, 3), (0.7, 3), (0.5, 4), (0.4, 5), (0.2, 6)):
        x = step * np.arange(-12.0, 13.0)
        points, walls = near(valley(x, x**2))
        assert (points.start, points.stop) == (12 - count, 13 + count)
        assert walls == (-INF, INF)


def test_walls_beside_the_points():
    r = Valley(X, X**2, 4, (0, 8), (-5.0, 5.0))
    assert near(r)[1] == (-INF, INF)
    r = Valley(X[1:8], X[1:8] ** 2, 3, (0, 6), (-4.0, 4.0))
    assert near(r)[1] == (-4.0, 4.0)
    r = Valley(X[1:8], X[1:8] ** 2, 3, (1, 5), (-4.0, 4.0))
    assert near(r) == (slice(1, 6), (-INF, INF))


# Moves.


def test_moves_are_least_squares_by_the_slope():
    """On an uneven grid, with what diverged on both sides: of the difference by slope and constant."""
    x = np.array([-6.0, -4, -3, -1.5, 0, 1, 3, 4, 5])
    usual = np.where((x > -5) & (x < 4.5), 0.1 * x**2, INF)
    r = valley(x, usual)
    rng = np.random.default_rng(0)
    change = 0.01 * rng.standard_normal(9)
    at = near(r)[0]
    slope = np.gradient(r.y, r.x)[at]
    design = np.column_stack([slope, np.ones(len(slope))])
    here = change[1:8][at]
    expected = -np.linalg.lstsq(design, here, rcond=None)[0][0]
    assert moved(r, usual + change, usual, x) == pytest.approx(expected, rel=1e-9)
    assert moved(r, usual + 0.7, usual, x) == pytest.approx(0, abs=1e-12)


def test_moves_of_few_points():
    three = over([1, 0, 1])
    assert moved(three, np.array([1.1, 0, 0.9]), np.array([1.0, 0, 1]), np.arange(3.0)) == (
        pytest.approx(0.1)
    )
    # Two points, or one, that one convex curve may pass say nothing, whatever a cliff beside them does.
    for y in ([1, 0], [1, 0, 3, 3.1], [3.1, 3, 0, 1], [0, 3, 3.1], [INF, 1, INF]):
        usual, x = np.array(y, float), np.arange(float(len(y)))
        assert moved(valley(x, usual), usual + 0.1 * x**2, usual, x) == 0


# Smooth minima.


def test_points_of_a_model():
    assert window(valley(X, X**2)) == slice(2, 7)
    assert window(over([9, 4, 1, 0, 1])) == slice(1, 5)
    assert window(over([1, 0, 1, 4, 9])) == slice(0, 4)
    # A cliff's top is left out.
    assert window(over([9, 4, 1, 0, 5, 5.1])) == slice(1, 4)


def test_one_parabola_is_that_of_polyfit():
    rng = np.random.default_rng(0)
    x = np.array([-5.0, -3.0, -2.5, -1.0, 0.0])
    y = 0.3 * (x + 2.3) ** 2 + 0.5 + 0.01 * rng.standard_normal(5)
    r = valley(x, y)
    c, b, a = np.polyfit(x, y, 2)
    v = vertex(r, 1)
    assert (v.x, v.value) == pytest.approx((-b / (2 * c), a - b * b / (4 * c)))
    assert v.bends == pytest.approx((2 * c, 2 * c))
    miss = ((np.polyval([c, b, a], x) - y) ** 2).sum() / 2
    assert v.misfit == pytest.approx(miss**0.5)
    four = valley(x[:4], y[:4])
    c, b, a = np.polyfit(x[:4], y[:4], 2)
    miss = ((np.polyval([c, b, a], x[:4]) - y[:4]) ** 2).sum()
    assert vertex(four, 1).misfit == pytest.approx(miss**0.5)


def halves(x, y, at):
    """Least squares of a + b·min(u, 0)² + c·max(u, 0)² and what it misses."""
    u = x - at
    basis = np.column_stack([np.ones(len(x)), np.minimum(u, 0) ** 2, np.maximum(u, 0) ** 2])
    c = np.linalg.lstsq(basis, y, rcond=None)[0]
    return c, ((basis @ c - y) ** 2).sum()


@pytest.mark.parametrize("seed", range(6))
def test_two_parabolas_are_the_best_of_a_thousand_places(seed):
    """The vertex is one of 1025 between the neighbours, and as good as the best of them nearby."""
    rng = np.random.default_rng(seed)
    x = np.array([-2.0, -1.0, 0.0, 1.5, 2.5])
    at = rng.uniform(-0.3, 0.5)
    y = np.where(x < at, 0.05, 0.3) * (x - at) ** 2 + 1.0 + 0.002 * rng.standard_normal(5)
    r = valley(x, y)
    assert r.best == 2
    v = vertex(r, 2)
    place = (v.x + 1.0) / 2.5 * 1024
    assert place == pytest.approx(round(place), abs=1e-6)
    c, miss = halves(x, y, v.x)
    assert v.value == pytest.approx(c[0], abs=1e-9)
    assert v.bends == pytest.approx(2 * c[1:], rel=1e-6)
    assert v.misfit == pytest.approx(miss**0.5, rel=1e-6, abs=1e-9)
    for step in (-2.5 / 1024, 2.5 / 1024):
        assert halves(x, y, v.x + step)[1] >= miss * (1 - 1e-9)


def test_two_parabolas_of_six_points():
    """Two degrees of freedom, where a window holds six: none does, so by hand."""
    x = np.array([-3.0, -2, -1, 0, 1, 2])
    y = np.where(x < 0.1, 0.05, 0.3) * (x - 0.1) ** 2
    y = y + 0.01 * np.array([1, -1, 1, -1, 1, -1])
    v = smooth._two(x, y, -1.0, 1.0)
    assert v.misfit == pytest.approx((halves(x, y, v.x)[1] / 2) ** 0.5)


def test_two_parabolas_bend_upwards():
    """Where the best of all would bend downwards on a side, none is there."""
    assert smooth._two(X[2:7], -(X[2:7] ** 2), -1.0, 1.0) is None
    assert vertex(over([1, 1.5, 0, 1, 4]), 2) is None
    flat = smooth._two(np.arange(-2.0, 3), np.array([4.0, 1, 0, 0, 0]), -1.0, 1.0)
    assert flat is None or min(flat.bends) > 0


def test_a_vertex_lies_between_the_neighbours():
    for y, inside in (([3.0, 0.0, 0.1, 0.2], False), ([3.0, 0.0, 0.1, 0.35], True)):
        c, b, _ = np.polyfit(np.arange(4.0), y, 2)
        assert (-b / (2 * c) < 2) == inside
        for r, at in ((over(y), -b / (2 * c)), (over(y[::-1]), 3 + b / (2 * c))):
            found = vertex(r, 1)
            assert (found.x == pytest.approx(at)) if inside else (found is None)


def test_a_model_at_the_end_is_none():
    for y in ([0, 1, 4, 9, 16], [16, 9, 4, 1, 0]):
        for sides in (1, 2):
            assert vertex(over(y), sides) is None
    # One before the end has two points on one side and one on the other: four.
    assert vertex(over([1, 0, 1, 4]), 1).x == pytest.approx(1)
    assert vertex(over([1, 0, 1, 4]), 2) is None
    # Five points, the smallest in the middle.
    assert vertex(over([4, 1, 0, 1, 4]), 2).x == pytest.approx(2, abs=2e-3)


def test_what_is_believed():
    """A misfit up to a tenth of the rise from the vertex to the lower neighbour, or two standard errors."""
    off = np.array([1, -4, 6, -4, 1.0]) / 70**0.5
    u = np.arange(-2.0, 3.0)
    for share, sides in ((0.095, 1), (0.105, 0)):
        r = valley(u, u**2 + 0.3 * np.maximum(u, 0) + share * 2**0.5 * off)
        v = vertex(r, 1)
        rise = min(r.y[1], r.y[3]) - v.value
        noise = v.misfit / 2
        assert believed(r, noise * 1.001) == 1
        if v.misfit <= 0.1 * rise:
            assert believed(r, 0.0) == 1
        else:
            assert believed(r, noise * 0.999) != 1
            assert sides == 0


# Bounds where points are not convex.


def test_bounds_at_measured_points_are_the_points():
    """Wherever they lie against a cliff."""
    for y in ([1, 0.4, 0.1, 0, 3, 2.5], [2.5, 3, 0, 0.1, 0.4, 1], [2.5, 3, 0, 2, 1]):
        r = over(y)
        for at, value in enumerate(y):
            assert below(r, at) == above(r, at) == value


def test_bounds_between_points_of_a_cliff():
    r = over([1, 0.4, 0.1, 0, 3, 2.5])
    assert (below(r, 4.5), above(r, 4.5)) == (2.5, 3)
    r = over([2.5, 3, 0, 0.1, 0.4, 1])
    assert (below(r, 0.5), above(r, 0.5)) == (2.5, 3)
    assert above(r, 1.5) == 3
    assert below(r, 1.5) == pytest.approx(-0.05)


def test_brackets_and_floors_of_a_mirror():
    """What is left is right of the mirror."""
    rng = np.random.default_rng(0)
    for _ in range(30):
        n = rng.integers(3, 9)
        x, y = np.cumsum(rng.uniform(0.5, 2, n)), rng.uniform(0, 1, n) ** 3
        y[rng.uniform(size=n) < 0.15] = INF
        if not np.isfinite(y).any():
            continue
        r, m = valley(x, y), valley(-x[::-1], y[::-1])
        assert bracket(r) == tuple(-v for v in bracket(m)[::-1])
        assert floor(r) == pytest.approx(floor(m))
        for at in rng.uniform(x[0] - 1, x[-1] + 1, 12):
            assert below(r, at) == pytest.approx(below(m, -at))
            assert above(r, at) == pytest.approx(above(m, -at))
