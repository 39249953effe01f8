"""``solve``: train a network of width n and depth L through the revealed operator."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from leadline.architecture import ResNet
from leadline.describe import identified
from leadline.errors import MemoryBudgetError
from leadline.measure.observation import Measure
from leadline.measure.record import Record, assemble
from leadline.recipes.sgd import SGD
from leadline.solving import memory as memory_use
from leadline.solving.checkpoint import Checkpoint
from leadline.solving.configuration import Configuration
from leadline.solving.training import Training
from leadline.trajectory import Trajectory, versions

if TYPE_CHECKING:
    from leadline.problems import Problem

Progress = Callable[..., None]


def solve(
    problem: Problem,
    network: ResNet,
    sgd: SGD,
    *,
    width: int,
    depth: int,
    coupling: str = "reused",
    ensemble: str = "gaussian",
    seeds: int = 1,
    seed: int = 0,
    batch_seed: int | None = None,
    tol: float = 1e-3,
    variance_reduction: str = "none",
    dtype: str | torch.dtype = "float32",
    device: str | torch.device = "cpu",
    record_every: int = 1,
    measure: Measure | None = None,
    memory: int | None = None,
    storage: str | None = None,
    spill: str | os.PathLike[str] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: float = 300.0,
    group: Any = None,
    progress: Progress | None = None,
) -> Trajectory:
    """Solve the training of a width-n, depth-L network without its n×n matrices.

    With ``ensemble="gaussian"``, ``variance_reduction="none"`` and tol = 0 this is the exact law of
    ``train``; n and L can be far larger: O(n·rank) memory and O(n·rank·P) time a layer.

    Args:
        width: n ≥ 1. depth: L ≥ 1.
        coupling: "reused" backpropagates through the same weights (true backpropagation);
            "independent" through an independent copy of W(0) (the gradient-independence assumption
            of arXiv 2512.21075).
        ensemble: what W(0) is drawn from. "gaussian" is the law of dense networks, by queries that are
            remembered; "fast" has the same limit at infinite width, not the same law at a finite one, at
            O(n log n) time a product and memory that grows only with the rank of what is learned (not
            with variance_reduction="balanced", storage, spill or several processes).
        seeds: S ≥ 1 runs; run s draws from child s of ``SeedSequence(seed)``.
        batch_seed: seed of the batch order; None is ``seed``.
        tol: in [0, 1): directions below tol·|query| are answered by their conditional mean
            instead of being added to the bases.
        variance_reduction: "none", "ends" ([U v] with orthogonal columns) or "balanced" (also the
            fresh noise): less fluctuation at equal n, for extrapolating to the limit.
        dtype: "float32" or "float64". device: any torch device.
        record_every: record every so many steps (the first and the last are always recorded).
        measure: kernels and other measures of the training inputs, at chosen times and steps.
        memory: budget in bytes for all that the call adds to what Python and the libraries take: data,
            records, weights, bases, and what a query holds at once (default: 80 % of what is
            available now).
        storage: "bfloat16" keeps the bases in half the memory; for tol ≥ 0.004, below which rounding
            would pass for new directions. None keeps all digits of dtype.
        spill: folder for files (nameless, gone with the process) that hold the bases, mapped into
            memory: for bases larger than memory, on a CPU.
        checkpoint: file to write every ``checkpoint_every`` seconds and to resume from. It stays when the
            work is done: the same call then reads its answer from it. Functions count by what they do;
            one that cannot be told from others needs a name, ``leadline.named``.
        group: a torch.distributed process group over which the neurons are shared out: every
            process of it calls ``solve`` with the same arguments and gets the same answer. memory=
            is then each process's; a checkpoint must be the same file for all.
        progress: called as ``progress(seed=, step=, steps=, loss=, rank=, bytes=)``.

    Returns:
        A ``Trajectory`` of kind "solve".

    Raises:
        ValueError, TypeError: bad arguments, before any work.
        MemoryError: a first step does not fit (before any work), or ``MemoryBudgetError`` when the
            budget ends later; the checkpoint it names resumes with a larger budget.
        LostProcessError: another process of the group ended, or does not answer.
    """
    return run(
        Configuration(
            problem,
            network,
            sgd,
            width=width,
            depth=depth,
            coupling=coupling,
            ensemble=ensemble,
            seeds=seeds,
            seed=seed,
            batch_seed=batch_seed,
            tol=tol,
            variance_reduction=variance_reduction,
            dtype=dtype,
            device=device,
            record_every=record_every,
            measure=measure,
            memory=memory,
            storage=storage,
            spill=spill,
            checkpoint=checkpoint,
            checkpoint_every=checkpoint_every,
            group=group,
        ),
        progress,
    )


def run(c: Configuration, progress: Progress | None = None) -> Trajectory:
    """Solve what a configuration describes; see ``solve``."""
    info, budget, prediction = c.info, memory_use.budget(c), memory_use.predict(c)
    prediction.check_first_step(budget)
    checkpoint = Checkpoint(c.checkpoint, info, c.checkpoint_every, c.shards)
    started = time.perf_counter() - checkpoint.seconds
    records = checkpoint.records(lambda: Record.empty(c.problem, c.sgd, c.record_every, c.measure))
    for s in range(len(records), c.seeds):
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
