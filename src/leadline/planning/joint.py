"""A plan's torch optimizer as one object: torch's class, another library's, or Muon with AdamW."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer as TorchOptimizer

from leadline.parametrization.optimizers import MUON_MOMENTUM, OPTIMIZERS, Optimizer
from leadline.planning.application import BaseSettings, param_groups
from leadline.planning.factors import Scaling

Factory = Callable[..., TorchOptimizer]
_REST = ("lr", "weight_decay", "eps", "betas")


class JointOptimizer(TorchOptimizer):
    """Several optimizers, each with groups of its own, as one: Muon for matrices, AdamW for the rest.

    Groups and states are those of the parts, so that schedulers, scalers of gradients and
    ``state_dict`` see one optimizer.

    Args:
        parts: optimizers, whose parameters do not overlap.
    """

    def __init__(self, parts: Sequence[TorchOptimizer]) -> None:
        self._parts: list[TorchOptimizer] = []
        groups = [g for part in parts for g in part.param_groups]
        super().__init__(groups, {"lr": parts[0].defaults["lr"]})
        self._counts = [(type(part), part.defaults, len(part.param_groups)) for part in parts]
        self._parts = list(parts)
        self.state: defaultdict[Any, Any] = defaultdict(dict)
        for part in parts:
            self.state.update(part.state)
        self._share()

    def _share(self) -> None:
        """Let every part work on the groups and states of the whole."""
        first = 0
        made = self._parts or [kind.__new__(kind) for kind, _, _ in self._counts]
        for part, (_, defaults, count) in zip(made, self._counts, strict=True):
            groups = self.param_groups[first : first + count]
            part.__setstate__({"defaults": defaults, "state": self.state, "param_groups": groups})
            first += count
        self._parts = made

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_counts": self._counts}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.__dict__.setdefault("_parts", [])
        self._share()

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Only while it is made: the plan says which part a parameter belongs to.

        Raises:
            ValueError: it has been made.
        """
        if self._parts:
            raise ValueError(
                "add_param_group: nothing says which part would train these parameters; plan with a model "
                "that has them, and make the optimizer again"
            )
        super().add_param_group(param_group)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of every part; the closure is called once."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self._parts:
            part.step()
        return loss


def optimizer(
    plan: Scaling,
    model: nn.Module,
    base: BaseSettings,
    no_decay: tuple[str, ...],
    adamw: Mapping[str, Any] | None,
    factory: Factory | None,
    settings: Mapping[str, Any],
) -> TorchOptimizer:
    """See ``Plan.optimizer``."""
    rule = plan.optimizer_rule
    if base.betas is not None and not rule.orthogonal and rule.betas is None:
        raise ValueError(f"betas={base.betas!r}: {rule.name} has none; leave them out")
    if not rule.orthogonal:
        if adamw is not None:
            raise ValueError(
                f"adamw={dict(adamw)!r} is for what Muon leaves to AdamW: this plan is for {rule.name}"
            )
        groups = param_groups(plan, model, base, no_decay, None)
        return _made(rule, groups, base.lr, factory, settings)
    others = dict(adamw or {})
    fields = {k: others.pop(k) for k in _REST if k in others}
    rest = replace(base, **fields)
    matrices = param_groups(plan, model, base, no_decay, "muon")
    remaining = param_groups(plan, model, rest, no_decay, "adamw")
    parts = [
        *([_made(rule, matrices, base.lr, factory, settings)] if matrices else []),
        *([_made(OPTIMIZERS["adamw"], remaining, rest.lr, None, others)] if remaining else []),
    ]
    return parts[0] if len(parts) == 1 else JointOptimizer(parts)


def _made(
    rule: Optimizer,
    groups: list[dict[str, Any]],
    lr: float,
    factory: Factory | None,
    settings: Mapping[str, Any],
) -> TorchOptimizer:
    """An optimizer of these groups, of torch's class if there is no factory.

    The base's rate is its default: what schedules with absolute rates are relative to.
    """
    if factory is None:
        factory = rule.torch_kind("give factory=, a class or callable (groups, lr=..., **settings)")
        if rule.orthogonal:
            settings = {"momentum": MUON_MOMENTUM, "adjust_lr_fn": rule.adjust_lr, **settings}
    name = getattr(factory, "__name__", repr(factory))
    try:
        made = factory(groups, lr=lr, **settings)
    except TypeError as e:
        shown = ", ".join(["groups", f"lr={lr!r}", *(f"{k}={v!r}" for k, v in settings.items())])
        raise TypeError(f"{name}({shown}) cannot be made: {e}") from None
    if not isinstance(made, TorchOptimizer):
        raise TypeError(
            f"factory={name} returned {type(made).__name__}: return a torch.optim.Optimizer"
        )
    return made
