"""What limit says of sizes that are solved in no time: outputs planted along a series, with noise."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch

import leadline as ll
from leadline.errors import MemoryBudgetError
from leadline.limits import extrapolation, standing
from leadline.limits import ladder as ladders
from leadline.trajectory import Trajectory

PROBLEM = ll.arrays([[1.0, 0.5], [-0.3, 1.2]], [1.0, -0.5], [[0.2, 0.1]], [2.0], standardize=False)
SGD = ll.SGD(lr=0.1, steps=3)
SMALL = dict(width=64, depth=2, seeds=3)


@pytest.fixture
def planted(monkeypatch):
    """Replaces solve; what it does is in the returned dict, calls are in its list."""
    how = dict(noise=1e-3, diverge=lambda n, l: (-1, -1, -1), second=0.25, calls=[])

    def run(one, progress):
        n, l, seeds, problem = one.width, one.depth, one.seeds, one.problem
        how["calls"].append(one)
        rng = np.random.default_rng([n, l])
        f = np.zeros((seeds, 4, 3, 1))
        f[:, 1:] = 0.2 * (1 - 0.5 / l - 2.0 / n) * np.arange(1, 4)[:, None, None]
        f[:, 1:] += how["noise"] / np.sqrt(n) * rng.standard_normal((seeds, 3, 3, 1))
        y, y_test = problem.y, problem.y_test
        return Trajectory(
            steps=np.arange(4),
            train_loss=0.5 * ((f[:, :, :2] - y) ** 2).sum(-1).mean(-1),
            train_outputs=f[:, :, :2],
            test_loss=None
            if y_test is None
            else 0.5 * ((f[:, :, 2:] - y_test) ** 2).sum(-1).mean(-1),
            test_outputs=None if y_test is None else f[:, :, 2:],
            diverged=np.array(how["diverge"](n, l))[:seeds],
            info=dict(width=n, depth=l, seeds=seeds, largest_rank=8, seconds=how["second"] * l),
        )

    monkeypatch.setattr(ladders, "run", run)
    return how


def test_what_a_limit_holds(planted):
    r = ll.limit(PROBLEM, ll.ResNet(), SGD, 0.05, **SMALL, seed=7, tol=1e-2, dtype="float64")
    assert r.converged
    rows = [(c["width"], c["depth"]) for c in r.sizes]
    assert rows[:3] == [(64, 2), (128, 2), (64, 4)]
    assert len(rows) == 5
    assert [{c[k] for c in r.sizes} for k in ("width", "depth")] == [{64, 128, 256}, {2, 4, 8}]
    first = planted["calls"][0]
    assert (first.coupling, first.seeds, first.variance_reduction) == ("reused", 3, "balanced")
    assert (first.dtype, first.record_every) == (torch.float64, 1)
    assert [c.tol for c in planted["calls"][:3]] == [1e-2, 1e-3, 1e-2]
    assert {c.batch_seed for c in planted["calls"]} == {7}
    assert {
        k: r.info[k] for k in ("kind", "coupling", "rtol", "seeds", "seed", "tol", "dtype")
    } == dict(
        kind="limit", coupling="reused", rtol=0.05, seeds=3, seed=7, tol=1e-2, dtype="float64"
    )
    assert r.info["seconds"] > 0
    assert r.info["variance_reduction"] == "balanced"
    assert r.train_outputs.shape == (4, 2, 1)
    assert r.test_outputs.shape == (4, 1, 1)
    assert r.train_outputs[3, :, 0] == pytest.approx([0.6, 0.6], abs=0.02)
    parts = math.sqrt(sum(v**2 for v in r.contributions.values()))
    assert [*r.contributions] == ["sampling", "width", "depth", "truncation"]
    assert parts == pytest.approx(r.train_loss_error.max(), rel=1e-9)
    worst = float(r.train_loss_error.max())
    assert r.message == f"error bar {worst:.2g} within rtol=0.05 of the initial loss"
    lines = repr(r).splitlines()
    assert lines[0] == f"Limit(coupling=reused, {r.message})"
    for line, loss, bar in (
        (lines[1], r.train_loss, r.train_loss_error),
        (lines[2], r.test_loss, r.test_loss_error),
    ):
        name = "train_loss" if loss is r.train_loss else "test_loss"
        ends = f"{loss[0]:.4g} (step 0) → {loss[-1]:.4g} ± {bar[-1]:.1g} (step 3)"
        assert line == f"  {name}: {ends}"
    said = ", ".join(f"{k} {v:.1g}" for k, v in r.contributions.items())
    assert lines[3] == f"  error sources: {said}"
    assert lines[4] == "  sizes: " + ", ".join(f"{n}x{l}" for n, l in rows)
    assert lines[5] == f"  test of the series in 1/n and 1/L: p = {r.p_value:.2g}"
    assert len(lines) == 6


def test_a_limit_as_json(planted):
    r = ll.limit(PROBLEM, ll.ResNet(), SGD, 0.05, **SMALL)
    data = r.to_json()
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert [*data] == (
        "info converged message p_value contributions sizes agreement steps train_loss train_loss_error"
        " train_outputs test_loss test_loss_error test_outputs"
    ).split()
    assert data["converged"] is True
    assert data["p_value"] == r.p_value
    assert data["train_outputs"] == r.train_outputs.tolist()
    assert r.to_json(lists=False)["train_loss"] is r.train_loss


def test_time_ends_before_a_size_that_would_take_too_long(planted):
    """Sizes take .25 s a layer: 2.5 s go to the first three and the check of the truncation anyway."""
    tight = dict(**SMALL, seconds=2.6)
    r = ll.limit(PROBLEM, ll.ResNet(), SGD, 1e-6, **tight)
    assert not r.converged
    assert len(r.sizes) == 3
    worst, asked = float(r.train_loss_error.max()), 1e-6 * r.train_loss[0]
    n, l = (
        int(x)
        for x in (
            r.message.split("width=")[1].split(",")[0],
            r.message.split("depth=")[1].split()[0],
        )
    )
    need = 0.25 * l
    assert r.message == (
        f"stopped by seconds=2.6: error bar {worst:.2g}, rtol asks for {asked:.2g}; width={n}, depth={l} "
        f"would take about {need:.0f} s more: give seconds={math.ceil(1.2 * (2.5 + need))}"
    )
    assert repr(r).startswith(f"Limit(coupling=reused, NOT CONVERGED: {r.message})")
    more = ll.limit(PROBLEM, ll.ResNet(), SGD, 1e-6, **SMALL, seconds=2.5 + need)
    assert len(more.sizes) > 3


def test_a_bar_that_is_met_is_not_yet_a_limit(planted, monkeypatch):
    """Neither with two widths and depths, nor with a misfit, nor where a small size diverges."""
    r = ll.limit(PROBLEM, ll.ResNet(), SGD, 0.5, **SMALL, seconds=2.5)
    assert not r.converged
    assert "is within rtol=0.5, but there are not 3 widths and 3 depths to test it" in r.message
    monkeypatch.setattr(standing, "MISFIT", 1.1)
    r = ll.limit(PROBLEM, ll.ResNet(), SGD, 0.9, **SMALL, seconds=8.0)
    assert not r.converged
    assert f"do not follow a series in 1/n and 1/L (p = {r.p_value:.1g})" in r.message
    monkeypatch.setattr(standing, "MISFIT", 0.01)
    planted |= dict(diverge=lambda n, l: (-1, 2, -1) if (n, l) == (64, 2) else (-1, -1, -1))
    r = ll.limit(PROBLEM, ll.ResNet(), SGD, 0.5, **SMALL, seconds=6.0)
    assert not r.converged
    assert np.isfinite(r.train_loss[:2]).all()
    assert np.isnan(r.train_loss[2:]).all()
    assert np.isnan(r.test_loss_error[2:]).all()


def test_where_every_size_diverges_nothing_is_said(planted):
    planted["diverge"] = lambda n, l: (1, 2, 3)
    r = ll.limit(PROBLEM, ll.ResNet(), SGD, 0.5, **SMALL)
    assert r.message == "training diverges at every size: no limit; lower lr"
    assert not r.converged
    assert len(r.sizes) == 3
    for name in ("train_loss", "train_loss_error", "test_loss", "test_loss_error"):
        assert np.isnan(getattr(r, name)).all()
        assert getattr(r, name).shape == (4,)
    assert r.train_outputs.shape == (4, 2, 1)
    assert math.isnan(r.p_value)
    assert "test of the series" not in repr(r)
    assert r.to_json()["p_value"] is None
    assert set(r.to_json()["contributions"].values()) == {None}


def test_arguments_are_checked_before_anything_is_solved(planted):
    for bad, error, words in (
        (dict(coupling="both"), ValueError, "coupling='both' is unknown"),
        (dict(depth=0), ValueError, "depth=0 .*>= 1"),
        (dict(seeds=1), ValueError, "seeds=1 .*>= 2"),
        (dict(seed=-1), ValueError, "seed=-1 .*>= 0"),
        (dict(record_every=0), ValueError, "record_every=0 .*>= 1"),
        (dict(dtype="float16"), ValueError, "dtype='float16' is unknown"),
        (dict(width=0), ValueError, "width=0 .*>= 1"),
        (dict(tol=1.0), ValueError, r"tol=1\.0 .*< 1"),
        (dict(seconds=0.0), ValueError, r"seconds=0\.0 .*> 0"),
        (dict(tol=-0.5), ValueError, r"tol=-0\.5 .*>= 0"),
        (dict(rtol=0.0), ValueError, r"rtol=0\.0 .*> 0"),
        (dict(rtol=1.0), ValueError, r"rtol=1\.0 .*< 1"),
    ):
        with pytest.raises(error, match=words):
            ll.limit(PROBLEM, ll.ResNet(), SGD, **{**SMALL, **bad})
    assert planted["calls"] == []


def test_time_may_have_no_bound(planted):
    """Of a training that is converged at once there is no other end."""
    planted["noise"] = 1e-9
    r = ll.limit(PROBLEM, ll.ResNet(), SGD, 0.5, **SMALL, seconds=None)
    assert r.converged
    again = ll.limit(PROBLEM, ll.ResNet(), SGD, 0.5, **SMALL, seconds=1e-9)
    assert not again.converged
    assert again.message.startswith("stopped by seconds=1e-09")
    assert 0 < r.info["seconds"] < 600
    assert type(r.converged) is bool
    assert (standing.MISFIT, extrapolation.SECONDS) == (0.01, 300.0)  # as documented


@pytest.mark.parametrize("seconds", [1.0, 300.0])
def test_spent_time_counts_only_where_a_size_waits(planted, seconds):
    """The first three are solved though each takes longer than the bound."""
    planted["second"] = 10.0
    r = ll.limit(PROBLEM, ll.ResNet(), SGD, 1e-6, **SMALL, seconds=seconds)
    assert len(r.sizes) >= 3
    assert "stopped by seconds=" in r.message


def test_a_budget_that_ends_leaves_no_part_of_a_size(planted, tmp_path, monkeypatch):
    """What was solved before answers; the checkpoint of the part that did not fit is removed."""
    part = tmp_path / "part.safetensors"
    real = ladders.run

    def run(one, progress):
        if one.width == 128:
            part.touch()
            raise MemoryBudgetError("grew", str(part))
        return real(one, progress)

    monkeypatch.setattr(ladders, "run", run)
    r = ll.limit(PROBLEM, ll.ResNet(), SGD, 0.5, **SMALL, memory=10**9)
    assert not part.exists()
    assert not r.converged
    assert [(c["width"], c["depth"]) for c in r.sizes] == [(64, 2)]
    worst, target = float(r.train_loss_error.max()), 0.5 * r.train_loss[0]
    if worst <= target:
        short = (
            f"error bar {worst:.2g} is within rtol=0.5, but there are not 3 widths and 3 depths "
            "to test it"
        )
    else:
        short = f"error bar {worst:.2g}, rtol asks for {target:.2g}"
    reason = "width=128, depth=2 grew past the budget of 1000000000 bytes"
    assert r.message == f"stopped by memory: {short}; {reason}"


def test_memory_that_ends_without_a_checkpoint_says_why(planted, monkeypatch):
    real = ladders.run
    for error in (MemoryBudgetError("no room here"), MemoryError("no room here")):

        def run(one, progress, error=error):
            if one.depth == 4:
                raise error
            return real(one, progress)

        monkeypatch.setattr(ladders, "run", run)
        r = ll.limit(PROBLEM, ll.ResNet(), SGD, 0.5, **SMALL)
        assert r.message.startswith("stopped by memory: ")
        assert r.message.endswith("; no room here")
        assert len(r.sizes) == 2


def test_a_first_size_that_does_not_fit_is_an_error(planted, monkeypatch):
    """By the prediction, before anything is solved, or by the solver."""
    with pytest.raises(MemoryError, match="the first step of width=64, depth=2 needs"):
        ll.limit(PROBLEM, ll.ResNet(), SGD, 0.5, **SMALL, memory=1000)
    assert planted["calls"] == []

    def run(one, progress):
        raise MemoryError("no room here")

    monkeypatch.setattr(ladders, "run", run)
    with pytest.raises(MemoryError, match="no room here"):
        ll.limit(PROBLEM, ll.ResNet(), SGD, 0.5, **SMALL)


def test_finished_sizes_go_to_the_folder(planted, tmp_path):
    folder = tmp_path / "sizes"
    r = ll.limit(PROBLEM, ll.ResNet(), SGD, 0.5, **SMALL, seconds=1e-9, checkpoint=folder)
    names = {f"{c['width']}x{c['depth']}.safetensors" for c in r.sizes}
    assert {p.name for p in folder.iterdir()} == names | {"64x2-fine.safetensors"}
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="checkpoint="):
        ll.limit(PROBLEM, ll.ResNet(), SGD, 0.5, **SMALL, checkpoint=tmp_path / "file")


def test_a_training_without_test_inputs_has_no_test_loss(planted):
    r = ll.limit(ll.arrays(PROBLEM.x, PROBLEM.y, standardize=False), ll.ResNet(), SGD, 0.5, **SMALL)
    assert r.test_loss is None is r.test_loss_error
    assert "test_loss" not in repr(r)
    half = dataclasses.replace(r, test_loss=r.train_loss)
    assert "test_loss" not in repr(half)
    half = dataclasses.replace(r, test_loss_error=r.train_loss)
    assert "test_loss" not in repr(half)


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (dict(skip=False), "skip=False has no infinite-depth limit"),
        (dict(scheme="ntk"), "is lazy in the limit: use leadline.lazy"),
        (dict(scheme="mup", block_layers=1), r"updates grow like L\^1"),
        (dict(scheme="mup", block_layers=2), "has no infinite-depth limit"),
    ],
)
def test_networks_without_a_limit_are_refused(planted, network, words):
    with pytest.raises(ValueError, match=words):
        ll.limit(PROBLEM, ll.ResNet(**network), SGD, 0.5, **SMALL)
    assert planted["calls"] == []


def test_what_is_no_task_is_refused(planted):
    for task, word in (
        ((None, ll.ResNet(), SGD), "problem"),
        ((PROBLEM, "resnet", SGD), "build"),
        ((PROBLEM, ll.ResNet(), 0.1), "sgd"),
    ):
        with pytest.raises(TypeError, match=f"{word}="):
            ll.limit(*task, 0.5, **SMALL)


def test_the_first_width_has_room_for_the_problem(planted):
    r = ll.limit(PROBLEM, ll.ResNet(), SGD, 0.5)
    assert [(c["width"], c["depth"], c["seeds"]) for c in r.sizes][:3] == [
        (256, 8, 4),
        (512, 8, 4),
        (256, 16, 4),
    ]
    assert [(c["width"], c["depth"], c["seeds"]) for c in r.sizes][3:] == [
        (1024, 8, 2),
        (256, 32, 2),
    ]
    assert planted["calls"][0].tol == r.info["tol"] == 1e-2
    assert r.info["rtol"] == 0.5
    assert (
        ll.limit(PROBLEM, ll.ResNet(), SGD, 0.5, **SMALL, dtype="torch.float64").info["dtype"]
        == "float64"
    )
