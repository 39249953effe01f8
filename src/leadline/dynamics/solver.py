"""``solve``: train a network of width n and depth L through the revealed operator."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from leadline import available
from leadline.architecture import ResNet
from leadline.describe import check_identified, describe, identified, plain
from leadline.disk.write import check_folder
from leadline.dynamics import checkpoint as checkpoints
from leadline.dynamics import memory as memories
from leadline.dynamics.operator import Settings
from leadline.dynamics.run import VARIANCE_REDUCTIONS, Run
from leadline.dynamics.shards import Shards
from leadline.errors import MemoryBudgetError, check_choice, check_int, check_path, check_real
from leadline.measure.observation import Measure, numbers
from leadline.measure.record import Record, assemble, check_task
from leadline.problems.losses import chi, loss_value
from leadline.recipe import SGD
from leadline.trajectory import Trajectory, has_diverged, too_large, versions

if TYPE_CHECKING:
    from leadline.problems import Problem

COUPLINGS = ("reused", "independent")
DTYPES = {"float32": torch.float32, "float64": torch.float64}

# Kinds of storage, and the smallest tol that rounding leaves alone: a direction is off by 2⁻⁹/√3.
STORAGE = {"bfloat16": (torch.bfloat16, 0.004)}

Progress = Callable[..., None]


def solve(
    problem: Problem,
    network: ResNet,
    sgd: SGD,
    *,
    width: int,
    depth: int,
    coupling: str = "reused",
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

    With ``variance_reduction="none"`` and tol = 0 this is the exact law of ``train``; n and L can
    be far larger: O(n·rank) memory and O(n·rank·P) time a layer.

    Args:
        width: n ≥ 1. depth: L ≥ 1.
        coupling: "reused" backpropagates through the same weights (true backpropagation);
            "independent" through an independent copy of W(0) (the gradient-independence assumption
            of arXiv 2512.21075).
        seeds: S ≥ 1 runs; run s draws from child s of ``SeedSequence(seed)``.
        batch_seed: of the batch order; None is ``seed``.
        tol: in [0, 1): directions below tol·|question| are answered by their conditional mean
            instead of being added to the bases.
        variance_reduction: "none", "ends" ([U v] with orthogonal columns) or "balanced" (also the
            fresh noise): less fluctuation at equal n, for extrapolating to the limit.
        dtype: "float32" or "float64". device: any torch device.
        record_every: record every so many steps (the first and the last are always recorded).
        measure: kernels and other measures of the training inputs, at chosen times and steps.
        memory: budget in bytes for all that the call adds to what Python and the libraries take: data,
            records, weights, bases, and what a question holds at once (default: 80 % of what is
            available now).
        storage: "bfloat16" keeps the bases in half the memory; for tol ≥ 0.004, below which rounding
            would pass for new directions. None keeps all digits of dtype.
        spill: folder for files (nameless, gone with the process) that hold the bases, mapped into
            memory: for bases larger than memory, on a CPU.
        checkpoint: file to write every ``checkpoint_every`` seconds and to resume from; removed by
            nothing: a finished file answers the same call at once. Functions count by what they do; one
            that cannot be told from others needs a name, ``leadline.named``.
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
    check_task(problem, network, sgd, measure)
    width, depth = check_int("width", width, 1), check_int("depth", depth, 1)
    seeds, seed = check_int("seeds", seeds, 1), check_int("seed", seed, 0)
    tol = check_real("tol", tol, 0.0, 1.0, open_maximum=True)
    record_every = check_int("record_every", record_every, 1)
    checkpoint_every = check_real("checkpoint_every", checkpoint_every, 0.0)
    where = check_arguments(
        sgd,
        problem,
        width,
        depth,
        coupling,
        seeds,
        seed,
        tol,
        variance_reduction,
        dtype,
        device,
        group,
        storage,
        spill,
    )
    if checkpoint is not None:
        check_identified(network, sgd, "checkpoint")
    shards = where.shards
    order = seed if batch_seed is None else check_int("batch_seed", batch_seed, 0)
    budget = memories.budget(memory, where.device, shards)
    plan = memories.predict(
        problem,
        network,
        sgd,
        width,
        depth,
        where.dtype,
        shards.widest,
        storage=where.storage,
        spilled=where.spill is not None,
        seeds=seeds,
        record_every=record_every,
        measure=measure,
    )
    plan.check_first_step(budget)

    info: dict[str, Any] = {
        "kind": "solve",
        **describe(problem, network, sgd),
        "width": width,
        "depth": depth,
        "coupling": coupling,
        "seeds": seeds,
        "seed": seed,
        "batch_seed": batch_seed,
        "tol": tol,
        "variance_reduction": variance_reduction,
        "dtype": str(where.dtype).removeprefix("torch."),
        "storage": storage,
        "record_every": record_every,
        "measure": plain(measure),
    }
    store = checkpoints.Store(checkpoint, info, checkpoint_every, shards)
    started = time.perf_counter()
    seconds = store.seconds

    def blank() -> Record:
        return Record.empty(problem, sgd, record_every, measure)

    records = store.records(blank)
    for s in range(len(records), seeds):
        run = Run(
            network,
            sgd,
            d=problem.dimension,
            outputs=problem.outputs,
            width=width,
            depth=depth,
            settings=where,
            seed=seed,
            s=s,
            variance_reduction=variance_reduction,
        )
        work = Training(problem, sgd, run, order, blank(), measure)
        store.resume(work)
        memory_use = memories.Meter(budget, run, plan)
        while not work.done:
            work.advance()
            if progress is not None:
                used = memory_use.bytes
                rank = int(run.ranks.max())
                loss = work.record.last_loss
                progress(seed=s, step=work.k, steps=sgd.steps, loss=loss, rank=rank, bytes=used)
            store.seconds = seconds + time.perf_counter() - started
            if not work.done and not memory_use.fits_another_step():
                path, remedy = store.rescue(records, work, identified(network, sgd))
                raise MemoryBudgetError(
                    f"memory={budget} bytes: seed {s} uses {memory_use.bytes} after step {work.k} "
                    f"of {sgd.steps} and the next step may need {memory_use.next_step}; {remedy} "
                    f"with a larger memory= (about {memory_use.whole(sgd.steps, work.k)} for the "
                    "whole), or raise tol",
                    path,
                )
            store.maybe_save(records, work)
        records.append(work.record.with_ranks(run.ranks))
        store.finish(records)
    info |= {
        "device": str(where.device),
        "largest_rank": int(max(r.largest_rank for r in records)),
        "versions": versions(),
        "seconds": seconds + time.perf_counter() - started,
    }
    return assemble(records, info, problem, sgd, measure)


class Training:
    """The loop over steps of one run, resumable between steps."""

    def __init__(
        self,
        problem: Problem,
        sgd: SGD,
        run: Run,
        order: int,
        record: Record,
        measure: Measure | None,
    ) -> None:
        settings = run.settings

        def tensor(x: np.ndarray) -> torch.Tensor:
            return torch.tensor(x, dtype=settings.dtype, device=settings.device)

        self.sgd, self.run, self.measure = sgd, run, measure
        self.loss = problem.loss
        self.x, self.y = tensor(problem.x), tensor(problem.y)
        self.x_test = None if problem.x_test is None else tensor(problem.x_test)
        self.record = record
        self.batches = sgd.batches(problem.samples, order)
        self.measured = () if measure is None else frozenset(measure.at(sgd.steps))
        self.full = sgd.batch_size is None or sgd.batch_size >= problem.samples
        self.k = 0
        self.done = False

    def advance(self) -> None:
        """Record step k if due, then take the step from k to k+1."""
        try:
            with torch.inference_mode():
                self._advance()
        except FloatingPointError:
            self.record.diverge(self.k)
            self.done = True
        except RuntimeError as error:
            if not too_large(error):
                raise
            self.record.diverge(self.k + 1)
            self.done = True

    def _advance(self) -> None:
        k, run, sgd = self.k, self.run, self.sgd
        if k == 0 and sgd.center:
            run.center(run.forward(self.x, backward=False).top)
        last = k == sgd.steps
        batch = None if last else self.batches[k]
        done = None
        if self.full and not last:
            done = run.forward(self.x)
        if self.record.due(k) and not self._observe(k, None if done is None else done.outputs):
            self.done = True
            return
        if self.measure is not None and k in self.measured:
            shot = run.snapshot(self.x, self.measure)
            self.record.measure(k, numbers(self.measure, shot, lambda h: run.phi(h)[0]))
        if batch is None:
            self.done = True
            return
        if done is None:
            done = run.forward(self.x[batch])
        if not self.full and has_diverged(
            float(loss_value(self.loss, done.outputs, self.y[batch])),
            float(self.record.arrays["train_loss"][0]),
        ):
            raise FloatingPointError("the batch's loss has diverged")
        run.step(done, chi(self.loss, done.outputs, self.y[batch]), sgd.lr * sgd.multiplier(k))
        self.k = k + 1

    def _observe(self, k: int, outputs: torch.Tensor | None) -> bool:
        """Record outputs at step k; False if training has diverged."""
        p, test = len(self.x), self.x_test
        if outputs is None:
            f = self.run.evaluate(self.x if test is None else torch.cat([self.x, test]))
            return self.record.observe(k, f[:p], None if test is None else f[p:])
        return self.record.observe(k, outputs, None if test is None else self.run.evaluate(test))


def check_arguments(
    sgd: SGD,
    problem: Problem,
    width: int,
    depth: int,
    coupling: str,
    seeds: int,
    seed: int,
    tol: float,
    variance_reduction: str,
    dtype: str | torch.dtype,
    device: str | torch.device,
    group: Any = None,
    storage: str | None = None,
    spill: str | os.PathLike[str] | None = None,
) -> Settings:
    """Refuse bad arguments before any work."""
    coupling = check_choice("coupling", coupling, COUPLINGS)
    check_choice("variance_reduction", variance_reduction, VARIANCE_REDUCTIONS)
    name = str(dtype).removeprefix("torch.")
    check_choice("dtype", name, DTYPES)
    if sgd.center and 4 * problem.samples > width:
        raise ValueError(
            f"center=True with {problem.samples} samples needs width >= {4 * problem.samples}, "
            f"width={width} is too small: widen, or center=False"
        )
    place = available.device(device)
    if storage is not None:
        storage = check_choice("storage", storage, STORAGE)
        if tol < STORAGE[storage][1]:
            raise ValueError(
                f"storage={storage!r} rounds directions to about 0.001: tol={tol:g} would take that "
                f"for new ones; give tol >= {STORAGE[storage][1]:g}, or no storage"
            )
    if spill is not None and place.type != "cpu":
        raise ValueError(f"spill={str(spill)!r} works on a CPU, not on device={str(device)!r}")
    if spill is not None:
        spill = check_path("spill", spill)
        if not os.path.isdir(spill):
            raise NotADirectoryError(f"spill={spill!r} is not a folder: make it, or give another")
        check_folder("spill", spill)
    batch = problem.samples if sgd.batch_size is None else sgd.batch_size
    return Settings(
        n=width,
        expected=min(width, batch * max(sgd.steps, 1), 512),
        reused=coupling == "reused",
        tol=tol,
        balanced=variance_reduction == "balanced",
        dtype=DTYPES[name],
        device=place,
        storage=None if storage is None else STORAGE[storage][0],
        spill=spill,
        shards=Shards(width, group, place),
    )
