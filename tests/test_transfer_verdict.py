"""The verdict on an axis and what it proposes next, from hand-made numbers: every limit, exactly."""

import math
from dataclasses import replace

import numpy as np
import pytest

from leadline.intervals import Interval
from leadline.transferring import verdict
from leadline.transferring.verdict import (
    AxisMeasurement,
    AxisVerdict,
    Next,
    RateGrid,
    SizeResult,
    judge,
    monotone,
)

INF, NAN = math.inf, math.nan
RATES = np.arange(-6.0, 1.0)
STILL = (0.0, -0.1, 0.1)
CHEAP = (0.01, 0.0, 0.02)


def around(value, by):
    return Interval(value, value - by, value + by)


def size(
    n=64, lr=(0.125, 0.125, 0.25), regret=(0.0, 0.0, 0.0), edge="", stable=INF, loss=(1.0,) * 3
):
    return SizeResult(
        size=n,
        lr=Interval(*lr),
        loss=Interval(*loss),
        at_base=Interval(*loss),
        regret=Interval(*regret),
        sharpness=Interval(0.1),
        edge=edge,
        stable=Interval(stable),
    )


def measured(*sizes, drift=STILL, grid=None, regret=CHEAP, costs=None, least=0.0):
    """With the regret of the last size; the grid alone leaves what all leaves unless given."""
    sizes = sizes or (size(32), size(64, regret=regret))
    drift, regret = Interval(*drift), sizes[-1].regret
    return AxisMeasurement(
        sizes,
        drift,
        drift if grid is None else Interval(*grid),
        regret if costs is None else Interval(*costs),
        least,
    )


# What can be answered.


@pytest.mark.parametrize(
    ("drift", "regret", "word", "reason"),
    [
        (STILL, CHEAP, "transfers", "drift is within ±0.25, and regret at "),
        ((0.0, -0.25, 0.25), (0.05, 0.0, 0.05), "transfers", "drift is within"),
        ((0.0, -0.2501, 0.2), CHEAP, "undecided", "next: "),
        ((0.0, -0.2, 0.2501), CHEAP, "undecided", "next: "),
        (STILL, (0.01, 0.0, 0.0501), "undecided", "next: "),
        ((0.3, 0.25, 0.4), CHEAP, "undecided", "next: "),
        ((-0.3, -0.4, -0.25), CHEAP, "undecided", "next: "),
        (
            (0.3, 0.2501, 0.4),
            CHEAP,
            "does not transfer",
            "drift beyond ±0.25 doublings per doubling",
        ),
        ((-0.3, -0.4, -0.2501), CHEAP, "does not transfer", "drift beyond ±0.25"),
        # Seeds too few for an interval.
        ((0.0, NAN, NAN), CHEAP, "undecided", "intervals need three seeds or more: --seeds 3"),
    ],
)
def test_limits_of_drift_and_regret(drift, regret, word, reason):
    found = judge(measured(drift=drift, regret=regret), RATES)
    assert found.verdict == word
    assert reason in found.reason
    assert found.next.seeds == (3 if math.isnan(drift[1]) else None)
    if word != "undecided":
        assert found.next == Next()


@pytest.mark.parametrize(
    ("regret", "costs", "least", "word"),
    [
        ((0.1, 0.06, 0.2), (0.1, 0.06, 0.2), 0.06, "does not transfer"),
        ((0.1, 0.05, 0.2), (0.1, 0.06, 0.2), 0.2, "undecided"),
        ((0.1, 0.06, 0.2), (0.1, 0.06, 0.2), 0.05, "undecided"),
        # What seeds take off the printed rate's cost they take off the least one.
        ((0.1, 0.07, 0.2), (0.1, 0.09, 0.2), 0.071, "does not transfer"),
        ((0.1, 0.07, 0.2), (0.1, 0.09, 0.2), 0.069, "undecided"),
    ],
)
def test_a_regret_counts_wherever_the_best_rate_of_the_base_is(regret, costs, least, word):
    found = judge(measured(regret=regret, costs=costs, least=least), RATES)
    assert found.verdict == word
    assert found.reason.startswith(
        "regret above 5%" if word[0] == "d" else "the intervals reach across"
    )


def test_a_size_at_which_every_rate_diverged_is_named():
    sizes = (size(32, edge="low"), size(64, edge="all diverged"), size(128, edge="all diverged"))
    assert judge(measured(*sizes), RATES) == AxisVerdict(
        "undecided",
        "every rate diverged at size 64: extend lrs downwards, --lrs 0.00390625:1:2",
        Next(RateGrid(2**-8, 1.0, 2.0)),
    )


@pytest.mark.parametrize(
    ("edges", "where"),
    [
        (("low", ""), "downwards, --lrs 0.00390625:1:2"),
        (("", "high"), "upwards, --lrs 0.015625:4:2"),
        (("high", "low"), "downwards and upwards, --lrs 0.00390625:4:2"),
        (("low", "low"), "downwards, --lrs 0.00390625:1:2"),
    ],
)
def test_an_edge_of_the_grid_is_extended(edges, where):
    sizes = [size(32 * 2**i, edge=e) for i, e in enumerate(edges)]
    found = judge(measured(*sizes), RATES)
    assert found.verdict == "undecided"
    assert where.endswith(found.next.rates.option)
    assert found.next == Next(found.next.rates)
    assert found.reason == f"the grid does not bracket every optimum: extend lrs {where}"


def test_a_rate_that_a_size_did_not_try():
    found = judge(measured(regret=(NAN, -INF, INF)), RATES)
    assert found == AxisVerdict(
        "undecided",
        "the base's best rate was not measured at size 64: give every size the same rates, "
        "--lrs 0.015625:1:2",
        Next(RateGrid(2**-6, 1.0, 2.0)),
    )


@pytest.mark.parametrize(
    ("low", "stable", "least", "sure"),
    [
        # The first rate that diverged is 2^-2; the base's best rate is there or above.
        (2**-2.0, 2**-3.0, INF, True),
        (2 ** (-2.0 - 1e-8), 2**-3.0, INF, False),
        (2 ** (-2.0 - 5e-10), 2**-3.0, INF, True),
        (2**-1.0, 2**-3.0, INF, True),
        (2**-2.5, 2**-3.0, INF, False),
        # With some choice of seeds it trains.
        (2**-2.0, 2**-3.0, 0.1, False),
        # At none of the rates the last size trains.
        (2**-6.0, NAN, INF, True),
        (2**-6.5, NAN, INF, False),
    ],
)
def test_the_base_rate_diverges(low, stable, least, sure):
    sizes = (size(32, lr=(0.5, low, 0.6)), size(64, regret=(INF, least, INF), stable=stable))
    found = judge(measured(*sizes), RATES)
    if sure:
        assert found == AxisVerdict(
            "does not transfer", "the base's rate diverges at the largest size"
        )
    else:
        such = "" if math.isnan(stable) else ", such as 0.125, at which every size trains"
        trusted = None if math.isnan(stable) else 0.125
        assert found == AxisVerdict(
            "undecided",
            f"the base's best rate is at the edge of divergence: trust a smaller one{such}",
            Next(trusted=trusted),
        )


def test_the_rate_to_trust_trains_at_every_size():
    sizes = [size(32, stable=0.5), size(64, stable=0.125), size(128, stable=INF)]
    assert ", such as 0.125, at which" in verdict._trust(sizes).reason
    assert verdict._trust(sizes).next.trusted == 0.125
    for none in (0, 1, 2):
        sizes = [size(stable=NAN if i == none else 0.5) for i in range(3)]
        assert verdict._trust(sizes).reason.endswith("trust a smaller one")
        assert verdict._trust(sizes).next.trusted is None


# What to do next.

FINE = "a finer grid, --lrs "
SEEDS = "more seeds or larger sizes"


def proposed(**how):
    """The words after "next"."""
    found = judge(measured(**how), RATES)
    assert found.verdict == "undecided"
    words = found.reason.split("; next: ")[1]
    # The same as data.
    assert words.removeprefix("a finer grid, ") == " and ".join(found.next.steps)
    assert (found.next.seeds, found.next.trusted, found.next.options) == (None, None, True)
    return words


def finer(parts):
    """Around rates of 2^-3 to 2^-2, three steps more on either side."""
    return FINE.removesuffix("--lrs ") + verdict._finer([size()], RATES, parts).option


def test_the_reason_says_what_the_grid_alone_leaves():
    found = judge(
        measured(drift=(0.0, -0.4, 0.5), grid=(0.0, -0.31, 0.42), costs=(0.01, 0.004, 0.033)), RATES
    )
    assert found.reason.startswith(
        "the intervals reach across the limits; the grid alone leaves drift -0.31 to 0.42 and regret "
        "0.4% to 3.3%; next: "
    )


@pytest.mark.parametrize(
    ("drift", "seeds", "parts"),
    [
        # .25 are left of 0, of which the seeds take theirs.
        ((0.0, -0.5, 0.5), 0.0, 2),
        ((0.0, -0.2, 0.6), 0.0, 3),
        ((0.0, -0.6, 0.2), 0.0, 3),
        ((0.0, -0.5, 0.5), 0.125, 4),
        ((0.0, -0.5, 0.5), 0.18, 8),
        ((0.0, -0.58, 0.58), 0.05, 3),
        # Of a drift beyond the limit the rest of it.
        ((0.5, 0.0, 1.0), 0.0, 2),
        ((-0.5, -1.2, 0.0), 0.0, 3),
        ((0.125, -0.375, 0.25), 0.0, 4),
        ((-0.125, -0.25, 0.375), 0.0, 4),
        # More than eight are not proposed.
        ((0.0, -1.9, 1.9), 0.0, 8),
        ((0.0, -2.5, 2.5), 0.0, 8),
    ],
)
def test_a_drift_asks_for_a_finer_grid(drift, seeds, parts):
    wide = (drift[0], drift[1] - seeds, drift[2] + seeds)
    assert proposed(drift=wide, grid=drift) == finer(parts)
    for one in ((drift[0], drift[1] - seeds, drift[2]), (drift[0], drift[1], drift[2] + seeds)):
        assert proposed(drift=one, grid=drift) == finer(parts)


@pytest.mark.parametrize(
    ("costs", "seeds", "parts"),
    [
        # .05 less .01 are left for what the grid leaves open above .01.
        ((0.01, 0.0, 0.075), 0.0, 2),
        ((0.01, 0.0, 0.125), 0.0, 3),
        ((0.01, 0.0, 0.105), 0.02, 5),
        ((0.01, 0.0, 0.9), 0.0, 8),
    ],
)
def test_a_regret_asks_for_a_finer_grid(costs, seeds, parts):
    regret = (costs[0], costs[1], costs[2] + seeds)
    assert proposed(regret=regret, costs=costs) == finer(parts)


def test_the_finer_of_two_grids_is_proposed():
    costs = (0.01, 0.0, 0.125)
    assert proposed(drift=(0.0, -0.9, 0.9), regret=costs) == finer(4)
    assert proposed(drift=(0.0, -0.3, 0.3), regret=costs) == finer(3)


def test_a_regret_above_the_limit_asks_for_the_finest_grid_alone():
    """No grid makes the printed rate cheaper: another best rate of the base may be."""
    assert proposed(regret=(0.08, 0.0, 0.2)) == finer(8)
    assert proposed(regret=(0.08, 0.06, 0.2), least=0.01) == finer(8)


@pytest.mark.parametrize(
    "how",
    [
        # The grid decides: it is within the limits, or beyond them.
        dict(drift=(0.0, -0.3, 0.3), grid=(0.0, -0.1, 0.1)),
        dict(drift=(0.0, -0.3, 0.3), grid=(0.0, -0.25, 0.25), costs=(0.01, 0.0, 0.05)),
        dict(drift=(0.4, 0.2, 0.6), grid=(0.4, 0.3, 0.5)),
        dict(regret=(0.08, 0.04, 0.12), costs=(0.08, 0.06, 0.1), least=0.06),
        dict(drift=(0.4, 0.2, 0.6), grid=(0.4, 0.3, 0.5), regret=(0.01, 0.0, 0.08)),
    ],
)
def test_where_the_grid_decides_seeds_are_asked_for(how):
    assert proposed(**how) == SEEDS


@pytest.mark.parametrize(
    "how",
    [
        # The seeds alone are as wide as the limits; at the limit no grid leaves room.
        dict(drift=(0.0, -0.55, 0.5), grid=(0.0, -0.3, 0.3)),
        dict(drift=(0.0, -0.5, 0.55), grid=(0.0, -0.3, 0.3)),
        dict(drift=(0.25, -0.3, 0.8), grid=(0.25, -0.3, 0.8)),
        dict(regret=(0.01, 0.0, 0.13), costs=(0.01, 0.0, 0.08)),
        dict(regret=(0.05, 0.0, 0.08), costs=(0.05, 0.0, 0.08)),
    ],
)
def test_where_neither_is_enough_both_are_asked_for(how):
    assert proposed(**how) == f"{finer(2)} and {SEEDS}"


def test_the_last_size_decides_what_is_asked_for():
    sizes = (size(32), size(48, regret=(0.0, 0.0, 0.0)), size(64, regret=(0.01, 0.0, 0.13)))
    found = judge(measured(*sizes, costs=(0.01, 0.0, 0.08)), RATES)
    assert found.reason.endswith(f"; next: {finer(2)} and {SEEDS}")


@pytest.mark.parametrize(
    ("open_part", "room", "parts"),
    [
        *((0.1, 0.1, 2), (0.3, 0.1, 3), (0.31, 0.1, 4), (0.0, 0.1, 2)),
        *((7.0, 1.0, 7), (7.5, 1.0, 8), (8.0, 1.0, 8), (9.0, 1.0, 8)),
        *((0.1, 0.0, 8), (0.1, -1.0, 8), (INF, 1.0, 8), (NAN, 1.0, 8)),
    ],
)
def test_parts_of_a_step(open_part, room, parts):
    assert verdict._parts(open_part, room) == parts


# Grids.


def grid(option):
    """First, last, factor and count, all but the last in log2."""
    first, last, factor = (math.log2(v) for v in (option.first, option.last, option.factor))
    return pytest.approx((first, last, factor), abs=2e-4), round((last - first) / factor) + 1


def test_a_finer_grid_lies_around_every_best_rate():
    sizes = [size(lr=(0.2, 2**-2.0, 2**-1.0)), size(lr=(0.2, 2**-3.0, 2**-1.5))]
    assert grid(verdict._finer(sizes, RATES, 2)) == ((-4.5, 0.5, 0.5), 11)
    assert grid(verdict._finer(sizes, RATES, 4)) == ((-3.75, -0.25, 0.25), 15)
    # The last rate is not lost where the steps do not end there.
    sizes = [size(lr=(0.2, 2**-3.0, 2**-1.8))]
    assert grid(verdict._finer(sizes, RATES, 2)) == ((-4.5, 0.0, 0.5), 10)
    # Steps are the grid's usual ones.
    assert grid(verdict._finer(sizes, np.array([-8.0, -4, -3, -2, -1]), 2)) == (
        (-4.5, 0.0, 0.5),
        10,
    )
    assert grid(verdict._finer(sizes, RATES / 2, 1)) == ((-4.5, 0.0, 0.5), 10)


def test_a_finer_grid_ends_two_steps_beyond_the_old_one():
    wide = [size(lr=(0.2, 0.0, INF))]
    assert grid(verdict._finer(wide, RATES, 2)) == ((-9.5, 3.5, 0.5), 27)
    assert grid(verdict._finer(wide, 2 * RATES, 2)) == ((-19.0, 7.0, 1.0), 27)
    near = [size(lr=(0.2, 2**-7.5, 2**1.5))]
    assert grid(verdict._finer(near, RATES, 2)) == ((-9.0, 3.0, 0.5), 25)


def test_an_extended_grid_keeps_its_step():
    assert verdict._extended(RATES, []).option == "--lrs 0.015625:1:2"
    assert verdict._extended(RATES, ["low"]).option == "--lrs 0.00390625:1:2"
    assert verdict._extended(RATES, ["high"]).option == "--lrs 0.015625:4:2"
    assert verdict._extended(np.arange(0.0, 9, 2), ["high", "low"]).option == "--lrs 0.0625:4096:4"
    assert (
        verdict._extended(np.array([0.0, 0.5, 1.0]), ["low"]).option == "--lrs 0.5:1.99998:1.41421"
    )


def test_an_option_does_not_lose_its_last_rate():
    """Six digits, the last rate rounded up where it would be below."""
    assert verdict._lrs(-3.0, 1.0, 6).option == "--lrs 0.125:4:2"
    assert verdict._lrs(0.0, math.log2(1.5), 8).option == "--lrs 1:17.0861:1.5"  # 17.0859375
    assert verdict._lrs(0.0, math.log2(1.5), 10).option == "--lrs 1:38.4434:1.5"  # 38.443359
    assert (
        verdict._lrs(math.log2(1.1), math.log2(6.8), 4).option == "--lrs 1.1:345.879:6.8"
    )  # 345.8752
    for low, factor, count in ((0.3, 1.7, 9), (-7.7, 1.09, 40), (2.2, 3.3, 4)):
        first, top, by = (float(v) for v in verdict._lrs(low, factor, count).option[6:].split(":"))
        assert (first, by) == pytest.approx((2**low, 2**factor), rel=1e-5)
        assert 1 - 1e-9 <= top / (first * by ** (count - 1)) < 1 + 2e-5


# Does more of an axis help?


@pytest.mark.parametrize(
    ("first", "last", "word"),
    [
        ((1.0, 0.9, 1.1), (0.8, 0.7, 0.89), "yes"),
        ((1.0, 0.9, 1.1), (0.8, 0.7, 0.9), "undecided"),
        ((1.0, 0.9, 1.1), (1.2, 1.1, 1.3), "undecided"),
        ((1.0, 0.9, 1.1), (1.2, 1.11, 1.3), "no"),
        ((1.0, 0.9, 1.1), (INF, INF, INF), "no"),
        ((1.0, 0.9, 1.1), (INF, 0.5, INF), "undecided"),
        ((1.0, 0.9, 1.1), (INF, 1.2, INF), "undecided"),
        ((1.0, NAN, NAN), (0.5, NAN, NAN), "undecided"),
    ],
)
def test_the_largest_size_against_the_base(first, last, word):
    middle = size(48, loss=(5.0, 4.0, 6.0))
    assert monotone([size(32, loss=first), middle, size(64, loss=last)]) == word


@pytest.mark.parametrize(
    ("after", "steps", "elsewhere"),
    [
        (Next(), (), ()),
        (Next(trusted=0.1), (), ()),
        (Next(seeds=3), ("--seeds 3",), ("three seeds of every size and rate",)),
        (Next(seeds=5), ("--seeds 5",), ("5 seeds of every size and rate",)),
        (
            Next(RateGrid(0.0001, 0.1, 2), 3, True),
            ("--lrs 0.0001:0.1:2", "--seeds 3", "more seeds or larger sizes"),
            (
                "rates from 0.0001 to 0.1 by factors of 2",
                "three seeds of every size and rate",
                "more seeds or larger sizes",
            ),
        ),
    ],
)
def test_what_to_run_next_as_data_and_in_words(after, steps, elsewhere):
    assert after.steps == steps
    assert replace(after, options=False).steps == elsewhere
