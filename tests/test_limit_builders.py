"""limit of a builder's models, and over width alone: against linear networks of infinite width."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import leadline as ll
import linear_networks
from leadline.errors import CheckpointError
from leadline.limits import ladder as ladders
from leadline.limits.estimate import noise_of_means
from leadline.limits.networks import first_size
from leadline.limits.series import Sizes
from leadline.matrixfree.configuration import TaskConfiguration

BASE = dict(width=16, depth=2)
SGD = ll.SGD(lr=0.2, steps=4, momentum=0.5)
NET = ll.ResNet("identity")


class Chain(nn.Module):
    """A linear network whose SGD at the base has the rates of the ResNet in mup form."""

    def __init__(self, n, depth, bias):
        super().__init__()
        self.first, self.last = nn.Linear(2, n, bias=False), nn.Linear(n, 2, bias=bias)
        self.blocks = nn.ModuleList(nn.Linear(n, n, bias=False) for _ in range(depth))
        nn.init.normal_(self.first.weight, std=BASE["width"] ** -0.5)
        for layer in (*self.blocks, self.last):
            nn.init.normal_(layer.weight, std=n**-0.5)

    def forward(self, x):
        h = math.sqrt(BASE["width"] / 2) * self.first(x)
        for block in self.blocks:
            h = h + len(self.blocks) ** -0.5 * block(h)
        return self.last(h) / math.sqrt(BASE["width"])


def chain(width, depth):
    return Chain(width, depth, bias=False)


class Shift(nn.Module):
    """Adds numbers that no width averages, drawn anew by every build."""

    def __init__(self):
        super().__init__()
        self.register_buffer("drawn", None)

    def forward(self, x):
        return x + self.drawn


def shifted(width, depth):
    shift = Shift()
    shift.drawn = torch.randn(2)
    return nn.Sequential(shift, chain(width, depth))


def dropped(width, depth):
    return nn.Sequential(nn.Dropout(0.1), chain(width, depth))


def biased(width, depth):
    return Chain(width, depth, bias=True)


def problem(test=False):
    x = np.random.default_rng(0).standard_normal((3, 2))
    y = [[1.0, 0.0], [0.0, 1.0], [0.5, -1.0]]
    tests = (x[:1], y[:1]) if test else ()
    return ll.arrays(x, y, *tests, standardize=False)


def squares(model, batch):
    return 0.5 * ((model(batch[0]) - batch[1]) ** 2).sum(-1).mean()


def task():
    p = problem()
    one = tuple(torch.tensor(v, dtype=torch.float32) for v in (p.x, p.y))
    return ll.Task(squares, batch=one, eval_batch=one)


def loss(outputs):
    return 0.5 * ((outputs - problem().y) ** 2).sum(-1).mean(-1)


HOW = dict(over="width", width=32, depth=2, rtol=0.1, seeds=3)
MODELS = {
    "resnet": (problem, NET, {}),
    "problem": (problem, chain, dict(base=BASE, scheme="mup")),
    "task": (task, chain, dict(base=BASE, scheme="mup")),
}


@pytest.mark.parametrize(
    ("what", "coupling"), [*[(k, "reused") for k in MODELS], ("task", "independent")]
)
def test_infinite_width_at_a_depth(what, coupling):
    """Of the ResNet, of a builder on a problem, and on a task, whose losses are numbers."""
    truth = linear_networks.train(problem(), NET, SGD, 2, coupling)
    data, build, base = MODELS[what]
    r = ll.limit(data(), build, SGD, **HOW, **base, coupling=coupling)
    assert r.converged, r.message
    assert [c["depth"] for c in r.sizes] == [2] * len(r.sizes)
    assert len(r.sizes) >= 3
    assert (np.abs(r.train_loss - loss(truth)) < 1.5 * r.train_loss_error + 1e-6).all()
    assert r.contributions["depth"] == 0
    assert "series in 1/n: p" in repr(r)
    if what == "task":
        assert r.train_outputs is None
        assert (np.abs(r.test_loss - loss(truth)) < 1.5 * r.test_loss_error + 1e-6).all()
    else:
        assert np.abs(r.train_outputs - truth).max() < 0.3


def test_both_width_and_depth_of_a_builder():
    """The plan's scheme makes depths agree: loss at L = ∞ from linear networks of four depths."""
    depths = {l: linear_networks.train(problem(), NET, SGD, l, "reused") for l in (2, 4, 8, 16)}
    truth, off = linear_networks.limit(depths)
    assert off.max() < 3e-3
    how = dict(width=32, depth=2, seeds=3, base=BASE, scheme="depth-mup", seconds=1.0)
    r = ll.limit(task(), chain, SGD, 0.1, **how)
    assert {c["width"] for c in r.sizes} >= {32, 64}
    assert {c["depth"] for c in r.sizes} >= {2, 4}
    assert (np.abs(r.train_loss - loss(truth)) < 1.5 * r.train_loss_error + 3e-3).all()
    assert json.loads(json.dumps(r.to_json()))["train_outputs"] is None
    assert r.info["recipe"]["optimizer"] == "sgd"


def test_random_outputs_have_a_loss_that_is_a_number():
    """A readout's bias is drawn and never averaged: outputs and their mean say less than the loss."""
    rich = dict(HOW, base=BASE, scheme="mup", seeds=4)
    frozen = ll.SGD(lr=1e-6, steps=1)
    p = problem(test=True)
    r = ll.limit(p, biased, frozen, **rich)
    bound = (
        1 / 16
    )  # the builder's bias is uniform on ± n^-½, whatever the plan does it is O(1) in width
    assert ladders.is_random(r_configuration(p, biased))
    assert not ladders.is_random(r_configuration(p, chain))
    assert ladders.is_random(r_configuration(p, shifted))
    assert ladders.is_random(r_configuration(p, dropped))
    mean = loss(r.train_outputs)
    assert r.train_loss[0] > mean[0]
    assert r.train_loss[0] < loss(np.zeros((1, 3, 2)))[0] + bound + 2 * r.train_loss_error[0]
    assert r.test_outputs.shape == (2, 1, 2)


def r_configuration(p, build):
    return TaskConfiguration(p, build, SGD, 16, 2, base=BASE, scheme="mup")


def count_runs(monkeypatch):
    solved = []
    real = ladders.run

    def count(one, progress):
        solved.append((one.width, one.depth, one.ensemble, one.tol, one.seeds))
        return real(one, progress)

    monkeypatch.setattr(ladders, "run", count)
    return solved


TWO = ll.SGD(lr=0.2, steps=2)


def test_finished_sizes_are_kept(tmp_path, monkeypatch):
    """The same call goes on from its folder; another recipe's is refused."""
    solved = count_runs(monkeypatch)
    how = dict(HOW, base=BASE, scheme="mup", width=16, seeds=2, seconds=1e-9, checkpoint=tmp_path)
    one = ll.limit(task(), chain, TWO, **how)
    sizes = [(n, 2, "gaussian", 1e-3, 2) for n in (16, 32, 64)]
    assert solved == [sizes[0], (16, 2, "gaussian", 1e-4, 2), *sizes[1:]]
    again = ll.limit(task(), chain, TWO, **how)
    assert len(solved) == 4
    np.testing.assert_array_equal(one.train_loss, again.train_loss)
    with pytest.raises(CheckpointError, match=r"another limit.*recipe"):
        ll.limit(task(), chain, ll.SGD(lr=0.3, steps=2), **how)


def test_the_fast_ensemble_is_checked_and_exact_updates_have_no_tol(monkeypatch):
    solved = count_runs(monkeypatch)
    how = dict(HOW, base=BASE, scheme="mup", width=16, seeds=2, seconds=1e-9, ensemble="fast")
    r = ll.limit(task(), chain, ll.Adam(lr=1e-2, steps=2), **how)
    assert [s[:3] for s in solved] == [
        (16, 2, "fast"),
        (16, 2, "gaussian"),
        (16, 2, "fast"),
        (32, 2, "fast"),
        (64, 2, "fast"),
    ]
    assert {s[4] for s in solved[1:3]} == {10}
    assert r.agreement.seeds == 10
    assert r.agreement.p_value > 1e-3
    assert r.contributions["truncation"] == 0


@pytest.mark.parametrize(
    ("how", "error", "words"),
    [
        (dict(scheme="sp"), ValueError, "scheme='sp' scales nothing with width"),
        (dict(scheme="ntk"), ValueError, "scheme='ntk' is lazy in the limit"),
        (dict(scheme="mup"), ValueError, "scheme='mup' has no infinite-depth limit for branch"),
        (dict(base=None), ValueError, "base is missing"),
        (dict(over="depth"), ValueError, "over='depth'"),
        (dict(over="width"), ValueError, "none is given: give depth="),
        (dict(variance_reduction="balanced"), TypeError, "'balanced' is for a ResNet"),
        (dict(seeds=1), ValueError, "seeds=1"),
    ],
)
def test_what_has_no_limit_is_refused(how, error, words):
    with pytest.raises(error, match=words):
        ll.limit(task(), chain, SGD, **(dict(base=BASE, scheme="depth-mup") | how))


def test_options_of_a_builder_are_not_a_networks():
    with pytest.raises(TypeError, match=r"base=.* is for a builder"):
        ll.limit(problem(), NET, SGD, base=BASE)
    no_skips = ll.ResNet("tanh", skip=False)
    with pytest.raises(ValueError, match="no infinite-depth limit: give skip=True or over='width'"):
        ll.limit(problem(), no_skips, SGD)


def test_models_without_branches_have_a_limit_in_width_alone():
    def plain(width, depth):
        layers = [nn.Linear(2, width), nn.Tanh(), nn.Linear(width, width), nn.Linear(width, 2)]
        return nn.Sequential(*layers)

    with pytest.raises(ValueError, match="no residual branch repeats with depth"):
        ll.limit(task(), plain, SGD, base=BASE, scheme="mup")


def test_a_builders_ladder_begins_at_multiples_of_its_base():
    one = r_configuration(problem(), chain)
    assert first_size(one) == (256, 4)
    assert first_size(replace(one, recipe=ll.Adam(), plan=None)) == (128, 4)


def test_noise_that_width_does_not_average_is_not_pooled_away():
    """Variances that are equal at all widths: pooled as ∝ 1/n a wide size would seem nearly exact."""
    sizes = Sizes(2.0 ** np.arange(6, 12), np.full(6, 2.0), 8.0)
    variance, seeds = np.full((2, 6), 0.04), np.full(6, 4.0)
    fitted, usual = (noise_of_means(variance, sizes, seeds, any_fall) for any_fall in (True, False))
    assert (fitted[:, -1] > usual[:, -1]).all()
    np.testing.assert_allclose(usual[:, -1], 0.01 * (1 + 63 / 192) / 2)
    falling = variance * 64 / sizes.n
    np.testing.assert_allclose(*(noise_of_means(falling, sizes, seeds, x) for x in (True, False)))
