"""forecast: planted laws, choice of law, questions, notes."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.optimize import least_squares

import leadline as ll
from leadline.forecasting import fit, noise
from leadline.forecasting.costs import make_cost
from leadline.forecasting.figure import curves
from leadline.forecasting.law import Law, Term
from leadline.forecasting.optimum import Surface
from leadline.forecasting.reading import read_runs as read

WIDTHS, DEPTHS = (32, 64, 128, 256, 512), (2, 4, 8, 16)
ONE = (0.2, 16.0, 1.0, 0.8, 1.0)
OTHER = (0.2, 5.6, 0.7, 0.57, 0.5)


def law(planted, n, l):
    e, a, p, b, q = planted
    return e + a * n**-p + b * l**-q


def planted(law_, noise_=0.0, seeds=1, widths=WIDTHS, depths=DEPTHS, rng=0):
    r = np.random.default_rng(rng)
    return [
        dict(
            width=n, depth=l, seed=s, loss=law(law_, n, l) * math.exp(noise_ * r.standard_normal())
        )
        for n in widths
        for l in depths
        for s in range(seeds)
    ]


def forecast(*args, **how):
    return ll.forecast(*args, **dict(draws=200) | how)


# --- exact ---


@pytest.mark.parametrize("law_", [ONE, OTHER, (0.0, 3.0, 0.4, 1.0, 1.3)])
def test_a_law_without_noise_is_recovered(law_):
    f = forecast(planted(law_))
    e, a, p, b, q = law_
    assert f.terms == ("width", "depth")
    assert f.floor.value == pytest.approx(e, abs=1e-4)
    for axis, c, x in (("width", a, p), ("depth", b, q)):
        assert f.exponents[axis].value == pytest.approx(x, rel=1e-4)
        assert f.coefficients[axis].value == pytest.approx(c, rel=1e-4)
    assert f.predict(4096, 128).value == pytest.approx(law(law_, 4096, 128), rel=1e-4)
    assert ("/width" in f.law) == (p == 1)


def test_four_axes():
    rows = [
        dict(width=n, depth=l, samples=p, steps=k,
             loss=0.1 + 8 / n + 0.4 / l + 2 * p**-0.5 + 3 * k**-0.6)
        for n in (32, 64, 128) for l in (2, 4, 8) for p in (100, 400, 1600)
        for k in (100, 300, 900)
    ]  # fmt: skip
    f = forecast(rows, draws=50)
    assert f.floor.value == pytest.approx(0.1, abs=1e-4)
    assert f.exponents["samples"].value == pytest.approx(0.5, rel=1e-4)
    assert f.exponents["steps"].value == pytest.approx(0.6, rel=1e-4)
    assert f.predict(64, 4, samples=1e4, steps=1e4).value == pytest.approx(
        0.1 + 8 / 64 + 0.1 + 0.02 + 3 * 1e4**-0.6, rel=1e-4
    )


def test_the_minimum_is_scipys():
    """The same cost as least_squares(loss='soft_l1'), with outliers."""
    data = read(planted(OTHER, 0.02, 2))
    y = np.log(data.loss) + np.where(np.arange(len(data)) % 11 == 0, 0.5, 0.0)
    form = Law((Term("width"), Term("depth")))
    logs = data.logs(form.axes, np.array([32.0, 2.0]))
    weight = np.linspace(0.5, 1.5, len(data))
    starts = fit.starts(form, logs, data.loss)
    bounds = form.bounds(data.loss)
    theta, cost = fit.best(*fit.minimise(form, logs, y, weight, 0.04, starts, bounds))
    other = least_squares(
        lambda t: (y - np.log(form.value(t, logs)[0])) * weight, theta + 0.05,
        loss="soft_l1", f_scale=0.04, xtol=1e-15, ftol=1e-15, gtol=1e-15, bounds=bounds,
    )  # fmt: skip
    assert cost == pytest.approx(2 * other.cost, rel=1e-8)
    assert theta == pytest.approx(other.x, abs=1e-4)


def test_derivatives_of_the_law():
    form = Law((Term("width"), Term("depth", 1.0)))
    logs = np.random.default_rng(0).random((5, 2)) * 3
    theta = np.array([0.2, -0.3, 0.2, -0.7])
    slope = form.log_value(theta, logs)[1][0]
    for k in range(4):
        up, down = theta.copy(), theta.copy()
        up[k] += 1e-5
        down[k] -= 1e-5
        numeric = (form.log_value(up, logs)[0] - form.log_value(down, logs)[0])[0] / 2e-5
        assert slope[k] == pytest.approx(numeric, abs=1e-8)


def test_diminishing_is_where_a_doubling_gains_as_much():
    f = forecast(planted(OTHER))
    for axis, other in (("width", {"depth": 8}), ("depth", {"width": 128})):
        for gain in (0.3, 1.0, 5.0):
            x = f.diminishing(axis, gain, **other).value
            now, then = (f.predict(**{axis: k * x}, **other).value for k in (1, 2))
            assert 1 - then / now == pytest.approx(gain / 100, rel=1e-6)
    assert f.diminishing("width", 60.0).value == 0.0
    # Without a floor every doubling gains the same.
    pure = forecast(planted((0.0, 3.0, 0.4, 0.0, 1.0), depths=(4,)))
    assert math.isinf(pure.diminishing("width").value)
    assert pure.to_json()["diminishing"]["width"]["value"] is None


def test_best_is_the_minimum_on_the_budget():
    f = forecast(planted(ONE))
    # Minimise 16/n + 0.8/L at n²L = C: L = 0.1·n.
    best = f.best(1e7)
    n = (1e7 / 0.1) ** (1 / 3)
    assert best.width.value == pytest.approx(n, rel=0.02)
    assert best.depth.value == pytest.approx(0.1 * n, rel=0.02)
    assert best.cost <= 1e7
    assert best.cost > 0.9e7
    assert best.loss.value == pytest.approx(law(ONE, *best.size), rel=1e-4)
    # Minimise 16/n + 0.8/L at n + 10 L = C: n² = 160·10·L²/… → 16/n² = λ, 0.8/L² = 10 λ.
    own = f.best(1000, lambda width, depth, samples, steps: width + 10 * depth)
    assert own.width.value / own.depth.value == pytest.approx(math.sqrt(16 * 10 / 0.8), rel=0.02)
    assert f.best(1e12).extrapolated > 4


def test_samples_and_steps_count_in_the_budget():
    rows = [r | dict(samples=50, steps=10) for r in planted(ONE)]
    f = forecast(rows)
    assert f.best(5e9).width.value == pytest.approx(forecast(planted(ONE)).best(1e7).width.value)
    assert f.best(1e7, samples=1, steps=1).cost <= 1e7


# --- statistical ---


@pytest.mark.parametrize("law_", [ONE, OTHER])
def test_coverage(law_):
    """20 replicates: of 95 % intervals fewer than 15 hold with probability 0.0003 (binomial)."""
    hits = np.zeros(4)
    for i in range(20):
        f = forecast(planted(law_, 0.02, 3, rng=100 + i), draws=120)
        pairs = [
            (f.floor, law_[0]),
            (f.exponents["width"], law_[2]),
            (f.exponents["depth"], law_[4]),
            (f.predict(2048, 64), law(law_, 2048, 64)),
        ]
        hits += [x.low <= value <= x.high for x, value in pairs]
    assert hits.min() >= 15


def test_a_run_scatters_more_than_the_law():
    f = forecast(planted(ONE, 0.05, 3))
    typical, run = f.predict(256, 8), f.predict(256, 8, run=True)
    assert typical.value == run.value
    # 1.96 · 0.05 on either side; the draws' percentiles are good to about 20 %.
    assert math.log(run.high / run.low) == pytest.approx(2 * 1.96 * 0.05, rel=0.3)
    assert typical.high - typical.low < run.high - run.low


def test_outliers_do_not_move_the_law():
    rows = planted(ONE, 0.01, 3)
    for row in rows[::12]:
        row["loss"] *= 3
    f = forecast(rows)
    assert f.predict(512, 16).value == pytest.approx(law(ONE, 512, 16), rel=0.02)


def test_noise_that_falls_with_width_is_weighted():
    r = np.random.default_rng(0)
    rows = [
        row | dict(loss=row["loss"] * math.exp(0.1 * 32 / row["width"] * r.standard_normal()))
        for row in planted(ONE, seeds=8)
    ]
    data = read(rows)
    w = noise.weights(data)
    slope = np.polyfit(np.log(data.sizes["width"]), np.log(w), 1)[0]
    # 35 degrees of freedom a level of width: the slope's standard error is about 0.05.
    assert slope == pytest.approx(1.0, abs=0.2)
    assert np.allclose(noise.weights(read(planted(ONE, 0.02, 8))), 1.0)


def test_what_the_law_misses_widens_the_intervals():
    rows = planted(ONE, 0.001, 4)
    off = np.random.default_rng(1).standard_normal(len(WIDTHS) * len(DEPTHS))
    for i, row in enumerate(rows):
        row["loss"] *= math.exp(0.03 * off[i // 4])
    f, calm = forecast(rows), forecast(planted(ONE, 0.001, 4))
    assert (f.resampled, calm.resampled) == ("sizes", "runs")
    assert any("off the law" in n for n in f.notes)
    assert f.floor.high - f.floor.low > 5 * (calm.floor.high - calm.floor.low)


# --- choice ---


def test_an_axis_without_effect_gets_no_term():
    f = forecast(planted((0.2, 5.6, 0.7, 0.0, 1.0), 0.01, 3))
    assert f.terms == ("width",)
    assert any("No term for depth" in n for n in f.notes)
    assert f.diminishing("depth").value == 0.0
    assert f.best(1e7).depth.value == 2.0
    flat = forecast(planted((0.2, 0.0, 0.7, 0.0, 1.0), 0.01, 3))
    assert flat.law == "E"
    assert flat.best(1e7).size == (32, 2)


def test_exponents_as_asked():
    rows = planted(ONE, 0.02, 3)
    assert forecast(rows, exponents="theory").law == "E + A/width + B/depth"
    assert forecast(rows, exponents="free").law == "E + A·width^-a + B·depth^-b"
    auto = forecast(rows)
    assert auto.law == "E + A/width + B/depth"
    narrow, wide = forecast(rows, exponents="theory").floor, auto.floor
    assert wide.low <= narrow.low + 1e-3
    assert wide.high - wide.low > narrow.high - narrow.low
    assert sum(row.chosen for row in auto.held_out) == 1
    assert auto.held_out_sizes > 0


def test_two_values_of_an_axis():
    f = forecast(planted(ONE, 0.01, 3, depths=(2, 8)))
    assert any("depth takes two values" in n for n in f.notes)
    assert "B/depth" in f.law


# --- notes ---


def test_data_that_do_not_determine_the_floor_say_so():
    f = forecast(
        planted((0.05, 1.5, 0.3, 0.0, 1.0), 0.05, 1, widths=(32, 64, 128, 256), depths=(4,))
    )
    assert any("do not determine the floor" in n or "may be 0" in n for n in f.notes)
    assert any("Only 4 sizes" in n for n in f.notes)
    assert any("Every run has depth 4" in n for n in f.notes)


def test_a_rising_loss_is_said():
    rows = [
        r | dict(loss=r["loss"] - 0.3 / r["depth"]) for r in planted((0.3, 8, 1, 0, 1), 0.001, 3)
    ]
    f = forecast(rows)
    assert any("rises with depth" in n for n in f.notes)


def test_notes_of_the_data():
    rows = planted(ONE, 0.01, 2)
    rows[3]["loss"], rows[7]["loss"], rows[9]["loss"] = math.nan, math.inf, None
    f = forecast([*rows, rows[0]])
    assert f.runs.diverged == 3
    assert any("3 runs without a finite loss" in n for n in f.notes)
    assert any("repeat the size and seed" in n for n in f.notes)


def test_floor_against_limit():
    rows = planted(ONE, 0.01, 3)
    agreed = forecast(rows, limit=(0.2, 0.005)).limit
    assert agreed.agrees
    found = SimpleNamespace(train_loss=np.array([1.0, 0.4]), train_loss_error=np.array([0.0, 0.01]))
    other = forecast(rows, limit=found)
    assert not other.limit.agrees
    assert "CONTRADICTS the limit 0.4" in str(other)


# --- forms ---


def test_every_form_of_data_is_the_same(tmp_path):
    pandas = pytest.importorskip("pandas")
    rows = planted(OTHER, 0.02, 2)
    frame = pandas.DataFrame(rows)
    frame.to_csv(tmp_path / "runs.csv", index=False)
    forms = [rows, {k: [r[k] for r in rows] for k in rows[0]}, frame, tmp_path / "runs.csv"]
    floors = [forecast(form).floor for form in forms]
    assert all(x == floors[0] for x in floors)


def test_text_json_and_figure():
    f = forecast(planted(OTHER, 0.02, 2))
    text = str(f)
    assert "floor E" in text
    assert "held-out error" in text
    data = json.loads(json.dumps(f.to_json()))
    assert data["floor"]["low"] <= data["floor"]["value"] <= data["floor"]["high"]
    # Nine sums, three of them without a floor, Kaplan's form and a product, each with and without.
    assert len(data["held_out"]) == 9 + 3 + 4
    lines = curves(f.runs, f.laws, f.confidence, "width")
    assert [c["name"] for c in lines] == ["depth 2", "depth 4", "depth 8", "depth 16"]
    assert all(len(c["runs_x"]) == 2 * len(WIDTHS) for c in lines)
    assert all(
        a <= b <= c
        for a, b, c in zip(lines[0]["low"], lines[0]["y"], lines[0]["high"], strict=True)
    )
    # A curve and its runs for each of 4 depths and 5 widths, two bands, two panels of residuals.
    assert len(f.figure().data) == 2 * (4 + 5) + 2 + 2


# --- properties ---


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    e=st.floats(0.01, 2.0),
    a=st.floats(0.1, 2.0),
    p=st.floats(0.3, 1.5),
    unit=st.floats(1e-3, 1e3),
)
def test_units_of_the_loss_do_not_matter(e, a, p, unit):
    rows = planted(
        (e, a * 32**p, p, 0.3, 1.0), 0.01, 1, widths=(32, 64, 128, 256), depths=(2, 4, 8)
    )
    f = forecast(rows, draws=50, exponents="free")
    g = forecast([r | dict(loss=unit * r["loss"]) for r in rows], draws=50, exponents="free")
    assert g.law == f.law
    assert g.predict(256, 8).value == pytest.approx(unit * f.predict(256, 8).value, rel=1e-4)
    assert f.floor.low <= f.floor.value <= f.floor.high
    sizes = [f.predict(n, 8).value for n in (64, 128, 1024, 10**5)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] >= f.floor.value * (1 - 1e-9)


@given(st.floats(1e3, 1e15), st.floats(1, 1e3))
@settings(max_examples=15, deadline=None)
def test_what_is_left_spends_the_budget(budget, samples):
    """A product of powers exactly; another cost through a table of bisections."""
    if budget < 20 * samples:
        return
    runs = read([r | dict(samples=samples) for r in planted(ONE)])
    for cost, rel in ((None, 1e-9), ("width**2*depth*samples + 3*depth", 1e-3)):
        surface = Surface(budget, make_cost(cost, runs), ("width", "depth"), {"samples": samples})
        surface.check()
        u = np.linspace(0, surface.span("width"), 30)
        sizes = {"width": np.exp(u), "depth": np.exp(surface.last([u])), "samples": samples}
        assert surface.cost(sizes) == pytest.approx(budget, rel=rel)
