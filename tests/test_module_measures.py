"""Kernels, gradients and movement of the modules of a builder's model, in dense training and in a solve."""

import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import leadline as ll
from leadline.matrixfree.configuration import TaskConfiguration
from leadline.matrixfree.loop import TaskTraining
from leadline.matrixfree.solver import training
from leadline.measure.observation import movement

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from wide_models import CASES

EVERYTHING = ("feature_kernel", "gradient_kernel", "movement")
X = np.array([[1.0, 0.5], [-0.3, 1.2], [0.7, -0.4]])
PROBLEM = ll.arrays(X, [1.0, -0.5, 0.2], standardize=False)
BASE, SIZE = dict(width=8, depth=2), dict(width=16, depth=2)
HOW = dict(base=BASE, scheme="mup", dtype="float64", **SIZE)


class Linears(nn.Module):
    """A residual network without an activation: x → U → h + W h → v."""

    def __init__(self, n, depth):
        super().__init__()
        self.first = nn.Linear(2, n, bias=False)
        self.blocks = nn.ModuleList(nn.Linear(n, n, bias=False) for _ in range(depth))
        self.last = nn.Linear(n, 1, bias=False)

    def forward(self, x):
        h = self.first(x)
        for block in self.blocks:
            h = h + block(h)
        return self.last(h)


class Odd(nn.Module):
    """Modules whose outputs are changed in place, come with others, are none, or are never made."""

    def __init__(self, n, depth):
        super().__init__()
        self.first, self.last = nn.Linear(2, n), nn.Linear(n, 1)
        self.blocks = nn.ModuleList(nn.Linear(n, n) for _ in range(depth))
        self.drop, self.pair, self.words = nn.Dropout(0.5), Pair(), Words()

    def forward(self, x):
        h = self.drop(self.first(x))
        h.mul_(2.0)
        self.words(h)
        for block in self.blocks:
            h = h + block(torch.tanh(h))
        h, _ = self.pair(h)
        return self.last(h)


class Pair(nn.Module):
    def forward(self, h):
        return torch.tanh(h), {"rows": len(h)}


class Words(nn.Module):
    def forward(self, h):
        return "words"


def test_a_linear_network_by_hand():
    """Kernels and movement from the weights, before training and after one step."""
    recipe = ll.SGD(lr=0.1, steps=1)
    c = TaskConfiguration(PROBLEM, Linears, recipe, **HOW, measure=measure())
    plan = c.plan.factors()
    u, w1, w2, v = (p.detach().numpy() for p in c.model(0).parameters())
    n, y, kernels = 16, PROBLEM.y, []
    for _ in range(2):
        h0 = X @ u.T
        h1 = h0 + h0 @ w1.T
        h2 = h1 + h1 @ w2.T
        chi = h2 @ v.T - y
        # The gradient of one row's loss by every output.
        z2 = chi @ v
        z1 = z2 + z2 @ w2
        z0 = z1 + z1 @ w1
        outputs = dict(first=h0, b0=h0 @ w1.T, b1=h1 @ w2.T, last=h2 @ v.T)
        gradients = [n * z0, n * z1, n * z2, chi]
        kernels.append((list(outputs.values()), gradients))
        rates = [recipe.lr * plan[name].lr / 3 for name in names()]
        steps = z0.T @ X, z1.T @ h0, z2.T @ h1, chi.T @ h2
        u, w1, w2, v = (p - r * g for p, r, g in zip((u, w1, w2, v), rates, steps, strict=True))
    t = ll.train(PROBLEM, Linears, recipe, **HOW, measure=measure())
    assert t.modules == ("first", "blocks.0", "blocks.1", "last")
    assert t.times is None
    assert t.measured_steps.tolist() == [0, 1]
    for k, (outputs, gradients) in enumerate(kernels):
        for d, (h, z) in enumerate(zip(outputs, gradients, strict=True)):
            moved = np.sqrt(((h - kernels[0][0][d]) ** 2).mean(1))
            for name, value in zip(EVERYTHING, (gram(h), gram(z), moved), strict=True):
                assert np.allclose(t.measures[name][0, k, d], value, rtol=1e-12, atol=1e-14)


def names():
    return "first.weight", "blocks.0.weight", "blocks.1.weight", "last.weight"


def gram(h):
    return h @ h.T / h.shape[1]


def measure(*modules, steps=(0, -1), **more):
    modules = modules or ("first", "blocks.*", "last")
    return ll.Measure(**{"quantities": EVERYTHING} | more, modules=modules, steps=steps)


def replayed(c):
    """What a solve and the dense training from its W(0) measure."""
    work, updates = training(c, 0)
    kept = {
        n: p.detach().clone() for n, p in work.model.named_parameters() if n not in updates.wide
    }
    work.run()
    dense = c.model(0)
    with torch.no_grad():
        for name, p in dense.named_parameters():
            if name in kept:
                p.copy_(kept[name])
            else:
                p.copy_(updates.wide[name].matrices[0].initial().reshape(p.shape))
    other = TaskTraining(c, 0, dense, c.optimizers(dense))
    other.run()
    return work.record.measures, other.record.measures


@pytest.mark.parametrize("recipe", [ll.SGD(lr=0.1, momentum=0.9), ll.AdamW(lr=0.01)])
@pytest.mark.parametrize("ensemble", ["gaussian", "fast"])
@pytest.mark.parametrize("case", ["residual MLP, 2 layers a block", "GPT, fused qkv"])
def test_a_solve_measures_what_its_dense_replay_does(case, ensemble, recipe):
    """Exactly, of what a step's pass has queried: all but the last step's gradients."""
    made = CASES[case]()
    task = ll.Task(made.task.loss, batch=made.task.source.at(0, 0))
    c = TaskConfiguration(
        task,
        made.build,
        replace(recipe, steps=3),
        width=32,
        depth=2,
        base=made.base,
        dtype="float64",
        tol=0.0,
        ensemble=ensemble,
        measure=measure("blocks.*", steps=(0, 2, 3)),
    )
    solved, dense = replayed(c)
    assert list(solved) == [0, 2, 3]
    assert (dense[2]["movement"] > 1e-4).all()
    for k in solved:
        for name in EVERYTHING:
            if not (ensemble == "gaussian" and k == 3 and name == "gradient_kernel"):
                close = 1e-10 * abs(dense[k][name]).max()
                assert abs(solved[k][name] - dense[k][name]).max() <= close


def test_what_no_step_has_queried_is_a_draw_from_its_law():
    """The gradient kernel after the last step: means over seeds agree with dense training."""
    request = measure("first", steps=(-1,), quantities=("gradient_kernel",))
    how = HOW | dict(seeds=24, measure=request)
    recipe = ll.SGD(lr=0.1, steps=2)
    runs = [f(PROBLEM, Linears, recipe, **how) for f in (ll.solve, ll.train)]
    means, errors = zip(
        *[(t.mean("gradient_kernel"), t.error("gradient_kernel")) for t in runs], strict=True
    )
    assert (abs(means[0] - means[1]) < 4 * np.hypot(*errors)).all()


@pytest.mark.parametrize("ensemble", ["gaussian", "fast"])
@pytest.mark.parametrize("case", ["conv ResNet", "GPT, fused qkv"])
def test_measuring_leaves_training_alone(case, ensemble):
    """Whatever batches, buffers and random numbers there are; at step 0 nothing has moved."""
    made = CASES[case]()
    how = dict(width=32, depth=2, base=made.base, record_every=1, ensemble=ensemble)
    plain = ll.solve(made.task, made.build, ll.SGD(lr=0.1, steps=2), **how)
    request = measure("blocks.?", steps=(0, 1, 2))
    seen = ll.solve(made.task, made.build, ll.SGD(lr=0.1, steps=2), **how, measure=request)
    # A product rounds by where its rows lie in memory, which measuring may change.
    np.testing.assert_allclose(plain.train_loss, seen.train_loss, rtol=1e-6)
    assert np.abs(seen.measures["movement"][:, 0]).max() < 1e-6
    assert (seen.measures["movement"][:, 1] > 1e-4).all()


def test_measures_resume(tmp_path):
    """Stopped after two steps and gone on with, and read from what was kept: the same numbers."""
    recipe = ll.SGD(lr=0.1, steps=3, momentum=0.9)
    how = HOW | dict(measure=measure(steps=(0, 1, 3)))
    whole, path = ll.solve(PROBLEM, Linears, recipe, **how), tmp_path / "run"

    def stop(step, **_):
        if step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ll.solve(
            PROBLEM, Linears, recipe, **how, checkpoint=path, checkpoint_every=0, progress=stop
        )
    for _ in range(2):
        again = ll.solve(PROBLEM, Linears, recipe, **how, checkpoint=path)
        assert again.modules == whole.modules
        assert all(np.array_equal(again.measures[k], v) for k, v in whole.measures.items())


def test_odd_modules():
    """In place, in a tuple, with dropout; training is as without measuring."""
    recipe = ll.SGD(lr=0.1, steps=3)
    plain = ll.train(PROBLEM, Odd, recipe, **HOW)
    t = ll.train(PROBLEM, Odd, recipe, **HOW, measure=measure("first", "drop", "pair"))
    assert np.array_equal(plain.train_loss, t.train_loss)
    first, drop, pair = np.moveaxis(t.measures["feature_kernel"][0], 1, 0)
    assert np.array_equal(first, drop)  # evaluation mode, before it is doubled
    assert (np.diagonal(pair, axis1=-2, axis2=-1) < 1).all()
    z = t.measures["gradient_kernel"][0, 0]
    assert np.allclose(z[0], z[1])
    assert (z != 0).all()


def test_saved_shown_aligned(tmp_path):
    t = ll.train(PROBLEM, Linears, ll.SGD(lr=0.1, steps=2), **HOW, measure=measure(rows=2))
    assert t.measures["movement"].shape == (1, 2, 4, 2)
    back = ll.Trajectory.load(t.save(tmp_path / "t.safetensors"))
    assert back.modules == t.modules
    assert "of first, blocks.0" in repr(back)
    assert all(np.array_equal(back.measures[k], v) for k, v in t.measures.items())
    assert t.to_json()["info"]["measure"]["modules"] == ["first", "blocks.*", "last"]
    k, y = t.measures["feature_kernel"], PROBLEM.y[:2, 0]
    expected = (k * np.outer(y, y)).sum((-2, -1)) / np.sqrt((k**2).sum((-2, -1))) / (y @ y)
    assert np.allclose(t.alignment(PROBLEM.y), expected)
    assert t.smallest_eigenvalue("feature_kernel").shape == (1, 2, 4)


def test_tokens_of_a_text(tmp_path):
    """The first sequences that hold so many tokens."""
    made = CASES["GPT, fused qkv"]()
    np.save(tmp_path / "ids.npy", (np.arange(2000) % 64).astype(np.uint16))
    text = ll.text(tmp_path / "ids.npy", context=8)
    t = ll.train(
        text,
        made.build,
        ll.SGD(lr=0.1, steps=1),
        width=32,
        depth=2,
        base=made.base,
        measure=measure("blocks.?", "head", rows=10),
    )
    assert t.measures["feature_kernel"].shape == (1, 2, 3, 10, 10)


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        ("block", "'block' matches no module; there are first, last, blocks, blocks.0"),
        ("blocks", "'blocks': module 'blocks' is not called in a pass"),
        ("words", "'words': module 'words' puts out str"),
    ],
)
def test_modules_without_features_are_refused(modules, message):
    for verb in (ll.train, ll.solve):
        with pytest.raises(ValueError, match=message):
            verb(PROBLEM, Odd, ll.SGD(lr=0.1, steps=1), **HOW, measure=measure(modules))


def test_unequal_rows_are_refused():
    made = CASES["HF ViT"]()
    request = measure("*.mlp", "classifier")
    with pytest.raises(ValueError, match=r"'classifier' puts out \d+ rows and '.*' \d+: measure"):
        ll.train(
            made.task,
            made.build,
            ll.SGD(lr=0.1, steps=1),
            width=32,
            depth=2,
            base=made.base,
            measure=request,
        )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            dict(modules=("a",), quantities=("tangent_kernel",)),
            "quantities='tangent_kernel' is not",
        ),
        (dict(modules=("a",), times=(0.5,)), "times=.* is for a ResNet"),
        (dict(modules=("a",), particles=3), "particles=3 is for a ResNet"),
        (dict(rows=3), "rows=3 is for modules"),
        (dict(modules=("a",), rows=0), "rows=0"),
        (dict(modules=()), "measure.modules is missing"),
        (dict(modules=("first",), steps=(5,)), "steps=5 is outside the training"),
    ],
)
def test_requests_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        ll.train(PROBLEM, Linears, ll.SGD(lr=0.1, steps=1), **HOW, measure=ll.Measure(**wrong))


def test_names_of_modules():
    assert ll.Measure(modules="a").modules == ("a",)
    with pytest.raises(TypeError, match="modules=3 is no name"):
        ll.Measure(modules=(3,))
    with pytest.raises(ValueError, match="is for a builder's models"):
        ll.solve(PROBLEM, ll.ResNet(), ll.SGD(lr=0.1, steps=1), width=8, depth=2, measure=measure())


def test_movement_below_rounding_is_none():
    """Equal rows, multiplied beside others, differ in the last place; NaN stays what it is."""
    h = torch.randn(4, 100, generator=torch.Generator().manual_seed(0))
    other = h.clone()
    other[0] *= 1 + 2**-22
    other[1] *= 1.01
    other[2] = math.nan
    moved = movement(h, other, lambda x: x.mean(-1))
    assert moved[0] == moved[3] == 0
    assert moved[2].isnan()
    assert float(moved[1]) == pytest.approx(0.01 * float(h[1].square().mean().sqrt()), rel=1e-4)
