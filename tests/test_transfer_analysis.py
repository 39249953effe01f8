"""The analysis of learning-rate landscapes, on planted ones."""

import numpy as np
import pytest
from scipy import stats

from leadline.cli.values import numbers
from leadline.intervals import stretch
from leadline.transferring import analysis
from leadline.transferring.analysis import analyse, measure
from leadline.transferring.landscapes import Landscape
from leadline.transferring.optimum import stable


def planted(drift, sizes=(32, 64, 128), noise=0.003, seeds=4, curvature=0.1, x=None, shared=0.0):
    """log loss = floor(size) + curvature/2·(x - x*(size))², x* moving by ``drift`` a doubling."""
    rng = np.random.default_rng(1)
    x = np.arange(-8.0, 1.0) if x is None else x
    together = shared * rng.standard_normal((len(x), seeds))
    out = {}
    for i, size in enumerate(sizes):
        y = -0.1 * i + 0.5 * curvature * (x - (-4.2 + drift * i)) ** 2
        own = noise * rng.standard_normal((len(x), seeds))
        out[size] = Landscape(x, np.exp(y[:, None] + own + together))
    return out


def same(losses, x, sizes=(64, 256), seeds=3, noise=0.001):
    """One landscape at every size, but for noise."""
    rng = np.random.default_rng(0)
    with np.errstate(divide="ignore"):
        y = np.log(np.array(losses))[:, None]
    return {
        s: Landscape(x, np.exp(y + noise * rng.standard_normal((len(x), seeds)))) for s in sizes
    }


def lopsided(u):
    """Log loss that rises fifteen times faster above the best rate than below."""
    return np.where(u < 0, 0.01, 0.15) * u**2


def held(estimate, value):
    return estimate.low <= value <= estimate.high


# Verdicts.


def test_planted_transfer_and_drift():
    still = analyse("auto", "width", planted(0.0))
    assert still.verdict == "transfers", still.reason
    assert (still.scheme, still.axis) == ("auto", "width")
    assert still.reason == "drift is within ±0.25, and regret at 128 at most 5%"
    assert held(still.drift, 0)
    sharpness = still.sizes[-1].sharpness
    assert held(sharpness, 0.1)
    assert sharpness.value == pytest.approx(0.1, rel=0.3)
    assert still.monotone == "yes"
    moving = analyse("sp", "width", planted(-1.0))
    assert moving.verdict == "does not transfer"
    assert moving.reason == "drift beyond ±0.25 doublings per doubling"
    assert held(moving.drift, -1)
    assert moving.drift.value == pytest.approx(-1, abs=0.1)
    # Two doublings off the optimum: exp(curvature/2·4) - 1.
    assert held(moving.sizes[-1].regret, np.expm1(0.2))
    up = analyse("sp", "width", planted(1.0, x=np.arange(-8.0, 3.0)))
    assert (up.verdict, held(up.drift, 1)) == ("does not transfer", True)


def test_the_same_landscape_transfers_on_a_cliff():
    """A parabola through 1.0 and 1.9 would claim a loss of .914 and a regret of the base itself."""
    found = analyse("s", "width", same([1.02, 1.005, 1.0, 1.9, np.inf], np.arange(-10.0, -5.0)))
    assert found.verdict == "transfers"
    assert abs(found.drift.value) < 0.01
    for s in found.sizes:
        assert s.loss.value == pytest.approx(1.0, abs=0.002)
        # Convexity: the fall of .005 goes on for at most one more step, up to noise.
        assert 0.985 < s.loss.low <= s.loss.value
        assert s.regret.value < 0.001
        # The smallest point's neighbour is the farthest the best rate can be.
        assert s.lr.high == pytest.approx(2.0**-7, rel=1e-6)


@pytest.mark.parametrize("step", [1.0, 0.5, 0.25])
def test_a_lopsided_landscape_that_moves_a_little(step):
    x = np.arange(-10.0, -1.0, step)
    rng = np.random.default_rng(3)
    places = np.log2([0.015, 0.013, 0.0113])
    scapes = {
        w: Landscape(x, np.exp(lopsided(x - p)[:, None] + 0.001 * rng.standard_normal((len(x), 3))))
        for w, p in zip((64, 128, 256), places, strict=True)
    }
    found = analyse("s", "width", scapes)
    drift = (places[2] - places[0]) / 2
    assert held(found.drift, drift)
    assert found.drift.value == pytest.approx(drift, abs=0.02)
    assert found.verdict != "does not transfer"
    for s, p in zip(found.sizes, places, strict=True):
        assert held(s.lr, 2**p)
        assert s.loss.value == pytest.approx(1, abs=0.01)
    assert found.sizes[-1].regret.value == pytest.approx(
        np.expm1(0.15 * (2 * drift) ** 2), abs=0.012
    )


def power_until_divergence(x, edge):
    """(.05/lr)^.5, infinite from ``edge`` on."""
    y = np.where(x < np.log2(edge), -0.5 * np.log(2) * (x - np.log2(0.05)), np.inf)
    return np.exp(np.repeat(y[:, None], 3, 1))


def proposed(reason):
    """The rates of the option that a reason ends with."""
    assert reason.count("--lrs ") == 1
    return np.log2(numbers("lrs", reason.split("--lrs ")[1].split()[0], float))


def test_what_a_coarse_grid_cannot_see_is_left_open_and_the_next_grid_decides():
    edges = {64: 0.05, 128: 0.025}

    def at(x):
        return analyse(
            "s", "width", {w: Landscape(x, power_until_divergence(x, e)) for w, e in edges.items()}
        )

    coarse = at(np.arange(-12.0, 0.0, 2.0))
    assert coarse.verdict == "undecided"
    assert (coarse.drift.low, coarse.drift.high) == pytest.approx((-2, 2))
    assert coarse.drift.value == pytest.approx(0, abs=1e-9)
    assert coarse.sizes[0].lr.high == 2.0**-4
    assert "a finer grid, --lrs " in coarse.reason
    fine = at(proposed(coarse.reason))
    assert fine.verdict == "does not transfer"
    assert held(fine.drift, -1)


def test_a_plateau_beyond_a_cliff_hides_it_as_well():
    """The points are the same, the jump to 3 may be anywhere between two of them."""
    x = np.arange(-12.0, 0.0, 2.0)
    losses = np.where(x < np.log2(0.025), (0.05 / 2**x) ** 0.5, 3.0)
    found = analyse("s", "width", same(losses, x, sizes=(64, 128), noise=0.0))
    assert found.verdict == "undecided"
    assert held(found.drift, -1)
    assert held(found.drift, 1)


def test_a_finer_grid_that_is_proposed_decides_a_smooth_case():
    x = np.arange(-12.0, 4.0, 2.0)

    def at(x):
        scapes = {
            w: Landscape(x, np.exp(np.repeat(0.04 * (x + 4.2)[:, None] ** 2, 3, 1)))
            for w in (64, 128)
        }
        return analyse("s", "width", scapes)

    coarse = at(x)
    assert coarse.verdict == "undecided"
    assert at(proposed(coarse.reason)).verdict == "transfers"


def test_seeds_that_are_too_noisy_are_asked_for():
    found = analyse("s", "width", planted(0.0, noise=0.08, curvature=0.1, seeds=4))
    assert found.verdict == "undecided"
    assert "more seeds or larger sizes" in found.reason
    quiet = analyse("s", "width", planted(-0.22, noise=1e-5, x=np.arange(-8.0, 1.0, 0.125)))
    assert quiet.verdict == "transfers"


def test_transfer_needs_a_small_regret_too():
    """Identical places, but the floor of the bracket is far below: a steep valley on a coarse grid."""
    x = np.arange(-8.0, 1.0)
    steep = analyse("s", "width", same(np.exp(0.5 * (x + 4.0) ** 2), x, sizes=(16, 256), noise=0.0))
    assert held(steep.drift, 0)
    assert -0.25 < steep.drift.low < steep.drift.high < 0.25
    assert steep.sizes[-1].regret.high > 0.05
    assert steep.verdict == "undecided"
    assert "a finer grid" in steep.reason


def test_a_regret_above_the_limit_does_not_transfer_whatever_the_drift():
    """Over many doublings a drift within the limits costs much."""
    x = np.arange(-8.0, 1.0, 0.5)
    scapes = {
        w: Landscape(x, np.exp(np.repeat(0.5 * (x + 4 + d)[:, None] ** 2, 3, 1)))
        for w, d in ((2, 0.0), (2**5, 1.0))
    }
    found = analyse("s", "width", scapes)
    assert abs(found.drift.low) < found.drift.high + 0.6
    assert held(found.drift, -0.25)
    assert found.sizes[-1].regret.low > 0.05
    assert (found.verdict, found.reason) == ("does not transfer", "regret above 5%")


def test_the_printed_rate_may_cost_much_where_the_best_one_need_not():
    """The base's best rate can be where the other size has its own: a finer grid would find it."""
    x = np.arange(5.0)
    base, other = np.exp([0.6, 0.1, 0.0, 0.4, 1.2]), np.exp([0.5, 0.0, 0.1, 0.6, 1.3])
    scapes = {w: Landscape(x, np.stack([y] * 3, 1)) for w, y in ((2, base), (2**7, other))}
    found = measure(scapes)
    assert found.sizes[-1].regret.low == pytest.approx(np.expm1(0.1))
    assert found.costs == found.sizes[-1].regret
    assert found.least == 0
    result = analyse("s", "width", scapes)
    assert -0.25 < result.drift.low < result.drift.high < 0.25
    assert result.verdict == "undecided"
    assert "regret 10.5% to " in result.reason
    assert "next: a finer grid, --lrs " in result.reason
    # The base's bracket begins at 1.2: there this costs 1.2 in logs, and more beyond.
    steep = {2: scapes[2], 2**7: Landscape(x, np.exp(np.stack([[0.0, 1, 2, 3, 4.0]] * 3, 1)))}
    assert measure(steep).least == pytest.approx(np.expm1(1.2))


def test_divergence_counts_as_worse():
    scapes = planted(0.0)
    losses = scapes[128].losses.copy()
    losses[3:] = np.inf
    scapes[128] = Landscape(scapes[128].x, losses)
    assert stable(scapes[128].x, scapes[128].mean()) == scapes[128].x[2]
    found = analyse("sp", "width", scapes)
    assert found.verdict == "does not transfer"
    assert "diverges at the largest size" in found.reason
    assert str(found.sizes[-1].regret) == "diverged"
    assert found.monotone == "no"
    # Where the base's best rate may be the last that trains, nothing is sure.
    losses = scapes[64].losses.copy()
    losses[4:] = np.inf
    scapes[128] = Landscape(scapes[128].x, losses)
    found = analyse("sp", "width", scapes)
    assert found.verdict == "undecided"
    assert "trust a smaller one, such as 0.0312, at which every size trains" in found.reason


def test_a_base_whose_best_point_diverges_elsewhere_may_still_have_a_best_rate_that_does_not():
    x = np.arange(-6.0, -1.0)
    scapes = same([1.3, 1.1, 1.0, 1.2, 1.6], x, sizes=(64, 128), noise=0.0)
    losses = scapes[128].losses.copy()
    losses[2:] = np.inf
    scapes[128] = Landscape(x, losses)
    found = analyse("s", "width", scapes)
    assert np.isinf(found.sizes[-1].regret.low)
    assert found.sizes[0].lr.low < 2.0**-4
    assert (found.verdict, found.monotone) == ("undecided", "no")


def test_a_rate_that_was_not_measured_has_not_diverged():
    other = planted(0.0, sizes=(64,), x=np.arange(-8.0, 0.0))[64]
    base = Landscape(
        np.arange(-1.0, 4.0), np.exp(np.array([2, 1, 0, 1, 2.0])[:, None] * np.ones(4))
    )
    found = analyse("s", "width", {16: base, 64: other})
    last = found.sizes[-1]
    assert np.isnan([last.at_base.value, last.regret.value]).all()
    assert (found.verdict, found.monotone) == ("undecided", "undecided")
    assert found.reason == (
        "the base's best rate was not measured at size 64: give every size the same rates, "
        "--lrs 0.00390625:8:2"
    )


def test_one_seed_that_diverges_leaves_it_undecided():
    scapes = planted(0.0)
    losses = scapes[128].losses.copy()
    losses[3:, 0] = np.inf
    scapes[128] = Landscape(scapes[128].x, losses)
    found = analyse("s", "width", scapes)
    assert found.verdict == "undecided"
    assert "edge of divergence" in found.reason
    assert found.monotone == "undecided"


def test_a_grid_that_does_not_bracket_says_where_to_extend():
    low = analyse("s", "width", planted(0.0, x=np.arange(-4.0, 3.0)))
    assert low.verdict == "undecided"
    assert low.reason.endswith("extend lrs downwards, --lrs 0.015625:4:2")
    assert (low.sizes[0].edge, low.sizes[0].lr.low) == ("low", 0)
    assert low.sizes[0].loss.low == 0
    assert np.isneginf(low.drift.low)
    high = analyse("s", "width", planted(0.0, x=np.arange(-10.0, -4.0)))
    assert high.reason.endswith("extend lrs upwards, --lrs 0.000976562:0.125:2")
    assert (high.sizes[0].edge, high.sizes[0].lr.high) == ("high", np.inf)
    scapes = planted(-4.0, sizes=(32, 64), x=np.arange(-8.0, -3.0))
    assert (
        "extend lrs downwards and upwards, --lrs 0.000976562:0.25:2"
        in analyse("s", "d", scapes).reason
    )
    everything = planted(0.0)
    everything[64] = Landscape(everything[64].x, np.full_like(everything[64].losses, np.inf))
    found = analyse("s", "width", everything)
    assert found.reason.startswith(
        "every rate diverged at size 64: extend lrs downwards, --lrs 0.000"
    )
    assert (found.sizes[1].edge, str(found.sizes[1].lr)) == ("all diverged", "–")
    assert np.isfinite(found.drift.value)
    # The base itself, and the largest size.
    for lost in (32, 128):
        scapes = planted(0.0)
        scapes[lost] = Landscape(scapes[lost].x, np.full_like(scapes[lost].losses, np.inf))
        found = analyse("s", "width", scapes)
        assert found.verdict == "undecided"
        assert f"every rate diverged at size {lost}:" in found.reason
        assert str(found.sizes[-1].at_base) == str(found.sizes[-1].regret) == "diverged"
    assert measure(planted(0.0, x=np.arange(-4.0, 3.0))).least == 0


def test_every_replicate_is_another_choice_of_all_seeds(monkeypatch):
    chosen = []
    real = analysis._replicate

    def watched(scapes, sides, seeds):
        chosen.append(seeds)
        return real(scapes, sides, seeds)

    monkeypatch.setattr(analysis, "_replicate", watched)
    measure(planted(0.0, seeds=12, sizes=(32, 64)))
    assert chosen.pop(0) is None
    # Of 400 draws of 12 of 12 hardly two are the same.
    assert 395 <= len(chosen) <= 400
    assert np.bincount(np.concatenate(chosen), minlength=12).min() > 300
    assert {len(c) for c in chosen} == {12}


def test_few_seeds_have_no_interval():
    found = analyse("s", "width", planted(0.0, seeds=2))
    assert (found.verdict, found.reason) == (
        "undecided",
        "intervals need three seeds or more: --seeds 3",
    )
    for e in (found.drift, found.sizes[0].lr, found.sizes[-1].regret):
        assert np.isfinite(e.value)
        assert np.isnan(e.low)
    assert not np.isnan(analyse("s", "width", planted(0.0, seeds=3)).drift.low)


# Intervals.


def test_seeds_are_resampled_together():
    """What seeds share over sizes moves all landscapes alike: it does not widen the drift."""
    scapes = planted(0.0, noise=0.0, shared=0.02, curvature=0.2)
    found = measure(scapes)
    assert found.drift.low == pytest.approx(found.grid.low, abs=1e-9)
    assert found.drift.high == pytest.approx(found.grid.high, abs=1e-9)
    # The same noise, each size with another order of the seeds.
    rng = np.random.default_rng(0)
    apart = measure({w: Landscape(s.x, rng.permuted(s.losses, axis=1)) for w, s in scapes.items()})
    assert apart.drift.high - apart.grid.high > 0.01
    assert apart.grid.low - apart.drift.low > 0.01


def test_the_level_and_the_stretch():
    """Of a mean over seeds the interval is close to Student's: percentiles times t/z·√(n/(n-1))."""
    assert stretch(3) == pytest.approx(4.302653 / 1.959964 * 1.5**0.5, rel=1e-6)
    assert stretch(8) == pytest.approx(2.364624 / 1.959964 * (8 / 7) ** 0.5, rel=1e-6)
    rng = np.random.default_rng(5)
    seeds = 0.01 * rng.standard_normal(12)
    x = np.arange(-8.0, 1.0)
    y = 0.1 * (x + 4.0) ** 2
    scapes = {w: Landscape(x, np.exp(y[:, None] + seeds)) for w in (16, 64)}
    loss = analyse("s", "width", scapes).sizes[0].loss
    low, high = stats.t.interval(0.95, 11, seeds.mean(), stats.sem(seeds))
    # At the upper end the grid leaves nothing open: it is the mean's own. 400 draws scatter by a tenth.
    assert np.log(loss.high) - seeds.mean() == pytest.approx(high - seeds.mean(), rel=0.15)
    assert np.log(loss.value) == pytest.approx(seeds.mean(), abs=1e-9)
    assert np.log(loss.low) < low


@pytest.mark.parametrize("drift", [0.0, -0.5])
def test_intervals_cover(drift):
    hits = {"drift": 0, "rate": 0, "regret": 0}
    for k in range(24):
        rng = np.random.default_rng(100 + k)
        x = np.arange(-8.0, 1.0) + rng.uniform(0, 1)
        scapes = {}
        for i, size in enumerate((32, 64, 128)):
            y = lopsided(x - (-4.2 + drift * i)) if k % 2 else 0.05 * (x - (-4.2 + drift * i)) ** 2
            scapes[size] = Landscape(
                x, np.exp(y[:, None] + 0.01 * rng.standard_normal((len(x), 4)))
            )
        found = analyse("s", "width", scapes)
        hits["drift"] += held(found.drift, drift)
        hits["rate"] += held(found.sizes[1].lr, 2 ** (-4.2 + drift))
        u = np.log2(found.sizes[0].lr.value) - (-4.2 + 2 * drift)
        cost = lopsided(u) if k % 2 else 0.05 * u**2
        hits["regret"] += held(found.sizes[-1].regret, np.expm1(cost))
        assert found.verdict in ("undecided", "transfers" if drift == 0 else "does not transfer")
    # 95 % nominal, more where the grid leaves much open: 20 of 24 or fewer has a chance below 3 %.
    assert min(hits.values()) >= 21, hits
