"""Which smooth minima are believed: a misfit against the lower neighbour's rise and the noise."""

import numpy as np
import pytest

from leadline.transferring.bounds import valley
from leadline.transferring.smooth import _two, believed, vertex

X = np.arange(-2.0, 3.0)
# What no parabola through five points fits, of length 1.
OFF = np.array([1, -4, 6, -4, 1.0]) / 70**0.5


@pytest.mark.parametrize("side", [-1, 1])
def test_the_lower_neighbour_counts(side):
    """A parabola about .3: its neighbours rise by .49 and 1.69, those beyond by more."""

    def points(misfit):
        return valley(X, (X - 0.3 * side) ** 2 + misfit * 2**0.5 * OFF)

    assert vertex(points(0.04), 1).misfit == pytest.approx(0.04)
    assert believed(points(0.04), 0.0) == 1
    # Two parabolas miss it too.
    assert believed(points(0.1), 0.0) == 0
    assert believed(points(0.1), 0.04) == 0
    assert believed(points(0.1), 0.0501) == 1


@pytest.mark.parametrize("side", [-1, 1])
def test_two_parabolas_both_bend_upwards(side):
    """Of points that bend down on one side there is no such fit, or one that bends up on both."""
    x = side * X
    found = _two(X, np.where(x < 0, -0.1, 0.3) * x**2, -1.0, 1.0)
    assert found is None or min(found.bends) > 0


@pytest.mark.parametrize("side", [-1, 1])
def test_a_vertex_beyond_the_neighbour_is_sought_up_to_it(side):
    assert _two(X, (X - 1.3 * side) ** 2, -1.0, 1.0).x == side
