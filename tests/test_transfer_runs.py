"""The runs behind a transfer."""

import json

import pytest
from click.testing import CliRunner

import leadline as ll
from leadline.cli import main
from leadline.store.store import Store
from leadline.sweeps.driver import sweep
from leadline.sweeps.schedule import SweepEstimate
from sweep_models import Model


@pytest.mark.parametrize(
    ("lrs", "message"),
    [("1e6:4e6:2", "every rate diverged"), ("1e-7:4e-7:2", "extend lrs upwards")],
)
def test_grids_without_an_optimum_on_the_command_line(lrs, message):
    sizes = ["--widths", "16,32", "--depths", "2", "--steps", "10", "--lrs", lrs]
    how = ["--optimizer", "sgd", "--executor", "inline", "--quiet"]
    done = CliRunner().invoke(main, ["transfer", "mlp", *sizes, *how])
    assert done.exit_code == 3
    assert message in " ".join(done.stdout.split())


AXES = dict(widths=[16, 32], depths=[2, 4], lrs=[1e-3, 2e-3, 4e-3], seeds=2, steps=5)


def test_a_dry_transfer_counts_what_a_transfer_trains(digits, tmp_path):
    how = dict(executor="inline", store=tmp_path / "s", schemes=("sp", "auto"))
    estimate = ll.transfer(digits, Model, dry_run=True, extend=2, **AXES, **how)
    assert isinstance(estimate, SweepEstimate)
    # Three sizes (the base's runs are on both axes), three rates, two seeds, two schemes.
    assert (estimate.runs, estimate.stored, estimate.programs) == (36, 0, 6)
    assert 0 < estimate.seconds < 60
    with Store(tmp_path / "s") as store:
        assert store.ids() == []
    sweep(digits, Model, executor="inline", store=tmp_path / "s", scheme="sp", **AXES)
    again = ll.transfer(digits, Model, dry_run=True, **AXES, **how)
    assert (again.runs, again.stored, again.programs) == (18, 18, 3)
    seen = []
    found = ll.transfer(digits, Model, progress=lambda **kw: seen.append(kw), **AXES, **how)
    assert seen[-1]["runs"] == (36, 36)
    assert seen[-1]["steps"] == 18 * 5
    assert len(found.rows) == 36
    assert {(a.scheme, a.axis) for a in found.axes} == {
        (s, a) for s in ("sp", "auto") for a in ("width", "depth")
    }


def test_a_transfer_without_a_store_trains_no_run_twice(digits):
    seen = []
    how = dict(executor="inline", progress=lambda **kw: seen.append(kw))
    found = ll.transfer(digits, Model, **AXES, **how)
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
            ll.transfer(digits, Model, executor="inline", dry_run=dry, **AXES | how)


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
    found = ll.transfer(digits, Model, lrs=[1e-7, 2e-7, 4e-7], extend=1, **how)
    rates = sorted({r["lr"] for r in found.rows})
    assert rates == pytest.approx([1e-7, 2e-7, 4e-7, 8e-7, 16e-7])
