"""Elementwise optimizers of matrices that are not stored: ./dev bench elementwise [PART ...]

training  the products and updates of three n × n matrices (a residual MLP's) under Adam, n = 8192, 32 rows,
          20 steps, float32: seconds and bytes without memory for tiles, and with D held within a step,
          against what ``predict`` said before
workers   a training of n = 2048 with one thread and with two
dense     one step of dense Adam (torch's fused) with its two products, against a step of a matrix of which
          D is held, by steps of history: where storing everything is worth its memory
rules     nanoseconds an entry and step of history, rule by rule, and what a row's answer adds
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

import torch
from history import keep, size

from leadline.matrixfree.elementwise import ElementwisePart
from leadline.matrixfree.elementwise_cost import predict
from leadline.matrixfree.elementwise_rules import AdamRule, ElementwiseStep, LionRule, SignRule

TRAINING = size(dict(n=8192, rows=32, steps=20), dict(n=256, rows=4, steps=3))
RULES = {"Adam": AdamRule(), "Lion": LionRule(), "SignSGD": SignRule()}


def clocked(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds of the wall clock, and of this process's cores."""
    wall, cores = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cores


def rows(n: int, count: int, step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients and features that drift, as those of a full batch do."""
    g = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, count, n, generator=g)
    g.manual_seed(1 + step)
    third, fourth = torch.randn(2, count, n, generator=g)
    return (first + 0.3 * third) / n, torch.tanh(second + 0.3 * fourth)


def train(parts: list[ElementwisePart], count: int, steps: int) -> None:
    """Forward and backward products of every step, and forward ones after the last."""
    for step in range(steps + 1):
        z, u = rows(parts[0].n_in, count, step)
        for part in parts:
            part.product(u)
        for part in parts if step < steps else ():
            part.transposed(z)
            part.update(z, u, ElementwiseStep(1e-3 / part.n_in))


def training() -> dict:
    n, count, steps = TRAINING["n"], TRAINING["rows"], TRAINING["steps"]
    out = {}
    for name, share in (("no memory", 0), ("D held", 1)):
        how = dict(memory=4 * n * n * share)
        cost = predict(n, n, count, steps, **how)
        cost = cost + cost + cost
        parts = [ElementwisePart(n, n, AdamRule(), **how) for _ in range(3)]
        wall, cores = clocked(lambda parts=parts: train(parts, count, steps))
        out[f"training, {name}"] = {
            "seconds (<= 120)": wall,
            "core seconds": cores,
            "predicted": cost.seconds,
            "predicted from": cost.low,
            "predicted to": cost.high,
            "MB": sum(part.bytes for part in parts) / 1e6,
            "MB predicted": cost.bytes / 1e6,
            "error": max(part.error for part in parts),
            "load": os.getloadavg()[0],
            "setting": TRAINING,
        }
        del parts
    return out


def workers() -> dict:
    n, steps = size((2048, 8), (256, 2))
    row = {}
    for count in (1, 2):
        parts = [ElementwisePart(n, n, AdamRule(), workers=count, memory=0)]
        wall, cores = clocked(lambda parts=parts: train(parts, 32, steps))
        row |= {f"seconds, {count}": wall, f"core seconds, {count}": cores}
    return {"workers": row | {"load": os.getloadavg()[0]}}


def dense_step(n: int, count: int) -> float:
    """Core seconds of a step with the weights, their gradient and moments stored."""
    z, u = rows(n, count, 0)
    w = torch.zeros(n, n, requires_grad=True)
    optimizer = torch.optim.Adam([w], fused=True)

    def step() -> None:
        w.grad = z.mT @ u
        _ = u @ w.detach().mT, z @ w.detach()
        optimizer.step()

    step()
    return min(clocked(step)[1] for _ in range(5))


def dense() -> dict:
    n, count, history = size((4096, 32, (1, 5, 20)), (256, 4, (1, 2)))
    row = {"core seconds, dense": dense_step(n, count), "MB, dense": 16 * n * n / 1e6}
    part = ElementwisePart(n, n, AdamRule(), memory=4 * n * n)
    for t in range(1, max(history) + 1):
        z, u = rows(n, count, t)
        part.update(z, u, ElementwiseStep(1e-3 / n))
        if t in history:
            used = clocked(lambda z=z, u=u: (part.product(u), part.transposed(z)))[1]
            row[f"core seconds, {t} steps of history"] = used
    row["MB, D held"] = part.bytes / 1e6
    return {"dense": row}


def rules() -> dict:
    n, short, long = size((1024, 2, 10), (256, 1, 2))
    out = {}
    for name, rule in RULES.items():
        for count in size((8, 32, 128), (4,)):
            part = ElementwisePart(n, n, rule, workers=1, memory=0)
            z, u = rows(n, count, 0)
            took = {}
            for t in range(1, long + 1):
                part.update(z, u, ElementwiseStep(1e-3 / n))
                if t in (short, long):
                    answers = [clocked(lambda u=u, part=part: part.product(u))[1] for _ in range(5)]
                    took[t] = min(answers) * 1e9 / n**2
            step = (took[long] - took[short]) / (long - short)
            out[f"{name}, {count} rows"] = {
                "ns an entry and step": step,
                "ns an entry and row answered": (took[short] - short * step) / count,
            }
    return out


if __name__ == "__main__":
    parts = {"training": training, "workers": workers, "dense": dense, "rules": rules}
    print(f"{torch.get_num_threads()} threads")
    kept = {}
    for name in sys.argv[1:] or parts:
        for key, row in parts[name]().items():
            kept[key] = row
            text = (f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items())
            print(f"{key:24s} {'; '.join(text)}", flush=True)
    keep("elementwise", kept)
