"""Does an optimizer still have the plan's ratios?"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from torch import nn
from torch.optim import Optimizer

from leadline.planning.plan import Plan

_WORDS = {"lr": "learning rate", "weight_decay": "weight decay", "eps": "eps"}


def lost_ratios(plan: Plan, model: nn.Module, optimizers: Sequence[Optimizer]) -> dict[str, str]:
    """Kinds of parameters whose settings are not the base's times the plan's factors.

    The base's value is taken to be the one that most parameters agree on.

    Returns:
        Messages by parameter template.
    """
    kinds = plan.kind_of(model)
    factors = {n: plan.kind_factors(k) for n, k in kinds.items()}
    names = {id(p): n for n, p in model.named_parameters()}
    settings: dict[str, dict[str, float]] = {}
    for o in optimizers:
        for group in o.param_groups:
            for p in group["params"]:
                if id(p) in names:
                    eps = group.get("eps")
                    settings[names[id(p)]] = {
                        "lr": float(group["lr"]),
                        "weight_decay": float(group.get("weight_decay", 0.0)),
                        **({"eps": float(eps)} if isinstance(eps, float | int) else {}),
                    }
    out: dict[str, str] = {}
    for n, k in kinds.items():
        if k.role != "frozen" and n not in settings:
            out[k.template] = f"{k.template}: not in the optimizer: it is never trained"
    for what in ("lr", "weight_decay", "eps"):
        implied = {}
        for n, s in settings.items():
            f = getattr(factors[n], what)
            if s.get(what, 0.0) and not (what == "eps" and not plan.uses(kinds[n]).has_eps):
                implied[n] = s[what] / f
        if not implied:
            continue
        base = _agreed(list(implied.values()))
        for n, value in implied.items():
            k = kinds[n]
            if abs(math.log(value / base)) > 1e-4 and k.template not in out:
                f = getattr(factors[n], what)
                out[k.template] = (
                    f"{k.template}: its {_WORDS[what]} is {settings[n][what]:.4g}, the plan asks "
                    f"{base * f:.4g} ({f:.4g} × the base's {base:.4g}): take plan.param_groups for the "
                    "optimizer, and plan.scheduler for a scheduler that sets absolute rates"
                )
    return out


def _agreed(values: list[float]) -> float:
    """The most frequent value, up to rounding; of equally frequent ones the largest."""
    counts = Counter(round(math.log(v), 5) for v in values)
    best = max(counts, key=lambda v: (counts[v], v))
    return next(v for v in values if round(math.log(v), 5) == best)
