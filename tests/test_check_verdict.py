"""Passed, failed, undecided: from planted measurements, exactly."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import leadline as ll
from check_models import BATCH, Model, mse
from leadline.checking.deciding import remedy
from leadline.checking.experiment import Experiment
from leadline.checking.exponents import BAND, exponent, verdict
from leadline.checking.quantities import Measurement
from leadline.checking.report import CheckReport
from leadline.checking.rows import rows_of
from leadline.checking.training import Setup
from leadline.tasks.task import data_of
from leadline.tracing.builder import Size

PLAN = ll.plan(Model, dict(width=32, depth=2))
WIDTHS = [Size(w, 2) for w in (32, 64, 128, 256)]
KINDS = [k.template for k in PLAN.kinds]
HEAVY = ("embed.weight", "blocks.*.up.weight", "blocks.*.down.weight", "readout.weight")


def planted(powers=(), noise=0.0, common=0.0, sizes=WIDTHS, seeds=6, light=1e-3):
    """Measurements whose quantities go as expected but for ``powers``: {(quantity, template): power}."""
    rng = np.random.default_rng(0)
    out = {}
    for s in sizes:
        m = s.width / sizes[0].width
        out[s] = []
        for _ in range(seeds):
            shared = np.exp(common * rng.standard_normal())
            values = {}
            for t in KINDS:
                weight = 1.0 if t in HEAVY else light
                for q, size in (("effect on output", weight * shared), ("own update", 1.0)):
                    power = dict(powers).get((q, t), 0.0)
                    values[q, t] = size * m**power * np.exp(noise * rng.standard_normal())
            values["change of output", "model"] = shared * m ** dict(powers).get("model", 0.0)
            out[s].append(Measurement(values, [1.0]))
    return out


def rows(**how):
    measured = planted(**how)
    return {r.key[:2]: r for r in rows_of(PLAN, {"width": list(measured)}, measured)}


def verdicts(**how):
    return {key: r.verdict for key, r in rows(**how).items()}


def test_what_goes_as_expected_is_ok():
    assert set(verdicts(noise=0.02).values()) == {"ok"}


def test_what_all_layers_share_is_judged_once():
    """Noise of a model's whole response hides no layer's part; it widens one row."""
    seen = verdicts(noise=0.02, common=1.5)
    assert {v for (_, q), v in seen.items() if q == "effect on output"} == {"ok"}
    assert seen["model", "change of output"] == "inconclusive"


@pytest.mark.parametrize(("power", "word"), [(1.0, "exploding"), (-1.0, "collapsed")])
@pytest.mark.parametrize("template", HEAVY)
def test_one_layer_that_explodes_or_collapses_is_named_alone(template, power, word):
    seen = verdicts(powers={("effect on output", template): power}, noise=0.02, common=0.5)
    effects = {t: v for (t, q), v in seen.items() if q == "effect on output"}
    assert effects.pop(template) == word
    assert set(effects.values()) == {"ok"}


def test_what_explodes_everywhere_is_seen_in_the_output():
    powers = {("effect on output", t): 1.0 for t in KINDS} | {"model": 1.0}
    assert verdicts(powers=powers, noise=0.02)["model", "change of output"] == "exploding"


def test_open_exponents_of_layers_without_weight_are_minor():
    """A bias with a thousandth of the effects may grow by 16^high and still not matter."""
    seen = verdicts(noise=0.5, light=1e-3)
    biases = [v for (t, q), v in seen.items() if "bias" in t and q == "own update"]
    assert "inconclusive" not in biases
    assert "minor" in biases
    heavy = verdicts(noise=0.5, light=1.0)
    assert "inconclusive" in [v for (t, q), v in heavy.items() if "bias" in t]


def test_a_layer_without_weight_that_explodes_fails_all_the_same():
    seen = verdicts(powers={("effect on output", "readout.bias"): 1.0}, noise=0.02)
    assert seen["readout.bias", "effect on output"] == "exploding"


def test_curved_sizes_use_the_largest_three_and_straight_ones_all():
    x = np.array([8, 16, 32, 64, 128])
    noise = np.exp(0.01 * np.random.default_rng(1).standard_normal((5, 6)))
    straight = exponent(x, x[:, None] ** 0.5 * noise)
    assert not straight.curved
    bent = exponent(x, np.where(x < 32, 0.5, 1.0)[:, None] * x[:, None] ** 0.5 * noise)
    assert bent.value == pytest.approx(0.5, abs=0.05)
    assert not bent.curved
    assert (straight.high - straight.low) < (bent.high - bent.low)
    assert exponent(x, (x + 60.0)[:, None] * noise).curved
    assert exponent(x, noise[:, :1]).curved


def test_bands():
    x = np.array([8, 16, 32, 64])
    noise = np.exp(0.001 * np.random.default_rng(0).standard_normal((4, 5)))

    def at(power, **around):
        return verdict(exponent(x, x[:, None] ** power * noise), 0.0, **around)

    assert [at(p) for p in (0.0, BAND - 0.02, BAND + 0.02, -BAND - 0.02)] == [
        *("ok", "ok", "exploding", "collapsed")
    ]
    assert at(-0.4, below=0.3) == "transient"
    assert at(0.4, above=0.3) == "transient"
    assert at(-0.4, above=0.3) == "collapsed"
    assert at(0.6, above=0.3) == "exploding"


class FewBlock(nn.Module):
    """As attention with two key-value heads of size 4: few outputs, used by all heads."""

    def __init__(self, n):
        super().__init__()
        self.norm = nn.LayerNorm(n)
        self.value, self.out = nn.Linear(n, 8, bias=False), nn.Linear(n, n, bias=False)

    def forward(self, h):
        few = self.value(self.norm(h))
        return h + self.out(few.repeat(1, h.shape[1] // 8))


class Few(nn.Module):
    def __init__(self, width, depth):
        super().__init__()
        self.embed = nn.Linear(8, width, bias=False)
        self.blocks = nn.ModuleList(FewBlock(width) for _ in range(depth))
        self.readout = nn.Linear(width, 4, bias=False)

    def forward(self, x):
        h = self.embed(x)
        for block in self.blocks:
            h = block(h)
        return self.readout(h)


def test_what_passes_through_few_outputs_begins_small_and_does_not_fail():
    how = dict(widths=(32, 64, 128, 256), depths=(2,), seeds=3, progress=False)
    plan = ll.plan(Few, dict(width=32, depth=2))
    assert {k.template: k.role for k in plan.kinds}["blocks.*.value.weight"] == "readout"
    report = ll.check(ll.Task(mse, batch=BATCH), plan, **how)
    seen = {(r.parameter, r.quantity): r for r in report.rows}
    begins = seen["blocks.*.out", "preactivation"]
    assert begins.exponent.high < -BAND
    assert begins.verdict == "transient"
    assert report.ok, report.failures
    assert any("outputs stay few" in n for n in report.notes)

    def scaled(model, here):
        here.apply(model)
        with torch.no_grad():
            for block in model.blocks:
                block.out.weight.mul_(here.m)
        return model

    assert not ll.check(ll.Task(mse, batch=BATCH), plan, **how, apply=scaled).ok


def report(**how):
    made = list(rows(**how).values())
    return CheckReport(tuple(made), (), {}, (), 1e-3, "check", 6, 1.0, "seeds=9", 3.0)


def test_verdicts_and_exit_codes():
    good = report(noise=0.02)
    assert (good.verdict, good.exit_code, good.ok) == ("passed", 0, True)
    bad = report(noise=0.02, powers={("own update", "embed.weight"): 1.0})
    assert (bad.verdict, bad.exit_code, bad.ok) == ("failed", 1, False)
    assert "embed.weight" in bad.answer
    unclear = report(noise=1.0)
    assert (unclear.verdict, unclear.exit_code, unclear.ok) == ("undecided", 3, True)
    assert "run again with seeds=9, about 4 s; or with until_decided=300" in unclear.answer
    slow = replace(unclear, seconds=700.0, remedy_seconds=500.0)
    assert "until_decided=1800 (--until-decided 1800)" in slow.answer
    still = replace(good, rows=tuple(replace(r, verdict="n/a", exponent=None) for r in good.rows))
    assert (still.verdict, still.exit_code) == ("undecided", 3)
    assert "did not change the output" in replace(still, remedy=None).answer
    lost = replace(good, lost=("embed: not in the optimizer",))
    assert lost.verdict == "failed"


def test_a_rate_that_moves_nothing_passes_nothing():
    """And the rate that the answer asks for moves it."""
    task, how = ll.Task(mse, batch=BATCH), dict(widths=(32, 64), depths=(2,), progress=False)
    still = ll.check(task, Model, lr=1e-25, **how)
    assert still.verdict == "undecided"
    assert "Run again with a larger learning rate, lr= (--lr)" in still.answer
    moved = ll.check(task, Model, lr=1e-3, **how)
    assert all(r.exponent for r in moved.rows if r.quantity == "change of output")


def experiment(**how):
    setup = Setup(PLAN, Model, data_of(ll.Task(mse, batch=BATCH)), 1e-3, 1)
    measured = planted(**how)
    seconds = dict.fromkeys(measured, 2.0)
    return Experiment(setup, {"width": list(measured)}, 6, False, measured, seconds)


def test_noise_asks_for_seeds_and_curvature_for_sizes():
    done = experiment(noise=0.02)
    assert remedy(done, done.rows()) is None
    noisy = experiment(noise=0.4)
    step = remedy(noisy, noisy.rows())
    assert step.axis is None
    assert 6 < step.seeds <= 24
    assert step.seconds == pytest.approx((step.seeds - 6) * 4 * 2.0)
    assert step.words == f"seeds={step.seeds} (--seeds {step.seeds})"
    one = experiment(noise=0.4, seeds=1)
    assert remedy(one, one.rows()).seeds == 3


def test_a_larger_size_where_sizes_are_curved():
    bent = experiment(noise=0.001)
    for s, results in bent.measured.items():
        for r in results:
            for t in HEAVY:
                r.values["own update", t] *= 1 + 40.0 / s.width
    step = remedy(bent, bent.rows())
    assert step.axis == "width"
    assert step.words == ("widths=(32, 64, 128, 256, 512) (--widths 32,64,128,256,512)")


def test_until_decided_adds_seeds_within_its_time():
    task = ll.Task(mse, batch=BATCH)
    how = dict(widths=(32, 64, 128), depths=(2,), seeds=2, lr=1e-3, progress=False)
    before = ll.check(task, Model, **how, optimizer="sgd")
    assert before.verdict == "undecided"
    after = ll.check(task, Model, **how, optimizer="sgd", until_decided=200)
    assert after.verdict == "passed", str(after)
    assert any("added to decide" in n for n in after.notes)
    none = ll.check(task, Model, **how, optimizer="sgd", until_decided=0)
    assert none.seeds == before.seeds


def test_time_that_ends_leaves_all_sizes_with_as_many_seeds(monkeypatch):
    """Sizes that were not reached keep theirs, and only what all sizes have counts."""
    done = experiment(noise=0.1)
    clock = iter(range(0, 1000, 5))
    monkeypatch.setattr(
        "leadline.checking.experiment.time.perf_counter", lambda: float(next(clock))
    )
    more = planted(noise=0.1, seeds=12)
    monkeypatch.setattr(
        "leadline.checking.experiment.run", lambda setup, size, seeds, done: more[size][6:]
    )
    done.train(12, until=40.0)
    counts = [len(done.measured[s]) for s in WIDTHS]
    assert 6 in counts
    assert 12 in counts
    assert done.seeds == 6
    whole = experiment(noise=0.1)
    assert [r.exponent for r in done.rows()] == [r.exponent for r in whole.rows()]
