"""One run as a user would train it: the real module, autograd and torch's own optimizers."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from leadline.parametrization.optimizers import BETAS, EPS
from leadline.sweeps.data import Samples, Tokens
from leadline.sweeps.first import output
from leadline.sweeps.rates import Rates
from leadline.sweeps.specification import Run
from leadline.tracing.builder import construct, seeded

# A run is given up when its loss is not finite or this many times its first.
DIVERGED = 10.0
# Steps between two looks at the losses.
EVERY = 10


@dataclass(frozen=True)
class Result:
    """What is kept of one run."""

    values: dict[str, Any]
    """loss (training set, at the end), test_loss, diverged, stopped, steps_done, seconds."""
    curve: np.ndarray
    """(steps_done,) the batch's loss before each step."""


def alone(
    build: Any,
    rates: Rates,
    data: Samples | Tokens,
    run: Run,
    device: str,
    report: Callable[[int], None] | None = None,
) -> Result:
    """Train one run; whatever the module does, it is the module itself that does it."""
    started = time.perf_counter()
    data = data.on(torch.device(device))
    curve: list[Tensor] = []
    diverged = False
    with seeded(run.seed):
        model = rates.apply(construct(build, run.size, run.seed)).to(device)
        optimizers = _optimizers(model, rates, run)
        for step in range(run.steps):
            x, y = data.batch(step, run.batch_size, run.seed)
            # The data stay as they are, whatever the model does to its inputs.
            loss = data.loss(output(model(x.clone())), y)
            for o in optimizers:
                o.zero_grad()
            loss.backward()
            for o in optimizers:
                o.step()
            curve.append(loss.detach())
            if step % EVERY == EVERY - 1 or step == run.steps - 1:
                now, begin = float(curve[-1]), float(curve[0])
                diverged = not np.isfinite(now) or now > DIVERGED * begin
            if diverged:
                break
            if report is not None:
                report(step + 1)
        losses = (None, None) if diverged else _evaluated(model, data)
    values = {
        "loss": losses[0],
        "test_loss": losses[1],
        "diverged": diverged,
        "stopped": False,
        "steps_done": len(curve),
        "seconds": time.perf_counter() - started,
    }
    return Result(values, torch.stack(curve).float().cpu().numpy())


def _evaluated(model: nn.Module, data: Samples | Tokens) -> tuple[float | None, float | None]:
    """Losses at the end on training and test data."""
    model.eval()
    found: list[float | None] = []
    with torch.no_grad():
        for batch in (data.train(), data.test()):
            value = np.nan if batch is None else float(
                data.loss(output(model(batch[0].clone())), batch[1]))  # fmt: skip
            found.append(value if np.isfinite(value) else None)
    return found[0], found[1]


def _optimizers(model: nn.Module, rates: Rates, run: Run) -> list[Optimizer]:
    """Torch's, with the rates of every parameter; equal ones are merged."""
    parameters = dict(model.named_parameters())
    groups: dict[tuple[bool, float, float, float], list[Tensor]] = {}
    for name, (f, muon) in rates.factors(model).items():
        key = (muon, run.lr * f.lr, run.weight_decay * f.weight_decay, EPS * f.eps)
        groups.setdefault(key, []).append(parameters[name])
    kind, betas = rates.optimizer, rates.betas(BETAS)
    momentum = kind.update == "gradient"
    matrices, rest = [], []
    for (muon, lr, decay, eps), some in groups.items():
        group: dict[str, Any] = {"params": some, "lr": lr, "weight_decay": decay}
        if muon:
            matrices.append(group)
        else:
            rest.append(group if momentum else group | {"eps": eps, "betas": betas})
    return kind.make(rest, matrices, **({"momentum": run.momentum} if momentum else {}))
