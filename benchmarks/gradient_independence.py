"""Does gradient independence hold at infinite depth? ./dev bench gradient_independence [MODEL ...]

The gradient-independence assumption (arXiv 2512.21075) lets the backward pass use weights independent of
those of the forward pass. A transformer and a convolutional ResNet are solved with both couplings from the
same forward weights, at growing depth and at growing width: the gap of their training losses, paired by
seed. If the assumption held at infinite depth, the gap would fall to 0 with depth. Interrupted, the same
command goes on; runs are one a line in leadline-out/gradient_independence. Writes
benchmarks/results/gradient_independence.json.
"""

from __future__ import annotations

import json
import math
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from history import keep, size
from scipy import stats
from wide_models import CASES

import leadline as ll

SEEDS = size({"GPT, fused qkv": 8, "conv ResNet": 6}, {"GPT, fused qkv": 2, "conv ResNet": 2})
WIDTH, DEPTHS = size(128, 32), size((2, 4, 8, 16, 32), (2,))
DEEPEST = {"conv ResNet": 16}
DEPTH, WIDTHS = size(4, 2), size((64, 256, 512), ())
STEPS = size(10, 2)
# Rates at the base at which ten steps take off a good part of the loss, without instability.
MODELS = {"GPT, fused qkv": 0.2, "conv ResNet": 0.1}
STATE = Path(
    size(
        "leadline-out/gradient_independence",
        f"{tempfile.gettempdir()}/gradient_independence-{os.getpid()}",
    )
)


def solved(name: str, plan: Any, width: int, depth: int, coupling: str, seed: int) -> list[float]:
    """Training losses of one run."""
    case = CASES[name]()
    s = ll.solve(
        case.task,
        plan,
        ll.SGD(lr=MODELS[name], steps=STEPS),
        width=width,
        depth=depth,
        coupling=coupling,
        ensemble="fast",
        seed=seed,
        batch_seed=0,
    )
    return [float(v) for v in s.train_loss[0]]


def summary(rows: dict[int, dict[str, list[float]]]) -> dict[str, Any]:
    """Mean gap of the last losses over what reused weights took off the loss, with its interval."""
    pairs = [v for v in rows.values() if len(v) == 2]
    reused, other = (np.array([p[c] for p in pairs]) for c in ("reused", "independent"))
    moved = float(np.mean(reused[:, 0] - reused[:, -1]))
    gaps = (other[:, -1] - reused[:, -1]) / moved
    half = stats.t.isf(0.025, len(gaps) - 1) * float(np.std(gaps, ddof=1)) / math.sqrt(len(gaps))
    mean = float(np.mean(gaps))
    return {
        "gap": round(mean, 4),
        "interval": [round(float(v), 4) for v in (mean - half, mean + half)],
        "loss": [round(float(reused[:, k].mean()), 4) for k in (0, -1)],
        "seeds": len(gaps),
    }


def main(names: list[str]) -> None:
    STATE.mkdir(parents=True, exist_ok=True)
    for name in names or size(list(MODELS), list(MODELS)[:1]):
        case = CASES[name]()
        recipe = ll.SGD(lr=MODELS[name], steps=STEPS)
        x = case.task.batches[0]
        inputs = x[:, :-1] if not isinstance(x, tuple) else x[0]
        plan = ll.plan(case.build, case.base, optimizer=recipe.optimizer, inputs=inputs)
        path = STATE / f"{''.join(c if c.isalnum() else '-' for c in name)}.jsonl"
        done: dict[tuple[int, int], dict[int, dict[str, list[float]]]] = {}
        if path.exists():
            for line in path.read_text().splitlines():
                r = json.loads(line)
                at = done.setdefault((r["width"], r["depth"]), {}).setdefault(r["seed"], {})
                at[r["coupling"]] = r["loss"]
        places = [(WIDTH, d) for d in DEPTHS if d <= DEEPEST.get(name, 32)]
        places += [(n, DEPTH) for n in WIDTHS]
        with path.open("a") as file:
            for seed in range(SEEDS[name]):
                for place in places:
                    at = done.setdefault(place, {}).setdefault(seed, {})
                    for coupling in ("reused", "independent"):
                        if coupling in at:
                            continue
                        at[coupling] = solved(name, plan, *place, coupling, seed)
                        r = dict(width=place[0], depth=place[1], seed=seed, coupling=coupling)
                        file.write(json.dumps({**r, "loss": at[coupling]}) + "\n")
                        file.flush()
        pick = range(SEEDS[name])
        row = {f"{n} x {d}": summary({s: done[n, d][s] for s in pick}) for n, d in places}
        for place, v in row.items():
            print(name, place, v, flush=True)
        keep("gradient_independence", {name: row})


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main(sys.argv[1:])
