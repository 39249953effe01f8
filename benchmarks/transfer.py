"""Does the best rate of a small model stay the best of a large one? ./dev bench transfer [resnet gpt]

resnet  two-layer ReLU residual blocks, ten digits, SGD: depths 4 to 64 and widths 64 to 256, for depth-mup,
        depth-mup-corrected and completep
gpt     a small pre-norm GPT, AdamW, bytes of Python's standard library: widths 32 to 128, depths 2 to 8,
        for sp, mup and auto

Prints the tables of ``ll.transfer`` and keeps them in benchmarks/results/transfer.json. Runs are kept in
benchmarks/stores (or --stores DIR): an interrupted benchmark goes on where it was.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from history import TOY, keep, size

import leadline as ll
from leadline.reporting.progress import Progress

HERE = Path(__file__).parent


def rates(low: int, high: int, a_doubling: int = 1) -> list[float]:
    """Powers of two from low to high, so many a doubling."""
    return [2.0 ** (k / a_doubling) for k in range(a_doubling * low, a_doubling * high + 1)]


def resnet(store: Path) -> list[ll.Transfer]:
    problem = ll.digits(samples=512, test_samples=512, loss="cross_entropy")
    build = ll.residual_mlp(problem.dimension, problem.outputs, "relu", block_layers=2)
    how = dict(
        schemes=("depth-mup", "depth-mup-corrected", "completep"),
        optimizer="sgd",
        batch_size=64,
        steps=size(100, 3),
        seeds=size(5, 2),
        lrs=rates(-7, size(0, -6), 2),
        store=store,
        metric="test_loss",
    )
    over_depth = dict(widths=[64], depths=size([4, 8, 16, 32, 64], [4, 8]))
    over_width = dict(widths=size([64, 128, 256], [64, 128]), depths=[4])
    return [run(build, problem, **axis, **how) for axis in (over_depth, over_width)]


def gpt(store: Path) -> list[ll.Transfer]:
    data = ll.text(context=32, limit_bytes=2_000_000)
    build = ll.gpt(context=data.context)
    how = dict(
        schemes=("sp", "mup", "auto"),
        optimizer="adamw",
        batch_size=8,
        steps=size(200, 2),
        seeds=size(4, 2),
        store=store,
        metric="test_loss",
    )
    lrs = rates(-12, size(-4, -10))
    over_width = dict(widths=size([32, 64, 128], [32, 64]), depths=[2], lrs=lrs)
    over_depth = dict(widths=[32], depths=size([2, 4, 8], [2, 4]), lrs=lrs)
    return [run(build, data, **axis, **how) for axis in (over_width, over_depth)]


def run(build: Any, data: Any, **how: Any) -> ll.Transfer:
    with Progress() as bar:
        executor = size("processes", "inline")
        found = ll.transfer(data, build, progress=bar, executor=executor, **how)
    assert isinstance(found, ll.Transfer)
    return found


if __name__ == "__main__":
    given = sys.argv[1:]
    stores = Path(tempfile.mkdtemp()) if TOY else HERE / "stores"
    if "--stores" in given:
        at = given.index("--stores")
        stores = Path(given[at + 1])
        del given[at : at + 2]
    parts = {"resnet": resnet, "gpt": gpt}
    for name in given or list(parts):
        started = time.perf_counter()
        found = parts[name](stores / f"transfer-{name}")
        print(f"{name}: {time.perf_counter() - started:.0f} s")
        out = []
        for transfer in found:
            print(transfer, flush=True)
            out.append({k: v for k, v in json.loads(transfer.to_json()).items() if k != "runs"})
        keep("transfer", {name: {"tables": out}})
