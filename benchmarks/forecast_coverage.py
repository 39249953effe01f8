"""How often a forecast's intervals hold: ./dev bench forecast_coverage [SETTING ...] [--replicates 400]

Laws planted in tables of the kinds that people have; for each the share of replicates whose 95 % interval
holds the truth, for the floor, the exponents, a loss beyond the runs and the best size there; and in how
many the planted kind of law was chosen. Interrupted, the same command goes on: replicates are kept one a
line in leadline-out/forecast_coverage. Summaries go to benchmarks/results/forecast_coverage.json.
"""

from __future__ import annotations

import json
import math
import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from history import keep, size

import leadline as ll

DRAWS, ROUND = size(200, 50), size(20, 2)
STATE = Path(size("leadline-out/forecast_coverage", tempfile.gettempdir())) / str(
    size("", os.getpid())
)
WIDTHS, DEPTHS = (32, 64, 128, 256, 512), (2, 4, 8, 16)

Sizes = dict[str, np.ndarray]
Draw = Callable[[np.random.Generator], Sizes]


@dataclass(frozen=True)
class Setting:
    """A planted law, the sizes of its runs, and their noise.

    Attributes:
        law: of sizes by axis. floor, exponents: its own. kind: "sum" or "kaplan".
        at: where a loss is predicted. budget: of the best size, at the default cost.
    """

    law: Callable[..., Any]
    sizes: Draw
    noise: Callable[[Sizes, np.random.Generator], np.ndarray]
    floor: float
    exponents: dict[str, float]
    at: dict[str, float]
    budget: float
    kind: str = "sum"


def chinchilla(N, D):
    return 1.8 + 480 * N**-0.35 + 2085 * D**-0.37


def without_floor(N, D):
    return 400 * N**-0.3 + 1000 * D**-0.33


def kaplan(N, D):
    return ((6.4e13 / N) ** (0.076 / 0.103) + 1.8e13 / D) ** 0.103


def kaplan_floor(N, D):
    return 1.5 + ((2e8 / N) ** (0.35 / 0.4) + 4e9 / D) ** 0.4


def two_powers(width, depth):
    return 0.2 + 0.5 * (width / 32) ** -0.7 + 0.4 * (depth / 2) ** -0.5


def one_over(width, depth):
    return 0.2 + 16 / width + 0.8 / depth


def three(width, depth, samples):
    return 1 + 2 * (width / 64) ** -0.5 + 0.6 * (depth / 2) ** -0.7 + 1.5 * (samples / 1e9) ** -0.4


def scattered(count: int) -> Draw:
    def draw(r):
        return {
            "N": np.exp(r.uniform(np.log(3e7), np.log(3e9), count)),
            "D": np.exp(r.uniform(np.log(5e8), np.log(1e11), count)),
        }

    return draw


def isoflop(r) -> Sizes:
    rows = [
        (math.sqrt(c / 6) * 10**k / 3, c / 6 / (math.sqrt(c / 6) * 10**k / 3))
        for c in 6 * 10.0 ** np.arange(17, 20.1, 0.5)
        for k in (-0.9, -0.6, -0.3, 0, 0.3, 0.6, 0.9)
    ]
    return dict(zip("ND", np.array(rows).T, strict=True))


def grid(seeds: int) -> Draw:
    def draw(r):
        mesh = np.meshgrid(WIDTHS, DEPTHS, indexing="ij")
        width, depth = (np.repeat(m.ravel(), seeds).astype(float) for m in mesh)
        return {"width": width, "depth": depth}

    return draw


def checkpoints(r) -> Sizes:
    rows = [
        (w, d, k * 1e10) for w in (64, 128, 256, 512) for d in (2, 4, 8, 16) for k in range(1, 9)
    ]
    return dict(zip(("width", "depth", "samples"), np.array(rows, float).T, strict=True))


def cube(r) -> Sizes:
    rows = [
        (w, d, s)
        for w in (64, 128, 256, 512)
        for d in (2, 4, 8, 16)
        for s in (1e9, 4e9, 16e9, 64e9)
    ]
    return dict(zip(("width", "depth", "samples"), np.array(rows, float).T, strict=True))


def equal(scale: float):
    return lambda x, r: scale * r.standard_normal(len(next(iter(x.values()))))


def falling(axis: str, scale: float, power: float):
    """Noise that falls with an axis from three times the scale."""
    return lambda x, r: 3 * equal(scale)(x, r) * (x[axis] / x[axis].min()) ** -power


def outlier(factor: float, scale: float):
    """One run off by a factor, in half of the replicates the largest."""

    def noise(x, r):
        z = equal(scale)(x, r)
        largest = int(np.argmax(sum(np.log(v) for v in x.values())))
        z[largest if r.random() < 0.5 else r.integers(len(z))] += math.log(factor)
        return z

    return noise


def of_training(scale: float):
    """Noise of a whole training, and a third of that of each of its checkpoints."""

    def noise(x, r):
        trainings = np.unique(x["width"] * 1000 + x["depth"], return_inverse=True)[1]
        return scale * r.standard_normal(trainings.max() + 1)[trainings] + equal(scale / 3)(x, r)

    return noise


_ND = dict(at=dict(N=1.2e10, D=4e11), budget=6 * 3e9 * 1e11 * 4)
_WD = dict(at=dict(width=1024, depth=32), budget=1024.0**2 * 32)
_CHINCHILLA = dict(law=chinchilla, floor=1.8, exponents=dict(N=0.35, D=0.37), **_ND)
_BARE = dict(law=without_floor, floor=0.0, exponents=dict(N=0.3, D=0.33), **_ND)
_POWERS = dict(law=two_powers, floor=0.2, exponents=dict(width=0.7, depth=0.5), **_WD)
_ONE = dict(law=one_over, floor=0.2, exponents=dict(width=1.0, depth=1.0), **_WD)
_THREE = dict(
    law=three, floor=1.0, exponents=dict(width=0.5, depth=0.7, samples=0.4),
    at=dict(width=1024, depth=32, samples=2.56e11), budget=1024.0**2 * 32 * 6.4e10,
)  # fmt: skip

SETTINGS = {
    "N, D: 60 runs, 1 %": Setting(sizes=scattered(60), noise=equal(0.01), **_CHINCHILLA),
    "N, D: 120 runs, noise falls with D": Setting(
        sizes=scattered(120), noise=falling("D", 0.01, 0.35), **_CHINCHILLA
    ),
    "N, D: isoFLOP, .5 %": Setting(sizes=isoflop, noise=equal(0.005), **_CHINCHILLA),
    "N, D: 80 runs, one ×3": Setting(sizes=scattered(80), noise=outlier(3, 0.01), **_CHINCHILLA),
    "N, D: 80 runs, one ×10": Setting(sizes=scattered(80), noise=outlier(10, 0.01), **_CHINCHILLA),
    "N, D: no floor, 80 runs, 1 %": Setting(sizes=scattered(80), noise=equal(0.01), **_BARE),
    "Kaplan: no floor, 80 runs, 1 %": Setting(
        law=kaplan, sizes=scattered(80), noise=equal(0.01), floor=0.0,
        exponents=dict(N=0.076, D=0.103), kind="kaplan", **_ND,
    ),
    "Kaplan: floor, 120 runs, .5 %": Setting(
        law=kaplan_floor, sizes=scattered(120), noise=equal(0.005), floor=1.5,
        exponents=dict(N=0.35, D=0.4), kind="kaplan", **_ND,
    ),
    "width, depth: 3 seeds, 2 %": Setting(sizes=grid(3), noise=equal(0.02), **_POWERS),
    "width, depth: 1 seed, 1 %": Setting(sizes=grid(1), noise=equal(0.01), **_POWERS),
    "width, depth: 3 seeds, noise falls with width": Setting(
        sizes=grid(3), noise=falling("width", 0.01, 0.5), **_POWERS
    ),
    "width, depth: 1 seed, one ×3": Setting(sizes=grid(1), noise=outlier(3, 0.01), **_POWERS),
    "width, depth: 1 seed, one ×10": Setting(sizes=grid(1), noise=outlier(10, 0.01), **_POWERS),
    "width, depth: exponents 1, 3 seeds, 2 %": Setting(sizes=grid(3), noise=equal(0.02), **_ONE),
    "three axes: 64 runs, .5 %": Setting(sizes=cube, noise=equal(0.005), **_THREE),
    "three axes: checkpoints of 16 trainings": Setting(
        sizes=checkpoints, noise=of_training(0.01), **_THREE
    ),
}  # fmt: skip


def table(s: Setting, replicate: int) -> Sizes:
    r = np.random.default_rng((replicate, 7))
    x = s.sizes(r)
    return {**x, "loss": s.law(**x) * np.exp(s.noise(x, r))}


def best_size(s: Setting) -> tuple[str, float]:
    """The axis that a budget is spent on first, and its best size under the planted law."""
    if "N" in s.at:
        u = np.linspace(math.log(1e6), math.log(1e13), 200_001)
        return "N", float(np.exp(u[np.argmin(s.law(N=np.exp(u), D=s.budget / 6 / np.exp(u)))]))
    held = {"samples": 8e10 if s.sizes is checkpoints else 6.4e10} if "samples" in s.at else {}
    budget = s.budget / held.get("samples", 1.0)
    u = np.linspace(0, math.log(budget) / 2, 200_001)
    loss = s.law(width=np.exp(u), depth=budget / np.exp(2 * u), **held)
    return "width", float(np.exp(u[np.argmin(loss)]))


def replicate(s: Setting, i: int) -> dict[str, Any]:
    """One forecast: what its intervals hold, how wide they are, what was chosen."""
    f = ll.forecast(table(s, i), draws=DRAWS, seed=i)
    axis, size_ = best_size(s)
    loss = f.predict(**s.at)
    truth = {"floor": (f.floor, s.floor), "loss beyond": (loss, float(s.law(**s.at)))}
    for a, exponent in s.exponents.items():
        if a in f.terms:
            truth[f"exponent of {a}"] = (f.exponents[a], exponent)
    with suppress(ValueError, KeyError):
        truth[f"best {axis}"] = (f.best(s.budget).sizes[axis], size_)
    return {
        "holds": {k: bool(x.low <= v <= x.high) for k, (x, v) in truth.items()},
        "half": float(math.log(loss.high / loss.low) / 2),
        "kind": f.laws[0].law.kind == s.kind,
        "axes": set(f.terms) == set(s.exponents),
        "way": f.resampled,
        "left_out": sum(o.left_out for o in f.outliers),
        "grave": f.misfit.grave,
    }


def summary(s: Setting, rows: list[dict[str, Any]]) -> dict[str, Any]:
    hits: dict[str, list[bool]] = {}
    for row in rows:
        for key, value in row["holds"].items():
            hits.setdefault(key, []).append(value)
    ways = [row["way"] for row in rows]
    return {
        "replicates": len(rows),
        "coverage": {k: round(100 * float(np.mean(v)), 1) for k, v in hits.items()},
        "kind_found": round(100 * float(np.mean([r["kind"] and r["axes"] for r in rows])), 1),
        "half_width_of_the_loss_beyond": round(float(np.median([r["half"] for r in rows])), 5),
        "resampled": {w: ways.count(w) for w in sorted(set(ways))},
        "left_out": sum(r["left_out"] for r in rows),
        "misfits": sum(r["grave"] for r in rows),
    }


def replicates_of(name: str) -> list[dict[str, Any]]:
    """Those that are done."""
    path = _state(name)
    return [json.loads(x) for x in path.read_text().splitlines()] if path.exists() else []


def _state(name: str) -> Path:
    return STATE / f"{''.join(c if c.isalnum() else '-' for c in name)}.jsonl"


def main(names: list[str], count: int) -> None:
    """All settings in rounds, so that what an interruption leaves is as much of each."""
    STATE.mkdir(parents=True, exist_ok=True)
    names = names or size(list(SETTINGS), list(SETTINGS)[:1])
    for goal in (*range(ROUND, count, ROUND), count):
        for name in names:
            s, done = SETTINGS[name], len(replicates_of(name))
            with _state(name).open("a") as file:
                for i in range(done, goal):
                    file.write(json.dumps(replicate(s, i)) + "\n")
                    file.flush()
    for name in names:
        row = summary(SETTINGS[name], replicates_of(name)[:count])
        said = ", ".join(f"{k} {v}" for k, v in row["coverage"].items())
        half = row["half_width_of_the_loss_beyond"]
        print(
            f"{name}: {said}; kind {row['kind_found']}; half {half:.4f}; {row['resampled']}; "
            f"out {row['left_out']}; misfits {row['misfits']}",
            flush=True,
        )
        keep("forecast_coverage", {name: row})


if __name__ == "__main__":
    arguments = sys.argv[1:]
    replicates = size(400, 2)
    if "--replicates" in arguments:
        at = arguments.index("--replicates")
        replicates = int(arguments[at + 1])
        del arguments[at : at + 2]
    main(arguments, replicates)
