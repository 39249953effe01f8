"""``solve`` against the floor of its own products: ./dev bench floor [floor] [where] [single]

floor  n=16384, L=64, P=32, 40 full-batch steps, tol 1e-3 (about 6 GiB, minutes): seconds over
       Σ max(flops/peak, bytes/bandwidth) of every product that the same run asks for, with sgemm's peak
       and the memory's bandwidth (the best of copy, triad and read) measured before and after it; what
       these products and the noise take by themselves; and the same with the fast ensemble
where  where the time of a solve goes, at three sizes: small and bound by latency (n=512, L=8, P=8), the
       command line's own (n=1024, L=16, P=64), large (n=65536, L=32, P=16, about 5 GiB): the share of each
       part of a question, wall time less that of the parts it calls. Coordinates: Qᵀu and Yu. Directions:
       Gram matrices, Cholesky factors, orthogonalisation. Noise: drawing g. Answers of new directions:
       their coefficients Yq − Rᵀg. Combination: M c + R(…). The rest: activations, losses, the remainder
       u − Qc, the new directions' R(…), appending, and Python
single GF/s of products as a question asks them (n=16384, P=32), with bases that are in no cache: u Qᵀ, the
       same as (Q uᵀ)ᵀ, and c Q
"""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from typing import Any

import torch
from history import keep, size
from roofline import Clock, Noted, best, peaks

import leadline as ll
from leadline.solving import operator, sides
from leadline.solving.noise import Noise

NET = ll.ResNet("tanh", scheme="depth-mup")
FLOOR = size(dict(n=16384, L=64, P=32, steps=40), dict(n=512, L=2, P=8, steps=4))
WHERE = {
    "small": size(dict(n=512, L=8, P=8, steps=40), dict(n=256, L=2, P=4, steps=3)),
    "default": size(dict(n=1024, L=16, P=64, steps=40), dict(n=256, L=2, P=8, steps=3)),
    "large": size(dict(n=65536, L=32, P=16, steps=10), dict(n=512, L=2, P=4, steps=2)),
}


def solve(n: int, L: int, P: int, steps: int, **how: Any) -> tuple[float, ll.Trajectory]:
    """Seconds and result."""
    problem = ll.digits(classes=(0, 1), samples=P, test_samples=0)
    sgd = ll.SGD(lr=0.3, steps=steps)
    started = time.perf_counter()
    done = ll.solve(problem, NET, sgd, width=n, depth=L, tol=1e-3, **how)
    return time.perf_counter() - started, done


def floor() -> dict:
    solve(**FLOOR | dict(L=1, steps=1))
    how = size({}, dict(n=256, values=1 << 16, seconds=0.01))
    before = peaks(**how)
    took, done = solve(**FLOOR)
    after = peaks(**how)
    # Noise is no product: what both take is the least that this hardware's libraries allow.
    clock = Clock()
    with clock.on(Noise, "draw", "noise"):
        solve(**FLOOR)
    fast, _ = solve(**FLOOR, ensemble="fast")
    with Noted() as noted:  # watching slows the small operations: the same run once more
        solve(**FLOOR)
    # The machine's best in this run: the lowest floor.
    flops = {d: max(before.flops[d], after.flops[d]) for d in before.flops}
    bandwidth = {k: max(before.bandwidth[k], after.bandwidth[k]) for k in before.bandwidth}
    machine = type(before)(flops, bandwidth)
    lowest = machine.floor(noted.products)
    streams = {k: type(before)(flops, {k: bandwidth[k]}).floor(noted.products) for k in bandwidth}
    return {
        "seconds": took,
        "floor": lowest,
        "ratio (<= 2)": took / lowest,
        "products over floor": noted.seconds / lowest,
        "noise over floor": clock.seconds["noise"] / lowest,
        "fast, seconds": fast,
        "fast over floor": fast / lowest,
        **{f"floor with bandwidth of {k}": v for k, v in streams.items()},
        "floor of flops": sum(p.flops / flops[p.dtype] * c for p, c in noted.products.items()),
        "sgemm GF/s": flops[torch.float32] / 1e9,
        "dgemm GF/s": flops[torch.float64] / 1e9,
        **{f"{k} GB/s": v / 1e9 for k, v in bandwidth.items()},
        "products": sum(noted.products.values()),
        "shapes": len(noted.products),
        "largest_rank": done.info["largest_rank"],
        "loss": float(done.train_loss[0, -1]),
        "setting": FLOOR,
    }


PARTS = (
    (operator.Operator, "_coordinates", "coordinates"),
    (sides, "extend", "directions"),
    (Noise, "draw", "noise"),
    (operator.Operator, "_reveal", "answers of new directions"),
    (operator.Operator, "_combine", "combination"),
    (operator.Operator, "update", "update"),
)


def where() -> dict:
    rows = {}
    for name, setting in WHERE.items():
        solve(**setting | dict(steps=1))
        took, done = solve(**setting)
        clock = Clock()
        with ExitStack() as stack:
            for part in PARTS:
                stack.enter_context(clock.on(*part))
            watched, _ = solve(**setting)
        with Noted() as noted:
            solve(**setting | dict(steps=1))
        shares = {f"{k}, %": 100 * v / watched for k, v in clock.seconds.items()}
        rows[name] = {
            "seconds": took,
            **shares,
            "the rest, %": 100 - sum(shares.values()),
            "watched / unwatched": watched / took,
            "torch operations, first step": noted.calls,
            "largest_rank": done.info["largest_rank"],
            "setting": setting,
        }
    return rows


def single() -> dict:
    n, p, bases = size((16384, 32, 24), (256, 4, 2))
    how = size({}, dict(n=256, values=1 << 16, seconds=0.01))
    out = {"sgemm GF/s": peaks(**how).flops[torch.float32] / 1e9}
    u = torch.randn(p, n)
    for r in size((64, 128, 256, 384), (8,)):
        # So many that none is in a cache when its turn comes again.
        all_q, c = [torch.randn(r, n) for _ in range(bases)], torch.randn(p, r)
        forms = {
            "u Qᵀ": lambda q: u @ q.mT,
            "(Q uᵀ)ᵀ": lambda q: q @ u.mT,
            "c Q": lambda q, c=c: c @ q,
        }
        for name, form in forms.items():
            took = best(lambda form=form, all_q=all_q: [form(q) for q in all_q])
            out[f"{name}, r={r}"] = 2 * p * n * r * bases / took / 1e9
    return out


if __name__ == "__main__":
    parts = {
        "floor": lambda: {"floor": floor()},
        "where": where,
        "single": lambda: {"single": single()},
    }
    print(f"{torch.get_num_threads()} threads")
    rows = {}
    for name in sys.argv[1:] or parts:
        for key, row in parts[name]().items():
            rows[f"{name} {key}" if name == "where" else key] = row
            text = (f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items())
            print(f"{key:8s} {'; '.join(text)}", flush=True)
    keep("floor", rows)
