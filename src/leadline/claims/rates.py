"""What claims 9 and 10 share: loss over learning rate and depth, for every scheme, by ``sweep``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from leadline.claims.cell import Arrays, Cell
from leadline.claims.claim import Data
from leadline.claims.setting import Setting

if TYPE_CHECKING:
    from leadline.problems import Problem
    from leadline.transferring.analysis import AxisResult

SCHEMES = ("depth-mup", "depth-mup-corrected", "completep")
CORRECTED = "depth-mup-corrected"
METRICS = ("loss", "test_loss")

_SGD = tuple(2.0 ** (k / 2) for k in range(-8, 2))
_ADAMW = tuple(2.0 ** (k / 2) for k in range(-20, -7))
SIZES: dict[str, dict[str, Any]] = {
    "toy": dict(
        width=16, depths=(2, 4), samples=40, test=20, batch_size=10, seeds=3,
        lrs=dict(sgd=(0.1, 0.2, 0.4)),
    ),
    "quick": dict(
        width=32, depths=(2, 4, 8, 16, 32), samples=1200, test=500, batch_size=40, seeds=6,
        lrs=dict(sgd=_SGD, adamw=_ADAMW[::2]),
    ),
    "standard": dict(
        width=64, depths=(2, 4, 8, 16, 32, 64), samples=1200, test=500, batch_size=40, seeds=8,
        lrs=dict(sgd=_SGD, adamw=_ADAMW),
    ),
    "full": dict(
        width=128, depths=(2, 4, 8, 16, 32, 64), samples=20000, test=5000, batch_size=100, seeds=8,
        lrs=dict(sgd=_SGD, adamw=_ADAMW),
    ),
}  # fmt: skip

DESIGN = (
    "ResNets in PyTorch's convention with blocks h + W₂ relu(W₁h), all ten classes, "
    "cross-entropy, one pass over the data in small batches, so that no sample is seen twice and "
    "training and test loss mean the same. Every scheme trains every depth at every learning "
    "rate of a grid; rates are those of the shallowest network, carried to depth by the scheme, "
    "so that a scheme transfers if its best rate does not drift. Best rates, drift and regret are "
    "those of leadline transfer: their intervals are what the grid of rates leaves open, widened by "
    "a bootstrap over seeds."
)


def rates(
    problem: Problem,
    *,
    width: int,
    depth: int,
    base_depth: int,
    scheme: str,
    optimizer: str,
    lrs: Sequence[float],
    seeds: int,
    seed: int,
    steps: int,
    batch_size: int | None = None,
    device: str = "cpu",
) -> dict[str, np.ndarray]:
    """One size's losses on the grid: loss and test_loss (lrs, seeds), inf where diverged."""
    from leadline.models.residual import residual_mlp
    from leadline.sweeps.driver import Sweep, sweep
    from leadline.sweeps.runs import final_loss

    runs = range(seeds * seed, seeds * (seed + 1))
    done = sweep(
        residual_mlp(problem.dimension, problem.outputs),
        problem,
        widths=[width],
        depths=[depth],
        lrs=list(lrs),
        seeds=list(runs),
        steps=steps,
        batch_size=batch_size,
        scheme=scheme,
        optimizer=optimizer,
        base=dict(width=width, depth=base_depth),
        executor="inline",
        device=device,
    )
    assert isinstance(done, Sweep)
    if done.failed:
        raise RuntimeError("; ".join(done.failed))
    table = {(r["lr"], r["seed"]): r for r in done.rows}
    return {
        m: np.array([[final_loss(table[lr, s], m) for s in runs] for lr in lrs]) for m in METRICS
    }


def cells(setting: Setting) -> dict[str, Cell]:
    """One program of runs for each scheme, optimizer and depth."""
    z = SIZES[setting.preset]
    problem = setting.all(samples=z["samples"], test_samples=z["test"])
    out = {}
    for optimizer in z["lrs"]:
        for scheme in SCHEMES:
            for depth in z["depths"]:
                how = {k: z[k] for k in ("width", "seeds", "batch_size")} | {"seed": setting.seed}
                how |= dict(
                    depth=depth, base_depth=z["depths"][0], scheme=scheme, optimizer=optimizer
                )
                how |= dict(lrs=z["lrs"][optimizer], steps=z["samples"] // z["batch_size"])
                out[f"{optimizer} {scheme} {depth}"] = Cell(
                    "rates", problem, how, device=setting.device
                )
    return out


def data(setting: Setting, found: Mapping[str, Arrays]) -> dict[str, Any]:
    """Losses (depths, lrs, seeds) by optimizer, scheme and metric; −1 where a run diverged."""
    z = SIZES[setting.preset]

    def stacked(optimizer: str, scheme: str, metric: str) -> np.ndarray:
        v = np.stack([found[f"{optimizer} {scheme} {d}"][metric] for d in z["depths"]])
        return np.where(np.isfinite(v), v, -1.0)

    return {
        "width": z["width"],
        "depths": list(z["depths"]),
        "optimizers": list(z["lrs"]),
        "lrs": {o: list(z["lrs"][o]) for o in z["lrs"]},
        "curves": {
            o: {s: {m: stacked(o, s, m) for m in METRICS} for s in SCHEMES} for o in z["lrs"]
        },
    }


def losses(data: Data, optimizer: str, scheme: str, metric: str) -> np.ndarray:
    """(depths, lrs, seeds), inf where a run diverged."""
    v = np.asarray(data["curves"][optimizer][scheme][metric], dtype=float)
    return np.where(v < 0, np.inf, v)


def axis(data: Data, optimizer: str, scheme: str, metric: str = "loss") -> AxisResult:
    """Drift, regret and verdict over depth, by leadline's own analysis of transfer."""
    v = losses(data, optimizer, scheme, metric)
    return _axis(
        scheme, tuple(data["depths"]), tuple(data["lrs"][optimizer]), v.shape[2], v.tobytes()
    )


@lru_cache(maxsize=64)
def _axis(
    scheme: str, depths: tuple[int, ...], lrs: tuple[float, ...], seeds: int, values: bytes
) -> AxisResult:
    """The analysis of losses (depths, lrs, seeds): its bootstrap is asked for again and again."""
    from leadline.transferring.transfer import from_rows

    v = np.frombuffer(values).reshape(len(depths), len(lrs), seeds)
    rows = [
        dict(scheme=scheme, width=1, depth=d, lr=lr, seed=s, loss=float(v[i, j, s]))
        for i, d in enumerate(depths)
        for j, lr in enumerate(lrs)
        for s in range(seeds)
    ]
    return from_rows(rows, [scheme], "loss", ("depth",)).axes[0]
