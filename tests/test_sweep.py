"""Sweeps resume, give the same numbers everywhere and refuse nonsense."""

import pytest
from click.testing import CliRunner

import leadline as ll
from leadline.cli import main
from leadline.store.store import Store
from leadline.sweeps.driver import sweep
from sweep_models import Model


def table(rows):
    return [{k: v for k, v in r.items() if k != "seconds"} for r in rows]


def test_a_sweep_resumes_and_runs_only_what_is_missing(digits, tmp_path):
    how = dict(
        widths=[16, 32], depths=[2], seeds=2, steps=5, executor="inline", store=tmp_path / "s"
    )
    first = sweep(digits, Model, lrs=[1e-3], **how)
    assert first.fresh == 4
    again = sweep(digits, Model, lrs=[1e-3, 2e-3], **how)
    assert again.fresh == 4
    assert len(again.rows) == 8
    assert table(again.rows[:2]) == table(r for r in first.rows if r["width"] == 16)
    assert sweep(digits, Model, lrs=[1e-3, 2e-3], **how).fresh == 0
    with Store(tmp_path / "s") as store:
        record = store.get(again.rows[0]["id"])
        assert record.curves["loss"].shape == (5,)


def test_processes_give_the_same_numbers(digits):
    how = dict(widths=[16, 32], depths=[2], lrs=[1e-3, 2e-3], seeds=2, steps=5)
    inline = sweep(digits, Model, executor="inline", **how)
    spread = sweep(digits, Model, executor="processes", workers=2, **how)
    for a, b in zip(table(inline.rows), table(spread.rows), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)
        assert a["id"] == b["id"]


def test_ray_gives_the_same_numbers(digits):
    pytest.importorskip("ray", reason="the extra ray is not installed")
    how = dict(widths=[16], depths=[2], lrs=[1e-3, 2e-3], seeds=1, steps=5)
    inline = sweep(digits, Model, executor="inline", **how)
    spread = sweep(digits, Model, executor="ray", workers=2, **how)
    for a, b in zip(inline.rows, spread.rows, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)


@pytest.mark.parametrize("scheme", ["depth-mup", "completep"])
def test_the_projects_network_trains_as_train_does(digits, scheme):
    network = ll.ResNet("relu", block_layers=2)
    how = dict(lr=0.2, steps=5, momentum=0.5, weight_decay=0.1)
    done = sweep(
        digits,
        network,
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
        sweep(digits, ll.ResNet(), **how)
    with pytest.raises(TypeError, match="trains on a Problem"):
        sweep(ll.text(context=8, limit_bytes=50_000), ll.ResNet(), optimizer="sgd", **how)


def test_sizes_along_the_axes_only(digits):
    how = dict(widths=[16, 24, 32], depths=[2, 3], lrs=[1e-3], steps=1, executor="inline")
    axes = sweep(digits, Model, sizes="axes", **how)
    assert [(r["width"], r["depth"]) for r in axes.rows] == [(16, 2), (16, 3), (24, 2), (32, 2)]
    whole = {r["id"]: r["loss"] for r in sweep(digits, Model, **how).rows}
    assert len(whole) == 6
    assert {r["id"]: r["loss"] for r in axes.rows}.items() <= whole.items()


def test_arguments_of_the_builder_are_an_axis(digits):
    how = dict(widths=[16], depths=[2], lrs=[1e-3], steps=3, executor="inline")
    done = sweep(digits, Model, arguments={"gain": [0.5, 1.0]}, **how)
    assert [r["arguments"] for r in done.rows] == [{"gain": 0.5}, {"gain": 1.0}]
    assert done.rows[0]["loss"] != done.rows[1]["loss"]


def test_a_dry_run_counts_and_trains_nothing(digits, tmp_path):
    how = dict(widths=[16], depths=[2], lrs=[1e-3, 2e-3], seeds=3, steps=50, executor="inline")
    estimate = sweep(digits, Model, store=tmp_path / "s", dry_run=True, **how)
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
        (dict(optimizer="adafactor"), ValueError, "optimizer='adafactor' is unknown"),
        (dict(arguments={"gain": []}), ValueError, r"arguments\['gain'\]=\[\] is empty"),
        (dict(task=3), TypeError, "task=3 cannot be trained on"),
        (dict(build=lambda w, d: Model(w, d), executor="processes"), TypeError, "cannot be sent"),
    ],
)
def test_bad_arguments(digits, how, error, message):
    given = dict(build=Model, task=digits, widths=[16], depths=[2], lrs=[1e-3], steps=2) | how
    with pytest.raises(error, match=message):
        sweep(given.pop("task"), given.pop("build"), **({"executor": "inline"} | given))


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
        (["sweep", "mlp", "--dry-run", "--device", "cuda:77"], "device='cuda:77' cannot be used"),
        (["transfer", "mlp", "--device", "meta"], "device='meta' cannot be used"),
    ],
)
def test_mistakes_on_the_command_line(arguments, message):
    done = CliRunner().invoke(main, [*arguments, "--quiet", "--executor", "inline"])
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert message in done.stderr
