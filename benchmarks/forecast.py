"""Forecasts: ./dev bench forecast [resnet] [cost]

resnet: the floor fitted to finite ResNets beside leadline.limit, on digits 0/1. cost: time and memory of
10,000 rows over three axes with 1,000 refits, in a process of its own.

Keeps its numbers in benchmarks/results/forecast.json. How often intervals hold: forecast_coverage.py;
public tables: forecast_public.py.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import time

import numpy as np
from history import keep, size

import leadline as ll


def resnet() -> None:
    problem = ll.digits(classes=(0, 1), samples=16, test_samples=0)
    network = ll.ResNet("tanh", scheme="depth-mup")
    found, seeds = [], size(8, 2)
    for lr, steps in size(((0.3, 6), (0.1, 10)), ((0.3, 2),)):
        sgd = ll.SGD(lr=lr, steps=steps)
        limit = ll.limit(problem, network, sgd, rtol=size(0.003, 0.3), seeds=seeds, seed=12345)
        print(f"  lr={lr}, steps={steps}: limit {limit.train_loss[-1]:.5f} ± "
              f"{limit.train_loss_error[-1]:.5f} ({limit.message})", flush=True)  # fmt: skip
        sources = {
            "solve, balanced": (
                ll.solve,
                dict(variance_reduction="balanced"),
                size((128, 256, 512, 1024), (32, 64, 128)),
            ),
            "train": (ll.train, {}, size((64, 128, 256, 512), (32, 64, 128))),
        }
        for source, (verb, how, widths) in sources.items():
            rows = []
            for n in widths:
                for l in size((2, 4, 8, 16), (2, 4, 8)):
                    # Every size its own seeds.
                    t = verb(
                        problem, network, sgd, width=n, depth=l, seeds=seeds, seed=97 * n + l, **how
                    )
                    rows += [
                        dict(width=n, depth=l, seed=s, loss=x)
                        for s, x in enumerate(t.train_loss[:, -1])
                    ]
            for exponents in ("auto", "theory"):
                f = ll.forecast(rows, limit=limit, exponents=exponents)
                found.append(
                    dict(lr=lr, steps=steps, source=source, exponents=exponents, law=f.law,
                         floor=f.floor.to_json(), limit=float(limit.train_loss[-1]),
                         limit_error=float(limit.train_loss_error[-1]))
                )  # fmt: skip
                print(f"  {source}, exponents={exponents}: {f.law}, floor {f.floor}, {f.limit}")
                for said in f.notes:
                    print(f"    {said}")
                sys.stdout.flush()
    keep("forecast", {"resnet": {"rows": found}})


def _rows(count: int) -> dict[str, np.ndarray]:
    r = np.random.default_rng(0)
    width, depth, tokens = (
        np.exp(r.uniform(np.log(a), np.log(b), count))
        for a, b in ((64, 4096), (2, 64), (1e9, 1e12))
    )
    law = 1 + 2 * (width / 64) ** -0.5 + 0.6 * (depth / 2) ** -0.7 + 1.5 * (tokens / 1e9) ** -0.4
    loss = law * np.exp(0.01 * r.standard_normal(count))
    return {"width": np.round(width), "depth": np.round(depth), "tokens": tokens, "loss": loss}


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _costs(count: int, draws: int) -> dict[str, float]:
    ll.forecast(_rows(50), draws=50)
    before, wall, processor = _peak(), time.perf_counter(), time.process_time()
    f = ll.forecast(_rows(count), draws=draws)
    out = dict(
        rows=count,
        draws=draws,
        wall_s=time.perf_counter() - wall,
        processor_s=time.process_time() - processor,
        more_MB=_peak() - before,
        peak_MB=_peak(),
    )
    print(f"  {f.law}, {f.resampled}: {out}")
    return out


def cost() -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        keep("forecast", {"cost": pool.apply(_costs, size((10_000, 1000), (200, 50)))})


if __name__ == "__main__":
    parts = {"resnet": resnet, "cost": cost}
    for part in sys.argv[1:] or list(parts):
        print(part, flush=True)
        parts[part]()
