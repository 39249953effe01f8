"""Checkpoints of several seeds that are solved as one program."""

from __future__ import annotations

import numpy as np
import pytest

import leadline as ll
from leadline.disk.sealed import Sealed
from leadline.solving import solver
from leadline.solving.checkpoint import Checkpoint

SGD = ll.SGD(lr=0.3, steps=8, momentum=0.5, batch_size=4)
HOW = dict(width=40, depth=2, seeds=5, seed=3, dtype="float64", checkpoint_every=0.0)
CASES = {
    "mini-batches and momentum": ({}, SGD),
    "single precision": (dict(dtype="float32"), SGD),
    "balanced": (dict(variance_reduction="balanced", width=560, seeds=2), SGD),
    "independent, with decay": (
        dict(coupling="independent"),
        ll.SGD(lr=0.3, steps=8, weight_decay=0.1),
    ),
    "W(0) drawn whole": (dict(width=24), ll.SGD(lr=0.3, steps=12)),
}


class Killed(Exception):
    """The process ends."""


def problem() -> ll.Problem:
    return ll.digits(classes=(0, 1), samples=6, test_samples=4)


class Progress:
    """Notes the steps, and ends at one of them."""

    def __init__(self, last: int = 10**9) -> None:
        self.steps: list[tuple[int, int]] = []
        self.last = last

    def __call__(self, *, seed: int, step: int, **rest: object) -> None:
        self.steps.append((seed, step))
        if len(self.steps) == self.last:
            raise Killed


def same(a: ll.Trajectory, b: ll.Trajectory) -> None:
    for name in ("train_outputs", "test_outputs", "train_loss", "test_loss", "diverged"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert a.info["largest_rank"] == b.info["largest_rank"]


def killed(path, last: int, network: ll.ResNet, sgd: ll.SGD, **how) -> None:
    with pytest.raises(Killed):
        ll.solve(problem(), network, sgd, **how, checkpoint=path, progress=Progress(last))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("at", [2, 5])
def test_a_stack_goes_on_with_the_same_bits(tmp_path, case: str, at: int) -> None:
    options, sgd = CASES[case]
    how, network = HOW | options, ll.ResNet("tanh")
    whole = ll.solve(problem(), network, sgd, **how)
    killed(tmp_path / "c", at, network, sgd, **how)
    progress = Progress()
    rest = ll.solve(problem(), network, sgd, **how, checkpoint=tmp_path / "c", progress=progress)
    # The step that was reported when it ended had not been written.
    assert progress.steps[0] == (0, at)
    same(rest, whole)
    # A finished file answers without a step.
    again = Progress()
    same(ll.solve(problem(), network, sgd, **how, checkpoint=tmp_path / "c", progress=again), whole)
    assert not again.steps


def test_seeds_that_diverged_stay_so(tmp_path) -> None:
    sgd, network = ll.SGD(lr=4.0, steps=30), ll.ResNet("relu")
    how = HOW | dict(seeds=8, width=24)
    whole = ll.solve(problem(), network, sgd, **how)
    over = set(whole.diverged[whole.diverged >= 0].tolist())
    assert len(over) > 1  # not all at once, or there is nothing to test
    # Runs are found to have diverged at a step when the next one would begin.
    killed(tmp_path / "c", max(over) + 1, network, sgd, **how)
    header = Sealed(tmp_path / "c").header
    assert header["together"] == 8
    assert 0 < len(header["stack"]) < 8
    same(ll.solve(problem(), network, sgd, **how, checkpoint=tmp_path / "c"), whole)


def test_a_file_of_one_seed_goes_on_and_the_others_follow_together(tmp_path, monkeypatch) -> None:
    network = ll.ResNet("tanh")
    with monkeypatch.context() as patch:
        patch.setattr(solver, "STACKED_WIDTH", 0)
        alone = ll.solve(problem(), network, SGD, **HOW)
        killed(tmp_path / "c", 12, network, SGD, **HOW)
    progress = Progress()
    rest = ll.solve(problem(), network, SGD, **HOW, checkpoint=tmp_path / "c", progress=progress)
    assert progress.steps[0] == (1, 3)
    assert {seed for seed, _ in progress.steps} == {1, 2}  # 2 stands for seeds 2 to 4
    np.testing.assert_allclose(rest.train_outputs, alone.train_outputs, rtol=1e-9, atol=1e-11)


def test_a_stack_in_less_memory_is_refused_before_any_work(tmp_path) -> None:
    network, how = ll.ResNet("tanh"), HOW | dict(width=400, seeds=16)
    killed(tmp_path / "c", 3, network, SGD, **how)
    progress = Progress()
    more = dict(checkpoint=tmp_path / "c", progress=progress)
    with pytest.raises(MemoryError, match="16 seeds that go on together") as refusal:
        ll.solve(problem(), network, SGD, **how, **more, memory=_one_seed(how))
    assert not progress.steps
    enough = int(str(refusal.value).split("give memory=")[1].split(",")[0])
    ll.solve(problem(), network, SGD, **how, **more, memory=enough)
    assert progress.steps[0] == (0, 3)


def _one_seed(how: dict) -> int:
    """Bytes that one seed's first step takes, and a little more."""
    with pytest.raises(MemoryError) as refusal:
        ll.solve(problem(), ll.ResNet("tanh"), SGD, **how, memory=1000)
    digits = str(refusal.value).split("needs ")[1].split(" ")[0].replace(",", "")
    return int(1.02 * int(digits))


@pytest.mark.parametrize("wrong", [[], [7], ["0"], [True], 3])
def test_a_stack_of_other_seeds_is_damaged(tmp_path, wrong: object) -> None:
    network = ll.ResNet("tanh")
    path = tmp_path / "c"
    killed(path, 3, network, SGD, **HOW)
    kept = Checkpoint(path, Sealed(path).header["info"], 1.0)
    there = Sealed(path).header | {"stack": wrong}
    with pytest.raises((ValueError, TypeError)):
        kept._read(there, kept._loaded)
