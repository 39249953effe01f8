"""``solve`` for the models of a builder: the loop of ``train`` with wide hidden weights."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from leadline.errors import check_real
from leadline.matrixfree.configuration import TaskConfiguration
from leadline.matrixfree.loop import TaskTraining
from leadline.matrixfree.model import wide_model, wide_names
from leadline.matrixfree.run_state import ResumableRun, check_identified, factors_digest
from leadline.matrixfree.updates import WideUpdates
from leadline.measure.record import assemble
from leadline.solving.checkpoint import Checkpoint
from leadline.trajectory import Trajectory, versions


def solve_task(
    c: TaskConfiguration,
    progress: Callable[..., Any] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: float = 300.0,
) -> Trajectory:
    """Solve what a configuration describes, one run after the other.

    Args:
        checkpoint, checkpoint_every: file to write every so many seconds, and to go on from.

    Raises:
        ValueError: no hidden weight can be wide, or one is drawn or used in a way that needs its entries.
        TypeError: with a checkpoint, a builder, loss or batches that cannot be told from others.
    """
    every = check_real("checkpoint_every", checkpoint_every, 0.0)
    if checkpoint is not None:
        check_identified(c.builder, c.task, c.recipe, "checkpoint")
    info = c.info("solve")
    kept = Checkpoint(checkpoint, info | {"factors": factors_digest(c)}, every)
    started = time.perf_counter() - kept.seconds
    records, work = kept.records(c.record), None
    for s in range(len(records), c.seeds):
        work, updates = training(c, s)
        run = ResumableRun(work, updates)
        kept.resume(run)

        def done(run: ResumableRun = run, updates: WideUpdates = updates, s: int = s) -> None:
            if progress is not None:
                how = dict(step=run.k, steps=c.recipe.steps, loss=run.work.loss)
                progress(**how, seed=s, rank=updates.largest_rank, bytes=updates.bytes)
            kept.seconds = time.perf_counter() - started
            kept.maybe_save(records, run)

        work.run(done, run.network.begin)
        work.record.largest_rank = updates.largest_rank
        work.record.product_error = updates.error
        records.append(work.record)
        kept.finish(records)
    if c.measure is not None:
        # All runs may have been kept.
        info |= (training(c, 0)[0] if work is None else work).modules
    info |= {
        "device": str(c.device),
        "largest_rank": max(r.largest_rank for r in records),
        "product_error": max(r.product_error for r in records),
        "wide": wide_names(c.plan, c.stored),
        "versions": versions(),
        "seconds": time.perf_counter() - started,
    }
    return assemble(records, info, c.recipe, c.measure)


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
