"""What the base's best rate costs among the rates that were run: planted losses, and how often it holds."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import t as student

from leadline import transfer_from
from leadline.intervals import Interval
from leadline.transferring.advice import sentence
from leadline.transferring.landscapes import Landscape
from leadline.transferring.tried import among_tried

X = np.arange(4.0)
INF = math.inf


def scape(levels, noise=None, x=X):
    """Losses whose mean logs are the levels."""
    levels = np.asarray(levels, dtype=float)[:, None]
    return Landscape(np.asarray(x), np.exp(levels + (np.zeros((1, 3)) if noise is None else noise)))


def test_without_noise_the_cost_is_the_ratio_of_losses():
    t = among_tried({64: scape([0.2, 0.0, 0.1, 0.3]), 128: scape([0.5, 0.3, 0.1, 0.2])})
    assert t.rate == 2.0
    assert t.costs[64].value == t.costs[64].high == 0.0
    c = t.costs[128]
    assert (c.value, c.low, c.high) == pytest.approx([math.expm1(0.2)] * 3, rel=1e-12)


def test_the_interval_is_students_of_paired_differences():
    """What a seed adds at every rate falls out; two rates, so that Bonferroni's is Student's."""
    noise = np.array([[0.03, -0.01, 0.02], [0.0, 0.0, 0.0]]) + np.array([[5.0, -3.0, 1.0]])
    t = among_tried({1: scape([0.0, 1.0], x=X[:2]), 2: scape([0.1, 0.0], noise, X[:2])})
    d = 0.1 + np.array([0.03, -0.01, 0.02])
    half = student.ppf(0.975, 2) * d.std(ddof=1) / math.sqrt(3)
    expected = np.expm1([d.mean(), d.mean() - half, d.mean() + half])
    c = t.costs[2]
    assert (c.value, max(c.low, 0), c.high) == pytest.approx(np.maximum(expected, 0), rel=1e-9)


def test_the_lower_end_allows_for_the_choice_among_rates():
    noise = np.random.default_rng(0).standard_normal((4, 3)) / 100
    t = among_tried({1: scape([0, 1, 1, 1]), 2: scape([0.5, 0.3, 0.1, 0.2], noise)})
    d = 0.5 + noise[0] - (np.array([0.3, 0.1, 0.2])[:, None] + noise[1:])
    error = d.std(1, ddof=1) / math.sqrt(3)
    low = (d.mean(1) - student.ppf(1 - 0.025 / 3, 2) * error).max()
    assert t.costs[2].low == pytest.approx(math.expm1(low), rel=1e-9)


def test_rates_that_diverge():
    base = scape([0.0, 0.1, 0.2, 0.3])
    whole = scape([INF, 0.1, 0.2, INF])
    c = among_tried({1: base, 2: whole}).costs[2]
    assert (c.value, c.low, c.high) == (INF, INF, INF)
    part = scape([0.0, 0.1, 0.2, 0.3])
    part.losses[0, 1] = INF
    c = among_tried({1: base, 2: part}).costs[2]
    assert (c.value, c.low, c.high) == (INF, 0.0, INF)
    # Others that diverge do not count; if all do, nothing is left to be better.
    assert among_tried({1: base, 2: scape([0.0, INF, INF, INF])}).costs[2].high == 0.0
    assert math.isnan(among_tried({1: base, 2: scape([INF] * 4)}).costs[2].value)
    assert among_tried({1: scape([INF] * 4), 2: base}) is None


def test_a_rate_that_was_not_run_and_one_seed():
    base = scape([0.1, 0.0, 0.1, 0.2])
    assert math.isnan(among_tried({1: base, 2: scape([0.0, 0.1], x=X[2:])}).costs[2].value)
    one = Landscape(X, np.exp(np.array([[0.3], [0.2], [0.1], [0.0]])))
    c = among_tried({1: Landscape(X, base.losses[:, :1]), 2: one}).costs[2]
    assert c.value == pytest.approx(math.expm1(0.2))
    assert math.isnan(c.low)


@pytest.mark.parametrize(
    "levels", [(0.0, 0.0, 0.0, 0.0), (0.02, 0.0, 0.01, 0.0), (0.1, 0.0, 0.3, INF)]
)
def test_the_interval_holds_the_truth(levels):
    """5 seeds, noise of which a part is common to all rates; the first rate is the base's best."""
    generator = np.random.default_rng(7)
    truth, above, below = math.expm1(levels[0] - min(levels)), 0, 0
    for _ in range(1000):
        noise = 0.02 * generator.standard_normal((4, 5)) + 0.1 * generator.standard_normal((1, 5))
        c = among_tried({1: scape([0, 1, 1, 1]), 2: scape(levels, noise)}).costs[2]
        above += truth > c.high + 1e-12
        below += truth < c.low - 1e-12
    # At most 25 each in 1000; 40 has probability .003.
    assert max(above, below) < 40


def rows(noise, drift=0.0, seeds=4):
    generator = np.random.default_rng(3)
    return [
        dict(width=n, lr=2.0**k, seed=s,
             loss=math.exp(0.02 * (k + 4 - drift * math.log2(n / 64)) ** 2
                           + noise * generator.standard_normal()))
        for n in (64, 128, 256) for k in range(-7, 0) for s in range(seeds)
    ]  # fmt: skip


def test_an_open_transfer_says_what_is_known_of_the_rates():
    result = transfer_from(rows(0.015), axes=("width",))
    (said,) = result.answer
    assert result.axes[0].verdict == "undecided"
    assert said.startswith(
        "Among the rates tried 0.0625 is the best at width 64; at width 256 it costs at most "
    )
    most = float(said.split("at most ")[1].split(" %")[0])
    assert 1 <= most <= 6
    assert "there. To know what lies between them and beyond, run again with " in said


@pytest.mark.parametrize(
    ("cost", "words"),
    [
        (
            (0.01, 0.0, 0.034),
            "at width 256 it costs at most 3.4 % more loss than the best of them there.",
        ),
        (
            (0.1, 0.06, 0.14),
            "at width 256 it costs 6 to 14 % more loss than the best of them there.",
        ),
        (
            (0.0, 0.0, 0.0),
            "at width 256 it costs at most 0.1 % more loss than the best of them there.",
        ),
        ((INF, INF, INF), "it diverges at width 256."),
        ((INF, 0.0, INF), "it diverges at width 256, with some seeds."),
        ((0.1, math.nan, math.nan), None),
    ],
)
def test_the_cost_in_words(cost, words):
    axis = transfer_from(rows(0.015), axes=("width",)).axes[0]
    costs = axis.tried.costs | {256: Interval(*cost)}
    said = sentence(replace(axis, tried=replace(axis.tried, costs=costs)))
    if words is None:
        assert said.startswith("To know whether")
    else:
        assert said.startswith(
            f"Among the rates tried 0.0625 is the best at width 64; {words} To know"
        )


def test_a_decided_transfer_does_not_speak_of_it():
    result = transfer_from(rows(0.0), axes=("width",))
    assert result.axes[0].verdict == "transfers"
    assert "tried" not in result.answer[0]
    assert result.axes[0].tried.costs[256].value == 0.0
