"""The analysis of learning-rate landscapes, on planted ones."""

import numpy as np
import pytest

from leadline.transferring.analysis import analyse
from leadline.transferring.landscapes import landscapes
from leadline.transferring.optimum import Landscape, loss_at, optimum, stable
from leadline.transferring.transfer import from_rows


def planted(drift, sizes=(32, 64, 128), noise=0.005, seeds=8, curvature=0.1, x=None):
    """log loss = floor(size) + curvature/2·(x - x*(size))², x* moving by ``drift`` a doubling."""
    rng = np.random.default_rng(1)
    x = np.arange(-8.0, 1.0) if x is None else x
    out = {}
    for i, size in enumerate(sizes):
        y = -0.1 * i + 0.5 * curvature * (x - (-4.2 + drift * i)) ** 2
        out[size] = Landscape(x, np.exp(y[:, None] + noise * rng.standard_normal((len(x), seeds))))
    return out


def test_optimum_of_a_parabola_is_exact():
    x = np.arange(-6.0, 1.0)
    best = optimum(x, 0.3 + 0.2 * (x + 2.3) ** 2)
    assert best.x == pytest.approx(-2.3, abs=1e-9)
    assert best.value == pytest.approx(0.3, abs=1e-9)
    assert best.sharpness == pytest.approx(0.4, abs=1e-9)
    assert best.edge == ""
    assert loss_at(x, 0.3 + 0.2 * (x + 2.3) ** 2, -3.7) == pytest.approx(
        0.3 + 0.2 * 1.4**2, abs=1e-9
    )


def test_planted_transfer_and_drift():
    still = analyse("auto", "width", planted(0.0))
    assert still.verdict == "transfers", still.reason
    assert still.drift.low < 0 < still.drift.high
    sharpness = still.sizes[-1].sharpness
    assert sharpness.low < 0.1 < sharpness.high
    assert sharpness.value == pytest.approx(0.1, rel=0.3)
    assert still.monotone == "yes"
    moving = analyse("sp", "width", planted(-1.0))
    assert moving.verdict == "does not transfer"
    assert moving.drift.low < -1.0 < moving.drift.high
    # Two doublings off the optimum: exp(curvature/2·4) - 1.
    regret = moving.sizes[-1].regret
    assert regret.low < np.expm1(0.2) < regret.high
    assert moving.sizes[0].regret.value == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("drift", [0.0, -0.5])
def test_drift_intervals_cover(drift):
    hits = 0
    for k in range(40):
        rng = np.random.default_rng(100 + k)
        x = np.arange(-8.0, 1.0)
        scapes = {}
        for i, size in enumerate((32, 64, 128)):
            y = 0.05 * (x - (-4.2 + drift * i)) ** 2
            scapes[size] = Landscape(x, np.exp(y[:, None] + 0.02 * rng.standard_normal((9, 8))))
        found = analyse("s", "width", scapes).drift
        hits += found.low <= drift <= found.high
    # Eight seeds: a bootstrap of so few covers a little less than 95 %; 40 trials scatter by 4 %.
    assert hits >= 32


def test_the_edge_of_stability():
    """An optimum does not lie beyond the last rate that trains; in between the nearer rate decides."""
    x, y = np.arange(5.0), np.array([1.0, 0.6, 0.3, np.inf, np.inf])
    best = optimum(x, y)
    assert (best.x, best.edge) == (2.0, "")
    assert loss_at(x, y, 2.4) == 0.3
    assert loss_at(x, y, 2.6) == np.inf
    assert loss_at(x, y, 4.5) == np.inf
    assert stable(x, y) == 2.0
    assert stable(x, np.zeros(5)) == np.inf
    assert np.isnan(stable(x, np.full(5, np.inf)))


def test_divergence_counts_as_worse():
    scapes = planted(0.0)
    losses = scapes[128].losses.copy()
    losses[4:] = np.inf
    scapes[128] = Landscape(scapes[128].x, losses)
    assert stable(scapes[128].x, scapes[128].mean()) == scapes[128].x[3]
    found = analyse("sp", "width", scapes)
    assert found.verdict == "does not transfer"
    assert "diverges at the largest size" in found.reason
    assert str(found.sizes[-1].regret) == "diverged"


def test_a_grid_that_does_not_bracket_says_where_to_extend():
    low = analyse("s", "width", planted(0.0, x=np.arange(-4.0, 3.0)))
    assert low.verdict == "undecided"
    assert "extend lrs downwards" in low.reason
    high = analyse("s", "width", planted(0.0, x=np.arange(-10.0, -4.0)))
    assert "extend lrs upwards" in high.reason
    everything = planted(0.0)
    everything[64] = Landscape(everything[64].x, np.full_like(everything[64].losses, np.inf))
    assert "every rate diverged at size 64" in analyse("s", "width", everything).reason


def test_few_seeds_have_no_interval():
    found = analyse("s", "width", planted(0.0, seeds=2))
    assert found.verdict == "undecided"
    assert np.isnan(found.drift.low)


def rows(**change):
    out = [
        dict(
            width=w, depth=2, lr=2.0**k, seed=s, scheme="auto", loss=1 + (k + 3) ** 2 / 50 + s / 99
        )
        for w in (32, 64)
        for k in range(-6, 1)
        for s in range(3)
    ]
    return [r | change for r in out]


def test_rows_from_anywhere():
    result = from_rows(rows())
    assert [a.axis for a in result.axes] == ["width"]
    assert result.axes[0].verdict == "transfers"
    assert "auto over width: transfers" in str(result)
    assert len(result.figure().data) == 4
    assert '"metric": "loss"' in result.to_json()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([], "there are no runs"),
        (rows() + rows(), "there are two runs with width=32, depth=2, lr=0.015625, seed=0"),
        (
            [r | dict(steps=k) for k in (5, 10) for r in rows()],
            r"differ in steps \(5, 10\): give the runs of one steps at a time",
        ),
        (rows(width=32), "the runs hold one size"),
        (rows()[1:], "run the whole grid"),
        ([r for r in rows() if r["lr"] > 0.3], "too few to find an optimum"),
    ],
)
def test_bad_rows(wrong, message):
    with pytest.raises(ValueError, match=message):
        from_rows(wrong)


def test_stopped_and_missing_losses_are_worse_than_any():
    table = rows()
    table[0] |= dict(stopped=True)
    table[1] |= dict(loss=None)
    assert np.isinf(landscapes(table, "auto", "width", "loss")[32].losses[0, :2]).all()
