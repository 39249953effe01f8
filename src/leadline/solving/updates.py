"""What one step of the optimizer does to a weight: the one place that knows the optimizer's recursion.

A weight is stored (``StoredWeight``: U, v, or the outputs of a linearised network), or exists as
W/√n = s·W̄ + Rᵀ C Q with W̄ never formed (``LearnedPart``: s and C). Both take the same step,

    b ← μ b + gradient + λ W,      W ← W − η b        (torch.optim.SGD's order, b = 0 at first),

the second through two scalars for W̄ and two tables for the rest. Muon's step of the second kind,

    b ← b + (1 − μ)(gradient − b),      W ← (1 − ηλ) W − η·orthogonalised(b),

needs the tables alone: Q and R are orthonormal, and Newton–Schulz steps are polynomials in the singular
values, so that they act on the table as on the whole matrix.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from leadline.parametrization.updates import newton_schulz
from leadline.solving.growing import CoefficientTable


@dataclass(frozen=True)
class Step:
    """One step's numbers: learning rate η, momentum μ, weight decay λ."""

    lr: float
    momentum: float = 0.0
    decay: float = 0.0


@dataclass(frozen=True)
class MuonStep:
    """One step's numbers of Muon.

    Attributes:
        lr: η, with the factor for the matrix's shape. decay: what W loses, ηλ of the plan's rate.
        momentum, nesterov, ns_steps: as of ``recipes.Muon``.
    """

    lr: float
    decay: float = 0.0
    momentum: float = 0.95
    nesterov: bool = True
    ns_steps: int = 5


@dataclass
class StoredWeight:
    """A weight that is a tensor, with its momentum buffer."""

    value: Tensor
    buffer: Tensor | None = None

    def update(self, gradient: Tensor, step: Step) -> None:
        """Take a step along a gradient of the weight's shape."""
        if step.decay:
            gradient = gradient.add(self.value, alpha=step.decay)
        if step.momentum:
            buffer = self.buffer
            self.buffer = gradient if buffer is None else step.momentum * buffer + gradient
            gradient = self.buffer
        self.value = self.value.add(gradient, alpha=-step.lr)

    def keep(self, seeds: list[int]) -> None:
        """Go on with some seeds of a leading axis."""
        self.value = self.value[seeds]
        self.buffer = None if self.buffer is None else self.buffer[seeds]


class LearnedPart:
    """s and C of W/√n = s·W̄ + Rᵀ C Q, with their momentum buffers; C is (r, q), or (S, r, q)."""

    def __init__(
        self, dtype: torch.dtype, device: torch.device, seeds: tuple[int, ...] = ()
    ) -> None:
        self.table = CoefficientTable(dtype, device, seeds)
        self.table_buffer = CoefficientTable(dtype, device, seeds)
        self.scale, self.scale_buffer = 1.0, 0.0

    def update(self, z: Tensor, u: Tensor, ranks: tuple[int, int], step: Step | MuonStep) -> None:
        """Take a step along the gradient zᵀu.

        W(0) takes part in decay and its buffer through two scalars:
        b ← μb + λs, s ← s − ηb,  D ← μD + zᵀu + λC, C ← C − ηD.

        Args:
            z: (B, r') coefficients in R, scaled as the gradient of W/√n is. u: (B, q') in Q. Both may
                be from before the bases grew.
            ranks: r and q now.
        """
        learned = self.table.view(*ranks)
        if isinstance(step, MuonStep):
            self._orthogonal(z.mT @ u, ranks, step)
            return
        if step.momentum:
            buffer = self.table_buffer.view(*ranks).mul_(step.momentum)
            buffer[..., : z.shape[-1], : u.shape[-1]].add_(z.mT @ u)
            if step.decay:
                buffer.add_(learned, alpha=step.decay)
            learned.add_(buffer, alpha=-step.lr)
        else:
            if step.decay:
                learned.mul_(1 - step.lr * step.decay)
            # Not addmm: a product of its own has the same bits at any number of threads.
            learned[..., : z.shape[-1], : u.shape[-1]].add_(z.mT @ u, alpha=-step.lr)
        self.scale_buffer = step.momentum * self.scale_buffer + step.decay * self.scale
        self.scale -= step.lr * self.scale_buffer

    def _orthogonal(self, gradient: Tensor, ranks: tuple[int, int], step: MuonStep) -> None:
        """Muon's step along a gradient (r', q'), in torch.optim.Muon's order."""
        learned, buffer = self.table.view(*ranks), self.table_buffer.view(*ranks)
        whole = torch.zeros_like(buffer)
        whole[: gradient.shape[0], : gradient.shape[1]] = gradient
        buffer.lerp_(whole, 1 - step.momentum)
        update = whole.lerp(buffer, step.momentum) if step.nesterov else buffer
        learned.mul_(1 - step.decay)
        learned.add_(newton_schulz(update, step.ns_steps), alpha=-step.lr)
        self.scale *= 1 - step.decay
