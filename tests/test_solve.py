"""solve: its law, the numbers of the theory, truncation, checkpoints, errors."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import leadline as ll
from leadline.kernels.kernels import first_step
from leadline.solving import checkpoint as checkpoints
from leadline.solving import solver
from leadline.solving.configuration import Configuration
from leadline.solving.memory import predict


def one_sample():
    """|x|²/d = 1 and target 0: with f_0 = 0 nothing moves; targets are set by the test."""
    return ll.arrays(np.ones((1, 4)), np.array([1.0]), standardize=False)


def four_samples():
    """Four random inputs of norm √6 with targets ±1, the small problem of the convergence table."""
    x = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    x = x / x.norm(dim=1, keepdim=True) * math.sqrt(6)
    return ll.arrays(x, np.array([1.0, -1.0, 1.0, -1.0]), standardize=False)


# First step, only W trained, f_0 = 0, one sample, T = 1: −Δf/(ηχ) at infinite width and depth.
FIRST_STEP = {
    "identity": (2.7183, 1.7183),
    "tanh": (0.5296, 0.4279),
    "sqrt2 relu": (2.7183, 1.7183),
    "relu": (0.8244, 0.6487),
    "gelu": (0.6883, 0.5491),
    "erf": (0.6533, 0.5044),
}


def network(name, **how):
    if name == "sqrt2 relu":
        return ll.ResNet("relu", gain=math.sqrt(2), scheme="depth-mup", **how)
    return ll.ResNet(name, scheme="depth-mup", **how)


@pytest.mark.parametrize("tol", [0.0, 1e-3, 1e-2, 0.3])
@pytest.mark.parametrize("coupling", ["reused", "independent"])
@pytest.mark.parametrize("name", FIRST_STEP)
def test_first_step_formula(name, coupling, tol):
    """lr = 1e-3 is where a dropped coupling shows: the two columns differ by 23 to 58 %.

    Against the n→∞ recursion at the same depth; tolerance: four standard errors of the seeds (each
    below 2.5 %; a gain of √2 makes the variance grow, and fluctuate) and 1 % for the O(1/n) and O(lr)
    terms.
    """
    p, net, depth = one_sample(), network(name), 48
    limit = float(first_step(p, net, coupling)[0, 0])
    assert limit == pytest.approx(FIRST_STEP[name][coupling == "independent"], abs=6e-5)
    expected = float(first_step(p, net, coupling, depth)[0, 0])
    sgd = ll.SGD(lr=1e-3, steps=1, train="hidden", center=True)
    s = ll.solve(
        p,
        net,
        sgd,
        width=2048,
        depth=depth,
        coupling=coupling,
        seeds=12 if name == "sqrt2 relu" else 6,
        tol=tol,
        variance_reduction="balanced",
    )
    slope = s.train_outputs[:, 1, 0, 0] / 1e-3
    error = slope.std(ddof=1) / math.sqrt(len(slope))
    assert abs(slope.mean() - expected) < 0.01 * expected + 4 * error
    assert error < 0.025 * expected


@pytest.mark.parametrize("tol", [1e-2, 1e-3])
def test_small_learning_rates_keep_the_coupling(tol):
    """Identity, T=2, L=48: exactly T(1+T/L)^(L-1) at lr 1e-3, not the independent value.

    The width's fluctuation is large at T = 2; 6 seeds leave 3 %, the gap is a factor of two.
    """
    depth, horizon = 48, 2.0
    exact = horizon * (1 + horizon / depth) ** (depth - 1)
    sgd = ll.SGD(lr=1e-3, steps=1, train="hidden", center=True)
    s = ll.solve(
        one_sample(),
        network("identity", horizon=horizon),
        sgd,
        width=4096,
        depth=depth,
        seeds=6,
        tol=tol,
        variance_reduction="balanced",
    )
    assert s.train_outputs[:, 1].mean() / 1e-3 == pytest.approx(exact, rel=0.06)


# Recipes in which solve and train must agree in law at equal width and depth.
LAW = [
    ("tanh", 1, "reused", {}, {}),
    ("relu", 1, "independent", {}, {"momentum": 0.8}),
    ("identity", 1, "reused", {}, {"weight_decay": 0.1, "batch_size": 3, "lr": 0.2}),
    ("tanh", 2, "independent", {"classes": 3}, {"lr": 1.0}),
    ("relu", 2, "reused", {"classes": 3}, {"batch_size": 3, "lr": 0.5, "momentum": 0.5}),
    ("tanh", 2, "reused", {}, {"weight_decay": 0.05}),
]


@pytest.mark.parametrize(("activation", "k", "coupling", "data", "recipe"), LAW)
def test_same_law_as_dense_networks(activation, k, coupling, data, recipe):
    """Mean and spread of train and test losses over seeds, at width 48 and depth 4.

    Means within 4.5 joint standard errors; ratios of standard deviations within 4.5 of their own,
    1/√(2(S−1)) each (loosened by 1.5 as losses have heavier tails than a Gaussian).
    """
    rng = np.random.default_rng(1)
    x, x_test = rng.standard_normal((6, 5)), rng.standard_normal((4, 5))
    if "classes" in data:
        p = ll.arrays(x, np.arange(6) % 3, x_test, np.arange(4) % 3, loss="cross_entropy")
    else:
        p = ll.arrays(x, rng.choice([-1.0, 1.0], 6), x_test, rng.choice([-1.0, 1.0], 4))
    sgd = ll.SGD(**({"lr": 0.4, "steps": 6} | recipe))
    net = ll.ResNet(activation, block_layers=k, scheme="depth-mup")
    seeds = 80
    how = dict(width=48, depth=4, coupling=coupling, seeds=seeds, record_every=3)
    a = ll.train(p, net, sgd, **how, seed=1)
    b = ll.solve(p, net, sgd, **how, seed=1, tol=1e-4)
    for name in ("train_loss", "test_loss"):
        u, v = getattr(a, name), getattr(b, name)
        error = np.hypot(a.error(name), b.error(name))
        assert (np.abs(u.mean(0) - v.mean(0)) < 4.5 * error).all(), name
        ratio = np.log(u.std(0) / v.std(0))
        assert (np.abs(ratio) < 4.5 * 1.5 * math.sqrt(1 / (seeds - 1))).all(), name


def test_couplings_differ_at_depth():
    """Loss after 4 steps: 0.276 reused, 0.306 independent, and the gap stays at depth 32."""
    p, net = four_samples(), network("tanh")
    sgd = ll.SGD(lr=0.5, steps=4, train="hidden", center=True)
    how = dict(width=4096, depth=32, seeds=3, variance_reduction="balanced")
    reused = ll.solve(p, net, sgd, coupling="reused", **how)
    independent = ll.solve(p, net, sgd, coupling="independent", **how)
    # Measured at n = 16384, plain: .2765(4) and .3057(3); five standard errors of either.
    assert reused.mean()[-1] == pytest.approx(0.2765, abs=0.004)
    assert independent.mean()[-1] == pytest.approx(0.3057, abs=0.004)


def test_runs_and_blocks_draw_their_own_numbers():
    """Run s does not depend on how many runs there are."""
    p, sgd = four_samples(), ll.SGD(lr=0.5, steps=2)
    how = dict(width=300, depth=2, seed=5)
    a = ll.solve(p, ll.ResNet(), sgd, seeds=3, **how)
    b = ll.solve(p, ll.ResNet(), sgd, seeds=2, **how)
    assert np.array_equal(a.train_loss[:2], b.train_loss)
    assert len(np.unique(a.train_loss[:, -1])) == 3


def test_shapes_of_records_and_measures():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((6, 4)), rng.standard_normal(6)
    sgd = ll.SGD(lr=0.3, steps=4, batch_size=2, momentum=0.5)
    how = dict(width=64, depth=3, seeds=2, tol=1e-3)
    plain = ll.solve(ll.arrays(x, y), ll.ResNet(), sgd, **how)
    p = ll.arrays(x, y, rng.standard_normal((5, 4)), rng.standard_normal(5))
    request = ll.Measure(("tangent_kernel", "movement"), steps=(0, 1, -1))
    full = ll.solve(p, ll.ResNet(), sgd, **how, measure=request)
    sparse = ll.solve(p, ll.ResNet(), sgd, **how, record_every=4)
    assert plain.train_loss.shape == full.train_loss.shape == (2, 5)
    assert sparse.steps.tolist() == [0, 4]
    assert full.test_outputs.shape == (2, 2, 5, 1)  # at the ends: five test inputs to two of a step
    assert full.measures["tangent_hidden"].shape == (2, 3, 6, 6)


def test_training_state_is_untouched_by_evaluations():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((6, 4)), rng.standard_normal(6)
    sgd = ll.SGD(lr=0.3, steps=3, batch_size=2)
    states = []
    for p in (ll.arrays(x, y), ll.arrays(x, y, x, y)):
        work = solver.Training(Configuration(p, ll.ResNet(), sgd, width=40, depth=2))
        while not work.done:
            work.advance()
        states.append(work.network.tensors())
    for key, value in states[0].items():
        if not key.endswith("scratch"):
            assert torch.equal(value, states[1][key]), key


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_killed_and_resumed_is_the_same_answer(tmp_path, momentum, monkeypatch):
    p = ll.digits(classes=(0, 1), samples=8, test_samples=6)
    sgd = ll.SGD(lr=0.2, steps=6, batch_size=4, momentum=momentum, weight_decay=0.01)
    request = ll.Measure(("feature_kernel", "movement"), steps=(0, 2, -1))
    how = dict(width=300, depth=3, seeds=2, measure=request)
    whole = ll.solve(p, ll.ResNet(), sgd, **how)
    path = tmp_path / "deep" / "c.safetensors"
    for stop_at in (2, 5, 9):
        calls = 0

        def stop(stop_at=stop_at, **_):
            nonlocal calls
            calls += 1
            if calls == stop_at:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            ll.solve(
                p, ll.ResNet(), sgd, **how, checkpoint=path, checkpoint_every=0.0, progress=stop
            )
    again = ll.solve(p, ll.ResNet(), sgd, **how, checkpoint=path, checkpoint_every=0.0)
    assert np.array_equal(whole.train_outputs, again.train_outputs)
    assert np.array_equal(whole.test_outputs, again.test_outputs)
    for name, value in whole.measures.items():
        assert np.array_equal(value, again.measures[name])
    # A finished checkpoint answers at once; another computation is refused, and says why.
    monkeypatch.setattr(solver.Training, "advance", None)
    third = ll.solve(p, ll.ResNet(), sgd, **how, checkpoint=path)
    assert np.array_equal(third.train_loss, whole.train_loss)
    with pytest.raises(ll.CheckpointError, match=r"width=301 \(the file has 300\)"):
        ll.solve(p, ll.ResNet(), sgd, **(how | {"width": 301}), checkpoint=path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ll.CheckpointError, match="not a whole checkpoint"):
        ll.solve(p, ll.ResNet(), sgd, **how, checkpoint=path)


def test_memory_budget_stops_with_a_checkpoint_that_resumes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    p = ll.digits(classes=(0, 1), samples=16, test_samples=0)
    sgd = ll.SGD(lr=0.2, steps=6)
    how = dict(width=512, depth=4, tol=1e-4)
    with pytest.raises(MemoryError, match="first step"):
        ll.solve(p, ll.ResNet(), sgd, **how, memory=10_000)
    budget = predict(Configuration(p, ll.ResNet(), sgd, 512, 4)).first_step
    with pytest.raises(MemoryError, match="first step"):
        ll.solve(p, ll.ResNet(), sgd, **how, memory=budget - 1)
    with pytest.raises(ll.MemoryBudgetError, match="resume from checkpoint") as e:
        ll.solve(p, ll.ResNet(), sgd, **how, memory=budget)
    (path,) = tmp_path.glob("leadline-checkpoint-*")
    assert path.name in str(e.value)
    rest = ll.solve(p, ll.ResNet(), sgd, **how, checkpoint=path)
    assert np.array_equal(rest.train_loss, ll.solve(p, ll.ResNet(), sgd, **how).train_loss)


def test_divergence_is_a_result():
    p = ll.digits(classes=(0, 1), samples=8, test_samples=4)
    for batch_size in (None, 4):
        sgd = ll.SGD(lr=1e6, steps=12, batch_size=batch_size)
        t = ll.solve(p, ll.ResNet("relu"), sgd, width=64, depth=3, seeds=2)
        assert (t.diverged > 0).all()
        k = t.diverged[0]
        assert np.isfinite(t.train_loss[0, :k]).all()
        assert np.isnan(t.train_loss[0, k:]).all()
        assert "DIVERGED" in repr(t)


def test_steps_zero_and_a_single_sample():
    t = ll.solve(one_sample(), ll.ResNet(), ll.SGD(steps=0), width=32, depth=2, seeds=2)
    assert t.train_loss.shape == (2, 1)
    constant = ll.arrays(np.eye(3), np.full(3, 2.0), standardize=False)
    assert ll.solve(constant, ll.ResNet(), ll.SGD(steps=2), width=32, depth=2).seeds == 1


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 40), st.integers(1, 3), st.integers(1, 5), st.sampled_from([0.0, 1e-3, 0.5]))
def test_any_size_works(n, depth, samples, tol):
    """Widths below the number of samples, depth 1, coarse truncation."""
    rng = np.random.default_rng(n)
    p = ll.arrays(rng.standard_normal((samples, 3)), rng.standard_normal((samples, 2)))
    t = ll.solve(p, ll.ResNet(), ll.SGD(lr=0.1, steps=3), width=n, depth=depth, tol=tol)
    assert np.isfinite(t.train_outputs).all()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"width": 0}, ValueError, "width=0"),
        ({"depth": 2.5}, TypeError, "depth=2.5"),
        ({"coupling": "resued"}, ValueError, "did you mean 'reused'"),
        ({"seeds": 0}, ValueError, "seeds=0"),
        ({"seed": -1}, ValueError, "seed=-1"),
        ({"tol": 1.0}, ValueError, "tol=1.0"),
        ({"tol": math.nan}, ValueError, "tol=nan"),
        ({"variance_reduction": "all"}, ValueError, "variance_reduction='all'"),
        ({"dtype": "float16"}, ValueError, "dtype='float16'"),
        ({"device": "gpu7"}, ValueError, "device='gpu7'"),
        ({"record_every": 0}, ValueError, "record_every=0"),
        ({"measure": "kernels"}, TypeError, "measure='kernels'"),
        ({"memory": 10}, MemoryError, "memory=10"),
    ],
)
def test_bad_arguments(change, error, message):
    with pytest.raises(error, match=message):
        ll.solve(one_sample(), ll.ResNet(), ll.SGD(steps=1), **({"width": 16, "depth": 2} | change))


def test_batch_and_centre_are_checked_against_the_problem():
    p = four_samples()
    with pytest.raises(ValueError, match="batch_size=5 is larger than the problem's 4 samples"):
        ll.solve(p, ll.ResNet(), ll.SGD(batch_size=5), width=64, depth=2)
    with pytest.raises(ValueError, match="width=15 is too small"):
        ll.solve(p, ll.ResNet(), ll.SGD(center=True), width=15, depth=2)


def test_saved_and_loaded(tmp_path):
    p = ll.digits(classes=(0, 1), samples=8, test_samples=4)
    t = ll.solve(p, ll.ResNet(), ll.SGD(steps=2), width=64, depth=2, measure=ll.Measure())
    back = ll.Trajectory.load(t.save(tmp_path / "t.safetensors"))
    for field in dataclasses.fields(t):
        if field.name not in ("info", "measures"):
            assert np.array_equal(getattr(t, field.name), getattr(back, field.name)), field.name
    assert json.loads(json.dumps(t.info)) == back.info
    assert json.loads(json.dumps(t.to_json()))["train_loss"] == t.train_loss.tolist()
    (tmp_path / "bad").write_bytes(b"no")
    with pytest.raises(OSError, match="not a whole saved trajectory"):
        ll.Trajectory.load(tmp_path / "bad")
    with pytest.raises(KeyError, match="was not recorded"):
        t.mean("gradient_kernel")
    assert len(t.to_pandas()) == 3
    assert checkpoints.Checkpoint(None, {}, 1.0).finished == []
