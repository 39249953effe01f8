"""Has a solve the law of a dense training? ./dev bench law_any_model [--work FOLDER] [--until SECONDS]

A perceptron, a GPT and a convolutional network, by SGD and by AdamW, at three widths: ``train`` and
``solve`` (Gaussian and fast W(0)) over seeds that are fixed here and share nothing between the three.
Hidden weights are drawn from normal distributions: Gaussian solves then have the dense law at every width.
Compared are the means of the loss at half of the steps and at the last (Welch's t), and its spread there
(Levene's test); the smallest p-value over all comparisons with dense training is then multiplied by their
number. The fast ensemble has the same limit, not the same law: its differences are reported at every width.

Finished cells are kept in --work (build/law_any_model): the same command goes on.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
from history import TOY, keep, size
from scipy import stats
from torch import nn
from wide_models import CASES, Case

import leadline as ll

STEPS = size(8, 2)
SEEDS = size(32, 2)
# First seeds, fixed before anything was run.
FIRST = {"dense": 100_000, "gaussian": 200_000, "fast": 300_000}
NETWORKS = {
    "residual MLP": ("residual MLP, 2 layers a block", (16, 32, 64)),
    "GPT": ("GPT, fused qkv", (32, 64, 128)),
    "conv ResNet": ("conv ResNet", (16, 32, 64)),
}
OPTIMIZERS: dict[str, Any] = {
    "SGD": ll.SGD(lr=0.1, steps=STEPS, momentum=0.9, weight_decay=0.1),
    "AdamW": ll.AdamW(lr=3e-3, steps=STEPS, weight_decay=0.1),
}


def normal(build: Any) -> Any:
    """The builder with matrices and kernels drawn from normal distributions of torch's deviation."""

    def made(width: int, depth: int) -> nn.Module:
        model = build(width, depth)
        for p in model.parameters():
            if p.ndim >= 2:
                nn.init.normal_(p, std=(3 * p.numel() / p.shape[0]) ** -0.5)
        return model

    return made


def losses(case: Case, recipe: Any, width: int, which: str) -> np.ndarray:
    """Training losses (seeds, 2): at half of the steps and at the last."""
    options: dict[str, Any] = dict(
        base=case.base, width=width, depth=2, seeds=SEEDS, seed=FIRST[which], batch_seed=0
    )
    if which == "dense":
        t = ll.train(case.task, normal(case.build), recipe, **options)
    else:
        t = ll.solve(case.task, normal(case.build), recipe, ensemble=which, tol=0.0, **options)
    return np.asarray(t.train_loss)[:, [STEPS // 2, STEPS]]


def compare(a: np.ndarray, b: np.ndarray) -> dict[str, Any]:
    """Of two samples (seeds, 2): relative differences of means, z and p-values of means and spreads."""
    error = np.sqrt(a.var(0, ddof=1) / len(a) + b.var(0, ddof=1) / len(b))
    means = b.mean(0)
    return {
        "difference": [round(float(v), 5) for v in (a.mean(0) - means) / means],
        "error": [round(float(v), 5) for v in error / means],
        "spreads": [round(float(v), 3) for v in a.std(0, ddof=1) / b.std(0, ddof=1)],
        "p": [float(f"{v:.3g}") for v in stats.ttest_ind(a, b, equal_var=False).pvalue],
        "p_spread": [float(f"{v:.3g}") for v in (stats.levene(a[:, i], b[:, i]).pvalue for i in (0, 1))],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("build/law_any_model"))
    parser.add_argument("--until", type=float, default=float("inf"))
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    started, rows, least = time.perf_counter(), {}, []
    for name, (key, widths) in NETWORKS.items():
        case = CASES[key]()
        for label, recipe in OPTIMIZERS.items():
            for width in size(widths, widths[:1]):
                cell = {}
                for which in FIRST:
                    path = args.work / f"{name}-{label}-{width}-{which}{'-toy' * TOY}.npy"
                    if not path.exists():
                        if time.perf_counter() - started > args.until:
                            return
                        np.save(path, losses(case, recipe, width, which))
                    cell[which] = np.load(path)
                row = {w: compare(cell[w], cell["dense"]) for w in ("gaussian", "fast")}
                least += row["gaussian"]["p"] + row["gaussian"]["p_spread"]
                rows[f"{name}, {label}, n={width}"] = row
                print(f"{name}, {label}, n={width}: {row}", flush=True)
    family = min(1.0, len(least) * float(np.nanmin(least)))
    print(f"gaussian: {len(least)} comparisons, family-wise p = {family:.3g}")
    keep(
        "law_any_model", rows | {"family": {"comparisons": len(least), "p": family, "seeds": SEEDS}}
    )


if __name__ == "__main__":
    main()
