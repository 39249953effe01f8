"""Batched training is separate training; sweeps resume, lose nothing and refuse nonsense."""

import json
import multiprocessing
import random
import shutil
import time
from dataclasses import replace
from multiprocessing import forkserver

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import leadline as ll
from leadline.checking.training import torch_optimizers
from leadline.cli import main
from leadline.sweeps.data import Samples
from leadline.sweeps.executors import base as executors
from leadline.sweeps.executors import processes
from leadline.sweeps.program import Program, _Batch, train
from leadline.sweeps.rates import Planned
from leadline.sweeps.schedule import Estimate
from leadline.sweeps.specification import Run, builder_name
from leadline.sweeps.store import Store
from leadline.sweeps.sweep import sweep
from leadline.tracing.builder import Size, construct
from sweep_models import Model

BASE = Size(16, 2)


@pytest.fixture(scope="module")
def digits():
    return ll.digits(classes=(0, 1), samples=32, test_samples=10)


def loop(plan, data, run):
    """The plain way: one model, torch's own optimizer."""
    model = plan.apply(construct(Model, run.size, run.seed))
    how = dict(weight_decay=run.weight_decay)
    if plan.optimizer.name == "sgd":
        groups = plan.param_groups(model, run.lr, **how)
        optimizers = [torch.optim.SGD(groups, lr=run.lr, momentum=run.momentum)]
    elif plan.optimizer.name in ("adam", "adamw"):
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[plan.optimizer.name]
        optimizers = [kind(plan.param_groups(model, run.lr, **how))]
    else:
        optimizers = torch_optimizers(model, plan, run.lr)
    losses = []
    for step in range(run.steps):
        x, y = data.batch(step, run.batch_size, run.seed)
        loss = data.loss(model(x), y)
        losses.append(float(loss.detach()))
        for o in optimizers:
            o.zero_grad()
        loss.backward()
        for o in optimizers:
            o.step()
    return losses


@pytest.mark.parametrize(
    ("optimizer", "settings"),
    [
        ("sgd", dict()),
        ("sgd", dict(momentum=0.9, weight_decay=0.01)),
        ("sgd", dict(batch_size=8)),
        ("adam", dict(weight_decay=0.01)),
        ("adamw", dict(weight_decay=0.1, batch_size=8)),
        ("muon", dict()),
        ("muon-match-rms", dict()),
    ],
)
def test_a_batch_of_runs_trains_as_separate_ones(digits, optimizer, settings):
    data = Samples(digits)
    plan = ll.plan(Model, dict(width=16, depth=2), dict(width=32, depth=4), optimizer=optimizer)
    runs = tuple(
        Run("m", "d", 32, 4, lr, seed, "auto", optimizer, 12, base=BASE, **settings)
        for lr, seed in ((1e-3, 0), (4e-3, 1), (8e-3, 1))
    )
    results = train(Program(Model, Planned(plan), data, runs))
    expected = np.array([loop(plan, data, r) for r in runs])
    got = np.array([r.curve for r in results])
    # float32 sums in another order; Muon's bfloat16 iteration rounds to 2^-8 of an update, which
    # twelve steps carry on.
    tolerance = 2e-2 if optimizer.startswith("muon") else 1e-4
    np.testing.assert_allclose(got, expected, rtol=tolerance)
    alone = train(Program(Model, Planned(plan), data, runs[1:2], batched=False))
    np.testing.assert_allclose(alone[0].curve, expected[1], rtol=tolerance)
    for some in (runs[1:2], runs[1:]):
        fewer = train(Program(Model, Planned(plan), data, some))
        np.testing.assert_array_equal(fewer[0].curve, results[1].curve)
        assert fewer[0].values["test_loss"] == results[1].values["test_loss"]


def test_diverged_runs_are_dropped_and_the_others_go_on(digits):
    done = sweep(
        Model,
        digits,
        widths=[16],
        depths=[2],
        lrs=[1e-2, 1e4],
        seeds=2,
        steps=40,
        optimizer="sgd",
        executor="inline",
    )
    by_lr = {lr: [r for r in done.rows if r["lr"] == lr] for lr in (1e-2, 1e4)}
    assert all(r["diverged"] and r["loss"] is None and r["steps_done"] < 40 for r in by_lr[1e4])
    assert all(not r["diverged"] and r["loss"] < 1 and r["steps_done"] == 40 for r in by_lr[1e-2])


def test_hopeless_runs_are_stopped(digits):
    how = dict(widths=[16], depths=[2], seeds=1, steps=60, executor="inline")
    done = sweep(Model, digits, lrs=[1e-7, 1e-2], hopeless=3.0, **how)
    slow, quick = done.rows
    assert (slow["stopped"], slow["loss"]) == (True, None)
    assert slow["steps_done"] < 60
    assert not quick["stopped"]
    assert quick["loss"] < 1


def table(rows):
    return [{k: v for k, v in r.items() if k != "seconds"} for r in rows]


def test_a_sweep_resumes_and_runs_only_what_is_missing(digits, tmp_path):
    how = dict(
        widths=[16, 32], depths=[2], seeds=2, steps=5, executor="inline", store=tmp_path / "s"
    )
    first = sweep(Model, digits, lrs=[1e-3], **how)
    assert first.fresh == 4
    again = sweep(Model, digits, lrs=[1e-3, 2e-3], **how)
    assert again.fresh == 4
    assert len(again.rows) == 8
    assert table(again.rows[:2]) == table(r for r in first.rows if r["width"] == 16)
    assert sweep(Model, digits, lrs=[1e-3, 2e-3], **how).fresh == 0
    with Store(tmp_path / "s") as store:
        record = store.get(again.rows[0]["id"])
        assert record.curves["loss"].shape == (5,)


def test_processes_give_the_same_numbers(digits):
    how = dict(widths=[16, 32], depths=[2], lrs=[1e-3, 2e-3], seeds=2, steps=5)
    inline = sweep(Model, digits, executor="inline", **how)
    spread = sweep(Model, digits, executor="processes", workers=2, **how)
    for a, b in zip(table(inline.rows), table(spread.rows), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)
        assert a["id"] == b["id"]


def test_ray_gives_the_same_numbers(digits):
    pytest.importorskip("ray", reason="the extra ray is not installed")
    how = dict(widths=[16], depths=[2], lrs=[1e-3, 2e-3], seeds=1, steps=5)
    inline = sweep(Model, digits, executor="inline", **how)
    spread = sweep(Model, digits, executor="ray", workers=2, **how)
    for a, b in zip(inline.rows, spread.rows, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)


@pytest.mark.parametrize("scheme", ["depth-mup", "completep"])
def test_the_projects_network_trains_as_train_does(digits, scheme):
    network = ll.ResNet("relu", block_layers=2)
    how = dict(lr=0.2, steps=5, momentum=0.5, weight_decay=0.1)
    done = sweep(
        network,
        digits,
        widths=[16, 24],
        depths=[2, 3],
        lrs=[how["lr"], 0.1],
        seeds=[0, 7],
        scheme=scheme,
        optimizer="sgd",
        executor="inline",
        **{k: how[k] for k in ("steps", "momentum", "weight_decay")},
    )
    assert len(done.rows) == 16
    for r in done.rows[::3]:
        sgd = ll.SGD(**{**how, "lr": r["lr"]})
        same = ll.ResNet("relu", block_layers=2, scheme=scheme)
        t = ll.train(digits, same, sgd, width=r["width"], depth=r["depth"], seeds=1, seed=r["seed"])
        assert r["loss"] == pytest.approx(t.train_loss[0, -1], rel=1e-4)
        assert r["test_loss"] == pytest.approx(t.test_loss[0, -1], rel=1e-4)


def test_a_network_asks_for_its_optimizer(digits):
    how = dict(widths=[16], depths=[2], lrs=[0.1], executor="inline")
    with pytest.raises(ValueError, match="optimizer='adamw' has no rates for a ResNet"):
        sweep(ll.ResNet(), digits, **how)
    with pytest.raises(TypeError, match="trains on a Problem"):
        sweep(ll.ResNet(), ll.text(context=8, limit_bytes=50_000), optimizer="sgd", **how)


class Steady(Model):
    """Notes how often its forward pass was called in Python."""

    calls = 0

    def forward(self, x):
        type(self).calls += 1
        return super().forward(x)


class Noisy(Model):
    """Random numbers in the forward pass."""

    def forward(self, x):
        return super().forward(torch.nn.functional.dropout(x, 0.1, self.training))


class Branching(Model):
    """Control flow on values."""

    def forward(self, x):
        y = super().forward(x)
        return y if float(y.detach().sum()) > 0 else 2 * y


class Growing(Model):
    """A state that is no parameter, buffer or input."""

    def forward(self, x):
        self.age = getattr(self, "age", 0) + 1
        return self.age * super().forward(x) / 100


def batch(model, digits, steps, count=3):
    plan = ll.plan(Model, dict(width=16, depth=2), optimizer="sgd")
    runs = tuple(Run("m", "d", 16, 2, 1e-3, s, "auto", "sgd", steps, 8, BASE) for s in range(count))
    return Program(model, Planned(plan), Samples(digits), runs)


def test_steps_are_recorded_once(digits):
    Steady.calls = 0
    results = train(batch(Steady, digits, 200))
    # The first step, its recording, two comparisons, two evaluations.
    assert Steady.calls <= 6
    expected = train(batch(Model, digits, 50))
    np.testing.assert_allclose(results[0].curve[:50], expected[0].curve, rtol=1e-5)


def test_runs_that_end_leave_the_stack(digits):
    """Recordings are made again for what is left, and the others' numbers stay."""
    work = batch(Steady, digits, 400, 4)
    runs = tuple(replace(r, lr=1e6 if i < 2 else 1e-3) for i, r in enumerate(work.runs))
    results = train(replace(work, runs=runs))
    assert [r.values["diverged"] for r in results] == [True, True, False, False]
    alone = train(replace(work, runs=runs[2:3]))
    np.testing.assert_allclose(results[2].curve, alone[0].curve, rtol=1e-3)


@pytest.mark.parametrize("model", [Noisy, Branching])
def test_models_that_cannot_be_mapped_train_one_by_one(digits, model):
    work = batch(model, digits, 10)
    together = train(work)
    alone = train(replace(work, runs=work.runs[1:2]))
    np.testing.assert_allclose(together[1].curve, alone[0].curve, rtol=1e-5)


def test_what_is_no_function_of_its_arguments_is_not_replayed(digits):
    for model, replays in ((Steady, True), (Growing, False)):
        stack = _Batch(batch(model, digits, 70))
        stack.train()
        assert stack.gradients.record is replays


@pytest.mark.parametrize(("model", "together"), [(Model, 3), (Noisy, 1)])
def test_steps_of_all_runs_are_reported(digits, model, together):
    seen = []
    train(batch(model, digits, 20), seen.append)
    assert seen == list(range(together, 61, together))


def watched(digits, executor, **how):
    """A sweep's reports, and what it did."""
    seen = []
    settings = dict(widths=[16], depths=[2], lrs=[1e-3, 2e-3], workers=1, executor=executor)
    done = sweep(Model, digits, progress=lambda **kw: seen.append(kw), **settings | how)
    return seen, done


@pytest.mark.parametrize("executor", ["inline", "processes"])
def test_progress_moves_within_a_program(digits, executor, monkeypatch):
    monkeypatch.setattr(executors, "EVERY", 0.0)
    monkeypatch.setattr(processes, "EVERY", 0.001)
    seen, done = watched(digits, executor, steps=1000)
    assert done.fresh == 2
    within = [r for r in seen if r["runs"] == (0, 2) and 0 < r["step"] < 2000]
    assert len(within) >= 10
    assert all(r["share"] == pytest.approx(r["step"] / 2000) for r in within)
    steps = [r["step"] for r in seen]
    assert steps == sorted(steps)
    assert (seen[-1]["step"], seen[-1]["runs"], seen[-1]["share"]) == (2000, (2, 2), 1.0)
    assert seen[-1]["loss"] == min(r["loss"] for r in done.rows)


def test_progress_counts_what_is_stored_and_weighs_sizes(digits, tmp_path):
    how = dict(store=tmp_path / "s", steps=5)
    watched(digits, "inline", **how)
    seen, _ = watched(digits, "inline", widths=[16, 32, 64], **how)
    assert {r["steps"] for r in seen} == {20}
    after = [r for r in seen if r["runs"][0] > 2]
    # The largest size goes first and is more than half of the work.
    assert [(r["step"], r["runs"]) for r in after] == [(10, (4, 6)), (20, (6, 6))]
    assert 0.5 < after[0]["share"] < 1


def test_progress_is_told_once_a_second(digits):
    seen, done = watched(digits, "inline", steps=200)
    # And at the end of the program.
    assert 2 <= len(seen) <= 2 + done.seconds


def test_what_progress_raises_is_no_failed_run(digits):
    def progress(**_):
        raise ValueError("seen enough")

    how = dict(widths=[16], depths=[2], lrs=[1e-3], steps=3, executor="inline")
    with pytest.raises(ValueError, match="seen enough"):
        sweep(Model, digits, progress=progress, **how)


class Failing(Model):
    """Can be planned with any size, and trained where it is narrow."""

    def forward(self, x):
        if self.embed.out_features > 16 and len(x) == 32:
            raise RuntimeError("too wide")
        return super().forward(x)


def test_runs_that_fail_are_counted_as_such(digits):
    seen = []
    how = dict(widths=[16, 32], depths=[2], lrs=[1e-3, 2e-3], steps=3, executor="inline")
    done = sweep(Failing, digits, progress=lambda **kw: seen.append(kw), **how)
    assert (done.fresh, len(done.rows), len(done.failed)) == (2, 2, 1)
    assert "too wide" in done.failed[0]
    assert seen[-1]["runs"] == (4, 4)


def test_sizes_along_the_axes_only(digits):
    how = dict(widths=[16, 24, 32], depths=[2, 3], lrs=[1e-3], steps=1, executor="inline")
    axes = sweep(Model, digits, sizes="axes", **how)
    assert [(r["width"], r["depth"]) for r in axes.rows] == [(16, 2), (16, 3), (24, 2), (32, 2)]
    whole = {r["id"]: r["loss"] for r in sweep(Model, digits, **how).rows}
    assert len(whole) == 6
    assert {r["id"]: r["loss"] for r in axes.rows}.items() <= whole.items()


def test_arguments_of_the_builder_are_an_axis(digits):
    how = dict(widths=[16], depths=[2], lrs=[1e-3], steps=3, executor="inline")
    done = sweep(Model, digits, arguments={"gain": [0.5, 1.0]}, **how)
    assert [r["arguments"] for r in done.rows] == [{"gain": 0.5}, {"gain": 1.0}]
    assert done.rows[0]["loss"] != done.rows[1]["loss"]


def test_a_builder_that_changes_is_another_run():
    assert builder_name(Model) == builder_name(Model)
    assert builder_name(Model) != builder_name(construct)


def test_a_dry_run_counts_and_trains_nothing(digits, tmp_path):
    how = dict(widths=[16], depths=[2], lrs=[1e-3, 2e-3], seeds=3, steps=50, executor="inline")
    estimate = sweep(Model, digits, store=tmp_path / "s", dry_run=True, **how)
    assert (estimate.runs, estimate.stored) == (6, 0)
    assert 0 < estimate.seconds < 60
    assert "6 runs to train" in str(estimate)
    with Store(tmp_path / "s") as store:
        assert store.ids() == []


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        (dict(lrs=[]), ValueError, r"lrs=\[\] is empty"),
        (dict(widths=[]), ValueError, r"widths=\[\] is empty"),
        (dict(lrs=[0.0]), ValueError, "lrs=0.0 is out of range"),
        (dict(steps=0), ValueError, "steps=0 is too small"),
        (dict(scheme="muup"), ValueError, "did you mean 'mup'"),
        (dict(sizes="axis"), ValueError, "sizes='axis' is unknown: did you mean 'axes'"),
        (dict(optimizer="lion"), ValueError, "optimizer='lion' is unknown"),
        (dict(arguments={"gain": []}), ValueError, r"arguments\['gain'\]=\[\] is empty"),
        (dict(data=3), TypeError, "data=int cannot be trained on"),
        (dict(build=lambda w, d: Model(w, d), executor="processes"), TypeError, "cannot be sent"),
    ],
)
def test_bad_arguments(digits, how, error, message):
    given = dict(build=Model, data=digits, widths=[16], depths=[2], lrs=[1e-3], steps=2) | how
    with pytest.raises(error, match=message):
        sweep(given.pop("build"), given.pop("data"), **({"executor": "inline"} | given))


WHOLE = dict(widths=[16, 24, 32], depths=[2, 3, 4], lrs=[1e-3, 2e-3], seeds=2, steps=20)


def run_whole(store, executor, done):
    """36 runs in 9 programs, or what of them is missing; in a process of its own."""
    torch.set_num_threads(1)
    # Not the digits: importing what reads them takes longer than the sweep.
    data = ll.teacher(samples=32, dimension=64, test_samples=10)
    workers = 2 if executor == "processes" else None
    found = sweep(Model, data, store=store, executor=executor, workers=workers, base=BASE, **WHOLE)
    done.put(found.fresh)


def server():
    """A context whose processes fork from a new server that has loaded all that a sweep needs."""
    forkserver._forkserver._stop()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["leadline.sweeps.sweep", "torch._dynamo"])
    first = context.Process(target=int)
    first.start()
    first.join()
    return context


def stored(store):
    """Everything that is not a time, by id."""
    with Store(store) as s:
        assert s.problems == ()
        assert all(len(s.history(i)) == 1 for i in s.ids())
        return {r["id"]: {k: v for k, v in r.items() if k != "seconds"} for r in s.table()}


def test_kill_nine_at_twenty_moments_loses_nothing_finished(tmp_path):
    """Every finished run is kept, none is trained twice, and the table is that of no kill at all.

    The processes that are killed fork from a server that has loaded torch: their moments are spread
    over the work, not over imports. Every seventh trains in workers of its own, which lose their
    owner.
    """
    context = server()
    done = context.SimpleQueue()

    def start(store, executor="inline"):
        process = context.Process(target=run_whole, args=(str(tmp_path / store), executor, done))
        process.start()
        return process

    started = time.monotonic()
    start("whole").join()
    length = time.monotonic() - started
    assert done.get() == 36
    whole = stored(tmp_path / "whole")
    chance = random.Random(0)
    kept: dict = {}
    cut = 0
    for attempt in range(60):
        if cut == 20:
            break
        outside = attempt % 7 == 6
        worker = start("killed", "processes" if outside else "inline")
        # Workers take a moment to start.
        worker.join(chance.uniform(0, length / 2) + chance.uniform(0, 3.0) * outside)
        cut += worker.is_alive()
        worker.kill()
        worker.join()
        worker.close()
        now = stored(tmp_path / "killed")
        assert kept.items() <= now.items()
        kept = now
        if len(kept) > 24:
            shutil.rmtree(tmp_path / "killed")
            kept = {}
    # Moments after the end prove nothing and do not count.
    assert cut == 20
    while not done.empty():
        done.get()
    start("killed").join()
    assert done.get() == 36 - len(kept)
    assert stored(tmp_path / "killed") == whole


def test_two_sweeps_at_once_on_one_store(tmp_path):
    """Neither waits for the other, no line is mixed, and the table is that of one."""
    context = server()
    done = context.SimpleQueue()
    store = str(tmp_path / "s")
    both = [context.Process(target=run_whole, args=(store, "inline", done)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
        assert process.exitcode == 0
    with Store(store) as s:
        assert s.problems == ()
        assert len(s.table()) == 36


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sweep", "mlp", "--lrs", ""], "lrs='' is not a list of numbers"),
        (["sweep", "mlpx"], "model='mlpx' is unknown"),
        (["sweep", "mlp", "--arg", "gain"], "arg='gain' is not NAME=VALUE"),
        (["sweep", "gpt", "--problem", "text:nowhere"], "does not exist"),
        (["sweep", "resnet", "--optimizer", "adamw"], "has no rates for a ResNet"),
        (["transfer", "mlp", "--widths", "16", "--depths", "2"], "hold one size"),
        (["transfer", "mlp", "--extend", "-1"], "extend=-1 is too small"),
        (["transfer", "mlp", "--dry-run", "--metric", "los"], "metric='los' is unknown"),
        (["transfer", "mlp", "--dry-run", "--lrs", "1e-3"], "too few to find an optimum"),
        (["transfer", "mlp", "--dry-run", "--scheme", "muup"], "did you mean 'mup'"),
        (["transfer", "mlp", "--dry-run", "--steps", "0"], "steps=0 is too small"),
        (["sweep", "mlp", "--dry-run", "--sizes", "axis"], "did you mean 'axes'"),
    ],
)
def test_mistakes_on_the_command_line(arguments, message):
    done = CliRunner().invoke(main, [*arguments, "--quiet", "--executor", "inline"])
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert message in done.stderr


@pytest.mark.parametrize(
    ("lrs", "message"),
    [("1e6:4e6:2", "every rate diverged"), ("1e-7:4e-7:2", "extend lrs upwards")],
)
def test_grids_without_an_optimum_on_the_command_line(lrs, message):
    sizes = ["--widths", "16,32", "--depths", "2", "--steps", "10", "--lrs", lrs]
    how = ["--optimizer", "sgd", "--executor", "inline", "--quiet"]
    done = CliRunner().invoke(main, ["transfer", "mlp", *sizes, *how])
    assert done.exit_code == 0
    assert message in done.stdout


AXES = dict(widths=[16, 32], depths=[2, 4], lrs=[1e-3, 2e-3, 4e-3], seeds=2, steps=5)


def test_a_dry_transfer_counts_what_a_transfer_trains(digits, tmp_path):
    how = dict(executor="inline", store=tmp_path / "s", schemes=("sp", "auto"))
    estimate = ll.transfer(Model, digits, dry_run=True, extend=2, **AXES, **how)
    assert isinstance(estimate, Estimate)
    # Three sizes (the base's runs are on both axes), three rates, two seeds, two schemes.
    assert (estimate.runs, estimate.stored, estimate.programs) == (36, 0, 6)
    assert 0 < estimate.seconds < 60
    with Store(tmp_path / "s") as store:
        assert store.ids() == []
    sweep(Model, digits, executor="inline", store=tmp_path / "s", scheme="sp", **AXES)
    again = ll.transfer(Model, digits, dry_run=True, **AXES, **how)
    assert (again.runs, again.stored, again.programs) == (18, 18, 3)
    seen = []
    found = ll.transfer(Model, digits, progress=lambda **kw: seen.append(kw), **AXES, **how)
    assert seen[-1]["runs"] == (36, 36)
    assert seen[-1]["steps"] == 18 * 5
    assert len(found.rows) == 36
    assert {(a.scheme, a.axis) for a in found.axes} == {
        (s, a) for s in ("sp", "auto") for a in ("width", "depth")
    }


def test_a_transfer_without_a_store_trains_no_run_twice(digits):
    seen = []
    how = dict(executor="inline", progress=lambda **kw: seen.append(kw))
    found = ll.transfer(Model, digits, **AXES, **how)
    assert len(found.rows) == 18
    assert seen[-1]["runs"] == (18, 18)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (dict(metric="los"), "metric='los' is unknown"),
        (dict(lrs=[1e-3]), "too few to find an optimum"),
        (dict(widths=[16], depths=[2]), "hold one size"),
        (dict(extend=-1), "extend=-1 is too small"),
        (dict(hopeless="no", steps=0), "steps=0 is too small"),
    ],
)
def test_a_dry_transfer_refuses_what_a_transfer_would(digits, how, message):
    for dry in (True, False):
        with pytest.raises(ValueError, match=message):
            ll.transfer(Model, digits, executor="inline", dry_run=dry, **AXES | how)


def test_a_dry_transfer_on_the_command_line(tmp_path):
    sizes = ["--widths", "16,32", "--depths", "2,3", "--lrs", "1e-3:4e-3:2", "--steps", "5"]
    paths = ["--out", str(tmp_path / "o"), "--html", str(tmp_path / "o.html")]
    how = [*sizes, *paths, "--executor", "inline", "--quiet", "--dry-run"]
    done = CliRunner().invoke(main, ["transfer", "mlp", *how])
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith("27 runs to train (0 are stored) in 3 programs: about ")
    assert list(tmp_path.iterdir()) == []
    done = CliRunner().invoke(main, ["transfer", "mlp", *how, "--json"])
    data = json.loads(done.stdout)
    assert (data["runs"], data["stored"], data["programs"]) == (27, 0, 3)
    whole = CliRunner().invoke(main, ["sweep", "mlp", *sizes, "--sizes", "axes", *how[8 + 4 :]])
    assert whole.stdout.startswith("27 runs to train (0 are stored) in 3 programs: about ")


def test_a_grid_extends_where_asked(digits):
    how = dict(widths=[16, 32], depths=[2], seeds=1, steps=5, optimizer="sgd", executor="inline")
    found = ll.transfer(Model, digits, lrs=[1e-7, 2e-7, 4e-7], extend=1, **how)
    rates = sorted({r["lr"] for r in found.rows})
    assert rates == pytest.approx([1e-7, 2e-7, 4e-7, 8e-7, 16e-7])
