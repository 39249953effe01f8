"""The paper's figures: statistics of curves and rules on planted data, and the study end to end."""

import json
import math

import numpy as np
import pytest
from click.testing import CliRunner

from leadline.claims import curves
from leadline.claims.claim import FIGURES, NUMBERS, TOY, Setting, claim
from leadline.claims.figure_limits import depth_exponent, root_mean_square, width_exponent
from leadline.claims.gia import KINDS
from leadline.claims.measurement import outline, study
from leadline.claims.studies import load
from leadline.cli import main

STEPS = np.arange(0, 91, 10)
DEPTHS = (2, 4, 8, 16, 32)


def decaying(rate=0.03, behind=0.0, gap=0.0, noise=0.0, seeds=4, shared=True, rng=None):
    """(seeds, couplings, steps): exp(−rate·t), and the same at (1 − behind)·t, times 1 + gap."""
    rng = rng or np.random.default_rng(0)
    first = np.exp(-rate * STEPS)
    second = np.exp(-rate * (1 - behind) * STEPS) * (1 + gap)
    draws = rng.standard_normal((seeds, 1 if shared else 2, 1))
    return np.stack([first, second]) * np.exp(noise * draws)


# What the eye does not see


def test_a_shift_in_time_is_recovered():
    for behind in (0.05, 0.3, 0.0):
        e = curves.time_shift(decaying(behind=behind), 9, STEPS)
        assert e.value == pytest.approx(behind, abs=1e-12)
        e = curves.time_shift(decaying(behind=behind)[:, ::-1], 9, STEPS)
        assert e.value == pytest.approx(-behind, abs=1e-12)
    assert math.isnan(curves.time_shift(decaying(), 0, STEPS).value)


def test_a_loss_counts_as_reached_when_it_is_first_reached():
    first = np.array([1.0, 0.5, 0.9, 0.25])
    second = np.array([1.0, 0.9, 0.8, 0.5])
    v = np.stack([first, second])[None].repeat(3, 0)
    # The first coupling has 0.5 at step 1, of 3.
    assert curves.time_shift(v, 3, np.arange(4)).value == pytest.approx(1 - 1 / 3)
    # Never worse than at its start: the second coupling's 1.0 is the first one's beginning.
    stuck = np.stack([first, np.ones(4)])[None].repeat(3, 0)
    assert curves.time_shift(stuck, 3, np.arange(4)).value == 1.0


def test_the_gap_is_that_of_the_means():
    v = decaying(gap=0.1, noise=0.3, rng=np.random.default_rng(1))
    e = curves.relative_gap(v, 3)
    assert e.value == pytest.approx(0.1, rel=1e-12)  # seeds are shared by the couplings
    assert e.high - e.low < 1e-12
    apart = curves.relative_gap(decaying(gap=0.1, noise=0.3, shared=False), 3)
    assert apart.low < 0.1 < apart.high
    assert apart.high - apart.low > 0.1


def test_two_seeds_are_as_far_apart_as_planted():
    """Of n seeds, the root mean square of all pairs' differences, over the mean."""
    v = decaying(noise=0.2, seeds=5, shared=False, rng=np.random.default_rng(2))[..., :1]
    pairs = []
    for c in (0, 1):
        x = v[:, c, 0] / v[:, c, 0].mean()
        pairs += [(x[i] - x[j]) ** 2 for i in range(5) for j in range(i)]
    e = curves.seed_distance(v, 0)
    assert e.value == pytest.approx(np.sqrt(np.mean(pairs)), rel=1e-12)
    assert 0 < e.low < e.value < e.high
    gap = curves.relative_gap(v, 0).value
    ratio = curves.in_seeds(v, 0)
    assert ratio.value == pytest.approx(abs(gap) / e.value, rel=1e-12)
    assert ratio.low == 0.0  # the gap's interval holds 0
    planted = curves.in_seeds(v * np.array([[[1.0], [3.0]]]), 0)
    assert 1 < planted.low < planted.value < planted.high


def test_intervals_of_the_distance_cover():
    """Of four seeds, where a jackknife of a spread covers less than its 95 %: not below 80 %."""
    rng, noise, hits = np.random.default_rng(3), 0.05, 0
    for _ in range(240):
        e = curves.seed_distance(decaying(noise=noise, seeds=4, shared=False, rng=rng)[..., :1], 0)
        hits += e.low <= math.sqrt(2) * noise <= e.high
    assert hits / 240 > 0.8


def test_divergence_is_no_number():
    v = decaying(gap=0.1)
    v[1, 1, 5:] = np.nan
    assert curves.relative_gap(v, 4).value == pytest.approx(0.1)
    e = curves.relative_gap(v, 5)
    assert (e.value, e.low, e.high) == (math.inf, -math.inf, math.inf)
    for number in (curves.seed_distance(v, 5), curves.in_seeds(v, 5)):
        assert math.isnan(number.value)
    assert math.isnan(curves.time_shift(v, 9, STEPS).value)
    assert math.isnan(curves.relative_gap(v[:, ::-1], 5).value)
    assert math.isnan(curves.seed_distance(decaying(seeds=2), 3).value)


# Rules of figure 2


def planted(exponent, first=0.1, noise=0.005, grows=0.5, seeds=4):
    """Data whose depth-μP gap is first·(L/2)^exponent, and whose other gaps grow with depth."""
    rng = np.random.default_rng(4)
    size = np.array(DEPTHS) / 2
    gaps = {"depth-mup": first * size**exponent, "mup": first * size**grows}
    gaps["plain"] = gaps["mup"]
    losses = {
        kind: {
            part: [
                decaying(gap=g, noise=noise, shared=False, seeds=seeds, rng=rng) for g in gaps[kind]
            ]
            for part in ("train", "test")
        }
        for kind in KINDS
    }
    about = dict(width=8, depths=DEPTHS, samples=9, batch=3, steps=STEPS.tolist())
    return about | {"curves": losses}


def words(judged):
    return {p.key: p.verdict.verdict for p in judged.parts}


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (planted(-0.5, first=0.5), "holds"),
        (planted(0.0), "fails"),
        (planted(0.1), "fails"),
        (planted(0.0, noise=0.2), "undecided"),
        (planted(-0.25), "undecided"),
        (planted(0.0, first=0.003, noise=1e-5), "undecided"),  # no gap to speak of, and no decay
    ],
)
def test_the_rule_of_figure_2(data, word):
    judged = claim("figure-2").judge(data)
    assert judged.headline.verdict == word


def test_figure_2_is_judged_at_a_third_of_the_training():
    data = planted(0.0)
    for losses in data["curves"]["depth-mup"]["train"]:
        losses[..., 4:] = losses[:, :1, 4:]  # no gap later on
    assert claim("figure-2").judge(data).headline.verdict == "fails"
    for losses in data["curves"]["depth-mup"]["train"]:
        losses[..., 3] = losses[:, :1, 3] * [1.0, 1.001]
    assert claim("figure-2").judge(data).headline.verdict != "fails"


def test_statements_of_figure_2():
    judge = claim("figure-2").judge
    assert words(judge(planted(0.0))) == {"a": "holds", "b": "fails", "c": "holds", "d": "holds"}
    shrinking = planted(0.0, grows=-1.0)
    assert words(judge(shrinking))["c"] == words(judge(shrinking))["d"] == "fails"
    assert words(judge(planted(0.0, first=0.002, noise=0.05, seeds=32)))["b"] == "holds"
    assert words(judge(planted(0.0, first=0.002, noise=1e-4)))["a"] == "fails"
    # A network that diverges under the assumption alone has parted; one that diverges anyway has not.
    data = planted(0.0, grows=0.0)
    data["curves"]["mup"]["train"][-1][1, 1, 2:] = np.nan
    data["curves"]["plain"]["train"][-1][1, :, 2:] = np.nan
    assert (words(judge(data))["c"], words(judge(data))["d"]) == ("holds", "undecided")
    data["curves"]["depth-mup"]["train"][-1][0, 1, 2:] = np.nan
    assert judge(data).headline.verdict == "undecided"
    figure = claim("figure-2")
    assert "diverged" in str(figure.tables(data)[0].rows)
    assert figure.findings(data)
    assert figure.figures(data)


# The rule of figure 1


def approaching(in_width=-1.0, in_depth=-1.0, apart=0.3, noise=0.002, seeds=8):
    """Data whose errors fall by these exponents; the limits differ by that much."""
    rng = np.random.default_rng(5)
    depths, widths = (2, 4, 8, 16, 32, 64), (32, 64, 128, 256)
    end = {"reused": np.ones(6) * (1 + apart), "independent": np.ones(6)}
    deep = 0.5 * (np.array(depths) / 2.0) ** in_depth
    outputs = {
        c: e * (1 + deep[:, None]) + noise * rng.standard_normal((seeds, len(depths), 6))
        for c, e in end.items()
    }
    errors = 0.2 * (np.array(widths) / 32) ** in_width
    spread = np.exp(30 * noise * rng.standard_normal((len(widths), seeds)))
    errors = list(errors[:, None] * spread)
    lines = ("independent, independent", "reused, reused", "reused, independent")
    about = dict(widths=widths, depth=16, wide=1024, width=512, depths=depths)
    return about | {"errors": dict.fromkeys(lines, errors), "outputs": outputs}


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (approaching(), "holds"),
        (approaching(in_width=-0.5), "fails"),
        (approaching(in_depth=-0.5), "fails"),
        (approaching(noise=0.1), "undecided"),
    ],
)
def test_the_rule_of_figure_1(data, word):
    judged = claim("figure-1").judge(data)
    assert judged.headline.verdict == word


def test_numbers_of_figure_1():
    data = approaching()
    assert width_exponent(data, "reused").value == pytest.approx(-1, abs=0.05)
    assert depth_exponent(data, "reused").value == pytest.approx(-1, abs=0.05)
    # 1/L is the form that the reference is extrapolated by: exact but for the noise.
    assert words(claim("figure-1").judge(data))["e"] == "holds"
    (e,) = (p.verdict for p in claim("figure-1").judge(data).parts if p.key == "e")
    assert e.value == pytest.approx(0.3, abs=0.01)
    assert words(claim("figure-1").judge(approaching(apart=0.0, noise=1e-5)))["e"] != "holds"


def test_the_scatter_of_seeds_is_no_error():
    """Deviations 0.1 under noise of 1 in each of 40 seeds: on average 0.1², within 4 standard errors."""
    rng = np.random.default_rng(6)
    squares = []
    for _ in range(300):
        v = 0.1 + rng.standard_normal((40, 1, 50))
        pairs = root_mean_square(v, np.ones(50))
        squares.append(0.0 if np.isnan(pairs) else float(pairs[0]) ** 2)
    spread = np.std(squares) / np.sqrt(len(squares))
    assert abs(np.mean(squares) - 0.01) < 4 * spread
    exact = np.array([[[1.0, 3.0]], [[2.0, 5.0]]])
    # (1·2 + 3·5)/2 over the mean square of the scale.
    assert root_mean_square(exact, np.full(2, 2.0))[0] == pytest.approx(np.sqrt(17 / 2 / 4))


def test_noise_does_not_decide_figure_1():
    """Errors far below the scatter of few seeds: no slope is read from the scatter."""
    for seed in range(5):
        data = approaching()
        rng = np.random.default_rng(seed)
        data["outputs"] = {
            c: 1 + 0.1 * rng.standard_normal((3, 6, 6)) for c in ("reused", "independent")
        }
        assert words(claim("figure-1").judge(data))["b"] == "undecided"


# The study


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return study(
        figures=range(1, len(FIGURES) + 1), preset=TOY, out=tmp_path_factory.mktemp("f"), workers=1
    )


def test_figures_end_to_end(toy):
    assert tuple(toy.verdicts) == FIGURES
    held = json.loads((toy.path / "verdicts.json").read_text())
    assert held["claims"] == []
    assert [row["figure"] for row in held["figures"]] == list(FIGURES)
    for row in held["figures"]:
        assert row["tables"]
        assert row["command"] == f"leadline study --figure {row['figure'][-1]} --preset toy"
        for table in row["tables"]:
            assert {len(cells) for cells in table["rows"]} == {len(table["head"])}
    for name, section in zip(FIGURES, toy.sections, strict=True):
        assert section.anchor == name
        assert section.title.startswith(name.replace("-", " ").capitalize())
        assert all(len(f.alt) > 100 and f.figure.data for f in section.figures)
        assert (toy.path / "data" / f"{name}.json").is_file()
    assert "two seeds apart" in repr(toy)
    assert "Figure 2" in (toy.path / "report.html").read_text()
    again = load(toy.path)
    assert repr(again) == repr(toy)


def test_a_figure_is_measured_once_and_stands_beside_claims(toy):
    seen = []
    again = study(
        [1],
        figures=2,
        preset=TOY,
        out=toy.path,
        workers=1,
        progress=lambda **k: seen.append(k["branch"]),
    )
    assert tuple(again.data) == (1, *FIGURES)
    assert not [branch for branch in seen if branch.startswith("train")]
    assert again.data["figure-2"] == toy.data["figure-2"]
    assert again.command() == "leadline study --claims 1 --figure 1,2,3 --preset toy"


@pytest.mark.parametrize(
    ("how", "match"),
    [
        (dict(figures=4), r"figures=4 is unknown: did you mean 3\? choose from 1 to 3"),
        (dict(figures=[0]), r"did you mean 1\?"),
        (dict(figures=[]), "figures=.* is empty: give numbers 1 to 3"),
        (dict(figures=["2"]), "give numbers 1 to 3"),
        (dict(figures=True), "give numbers 1 to 3"),
    ],
)
def test_mistakes_come_before_any_work(how, match, tmp_path):
    with pytest.raises((ValueError, TypeError), match=match):
        study(**how, out=tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_the_command(tmp_path):
    plan = outline(figures=2, preset=TOY, out=tmp_path)
    assert [line.claim for line in plan.lines] == ["figure-2"]
    assert plan.cells == len(KINDS) * 2 * 2
    done = CliRunner().invoke(
        main, ["study", "--figure", "2", "--preset", TOY, "--dry-run", "--out", "x"]
    )
    assert done.exit_code == 0
    assert f"{plan.cells} different cells" in done.output
    done = CliRunner().invoke(main, ["study", "--figure", "two", "--out", str(tmp_path / "none")])
    assert done.exit_code == 2
    assert "figure='two' are no numbers" in done.output


@pytest.mark.parametrize("preset", ["quick", "standard"])
def test_presets_are_consistent(preset, tmp_path):
    """Claims are the default; figures do not enter it."""
    assert outline(preset=TOY, out=tmp_path).lines[-1].claim == NUMBERS[-1]
    plan = outline(figures=2, preset=preset, out=tmp_path)
    assert plan.stored == 0
    for cell in claim("figure-2").cells(Setting(preset)).values():
        assert cell.problem.samples >= cell.arguments["sgd"].batch_size
