"""Torch optimizers that torch does not have: Lion, signSGD, and Muon without bfloat16."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

# Newton–Schulz: x ← a x + (b xxᵀ + c (xxᵀ)²) x, the coefficients of torch.optim.Muon.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
# Least norm that is divided by.
_LEAST = 1e-7


class PlainOptimizer(Optimizer):
    """An optimizer that updates one parameter after the other."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step of every parameter that has a gradient; the closure's loss, if there is one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._update(p, p.grad, self.state[p], group)
        return loss

    def _update(
        self, p: Tensor, g: Tensor, state: dict[str, Tensor], group: dict[str, Any]
    ) -> None:
        """Move a parameter in place."""
        raise NotImplementedError


class LionUpdates(PlainOptimizer):
    """Lion (2302.06675), with m = 0 at first:

        w ← (1 - lr·λ) w - lr·sign(β₁ m + (1 - β₁) g),   m ← β₂ m + (1 - β₂) g.

    Args:
        lr: rate. betas: β₁, β₂. weight_decay: λ.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, dict(lr=lr, betas=betas, weight_decay=weight_decay))

    def _update(
        self, p: Tensor, g: Tensor, state: dict[str, Tensor], group: dict[str, Any]
    ) -> None:
        first, second = group["betas"]
        if "exp_avg" not in state:
            state["exp_avg"] = torch.zeros_like(p)
        average = state["exp_avg"]
        p.mul_(1 - group["lr"] * group["weight_decay"])
        p.add_(average.lerp(g, 1 - first).sign_(), alpha=-group["lr"])
        average.lerp_(g, 1 - second)


class SignUpdates(PlainOptimizer):
    """signSGD and, with momentum, Signum (1802.04434), with m = 0 at first:

        m ← μ m + (1 - μ) g,   w ← (1 - lr·λ) w - lr·sign(m).

    Args:
        lr: rate. momentum: μ. weight_decay: λ.
    """

    def __init__(
        self, params: Any, lr: float = 1e-4, momentum: float = 0.0, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay))

    def _update(
        self, p: Tensor, g: Tensor, state: dict[str, Tensor], group: dict[str, Any]
    ) -> None:
        if group["momentum"]:
            if "exp_avg" not in state:
                state["exp_avg"] = torch.zeros_like(p)
            g = state["exp_avg"].lerp_(g, 1 - group["momentum"])
        p.mul_(1 - group["lr"] * group["weight_decay"])
        p.add_(g.sign(), alpha=-group["lr"])


class ExactMuon(PlainOptimizer):
    """torch.optim.Muon in the precision of its parameters, which torch's rounds to bfloat16.

    Args:
        lr: rate. weight_decay: λ. momentum, nesterov, ns_steps, adjust_lr_fn: as of torch's.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 0.02,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
    ) -> None:
        how = dict(momentum=momentum, nesterov=nesterov, ns_steps=ns_steps)
        defaults = dict(lr=lr, weight_decay=weight_decay, adjust_lr_fn=adjust_lr_fn, **how)
        super().__init__(params, defaults)

    def _update(
        self, p: Tensor, g: Tensor, state: dict[str, Tensor], group: dict[str, Any]
    ) -> None:
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(g)
        buffer = state["momentum_buffer"].lerp_(g, 1 - group["momentum"])
        update = g.lerp(buffer, group["momentum"]) if group["nesterov"] else buffer
        adjusted = group["lr"] * muon_factor(group["adjust_lr_fn"], *p.shape)
        p.mul_(1 - group["lr"] * group["weight_decay"])
        p.add_(newton_schulz(update, group["ns_steps"]), alpha=-adjusted)


def muon_factor(adjust_lr_fn: str | None, rows: int, columns: int) -> float:
    """What Muon multiplies its rate by, for a matrix of this shape."""
    if adjust_lr_fn == "match_rms_adamw":
        return 0.2 * math.sqrt(max(rows, columns))
    return math.sqrt(max(1.0, rows / columns))


def newton_schulz(x: Tensor, steps: int = 5) -> Tensor:
    """Matrices (*, a, b) with singular values brought near 1, in the precision of ``x``.

    It acts on singular values alone: U S Vᵀ becomes U f(S/‖S‖) Vᵀ.
    """
    a, b, c = COEFFICIENTS
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True).clamp(min=_LEAST)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x.mT if tall else x
