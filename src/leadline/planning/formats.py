"""A plan as text: a table, JSON, and plain PyTorch."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import asdict, replace
from typing import Any

from leadline.disk import strict
from leadline.disk.write import as_path
from leadline.errors import check_choice, cut
from leadline.parametrization.optimizers import BETAS, optimizer
from leadline.parametrization.rules import Power
from leadline.parametrization.schemes import Scheme
from leadline.planning.factors import NAMES, Scaling
from leadline.tabular.tables import text_table
from leadline.tracing.builder import Size
from leadline.tracing.initialization import Rule
from leadline.tracing.kinds import Kind, Naming

_VERSION = 1
# Fields that are JSON as they are.
_PLAIN = ("batch_ratio", "token_ratio", "decay")
_HEAD = '''"""{title}

Factors of every parameter, and what is done with them; plain PyTorch.
"""

import torch

# name of the parameter: (initialization, learning rate, weight decay, eps{muon})
FACTORS = {{
{rows}
}}
'''
_OFFSETS = """
# What the forward pass adds to these before it multiplies by them: c + w is scaled.
OFFSETS = {{
{rows}
}}
"""
_RESCALE = '''

@torch.no_grad()
def rescale_(model):
    """Multiply the builder's own draw, once, after the model was initialized."""
    for name, p in model.named_parameters():
        if name in FACTORS:
            p.{scale}
    return model
'''
_GROUPS = '''

def param_groups(model, lr, weight_decay=0.0{eps}{part}):
    """Groups for {optimizer}; the arguments are the base's."""
    groups = {{}}
    for name, p in model.named_parameters():
        if not p.requires_grad and not FACTORS.get(name, (1.0, 0.0))[1]:
            continue
        _, rate, decay, small{use} = FACTORS[name]{skip}
        setting = {{"lr": lr * rate, "weight_decay": weight_decay * decay{set}}}
        key = tuple(sorted((k, str(v)) for k, v in setting.items()))
        groups.setdefault(key, {{"params": [], **setting}})["params"].append(p)
    return list(groups.values())
'''


def table(plan: Scaling) -> str:
    """What ``print(plan)`` shows."""
    header = [
        *("parameter", "count", "role", "branch", "layer"),
        *("init", "lr", "decay", "eps", "folds", "draw", "reason"),
    ]
    counts = Counter(plan.names.values())
    rows = []
    for i, k in enumerate(plan.kinds):
        f = plan.kind_factors(k)
        layer = ""
        if k.position is not None:
            layer = f"{k.position + 1}/{k.layers}" + ("*" if k.last else "")
        rows.append(
            [
                *(k.template, str(counts.get(i, "")), k.role, k.branch or "", layer),
                *(f"{x:.4g}" for x in (f.init, f.lr, f.weight_decay, f.eps)),
                *(" ".join(what for what, _ in k.takes), str(k.rule), k.reason),
            ]
        )
    title = f"plan: {plan.scheme_name}, {plan.optimizer_rule.name}, ({plan.base}) → ({plan.target})"
    notes = ["* last weight layer of its branch"]
    if plan.width_alone:
        notes.append(f"for depth={plan.base.depth} alone: {plan.width_alone}")
    return "\n".join([title, text_table(header, rows, left=99), *notes])


def to_json(plan: Scaling) -> str:
    """All but the builder."""
    data: dict[str, Any] = {"leadline_plan": _VERSION}
    for name in ("base", "target"):
        data[name] = asdict(getattr(plan, name))
    data["optimizer"] = asdict(plan.optimizer_rule)
    data["scheme"] = asdict(plan.scheme) if isinstance(plan.scheme, Scheme) else plan.scheme
    data["kinds"] = [asdict(k) for k in plan.kinds]
    data["names"] = dict(plan.names)
    data["naming"] = {k: list(v) for k, v in plan.naming.free.items()}
    data["stacked"] = sorted(plan.naming.stacked)
    data["branches"] = dict(plan.branches)
    for name in (*_PLAIN, "width_alone"):
        data[name] = getattr(plan, name)
    return json.dumps(strict.seal(data), indent=1, ensure_ascii=False)


def from_json(text: str | bytes) -> dict[str, Any]:
    """The fields of the plan that ``to_json`` wrote.

    Raises:
        ValueError: it is no plan.
    """
    try:
        data = strict.unseal(text)
        if data.pop("leadline_plan") != _VERSION:
            raise ValueError("another version")
        scheme = data["scheme"]
        if isinstance(scheme, str):
            check_choice("scheme", scheme, NAMES)
        else:
            scheme = Scheme(**scheme)
        return {
            "scheme": scheme,
            "optimizer_rule": replace(optimizer(data["optimizer"]["name"]), **data["optimizer"]),
            "base": Size(**data["base"]),
            "target": Size(**data["target"]),
            "kinds": tuple(_kind(k) for k in data["kinds"]),
            "naming": Naming(
                {k: tuple(v) for k, v in data["naming"].items()}, frozenset(data.get("stacked", ()))
            ),
            "width_alone": data.get("width_alone", ""),
            **{name: data[name] for name in ("names", "branches", *_PLAIN)},
        }
    except (KeyError, TypeError, AttributeError, ValueError) as e:
        raise ValueError(
            f"text is no plan ({type(e).__name__}: {e}): give what save wrote, or plan again"
        ) from None


def _kind(data: dict[str, Any]) -> Kind:
    takes = tuple((what, Power(**p)) for what, p in data.pop("takes"))
    return Kind(
        takes=takes,
        present=Power(**data.pop("present")),
        rule=Rule(**data.pop("rule")),
        shape=tuple(data.pop("shape")),
        grows=tuple(data.pop("grows")),
        tied=tuple(data.pop("tied")),
        constant=tuple(data.pop("constant", ())),
        layered=tuple(data.pop("layered", ())),
        **data,
    )


def load(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The fields of the plan in a file of ``Plan.save``.

    Raises:
        FileNotFoundError, OSError: it cannot be read. ValueError: it is no plan.
    """
    shown = f"path={cut(repr(str(as_path('path', path))), 300)}"
    try:
        text = strict.read(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"{shown} does not exist: give what save wrote") from None
    except (OSError, ValueError) as e:
        raise OSError(
            f"{shown} cannot be read ({cut(str(e), 300)}): give what save wrote"
        ) from None
    try:
        return from_json(text)
    except ValueError as e:
        raise ValueError(f"{shown}: {e}") from None


def to_code(plan: Scaling) -> str:
    """Source text: a table of factors by parameter name, and two functions.

    Raises:
        ValueError: the plan has no names (it was read from a file and taken to another size).
    """
    factors = plan.factors()
    muon = plan.optimizer_rule.orthogonal
    rows = []
    for name, f in factors.items():
        kind = plan.kinds[plan.names[name]]
        frozen = kind.role == "frozen"
        if frozen and f.init == 1.0:
            continue
        values = [repr(v) for v in (f.init, 0.0 if frozen else f.lr, f.weight_decay, f.eps)]
        if muon:
            values.append(repr(plan.uses(kind).name != "adamw"))
        rows.append(f"    {name!r}: ({', '.join(values)}),")
    title = f"{plan.scheme_name}, {plan.optimizer_rule.name}, ({plan.base}) to ({plan.target})."
    head = _HEAD.format(title=title, rows="\n".join(rows), muon=", by Muon" if muon else "")
    name = plan.optimizer_rule.name
    changed = plan.batch_ratio != plan.token_ratio and (
        muon or plan.optimizer_rule.averages_gradients
    )
    betas = f', "betas": {plan.betas(BETAS)!r}' if changed else ""
    if name == "adafactor":
        eps, setting = ", eps=1e-3", ', "eps": (None, eps * small)'
    elif plan.optimizer_rule.has_eps:
        eps, setting = ", eps=1e-8", ', "eps": eps * small'
    elif muon:
        rest = f'"eps": eps * small{betas}'
        eps, setting, betas = ", eps=1e-8", f", **({{}} if muon else {{{rest}}})", ""
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
    shifted = [(n, plan.kinds[plan.names[n]].offset) for n in factors]
    rows = [f"    {n!r}: {c!r}," for n, c in shifted if c]
    scale = "mul_(FACTORS[name][0])"
    if rows:
        head += _OFFSETS.format(rows="\n".join(rows))
        scale = f"add_(OFFSETS.get(name, 0.0)).{scale}.sub_(OFFSETS.get(name, 0.0))"
    return head + _RESCALE.format(scale=scale) + groups
