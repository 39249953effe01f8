"""Optimizers on stacks: parameters (K, ...) of K runs, a learning rate for each run.

The formulas and their order are those of torch.optim's single-tensor implementations, so that a stack
trains as K separate runs do, to float rounding.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

NAMES = ("sgd", "adam", "adamw", "muon", "muon-match-rms")
BETAS = (0.9, 0.999)
EPS = 1e-8
MUON_MOMENTUM = 0.95
# Newton–Schulz: x ← a x + (b xxᵀ + c (xxᵀ)²) x, the coefficients of torch.optim.Muon.
_A, _B, _C = 3.4445, -4.7750, 2.0315


class Stacked:
    """State and step of K runs.

    Args:
        lr, weight_decay, eps: by parameter name, (K,) values.
        muon: names of the parameters that Muon updates.
    """

    def __init__(
        self,
        name: str,
        lr: Mapping[str, Tensor],
        weight_decay: Mapping[str, Tensor],
        eps: Mapping[str, Tensor],
        momentum: Tensor,
        betas: tuple[float, float] = BETAS,
        muon: frozenset[str] = frozenset(),
    ) -> None:
        self.name, self.betas, self.muon = name, betas, muon
        self.lr, self.weight_decay, self.eps = dict(lr), dict(weight_decay), dict(eps)
        self.momentum = momentum
        self.state: dict[str, list[Tensor]] = {}
        self.steps = 0

    def step(self, parameters: dict[str, Tensor], gradients: Mapping[str, Tensor]) -> None:
        """Update every stack in place."""
        self.steps += 1
        for key, p in parameters.items():
            g = gradients[key]
            if self.name == "sgd":
                self._sgd(key, p, g)
            elif key in self.muon:
                self._muon(key, p, g)
            else:
                self._adam(key, p, g, coupled=self.name == "adam")

    def keep(self, rows: Tensor) -> None:
        """Go on with these runs alone."""
        for values in (self.lr, self.weight_decay, self.eps):
            for key in values:
                values[key] = values[key][rows]
        self.momentum = self.momentum[rows]
        self.state = {k: [t[rows] for t in s] for k, s in self.state.items()}

    def _sgd(self, key: str, p: Tensor, g: Tensor) -> None:
        decay = self.weight_decay[key]
        if decay.any():
            g = g + _over(decay, p) * p
        if self.momentum.any():
            if key not in self.state:
                self.state[key] = [g.clone()]
            else:
                self.state[key][0].mul_(_over(self.momentum, p)).add_(g)
            g = self.state[key][0]
        p.addcmul_(g, _over(self.lr[key], p), value=-1)

    def _adam(self, key: str, p: Tensor, g: Tensor, coupled: bool) -> None:
        decay, lr = self.weight_decay[key], self.lr[key]
        if decay.any():
            if coupled:
                g = g + _over(decay, p) * p
            else:
                p.mul_(_over(1 - lr * decay, p))
        b1, b2 = self.betas
        if key not in self.state:
            self.state[key] = [torch.zeros_like(p), torch.zeros_like(p)]
        first, second = self.state[key]
        first.lerp_(g, 1 - b1)
        second.mul_(b2).addcmul_(g, g, value=1 - b2)
        c1, c2 = 1 - b1**self.steps, 1 - b2**self.steps
        size = second.sqrt().div_(c2**0.5).add_(_over(self.eps[key], p))
        p.addcmul_(size.reciprocal_().mul_(first), _over(lr / c1, p), value=-1)

    def _muon(self, key: str, p: Tensor, g: Tensor) -> None:
        lr = self.lr[key]
        if key not in self.state:
            self.state[key] = [torch.zeros_like(p)]
        buffer = self.state[key][0]
        buffer.lerp_(g, 1 - MUON_MOMENTUM)
        update = orthogonalised(g.lerp(buffer, MUON_MOMENTUM))
        rows, columns = p.shape[1:]
        adjust = max(1.0, rows / columns) ** 0.5
        if self.name == "muon-match-rms":
            adjust = 0.2 * max(rows, columns) ** 0.5
        p.mul_(_over(1 - lr * self.weight_decay[key], p))
        p.addcmul_(update, _over(lr * adjust, p), value=-1)


def orthogonalised(g: Tensor, iterations: int = 5) -> Tensor:
    """Stacks (K, a, b) with singular values near 1: Newton–Schulz in bfloat16, as torch.optim.Muon."""
    x = g.bfloat16()
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.mT
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(iterations):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=_B, alpha=_C), x, beta=_A)
    return (x.mT if tall else x).to(g)


def _over(values: Tensor, p: Tensor) -> Tensor:
    """(K,) values against a stack (K, ...)."""
    return values.to(p).reshape(-1, *[1] * (p.ndim - 1))
