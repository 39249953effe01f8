"""Cells: one call each, as data that any process can run and the store can name; and running them.

Those that are not in the store yet run side by side, and each is stored when it is done.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from leadline.claims.probe import probe
from leadline.describe import plain
from leadline.disk.write import check_folder
from leadline.errors import check_choice
from leadline.executors import Executor, executor
from leadline.kernels.kernels import initial_kernels
from leadline.limits.extrapolation import limit
from leadline.limits.lazy_training import lazy
from leadline.models import residual_mlp
from leadline.solving.solver import solve_network
from leadline.store.store import Store, run_id
from leadline.sweeps.driver import Sweep, sweep
from leadline.sweeps.runs import final_loss
from leadline.training.trainer import train

if TYPE_CHECKING:
    from leadline.problems import Problem

# Raised when the same specification would give other numbers.
ENGINE = 2

Arrays = dict[str, np.ndarray]
RATE_METRICS = ("loss", "test_loss")


@dataclass(frozen=True)
class Cell:
    """One call that a claim is measured by, as data.

    Attributes:
        kind: one of ``KINDS``.
        arguments: the call's, by name: dataclasses, numbers, text and tuples.
        keep: names of the trajectory's arrays that are wanted.
        device: where it runs; no part of the identity.
    """

    kind: str
    problem: Problem
    arguments: Mapping[str, Any]
    keep: tuple[str, ...] = ()
    device: str = field(default="cpu", compare=False)

    def spec(self) -> dict[str, Any]:
        """What the cell's id in a store is made of."""
        p = self.problem
        return {
            "cell": self.kind,
            "data": f"{p.name}#{p.fingerprint()[:12]}",
            **{k: plain(v) for k, v in self.arguments.items()},
            "keep": list(self.keep),
            "engine": ENGINE,
        }

    @property
    def label(self) -> str:
        """A few words for the progress line."""
        a = self.arguments
        sizes = [f"{k[0]}={a[k]}" for k in ("width", "depth") if a.get(k) is not None]
        return " ".join([self.kind, *sizes])

    @property
    def work(self) -> float:
        """A rough cost, to begin with the longest: weights times seeds and steps."""
        a = self.arguments
        n, depth, seeds = a.get("width") or 1, a.get("depth") or 1, a.get("seeds", 1)
        steps = getattr(a.get("sgd"), "steps", a.get("steps", 1)) + 1
        width = n * 64 if self.kind in ("solve", "limit") else n * n
        return float(width * depth * seeds * steps) * len(a.get("lrs", (1,)))


def run(cell: Cell) -> tuple[dict[str, Any], Arrays]:
    """Call, and return scalars and arrays."""
    started = time.perf_counter()
    check_choice("kind", cell.kind, KINDS)
    result, arrays = KINDS[cell.kind](cell)
    return {"seconds": time.perf_counter() - started, **result}, arrays


def _trajectory(verb: Callable[..., Any]) -> Callable[[Cell], tuple[dict[str, Any], Arrays]]:
    def call(cell: Cell) -> tuple[dict[str, Any], Arrays]:
        how = dict(cell.arguments)
        network, sgd = how.pop("network"), how.pop("sgd")
        # A study says how long it takes.
        how |= {"seconds": None} if verb is lazy else {"device": cell.device}
        t = verb(cell.problem, network, sgd, **how)
        names = cell.keep or ("train_loss", "test_loss")
        values = {n: t.measures.get(n, getattr(t, n, None)) for n in names}
        return {"diverged": bool((t.diverged >= 0).any())}, {
            n: np.asarray(v, dtype=np.float64) for n, v in values.items() if v is not None
        }

    return call


def _probe(cell: Cell) -> tuple[dict[str, Any], Arrays]:
    return {}, probe(cell.problem, device=cell.device, **cell.arguments)


def _rates(cell: Cell) -> tuple[dict[str, Any], Arrays]:
    return {}, _losses_of_rates(cell.problem, device=cell.device, **cell.arguments)


def _losses_of_rates(
    problem: Problem,
    *,
    width: int,
    depth: int,
    base_depth: int,
    scheme: str,
    optimizer: str,
    lrs: Sequence[float],
    seeds: int,
    seed: int,
    steps: int,
    batch_size: int | None = None,
    device: str = "cpu",
) -> dict[str, np.ndarray]:
    """One size's losses on the grid: loss and test_loss (lrs, seeds), inf where diverged."""
    runs = range(seeds * seed, seeds * (seed + 1))
    done = sweep(
        problem,
        residual_mlp(problem.dimension, problem.outputs),
        widths=[width],
        depths=[depth],
        lrs=list(lrs),
        seeds=list(runs),
        steps=steps,
        batch_size=batch_size,
        scheme=scheme,
        optimizer=optimizer,
        base=dict(width=width, depth=base_depth),
        executor="inline",
        device=device,
    )
    assert isinstance(done, Sweep)
    if done.failed:
        raise RuntimeError("; ".join(done.failed))
    table = {(r["lr"], r["seed"]): r for r in done.rows}
    return {
        m: np.array([[final_loss(table[lr, s], m) for s in runs] for lr in lrs])
        for m in RATE_METRICS
    }


def _kernels(cell: Cell) -> tuple[dict[str, Any], Arrays]:
    k = initial_kernels(cell.problem, **cell.arguments, seconds=None)
    paths = {"feature_kernel": k.feature_path, "gradient_kernel": k.gradient_path}
    return {}, {"tangent_kernel": k.tangent} | {n: p for n, p in paths.items() if p is not None}


def _limit(cell: Cell) -> tuple[dict[str, Any], Arrays]:
    how = dict(cell.arguments)
    network, sgd = how.pop("network"), how.pop("sgd")
    result = limit(cell.problem, network, sgd, device=cell.device, **how)
    names = ("train_loss", "train_loss_error", "test_loss", "test_loss_error")
    values = {n: getattr(result, n) for n in (*names, "train_outputs", "test_outputs")}
    arrays = {n: np.asarray(v, dtype=np.float64) for n, v in values.items() if v is not None}
    return {"message": result.message}, arrays | {"converged": np.array(float(result.converged))}


KINDS: dict[str, Callable[[Cell], tuple[dict[str, Any], Arrays]]] = {
    "solve": _trajectory(solve_network),
    "train": _trajectory(train),
    "lazy": _trajectory(lazy),
    "limit": _limit,
    "kernels": _kernels,
    "probe": _probe,
    "rates": _rates,
}


def choose(device: str, workers: int | None) -> Executor:
    """One process for a GPU, else one-thread processes: one a core, or ``workers`` of them."""
    if device != "cpu" or workers == 1:
        return executor("inline")
    return executor("processes", workers)


def measure(
    cells: Sequence[Cell],
    store: Store,
    *,
    workers: int | None = None,
    resume: bool = True,
    progress: Callable[..., None] | None = None,
) -> dict[str, Arrays]:
    """The arrays of all cells, by id.

    Args:
        workers: processes for what runs on the CPU; a GPU's cells follow each other in this process.
        resume: take what the store has; otherwise measure everything again.

    Raises:
        RuntimeError: a cell failed; the others are in the store.
    """
    wanted = {run_id(c.spec()): c for c in cells}
    missing = {i: c for i, c in wanted.items() if not (resume and store.has(i))}
    todo = sorted(missing.values(), key=lambda c: -c.work)
    done, failed = len(wanted) - len(todo), []
    if todo:
        check_folder("out", store.path)
    if progress is not None and todo:
        progress(step=done, steps=len(wanted), branch="cells")
    for device in sorted({c.device for c in todo}):
        here = [c for c in todo if c.device == device]
        for outcome in choose(device, workers).run(_alone, here):
            cell = here[outcome.index]
            if outcome.error is not None:
                failed.append(f"{cell.label}: {outcome.error}")
                continue
            result, arrays = outcome.value
            store.put(cell.spec(), result, arrays)
            done += 1
            if progress is not None:
                progress(step=done, steps=len(wanted), branch=cell.label)
    if failed:
        raise RuntimeError(
            f"{len(failed)} of {len(todo)} cells failed, the first: {failed[0]}; the others are "
            f"in {str(store.path)!r}: the same call measures what is missing"
        )
    return {i: dict(store.get(i).curves) for i in wanted}


def seconds(cells: Mapping[Any, Cell], store: Store) -> float:
    """What a claim's cells took, in seconds of one process, whenever they were measured."""
    ids = {run_id(cell.spec()) for cell in cells.values()}
    return sum(float(store.get(i).result["seconds"]) for i in ids)


def _alone(cell: Cell) -> tuple[dict[str, Any], Arrays]:
    """On one thread, so that the numbers do not depend on how many cells run at once."""
    threads = torch.get_num_threads()
    if cell.device == "cpu":
        torch.set_num_threads(1)
    try:
        return run(cell)
    finally:
        torch.set_num_threads(threads)


def results(cells: Mapping[Any, Cell], arrays: Mapping[str, Arrays]) -> dict[Any, Arrays]:
    """A claim's cells by the names it gave them."""
    return {name: arrays[run_id(cell.spec())] for name, cell in cells.items()}
