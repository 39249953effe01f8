"""Several seeds as one program: the numbers of each are those that it has alone."""

import dataclasses

import numpy as np
import pytest
import torch

import leadline as ll
from leadline.solving import solver
from leadline.solving.configuration import Configuration
from leadline.solving.network import RevealedNetwork
from leadline.solving.stacked_network import StackedNetwork
from leadline.solving.stacked_operator import PADDING
from leadline.solving.stacked_training import StackedTraining
from leadline.solving.training import Training

SGD = ll.SGD(lr=0.5, steps=5, momentum=0.9, weight_decay=0.01)
# Above and below the width at which W(0) is drawn whole.
WIDE, SMALL = 520, 48

CASES = {
    "reused": ({}, {}, {}),
    "independent": (dict(coupling="independent"), {}, {}),
    "balanced": (dict(variance_reduction="balanced"), {}, {}),
    "ends, one layer at a time": (dict(variance_reduction="ends"), dict(skip=False), {}),
    "every direction": (dict(tol=0.0), dict(activation="relu"), {}),
    "two layers a block": ({}, dict(block_layers=2, activation="gelu"), {}),
    "mini-batches": ({}, {}, dict(batch_size=5)),
    "centred": ({}, {}, dict(center=True)),
    "readout only": ({}, {}, dict(train="readout")),
}


def problem(seed=0, samples=12, **options):
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((samples + 6, 7)), rng.standard_normal((samples + 6, 2))
    return ll.arrays(x[:samples], y[:samples], x_test=x[samples:], y_test=y[samples:], **options)


def both(monkeypatch, p, network, sgd, **options):
    """The same solve with the seeds together, and one by one."""
    together = ll.solve(p, network, sgd, **options)
    monkeypatch.setattr(solver, "STACKED_WIDTH", 0)
    return together, ll.solve(p, network, sgd, **options)


@pytest.mark.parametrize("width", [SMALL, WIDE])
@pytest.mark.parametrize("case", CASES)
def test_a_seed_of_a_stack_is_the_seed_alone(case, width, monkeypatch):
    options, of_network, of_recipe = CASES[case]
    sgd = dataclasses.replace(SGD, **of_recipe)
    a, b = both(
        monkeypatch, problem(), ll.ResNet(**of_network), sgd,
        width=width, depth=2, seeds=3, dtype="float64", **options,
    )  # fmt: skip
    for name in ("train_outputs", "test_outputs", "train_loss", "test_loss"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=1e-9, atol=1e-11)
    assert np.ptp(a.train_loss[:, -1]) > 1e-4  # the seeds differ
    assert a.info["largest_rank"] == b.info["largest_rank"]


@pytest.mark.parametrize("width", [SMALL, WIDE])
@pytest.mark.parametrize("reduction", ["none", "balanced"])
def test_more_test_inputs_than_half_of_the_neurons(width, reduction, monkeypatch):
    """All of W(0) is drawn for them."""
    a, b = both(
        monkeypatch, ll.digits(samples=12, test_samples=280), ll.ResNet(), SGD, width=width,
        depth=2, seeds=3, dtype="float64", variance_reduction=reduction,
    )  # fmt: skip
    np.testing.assert_allclose(a.test_outputs, b.test_outputs, rtol=1e-9, atol=1e-11)
    assert np.ptp(a.test_loss[:, -1]) > 1e-4


def test_seeds_of_different_ranks(monkeypatch):
    # A coarse tol: each seed keeps other directions.
    sgd = ll.SGD(lr=0.5, steps=8)
    a, b = both(
        monkeypatch, problem(samples=20), ll.ResNet(), sgd,
        width=WIDE, depth=3, seeds=4, dtype="float64", tol=0.2,
    )  # fmt: skip
    np.testing.assert_allclose(a.train_outputs, b.train_outputs, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(a.test_outputs, b.test_outputs, rtol=1e-9, atol=1e-11)
    c = Configuration(problem(samples=20), ll.ResNet(), sgd, width=WIDE, depth=3, seeds=4, tol=0.2)
    work = StackedTraining(c, range(4))
    while not work.done:
        work.advance()
    ranks = [o.largest for block in work.network.operators for o in block]
    assert any(np.ptp(r, axis=0).any() for r in ranks)


def test_padding_is_taken_out(monkeypatch):
    # A coarse tol and many steps: seeds reveal a direction now and then, each at other steps.
    p, network = problem(samples=6), ll.ResNet()
    sgd = ll.SGD(lr=1.2, steps=40, momentum=0.5)
    options = dict(width=WIDE, depth=2, seeds=6, tol=0.02, dtype="float64")
    work = StackedTraining(Configuration(p, network, sgd, **options), range(6))
    padded = 0
    while not work.done:
        work.advance()
        for block in work.network.operators:
            for o in block:
                for side, most in zip((o.forward, o.transposed), o.largest.max(0), strict=True):
                    padded = max(padded, side.queries.count - most)
                    # What one step adds, beyond the room for padding.
                    assert side.queries.count <= PADDING * most + 2 * p.samples
    assert padded > 0
    a, b = both(monkeypatch, p, network, sgd, **options)
    np.testing.assert_allclose(a.train_outputs, b.train_outputs, rtol=1e-8, atol=1e-10)
    np.testing.assert_array_equal(work.network.largest_ranks().max(), b.info["largest_rank"])


def test_in_float32_a_decision_may_turn_within_tol(monkeypatch):
    a, b = both(
        monkeypatch, problem(), ll.ResNet("relu"), SGD, width=WIDE, depth=2, seeds=3, tol=1e-3
    )
    size = np.abs(b.train_outputs).max()
    np.testing.assert_allclose(a.train_outputs, b.train_outputs, atol=5e-3 * size)


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("width", [SMALL, WIDE])
def test_a_seed_that_diverges_leaves_the_others_alone(every, width, monkeypatch):
    # Cubic growth: some seeds diverge at this rate, not all.
    network = ll.ResNet(activation=lambda h: h + 0.1 * h**3)
    sgd = ll.SGD(lr=RATES[width], steps=9)
    options = dict(width=width, depth=2, seeds=6, dtype="float64", record_every=every)
    a, b = both(monkeypatch, problem(), network, sgd, **options)
    over = b.diverged >= 0
    assert over.any()
    assert not over.all()
    np.testing.assert_array_equal(a.diverged, b.diverged)
    np.testing.assert_allclose(a.train_loss, b.train_loss, rtol=1e-6)
    np.testing.assert_allclose(a.test_loss, b.test_loss, rtol=1e-6)


RATES = {SMALL: 0.35, WIDE: 0.25}


def test_seeds_split_where_memory_ends(monkeypatch):
    stacks = []
    start = StackedTraining.__init__

    def noted(self, c, runs, going):
        stacks.append(len(runs))
        start(self, c, runs, going)

    monkeypatch.setattr(StackedTraining, "__init__", noted)
    p, sgd = problem(), ll.SGD(lr=0.1, steps=3)
    options = dict(width=600, depth=2, seeds=5, dtype="float64")
    c = Configuration(p, ll.ResNet(), sgd, **options)
    room = solver.memory_use.predict(c).stacked(3) - 1
    part = ll.solve(p, ll.ResNet(), sgd, memory=room, **options)
    assert stacks == [2, 2]  # and one alone
    whole = ll.solve(p, ll.ResNet(), sgd, **options)
    np.testing.assert_allclose(part.train_outputs, whole.train_outputs, rtol=1e-9, atol=1e-11)


def test_lean_decisions_take_one_copy_and_give_the_same_law(monkeypatch):
    # As on a GPU: all remainders are formed, draws come from a hash.
    p, sgd = problem(), ll.SGD(lr=0.3, steps=3)
    c = Configuration(p, ll.ResNet(), sgd, width=WIDE, depth=2, seeds=2, dtype="float64")
    object.__setattr__(c.settings, "lean", True)
    object.__setattr__(c.settings, "counter", True)
    work = StackedTraining(c, range(2))
    while not work.done:
        work.advance()
    for s in range(2):
        one = Training(c, s)
        while not one.done:
            one.advance()
        for name, value in one.record.arrays.items():
            np.testing.assert_allclose(work.records[s].arrays[name], value, rtol=1e-9, atol=1e-11)


def test_a_stack_starts_as_its_seeds():
    c = Configuration(problem(), ll.ResNet(), SGD, width=WIDE, depth=2, seeds=3)
    stack = StackedNetwork(c, [2, 0])
    for place, s in enumerate((2, 0)):
        one = RevealedNetwork(c, s)
        assert torch.equal(stack.u.value[place], one.u.value)
        assert torch.equal(stack.v.value[place], one.v.value)
