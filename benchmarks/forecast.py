"""The floor fitted to finite ResNets beside leadline.limit, on digits 0/1: ./dev bench forecast resnet

Keeps its numbers in benchmarks/results/forecast.json. How often intervals hold: forecast_coverage.py;
public tables: forecast_public.py.
"""

from __future__ import annotations

import sys

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


if __name__ == "__main__":
    parts = {"resnet": resnet}
    for part in sys.argv[1:] or list(parts):
        print(part, flush=True)
        parts[part]()
