"""Throughput of ``sweep`` against the plain way: ./dev bench sweeps [sgd|adamw ...]

The same 32 runs (8 learning rates, 4 seeds) of a residual MLP of depth 8 with batches of 64: a Python
loop of ordinary PyTorch trainings (the better of one and two threads; 8 of the runs, scaled) against one
call of ``sweep`` (processes, their start included). Prints ratios and the largest difference of the losses
of the first ten steps, and writes benchmarks/results/sweeps.json.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

import numpy as np
import torch
from history import keep, size

import leadline as ll
from leadline.sweeps.groups import train
from leadline.sweeps.rates import Planned
from leadline.sweeps.runs import RunGroup, TrainingRun
from leadline.tasks.builtin import Samples
from leadline.tracing.builder import Size, construct

STEPS = size({32: 2000, 64: 600, 128: 300, 256: 100}, {32: 10})
RATES = tuple(2.0**-k for k in range(6, 14))
TIMED = size(8, 2)


def setting(width: int, optimizer: str):
    problem = ll.digits(classes=(0, 1), samples=128, test_samples=0)
    build = ll.residual_mlp(problem.dimension, 1)
    base = dict(width=32, depth=2)
    plan = ll.plan(build, base, dict(width=width, depth=8), optimizer=optimizer)
    runs = [
        TrainingRun("m", "d", width, 8, lr, s, "auto", optimizer, STEPS[width], 64, Size(32, 2))
        for lr in RATES
        for s in range(4)
    ]
    return problem, build, plan, runs


def loop(width: int, optimizer: str, count: int, steps: int) -> tuple[float, list[list[float]]]:
    """Seconds of ``count`` plain trainings, and their losses."""
    problem, build, plan, runs = setting(width, optimizer)
    data = Samples(problem)
    make = torch.optim.SGD if optimizer == "sgd" else torch.optim.AdamW
    losses = []
    started = time.perf_counter()
    for run in runs[:count]:
        model = plan.apply(construct(build, run.size, run.seed))
        o = make(plan.param_groups(model, run.lr))
        curve = []
        for step in range(steps):
            loss = data.loss(model, data.batch(step, 64, run.seed))
            curve.append(float(loss.detach()))
            o.zero_grad()
            loss.backward()
            o.step()
        losses.append(curve)
    return time.perf_counter() - started, losses


def in_process(code: str, threads: int) -> float:
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, __file__, "--loop", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return float(done.stdout)


def measure(width: int, optimizer: str) -> dict:
    problem, build, plan, runs = setting(width, optimizer)
    plain = {t: in_process(f"{width} {optimizer}", t) * len(runs) / TIMED for t in (1, 2)}
    started = time.perf_counter()
    done = ll.sweep(
        problem,
        build,
        widths=[width],
        depths=[8],
        lrs=RATES,
        seeds=4,
        steps=STEPS[width],
        batch_size=64,
        optimizer=optimizer,
        base=dict(width=32, depth=2),
    )
    took = time.perf_counter() - started
    assert done.fresh == 32
    _, first = loop(width, optimizer, 8, 10)
    short = tuple(TrainingRun(**{**vars(r), "steps": 10}) for r in runs[:8])
    got = train(RunGroup(build, Planned(plan), Samples(problem), short))
    off = max(
        float(np.max(np.abs(r.curve - c) / np.abs(c))) for r, c in zip(got, first, strict=True)
    )
    asked = {32: 8, 64: 4, 128: 1.7, 256: 1}[width]
    return {
        "loop_1_thread": plain[1],
        "loop_2_threads": plain[2],
        "sweep": took,
        f"ratio (>= {asked})": min(plain.values()) / took,
        "largest_relative_difference": off,
        "steps": STEPS[width],
    }


if __name__ == "__main__":
    if sys.argv[1:2] == ["--loop"]:
        width, optimizer = sys.argv[2].split()
        loop(int(width), optimizer, 1, 5)
        print(loop(int(width), optimizer, TIMED, STEPS[int(width)])[0])
        sys.exit()
    results = {}
    for optimizer in sys.argv[1:] or ("sgd", "adamw"):
        for width in STEPS:
            key = f"{optimizer} {width}"
            results[key] = measure(width, optimizer)
            shown = (f"{k} {v:.4g}" for k, v in results[key].items())
            print(f"{key:10s} {'; '.join(shown)}", flush=True)
    keep("sweeps", results)
