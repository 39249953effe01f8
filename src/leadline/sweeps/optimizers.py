"""Optimizers on stacks: parameters (K, ...) of K runs, a learning rate for each run.

The formulas and their order are those of torch.optim's single-tensor implementations, so that a stack
trains as K separate runs do, to float rounding.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from leadline.parametrization.optimizers import BETAS, EPS, MUON_MOMENTUM, OPTIMIZERS
from leadline.planning.factors import Factors
from leadline.sweeps.rates import Rates
from leadline.sweeps.runs import TrainingRun

NAMES = tuple(name for name, o in OPTIMIZERS.items() if o.stacks)
# Entries of the stacks that are updated together: an update sweeps them several times.
_PIECE = 1 << 17
# Newton–Schulz: x ← a x + (b xxᵀ + c (xxᵀ)²) x, the coefficients of torch.optim.Muon.
_A, _B, _C = 3.4445, -4.7750, 2.0315


class Stacked:
    """State and step of K runs.

    Args:
        factors: of every parameter that trains, in order: on lr, decay and ε; and does Muon update it?
    """

    def __init__(
        self, rates: Rates, runs: Sequence[TrainingRun], factors: Sequence[tuple[Factors, bool]]
    ) -> None:
        def column(values: Sequence[float]) -> Tensor:
            return torch.tensor(values, dtype=torch.float32)

        lr, decay = column([r.lr for r in runs]), column([r.weight_decay for r in runs])
        eps = column([EPS] * len(runs))
        self.kind = rates.optimizer
        self.betas = rates.betas(self.kind.betas or BETAS)
        # (K,) of every parameter.
        self.lr = [lr * f.lr for f, _ in factors]
        self.weight_decay = [decay * f.weight_decay for f, _ in factors]
        self.eps = [eps * f.eps for f, _ in factors]
        self.momentum = column([r.momentum for r in runs])
        self.decays = any(bool(d.any()) for d in self.weight_decay)
        self.rolls = bool(self.momentum.any())
        self.muon = [muon for _, muon in factors]
        self.state: dict[int, list[Tensor]] = {}
        self.pieces: list[list[int]] = []
        self.steps = 0

    def step(
        self, parameters: Sequence[Tensor], gradients: Sequence[Tensor], factor: float = 1.0
    ) -> None:
        """Update every stack in place, with all learning rates times a factor."""
        if self.steps == 0:
            # (K,) values against stacks (K, ...).
            for values in (self.lr, self.weight_decay, self.eps):
                values[:] = [_over(v, p) for v, p in zip(values, parameters, strict=True)]
            self.momentum = self.momentum.to(parameters[0].device)
            self.pieces = self._pieces([p.numel() for p in parameters])
        self.steps += 1
        base = self.lr
        if factor != 1.0:
            self.lr = [x * factor for x in base]
        for piece in self.pieces:
            p, g = ([some[i] for i in piece] for some in (parameters, gradients))
            if self.kind.update == "gradient":
                self._sgd(piece, p, g)
            elif self.muon[piece[0]]:
                self._muon(piece[0], p[0], g[0])
            elif not (self.kind.has_eps or self.kind.orthogonal):
                self._sign(piece, p, g)
            else:
                self._adam(piece, p, g)
        self.lr = base

    def keep(self, rows: Tensor) -> None:
        """Keep only these runs."""
        for values in (self.lr, self.weight_decay, self.eps, *self.state.values()):
            values[:] = [v.index_select(0, rows) for v in values]
        self.momentum = self.momentum.index_select(0, rows)

    def _pieces(self, entries: list[int]) -> list[list[int]]:
        """Parameters updated together: few calls, and small enough for the caches."""
        pieces: list[list[int]] = []
        size = 0
        for i, n in enumerate(entries):
            alone = self.muon[i] or not pieces or self.muon[pieces[-1][0]]
            if alone or size + n > _PIECE:
                pieces.append([])
                size = 0
            pieces[-1].append(i)
            size += n
        return pieces

    def _kept(self, at: int, like: list[Tensor], count: int) -> list[list[Tensor]]:
        """State of a piece: ``count`` tensors for each parameter, 0 at first."""
        if at not in self.state:
            self.state[at] = [torch.zeros_like(p) for _ in range(count) for p in like]
        flat, n = self.state[at], len(like)
        return [flat[j * n : (j + 1) * n] for j in range(count)]

    def _sgd(self, piece: list[int], p: list[Tensor], g: list[Tensor]) -> None:
        if self.decays:
            g = list(torch._foreach_addcmul(g, [self.weight_decay[i] for i in piece], p))
        if self.rolls:
            # μ·0 + g is g, as torch.optim starts.
            (buffer,) = self._kept(piece[0], p, 1)
            torch._foreach_mul_(buffer, [_over(self.momentum, x) for x in p])
            torch._foreach_add_(buffer, g)
            g = buffer
        torch._foreach_addcmul_(p, g, [self.lr[i] for i in piece], value=-1)

    def _adam(self, piece: list[int], p: list[Tensor], g: list[Tensor]) -> None:
        lr, decay, eps = (
            [some[i] for i in piece] for some in (self.lr, self.weight_decay, self.eps)
        )
        if self.decays and self.kind.decay == "coupled":
            g = list(torch._foreach_addcmul(g, decay, p))
        elif self.decays:
            torch._foreach_mul_(p, [1 - a * b for a, b in zip(lr, decay, strict=True)])
        b1, b2 = self.betas
        first, second = self._kept(piece[0], p, 2)
        torch._foreach_lerp_(first, g, 1 - b1)
        torch._foreach_mul_(second, b2)
        torch._foreach_addcmul_(second, g, g, 1 - b2)
        c1, c2 = 1 - b1**self.steps, 1 - b2**self.steps
        size = torch._foreach_sqrt(second)
        torch._foreach_div_(size, c2**0.5)
        torch._foreach_add_(size, eps)
        torch._foreach_reciprocal_(size)
        torch._foreach_mul_(size, first)
        torch._foreach_addcmul_(p, size, lr, value=-1 / c1)

    def _sign(self, piece: list[int], p: list[Tensor], g: list[Tensor]) -> None:
        """Lion and signSGD, as ``parametrization.updates`` has them."""
        lr, decay = ([some[i] for i in piece] for some in (self.lr, self.weight_decay))
        if self.decays:
            torch._foreach_mul_(p, [1 - a * b for a, b in zip(lr, decay, strict=True)])
        if self.kind.name == "lion":
            b1, b2 = self.betas
            (average,) = self._kept(piece[0], p, 1)
            update = torch._foreach_lerp(average, g, 1 - b1)
            torch._foreach_lerp_(average, g, 1 - b2)
        elif self.rolls:
            (average,) = self._kept(piece[0], p, 1)
            for a, x in zip(average, g, strict=True):
                a.lerp_(x, _over(1 - self.momentum, x))
            update = average
        else:
            update = g
        torch._foreach_addcmul_(p, torch._foreach_sign(update), lr, value=-1)

    def _muon(self, i: int, p: Tensor, g: Tensor) -> None:
        ((buffer,),) = self._kept(i, [p], 1)
        buffer.lerp_(g, 1 - MUON_MOMENTUM)
        update = orthogonalised(g.lerp(buffer, MUON_MOMENTUM))
        rows, columns = p.shape[1:]
        adjust = max(1.0, rows / columns) ** 0.5
        if self.kind.update == "orthogonal-rms":
            adjust = 0.2 * max(rows, columns) ** 0.5
        if self.decays:
            p.mul_(1 - self.lr[i] * self.weight_decay[i])
        p.addcmul_(update, self.lr[i], value=-adjust)


def clipped(gradients: Sequence[Tensor], folds: Sequence[float], largest: float) -> list[Tensor]:
    """Gradients (K, ...), each run's scaled to a norm of at most this, as by ``Plan.clip_grad_norm_``."""
    norms = [
        torch.linalg.vector_norm(g.flatten(1), dim=1) * a
        for g, a in zip(gradients, folds, strict=True)
    ]
    total = torch.linalg.vector_norm(torch.stack(norms), dim=0)
    scale = (largest / (total + 1e-6)).clamp(max=1.0)
    return [g * _over(scale, g) for g in gradients]


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
