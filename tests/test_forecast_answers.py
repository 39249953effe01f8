"""Questions to a forecast: a loss anywhere, budgets, isoFLOP minima; what is off, missed or dependent."""

import math

import numpy as np
import pytest

import leadline as ll
from leadline.cli.laws import frontier_lines
from leadline.forecasting.costs import make_cost
from leadline.forecasting.reading import read_runs

A, B, ALPHA, BETA = 480.0, 2085.0, 0.35, 0.37


def chinchilla(n, d):
    return 1.8 + A * n**-ALPHA + B * d**-BETA


def scattered(count=40, noise=0.002, law=chinchilla, seed=0):
    r = np.random.default_rng(seed)
    n = np.exp(r.uniform(np.log(3e7), np.log(3e9), count))
    d = np.exp(r.uniform(np.log(5e8), np.log(1e11), count))
    return {"N": n, "D": d, "loss": law(n, d) * np.exp(noise * r.standard_normal(count))}


@pytest.fixture(scope="module")
def made():
    return ll.forecast(scattered(), law="sum", draws=60)


def test_a_loss_by_any_name_of_its_axes(made):
    loss = made.predict(N=7e9, D=1.4e11)
    assert (
        loss
        == made.predict(parameters=7e9, tokens=1.4e11)
        == made.predict_at(dict(N=7e9, D=1.4e11))
    )
    assert loss.low <= chinchilla(7e9, 1.4e11) <= loss.high
    assert made.exponents["parameters"] == made.exponents["N"]
    assert loss.outside["N"] == pytest.approx(7e9 / made.runs.sizes["N"].max())
    assert "times the largest run's" in loss.beyond
    assert made.predict(N=1e9, D=1e10).outside == {}
    assert "below the smallest" in made.predict(N=1e6, D=1e10).beyond
    with pytest.raises(ValueError, match="the runs have no axis 'width'"):
        made.predict(width=64)


def test_best_sizes_by_any_name_of_their_axes():
    x = scattered()
    f = ll.forecast(
        {"size": x["N"], "data": x["D"], "loss": x["loss"]}, law="sum", draws=50,
        columns={"parameters": "size", "tokens": "data"},
    )  # fmt: skip
    best = f.best(1e20)
    assert best.N == best.parameters == best.sizes["size"]
    assert best.D == best.data == best.sizes["data"]
    with pytest.raises(AttributeError, match="Best has no 'width': it has size, data"):
        _ = best.width


def test_the_frontier_is_the_laws(made):
    """N* = G·(C/6)^a with a = β/(α+β), G = (αA/βB)^(1/(α+β)) of the fitted numbers."""
    f = made.frontier()
    e, x, y = made.coefficients, made.exponents["N"].value, made.exponents["D"].value
    g = (x * e["N"].value / (y * e["D"].value)) ** (1 / (x + y))
    assert f.exponents["N"].value == pytest.approx(y / (x + y), rel=1e-3)
    assert f.exponents["N"].low <= BETA / (ALPHA + BETA) <= f.exponents["N"].high
    for p in f.points:
        assert p.sizes["N"].value == pytest.approx(g * (p.budget / 6) ** (y / (x + y)), rel=1e-3)
        assert 6 * p.sizes["N"].value * p.sizes["D"].value == pytest.approx(p.budget, rel=1e-6)
        assert p.cost <= p.budget
    assert f.points[-1].loss.outside


def test_a_price_of_being_off(made):
    best = made.best(1e21)
    n, d = best.N.value, best.D.value
    for factor, rise in best.price.items():
        there = made.predict(N=factor * n, D=d / factor).value
        assert rise.value == pytest.approx(there / made.predict(N=n, D=d).value - 1, abs=1e-6)
    assert best.price[4.0].value > best.price[2.0].value > 0


@pytest.mark.parametrize("cost", ["6*N*D", "6·N·D", lambda N, D: 6 * N * D, "flops"])
def test_costs_of_every_kind_are_one(made, cost):
    rows = scattered()
    runs = read_runs(rows | {"flops": 6 * rows["N"] * rows["D"]})
    c = make_cost(cost, runs)
    assert c({"N": 1e9, "D": 2e10}) == pytest.approx(6 * 1e9 * 2e10, rel=1e-9)
    assert c.powers == pytest.approx({"N": 1, "D": 1}, abs=1e-9)


def test_a_column_of_costs_by_its_own_name():
    rows = scattered()
    runs = read_runs(rows | {"train FLOPs": 6 * rows["N"] * rows["D"]})
    assert runs.cost_column == "train FLOPs"
    c = make_cost("train FLOPs", runs.take(rows["N"] > 1e8))
    assert c({"N": 1e9, "D": 2e10}) == pytest.approx(6 * 1e9 * 2e10, rel=1e-9)


def test_what_to_hold_of_three_axes_holds_it():
    """A cost that is no product has at most two free axes; the remedy of the message, taken, answers."""
    rows = [dict(width=w, depth=l, tokens=t, loss=1 + 8 / w + 0.5 / l + (t / 1e8) ** -0.5)
            for w in (32, 64, 128, 256) for l in (2, 4, 8, 16) for t in (1e8, 4e8, 16e8)]  # fmt: skip
    f, cost = ll.forecast(rows, draws=50), "width^2*depth*tokens + 3*tokens"
    with pytest.raises(ValueError, match=r"hold one, tokens=SIZE \(--hold tokens=SIZE\)"):
        f.best(1e14, cost)
    assert f.best(1e14, cost, tokens=4e8).held == {"tokens": 4e8}


def test_a_form_that_the_runs_cannot_have_is_refused():
    line = {"width": [32, 64, 128, 256, 512], "loss": [3.0, 2.5, 2.2, 2.1, 2.05]}
    with pytest.raises(ValueError, match="law='kaplan' needs two axes of three values"):
        ll.forecast(line, law="kaplan", draws=50)
    with pytest.raises(ValueError, match="exponents that are fitted"):
        ll.forecast(scattered(), law="product", exponents="theory", draws=50)


def test_a_law_without_a_floor_says_so():
    rows = {"width": [32, 64, 128], "loss": [3.0, 1.5, 0.75]}
    f = ll.forecast(rows, draws=50)
    assert f.floor.high == 0
    assert any("The law has no floor" in n for n in f.notes)
    assert not any("may be 0" in n for n in f.notes)


def test_a_cost_that_is_no_product(made):
    """6ND + kD: the minimum on a table of what is left, beside a fine grid."""
    best = made.best(1e21, "6*N*D + 1e9*D")
    n = np.geomspace(1e7, 1e11, 4001)
    d = 1e21 / (6 * n + 1e9)
    loss = [made.predict(N=a, D=b).value for a, b in zip(n[::40], d[::40], strict=True)]
    assert made.predict(N=best.N.value, D=best.D.value).value <= min(loss) * (1 + 1e-6)
    held = made.best(1e21, D=1e10)
    assert held.N.value == pytest.approx(1e21 / 6e10, rel=1e-6)
    assert held.held == {"D": 1e10}


@pytest.mark.parametrize(
    ("cost", "message"),
    [
        ("6*N*X", "'X' is no axis of the runs: they have N, D"),
        ("6*N*D)", "is no expression"),
        ("__import__('os')", "has something else than names, numbers"),
        ("-N", "give a cost that is > 0"),
        (lambda width: width, "depends on none of N, D"),
        (lambda size: size, "takes 'size', which is no axis of the runs"),
    ],
)
def test_costs_that_are_none(made, cost, message):
    with pytest.raises(ValueError, match=r".") as error:
        made.best(1e21, cost)
    assert message in str(error.value)


def test_isoflop_minima():
    """Losses 2 + u², u the distance to N = .1·C^½ in decades: the exponent is ½."""
    rows = [
        dict(N=n, D=c / (6 * n), loss=2 + 3 / math.log10(c) + 0.05 * math.log10(n / (0.1 * c**0.5)) ** 2)
        for c in 10.0 ** np.arange(17, 21) for n in 0.1 * c**0.5 * 10 ** np.arange(-0.8, 0.9, 0.25)
    ]  # fmt: skip
    f = ll.forecast(rows, law="sum", draws=50)
    p = f.isoflop()
    assert p.axis == "N"
    assert p.exponent.value == pytest.approx(0.5, abs=1e-6)
    assert [x.best for x in p.profiles] == pytest.approx(
        [0.1 * c**0.5 for c in 10.0 ** np.arange(17, 21)], rel=1e-3
    )
    with pytest.raises(ValueError, match="the runs have 0 isoFLOP profiles"):
        ll.forecast(scattered(20), law="sum", draws=50).isoflop()


# --- what is off, missed, dependent ---


@pytest.mark.parametrize("factor", [3.0, 10.0])
def test_one_bad_run_decides_nothing(factor):
    """4 × 4 sizes, 1 % noise, the largest off: both terms stay, the run is named and left out."""
    r = np.random.default_rng(1)
    rows = [dict(width=n, depth=l, loss=(2 + 20 / n**0.7 + 0.9 / l) * math.exp(0.01 * r.standard_normal()))
            for n in (32, 64, 128, 256) for l in (2, 4, 8, 16)]  # fmt: skip
    rows[-1]["loss"] *= factor
    f = ll.forecast(rows, draws=60)
    assert f.terms == ("width", "depth")
    assert [(o.row, o.left_out) for o in f.outliers] == [("row 15", True)]
    assert f.outliers[0].factor == pytest.approx(factor, rel=0.1)
    assert f.predict(256, 16).value == pytest.approx(2 + 20 / 256**0.7 + 0.9 / 16, rel=0.03)


def test_a_floor_that_may_be_zero_has_an_interval():
    losses = [3.37555, 3.41386, 3.19563, 3.22368, 2.97753, 2.91683, 2.74823, 2.68109, 2.44457, 2.52185,
              2.24242, 2.1625]  # fmt: skip
    widths = [w for w in (64, 128, 256, 512, 1024, 2048) for _ in "ss"]
    rows = [dict(width=w, depth=4, loss=x) for w, x in zip(widths, losses, strict=True)]
    floor = ll.forecast(rows, exponents="free", draws=200).floor
    assert floor.low == 0
    assert floor.high > 0.5  # what was planted


def test_a_pattern_that_no_law_follows_is_a_misfit():
    """A loss that bends the other way along D: said, and every interval widens."""
    x = scattered(60, 0.002)
    calm = ll.forecast(x, law="sum", draws=60)
    wave = 0.1 * np.log10(x["D"] / 7e9) ** 2 - 0.1 * np.log10(x["N"] / 3e8) ** 2
    f = ll.forecast(x | {"loss": x["loss"] * np.exp(wave)}, law="sum", draws=60)
    assert not calm.misfit.seen
    assert f.misfit.grave
    assert any(n.startswith("MISFIT") for n in f.notes)
    far = dict(N=3e10, D=1e12)
    assert f.predict(**far).undecided
    lines = frontier_lines(f.frontier())
    assert sum("UNDECIDED" in x for x in "\n".join(lines).split("\n")) >= 2
    assert (
        lines[-1]
        == "  UNDECIDED: the law misses a pattern in the runs, and this is far outside them"
    )
    assert "UNDECIDED" not in "".join(frontier_lines(calm.frontier()))
    assert not calm.predict(**far).undecided


def test_checkpoints_are_found_and_whole_trainings_resampled():
    r = np.random.default_rng(0)
    rows = []
    for w in (64, 128, 256, 512):
        for l in (2, 4, 8, 16):
            shift = 0.01 * r.standard_normal()
            rows += [
                dict(width=w, depth=l, samples=k * 1e10, loss=math.exp(shift + 0.002 * r.standard_normal())
                     * (1 + 2 * (w / 64) ** -0.5 + 0.6 * (l / 2) ** -0.7 + 1.5 * k**-0.4))
                for k in range(1, 9)
            ]  # fmt: skip
    f = ll.forecast(rows, law="sum", draws=60, exponents="free")
    assert f.resampled == "groups"
    assert len(np.unique(f.laws[0].law.axes)) == 3
    assert any("checkpoints of 16 trainings" in n for n in f.notes)
    for row in rows:
        row["loss"] *= math.exp(0.01 * r.standard_normal())
    told = ll.forecast(
        [r | dict(run=i % 16) for i, r in enumerate(rows)], group="run", law="sum", draws=60
    )
    assert told.resampled == "groups"
