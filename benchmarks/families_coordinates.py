"""Coordinate checks of the panel: does what training changes keep its size over width and depth?

For every planned ``model_type`` models of three widths and three depths take a few steps under the plan,
on one batch with a random target. Measured are the root mean squares of the output, of what the layers make
(the stream), and of what the steps change in them. The exponents of the changes over width and over depth
are 0 in the limit. A factor of depth that is missing, or there twice, makes 1 or -1; a wrong one of width
½ or 1.

The stream over depth is what the last layer makes; over width what the last but one makes, as the last
one's norm may hold the readout's multiplier. At small sizes an exponent may be far from its limit (what a
random readout makes of the change falls as n^-½ until what it learns outweighs that; at two layers the
stream is mostly what it begins with), and far from anything where the steps are large. So an axis with
something outside the band is measured again at sizes four times as large and an eighth of the learning
rate, and that counts.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

import leadline as ll

SIZES = {"width": ((64, 128, 256), (256, 512, 1024)), "depth": ((2, 4, 8), (8, 16, 32))}
RATES = (2e-3, 2.5e-4)
"""At the first sizes, and at the larger ones."""
SEEDS, STEPS = 2, 2
BAND = 0.35
"""Exponents of a change up to this are none: wrong factors make ½ or 1."""


def quantities(
    plan: ll.Plan, build: Any, inputs: Any, optimizer: str, lr: float, stack: str, back: int
) -> dict[str, float]:
    """Root mean squares at the plan's target: output and stream, and their changes.

    Args:
        stack: the list of layers, by name; "" for none, when the stream is the output.
        back: 1 for what the last of the layers makes that run, 2 for the last but one.
    """
    total: dict[str, float] = {}
    inputs = taken(inputs, plan.target.width, plan.target.depth)
    for seed in range(SEEDS):
        torch.manual_seed(seed)
        model = plan.apply(build(plan.target.width, plan.target.depth))
        for m in model.modules():
            if isinstance(m, nn.Dropout):
                m.eval()
        before = ran(model, inputs, stack, back)
        train(plan, model, inputs, optimizer, lr)
        after = ran(model, inputs, stack, back)
        for name, a, b in zip(("output", "stream"), before, after, strict=True):
            for what, x in ((name, a), (f"change of {name}", b - a)):
                total[what] = (
                    total.get(what, 0.0) + float(x.detach().double().square().mean()) / SEEDS
                )
    return {k: v**0.5 for k, v in total.items()}


def taken(inputs: Any, width: int, depth: int) -> dict[str, Any]:
    """What a model of that size takes."""
    return inputs(width, depth) if callable(inputs) else inputs


def ran(model: nn.Module, inputs: Any, stack: str, back: int) -> tuple[Tensor, Tensor]:
    """The output and the stream."""
    kept: dict[int, Tensor] = {}

    def keep(i: int) -> Any:
        def hook(_m: Any, _a: Any, out: Any) -> None:
            kept[i] = first_of(out)

        return hook

    held = list(model.get_submodule(stack).children()) if stack else []
    if held and not any(list(m.children()) or isinstance(m, nn.LayerNorm) for m in held):
        # Lists of convolutions or readouts are parts of layers: what is made of them all is the stream.
        held = [model.get_submodule(stack.rpartition(".")[0])]
    handles = [m.register_forward_hook(keep(i)) for i, m in enumerate(held)]
    out = output(model, inputs)
    for handle in handles:
        handle.remove()
    made = [kept[i] for i in sorted(kept)] or [out]
    return out, made[-min(back, len(made))]


def train(plan: ll.Plan, model: nn.Module, inputs: Any, optimizer: str, lr: float) -> None:
    """A few steps towards a random target."""
    settings = dict(lr=lr) if optimizer == "adamw" else dict(lr=10 * lr, adamw=dict(lr=lr))
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
    return first_of(model(**inputs))


def first_of(out: Any) -> Tensor:
    """The first tensor of numbers among what a module makes."""
    leaves = tree_flatten(dict(out) if isinstance(out, Mapping) else out)[0]
    return next(x for x in leaves if isinstance(x, Tensor) and torch.is_floating_point(x))


def layers(build: Any, inputs: Any, base: Any) -> str:
    """The last list that grows with depth and whose layers run, by name; "" for none."""
    few, more = build(base.width, base.depth), build(base.width, 2 * base.depth)
    here = {n: len(list(m.children())) for n, m in few.named_modules()}
    run: list[str] = []
    for name, m in more.named_modules():
        if isinstance(m, nn.ModuleList | nn.Sequential) and len(m) > here.get(name, len(m)):
            for each in m.children():
                each.register_forward_hook(lambda _m, _a, _o, name=name: run.append(name))
    more(**taken(inputs, base.width, 2 * base.depth))
    return run[-1] if run else ""


def exponents(
    plan: ll.Plan,
    build: Any,
    inputs: Any,
    optimizer: str,
    lr: float,
    axis: str,
    sizes: Sequence[int],
) -> dict[str, float]:
    """The exponent of every quantity over an axis."""
    stack = layers(build, inputs, plan.base)
    seen = []
    for s in sizes:
        at = plan.at(s, plan.base.depth) if axis == "width" else plan.at(plan.base.width, s)
        back = 2 if axis == "width" else 1
        seen.append(quantities(at, build, inputs, optimizer, lr, stack, back))
    return {
        k: round(float(np.polyfit(np.log(sizes), np.log([s[k] for s in seen]), 1)[0]), 3)
        for k in seen[0]
        if all(s[k] > 0 for s in seen)
    }


def check(plan: ll.Plan, build: Any, inputs: Any, optimizer: str) -> dict[str, Any]:
    """What a family's coordinates do, and whether that is as it should be."""
    started = time.perf_counter()
    slopes: dict[str, dict[str, float]] = {}
    off: dict[str, float] = {}
    # The scheme mup says nothing of depth, nor does the plan of a model that has none.
    alone = plan.scheme == "mup" or plan.width_alone
    for axis, choices in SIZES.items() if not alone else (("width", SIZES["width"]),):
        for sizes, lr in zip(choices, RATES, strict=True):
            name = f"{axis} {sizes[0]} to {sizes[-1]}"
            slopes[name] = exponents(plan, build, inputs, optimizer, lr, axis, sizes)
            changes = {k: v for k, v in slopes[name].items() if k.startswith("change")}
            wrong = {f"{k} over {name}": v for k, v in changes.items() if abs(v) > BAND}
            if not wrong:
                break
        off |= wrong
    return {
        "verdict": "off" if off else "in the band",
        "off": off,
        "exponents": slopes,
        "seconds": round(time.perf_counter() - started, 1),
    }
