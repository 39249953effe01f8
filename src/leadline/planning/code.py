"""A plan as plain PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from leadline.parametrization.optimizers import BETAS

if TYPE_CHECKING:
    from leadline.planning.plan import Plan

_HEAD = '''"""{title}

Factors of every parameter, and what is done with them; plain PyTorch.
"""

import torch

# name of the parameter: (initialization, learning rate, weight decay, eps{muon})
FACTORS = {{
{rows}
}}
'''
_RESCALE = '''

@torch.no_grad()
def rescale_(model):
    """Multiply the builder's own draw, once, after the model was initialized."""
    for name, p in model.named_parameters():
        if name in FACTORS:
            p.mul_(FACTORS[name][0])
    return model
'''
_GROUPS = '''

def param_groups(model, lr, weight_decay=0.0{eps}{part}):
    """Groups for {optimizer}; the arguments are the base's."""
    groups = {{}}
    for name, p in model.named_parameters():
        if not p.requires_grad and name not in FACTORS:
            continue
        _, rate, decay, small{use} = FACTORS[name]{skip}
        setting = {{"lr": lr * rate, "weight_decay": weight_decay * decay{set}}}
        key = tuple(sorted((k, str(v)) for k, v in setting.items()))
        groups.setdefault(key, {{"params": [], **setting}})["params"].append(p)
    return list(groups.values())
'''


def to_code(plan: Plan) -> str:
    """Source text: a table of factors by parameter name, and two functions.

    Raises:
        ValueError: the plan has no names (it was read from a file and taken to another size).
    """
    factors = plan.factors()
    muon = plan.optimizer.orthogonal
    rows = []
    for name, f in factors.items():
        kind = plan.kinds[plan.names[name]]
        if kind.role == "frozen":
            continue
        values = [repr(v) for v in (f.init, f.lr, f.weight_decay, f.eps)]
        if muon:
            values.append(repr(plan.uses(kind).name != "adamw"))
        rows.append(f"    {name!r}: ({', '.join(values)}),")
    scheme = plan.scheme if isinstance(plan.scheme, str) else plan.scheme.name
    title = f"{scheme}, {plan.optimizer.name}, ({plan.base}) to ({plan.target})."
    head = _HEAD.format(title=title, rows="\n".join(rows), muon=", by Muon" if muon else "")
    name = plan.optimizer.name
    betas = ""
    if plan.optimizer.update == "normalised" and plan.batch_ratio != plan.token_ratio:
        betas = f', "betas": {plan.betas(BETAS)!r}'
    if name == "adafactor":
        eps, setting = ", eps=1e-3", ', "eps": (None, eps * small)'
    elif plan.optimizer.has_eps:
        eps, setting = ", eps=1e-8", ', "eps": eps * small'
    elif muon:
        eps, setting = ", eps=1e-8", ', **({} if muon else {"eps": eps * small})'
    else:
        eps, setting = "", ""
    groups = _GROUPS.format(
        eps=eps,
        part=", muon=True" if muon else "",
        optimizer=(
            "torch.optim.Muon (muon=True) and torch.optim.AdamW (muon=False)" if muon else name
        ),
        use=", matrix" if muon else "",
        skip="\n        if matrix != muon:\n            continue" if muon else "",
        set=setting + betas,
    )
    return head + _RESCALE + groups
