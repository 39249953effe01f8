"""Exponents of what plans promise, measured: ./dev bench exponents [scheme ...]

Two-layer ReLU blocks h + W2 relu(W1 h) in PyTorch's convention (nn.Linear, its own draw), random
inputs, true backpropagation, plan.apply and plan.param_groups, SGD and AdamW, a few steps at a rate
small enough that the response is linear. The loss is linear too, -mean(y f): an error that depends on
f(θ_0) would double the seeds' noise. Over depth 4 … 64 (width 256) and width 64 … 512 (depth 4):

    own     RMS of ΔW1 h, h the present input of W1, all layers together
    effect  RMS over samples of f(θ_0 + ΔW1 of every layer) - f(θ_0)

Slopes are over the last two octaves, ± the 95 % of seeds (Student's t); local slopes octave by octave.
Due: own r^(a + c) over depth and m^(q - p) over width; effect r^(1 + 2a + c) over depth, m^0 over width.
Without a branch multiplier (sp, mup) the stream grows exponentially with depth and no exponent exists:
due is then the slope of the mean field at these very depths (``unscaled``). sp over width: its gradients
are m^-½ and its rates 1, so own m^½ and effect m with SGD, m and m^1½ with Adam. Nobody wants these.
Results go to benchmarks/results/exponents.json.
"""

from __future__ import annotations

import math
import sys

import numpy as np
import torch
from history import keep, size
from scipy import stats
from torch import Tensor, nn

import leadline as ll
from leadline.parametrization.schemes import SCHEMES
from leadline.planning.plans import Plan

NAMES = size(("sp", "ntk", "mup", "depth-mup", "depth-mup-corrected", "completep"), ("completep",))
OPTIMIZERS = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}
DEPTHS, WIDTHS = size(((4, 8, 16, 32, 64), (64, 128, 256, 512)), ((2, 4, 8), (64, 96, 128)))
DEEP = size(256, 64)
"""Width of the depths."""
BASE, STEPS, SEEDS, INPUTS, SAMPLES = dict(width=64, depth=4), 4, size(12, 2), 16, 4


class Block(nn.Module):
    def __init__(self, n: int) -> None:
        super().__init__()
        self.one, self.two = (nn.Linear(n, n, bias=False) for _ in range(2))

    def forward(self, h: Tensor) -> Tensor:
        return h + self.two(torch.relu(self.one(h)))


class Net(nn.Module):
    """(samples, INPUTS) -> (samples, 1)."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.embed = nn.Linear(INPUTS, width, bias=False)
        self.blocks = nn.Sequential(*(Block(width) for _ in range(depth)))
        self.readout = nn.Linear(width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(self.blocks(self.embed(x)))


def data() -> tuple[Tensor, Tensor]:
    """Random inputs, targets ±1."""
    g = torch.Generator().manual_seed(0)
    y = torch.tensor([1.0, -1.0]).repeat(SAMPLES // 2)[:, None]
    return torch.randn(SAMPLES, INPUTS, generator=g), y


@torch.enable_grad()
def trained(plan: Plan, width: int, depth: int, seed: int, lr: float) -> tuple[nn.Module, Net]:
    """A model at initialization and after STEPS steps."""
    plan = plan.at(width, depth)
    models = []
    for _ in range(2):
        torch.manual_seed(seed)
        models.append(plan.apply(Net(width, depth)).double())
    start, model = models
    optimizer = OPTIMIZERS[plan.optimizer_rule.name](plan.param_groups(model, lr=lr))
    x, y = (t.double() for t in data())
    for _ in range(STEPS):
        optimizer.zero_grad()
        (-model(x) * y).mean().backward()
        optimizer.step()
    return start, model


@torch.no_grad()
def measure(plan: Plan, width: int, depth: int, seed: int, lr: float) -> tuple[float, float]:
    """RMS of own update and effect of W1."""
    start, model = trained(plan, width, depth, seed, lr)
    x = data()[0].double()
    h, total = model.embed(x), 0.0
    for before, now in zip(start.blocks, model.blocks, strict=True):
        total += float(((now.one.weight - before.one.weight) @ h.T).square().mean())
        h = now(h)
    f0 = start(x)
    for before, now in zip(start.blocks, model.blocks, strict=True):
        before.one.weight.copy_(now.one.weight)
    return math.sqrt(total / depth), float((start(x) - f0).square().mean().sqrt())


@torch.no_grad()
def bent(plan: Plan, width: int, depth: int, lr: float) -> float:
    """How far the output's change is from twice that at half the rate, relative."""
    x = data()[0].double()
    changes = []
    for rate in (lr, lr / 2):
        start, model = trained(plan, width, depth, 0, rate)
        changes.append(model(x) - start(x))
    full, half = changes
    return float(torch.linalg.vector_norm(full - 2 * half) / torch.linalg.vector_norm(full))


def linear_rate(plan: Plan) -> float:
    """The largest rate, by factors of 2, with a response linear within 5 % at the extreme sizes."""
    lr = 0.1
    for at in ((64, 4), (DEEP, DEPTHS[-1]), (WIDTHS[-1], 4)):
        while not bent(plan, *at, lr) < 0.05:
            lr /= 2
    return lr


def fit(sizes: tuple[int, ...], values: np.ndarray) -> dict:
    """Slope of log values (sizes, seeds) over the last two octaves, its error, local slopes."""
    x, y = np.log(sizes), np.log(values)
    local = (np.diff(y, axis=0) / np.diff(x)[:, None]).mean(1)
    slopes = np.polyfit(x[-3:], y[-3:], 1)[0]
    error = stats.t.ppf(0.975, len(slopes) - 1) * slopes.std(ddof=1) / math.sqrt(len(slopes))
    return dict(
        slope=round(float(slopes.mean()), 3),
        error=round(float(error), 3),
        local=[round(float(s), 3) for s in local],
    )


def unscaled(optimizer: str) -> tuple[float, float]:
    """Slopes of own and effect over the last depths when branches have no multiplier.

    nn.Linear draws variances 1/(3 fan_in) and ReLU keeps half: |h|² grows by ρ = 1 + 1/18 a block, and
    squared gradients by as much on the way down. Correlations between samples are left out.
    """
    rho, own, effect = 1 + 1 / 18, [], []
    for depth in DEPTHS:
        block = np.arange(depth)
        h, g = rho**block, rho ** (depth - 1.0 - block)
        if optimizer == "sgd":  # ΔW1 h = η g h·h
            own.append(np.sqrt((g * h**2).mean()))
            effect.append((g * h).sum())
        else:  # ΔW1 = η sign(g hᵀ)
            own.append(np.sqrt(h.mean()))
            effect.append(np.sqrt(g * h).sum())
    x = np.log(DEPTHS[-3:])
    return tuple(float(np.polyfit(x, np.log(y[-3:]), 1)[0]) for y in (own, effect))


def due(scheme: str, optimizer: str) -> dict[str, float]:
    """Of own and effect over both axes."""
    if scheme == "sp":
        width = (0.5, 1.0) if optimizer == "sgd" else (1.0, 1.5)
        depth = unscaled(optimizer)
    else:
        s = SCHEMES[scheme]
        own = s.branch + s.rate_internal
        width = (s.rate_width + s.readout, 0.0)
        depth = (own, 1 + s.branch + own) if s.branch else unscaled(optimizer)
    out = {}
    for axis, pair in (("depth", depth), ("width", width)):
        out |= {f"{q} {axis}": round(v, 3) for q, v in zip(("own", "effect"), pair, strict=True)}
    return out


def main(names: list[str]) -> None:
    lines = []
    print("scheme               optimizer  quantity      due   slope ± 95 %       local slopes")
    for name in names or NAMES:
        for optimizer in OPTIMIZERS:
            plan = ll.plan(Net, BASE, scheme=name, optimizer=optimizer)
            lr = linear_rate(plan)
            axes = {"depth": [(DEEP, d) for d in DEPTHS], "width": [(w, 4) for w in WIDTHS]}
            for axis, sizes in axes.items():
                values = np.array(
                    [[measure(plan, *s, seed, lr) for seed in range(SEEDS)] for s in sizes]
                )
                for k, quantity in enumerate(("own", "effect")):
                    key = f"{quantity} {axis}"
                    row = dict(
                        scheme=name,
                        optimizer=optimizer,
                        quantity=key,
                        due=due(name, optimizer)[key],
                    )
                    row |= fit(DEPTHS if axis == "depth" else WIDTHS, values[:, :, k]) | {"lr": lr}
                    lines.append(row)
                    print(
                        f"{name:20s} {optimizer:9s}  {key:12s} "
                        f"{row['due']:+.2f}   "
                        f"{row['slope']:+.3f} ± {row['error']:.3f}   "
                        + " ".join(f"{s:+.2f}" for s in row["local"]),
                        flush=True,
                    )
    if names:
        return
    setting = dict(base=BASE, depths=DEPTHS, widths=WIDTHS, width_of_depths=DEEP)
    setting |= dict(depth_of_widths=4, steps=STEPS, seeds=SEEDS, samples=SAMPLES)
    keep("exponents", {"exponents": {"setting": setting, "rows": lines}})


if __name__ == "__main__":
    main(sys.argv[1:])
