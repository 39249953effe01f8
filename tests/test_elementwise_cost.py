"""The cost of a training under an elementwise optimizer: passes counted, bytes exact, seconds measured."""

import time

import pytest
import torch

from leadline.matrixfree.elementwise import ElementwisePart
from leadline.matrixfree.elementwise_cost import PartCost, count_passes, predict
from leadline.matrixfree.elementwise_rules import AdamRule, ElementwiseStep, LionRule, SignRule


def training(part, rows, steps, evaluations=0):
    """Losses before the first step and after the last, with the part's products alone."""
    u, z = torch.ones(rows, part.n_in), torch.ones(rows, part.n_out)
    for k in range(steps + 1):
        for _ in range(1 + evaluations):
            part.product(u)
        if k < steps:
            part.transposed(z)
            part.update(z, u, ElementwiseStep(0.1))


@pytest.mark.parametrize(("held", "kept"), [(0, 0), (4, 0), (2, 0), (4, 4), (3, 1)])
@pytest.mark.parametrize("evaluations", [0, 2])
def test_the_steps_that_a_training_does_are_those_that_are_counted(
    held, kept, evaluations, monkeypatch
):
    n, steps, strip = 32, 5, 8 * 32 * 4
    done = []
    memory = strip * (held + kept)
    part = ElementwisePart(n, n, SignRule(), tile=8, workers=1, memory=memory)
    if kept == 1:  # memory goes to holding all strips first
        part.tiles.held, part.tiles.kept = 3, 1
    assert (part.tiles.held, part.tiles.kept) == (held, kept)
    monkeypatch.setattr(
        SignRule, "advance", lambda s, tile, *rest: done.append(tile.update.numel())
    )
    monkeypatch.setattr(ElementwisePart, "_measured", lambda self: 0.0)
    training(part, 1, steps, evaluations)
    counted = count_passes(steps, held / 4, kept / 4, evaluations)
    assert sum(done) == n * n * (counted.history + counted.kept)
    assert counted.answers == steps * (2 + evaluations) - 1


@pytest.mark.parametrize("share", [0, 0.6, 1, 2.5, 9])
def test_bytes_are_those_at_the_end(share):
    n_in, n_out, memory = 40, 56, share * 40 * 56 * 8
    how = dict(rule=LionRule(), dtype=torch.float64, tile=16, workers=1, memory=memory)
    part = ElementwisePart(n_in, n_out, **how)
    u, z = torch.ones(3, n_in, dtype=torch.float64), torch.ones(3, n_out, dtype=torch.float64)
    for _ in range(2):
        part.update(z, u, ElementwiseStep(0.1))
        part.product(u)
    assert part.bytes <= memory + 2 * 3 * 96 * 8
    # Strips at the edge are lower than the others.
    assert predict(n_in, n_out, 3, 2, **how).bytes == pytest.approx(part.bytes, rel=0.2)


def test_seconds_are_those_of_a_training():
    """Within a factor that two runs on a busy machine differ by."""
    n, rows, steps = 512, 16, 12
    cost = predict(n, n, rows, steps, workers=1, memory=0)
    part = ElementwisePart(n, n, AdamRule(), workers=1, memory=0)
    started = time.perf_counter()
    training(part, rows, steps)
    took = time.perf_counter() - started
    assert cost.low <= cost.seconds <= cost.high
    assert cost.low / 6 < took < 6 * cost.high


def test_time_grows_as_the_square_of_the_steps_and_memory_takes_that_back():
    history = [count_passes(t, 0, 0).history for t in (10, 20, 40)]
    assert history == [100, 400, 1600]
    assert [count_passes(t, 1, 0).history for t in (10, 20)] == [55, 210]
    assert count_passes(20, 1, 1).history == 0
    assert count_passes(20, 1, 1).kept == 20
    assert predict(8, 8, 2, 0).seconds == 0


def test_costs_of_matrices_add_up():
    total = PartCost(1.0, 0.5, 2.0, 10) + PartCost(2.0, 1.5, 3.0, 20)
    assert total == PartCost(3.0, 2.0, 5.0, 30)


@pytest.mark.parametrize("name", ["n_in", "n_out", "rows"])
def test_refusals(name):
    sizes = dict(n_in=3, n_out=3, rows=3) | {name: 0}
    with pytest.raises(ValueError, match=f"{name}=0 is too small"):
        predict(**sizes, steps=3)
