"""Every verdict rule on planted data: what must hold, fail and stay undecided."""

import numpy as np
import pytest
from scipy import stats

from leadline.claims import gia, initialization, scaling, stronger
from leadline.claims.cells import RATE_METRICS
from leadline.claims.claim import CORRECTED, COUPLINGS, SCHEMES, SETS, claim
from leadline.claims.collapse import RATES
from leadline.claims.verdict import above, below, every, inside, outside, verdict
from leadline.intervals import Interval, exponent, jackknife, mean

QUIET, LOUD = 0.01, 1.5
"""Relative noise of a seed: far below what the rules ask for, and far above."""


def noisy(values, seeds, noise, rng):
    """(seeds, ...) of the values, each seed times exp(noise)."""
    values = np.asarray(values, float)
    return values * np.exp(noise * rng.standard_normal((seeds, *values.shape)))


def power(sizes, e, first=1.0):
    return first * (np.array(sizes, float) / sizes[0]) ** e


# The arithmetic of intervals and words.


def test_jackknife_of_a_mean_is_student():
    v = np.random.default_rng(0).standard_normal(7)
    e = mean(v)
    low, high = stats.t.interval(0.95, 6, v.mean(), v.std(ddof=1) / 7**0.5)
    assert (e.value, e.low, e.high) == pytest.approx((v.mean(), low, high), rel=1e-12)


def test_intervals_cover():
    """Of 400 intervals of a slope over 5 seeds, binomial(400, .95) hold the truth: ± 4 standard errors."""
    rng, sizes, hits = np.random.default_rng(1), (1, 2, 4, 8), 0
    for _ in range(400):
        e = exponent(sizes, noisy(power(sizes, -0.5), 5, 0.1, rng))
        hits += e.low <= -0.5 <= e.high
    assert abs(hits / 400 - 0.95) < 4 * (0.95 * 0.05 / 400) ** 0.5


def test_groups_with_their_own_seeds():
    """Welch's interval for a difference of means."""
    rng = np.random.default_rng(2)
    a, b = rng.standard_normal(5), 3 * rng.standard_normal(9)
    e = jackknife(lambda x, y: x.mean() - y.mean(), a, b)
    welch = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    assert (e.low, e.high) == pytest.approx((welch.low, welch.high), rel=1e-9)


def test_one_seed_decides_nothing():
    e = mean([3.0])
    assert inside(e, 0, 10) == above(e, 0) == "undecided"
    assert inside(Interval(float("nan"), 0, 1), -1, 2) == "undecided"


def test_words():
    e = Interval(0.5, 0.4, 0.6)
    assert [inside(e, 0.4, 0.6), inside(e, 0.45, 1), inside(e, 0.7, 1)] == [
        "holds",
        "undecided",
        "fails",
    ]
    assert [above(e, 0.3), above(e, 0.5), above(e, 0.7)] == ["holds", "undecided", "fails"]
    assert [below(e, 0.7), below(e, 0.5), below(e, 0.3)] == ["holds", "undecided", "fails"]
    # An end that lies on a bound: within it, neither above nor below it, and not outside.
    assert above(e, 0.4) == below(e, 0.6) == "undecided"
    assert inside(e, 0.6, 1) == inside(e, 0, 0.4) == "undecided"
    assert above(e, 0.6) == below(e, 0.4) == "fails"
    said = [verdict(word, "", e, "").words for word in ("holds", "fails", "undecided")]
    assert said == ["holds", "fails", "not decided at this size"]
    assert every(["holds", "undecided"]) == "undecided"
    assert every(["holds", "undecided", "fails"]) == "fails"


# Planted data of each claim: (holds, fails, undecided).


def initial(width=-1.0, depth=-1.0, coupled=0.0, noise=QUIET):
    rng = np.random.default_rng(0)
    widths, depths, limits_ = [64, 128, 256, 512], [4, 8, 16, 32], [4, 8, 16, 32, 64]
    ones = np.ones((1, 5))
    theta = noisy(np.full(4, 10.0), 16, noise, rng)
    return {
        "widths": widths,
        "depth": 16,
        "over_width": {
            k: noisy(power(widths, width)[:, None] * ones, 16, noise, rng)
            for k in initialization.KERNELS
        },
        "depths": depths,
        "width": 256,
        "over_depth": {
            k: noisy(power(depths, 0.0)[:, None] * ones, 16, noise, rng)
            for k in initialization.KERNELS
        },
        "limits": limits_,
        "depth_error": {k: list(power(limits_, depth)) for k in initialization.KERNELS},
        "traces": {"reused": theta * (1 + coupled), "independent": theta},
    }


def trained(left=0.0, order=-1.0, noise=QUIET):
    """Errors A/n of each against its own limit; of real networks against NFD, ``left`` more."""
    rng = np.random.default_rng(0)
    sizes = [[32, 2], [64, 4], [128, 8], [256, 16], [512, 32]]
    base = power([n for n, _ in sizes], order, 0.1)
    errors = {c: {against: {} for against in COUPLINGS} for c in COUPLINGS}
    for part in SETS:
        for c in COUPLINGS:
            for against in COUPLINGS:
                more = 0.0 if c == against else left
                errors[c][against][part] = list(noisy(base + 0.01 * more, 16, noise, rng).T)
    return {
        "sizes": sizes,
        "dense": 3,
        "errors": errors,
        "distance": dict.fromkeys(SETS, 0.01),
        "converged": dict.fromkeys(COUPLINGS, True),
        "limit_loss": {},
    }


def gaps(exponent, noise=QUIET, first=0.3):
    """Losses of both couplings with a relative gap first·(L/2)^exponent."""
    rng = np.random.default_rng(0)
    depths = [2, 4, 8, 16, 32, 64]

    def pair(gap, n):
        base = np.full((n, 4), 0.2)
        shared = noisy(np.zeros(n) + 1, 8, noise, rng)
        out = {}
        for c, factor in (("reused", 1 - np.asarray(gap)), ("independent", np.ones(n))):
            own = noisy(base * factor[:, None], 8, noise / 3, rng)
            out[c] = list((shared[..., None] * own).swapaxes(0, 1))
        return out

    flat = np.full(len(depths), 0.4)
    curve = pair(power(depths, exponent, first), len(depths))
    identity = {
        c: [np.full(4, gia.identity_limit(c, d)) * (1 + 0.001 * rng.standard_normal(4)) for d in (4, 16)]
        for c in COUPLINGS
    }  # fmt: skip
    return {
        "width": 64,
        "step": 2,
        "depths": dict.fromkeys(gia.KINDS, depths),
        "curves": {"plain": pair(flat, 6), "mup": pair(flat, 6), "depth-mup": curve},
        "dense_width": 32,
        "dense_depths": [2, 4],
        "dense": {c: curve[c][:2] for c in COUPLINGS},
        "horizons": [0.5, 1.0],
        "horizon_depth": 32,
        "horizon": pair([0.1, 0.2], 2),
        "identity_depths": [4, 16],
        "identity": identity,
    }


def eigenvalues(limit, noise=QUIET):
    rng = np.random.default_rng(0)
    widths = [512, 1024, 2048]
    v = limit + 1e-3 * 512 / np.array(widths)[:, None, None] * np.ones((1, 2, 3))
    return {
        "widths": widths, "depth": 8, "samples": 8, "times": [0, 0.5, 1], "steps": [0, 2],
        "over_width": noisy(v, 5, noise, rng), "depths": [4, 8], "width": 512,
        "over_depth": noisy(v[:2], 5, noise, rng),
    }  # fmt: skip


def moving(width=0.0, ntk=-0.5, depth=0.0, noise=QUIET):
    rng = np.random.default_rng(0)
    widths, depths = [128, 256, 512], [4, 8, 16]
    ones = np.ones((1, 2, 3))

    def movement(sizes, e):
        return noisy(power(sizes, e)[:, None, None] * ones, 12, noise, rng)

    rise = noisy(np.array([0.5, 0.7]), 12, noise, rng)
    loss = noisy(np.array([0.5, 0.2, 0.05]), 12, noise, rng)
    return {
        "widths": widths, "depth": 8, "times": [0, 0.5, 1], "steps": [0, 2], "depths": depths, "width": 128,
        "over_width": {"depth-mup": movement(widths, width), "ntk": movement(widths, ntk)},
        "over_depth": movement(depths, depth),
        "alignment": {"depth-mup": rise, "ntk": rise[:, [0, 0]]},
        "loss": {"depth-mup": loss, "ntk": loss},
        "lazy": [0.5, 0.3, 0.1],
    }  # fmt: skip


def falling(exponent, floor, noise=0.001):
    rng = np.random.default_rng(0)
    sizes = [[32, 2], [64, 4], [128, 8], [256, 16], [512, 32]]
    y = floor + power([n for n, _ in sizes], exponent, 0.2)
    loss = {p: list(noisy(y, 24, noise, rng).T) for p in SETS}
    flat = np.full((4, 2), 0.1)
    return {
        "sizes": sizes, "loss": loss,
        "floor": {p: {"reused": floor, "independent": floor * 1.4} for p in SETS},
        "floor_error": {p: dict.fromkeys(scaling.FLOORS, 1e-4) for p in SETS},
        "width": 64, "depths": [1, 2], "over_depth": dict.fromkeys(SETS, flat), "depth": 2,
        "horizons": [0.5, 1.0], "over_horizon": dict.fromkeys(SETS, flat),
    }  # fmt: skip


def probed(schemes, own=0.0, noise=QUIET, **others):
    """Curves of the exponents given, (seeds, depths, steps)."""
    rng = np.random.default_rng(0)
    depths = [4, 8, 16, 32]
    exponents = {
        "own_1": own,
        "own_2": -0.5,
        "stream": 0.0,
        "output": 0.0,
        "backward": 0.0,
    } | others
    return {
        "width": 32,
        "depths": depths,
        "steps": 2,
        "curves": {
            s: {
                o: {
                    c: {
                        q: noisy(power(depths, e)[:, None] * np.ones((1, 2)), 8, noise, rng)
                        for q, e in exponents.items()
                    }
                    for c in COUPLINGS
                }
                for o in RATES
            }
            for s in schemes
        },
    }


def swept(drift, better=1.0, noise=QUIET):
    """Parabolas of log loss in log2 rate: the corrected optimum drifts, its loss is ``better`` times."""
    rng = np.random.default_rng(0)
    depths, lrs = [2, 4, 8], [2.0 ** (k / 2) for k in range(-9, 9)]
    x = np.log2(lrs)

    def curves(d, factor):
        best = np.array([d * k for k in range(len(depths))])
        y = 0.5 * np.exp(0.05 * (x - best[:, None]) ** 2)
        y *= np.array([1.0, factor**0.5, factor])[:, None]
        return noisy(y, 6, noise, rng).transpose(1, 2, 0)

    found = {s: curves(0.0, 1.0) for s in SCHEMES} | {CORRECTED: curves(drift, better)}
    return {
        "width": 16, "depths": depths, "optimizers": ["sgd"], "lrs": {"sgd": lrs},
        "curves": {"sgd": {s: dict.fromkeys(RATE_METRICS, v) for s, v in found.items()}},
    }  # fmt: skip


PLANTED = [
    (1, initial(), initial(width=-0.5), initial(noise=LOUD)),
    (1, initial(coupled=0.01), initial(coupled=0.1), initial(noise=LOUD)),
    (2, trained(), trained(left=1.0), trained(noise=LOUD)),
    (2, trained(left=0.1), trained(order=-0.3), trained(left=0.25, noise=0.1)),
    (3, gaps(-0.5, first=0.15), gaps(0.0), gaps(-0.25, noise=0.2)),
    (3, gaps(-1.0), gaps(-0.1), gaps(-0.2, noise=LOUD)),
    (4, eigenvalues(0.01), eigenvalues(0.0001), eigenvalues(0.001, noise=0.5)),
    (5, moving(), moving(width=-0.5), moving(noise=0.6)),
    (5, moving(ntk=-0.45), moving(depth=-0.5), moving(width=0.1, noise=0.05)),
    (6, falling(-1, 0.1), falling(-0.1, 1e-3), falling(-1, 0.1, noise=0.3)),
    (7, probed(["depth-mup"], -0.48), probed(["depth-mup"], 0.0),
     probed(["depth-mup"], -0.41, noise=0.1)),
    (8, probed(SCHEMES, 0.02), probed(SCHEMES, -0.5),
     probed(SCHEMES, 0.1, noise=0.1)),
    (9, swept(0.0), swept(-0.6), swept(-0.25, noise=0.05)),
    (10, swept(0.0, better=0.8), swept(0.0, better=1.25), swept(0.0, better=1.0)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("number", "holds", "fails", "undecided"),
    PLANTED,
    ids=[f"{row[0]}-{i}" for i, row in enumerate(PLANTED)],
)
def test_rules(number, holds, fails, undecided):
    judge = claim(number).judge
    assert claim(number).number == number
    found = [judge(data).headline.verdict for data in (holds, fails, undecided)]
    assert found == ["holds", "fails", "undecided"]
    assert judge(undecided).headline.words == "not decided at this size"


def test_correction_is_judged_apart_from_what_grows():
    """An exploding output is found beside the claim and does not touch its verdict."""
    j = claim(8).judge(probed(SCHEMES, 0.0, output=0.5, backward=0.5))
    assert j.headline.verdict == "holds"
    assert {p.key: p.verdict.verdict for p in j.parts} == {
        "8a": "holds", "8b": "fails", "8c": "fails", "8d": "fails",
    }  # fmt: skip
    assert [p.claimed for p in j.parts] == [True, False, False, False]


def test_gap_is_recovered():
    """The planted gap, its exponent and its end."""
    last, e, infinite = gia.over_depth(gaps(0.0))
    for found, due in ((last, 0.3), (e, 0.0), (infinite, 0.3)):
        assert found.low - 1e-3 < due < found.high + 1e-3
    assert gia.place(gaps(0.0)).value == pytest.approx(0.0, abs=0.1)


def test_identity_closed_forms():
    """T(1+T/L)^(L-1) and (1+T/L)^L − 1 at T = 1 end at e and e − 1."""
    assert gia.identity_limit("reused", 1) == gia.identity_limit("independent", 1) == 1
    for c in COUPLINGS:
        assert gia.identity_limit(c, 10**7) == pytest.approx(gia.identity_limit(c, float("inf")))


def test_a_diverged_scheme_loses():
    data = swept(0.0, better=0.8)
    lost = {m: np.full_like(v, np.inf) for m, v in data["curves"]["sgd"]["depth-mup"].items()}
    data["curves"]["sgd"][CORRECTED] = lost
    e = stronger.advantage(data, "sgd", "loss", "transferred")
    assert np.isinf(e.value)
    assert claim(10).judge(data).headline.verdict != "holds"


def test_a_study_does_not_name_options_of_another_command():
    for data in (swept(-0.25, noise=0.05), swept(-3.0)):
        words = [
            *claim(9).findings(data),
            *(p.verdict.rule for p in claim(9).judge(data).parts),
        ]
        assert not any("--lrs" in w or "next:" in w for w in words)
        assert any("undecided: " in w for w in words)


@pytest.mark.parametrize("coupling", COUPLINGS)
def test_nothing_is_decided_against_a_limit_that_has_not_converged(coupling):
    data = trained(left=1.0)
    data["converged"][coupling] = False
    found = claim(2).judge(data)
    words = {p.key: p.verdict.verdict for p in found.parts}
    assert words["2b"] == "undecided"
    assert words["2a" if coupling == "independent" else "2c"] == "undecided"
    assert found.headline.verdict == "undecided"


def test_outside_is_the_opposite_of_inside():
    for low, high, word in ((0.2, 0.3, "holds"), (-0.05, 0.05, "fails"), (0.0, 0.3, "undecided")):
        assert outside(Interval((low + high) / 2, low, high), -0.1, 0.1) == word


def test_a_diverged_scheme_is_said_in_words():
    data = swept(0.0, better=0.8)
    curves = data["curves"]["sgd"][CORRECTED]
    for v in curves.values():
        v[1:] = np.inf
    depths = data["depths"]
    assert stronger.first_lost(data, "sgd", CORRECTED) == depths[1]
    judged = claim(10).judge(data)
    (part,) = (p for p in judged.parts if p.key == "10a")
    assert part.verdict.number == f"corrected network, from L = {depths[1]} on"
    texts = [part.verdict.number, judged.headline.number, judged.headline.rule]
    texts += [
        *claim(10).findings(data),
        f"{stronger.advantage(data, 'sgd', 'loss', 'transferred'):w}",
    ]
    assert f"the correction diverges from L = {depths[1]} on" in " ".join(texts)
    assert not any("∞" in t for t in texts)


def test_a_range_is_said_of_transfer():
    said = " ".join(claim(9).findings(swept(-3.0)))
    assert "fails" in said
    assert "transfers from depth" in " ".join(claim(9).findings(swept(0.0)))
