"""What a budget affords: designs from timings, exactly; and on a real model."""

import json

import pytest
from click.testing import CliRunner

import leadline as ll
from leadline.cli.program import main
from leadline.sweeps.schedule import SweepEstimate
from leadline.transferring import budget as budget_module
from leadline.transferring.budget import affordable
from task_models import Net, mse, rows

TASK = ll.Task(mse, batch=rows(24))
SIZES = dict(base=dict(width=64, depth=4), target=dict(width=1024, depth=64))


@pytest.fixture
def seconds(monkeypatch):
    """A run takes a second at the base, four at twice the width, two at twice the depth."""

    def sweep(task, build, *, widths, depths, lrs, seeds, **_):
        runs = len(lrs) * seeds
        return SweepEstimate(runs, 0, 1, runs * (widths[0] / 64) ** 2 * depths[0] / 4)

    monkeypatch.setattr(budget_module, "sweep", sweep)


def cost(d):
    sizes = {(w, d.depths[0]) for w in d.widths} | {(d.widths[0], y) for y in d.depths}
    return d.rates * d.seeds * sum((w / 64) ** 2 * y / 4 for w, y in sizes)


@pytest.mark.parametrize("hours", [0.1, 0.3, 1.0, 3.0, 30.0])
def test_the_design_costs_what_it_says_and_fits(seconds, hours):
    made = affordable(TASK, Net, hours=hours, **SIZES)
    assert made.best.seconds == pytest.approx(cost(made.best))
    assert made.best.seconds <= 3600 * hours
    assert made.target_seconds == pytest.approx(16**2 * 16)


def test_sizes_between_two_that_are_timed_take_at_most_the_larger_ones_time(seconds):
    sizes = dict(base=dict(width=64, depth=4), target=dict(width=160, depth=6))
    made = affordable(TASK, Net, hours=9.0, **sizes)
    assert made.target_seconds >= (160 / 64) ** 2 * 6 / 4


def test_more_hours_never_afford_less(seconds):
    orders = [affordable(TASK, Net, hours=h, **SIZES).best.order for h in (0.1, 0.5, 2, 10, 100)]
    assert orders == sorted(orders)
    largest = affordable(TASK, Net, hours=1e6, **SIZES).best
    assert (largest.widths, largest.depths) == ((64, 128, 256, 512), (4, 8, 16, 32))
    assert (largest.rates, largest.seeds) == (9, 5)


def test_three_sizes_of_each_axis_come_first(seconds):
    made = affordable(TASK, Net, hours=0.2, **SIZES).best
    assert len(made.widths) >= 3
    assert len(made.depths) >= 3
    assert made.seeds >= 3


def test_a_budget_that_affords_nothing_says_the_least(seconds):
    made = affordable(TASK, Net, hours=1e-6, **SIZES)
    assert made.best is None
    assert "afford no transfer here; the least is" in str(made)
    assert made.least.seconds == pytest.approx(cost(made.least))


def test_one_axis_alone(seconds):
    made = affordable(
        TASK, Net, hours=1.0, base=dict(width=64, depth=4), target=dict(width=512, depth=4)
    )
    assert made.best.depths == (4,)
    assert len(made.best.widths) > 1
    with pytest.raises(ValueError, match="nothing to carry over"):
        affordable(
            TASK, Net, hours=1.0, base=dict(width=64, depth=4), target=dict(width=64, depth=4)
        )
    with pytest.raises(ValueError, match=r"hours=0\.0 is out of range"):
        affordable(TASK, Net, hours=0.0, **SIZES)


MODEL = """
import torch
from task_models import Net as build, mse as loss, rows

batch = rows(24)
"""


def test_the_command_prints_one_that_runs(tmp_path, monkeypatch):
    (tmp_path / "small_model.py").write_text(MODEL)
    monkeypatch.chdir(tmp_path)
    how = [
        "plan",
        "small_model.py",
        "--base",
        "16x1",
        "--target",
        "64x4",
        "--budget",
        "0.05",
        "--steps",
        "2",
    ]
    done = CliRunner().invoke(main, how)
    assert done.exit_code == 0, done.output
    command = done.output.strip().splitlines()[-1].split()
    assert command[:3] == ["leadline", "transfer", "small_model.py"]
    command = [
        w.replace("LOW:HIGH:2", "1e-3:4e-3:2").replace("runs", str(tmp_path / "runs"))
        for w in command
    ]
    again = CliRunner().invoke(main, [*command[1:], "--executor", "inline", "--quiet"])
    assert again.exit_code in (0, 1, 3), again.output
    data = json.loads(CliRunner().invoke(main, [*how, "--json"]).stdout)
    assert data["best"]["widths"][0] == 16
    assert data["command"].startswith("leadline transfer small_model.py --widths 16,")
    none = CliRunner().invoke(main, ["plan", "small_model.py", "--base", "16x1", "--budget", "1"])
    assert none.exit_code == 2
    assert "give --target WIDTHxDEPTH" in none.output
