"""Where does the best learning rate drift in the limit? ./dev bench limit_landscapes [SCHEME ...]

The loss over learning rate and depth without the noise of finite networks: two-layer blocks (relu), digits
3 and 8, 15 full-batch steps of SGD, solved at a large width with balanced noise. The verdicts on the drift
of the best rate and on the loss at the rate of depth 4 are those of ``transfer_from``. Interrupted, the
same command goes on; runs are one a line in leadline-out/limit_landscapes. Writes
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
WIDTH, SEEDS, STEPS = size(512, 64), size(3, 2), size(15, 2)
DEPTHS = size((4, 8, 16, 32, 64), (2, 4))
RATES = size([2.0 ** (k / 2) for k in range(-8, 3)], [0.25, 0.5, 1.0])
STATE = Path(
    size("leadline-out/limit_landscapes", f"{tempfile.gettempdir()}/limit_landscapes-{os.getpid()}")
)


def losses(scheme: str, depth: int, lr: float) -> list[float | None]:
    """The last training loss of each seed; None where it diverges."""
    problem = ll.digits(classes=(3, 8), samples=size(32, 8), test_samples=0)
    network = ll.ResNet(activation="relu", block_layers=2, scheme=scheme)
    s = ll.solve(
        problem,
        network,
        ll.SGD(lr=lr, steps=STEPS),
        width=WIDTH,
        depth=depth,
        seeds=SEEDS,
        tol=3e-3,
        variance_reduction="balanced",
        record_every=STEPS,
    )
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


def main(names: list[str]) -> None:
    STATE.mkdir(parents=True, exist_ok=True)
    for scheme in names or size(SCHEMES, SCHEMES[:1]):
        path = STATE / f"{scheme}.jsonl"
        kept = [json.loads(x) for x in path.read_text().splitlines()] if path.exists() else []
        done = {(r["depth"], r["lr"]): r["losses"] for r in kept}
        with path.open("a") as file:
            for depth in DEPTHS:
                for lr in RATES:
                    if (depth, lr) not in done:
                        done[depth, lr] = losses(scheme, depth, lr)
                        row = dict(depth=depth, lr=lr, losses=done[depth, lr])
                        file.write(json.dumps(row) + "\n")
                        file.flush()
        rows = [
            dict(depth=d, lr=lr, seed=s, loss=math.inf if v is None else v)
            for (d, lr), values in done.items()
            for s, v in enumerate(values)
        ]
        result = verdict(rows)
        table = {str(d): {f"{lr:.3g}": done[d, lr] for lr in RATES} for d in DEPTHS}
        print(scheme, result, flush=True)
        keep("limit_landscapes", {scheme: {**result, "losses": table}})


if __name__ == "__main__":
    main(sys.argv[1:])
