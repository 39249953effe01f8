"""The store of runs: what filtering 100,000 of them takes, what keeping one costs, and what a sweep pays.

./dev bench store filter   `leadline runs DIR --where ...` in a process of its own: seconds, peak memory
./dev bench store put      milliseconds a run, alone and several at once, each time fsynced
./dev bench store sweep    1,000 tiny runs in this process, with a store and without, in turns
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from history import keep_printed, size, spread

from leadline.store.store import Store

RUNS = size(100_000, 200)
TIMES = size(3, 1)
WIDTHS, DEPTHS, SEEDS = (64, 128, 256, 512, 1024), (2, 4, 8, 16), 50


def specification(i: int) -> dict[str, Any]:
    """What a run of ``sweep`` is."""
    rest, width = divmod(i, len(WIDTHS))
    rest, depth = divmod(rest, len(DEPTHS))
    rate, seed = divmod(rest, SEEDS)
    return {
        **{"model": "lambda#20253372519b574f", "data": "digits#8c1f0d6e2b9a4753", "seed": seed},
        **{"width": WIDTHS[width], "depth": DEPTHS[depth], "lr": 1e-4 * 1.1**rate},
        **{"scheme": "auto", "optimizer": "adamw", "steps": 100, "batch_size": 64},
        **{"base": {"width": 64, "depth": 2}, "weight_decay": 0.0, "momentum": 0.0},
        **{"arguments": {}, "roles": "", "engine": 2},
    }


def result(i: int) -> dict[str, Any]:
    """What came of it."""
    loss = 1 / (3 + i % 997)
    return {
        **{"loss": loss, "test_loss": 1.1 * loss, "diverged": False, "stopped": False},
        **{"steps_done": 100, "seconds": 0.37 + i / 1e6},
    }


def runs(first: int, last: int) -> Iterator[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]]:
    """Some of them, with a curve of 100 losses each."""
    for i in range(first, last):
        yield specification(i), result(i), {"loss": np.linspace(3, 1 / (3 + i % 997), 100)}


def fill(folder: Path) -> None:
    """All runs."""
    with Store(folder) as store:
        for first in range(0, RUNS, 1000):
            store.put_many(runs(first, min(first + 1000, RUNS)))


def command(*arguments: str) -> tuple[float, float, float, int]:
    """Seconds, those of the processor, MB of peak resident memory and lines printed of a command."""
    with tempfile.TemporaryFile() as out:
        started = time.perf_counter()
        actions = [(os.POSIX_SPAWN_DUP2, out.fileno(), 1)]
        words = [sys.executable, "-m", "leadline", *arguments]
        child = os.posix_spawn(sys.executable, words, os.environ, file_actions=actions)
        _, status, used = os.wait4(child, 0)
        seconds = time.perf_counter() - started
        if status:
            raise SystemExit(f"{' '.join(words)} failed")
        out.seek(0)
        processor = used.ru_utime + used.ru_stime
        return seconds, processor, used.ru_maxrss / 1000, out.read().count(b"\n")


FILTERS = {
    "one rate, 1 of 1000": ["--where", "lr=0.0001"],
    "three settings, 50 runs": ["--where", "width=256", "--where", "depth=8", "--where", "lr=1e-4"],
    "none": ["--where", "width=7"],
    "one width, 1 of 5, as JSON": ["--where", "width=256", "--json"],
    "one width, three columns": ["--where", "width=256", "--columns", "lr,seed,loss"],
}


def filters() -> None:
    """``leadline runs`` on a store of 100,000 runs: median (lowest to highest)"""
    given = os.environ.get("LEADLINE_STORE")  # one that is there already
    with tempfile.TemporaryDirectory() as root:
        folder = Path(given or Path(root) / "s")
        if given is None:
            fill(folder)
        total = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
        print(f"{RUNS} runs, {total / 1e6:.0f} MB")
        for name, words in FILTERS.items():
            found = [command("runs", str(folder), *words) for _ in range(TIMES)]
            seconds, processor, memory, lines = zip(*found, strict=True)
            print(
                f"{name}: {spread(list(seconds))} s, of the processor {spread(list(processor))} s, "
                f"{max(memory):.0f} MB, {lines[0]} lines"
            )


def puts() -> None:
    """Milliseconds a run, with its curve; the disk is that of TMPDIR"""
    for together in (1, 8, 32):
        taken = []
        with tempfile.TemporaryDirectory() as folder, Store(folder) as store:
            for i in range(size(20, 2)):
                started = time.perf_counter()
                store.put_many(runs(i * together, (i + 1) * together))
                taken.append((time.perf_counter() - started) * 1000 / together)
        print(f"{together} at once: {spread(taken)}")


def sweeps() -> None:
    """Seconds of 1,000 runs (width 16, depth 2, 20 steps) in this process, with a store and without"""
    import torch

    import leadline as ll

    torch.set_num_threads(1)
    data = ll.digits(classes=(0, 1), samples=16, test_samples=0)
    grid = dict(widths=[16], depths=[2], lrs=[1e-3 * 1.1**k for k in range(size(50, 2))])
    how = grid | dict(seeds=size(20, 2), steps=20, executor="inline")
    build = ll.residual_mlp(data.dimension, data.outputs)
    ll.sweep(data, build, **how)
    taken: dict[bool, list[float]] = {False: [], True: []}
    for kept in [False, True] * TIMES:
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            ll.sweep(data, build, store=folder if kept else None, **how)
            taken[kept].append(time.perf_counter() - started)
    pairs = [b / a for a, b in zip(taken[False], taken[True], strict=True)]
    print(f"without {spread(taken[False])}, with {spread(taken[True])}, ratio {spread(pairs)}")


if __name__ == "__main__":
    keep_printed("store", {"filter": filters, "put": puts, "sweep": sweeps})
