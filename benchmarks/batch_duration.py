"""Does the AdamW rule for batch and duration keep the best learning rate? ./dev bench batch_duration

The rule (2512.22382), with b the batch and D the training tokens over the base's: rate and λ × √(b/D),
ε × √(D/b), 1 - β × b/D, and steps × D/b. Two problems on which the best base rate is sought on a grid,
with the factors of plan.param_groups and without them:

    quadratic   gradients h_i w_i + noise/√batch, h_i = 1/i, 200 coordinates, noise-dominated, ε
                a third of the noise; no weight decay (the optimum is at 0)
    digits      classification with a residual MLP (width 64, depth 2) on scikit-learn's digits,
                held-out loss, weight decay 0.1

Printed: log2 of the best rate over that of b = D = 1 (0 is transfer; ± one standard error over
seeds), and the loss at the base's best rate over the best. Writes benchmarks/results/batch_duration.json.
"""

from __future__ import annotations

import numpy as np
import torch
from history import keep, size
from sklearn.datasets import load_digits

import leadline as ll

SETTINGS = size(((1, 1), (2, 1), (4, 1), (1, 2), (1, 4), (4, 4)), ((1, 1), (2, 1)))
BETAS = (0.9, 0.98)
BASE = dict(width=64, depth=2)
build = ll.residual_mlp(64, 10)


def groups(
    b: int, d: int, rule: bool, lr: float, model: torch.nn.Module, decay: float, eps: float
) -> list[dict]:
    """At the base's size all parameters share one group: batch and duration alone."""
    how = dict(batch_ratio=b, token_ratio=d) if rule else {}
    plan = ll.plan(build, BASE, **how)
    return plan.param_groups(model, lr=lr, weight_decay=decay, eps=eps, betas=BETAS)


def quadratic(b: int, d: int, rule: bool, lr: float, seeds: int = 48) -> np.ndarray:
    """Mean loss of the last tenth of the steps, by seed."""
    g = torch.Generator().manual_seed(0)
    h = 1 / torch.arange(1, 201)
    w = torch.ones(seeds, 200)
    (setting,) = groups(b, d, rule, lr, build(64, 2), 0.0, 1.0)
    optimizer = torch.optim.AdamW([{**setting, "params": [w]}])
    losses = []
    steps = size(512, 64) * d // b
    for step in range(steps):
        w.grad = h * w + 3.0 * torch.randn(w.shape, generator=g) / b**0.5
        optimizer.step()
        if step >= 0.9 * steps:
            losses.append((0.5 * h * w * w).sum(1))
    return torch.stack(losses).mean(0).double().numpy()


def digits(b: int, d: int, rule: bool, lr: float, seeds: int = size(8, 3)) -> np.ndarray:
    """Held-out cross-entropy after training, by seed."""
    data = load_digits()
    x = torch.tensor(data.data / 16.0, dtype=torch.float32)
    y = torch.tensor(data.target)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(1))
    train, test = order[:1200], order[1200:]
    out = []
    for seed in range(seeds):
        torch.manual_seed(seed)
        model = build(64, 2)
        optimizer = torch.optim.AdamW(groups(b, d, rule, lr, model, 0.1, 1e-8))
        for _ in range(size(200, 4) * d // b):
            rows = train[torch.randint(len(train), (8 * b,))]
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
        with torch.no_grad():
            out.append(float(torch.nn.functional.cross_entropy(model(x[test]), y[test])))
    return np.array(out)


PROBLEMS = {
    "quadratic": (quadratic, 2.0 ** np.arange(-8.0, -1.9, 0.5)),
    "digits": (digits, 2.0 ** np.arange(-11.5, -6.4, 0.5)),
}


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


def main() -> None:
    rows = []
    print("problem    rule   b D   log2 best/base's best   loss at base's best / at best")
    for name, (run, rates) in PROBLEMS.items():
        at_base, base_error = 0.0, 0.0
        for b, d in SETTINGS:
            for rule in (True, False) if (b, d) != (1, 1) else (True,):
                table = np.array([run(b, d, rule, float(lr)) for lr in rates])
                found, error = optimum(rates, table)
                if (b, d) == (1, 1):
                    at_base, base_error = found, error
                mean = np.log(table.mean(1))
                there = np.interp(at_base, np.log2(rates), mean)
                row = dict(problem=name, rule=rule, batch=b, tokens=d)
                row |= dict(shift=found - at_base, error=float(np.hypot(error, base_error)))
                row |= dict(
                    excess=float(np.exp(there - mean.min())), best_loss=float(np.exp(mean.min()))
                )
                rows.append(row)
                print(
                    f"{name:10s} {'yes' if rule else 'no':5s}  {b} {d}   "
                    f"{row['shift']:+.2f} ± {row['error']:.2f}         {row['excess']:.3f}"
                    f"   (best loss {row['best_loss']:.4f})",
                    flush=True,
                )
    keep("batch_duration", {"shifts": {"rows": rows}})


if __name__ == "__main__":
    main()
