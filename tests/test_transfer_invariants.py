"""What always holds of the analysis of landscapes, and the rows it takes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leadline.intervals import Interval
from leadline.transferring.analysis import analyse
from leadline.transferring.landscapes import Landscape, landscapes
from leadline.transferring.optimum import optimum
from leadline.transferring.transfers import from_rows

# Invariants.

RISES = st.lists(st.floats(0.0, 1.5), min_size=1, max_size=4)


@st.composite
def curves(draw):
    """Losses with one minimum, convex or not, and with divergence or not above it; three seeds' noise."""
    left, right = draw(RISES), draw(RISES)
    y = np.concatenate([np.cumsum(left)[::-1], [0.0], np.cumsum(right)])
    if draw(st.booleans()):
        y[len(left) + draw(st.integers(1, len(right))) :] = np.inf
    noise = draw(st.sampled_from([0.0, 1e-3, 0.05]))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    return np.exp(y[:, None] + noise * rng.standard_normal((len(y), 3)))


@st.composite
def axes(draw):
    step = draw(st.sampled_from([0.5, 1.0, 2.0]))
    one = draw(curves())
    x = -6 + step * np.arange(len(one))
    other = draw(curves())
    grid = x if len(other) == len(x) else -6 + step * np.arange(len(other))
    return {32: Landscape(x, one), 128: Landscape(grid, other)}


@settings(max_examples=40, deadline=None)
@given(axes())
def test_what_always_holds(scapes):
    found = analyse("s", "width", scapes)
    base = found.sizes[0]
    assert (base.regret.value, base.regret.low, base.regret.high) == (0, 0, 0)
    assert base.at_base == base.loss
    for s, scape in zip(found.sizes, scapes.values(), strict=True):
        smallest = np.exp(scape.mean().min())
        assert s.loss.value <= smallest * (1 + 1e-12)
        # Outside of its grid nothing is known of a size.
        assert not s.at_base.value < s.loss.value * (1 - 1e-12)
        assert np.isnan(s.at_base.value) == np.isnan(s.regret.value)
        assert (
            not np.isnan(s.regret.value) or not scape.x[0] <= np.log2(base.lr.value) <= scape.x[-1]
        )
        assert s.loss.low <= s.loss.value <= s.loss.high
        assert s.lr.low <= s.lr.value * (1 + 1e-12)
        assert s.lr.value <= s.lr.high * (1 + 1e-12)
        # Between the neighbours of the smallest point, and no closer than it.
        b = int(np.argmin(scape.mean()))
        assert s.lr.low <= 2 ** scape.x[b] * (1 + 1e-12)
        assert s.lr.high >= 2 ** scape.x[b] * (1 - 1e-12)
        assert not s.regret.value < 0
        assert not s.regret.low > s.regret.value + 1e-12
        if s.lr.value == base.lr.value:
            assert s.at_base.value == s.loss.value
    if found.verdict == "transfers":
        assert -0.25 <= found.drift.low <= found.drift.high <= 0.25
        assert found.sizes[-1].regret.high <= 0.05
    elif found.verdict == "undecided":
        assert "--lrs" in found.reason or "seeds" in found.reason or "trust" in found.reason
    assert "nan" not in found.reason


@settings(max_examples=40, deadline=None)
@given(curves(), st.sampled_from([0.5, 1.0, 2.0]), st.floats(-0.5, 0.5))
def test_the_same_losses_never_fail(losses, step, level):
    x = -6 + step * np.arange(len(losses))
    scapes = {32: Landscape(x, losses), 64: Landscape(x, losses * np.exp(level))}
    found = analyse("s", "width", scapes)
    assert found.verdict != "does not transfer"
    assert found.drift.value == pytest.approx(0, abs=1e-9)
    assert found.drift.low <= 1e-9
    assert found.drift.high >= -1e-9
    assert found.sizes[-1].regret.value == pytest.approx(0, abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(axes(), st.integers(-8, 8), st.permutations([0, 1, 2]))
def test_units_and_the_order_of_seeds_change_nothing(scapes, doublings, order):
    one = analyse("s", "width", scapes)
    moved = analyse(
        "s", "width", {w: Landscape(s.x + doublings, s.losses[:, order]) for w, s in scapes.items()}
    )
    assert moved.verdict == one.verdict
    assert moved.drift.value == pytest.approx(one.drift.value, abs=1e-6)
    for a, b in zip(one.sizes, moved.sizes, strict=True):
        assert b.lr.value == pytest.approx(a.lr.value * 2.0**doublings, rel=1e-6)
        assert b.loss.value == pytest.approx(a.loss.value, rel=1e-6)
        assert b.regret.value == pytest.approx(a.regret.value, rel=1e-6, abs=1e-9, nan_ok=True)


@settings(max_examples=40, deadline=None)
@given(st.floats(-1, 1), st.floats(0.01, 0.3), st.floats(0.01, 0.3), st.integers(1, 7))
def test_a_rate_between_two_never_leaves_more_open(centre, left, right, cell):
    x = np.arange(-4.0, 5.0)
    more = np.insert(x, cell, (x[cell - 1] + x[cell]) / 2)

    def at(x):
        u = x - centre
        return optimum(x, np.where(u < 0, left, right) * u**2)

    a, b = at(x), at(more)
    assert a.low - 1e-9 <= b.low <= centre + 1e-9
    assert centre - 1e-9 <= b.high <= a.high + 1e-9
    assert a.least - 1e-9 <= b.least <= 1e-9
    assert b.most <= a.most


def rows(**change):
    out = [
        dict(
            width=w, depth=2, lr=2.0**k, seed=s, scheme="auto", loss=1 + (k + 3) ** 2 / 50 + s / 99
        )
        for w in (32, 256)
        for k in range(-6, 1)
        for s in range(3)
    ]
    return [r | change for r in out]


def test_rows_from_anywhere():
    result = from_rows(rows())
    assert [a.axis for a in result.axes] == ["width"]
    assert result.axes[0].verdict == "transfers"
    assert "auto (leadline's scaling) over width: transfers" in str(result)
    assert len(result.figure().data) == 4
    assert '"metric": "loss"' in result.to_json()


def test_estimates_in_words():
    assert str(Interval(0.12345)) == "0.123"
    assert str(Interval(0.5, 0.25, 0.75)) == "0.5 [0.25, 0.75]"
    assert str(Interval(0.5, 0.25, np.inf)) == "0.5 [0.25, ∞]"
    assert str(Interval(np.inf, np.inf, np.inf)) == "diverged"
    assert str(Interval(np.inf, 0.5, np.inf)) == "diverged [0.5, ∞]"
    assert str(Interval(np.nan, 1, 2)) == "–"


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
        (
            [r for r in rows() if r["width"] == 32 or r["seed"] < 2],
            r"width 256 of 'auto' has seeds \[0, 1\], width 32 has \[0, 1, 2\]: run the same seeds",
        ),
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
