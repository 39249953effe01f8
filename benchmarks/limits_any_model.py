"""Does the error bar of a builder's limit hold? ./dev bench limits_any_model [case ...]

Small language models under AdamW and convolutional networks under SGD: ``limit(rtol=0.02)``, mostly with
the fast ensemble, over width at two blocks and over width and depth, from small sizes; then one
large solve with seeds of its own. Reported are the bar at the last step relative to the
initial loss, and the largest difference over steps between limit and large solve, in units of the bar
and the solve's own 95 % interval together: at most about 1 where the bar holds. The large solve is no
limit itself: its distance counts against the bar.

Finished sizes are kept in --work (build/limits_any_model): the same command goes on.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from history import TOY, keep, size
from scipy import stats
from wide_models import CASES

import leadline as ll

RTOL = size(0.02, 0.3)


@dataclass(frozen=True)
class Measured:
    """A model and recipe, what its limit is over, where it begins, and the larger solve."""

    case: str
    recipe: Any
    over: str
    width: int
    seeds: int
    large: tuple[int, int]
    large_seeds: int
    ensemble: str = size("fast", "gaussian")


ADAMW = ll.AdamW(lr=3e-3, steps=size(8, 2), weight_decay=0.1)
SGD = ll.SGD(lr=0.05, steps=size(8, 2), momentum=0.9)
# Over width and depth: at lr = 0.05 the bar was still 3.4 % when 4096 x 8 was asked for, an hour of a core.
SLOWER = ll.SGD(lr=0.025, steps=size(8, 2), momentum=0.9)
MEASURED = {
    "mlp-both": Measured("residual MLP, 2 layers a block", ADAMW, "both", 64, 8, (512, 32), 8),
    "gpt-width": Measured("GPT, fused qkv", ADAMW, "width", 64, 8, (1024, 2), 4),
    "conv-width": Measured("conv ResNet", SGD, "width", 32, 8, (1024, 2), 8),
    "gpt-both": Measured("GPT, fused qkv", ADAMW, "both", 64, 8, (256, 16), 4),
    "conv-both": Measured("conv ResNet", SLOWER, "both", 32, 8, (512, 32), 4, "gaussian"),
}
if TOY:
    SMALL = Measured("residual MLP, 1 layers a block", SGD, "width", 16, 2, (32, 2), 2)
    MEASURED = {"mlp-width": SMALL}


def measure(name: str, work: Path, seconds: float) -> dict[str, Any]:
    """The limit of a case and its larger solve, read where they are finished."""
    m, case = MEASURED[name], CASES[MEASURED[name].case]()
    folder = work / name
    folder.mkdir(parents=True, exist_ok=True)
    how: dict[str, Any] = {"base": case.base, "ensemble": m.ensemble}
    found = ll.limit(
        case.task, case.build, m.recipe, RTOL, over=m.over, width=m.width, depth=2, seeds=m.seeds,
        seconds=seconds, checkpoint=folder, **how,
    )  # fmt: skip
    print(found, flush=True)
    path = folder / "large.safetensors"
    if not path.exists():
        width, depth = m.large
        large = dict(width=width, depth=depth, seeds=m.large_seeds, seed=2026, batch_seed=0)
        ll.solve(case.task, case.build, m.recipe, **how, **large).save(path)
    large = ll.Trajectory.load(path)
    quantile = stats.t.isf(0.025, large.seeds - 1)
    difference = found.train_loss - large.mean()
    ratio = np.abs(difference) / np.hypot(found.train_loss_error, quantile * large.error())
    last = {
        k: float(v[-1]) for k, v in (("loss", found.train_loss), ("bar", found.train_loss_error))
    }
    return {
        **last,
        "bar, share of the initial loss": last["bar"] / float(found.train_loss[0]),
        "large": f"{m.large[0]}x{m.large[1]}, {large.seeds} seeds",
        "large loss": float(large.mean()[-1]),
        "large error": float(quantile * large.error()[-1]),
        "largest difference over its interval": float(ratio.max()),
        "p of the series": found.p_value,
        "converged": found.converged,
        "sizes": [f"{c['width']}x{c['depth']}" for c in found.sizes],
        "seconds": sum(c["seconds"] for c in found.sizes),
        "agreement p": None if found.agreement is None else found.agreement.p_value,
    }


def main() -> None:
    """Print and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", choices=[[], *MEASURED], help="all if none is named")
    parser.add_argument("--work", type=Path, default=Path("build/limits_any_model"))
    parser.add_argument("--seconds", type=float, default=900.0, help="of each limit")
    options = parser.parse_args()
    for name in options.cases or MEASURED:
        row = measure(name, options.work / ("toy" if TOY else ""), options.seconds)
        print(name, row, flush=True)
        keep("limits_any_model", {name: row})


if __name__ == "__main__":
    main()
