"""Speed and memory of ``solve``, as ratios in one run: ./dev bench speed [name ...]

Names: dense width memory steps products (default: all). Prints one line a requirement, and
writes them with the machine's description to benchmarks/results/speed.json.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import replace

import torch
from history import keep, size
from roofline import Noted, Product

import leadline as ll

NET = ll.ResNet("tanh", scheme="depth-mup")


def seconds(call, repeat: int = 3) -> float:
    """Smallest wall time of a few calls: other work on the machine only ever adds."""
    best = float("inf")
    for _ in range(repeat):
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return best


def problem(samples: int) -> ll.Problem:
    return ll.digits(classes=(0, 1), samples=samples, test_samples=0)


def dense() -> dict:
    """solve against train at n=4096, L=16, P=8, 5 full-batch steps."""
    p, sgd, how = (
        problem(8),
        ll.SGD(lr=0.3, steps=5),
        dict(width=size(4096, 128), depth=size(16, 2)),
    )
    ll.solve(p, NET, sgd, **how)
    solved = seconds(lambda: ll.solve(p, NET, sgd, **how), 5)
    runs = []
    for _ in range(2):
        start = time.perf_counter()
        t = ll.train(p, NET, sgd, **how)
        total = time.perf_counter() - start
        runs.append((total - t.info["draw_seconds"], t.info["draw_seconds"]))
    trained, drawing = min(runs)
    s = ll.solve(p, NET, sgd, **how)
    return {
        "train_seconds": trained,
        "draw_seconds": drawing,
        "solve_seconds": solved,
        "speedup (>= 30)": trained / solved,
        "speedup with drawing": (trained + drawing) / solved,
        # n·n·L against four bases of n·rank·L.
        "weights_over_bases (>= 20)": how["width"] / (4 * s.info["largest_rank"]),
    }


def width() -> dict:
    """Time is linear in n: n=4096 to 65536 takes at most 20 times as long."""
    p, sgd = problem(8), ll.SGD(lr=0.3, steps=5)
    few, many = size((4096, 65536), (128, 256))
    t = {n: seconds(lambda n=n: ll.solve(p, NET, sgd, width=n, depth=8)) for n in (few, many)}
    return {f"seconds_{n}": t[n] for n in t} | {"ratio (<= 20)": t[many] / t[few]}


def memory() -> dict:
    """n=131072, L=32, P=16, 10 steps within 16 GiB, in a process of its own."""
    width, depth = size((131072, 32), (512, 2))
    code = (
        "import leadline as ll, time; s=time.perf_counter();"
        "p=ll.digits(classes=(0,1),samples=16,test_samples=0);"
        "t=ll.solve(p,ll.ResNet('tanh',scheme='depth-mup'),ll.SGD(lr=0.3,steps=10),"
        f"width={width},depth={depth});"
        "print(time.perf_counter()-s, t.info['largest_rank'], t.train_loss[0,-1])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    took, rank, loss = out.stdout.split()
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    return {
        "seconds": float(took),
        "largest_rank": int(rank),
        "loss": float(loss),
        "peak_GiB (<= 16)": peak,
    }


def steps() -> dict:
    """1,000 full-batch steps take at most 13 times as long as 100: the rank saturates."""
    p, how = problem(32), dict(width=size(2048, 128), depth=size(8, 2))
    out, ranks = {}, {}
    few, many = size((100, 1000), (2, 4))
    for k in (few, many):
        start = time.perf_counter()
        t = ll.solve(p, NET, ll.SGD(lr=0.3, steps=k), **how)
        out[k], ranks[k] = time.perf_counter() - start, t.info["largest_rank"]
    return {
        f"seconds_{few}": out[few],
        f"seconds_{many}": out[many],
        "ratio (<= 13)": out[many] / out[few],
        f"largest_rank_{few}": ranks[few],
        f"largest_rank_{many}": ranks[many],
    }


def products() -> dict:
    """n=16384, P=32, 40 steps: solve against its own matrix products, timed in isolation.

    The same solve once more notes the shape of every product; each is then timed alone, on operands that
    lie in memory as a solve's do (ranks rounded up to 16, so that a few hundred shapes stand for all).
    """
    n, samples, steps = size((16384, 32, 40), (256, 4, 2))
    p, sgd, how = problem(samples), ll.SGD(lr=0.3, steps=steps), dict(width=n, depth=size(8, 2))
    took = seconds(lambda: ll.solve(p, NET, sgd, **how), 2)
    with Noted() as noted:
        ll.solve(p, NET, sgd, **how)
    groups: dict[Product, float] = defaultdict(float)
    for one, count in noted.products.items():
        m, k, n = (-(-d // 16) * 16 if d > 64 else d for d in (one.m, one.k, one.n))
        like = replace(one, m=m, k=k, n=n)
        groups[like] += count * one.flops / like.flops
    total = sum(alone(like) * count for like, count in groups.items())
    return {
        "solve_seconds": took,
        "products_seconds": total,
        "ratio (<= 2)": took / total,
        "distinct_shapes": len(groups),
    }


def alone(p: Product) -> float:
    """Seconds of one product; over neurons both factors are rows of neurons."""
    a = torch.randn(p.batch, p.m, p.k, dtype=p.dtype)
    b = torch.randn(p.batch, p.k, p.n, dtype=p.dtype)
    if p.k > max(p.m, p.n):
        b = b.mT.contiguous().mT
    if p.batch == 1:
        a, b = a[0], b[0]
    if not p.added:
        return seconds(lambda: torch.matmul(a, b), 5)
    c = torch.randn(p.m, p.n, dtype=p.dtype)
    return seconds(lambda: c.addmm_(a, b), 5)


if __name__ == "__main__":
    benchmarks = {f.__name__: f for f in (dense, width, memory, steps, products)}
    for name in sys.argv[1:] or list(benchmarks):
        row = benchmarks[name]()
        shown = (f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items())
        print(f"{name:9s} {'; '.join(shown)}", flush=True)
        keep("speed", {name: row})
