"""Optimizer groups from names and shapes alone."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from leadline.errors import LARGEST_RATE, check_choice, check_real
from leadline.parametrization.optimizers import BETAS

if TYPE_CHECKING:
    from leadline.planning.plan import Plan


def param_groups(
    plan: Plan,
    model: nn.Module,
    lr: float,
    weight_decay: float,
    eps: float,
    betas: tuple[float, float] | None,
    no_decay: tuple[str, ...],
    part: str | None,
    settings: dict[str, Any],
) -> list[dict[str, Any]]:
    """See ``Plan.param_groups``."""
    check_real("lr", lr, 0.0, LARGEST_RATE, open_minimum=True)
    check_real("weight_decay", weight_decay, 0.0, LARGEST_RATE)
    muon = plan.optimizer.orthogonal
    if muon:
        if part is None:
            raise ValueError(
                "part=None with Muon: give part='muon' for the hidden matrices (torch.optim.Muon) and "
                "part='adamw' for the rest (torch.optim.AdamW), each with its own lr"
            )
        check_choice("part", part, ("muon", "adamw"))
    elif part is not None:
        raise ValueError(f"part={part!r} is for Muon: this plan is for {plan.optimizer.name}")
    kinds = plan.kind_of(model)
    for x in no_decay:
        if not any(k.role == x or fnmatchcase(name, x) for name, k in kinds.items()):
            raise ValueError(
                f"no_decay: {x!r} is no role and matches no parameter: give roles of this model "
                f"({', '.join(sorted({k.role for k in kinds.values()}))}) or patterns of names"
            )
    factors = {id(k): plan.kind_factors(k) for k in kinds.values()}
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    for name, p in model.named_parameters():
        k = kinds[name]
        if k.role == "frozen":
            if p.requires_grad:
                raise ValueError(
                    f"parameter {name!r} trains in this model and was frozen in the builder's, so the plan "
                    "has no rate for it: plan with a builder in which it trains"
                )
            continue
        o = plan.uses(k)
        if part is not None and (o.name == "adamw") != (part == "adamw"):
            continue
        f = factors[id(k)]
        excluded = any(k.role == x or fnmatchcase(name, x) for x in no_decay)
        group: dict[str, Any] = {
            "lr": lr * f.lr,
            "weight_decay": 0.0 if excluded else weight_decay * f.weight_decay,
        }
        if o.name == "adafactor":
            # torch's pair: an ε for the second moment (its own default), the least RMS(weight).
            group["eps"] = (None, eps * f.eps)
        elif o.has_eps:
            group["eps"] = eps * f.eps
        if o.update == "normalised" and (betas is not None or plan.batch_ratio != plan.token_ratio):
            group["betas"] = plan.betas(BETAS if betas is None else betas)
        group |= settings
        key = tuple(sorted((n, str(v)) for n, v in group.items()))
        groups.setdefault(key, {"params": [], **group})["params"].append(p)
    return list(groups.values())


def clip_grad_norm_(plan: Plan, model: nn.Module, max_norm: float) -> Tensor:
    """See ``Plan.clip_grad_norm_``: a weight w' = a w has the gradient ∂f/∂w = a ∂f/∂w'."""
    check_real("max_norm", max_norm, 0.0, open_minimum=True)
    kinds = plan.kind_of(model)
    folds = {id(k): plan.kind_factors(k).fold for k in kinds.values()}
    grads = [
        (p.grad, folds[id(kinds[n])]) for n, p in model.named_parameters() if p.grad is not None
    ]
    if not grads:
        return torch.zeros(())
    norms = [torch.linalg.vector_norm(g) * a for g, a in grads]
    total = torch.linalg.vector_norm(torch.stack(norms))
    total = total.full_tensor() if hasattr(total, "full_tensor") else total
    scale = (max_norm / (total + 1e-6)).clamp(max=1.0)
    for g, _ in grads:
        g.mul_(scale)
    return total
