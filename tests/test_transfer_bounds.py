"""What measured points say between them, by hand: bounds, smooth minima, shifts, single landscapes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leadline.transferring.bounds import above, below, bracket, floor, valley
from leadline.transferring.smooth import believed, vertex, window

INF = np.inf


def over(y, x=None):
    y = np.array(y, float)
    return valley(np.arange(len(y), dtype=float) if x is None else np.array(x, float), y)


# Runs.


def test_a_run_ends_where_training_diverges():
    r = over([INF, 3, 1, 2, INF, 0.5 + 1, INF])
    assert (r.x.tolist(), r.y.tolist(), r.best, r.ends) == ([1, 2, 3], [3, 1, 2], 1, (0, 4))
    r = over([3, 1, 2])
    assert (r.best, r.ends, r.convex) == (1, (-INF, INF), (0, 2))
    # The smallest of all decides, wherever it is.
    assert over([1, INF, 0.5, 2]).x.tolist() == [2, 3]
    assert over([1, INF, 0.5, 2]).ends == (1, INF)
    assert over([INF, INF]) is None


def test_convex_points_end_before_the_top_of_a_cliff():
    # Rises of 1, 2, then 1: the third point is the top of a cliff.
    assert over([0, 1, 3, 4, 9]).convex == (0, 1)
    assert over([9, 4, 3, 1, 0]).convex == (3, 4)
    assert over([0, 3, 4]).convex == (0, 0)
    # A tenth flatter still counts, for rounding and noise.
    assert over([0, 1, 1.91]).convex == (0, 2)
    assert over([0, 1, 1.89]).convex == (0, 0)
    # Rises are by the step: 2 over 2 steps is flatter than 1.5 over one.
    assert over([0, 1.5, 3.5], x=[0, 1, 3]).convex == (0, 0)
    assert over([0, 1.5, 4.7], x=[0, 1, 3]).convex == (0, 2)


def test_slopes_and_cells():
    r = over([4, 1, 0, 2, 3], x=[-4, -2, -1, 0, 2])
    assert [r.slope(i) for i in range(4)] == [-1.5, -1, 2, 0.5]
    assert [r.within(i) for i in range(-1, 5)] == [False, True, True, False, False, False]


# Bounds of a convex function: a parabola through integers.


PARABOLA = over(np.arange(-3, 4) ** 2, x=np.arange(-3, 4))


def test_bounds_of_a_parabola():
    # Secants beyond: slope -3 from (-1, 1) and 3 from (1, 1) come down to 0 a third of the way.
    assert bracket(PARABOLA) == pytest.approx((-2 / 3, 2 / 3))
    # In [0, 1]: -u and 3u - 2 meet at one half.
    assert floor(PARABOLA) == pytest.approx(-0.5)
    assert below(PARABOLA, 0.25) == pytest.approx(-0.25)
    assert below(PARABOLA, 0.75) == pytest.approx(0.25)
    assert below(PARABOLA, -0.75) == pytest.approx(0.25)
    assert above(PARABOLA, 0.25) == pytest.approx(0.25)
    # In [1, 2] the secants are 1 + (u - 1) and 4 + 5(u - 2).
    assert below(PARABOLA, 1.5) == pytest.approx(1.5)
    assert below(PARABOLA, 1.9) == pytest.approx(3.5)
    assert above(PARABOLA, 1.5) == pytest.approx(2.5)
    # In the last cell there is one secant, and at points nothing is open.
    assert below(PARABOLA, 2.5) == pytest.approx(5.5)
    for x in range(-3, 4):
        assert below(PARABOLA, x) == above(PARABOLA, x) == x**2
    for f in (below, above):
        assert (
            f(PARABOLA, 3.1) == f(PARABOLA, -3.1) == (INF if f is above else below(PARABOLA, 3.1))
        )


def test_bounds_on_an_uneven_grid():
    r = over([6, 2, 0, 1, 9], x=[-4, -2, 0, 1, 3])
    # Left: slope -2 from (-2, 2) reaches 0 at -1; right: slope 4 from (1, 1) at 3/4.
    assert bracket(r) == pytest.approx((-1, 0.75))
    # [-1, 0]: 2 - 2(u + 2) and u meet at -2/3; [0, 3/4]: -u and 1 + 4(u - 1) at 3/5.
    assert floor(r) == pytest.approx(-2 / 3)


def test_straight_lines_pin_the_minimum():
    """Two straight sides leave the kink alone, at a point and between two."""
    r = over([3, 2, 1, 0, 2, 4])
    assert bracket(r) == (3, 3)
    assert floor(r) == 0
    r = over(np.where((x := np.arange(6.0)) < 2.5, 2.5 - x, 3 * (x - 2.5)))
    assert bracket(r)[0] == 2
    assert bracket(r)[1] == pytest.approx(3 - 1 / 3)
    assert floor(r) == pytest.approx(0)
    assert below(r, 2.5) == pytest.approx(0)
    # A rise of nothing leaves nothing beyond it.
    assert bracket(over([1, 0, 0, 0])) == (0, 2)


def test_a_flat_bottom():
    r = over([1, 0, 0, 1], x=[0, 1, 2, 3])
    assert bracket(r) == (0, 2)
    assert over([2, 1, 0, 0, 0, 1]).best == 2
    # In [1, 2]: -(u - 1) and u - 2 meet at 3/2.
    assert floor(r) == -0.5


def test_a_cliff_leaves_its_cell_open():
    # 1, .4, .1, 0 | 3, 3.1: the jump may be anywhere before 3.
    r = over([1, 0.4, 0.1, 0, 3, 3.1])
    # Left of 0 the fall of .3 a step comes down to 0 after a third, and may go on before a rise to 0.
    assert bracket(r) == pytest.approx((2 + 1 / 3, 4))
    assert floor(r) == pytest.approx(-0.2)
    # Right of it, up to the top of the cliff, the fall of .1 a step goes on.
    assert below(r, 3.9) == pytest.approx(-0.09)
    assert above(r, 3.1) == 3
    # Beyond it only the order counts.
    assert (below(r, 4.5), above(r, 4.5)) == (3, 3.1)


def test_divergence_leaves_its_cell_open():
    r = over([1, 0.4, 0.1, 0, INF])
    assert bracket(r) == pytest.approx((2 + 1 / 3, 4))
    assert floor(r) == pytest.approx(-0.2)
    assert below(r, 3.5) == pytest.approx(-0.05)
    assert above(r, 3.5) == INF
    assert below(r, 4) == INF
    # The same from the left.
    r = over([INF, 0, 0.1, 0.4, 1])
    assert bracket(r) == pytest.approx((0, 1 + 2 / 3))
    assert floor(r) == pytest.approx(-0.2)
    # A straight fall up to divergence goes on at most to there.
    assert floor(over([3, 2, 1, 0, INF])) == -1
    assert below(r, 0.5) == pytest.approx(-0.05)
    assert below(r, 0) == INF
    # A single rate that trained bounds nothing.
    r = over([INF, 1, INF])
    assert bracket(r) == (0, 2)
    assert (floor(r), below(r, 1.5), below(r, 0.5), below(r, 1), above(r, 1)) == (
        -INF,
        -INF,
        -INF,
        1,
        1,
    )
    # Before divergence from a cliff neither.
    assert below(over([0, 3, 3.1, INF]), 2.5) == -INF


def test_the_end_of_the_grid_is_open():
    assert bracket(over([3, 2, 1])) == (2, INF)
    assert floor(over([3, 2, 1])) == -INF
    assert bracket(over([1, 2, 4]))[0] == -INF
    assert floor(over([1, 2, 4])) == -INF
    # Three points: nothing beyond the neighbours bounds the two cells.
    r = over([1, 0, 1])
    assert bracket(r) == (0, 2)
    assert floor(r) == -1


POWERS = st.tuples(
    st.floats(0.2, 2), st.floats(0.2, 2), st.floats(0.1, 1), st.floats(0.05, 2), st.floats(-1, 1)
)


@settings(max_examples=80, deadline=None)
@given(POWERS, st.sampled_from([0.5, 1.0, 2.0]), st.floats(-3, 3))
def test_a_convex_function_is_within_its_bounds(powers, step, at):
    p, q, share, cut, centre = powers

    def f(u):
        smooth = np.log1p(share * ((q * 2 ** (-p * u) + p * 2 ** (q * u)) / (p + q) - 1))
        return np.where(u < cut, smooth, INF)

    x = np.arange(-6.0, 6.1, step)
    r = valley(x, f(x - centre))
    low, high = bracket(r)
    assert low - 1e-9 <= centre <= high + 1e-9
    assert floor(r) <= 1e-12
    value = float(f(np.array(at - centre)))
    assert below(r, at) <= value + 1e-9
    if np.isfinite(value) and r.x[0] <= at <= r.x[-1]:
        assert value <= above(r, at) + 1e-9


# Smooth minima.


def test_a_parabola_is_found_exactly():
    x = np.arange(-6.0, 1.0)
    r = valley(x, 0.3 + 0.2 * (x + 2.3) ** 2)
    assert (window(r).start, window(r).stop) == (2, 7)
    assert believed(r, 0.0) == 1
    v = vertex(r, 1)
    assert (v.x, v.value) == pytest.approx((-2.3, 0.3))
    assert v.bends == pytest.approx((0.4, 0.4))
    assert v.misfit == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("centre", [-2.9, -2.5, -2.3, -2.0])
def test_two_parabolas_with_one_vertex_are_found(centre):
    x = np.arange(-6.0, 2.0)
    u = x - centre
    r = valley(x, 0.3 + np.where(u < 0, 0.01, 0.15) * u**2)
    assert believed(r, 0.0) == 2
    v = vertex(r, 2)
    assert v.x == pytest.approx(centre, abs=0.01)
    assert v.value == pytest.approx(0.3, abs=0.001)
    assert v.bends == pytest.approx((0.02, 0.3), rel=0.05)
    assert v.misfit < 1e-3


def test_the_misfit_is_a_root_mean_square_a_degree_of_freedom():
    # Five points, y = u² + e·(1, -4, 6, -4, 1)/√70: the part that no parabola fits has length e.
    u = np.arange(-2.0, 3.0)
    off = np.array([1, -4, 6, -4, 1.0]) / 70**0.5
    assert vertex(valley(u, u**2 + 0.02 * off), 1).misfit == pytest.approx(0.02 / 2**0.5)
    # Believed up to a tenth of the rise to the nearer neighbour, about 1 here, or twice the noise.
    assert believed(valley(u, u**2 + 0.13 * off), 0.0) == 1
    assert believed(valley(u, u**2 + 0.17 * off), 0.0) != 1
    assert believed(valley(u, u**2 + 0.17 * off), 0.07) == 1
    assert believed(valley(u, u**2 + 0.17 * off), 0.03) != 1


def test_what_supports_no_vertex():
    # Three points determine a parabola and cannot miss it; four support one side, not two.
    assert vertex(over([1, 0, 1]), 1) is None
    assert vertex(over([4, 1, 0, 1]), 1) is not None
    assert vertex(over([4, 1, 0, 1]), 2) is None
    assert vertex(over([9, 4, 1, 0]), 1) is None
    assert vertex(over([0, 1, 4, 9]), 1) is None
    # A cliff, a kink and a straight fall are no parabolas.
    assert believed(over([0.02, 0.005, 0, 0.64]), 0.0) == 0
    assert believed(over([0.4, 0.2, 0, 0.6, 1.2]), 0.0) == 0
    assert believed(over([3, 2, 1, 0, INF]), 0.0) == 0
    # The vertex stays between the neighbours of the smallest point.
    u = np.arange(-2.0, 3.0)
    for sides in (1, 2):
        v = vertex(valley(u, np.array([0.3, 0.1, 0.0, 1.0, 2.1])), sides)
        assert v is None or -1 <= v.x <= 1
    # Concave points have no minimum.
    assert vertex(over([0.1, 1, 0, 1, 0.1]), 1) is None
