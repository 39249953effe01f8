"""Is a solve the training of a dense model? ./dev bench replay [CASE ...]

Every case and recipe is solved in float64 with tol = 0, twelve steps on two batches; then W(0) is read off,
and the dense model of the same builder is trained from it with torch's optimizers. The largest relative
difference of the losses at any step goes to benchmarks/results/replay.json.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from history import keep, size
from wide_models import CASES, RECIPES, Case

from leadline.matrixfree.configuration import TaskConfiguration
from leadline.matrixfree.loop import TaskTraining
from leadline.matrixfree.solver import training

STEPS, DEPTH = size(12, 2), 2


@dataclass
class Replay:
    """Losses of a solve and of the dense training from its W(0).

    Attributes:
        wide: the weights that were wide, by name. error: of products, as the solve reports it.
    """

    solved: np.ndarray
    dense: np.ndarray
    wide: dict[str, Any]
    error: float

    @property
    def difference(self) -> float:
        """The largest relative difference at any step."""
        return float(np.abs(self.solved / self.dense - 1).max())


def replay(c: TaskConfiguration) -> Replay:
    """Solve run 0, read W(0) off, train the dense model."""
    work, updates = training(c, 0)
    ordinary = {
        n: p.detach().clone() for n, p in work.model.named_parameters() if n not in updates.wide
    }
    work.run()
    dense = c.model(0)
    with torch.no_grad():
        for name, p in dense.named_parameters():
            if name in updates.wide:
                whole = torch.stack([m.initial() for m in updates.wide[name].matrices])
                p.copy_(whole.reshape(p.shape))
            else:
                p.copy_(ordinary[name])
    other = TaskTraining(c, 0, dense, c.optimizers(dense))
    other.run()
    losses = [w.record.arrays["train_loss"] for w in (work, other)]
    return Replay(losses[0], losses[1], updates.wide, updates.error)


def configuration(case: Case, recipe: Any, **options: Any) -> TaskConfiguration:
    """Four times the base's width for small ones, twice for those with heads."""
    return TaskConfiguration(
        case.task,
        case.build,
        recipe,
        width=64,
        depth=DEPTH,
        base=case.base,
        dtype="float64",
        tol=0.0,
        **options,
    )


def main(names: list[str]) -> None:
    for name in names or size(list(CASES), list(CASES)[:1]):
        case = CASES[name]()
        row = {}
        for label, recipe in RECIPES.items():
            c = configuration(case, recipe(STEPS))
            for ensemble in ("gaussian", "fast"):
                r = replay(replace(c, ensemble=ensemble))
                row[f"{label}, {ensemble}"] = {
                    "difference": float(f"{r.difference:.2g}"),
                    "reported": float(f"{r.error:.2g}"),
                    "wide": len(r.wide),
                    "loss": [round(float(v), 4) for v in r.solved[[0, -1]]],
                }
        worst = max(v["difference"] for v in row.values())
        print(
            f"{name}: worst {worst:.1e}; "
            + ", ".join(f"{k} {v['difference']:.0e}" for k, v in row.items())
        )
        keep("replay", {name: row})


if __name__ == "__main__":
    main(sys.argv[1:])
