"""Running cells: those that are not in the store yet, side by side, each stored when it is done."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from leadline.claims.cell import Arrays, Cell, run
from leadline.disk.write import check_folder
from leadline.sweeps.executors import Executor, executor
from leadline.sweeps.store import Store, run_id


def choose(device: str, workers: int | None) -> Executor:
    """One process for a GPU, else one-thread processes: one a core, or as many as asked for."""
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


def seconds(cells: Mapping[str, Cell], store: Store) -> float:
    """What a claim's cells took, in seconds of one process, whenever they were measured."""
    ids = {run_id(cell.spec()) for cell in cells.values()}
    return sum(float(store.get(i).result["seconds"]) for i in ids)


def _alone(cell: Cell) -> tuple[dict[str, Any], Arrays]:
    """On one thread, so that the numbers do not depend on how many cells run at once."""
    import torch

    threads = torch.get_num_threads()
    if cell.device == "cpu":
        torch.set_num_threads(1)
    try:
        return run(cell)
    finally:
        torch.set_num_threads(threads)


def results(cells: Mapping[str, Cell], found: Mapping[str, Arrays]) -> dict[str, Arrays]:
    """A claim's cells by the names it gave them."""
    return {name: found[run_id(cell.spec())] for name, cell in cells.items()}
