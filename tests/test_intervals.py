"""Intervals as text, and the statistics that make them, by hand."""

import math

import numpy as np
import pytest

from leadline.intervals import Interval, exponent, percentiles, slope, written

INF, NAN = math.inf, math.nan


def test_an_interval_as_text():
    some = Interval(0.08, -0.001, 0.15)
    assert f"{some}" == str(some) == "0.08 [-0.001, 0.15]"
    assert f"{some:w}" == written(0.08, -0.001, 0.15)
    assert f"{some:.1f}" == "0.1 [-0.0, 0.1]"
    assert Interval(INF, 20.0, INF).cells() == ("∞", "20", "∞")
    assert Interval(1.23456, -1.0, 2.0).cells(".2g") == ("1.2", "-1", "2")
    assert str(Interval(1.0)) == "1"


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ((None,), ""),
        ((None, 1.0, 2.0), ""),
        ((-1.5,), "−1.5"),
        ((1.5, 1.0), "1.5"),
        ((1.5, None, 2.0), "1.5"),
        # Two digits of the width: .0036, .151, 30, 1e-9 and less.
        ((0.030512, 0.02871, 0.03229), "0.0305 [0.0287, 0.0323]"),
        ((0.08, -0.001, 0.15), "0.08 [0.00, 0.15]"),
        ((0.0801, 0.08, 0.081), "0.0801 [0.0800, 0.0810]"),
        ((0.5, 0.0, 1.0), "0.5 [0.0, 1.0]"),
    ],
)
def test_a_number_has_two_digits_of_its_intervals_width(numbers, text):
    assert written(*numbers) == text


@pytest.mark.parametrize(
    "numbers",
    [(1.0, 1.0, 1.0), (1.0, 0.5, INF), (2e7, 1e7, 3e7), (1e-9, 0.0, 2e-9), (1.0, 2.0, 0.0)],
)
def test_where_plain_decimals_do_not_serve_the_ends_are_told_apart(numbers):
    said = written(*numbers)
    assert said.count(",") == 1
    assert "nan" not in said
    assert "0.00 [" not in said


def test_percentiles_enclose_every_model():
    first = np.array([5.0, *range(0, 101)])
    # Powers of two, which are exact: the 12.5th to the 87.5th of 0, 1, …, 100, outwards.
    assert percentiles([first], 0.75) == Interval(5.0, 5.0, 88.0)
    assert percentiles([np.array([50.0, *first[1:]])], 0.75) == Interval(50.0, 12.0, 88.0)
    assert percentiles([first], 0.5) == Interval(5.0, 5.0, 75.0)
    second = np.array([1000.0, *range(-100, 1)])
    # The second's own estimate is not counted; its draws are.
    assert percentiles([first, second], 0.75) == Interval(5.0, -88.0, 88.0)
    assert percentiles([second, first], 0.75) == Interval(1000.0, -88.0, 1000.0)
    # Ends are draws: the next one outwards.
    assert percentiles([np.array([0.0, -1.0, 1.0])], 0.9) == Interval(0.0, -1.0, 1.0)
    assert percentiles([np.array([3.0])], 0.9) == Interval(3.0, 3.0, 3.0)


def test_slopes_are_floats_of_logarithms():
    sizes = [1, 2, 4, 8]
    assert slope(sizes, [-(s**-1.5) for s in sizes]) == pytest.approx(-1.5, abs=1e-12)
    assert type(slope(sizes, sizes)) is float
    values = np.array([[100.0, 2.0**0.5, 2.0, 8.0**0.5]] * 3)
    assert exponent(sizes, values, last=3).value == pytest.approx(0.5, abs=1e-12)
    assert exponent(sizes, values).value < 0
