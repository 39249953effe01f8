"""``solve`` for the models of a builder: the loop of ``train`` with wide hidden weights."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from leadline.available import refusal
from leadline.errors import check_real
from leadline.matrixfree.configuration import TaskConfiguration, budget, tile_room
from leadline.matrixfree.initialization import training
from leadline.matrixfree.memory import TaskMeter, ordinary_bytes, predict
from leadline.matrixfree.model import wide_names
from leadline.matrixfree.run_state import ResumableRun, check_identified, factors_digest
from leadline.measure.record import assemble
from leadline.solving.checkpoint import Checkpoint
from leadline.trajectory import Trajectory, versions

_ELEMENTWISE = ("adam", "adamw", "lion", "signsgd")


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
        MemoryError: a first step does not fit; ``MemoryBudgetError`` when the budget ends later.
    """
    every = check_real("checkpoint_every", checkpoint_every, 0.0)
    if checkpoint is not None:
        check_identified(c.builder, c.task, c.recipe, "checkpoint")
    most, fixed = budget(c), _fixed(c)
    if c.memory is None and c.recipe.optimizer in _ELEMENTWISE:
        most -= tile_room(c)
    info = c.info("solve")
    kept = Checkpoint(checkpoint, info | {"factors": factors_digest(c)}, every)
    started = time.perf_counter() - kept.seconds
    records, work = kept.records(c.record), None
    for s in range(len(records), c.seeds):
        work, updates = training(c, s)
        run = ResumableRun(work, updates)
        kept.resume(run)
        meter = TaskMeter(c, updates, fixed, most)

        def done(run: ResumableRun = run, meter: TaskMeter = meter, s: int = s) -> None:
            fits, rank = meter.fits_another_step(), meter.updates.largest_rank
            if progress is not None:
                how = dict(step=run.k, steps=c.recipe.steps, loss=run.work.loss)
                progress(**how, seed=s, rank=rank, bytes=meter.bytes)
            kept.seconds = time.perf_counter() - started
            if not fits and run.k < c.recipe.steps:
                raise meter.error(s, run.k, *kept.rescue(records, run, _identified(c)))
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


def _fixed(c: TaskConfiguration) -> int:
    """Bytes that do not grow with the steps.

    With a budget of the caller's they are measured on a small model; without one weights count alone.

    Raises:
        MemoryError: they, or a first step, do not fit.
    """
    if c.memory is not None:
        need = predict(c)
        need.check_first_step(budget(c))
        return need.fixed
    weights = ordinary_bytes(c)
    if weights > budget(c):
        what = f"a model of width={c.width} and depth={c.depth}"
        raise MemoryError(refusal(what, {"weights": weights}, budget(c), set_by_user=False))
    return weights


def _identified(c: TaskConfiguration) -> bool:
    """Can what is kept of the computation be told from another's?"""
    try:
        check_identified(c.builder, c.task, c.recipe, "checkpoint")
    except TypeError:
        return False
    return True
