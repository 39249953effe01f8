"""What a plan does to a model and its training: rescaling, groups, schedules, clipping."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from leadline.errors import LARGEST_RATE, check_choice, check_real
from leadline.parametrization.optimizers import BETAS
from leadline.planning.classes import GroupParameters
from leadline.planning.factors import Factors, Scaling, rescale_
from leadline.planning.formats import to_json
from leadline.tracing.held import entangled
from leadline.tracing.kinds import Kind

# A plain string attribute: deepcopy, pickle and wrappers keep it, state_dict does not.
_MARK = "_leadline_plan"


def apply(plan: Scaling, model: nn.Module, init: bool) -> nn.Module:
    """See ``Plan.apply``."""
    inner = _unwrapped(model)
    digest = hashlib.sha256(to_json(plan).encode()).hexdigest()[:16]
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
                rescale_(parameters[name], k, factors[id(k)].init)
    setattr(inner, _MARK, digest)
    return model


def _unwrapped(model: nn.Module) -> nn.Module:
    while True:
        inner = getattr(model, "_orig_mod", None) or getattr(model, "module", None)
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def _check_draw(plan: Scaling, parameters: Mapping[str, Tensor], kinds: Mapping[str, Kind]) -> None:
    """Is this what the builder draws? Loaded weights scaled again would be silently wrong."""
    totals: dict[int, tuple[Kind, float, int]] = {}
    for name, p in parameters.items():
        k = kinds[name]
        norm = torch.linalg.vector_norm(p.detach().float())
        square = float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm) ** 2
        _, total, count = totals.get(id(k), (k, 0.0, 0))
        totals[id(k)] = (k, total + square, count + p.numel())
    for k, total, count in totals.values():
        if not k.rule.predicts:
            continue
        expected = k.scale * k.init_ratio(plan.target, plan.base)
        actual = math.sqrt(total / count)
        # A tenth for rules that are known up to a few per cent, and six standard errors.
        if expected and actual:
            fine = abs(math.log(actual / expected)) < 0.1 + 6 / math.sqrt(count)
        else:
            fine = actual == expected
        if not fine:
            raise ValueError(
                f"parameter {k.template!r} has root mean square {actual:.4g} where the builder's draw "
                f"has {expected:.4g}: these are no fresh values of the builder (loaded, trained or scaled "
                "already?); for loaded or pretrained weights give apply(model, init=False)"
            )


@dataclass(frozen=True)
class BaseSettings:
    """An optimizer's settings at the base, as ``Plan.param_groups`` takes them."""

    lr: float
    weight_decay: float
    eps: float
    betas: tuple[float, float] | None
    others: Mapping[str, Any]

    def group(self, plan: Scaling, kind: Kind, f: Factors, decays: bool) -> dict[str, Any]:
        """The settings of a kind at the target."""
        o = plan.uses(kind)
        group: dict[str, Any] = {
            "lr": self.lr * f.lr,
            "weight_decay": self.weight_decay * f.weight_decay if decays else 0.0,
        }
        if o.name == "adafactor":
            # torch's pair: an ε for the second moment (its own default), the least RMS(weight).
            group["eps"] = (None, self.eps * f.eps)
        elif o.has_eps:
            group["eps"] = self.eps * f.eps
        changed = plan.batch_ratio != plan.token_ratio
        if o.averages_gradients and (self.betas is not None or changed):
            group["betas"] = plan.betas(BETAS if self.betas is None else self.betas)
        elif o.betas is not None and self.betas is not None:
            group["betas"] = self.betas
        return group | dict(self.others)


def param_groups(
    plan: Scaling, model: nn.Module, base: BaseSettings, no_decay: tuple[str, ...], part: str | None
) -> list[dict[str, Any]]:
    """See ``Plan.param_groups``."""
    check_real("lr", base.lr, 0.0, LARGEST_RATE, open_minimum=True)
    check_real("weight_decay", base.weight_decay, 0.0, LARGEST_RATE)
    if plan.optimizer_rule.orthogonal:
        if part is None:
            raise ValueError(
                "part=None with Muon: give part='muon' for the hidden matrices (torch.optim.Muon) and "
                "part='adamw' for the rest (torch.optim.AdamW), each with its own lr"
            )
        check_choice("part", part, ("muon", "adamw"))
    elif part is not None:
        raise ValueError(f"part={part!r} is for Muon: this plan is for {plan.optimizer_rule.name}")
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
        if part is not None and (plan.uses(k).name == "adamw") != (part == "adamw"):
            continue
        decays = not any(k.role == x or fnmatchcase(name, x) for x in no_decay)
        group = base.group(plan, k, factors[id(k)], decays)
        key = tuple(sorted((n, str(v)) for n, v in group.items()))
        rule, decays = plan.uses(k), group["weight_decay"] != 0
        empty = {"params": GroupParameters((), rule, decays), **group}
        groups.setdefault((rule.name, *key), empty)["params"].append(p)
    return list(groups.values())


def clip_grad_norm_(
    plan: Scaling, model: nn.Module, max_norm: float, beside: float = 0.0
) -> Tensor:
    """See ``Plan.clip_grad_norm_``: a weight w' = a w has the gradient ∂f/∂w = a ∂f/∂w'.

    Args:
        beside: norm of the gradients of weights that are trained elsewhere, which counts too.
    """
    check_real("max_norm", max_norm, 0.0, open_minimum=True)
    kinds = plan.kind_of(model)
    folds = {id(k): plan.kind_factors(k).fold for k in kinds.values()}
    grads = [
        (p.grad, folds[id(kinds[n])]) for n, p in model.named_parameters() if p.grad is not None
    ]
    if not grads:
        return torch.tensor(beside)
    norms = [torch.linalg.vector_norm(g) * a for g, a in grads]
    norms += [norms[0].new_tensor(beside)] if beside else []
    total = torch.linalg.vector_norm(torch.stack(norms))
    total = total.full_tensor() if hasattr(total, "full_tensor") else total
    scale = (max_norm / (total + 1e-6)).clamp(max=1.0)
    for g, _ in grads:
        g.mul_(scale)
    return total


class PlanScheduler(LRScheduler):
    """Runs a scheduler on one group with the base's learning rate, and hands its course to all.

    Schedulers that set absolute rates (OneCycleLR's max_lr, CosineAnnealingLR's eta_min) would make all
    groups equal; here each group keeps its ratio to the base, whatever the scheduler does.
    """

    def __init__(
        self, optimizer: Optimizer, factory: Any, lr: float, settings: dict[str, Any]
    ) -> None:
        check_real("lr", lr, 0.0, LARGEST_RATE, open_minimum=True)
        self.optimizer = optimizer
        self.lr = lr
        self.ratios = [g.get("initial_lr", g["lr"]) / lr for g in optimizer.param_groups]
        self._base = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr, momentum=0.9)
        try:
            self.inner = factory(self._base, **settings)
        except TypeError as e:
            raise TypeError(f"factory={factory!r} cannot be made from {settings!r}: {e}") from None
        self.last_epoch = getattr(self.inner, "last_epoch", 0)
        self._hand_out()

    def _hand_out(self) -> None:
        now = self._base.param_groups[0]["lr"]
        for g, ratio in zip(self.optimizer.param_groups, self.ratios, strict=True):
            g["lr"] = now * ratio
        self._last_lr = [g["lr"] for g in self.optimizer.param_groups]

    def step(self, *args: Any, **kwargs: Any) -> None:
        """One step of the scheduler."""
        # The inner optimizer never steps: tell torch that it did, in the right order.
        self._base._opt_called = True  # ty: ignore[missing-attribute]
        self.inner.step(*args, **kwargs)
        self.last_epoch = getattr(self.inner, "last_epoch", 0)
        self._hand_out()

    def get_lr(self) -> list[float | torch.Tensor]:
        """Rates of the groups now."""
        return list(self._last_lr)

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on."""
        return {
            "inner": self.inner.state_dict(),
            "lr": self._base.param_groups[0]["lr"],
            "ratios": list(self.ratios),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from ``state_dict``."""
        self.inner.load_state_dict(state_dict["inner"])
        self._base.param_groups[0]["lr"] = state_dict["lr"]
        self.ratios = list(state_dict["ratios"])
        self.last_epoch = getattr(self.inner, "last_epoch", 0)
        self._hand_out()
