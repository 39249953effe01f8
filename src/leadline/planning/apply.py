"""Rescaling a model's own initialization, once."""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from leadline.tracing.held import entangled

if TYPE_CHECKING:
    from leadline.planning.plan import Plan

# A plain string attribute: deepcopy, pickle and wrappers keep it, state_dict does not.
_MARK = "_leadline_plan"


def apply(plan: Plan, model: nn.Module, init: bool) -> nn.Module:
    """See ``Plan.apply``."""
    inner = _unwrapped(model)
    digest = hashlib.sha256(plan.to_json().encode()).hexdigest()[:16]
    before = getattr(inner, _MARK, None)
    if before == digest:
        return model
    if before is not None:
        raise ValueError(
            "another plan was applied to this model before: apply one plan to a fresh model from the "
            "builder"
        )
    kinds = plan.kind_of(model)
    if init:
        parameters = dict(model.named_parameters())
        meta = [n for n, p in parameters.items() if p.is_meta]
        if meta:
            raise ValueError(
                f"parameter {meta[0]!r} is on the meta device: materialise and initialise the model "
                "(to_empty, then its own initialization) before apply"
            )
        factors = {id(k): plan.kind_factors(k) for k in kinds.values()}
        scaled = {n: k for n, k in kinds.items() if factors[id(k)].init != 1.0}
        pair = entangled(model) if scaled else None
        if pair is not None:
            raise ValueError(
                f"parameters {pair[0]!r} and {pair[1]!r} lie on the same memory and would be scaled twice: "
                "tie them as one Parameter under both names, or take the view in the forward pass"
            )
        _check_draw(plan, {n: parameters[n] for n in scaled}, scaled)
        with torch.no_grad():
            for name, k in scaled.items():
                if k.scale:
                    parameters[name].mul_(factors[id(k)].init)
    setattr(inner, _MARK, digest)
    return model


def _unwrapped(model: nn.Module) -> nn.Module:
    while True:
        inner = getattr(model, "_orig_mod", None) or getattr(model, "module", None)
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def _check_draw(plan: Plan, parameters: dict[str, Tensor], kinds: dict[str, Any]) -> None:
    """Is this what the builder draws? Loaded weights scaled again would be silently wrong."""
    totals: dict[int, tuple[Any, float, int]] = {}
    for name, p in parameters.items():
        k = kinds[name]
        norm = torch.linalg.vector_norm(p.detach().float())
        square = float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm) ** 2
        _, total, count = totals.get(id(k), (k, 0.0, 0))
        totals[id(k)] = (k, total + square, count + p.numel())
    for k, total, count in totals.values():
        if not k.rule.predicts:
            continue
        due = k.scale * k.rule.ratio(k.dims(plan.target, plan.base), k.dims(plan.base, plan.base))
        actual = math.sqrt(total / count)
        # A tenth for rules that are known up to a few per cent, and six standard errors.
        fine = (actual == 0) if due == 0 else (
            actual > 0 and abs(math.log(actual / due)) < 0.1 + 6 / math.sqrt(count))  # fmt: skip
        if not fine:
            raise ValueError(
                f"parameter {k.template!r} has root mean square {actual:.4g} where the builder's draw "
                f"has {due:.4g}: these are no fresh values of the builder (loaded, trained or scaled "
                "already?); for loaded or pretrained weights give apply(model, init=False)"
            )
