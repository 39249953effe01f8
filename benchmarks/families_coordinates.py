"""Coordinate checks of the panel: does what training changes keep its size over width and depth?

For every planned ``model_type`` models of three widths and three depths take a few steps under the plan, on
one batch with a random target. Measured are the root mean squares of the output, of the last layer's output
(the stream), and of what the steps change in them. The exponents of the changes over width and over depth
are 0 in the limit. A factor of depth that is missing, or there twice, makes 1 or -1; a wrong one of width
½ or 1.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

import leadline as ll

WIDTHS, DEPTHS = (64, 128, 256), (2, 4, 8)
SEEDS, STEPS, LR = 2, 2, 2e-3
BAND = 0.35
"""Exponents of a change up to this are none: wrong factors make ½ or 1."""


def quantities(plan: ll.Plan, build: Any, inputs: Any, optimizer: str) -> dict[str, float]:
    """Root mean squares at the plan's target: output and stream, and their changes."""
    total: dict[str, float] = {}
    for seed in range(SEEDS):
        torch.manual_seed(seed)
        model = plan.apply(build(plan.target.width, plan.target.depth))
        for m in model.modules():
            if isinstance(m, nn.Dropout):
                m.eval()
        with stream(model) as kept:
            before = [output(model, inputs), kept[-1]]
            train(plan, model, inputs, optimizer)
            after = [output(model, inputs), kept[-1]]
        for name, a, b in zip(("output", "stream"), before, after, strict=True):
            for what, x in ((name, a), (f"change of {name}", b - a)):
                total[what] = (
                    total.get(what, 0.0) + float(x.detach().double().square().mean()) / SEEDS
                )
    return {k: v**0.5 for k, v in total.items()}


def train(plan: ll.Plan, model: nn.Module, inputs: Any, optimizer: str) -> None:
    """A few steps towards a random target."""
    settings = dict(lr=LR) if optimizer == "adamw" else dict(lr=10 * LR, adamw=dict(lr=LR))
    o = plan.optimizer(model, **settings)
    for _ in range(STEPS):
        y = output(model, inputs)
        target = torch.randn(y.shape, generator=torch.Generator().manual_seed(7))
        ((y - target) ** 2).mean().backward()
        o.step()
        o.zero_grad()


def output(model: nn.Module, inputs: Any) -> Tensor:
    """The first tensor of numbers that it makes."""
    torch.manual_seed(11)
    out = model(**inputs)
    return next(x for x in tree_flatten(dict(out))[0] if torch.is_floating_point(x))


class stream:
    """Keeps what the last module of the longest list of layers made last."""

    def __init__(self, model: nn.Module) -> None:
        lists = [m for m in model.modules() if isinstance(m, nn.ModuleList) and len(m)]
        self.layer = max(reversed(lists), key=len)[-1] if lists else model
        self.kept: list[Tensor] = []

    def __enter__(self) -> list[Tensor]:
        def keep(_m: Any, _a: Any, out: Any) -> None:
            tensors = [x for x in tree_flatten(out)[0] if isinstance(x, Tensor)]
            self.kept.append(next(x for x in tensors if torch.is_floating_point(x)).detach())

        self.handle = self.layer.register_forward_hook(keep)
        return self.kept

    def __exit__(self, *_: object) -> None:
        self.handle.remove()


def exponents(
    plan: ll.Plan, build: Any, inputs: Any, optimizer: str
) -> dict[str, dict[str, float]]:
    """Exponents over width and over depth of every quantity."""
    out = {}
    for axis, sizes in (("width", WIDTHS), ("depth", DEPTHS)):
        seen = [
            quantities(
                plan.at(s, plan.base.depth) if axis == "width" else plan.at(plan.base.width, s),
                build, inputs, optimizer,
            )
            for s in sizes
        ]  # fmt: skip
        logs = np.log(sizes)
        out[axis] = {
            k: round(float(np.polyfit(logs, np.log([s[k] for s in seen]), 1)[0]), 3)
            for k in seen[0]
            if all(s[k] > 0 for s in seen)
        }
    return out


def check(plan: ll.Plan, build: Any, inputs: Any, optimizer: str) -> dict[str, Any]:
    """What a family's coordinates do, and whether that is as it should be."""
    started = time.perf_counter()
    slopes = exponents(plan, build, inputs, optimizer)
    changes = {
        f"{k} over {axis}": v
        for axis, of in slopes.items()
        for k, v in of.items()
        if k.startswith("change")
    }
    off = {k: v for k, v in changes.items() if abs(v) > BAND}
    return {
        "verdict": "off" if off else "in the band",
        "off": off,
        "exponents": slopes,
        "seconds": round(time.perf_counter() - started, 1),
    }
