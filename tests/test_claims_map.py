"""The map of claims 9 and 10: its networks, and its rules on planted losses."""

import importlib
import math
from pathlib import Path

import numpy as np
import pytest

import leadline as ll

FOLDER = Path(ll.__file__).parents[2] / "benchmarks"


@pytest.fixture
def module(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


def planted(shift, level, slope=0.3, seeds=6, noise=0.0):
    """Rows of depths 4, 8, 16, 64: best log2 rate 0 - shift a doubling, log loss there level a doubling."""
    rng = np.random.default_rng(round(1000 * abs(level)))
    out = []
    for depth in (4, 8, 16, 64):
        t = math.log2(depth / 4)
        for k in range(-8, 5):
            for seed in range(seeds):
                x = k / 2 - shift * t
                y = level * t + slope * x**2 * (x > 0 or 0.5) + noise * rng.standard_normal()
                out.append(dict(depth=depth, lr=2.0 ** (k / 2), seed=seed, loss=math.exp(y)))
    return out


def judged(module, noise=0.002, **schemes):
    rows = [
        r | {"scheme": name, "test_loss": r["loss"]}
        for name, (shift, level) in schemes.items()
        for r in planted(shift, level, noise=noise)
    ]
    return module("map_rules").judge(rows, (4, 16), 6)


def words(statements, **what):
    return [s["word"] for s in statements if all(s.get(k) == v for k, v in what.items())]


def test_planted_losses_are_judged_as_they_were_planted(module):
    s = judged(module, **{"depth-mup": (0, 0), "better": (0, -0.05), "moving": (-0.5, -0.05)})
    for scheme, word in (
        ("depth-mup", "transfers"),
        ("better", "transfers"),
        ("moving", "does not transfer"),
    ):
        assert words(s, what="transfers", scheme=scheme) == [word] * 2
    how = dict(what="stronger", metric="loss")
    # The last is said of the base, where they differ by noise alone.
    assert words(s, scheme="better", **how) == ["stronger"] * 4 + ["alike"]
    # At the base's best rate, two doublings too high, it is worse; at a quarter of that it is at its best.
    assert words(s, scheme="moving", reading="tuned", **how) == ["stronger"]
    assert words(s, scheme="moving", reading="at its best", **how) == ["weaker"]
    assert words(s, scheme="moving", reading="at a quarter", **how) == ["stronger"]
    (one,) = (
        x for x in s if x["what"] == "transfers" and x["scheme"] == "moving" and x["base"] == 4
    )
    # Half a doubling, and what the lower level moves besides: 0.2 of log loss at a slope of 0.45.
    assert one["drift"][0] == pytest.approx(-0.5, abs=0.01)
    assert -0.75 < one["shift"][1] <= one["shift"][0] <= one["shift"][2] < -0.5
    assert words(s, what="margin", scheme="moving") == ["costs more", "costs more", "serves"]
    assert words(s, what="margin", scheme="depth-mup") == ["serves"] * 3


def test_the_number_is_the_log_ratio_that_was_planted(module):
    s = judged(module, noise=0.0, **{"depth-mup": (0, 0), "better": (0, -0.05)})
    (one,) = (x for x in s if x.get("reading") == "tuned" and x["metric"] == "loss")
    assert one["ratio"] == pytest.approx([-0.2] * 3, abs=1e-9)
    close = judged(module, noise=0.0, **{"depth-mup": (0, 0), "close": (0, -0.01)})
    assert set(words(close, what="stronger")) == {"alike"}


def test_noise_leaves_a_statement_open(module):
    s = judged(module, noise=0.3, **{"depth-mup": (0, 0), "close": (0, -0.02)})
    assert words(s, what="stronger", reading="at half", metric="loss") == ["undecided"]


def test_divergence_is_said_with_its_depth(module):
    rows = [
        r | {"scheme": name, "test_loss": r["loss"]}
        for name in ("depth-mup", "other")
        for r in planted(0, 0)
    ]
    for r in rows:
        if r["scheme"] == "other" and r["depth"] >= 16 and r["lr"] >= 1:
            r["loss"] = r["test_loss"] = math.inf
    s = module("map_rules").judge(rows, (4,), 6)
    (one,) = (x for x in s if x.get("reading") == "at its best" and x["metric"] == "loss")
    assert (one["word"], one["diverges"], one["ratio"][0]) == ("weaker", 16, None)
    assert words(s, what="transfers", scheme="other") == ["does not transfer"]


def test_a_rate_below_the_grid_is_not_measured(module):
    rows = [
        r | {"scheme": name, "test_loss": r["loss"]}
        for name in ("depth-mup", "other")
        for r in planted(0, 0)
        if r["lr"] >= 0.5
    ]
    s = module("map_rules").judge(rows, (4,), 6)
    assert words(s, what="margin", scheme="other") == ["serves", "serves", "not measured"]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_the_correction_at_a_depth_is_a_constant_factor(module, optimizer):
    """√(8/2) = 2: at depth 8 the two are one network, at other depths they are not."""
    blocks = module("map_blocks").blocks
    problem = ll.digits(classes=tuple(range(10)), samples=20, test_samples=0, loss="cross_entropy")

    def losses(scheme, ratio):
        done = ll.sweep(
            problem,
            blocks("relu", 1.0, 2, optimizer == "sgd", ratio=ratio),
            widths=[8],
            depths=[2, 8],
            lrs=[0.02],
            steps=3,
            scheme=scheme,
            optimizer=optimizer,
            base=dict(width=8, depth=2),
            executor="inline",
        )
        return [r["loss"] for r in done.rows]

    grown, constant = losses("depth-mup-corrected", 1.0), losses("depth-mup", 2.0)
    assert grown[1] == pytest.approx(constant[1], rel=1e-6)
    assert grown[0] != pytest.approx(constant[0], rel=1e-4)
