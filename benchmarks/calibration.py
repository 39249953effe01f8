"""How often error bars of ``limit`` hold: ./dev bench calibration [--problems 60 --seed 0 --out FOLDER]

Random small problems (activations, couplings, one and two layers a block, mse and cross-entropy, momentum,
mini-batches, rates up to the edge of divergence), each started from one of five sizes. Every step but the
first (where the answer is exact) is compared with a reference: an extrapolation from sizes (n, L) to
(8n, 8L), up to 4096 x 128, solved with other seeds. What its terms of second order are worth, and 2.5
standard errors, are its own error, which joins the bars in squares.

Finished problems and every size are kept in the folder: the same command goes on. Seconds are those of one
processor, counted by process_time, so that a busy machine changes nothing.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from calibration_problems import Case, Solves, draw
from history import TOY, keep, size
from scipy.stats import binomtest

import leadline as ll
from leadline.limits import ladder
from leadline.limits.standing import MISFIT

# Widths, depths and seeds, doubling: small sizes are cheap, so they have more seeds.
REFERENCES = size(
    ((256, 8, 16), (512, 16, 16), (1024, 32, 16), (2048, 64, 8), (4096, 128, 4)),
    ((32, 1, 2), (64, 2, 2), (128, 4, 2), (256, 8, 2)),
)
REFERENCE_SEED = 4321
# A reference whose error is more than this share of the initial loss is worth one doubling more.
COARSE = 0.004


def reference(case: Case, solve: Solves) -> tuple[np.ndarray, np.ndarray]:
    """Training loss of the limit and its error (R,); NaN where networks diverge.

    With y = E + a/L + b/L² + … at the four largest sizes y₁ … y₄, y₄ + (y₃ − y₂)/2 is E − 5 b/L₄², and
    y₁ − 3y₂ + 2y₃ is 24 b/L₄². Differences of smaller sizes have less noise than Richardson's 2y₄ − y₃.
    """
    means: list[np.ndarray] = []
    errors: list[np.ndarray] = []
    for count, (n, l, seeds) in enumerate(REFERENCES, start=1):
        t = solve(
            case.problem,
            case.network,
            case.sgd,
            width=n,
            depth=l,
            seeds=seeds,
            seed=REFERENCE_SEED,
            batch_seed=0,
            coupling=case.coupling,
            variance_reduction="balanced",
            tol=1e-3,
        )
        means.append(t.mean())
        errors.append(t.error())
        if count < 4:
            continue
        y, e = np.stack(means[-4:]), np.stack(errors[-4:])
        value = y[3] + (y[2] - y[1]) / 2
        noise = 2.5 * np.sqrt(e[3] ** 2 + (e[2] ** 2 + e[1] ** 2) / 4)
        error = np.hypot(noise, 5 / 24 * np.abs(y[0] - 3 * y[1] + 2 * y[2]))
        if not np.isfinite(error).all() or error.max() < COARSE * y[3][0]:
            break
    return value, error


def measure(case: Case, solve: Solves, rtol: float, seconds: float) -> dict[str, Any]:
    """One problem: every step's distance from the reference, its bar, and the reference's error."""
    truth, off = reference(case, solve)
    usual, ladder.run = ladder.run, solve.run
    try:
        found = ll.limit(
            case.problem,
            case.network,
            case.sgd,
            rtol,
            coupling=case.coupling,
            width=case.width,
            depth=case.depth,
            seconds=seconds,
        )
    finally:
        ladder.run = usual
    said = np.isfinite(found.train_loss_error) & np.isfinite(truth)
    said[0] = False
    return {
        "problem": str(case),
        "initial": float(found.train_loss[0]),
        "diverges": not np.isfinite(truth).all(),
        "steps": np.flatnonzero(said).tolist(),
        "off": np.abs(found.train_loss - truth)[said].tolist(),
        "bar": found.train_loss_error[said].tolist(),
        "reference": off[said].tolist(),
        "lowest": float(np.nanmin(found.train_loss)) if said.any() else 0.0,
        "converged": found.converged,
        "p_value": found.p_value if math.isfinite(found.p_value) else None,
        "seconds": sum(float(row["seconds"]) for row in found.sizes),
        "sizes": [[row["width"], row["depth"]] for row in found.sizes],
        "message": found.message,
    }


def share(hits: np.ndarray) -> str:
    """Per cent, with the binomial 95 % interval as if steps were independent."""
    if not len(hits):
        return "none"
    found = binomtest(int(hits.sum()), len(hits)).proportion_ci(method="wilson")
    return f"{100 * hits.mean():.1f} % [{100 * found.low:.1f}, {100 * found.high:.1f}]"


def table(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What holds over all problems, printed and returned."""
    off, bar, own = (
        np.concatenate([np.array(row[k], dtype=float) for row in rows])
        for k in ("off", "bar", "reference")
    )
    inside, half = off <= np.hypot(bar, own), off <= np.hypot(bar / 2, own)
    decisive = own < bar
    misses = off / np.maximum(np.hypot(bar, own), 1e-300)
    converged = np.array([row["converged"] for row in rows])
    misfits = sum(row["converged"] and (row["p_value"] or 0) < MISFIT for row in rows)
    wrong = sum(row["converged"] and row["diverges"] for row in rows)
    width = np.median(
        [max(r["bar"], default=0) / r["initial"] for r in rows if r["converged"]] or [0]
    )
    lines = {
        "problems": f"{len(rows)}, {len(off)} steps, {int(decisive.sum())} of them with a reference "
        "better than the bar",
        "steps inside the bar (>= 93 %)": share(inside),
        "  inside, where the reference is better than the bar": share(inside[decisive]),
        "steps inside half the bar (<= 85 %)": share(half),
        "  inside half, where the reference is better than the bar": share(half[decisive]),
        "worst miss in bars (<= 3)": f"{misses.max(initial=0):.2f}",
        "converged (>= 70 %)": share(converged),
        "converged with a misfit (0)": str(misfits),
        "converged where the reference diverges (0)": str(wrong),
        "lowest loss (>= 0)": f"{min((row['lowest'] for row in rows), default=0):.3g}",
        "widest bar of a converged limit over the initial loss, median": f"{width:.4f}",
        "seconds of one processor, median": f"{np.median([r['seconds'] for r in rows]):.1f}",
    }
    for name, value in lines.items():
        print(f"{name}: {value}")
    for row in rows:
        each = np.array(row["off"]) / np.maximum(np.hypot(row["bar"], row["reference"]), 1e-300)
        if each.max(initial=0) > 1:
            print(f"  {each.max():.2f} bars: {row['problem']}; {row['message']}")
    return {"lines": [f"{name}: {value}" for name, value in lines.items()]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--problems", type=int, default=size(60, 1))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=size(60.0, 0.2), help="of each limit")
    parser.add_argument("--rtol", type=float, default=0.02)
    parser.add_argument("--out", type=Path, default=Path("leadline-out/calibration"))
    given = parser.parse_args()
    out = Path(tempfile.mkdtemp()) if TOY else given.out
    solve = Solves(out / "solves")
    rows = []
    for i in range(given.problems):
        path = out / f"{given.seed}-{i}-{given.rtol:g}-{given.seconds:g}.json"
        if not path.exists():
            row = measure(draw(given.seed, i), solve, given.rtol, given.seconds)
            path.write_text(json.dumps(row))
        rows.append(json.loads(path.read_text()))
        print(f"{i}: {rows[-1]['problem']}: {rows[-1]['message']}", flush=True)
    keep("calibration", {f"seed {given.seed}": table(rows)})


if __name__ == "__main__":
    main()
