"""Did an optimizer or a scheduler keep the ratios to the base that the plan asks for?

The same optimizer and scheduler are made at the base, where every factor is 1: what they do there is the
reference, kind by kind and step by step. So groups may have rates of their own (an embedding's ten times
the others', Muon's and AdamW's), and schedules any course, as long as each keeps its ratio to the base.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer

from leadline.planning.plan import Plan

_WORDS = {"lr": "learning rate", "weight_decay": "weight decay", "eps": "eps"}
Settings = dict[str, dict[str, dict[str, float]]]
"""Template of a kind, name of a parameter, setting: its value."""


def settings(plan: Plan, model: nn.Module, optimizers: Sequence[Optimizer]) -> Settings:
    """What the optimizers do with every parameter now; {} for one that they do not hold."""
    groups = {id(p): g for o in optimizers for g in o.param_groups for p in g["params"]}
    kinds = plan.kind_of(model)
    out: Settings = {}
    for name, p in model.named_parameters():
        if kinds[name].role != "frozen":
            out.setdefault(kinds[name].template, {})[name] = _of(groups.get(id(p)))
    return out


def _of(group: dict[str, Any] | None) -> dict[str, float]:
    if group is None:
        return {}
    eps = group.get("eps")
    eps = eps[-1] if isinstance(eps, tuple | list) else eps
    found = {"lr": group["lr"], "weight_decay": group.get("weight_decay", 0.0), "eps": eps}
    return {k: float(v) for k, v in found.items() if v is not None}


def lost_ratios(
    plan: Plan, model: nn.Module, optimizers: Sequence[Optimizer], base: Settings, culprit: str
) -> dict[str, str]:
    """Compare settings with the base's times the plan's factors.

    Args:
        base: ``settings`` at the base, at the same step.
        culprit: who set them last, and the remedy.

    Returns:
        Messages by parameter template.
    """
    at_base = plan.at(plan.base.width, plan.base.depth)
    out: dict[str, str] = {}
    kinds = {k.template: k for k in plan.kind_of(model).values()}
    for template, members in settings(plan, model, optimizers).items():
        here, there = plan.kind_factors(kinds[template]), at_base.kind_factors(kinds[template])
        missing = [n for n, s in members.items() if not s]
        if missing:
            out[template] = (
                f"{template}: not in the optimizer: {missing[0]} is never trained; give it all of "
                "plan.param_groups(model, lr=...)"
            )
            continue
        for what, word in _WORDS.items():
            if what == "eps" and not plan.uses(kinds[template]).has_eps:
                continue
            ratio = getattr(here, what) / getattr(there, what)
            # Layers of a kind may differ at the base (layerwise decay): any of their values will do.
            values = {s[what] for s in base.get(template, {}).values() if what in s}
            for s in members.values():
                if what not in s or not values or any(_close(s[what], v * ratio) for v in values):
                    continue
                first = next(iter(values))
                out.setdefault(
                    template,
                    f"{template}: its {word} is {s[what]:.4g} at {plan.target}, the plan asks "
                    f"{first * ratio:.4g} ({ratio:.4g} × the base's {first:.4g}): {culprit}",
                )
    return out


def _close(a: float, b: float) -> bool:
    return a == b or (a * b > 0 and abs(math.log(a / b)) < 1e-4)
