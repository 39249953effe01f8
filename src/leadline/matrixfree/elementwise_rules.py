"""Optimizers that act on every entry by itself: Adam, AdamW, Lion, SignSGD.

A rule is a frozen record that takes a tile of a matrix one step on. With G the gradient, formulas and their
order are those of torch.optim where it has the optimizer:

    Adam     m ← β₁m + (1−β₁)G,  v ← β₂v + (1−β₂)G²,  W ← W − η/(1−β₁ᵗ) · m / (√v/√(1−β₂ᵗ) + ε)
    AdamW    W ← (1−ηλ)W, then Adam's step
    Lion     W ← (1−ηλ)W − η sign(β₁m + (1−β₁)G),  m ← β₂m + (1−β₂)G            (arXiv 2302.06675)
    SignSGD  b ← μb + G,  W ← (1−ηλ)W − η sign(b)                               (arXiv 1802.04434)

With ε = 0 an entry whose gradient has always been 0 stays (torch divides 0 by 0 there). Adam's step is
torch's fused kernel, one pass over four tensors; ``written`` has every rule again, as plain formulas.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import torch
from torch import Tensor

from leadline.errors import LARGEST_RATE, check_real, shown


@dataclass(frozen=True)
class ElementwiseStep:
    """One step's numbers.

    Args:
        lr: learning rate η ≥ 0 of this matrix, schedule and width factors included.
        weight_decay: λ ≥ 0, decoupled: the matrix is multiplied by 1 − ηλ.
        gradient: factor ≥ 0 on the gradient zᵀu, for example that of clipping.
    """

    lr: float
    weight_decay: float = 0.0
    gradient: float = 1.0

    def __post_init__(self) -> None:
        for name in ("lr", "weight_decay", "gradient"):
            value = check_real(name, getattr(self, name), 0.0, LARGEST_RATE)
            object.__setattr__(self, name, value)

    @property
    def kept(self) -> float:
        """The share of a weight that decay leaves in a step, 1 − ηλ."""
        return 1.0 - self.lr * self.weight_decay


class Tile:
    """The accumulated update of a block of entries, and its moments, each (rows, columns)."""

    def __init__(self, update: Tensor, moments: Sequence[Tensor]) -> None:
        self.update, self.moments = update, moments

    @classmethod
    def empty(cls, rule: ElementwiseRule, shape: tuple[int, int], **options: Any) -> Tile:
        """A tile whose memory is not filled yet."""
        update, *moments = (torch.empty(shape, **options) for _ in range(1 + rule.moments))
        return cls(update, moments)

    def start(self) -> None:
        """Before the first step."""
        for x in (self.update, *self.moments):
            x.zero_()

    def view(self, rows: int, columns: int) -> Tile:
        """A smaller one in the same memory."""
        views = [contiguous_view(x, rows, columns) for x in (self.update, *self.moments)]
        return Tile(views[0], views[1:])


def contiguous_view(buffer: Tensor, rows: int, columns: int) -> Tensor:
    """(rows, columns) in the memory of a buffer that is at least as large."""
    return buffer.view(-1)[: rows * columns].view(rows, columns)


@dataclass(frozen=True)
class ElementwiseRule:
    """What all rules share; make one of those below."""

    moments: ClassVar[int] = 1
    """Tensors of an entry's past that the recursion needs."""
    decoupled: ClassVar[bool] = True

    def check(self, step: ElementwiseStep) -> None:
        """Refuse a step that needs the entries of W(0)."""
        if step.weight_decay and not self.decoupled:
            raise ValueError(
                f"weight_decay={step.weight_decay:g} with Adam adds λW to the gradient, and with it "
                "every entry of W(0), which is not stored: give AdamW, whose decay multiplies, or "
                "weight_decay=0"
            )

    def advance(
        self, tile: Tile, gradient: Tensor, scratch: Tensor, t: int, step: ElementwiseStep
    ) -> None:
        """Step t = 1, 2, … of a tile, in place; gradient and scratch, of its shape, are overwritten."""
        raise NotImplementedError

    def written(self, gradients: Sequence[Tensor], steps: Sequence[ElementwiseStep]) -> Tensor:
        """The accumulated update after all steps, by the formulas as they are written."""
        raise NotImplementedError


def _check_betas(values: Any) -> tuple[float, float]:
    try:
        first, second = values
    except (TypeError, ValueError):
        raise TypeError(
            f"betas={shown(values)} is not a pair: give two numbers in [0, 1)"
        ) from None
    first, second = (
        check_real(f"betas[{i}]", b, 0.0, 1.0, open_maximum=True)
        for i, b in enumerate((first, second))
    )
    return first, second


@lru_cache(maxsize=4096)
def _count(t: int, device: torch.device) -> Tensor:
    return torch.tensor(float(t), device=device)


@dataclass(frozen=True)
class AdamRule(ElementwiseRule):
    """Adam without weight decay, as torch.optim.Adam.

    Args:
        betas: of the first and the second moment, each in [0, 1).
        eps: ε ≥ 0 of this matrix, width factors included.
    """

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8

    moments: ClassVar[int] = 2
    decoupled: ClassVar[bool] = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "betas", _check_betas(self.betas))
        object.__setattr__(self, "eps", check_real("eps", self.eps, 0.0, LARGEST_RATE))

    def advance(
        self, tile: Tile, gradient: Tensor, scratch: Tensor, t: int, step: ElementwiseStep
    ) -> None:
        """Step t of a tile, in place."""
        first, second = tile.moments
        # The update alone decays like the whole matrix. The smallest normal number makes 0/0 a 0.
        torch._fused_adamw_(
            [tile.update],
            [gradient],
            [first],
            [second],
            [],
            [_count(t, gradient.device)],
            lr=step.lr,
            beta1=self.betas[0],
            beta2=self.betas[1],
            weight_decay=step.weight_decay,
            eps=max(self.eps, torch.finfo(gradient.dtype).tiny),
            amsgrad=False,
            maximize=False,
        )

    def written(self, gradients: Sequence[Tensor], steps: Sequence[ElementwiseStep]) -> Tensor:
        """The accumulated update after all steps, by the formulas as they are written."""
        b1, b2 = self.betas
        m, v, update = (torch.zeros_like(gradients[0]) for _ in range(3))
        for t, (g, step) in enumerate(zip(gradients, steps, strict=True), 1):
            m = b1 * m + (1 - b1) * g
            v = b2 * v + (1 - b2) * g * g
            direction = m / (1 - b1**t) / ((v / (1 - b2**t)).sqrt() + self.eps)
            update = step.kept * update - step.lr * torch.where(m == 0, m, direction)
        return update


@dataclass(frozen=True)
class AdamWRule(AdamRule):
    """Adam with decoupled weight decay, as torch.optim.AdamW."""

    decoupled: ClassVar[bool] = True


@dataclass(frozen=True)
class LionRule(ElementwiseRule):
    """Lion, as in algorithm 2 of arXiv 2302.06675.

    Args:
        betas: of the direction and of the moment, each in [0, 1).
    """

    betas: tuple[float, float] = (0.9, 0.99)

    def __post_init__(self) -> None:
        object.__setattr__(self, "betas", _check_betas(self.betas))

    def advance(
        self, tile: Tile, gradient: Tensor, scratch: Tensor, t: int, step: ElementwiseStep
    ) -> None:
        """Step t of a tile, in place."""
        (moment,) = tile.moments
        direction = torch.lerp(moment, gradient, 1 - self.betas[0], out=scratch)
        _move(tile.update, direction.sign_(), step)
        moment.lerp_(gradient, 1 - self.betas[1])

    def written(self, gradients: Sequence[Tensor], steps: Sequence[ElementwiseStep]) -> Tensor:
        """The accumulated update after all steps, by the formulas as they are written."""
        b1, b2 = self.betas
        m, update = torch.zeros_like(gradients[0]), torch.zeros_like(gradients[0])
        for g, step in zip(gradients, steps, strict=True):
            update = step.kept * update - step.lr * torch.sign(b1 * m + (1 - b1) * g)
            m = b2 * m + (1 - b2) * g
        return update


@dataclass(frozen=True)
class SignRule(ElementwiseRule):
    """SignSGD with momentum.

    Args:
        momentum: μ in [0, 1).
    """

    momentum: float = 0.0

    def __post_init__(self) -> None:
        value = check_real("momentum", self.momentum, 0.0, 1.0, open_maximum=True)
        object.__setattr__(self, "momentum", value)

    def advance(
        self, tile: Tile, gradient: Tensor, scratch: Tensor, t: int, step: ElementwiseStep
    ) -> None:
        """Step t of a tile, in place."""
        (moment,) = tile.moments
        # (1 − μ)b has b's sign, and takes one pass.
        moment.lerp_(gradient, 1 - self.momentum)
        _move(tile.update, torch.sign(moment, out=gradient), step)

    def written(self, gradients: Sequence[Tensor], steps: Sequence[ElementwiseStep]) -> Tensor:
        """The accumulated update after all steps, by the formulas as they are written."""
        buffer, update = torch.zeros_like(gradients[0]), torch.zeros_like(gradients[0])
        for g, step in zip(gradients, steps, strict=True):
            buffer = self.momentum * buffer + g
            update = step.kept * update - step.lr * torch.sign(buffer)
        return update


def _move(update: Tensor, direction: Tensor, step: ElementwiseStep) -> None:
    """W ← (1−ηλ)W − η·direction, of what was learned."""
    if step.weight_decay:
        update.mul_(step.kept)
    update.add_(direction, alpha=-step.lr)
