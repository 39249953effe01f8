"""A hand-written dense residual network in PyTorch against train and solve: ./dev peers loop

The loop is what one writes without this project: parameters W_l of N(0, 1) entries, the forward pass
h + √(1/L) W φ(h)/√n, autograd, torch.optim.SGD at rate η·n. Digits 0/1, float32, full batch.

    agreement  the loop started from the weights of ``ResNet.module`` against ``train`` with the same seed:
               largest relative difference of the losses; and against ``solve``, another draw of the same
               law, in units of the standard error of the difference, over seeds at a small width
    seconds    training alone (drawing the weights is listed beside it), medians of interleaved rounds:
               loop / train, loop / solve, and where solve loses: small widths

Ratios above 1 say that leadline is faster.
"""

from __future__ import annotations

import math
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
from history import keep, size, spread

import leadline as ll

NET = ll.ResNet("tanh", scheme="depth-mup")
SAMPLES, DEPTH, STEPS, LR = 8, size(16, 4), 5, 0.3
WIDTHS = size((256, 1024, 4096), (64, 128))
ROUNDS, SEEDS = size(3, 2), size(40, 6)


class Loop:
    """The hand-written training."""

    def __init__(self, problem: ll.Problem, width: int, depth: int) -> None:
        self.x = torch.tensor(problem.x, dtype=torch.float32)
        self.y = torch.tensor(problem.y, dtype=torch.float32)
        n, d, c = width, self.x.shape[1], self.y.shape[1]
        self.n, self.depth = n, depth
        self.u = torch.randn(n, d)
        self.w = [torch.randn(n, n) for _ in range(depth)]
        self.v = torch.randn(n, c)

    def train(self, steps: int) -> np.ndarray:
        """Losses before each step and after the last, (steps + 1,)."""
        parameters = [self.u, *self.w, self.v]
        for p in parameters:
            p.requires_grad_()
        optimizer = torch.optim.SGD(parameters, lr=LR * self.n)
        losses = []
        for k in range(steps + 1):
            h = self.x @ self.u.T / math.sqrt(self.u.shape[1])
            for w in self.w:
                h = h + torch.tanh(h) @ w.T * (1 / math.sqrt(self.n * self.depth))
            f = h @ self.v / self.n
            loss = ((f - self.y) ** 2).sum(1).mean() / 2
            losses.append(float(loss.detach()))
            if k < steps:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        return np.array(losses)


def problem() -> ll.Problem:
    return ll.digits(classes=(0, 1), samples=SAMPLES, test_samples=0)


def agreement() -> dict:
    p, sgd, how = problem(), ll.SGD(lr=LR, steps=STEPS), dict(width=WIDTHS[0], depth=DEPTH)
    module = NET.module(WIDTHS[0], DEPTH, 0, inputs=p.dimension, dtype=torch.float32)
    weights = dict(module.named_parameters())
    loop = Loop(p, WIDTHS[0], DEPTH)
    with torch.no_grad():
        loop.u.copy_(weights["input"])
        loop.v.copy_(weights["readout"])
        for l, w in enumerate(loop.w):
            w.copy_(weights[f"hidden.{l}"])
    a = loop.train(STEPS)
    b = ll.train(p, NET, sgd, **how).train_loss[0]
    loops = []
    for s in range(SEEDS):
        torch.manual_seed(s)
        loops.append(Loop(p, WIDTHS[0], DEPTH).train(STEPS)[-1])
    solved = ll.solve(p, NET, sgd, seeds=SEEDS, **how).train_loss[:, -1]
    error = math.sqrt((np.var(loops, ddof=1) + solved.var(ddof=1)) / SEEDS)
    return {
        "loop and train, same weights (<= 1e-4)": float(np.abs(a / b - 1).max()),
        "loop and solve, mean loss in errors (<= 3)": float(
            abs(np.mean(loops) - solved.mean()) / error
        ),
        "loss": float(np.mean(loops)),
    }


def seconds() -> dict:
    p, sgd = problem(), ll.SGD(lr=LR, steps=STEPS)
    rows: dict = {}
    for width in WIDTHS:
        how = dict(width=width, depth=DEPTH)
        ll.solve(p, NET, sgd, **how)
        times: dict[str, list[float]] = {k: [] for k in ("loop", "loop draws", "train", "solve")}
        for _ in range(ROUNDS):
            started = time.perf_counter()
            loop = Loop(p, width, DEPTH)
            drawn = time.perf_counter()
            loop.train(STEPS)
            times["loop draws"].append(drawn - started)
            times["loop"].append(time.perf_counter() - drawn)
            del loop
            started = time.perf_counter()
            t = ll.train(p, NET, sgd, **how)
            times["train"].append(time.perf_counter() - started - t.info["draw_seconds"])
            started = time.perf_counter()
            ll.solve(p, NET, sgd, **how)
            times["solve"].append(time.perf_counter() - started)
        middle = {k: statistics.median(v) for k, v in times.items()}
        rows[f"n={width}"] = times | {
            "loop / train": middle["loop"] / middle["train"],
            "loop / solve": middle["loop"] / middle["solve"],
            "loop / solve, with drawing": (middle["loop"] + middle["loop draws"]) / middle["solve"],
        }
    return rows


if __name__ == "__main__":
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, L={DEPTH}, P={SAMPLES}")
    rows = {"agreement": agreement()} | seconds()
    for name, row in rows.items():
        for key, value in row.items():
            text = spread(value) if isinstance(value, list) else f"{value:.3g}"
            print(f"{name:10s} {key}: {text}", flush=True)
    keep("peers-loop", rows)
