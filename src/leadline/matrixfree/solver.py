"""``solve`` for the models of a builder: the loop of ``train`` with wide hidden weights."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from leadline.matrixfree.configuration import TaskConfiguration
from leadline.matrixfree.loop import TaskTraining
from leadline.matrixfree.model import wide_model
from leadline.matrixfree.updates import WideUpdates
from leadline.measure.record import assemble
from leadline.trajectory import Trajectory, versions


def solve_task(c: TaskConfiguration, progress: Callable[..., Any] | None = None) -> Trajectory:
    """Solve what a configuration describes, one run after the other.

    Raises:
        ValueError: no hidden weight can be wide, or one is drawn or used in a way that needs its entries.
    """
    started = time.perf_counter()
    records, rank, error, names = [], 0, 0.0, []
    for s in range(c.seeds):
        work, updates = training(c, s)
        names = list(updates.wide)

        def done(work: TaskTraining = work, updates: WideUpdates = updates, s: int = s) -> None:
            if progress is not None:
                how = dict(step=work.k, steps=c.recipe.steps, loss=work.loss)
                progress(**how, seed=s, rank=updates.largest_rank, bytes=updates.bytes)

        work.run(done)
        rank, error = max(rank, updates.largest_rank), max(error, updates.error)
        records.append(work.record)
    info = c.info("solve") | {
        "device": str(c.device),
        "largest_rank": rank,
        "product_error": error,
        "wide": names,
        "versions": versions(),
        "seconds": time.perf_counter() - started,
    }
    return assemble(records, info, c.recipe, None)


def training(c: TaskConfiguration, s: int) -> tuple[TaskTraining, WideUpdates]:
    """Run s at initialization, and its wide weights."""
    model, wide, passes = wide_model(c, s)
    if not wide:
        raise ValueError(
            "no hidden weight of the model can be wide (a matrix, a convolution or experts' matrices whose "
            "two sides grow with width): leadline.plan(...) says which role each parameter has; train it "
            "with leadline.train"
        )
    updates = WideUpdates(c, wide, passes)
    return TaskTraining(c, s, model, c.optimizers(model, frozenset(wide)), updates), updates
