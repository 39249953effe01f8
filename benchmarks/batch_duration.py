"""Do the rules for batch and duration keep the best rate? ./dev bench batch_duration [muon/quadratic ...]

The rules (rules.batch_factors; 2512.22382 for AdamW), with b the batch and D the training tokens over the
base's and k = b/D: steps × 1/k; AdamW's and Adam's rate × √k, ε × 1/√k, 1 - β × k; Lion's, Muon's and
Adafactor's rate × √k (Lion's here alone: plan refuses it); decoupled λ × √k; SGD's rate × k. Problems on
which the best base rate is sought on a grid, with the factors of plan.param_groups and without them:

    quadratic   gradients h_i w_i + noise/√batch, h_i = 1/i, 200 coordinates (Muon: 14×14), noise-dominated,
                ε a third of the noise; no weight decay (the optimum is at 0)
    digits      classification with a residual MLP (width 64, depth 2) on scikit-learn's digits,
                held-out loss, weight decay 0.1

Printed: log2 of the best rate over that of b = D = 1 (0 is transfer; ± one standard error over
seeds), and the loss at the base's best rate over the best. Without names AdamW alone, and writes
benchmarks/results/batch_duration.json; with names of optimizers, or optimizer/problem, those, into
batch_duration_optimizers.json; fewer seeds and settings.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from history import keep, size
from sklearn.datasets import load_digits

import leadline as ll
from leadline.parametrization.updates import LionUpdates
from leadline.planning.plans import Plan

SETTINGS = size(((1, 1), (2, 1), (4, 1), (1, 2), (1, 4), (4, 4)), ((1, 1), (2, 1)))
FEWER = size(((1, 1), (4, 1), (1, 2)), ((1, 1), (2, 1)))
BETAS = (0.9, 0.98)
BASE = dict(width=64, depth=2)
build = ll.residual_mlp(64, 10)


def settings(
    b: int, d: int, rule: bool, lr: float, decay: float, eps: float, name: str
) -> tuple[Plan, dict]:
    """A plan at the base's size, where batch and duration alone have factors, and the base's settings."""
    how = dict(batch_ratio=b, token_ratio=d) if rule else {}
    if name == "lion" and rule:
        # The plan refuses it: here is the rule that did not hold.
        how, lr, decay = {}, lr * (b / d) ** 0.5, decay * (b / d) ** 0.5
    betas = dict(betas=BETAS) if name in ("adam", "adamw", "muon") else {}
    return ll.plan(build, BASE, optimizer=name, **how), dict(
        lr=lr, weight_decay=decay, eps=eps, **betas
    )


def quadratic(
    b: int, d: int, rule: bool, lr: float, name: str = "adamw", seeds: int = 0
) -> np.ndarray:
    """Mean loss of the last tenth of the steps, by seed."""
    seeds = seeds or {"muon": 2, "adafactor": 4, "lion": 16}.get(name, 48)
    g = torch.Generator().manual_seed(0)
    shape = (14, 14) if name == "muon" else (200,)
    h = (1 / torch.arange(1, 1 + int(np.prod(shape)))).view(shape)
    w = torch.ones(seeds, *shape)
    plan, how = settings(b, d, rule, lr, 0.0, 1e-3 if name == "adafactor" else 1.0, name)
    part = "muon" if name == "muon" else None
    setting = dict(plan.param_groups(build(64, 2), **how, part=part)[0])
    # One tensor a seed where a step sees the whole of it.
    setting["params"] = list(w) if name in ("muon", "adafactor") else [w]
    optimizer = CLASSES[name]([setting])
    losses = []
    steps = size(512, 64) * d // b
    for step in range(steps):
        gradient = h * w + 3.0 * torch.randn(w.shape, generator=g) / b**0.5
        for p, slope in zip(
            setting["params"], gradient if len(setting["params"]) > 1 else [gradient], strict=True
        ):
            p.grad = slope
        optimizer.step()
        if step >= 0.9 * steps:
            losses.append((0.5 * h * w * w).flatten(1).sum(1))
    return torch.stack(losses).mean(0).double().numpy()


def digits(
    b: int, d: int, rule: bool, lr: float, name: str = "adamw", seeds: int = 0
) -> np.ndarray:
    """Held-out cross-entropy after training, by seed."""
    data = load_digits()
    x = torch.tensor(data.data / 16.0, dtype=torch.float32)
    y = torch.tensor(data.target)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(1))
    train, test = order[:1200], order[1200:]
    out = []
    for seed in range(seeds or size(8 if name == "adamw" else 4, 3)):
        torch.manual_seed(seed)
        model = build(64, 2)
        plan, how = settings(b, d, rule, lr, 0.1, 1e-3 if name == "adafactor" else 1e-8, name)
        more = dict(adamw=dict(lr=lr / 16)) if name == "muon" else dict(factory=CLASSES[name])
        optimizer = plan.optimizer(model, **how, **more)
        for _ in range(size(200, 4) * d // b):
            rows = train[torch.randint(len(train), (8 * b,))]
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
        with torch.no_grad():
            out.append(float(torch.nn.functional.cross_entropy(model(x[test]), y[test])))
    return np.array(out)


CLASSES = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "lion": LionUpdates,
    "muon": torch.optim.Muon,
    "adafactor": torch.optim.Adafactor,
}
PROBLEMS = {"quadratic": quadratic, "digits": digits}
# log2 of the first and the last rate, by half an octave.
RATES = {
    ("quadratic", "adam"): (-8, -2), ("quadratic", "adamw"): (-8, -2),
    ("quadratic", "lion"): (-11, -6.5), ("quadratic", "muon"): (-9, -4),
    ("quadratic", "adafactor"): (-8.5, -4),
    ("digits", "adam"): (-11.5, -6.5), ("digits", "adamw"): (-11.5, -6.5),
    ("digits", "lion"): (-14.5, -9.5), ("digits", "muon"): (-8.5, -3.5),
    ("digits", "adafactor"): (-8, -3),
}  # fmt: skip


def best(rates: np.ndarray, losses: np.ndarray) -> float:
    """log2 of the rate at the vertex of a parabola through the smallest loss and its neighbours."""
    i = int(np.clip(losses.argmin(), 1, len(rates) - 2))
    a, b, c = np.log(losses[i - 1 : i + 2])
    step = np.log2(rates[1] / rates[0])
    return float(np.log2(rates[i]) + step * 0.5 * (a - c) / (a - 2 * b + c))


def optimum(rates: np.ndarray, table: np.ndarray) -> tuple[float, float]:
    """Of the mean over seeds, and its standard error by leaving one block of seeds out in turn."""
    blocks = np.array_split(np.arange(table.shape[1]), min(6, table.shape[1]))
    left = [best(rates, np.delete(table, k, 1).mean(1)) for k in blocks]
    n = len(left)
    return best(rates, table.mean(1)), float(np.sqrt((n - 1) ** 2 / n * np.var(left, ddof=1)))


def shifts(problem: str, name: str) -> list[dict]:
    """Every setting with the rule and without it; printed as it goes."""
    rows = []
    low, high = RATES[problem, name]
    rates = 2.0 ** np.arange(low, high + 0.1, 0.5)
    at_base, base_error = 0.0, 0.0
    for b, d in SETTINGS if name == "adamw" else FEWER:
        # Where nothing but the rate has a factor, no rule is off by that factor: log2(k)/2.
        both = name in ("adam", "adamw") and (b, d) != (1, 1)
        for rule in (True, False) if both else (True,):
            table = np.array([PROBLEMS[problem](b, d, rule, float(lr), name) for lr in rates])
            at, error = optimum(rates, table)
            if (b, d) == (1, 1):
                at_base, base_error = at, error
            mean = np.log(table.mean(1))
            there = np.interp(at_base, np.log2(rates), mean)
            row = dict(problem=problem, rule=rule, batch=b, tokens=d)
            row |= {} if name == "adamw" else dict(optimizer=name)
            row |= dict(shift=at - at_base, error=float(np.hypot(error, base_error)))
            row |= dict(
                excess=float(np.exp(there - mean.min())), best_loss=float(np.exp(mean.min()))
            )
            if mean.argmin() in (0, len(rates) - 1):
                row["edge"] = True
            rows.append(row)
            print(
                f"{problem:10s} {name:9s} {'yes' if rule else 'no':5s}  {b} {d}   "
                f"{row['shift']:+.2f} ± {row['error']:.2f}         {row['excess']:.3f}"
                f"   (best loss {row['best_loss']:.4f} at 2^{at:.2f})"
                + ("  the grid ends" if "edge" in row else ""),
                flush=True,
            )
    return rows


def main(names: list[str]) -> None:
    print("problem    optimizer rule   b D   log2 best/base's best   loss at base's best / at best")
    if not names:
        rows = [row for problem in PROBLEMS for row in shifts(problem, "adamw")]
        keep("batch_duration", {"shifts": {"rows": rows}})
    for name in names:
        optimizer, _, problem = name.partition("/")
        rows = [row for one in [problem] if problem for row in shifts(one, optimizer)]
        rows = rows or [row for one in PROBLEMS for row in shifts(one, optimizer)]
        keep("batch_duration_optimizers", {name: {"rows": rows}})


if __name__ == "__main__":
    main(sys.argv[1:])
