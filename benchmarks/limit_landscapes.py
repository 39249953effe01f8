"""Where does the best learning rate drift in the limit?

    ./dev bench limit_landscapes [adam] [blocks=N] [DEPTHS] [SCHEME ...]

The loss over learning rate and depth with little of the noise of finite networks: two-layer blocks (relu),
digits, 15 full-batch steps. SGD: classes 3 and 8, 32 samples, ``ll.ResNet`` solved at width 512 with
balanced noise, depths 4 to 64. Adam with a rate that falls to 0: all classes, 64 samples,
``ll.residual_mlp`` (the same functions, base 8 x 4, whose networks begin near 0) solved at width 1024
(fast), depths 4 to 16. At every depth coarse rates, finer ones around the best of them and around the best
of the smallest depth, with three seeds; then, with three more for each further block (N in all), the rates
within nine eighths of a doubling of those bests, and of these rates the verdicts are. DEPTHS such as
4,8,16,32; all of these if left out.

The verdicts on the best rate's drift and on the loss at the rate of depth 4 are those of ``transfer_from``,
of the rates up to the cliff: the first at which the mean loss is twice the smallest of lower rates. Beyond
it the loss jumps from rate to rate and from seed to seed. Since the best rate often lies at that edge, the
price of rates below the best of depth 4 stands beside them, down to a quarter of it. Interrupted, the same
command goes on; runs are one a line in leadline-out/limit_landscapes. Writes
benchmarks/results/limit_landscapes.json.
"""

from __future__ import annotations

import json
import math
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from history import keep, size

import leadline as ll
from leadline.disk.plain import plain

SCHEMES = ("completep", "depth-mup", "depth-mup-corrected")
# Seeds of a block, blocks, and how far from a best rate further blocks go (eighths of a doubling).
SEEDS, BLOCKS, NEAR = size(3, 2), size(3, 2), 9
STEPS = size(15, 2)
WIDTHS = size({"sgd": 512, "adam": 1024}, {"sgd": 64, "adam": 32})
DEPTHS = size({"sgd": (4, 8, 16, 32, 64), "adam": (4, 8, 16)}, {"sgd": (2, 4), "adam": (2, 4)})
BASE = dict(width=8, depth=4)
# Eighths of a doubling: first coarse, then around the best.
COARSE = size(
    {"sgd": range(-20, 5, 4), "adam": range(-72, -31, 8)}, {"sgd": (-8, 0), "adam": (-72, -64)}
)
FINE = size({"sgd": (1, 2, 3), "adam": (4, 2, 1)}, {"sgd": (1,), "adam": (1,)})
FINEST = {"sgd": (0.5,), "adam": ()}
# Rates below the best of the smallest depth, over it: how careful people choose.
FACTORS = np.array([1.0, 2**-0.25, 2**-0.5, 0.5, 0.25])
# What makes a cliff: the mean loss over the smallest of lower rates.
CLIFF = 2.0
STATE = Path(
    size("leadline-out/limit_landscapes", f"{tempfile.gettempdir()}/limit_landscapes-{os.getpid()}")
)


Key = tuple[int, float]
"""Depth and learning rate."""


def losses(optimizer: str, scheme: str, depth: int, lr: float, block: int) -> list[float | None]:
    """The last training loss of each seed of a block; None where it diverges."""
    how = dict(width=WIDTHS[optimizer], depth=depth, seeds=SEEDS, seed=block, record_every=STEPS)
    if optimizer == "sgd":
        problem = ll.digits(classes=(3, 8), samples=size(32, 8), test_samples=0)
        network = ll.ResNet(activation="relu", block_layers=2, scheme=scheme)
        how |= dict(tol=3e-3, variance_reduction="balanced")
        s = ll.solve(problem, network, ll.SGD(lr=lr, steps=STEPS), **how)
    else:
        problem = ll.digits(samples=size(64, 10), test_samples=0)
        build = ll.residual_mlp(problem.dimension, problem.outputs)
        how |= dict(base=BASE, scheme=scheme, ensemble="fast")
        s = ll.solve(problem, build, ll.Adam(lr=lr, steps=STEPS, schedule="linear"), **how)
    return [float(v) if math.isfinite(v) else None for v in s.train_loss[:, -1]]


def verdict(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Drift of the best rate over depth, and the price of the rate of the smallest depth."""
    result = ll.transfer_from(rows, axes=("depth",))
    (axis,) = result.axes
    return {
        "verdict": axis.verdict,
        "reason": axis.reason,
        "range": axis.range,
        "drift": str(axis.drift),
        "regret": {str(s.size): str(s.regret) for s in axis.sizes},
        "best": {str(s.size): str(s.lr) for s in axis.sizes},
        "loss": {str(s.size): str(s.loss) for s in axis.sizes},
    }


def below(
    done: dict[Key, list[float | None]],
    cliffs: dict[int, float],
    depths: Sequence[int],
) -> dict[str, Any]:
    """The price of rates below the best of the smallest depth: loss there over the smallest, minus one.

    Losses between rates by straight lines in the logarithms of both; the smallest is that up to the cliff.
    The interval is that of seeds drawn anew (95 %), the same at every rate and depth. None beyond the rates
    that were solved, and where a seed diverges.
    """
    curves = {}
    for depth in depths:
        rates = sorted(lr for d, lr in done if d == depth and None not in done[d, lr])
        losses = np.array([done[depth, lr] for lr in rates], dtype=float)
        curves[depth] = np.log(rates), losses, np.searchsorted(rates, cliffs[depth], "right")

    def price(pick: np.ndarray) -> np.ndarray:
        means = [(x, np.log(y[:, pick].mean(1)), end) for x, y, end in curves.values()]
        x, y, end = means[0]
        at = x[np.argmin(y[:end])] + np.log(FACTORS) + 1e-9
        prices = [np.interp(at, x, y, np.nan, np.nan) - y[:end].min() for x, y, end in means]
        return np.expm1(prices)

    count = len(next(iter(done.values())))
    rng, seeds = np.random.default_rng(0), np.arange(count)
    drawn = np.array([price(rng.choice(seeds, count)) for _ in range(size(1000, 20))])
    value = price(seeds)
    low, high = np.quantile(drawn, (0.025, 0.975), axis=0)
    return {
        f"{factor:.2f}": {
            str(d): [plain(round(float(v[i, j]), 3)) for v in (value, low, high)]
            for i, d in enumerate(depths)
        }
        for j, factor in enumerate(FACTORS)
    }


def first(
    mean: Callable[[int, float], float], optimizer: str, depths: Sequence[int]
) -> list[float]:
    """Coarse rates and finer ones around the best; the best of every depth, in eighths of a doubling."""

    def around(depth: int, centre: float, steps: Sequence[float]) -> float:
        """The best rate of some on both sides."""
        near = [centre + sign * k for k in (0, *steps) for sign in (-1, 1)]
        return min(near, key=lambda k: mean(depth, k))

    bests: list[float] = []
    fine, finest = FINE[optimizer], FINEST[optimizer]
    for depth in depths:
        best = min(COARSE[optimizer], key=lambda k, depth=depth: mean(depth, k))
        # Around the best once more: it may have been beside the coarse one.
        best = around(depth, around(depth, best, fine), fine[:2])
        bests.append(around(depth, best, finest))
        around(depth, bests[0], (*finest, *fine[-1:]))
    return bests


def landscape(optimizer: str, scheme: str, depths: Sequence[int], blocks: int) -> dict[str, Any]:
    """Solve what is missing, and judge."""
    label = scheme if optimizer == "sgd" else f"{optimizer} {scheme}"
    path = STATE / f"{label.replace(' ', '-')}.jsonl"
    kept = [json.loads(x) for x in path.read_text().splitlines()] if path.exists() else []
    solved = {(r["depth"], round(r["lr"], 12), r.get("block", 0)): r["losses"] for r in kept}
    with path.open("a") as file:

        def of(depth: int, lr: float, block: int) -> list[float | None]:
            """The losses of a block, solved where they are not at hand."""
            if (depth, lr, block) not in solved:
                found = losses(optimizer, scheme, depth, lr, block)
                solved[depth, lr, block] = found
                row = dict(depth=depth, lr=lr, block=block, losses=found)
                file.write(json.dumps(row) + "\n")
                file.flush()
            return solved[depth, lr, block]

        bests = first(
            lambda depth, k: _total(of(depth, round(2.0 ** (k / 8), 12), 0)), optimizer, depths
        )
        done: dict[Key, list[float | None]] = {}
        for depth, best in zip(depths, bests, strict=True):
            for lr in sorted({lr for d, lr, _ in solved if d == depth}):
                if min(abs(8 * math.log2(lr) - k) for k in (best, bests[0])) <= NEAR:
                    done[depth, lr] = [v for b in range(blocks) for v in of(depth, lr, b)]
    rows: list[dict[str, Any]] = []
    cliffs: dict[int, float] = {}
    for depth in depths:
        smallest, beyond = math.inf, False
        for lr in sorted(lr for d, lr in done if d == depth):
            loss = _total(done[depth, lr])
            rows += [
                dict(depth=depth, lr=lr, seed=s, loss=math.inf if v is None else v)
                for s, v in enumerate(done[depth, lr])
            ]
            if not beyond:
                smallest, cliffs[depth] = min(smallest, loss), lr
                beyond = loss > CLIFF * smallest
            # The rates that the smallest depth may recommend are judged at every depth.
            if beyond and lr >= cliffs[depths[0]]:
                break
    table = {
        str(d): {f"{lr:.4g}": v for (at, lr), v in sorted(done.items()) if at == d} for d in depths
    }
    seeds = {"seeds": blocks * SEEDS}
    # Of one block alone all rates count: beside it, not in its place.
    label += "" if blocks == 1 else f", {blocks * SEEDS} seeds"
    prices = below(done, cliffs, depths)
    return {label: {**verdict(rows), **seeds, "price below": prices, "losses": table}}


def _total(values: list[float | None]) -> float:
    return math.inf if None in values else sum(v for v in values if v is not None)


def main(names: list[str]) -> None:
    STATE.mkdir(parents=True, exist_ok=True)
    optimizer = "adam" if "adam" in names else "sgd"
    depths = next((json.loads(f"[{n}]") for n in names if n[0].isdigit()), DEPTHS[optimizer])
    blocks = next(
        (int(n.removeprefix("blocks=")) for n in names if n.startswith("blocks=")), BLOCKS
    )
    schemes = [n for n in names if n in SCHEMES] or size(SCHEMES, SCHEMES[:1])
    for scheme in schemes:
        result = landscape(optimizer, scheme, depths, blocks)
        for label, row in result.items():
            print(label, {k: v for k, v in row.items() if k != "losses"}, flush=True)
        keep("limit_landscapes", result)


if __name__ == "__main__":
    main(sys.argv[1:])
