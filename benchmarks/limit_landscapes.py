"""Where does the best learning rate drift in the limit? ./dev bench limit_landscapes [adam] [SCHEME ...]

The loss over learning rate and depth without the noise of finite networks: two-layer blocks (relu), digits
3 and 8, 15 full-batch steps. SGD: ``ll.ResNet`` solved at width 512 with balanced noise, depths 4 to 64.
Adam: ``ll.residual_mlp``, the same functions, base 32 x 4, solved at width 256 (fast), depths 4 to 32. The
verdicts on the best rate's drift and on the loss at the rate of depth 4 are those of ``transfer_from``.
Interrupted, the same command goes on; runs are one a line in leadline-out/limit_landscapes. Writes
benchmarks/results/limit_landscapes.json.
"""

from __future__ import annotations

import json
import math
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from history import keep, size

import leadline as ll

SCHEMES = ("completep", "depth-mup", "depth-mup-corrected")
SEEDS, STEPS = size(3, 2), size(15, 2)
WIDTHS = size({"sgd": 512, "adam": 256}, {"sgd": 64, "adam": 32})
DEPTHS = size({"sgd": (4, 8, 16, 32, 64), "adam": (4, 8, 16, 32)}, {"sgd": (2, 4), "adam": (2, 4)})
BASE = dict(width=size(32, 16), depth=4)
# Coarse far from the best rates, eighths of a doubling near them.
SGD_RATES = sorted({2.0 ** (k / 2) for k in range(-8, 3)} | {2.0 ** (k / 8) for k in range(-8, 9)})
RATES = size(
    {"sgd": SGD_RATES, "adam": [2.0 ** (k / 2) for k in range(-24, -11)]},
    {"sgd": [0.25, 0.5, 1.0], "adam": [2.0**-9, 2.0**-8, 2.0**-7]},
)
STATE = Path(
    size("leadline-out/limit_landscapes", f"{tempfile.gettempdir()}/limit_landscapes-{os.getpid()}")
)


def losses(optimizer: str, scheme: str, depth: int, lr: float) -> list[float | None]:
    """The last training loss of each seed; None where it diverges."""
    problem = ll.digits(classes=(3, 8), samples=size(32, 8), test_samples=0)
    how = dict(width=WIDTHS[optimizer], depth=depth, seeds=SEEDS, record_every=STEPS)
    if optimizer == "sgd":
        network = ll.ResNet(activation="relu", block_layers=2, scheme=scheme)
        how |= dict(tol=3e-3, variance_reduction="balanced")
        s = ll.solve(problem, network, ll.SGD(lr=lr, steps=STEPS), **how)
    else:
        build = ll.residual_mlp(problem.dimension, problem.outputs)
        how |= dict(base=BASE, scheme=scheme, ensemble="fast")
        s = ll.solve(problem, build, ll.Adam(lr=lr, steps=STEPS), **how)
    return [float(v) if math.isfinite(v) else None for v in s.train_loss[:, -1]]


def verdict(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Drift of the best rate over depth, and the price of the rate of the smallest depth."""
    result = ll.transfer_from(rows, axes=("depth",))
    (axis,) = result.axes
    return {
        "verdict": axis.verdict,
        "reason": axis.reason,
        "drift": str(axis.drift),
        "regret": {str(s.size): str(s.regret) for s in axis.sizes},
        "best": {str(s.size): str(s.lr) for s in axis.sizes},
        "loss": {str(s.size): str(s.loss) for s in axis.sizes},
    }


def landscape(optimizer: str, scheme: str) -> dict[str, Any]:
    """Solve what is missing, and judge."""
    label = scheme if optimizer == "sgd" else f"{optimizer} {scheme}"
    path = STATE / f"{label.replace(' ', '-')}.jsonl"
    kept = [json.loads(x) for x in path.read_text().splitlines()] if path.exists() else []
    done = {(r["depth"], r["lr"]): r["losses"] for r in kept}
    depths, rates = DEPTHS[optimizer], RATES[optimizer]
    with path.open("a") as file:
        for depth in depths:
            for lr in rates:
                if (depth, lr) not in done:
                    done[depth, lr] = losses(optimizer, scheme, depth, lr)
                    row = dict(depth=depth, lr=lr, losses=done[depth, lr])
                    file.write(json.dumps(row) + "\n")
                    file.flush()
    rows = [
        dict(depth=d, lr=lr, seed=s, loss=math.inf if v is None else v)
        for (d, lr), values in done.items()
        for s, v in enumerate(values)
    ]
    table = {str(d): {f"{lr:.4g}": done[d, lr] for lr in rates} for d in depths}
    return {label: {**verdict(rows), "losses": table}}


def main(names: list[str]) -> None:
    STATE.mkdir(parents=True, exist_ok=True)
    optimizer = "adam" if "adam" in names else "sgd"
    schemes = [n for n in names if n != "adam"] or size(SCHEMES, SCHEMES[:1])
    for scheme in schemes:
        result = landscape(optimizer, scheme)
        for label, row in result.items():
            print(label, {k: v for k, v in row.items() if k != "losses"}, flush=True)
        keep("limit_landscapes", result)


if __name__ == "__main__":
    main(sys.argv[1:])
