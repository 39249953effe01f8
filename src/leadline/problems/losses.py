"""Losses and their derivatives by the outputs; outputs (..., P, C), targets (P, C)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

NAMES = ("mse", "cross_entropy")


def loss_value(loss: str, f: Tensor, y: Tensor) -> Tensor:
    """Mean over samples: of ½ Σ_c (f_c − y_c)² for mse, of −Σ_c y_c log softmax(f)_c else."""
    import torch

    if loss == "mse":
        return 0.5 * ((f - y) ** 2).sum(-1).mean(-1)
    return -(y * torch.log_softmax(f, -1)).sum(-1).mean(-1)


def chi(loss: str, f: Tensor, y: Tensor) -> Tensor:
    """χ = ∂loss_i/∂f_i, without the 1/B: f − y for mse, softmax(f) − y for cross-entropy."""
    import torch

    return f - y if loss == "mse" else torch.softmax(f, -1) - y


def accuracy(f: Tensor, labels: Tensor) -> Tensor:
    """Fraction of samples classified right: sign for one output (class 1 is +), else argmax."""
    guess = (f[..., 0] > 0).long() if f.shape[-1] == 1 else f.argmax(-1)
    return (guess == labels).double().mean(-1)
