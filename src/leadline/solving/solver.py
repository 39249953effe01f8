"""``solve`` for a ``ResNet``: training of width n and depth L through operators that are queried."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from leadline.describe import identified
from leadline.errors import MemoryBudgetError
from leadline.measure.record import Record, assemble
from leadline.solving import memory as memory_use
from leadline.solving.checkpoint import Checkpoint
from leadline.solving.configuration import Configuration
from leadline.solving.stacked_network import WIDTH as STACKED_WIDTH
from leadline.solving.stacked_training import StackedTraining
from leadline.solving.training import Training
from leadline.trajectory import Trajectory, versions

if TYPE_CHECKING:
    from leadline.architecture import ResNet
    from leadline.problems import Problem
    from leadline.recipes.sgd import SGD

Progress = Callable[..., None]


def solve_network(
    problem: Problem,
    network: ResNet,
    sgd: SGD,
    *,
    progress: Progress | None = None,
    **options: Any,
) -> Trajectory:
    """See ``leadline.solve``; the options are those of ``Configuration``."""
    return run(Configuration(problem, network, sgd, **options), progress)


def run(c: Configuration, progress: Progress | None = None) -> Trajectory:
    """Solve what a configuration describes; see ``leadline.solve``."""
    info, budget, prediction = c.info, memory_use.budget(c), memory_use.predict(c)
    prediction.check_first_step(budget)
    checkpoint = Checkpoint(c.checkpoint, info, c.checkpoint_every, c.shards)
    started = time.perf_counter() - checkpoint.seconds
    records = checkpoint.records(c.record)
    together = _together(c, budget, prediction)
    while len(records) < c.seeds:
        s = len(records)
        runs = checkpoint.pending or range(s, min(c.seeds, s + together))
        if len(runs) > 1:
            prediction.check_stack(len(runs), budget)
            going = checkpoint.going if checkpoint.pending else runs
            stack = StackedTraining(c, runs, going)
            checkpoint.resume(stack)
            while not stack.done:
                stack.advance()
                if progress is not None:
                    _tell(progress, stack, prediction)
                checkpoint.seconds = time.perf_counter() - started
                if not stack.done:
                    checkpoint.maybe_save(records, stack)
            records += stack.finish()
            checkpoint.finish(records)
            continue
        work = Training(c, s)
        checkpoint.resume(work)
        meter = memory_use.Meter(budget, work.network, prediction)
        while not work.done:
            work.advance()
            if progress is not None:
                progress(
                    seed=s,
                    step=work.k,
                    steps=c.sgd.steps,
                    loss=work.record.last_loss,
                    rank=int(work.network.ranks.max()),
                    bytes=meter.bytes,
                )
            checkpoint.seconds = time.perf_counter() - started
            if not work.done and not meter.fits_another_step():
                raise _out_of_memory(budget, s, work, meter, checkpoint, records)
            checkpoint.maybe_save(records, work)
        records.append(work.record.with_ranks(work.network.ranks))
        checkpoint.finish(records)
    info |= {
        "device": str(c.device),
        "largest_rank": int(max(r.largest_rank for r in records)),
        "versions": versions(),
        "seconds": time.perf_counter() - started,
    }
    return assemble(records, info, c.sgd, c.measure)


def _together(c: Configuration, budget: int, prediction: memory_use.Prediction) -> int:
    """How many seeds are solved as one program."""
    plain = c.shards.alone and c.measure is None and c.storage is None and c.spill is None
    if not plain or c.ensemble != "gaussian":
        return 1
    if c.device.type == "cpu" and c.width > STACKED_WIDTH:
        # A GPU is the fuller for it.
        return 1
    fits = (s for s in range(c.seeds, 1, -1) if prediction.stacked(s) <= budget)
    return next(fits, 1)


def _tell(progress: Progress, work: StackedTraining, prediction: memory_use.Prediction) -> None:
    """How far several seeds are."""
    progress(
        seed=work.runs[0],
        seeds=range(work.runs[0], work.runs[-1] + 1),
        step=work.k,
        steps=work.configuration.sgd.steps,
        loss=work.last_loss,
        rank=int(work.network.largest_ranks().max(initial=0)),
        bytes=prediction.stacked(len(work.runs)),
    )


def _out_of_memory(
    budget: int,
    s: int,
    work: Training,
    meter: memory_use.Meter,
    checkpoint: Checkpoint,
    records: list[Record],
) -> MemoryBudgetError:
    """The error where the next step may not fit, with all that is done in a checkpoint."""
    c = work.configuration
    path, remedy = checkpoint.rescue(records, work, identified(c.network, c.sgd))
    whole = meter.whole(c.sgd.steps, work.k)
    return MemoryBudgetError(
        f"memory={budget} bytes: seed {s} uses {meter.bytes} after step {work.k} of {c.sgd.steps} and "
        f"the next step may need {meter.next_step}; {remedy} with a larger memory= (about {whole} for "
        "the whole), or raise tol",
        path,
    )
