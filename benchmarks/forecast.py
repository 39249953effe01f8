"""Laws recovered, and the floor beside the limit: ./dev bench forecast [planted resnet]

planted  coverage of the 95 % intervals over planted laws and noise levels, 100 replicates each
resnet   digits 0/1: the floor fitted to finite ResNets against leadline.limit

Keeps each part's numbers in benchmarks/results/forecast.json.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np
from history import keep, size

import leadline as ll

REPLICATES, DRAWS = size(100, 1), size(400, 50)
WIDTHS, DEPTHS = (32, 64, 128, 256, 512), (2, 4, 8, 16)
# E, width's term at 32 and exponent, depth's term at 2 and exponent.
LAWS = {"1, 1": (0.2, 0.5, 1.0, 0.4, 1.0), "0.7, 0.5": (0.2, 0.5, 0.7, 0.4, 0.5)}


def law(planted, n, l) -> float:
    e, a, p, b, q = planted
    return e + a * (n / WIDTHS[0]) ** -p + b * (l / DEPTHS[0]) ** -q


def runs(planted, noise, seeds, rng, *, falling=0.0, outliers=0.0) -> list[dict]:
    """Log-normal noise, falling with width as width^-falling; some runs off by a factor of 2."""
    rows = []
    for n in WIDTHS:
        for l in DEPTHS:
            for s in range(seeds):
                z = noise * (n / WIDTHS[0]) ** -falling * rng.standard_normal()
                z += np.log(2.0) * (rng.random() < outliers)
                rows.append(dict(width=n, depth=l, seed=s, loss=law(planted, n, l) * np.exp(z)))
    return rows


def planted() -> None:
    settings = [
        *((f"noise {x:g}, 3 seeds", dict(noise=x, seeds=3)) for x in (0.005, 0.02, 0.08)),
        ("noise 0.02, 1 seed", dict(noise=0.02, seeds=1)),
        ("noise 0.05·√(32/n), 3 seeds", dict(noise=0.05, seeds=3, falling=0.5)),
        ("noise 0.02, 5 % outliers ×2", dict(noise=0.02, seeds=3, outliers=0.05)),
    ]
    work = [(name, law, *s, "auto") for name, law in LAWS.items() for s in settings]
    # Fits on one thread each, side by side.
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(size(os.cpu_count(), 1), context) as pool:
        for each in [*work, ("1, 1", LAWS["1, 1"], *settings[1], "theory")]:
            row = _coverage(pool, *each)
            keep(
                "forecast", {f"planted, {row['exponents']}; {row['setting']}; {row['fitted']}": row}
            )


def _replicate(i, name, planted_law, setting, how, exponents) -> dict:
    """One forecast: what its intervals hold, the floor, and whether the planted law was chosen."""
    rows = runs(planted_law, rng=np.random.default_rng((i, len(setting))), **how)
    f = ll.forecast(rows, exponents=exponents, draws=DRAWS, seed=i)
    truth = {"floor": (f.floor, planted_law[0])}
    for key, at in {"2n, 2L": (1024, 32), "8n, 8L": (4096, 128)}.items():
        truth[key] = (f.predict(*at), law(planted_law, *at))
    for axis, exponent in (("width", planted_law[2]), ("depth", planted_law[4])):
        if axis in f.terms and exponents == "auto":
            truth[f"exponent of {axis}"] = (f.exponents[axis], exponent)
    return {
        "holds": {k: bool(x.low <= value <= x.high) for k, (x, value) in truth.items()},
        "floor": f.floor.value,
        "span": f.floor.high - f.floor.low,
        "right": f.law.count("/") == (2 if name == "1, 1" else 0) and len(f.terms) == 2,
    }


def _coverage(pool, name, planted_law, setting, how, exponents) -> dict:
    started = time.perf_counter()
    one = partial(
        _replicate,
        name=name,
        planted_law=planted_law,
        setting=setting,
        how=how,
        exponents=exponents,
    )
    found = list(pool.map(one, range(REPLICATES)))
    hits: dict[str, list[bool]] = {}
    for each in found:
        for key, value in each["holds"].items():
            hits.setdefault(key, []).append(value)
    spans, values = ([each[k] for each in found] for k in ("span", "floor"))
    right = sum(each["right"] for each in found)
    cover = ", ".join(f"{k} {100 * np.mean(v):.1f}" for k, v in hits.items())
    print(
        f"  exponents {name}; {setting}; {exponents}: {cover}; floor median {np.median(values):.4f}, "
        f"median interval {np.median(spans):.4f}; law recovered {100 * right / REPLICATES:.0f} %; "
        f"{time.perf_counter() - started:.0f} s",
        flush=True,
    )
    return {
        "exponents": name,
        "setting": setting,
        "fitted": exponents,
        "replicates": REPLICATES,
        "coverage": {k: float(np.mean(v)) for k, v in hits.items()},
        "floor_median": float(np.median(values)),
        "floor_interval_median": float(np.median(spans)),
        "law_recovered": right / REPLICATES,
    }


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


if __name__ == "__main__":
    parts = {f.__name__: f for f in (planted, resnet)}
    for part in sys.argv[1:] or list(parts):
        print(part, flush=True)
        parts[part]()
