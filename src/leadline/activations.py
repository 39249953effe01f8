"""Activation functions by name, or any elementwise torch function, and their derivatives.

relu and gelu carry no √2: use ``ResNet(gain=...)``, which multiplies W. What a function of the user's
must be is looked at before it is used: ``leadline.probe``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from leadline.errors import shown

if TYPE_CHECKING:
    from torch import Tensor

NAMES = ("identity", "relu", "tanh", "erf", "gelu", "silu")

Function = Callable[["Tensor"], "Tensor"]


def activation(phi: str | Function) -> Function:
    """The function φ itself: elementwise on tensors of any shape."""
    import torch

    if not isinstance(phi, str):
        return phi
    named: dict[str, Function] = {
        "identity": lambda h: h,
        "relu": torch.relu,
        "tanh": torch.tanh,
        "erf": torch.erf,
        "gelu": torch.nn.functional.gelu,
        "silu": torch.nn.functional.silu,
    }
    return named[phi]


def name(phi: str | Function) -> str:
    """A printable name of φ."""
    if isinstance(phi, str):
        return phi
    inner = getattr(phi, "func", None)  # functools.partial
    if callable(inner):
        return f"partial({name(inner)})"
    return getattr(phi, "__name__", None) or shown(phi)


def check_slope(phi: str | Function, h: Tensor, y: Tensor, slope: Tensor) -> None:
    """Refuse a slope that is not finite where h and φ(h) are: no rate would mend it.

    Raises:
        ValueError: naming φ and the place.
    """
    if math.isfinite(float(slope.sum())):
        return
    wrong = ~slope.isfinite() & h.isfinite() & y.isfinite()
    if wrong.any():
        at, there = float(h[wrong][0]), float(slope[wrong][0])
        raise ValueError(
            f"activation={name(phi)} has the slope {there:g} at {at:.6g}, where its value is "
            f"{float(y[wrong][0]):.6g}: give a function whose gradient is finite (torch.where has a "
            "NaN gradient where the branch that it does not take has one)"
        )


def value_and_slope(phi: str | Function) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """A function h -> (φ(h), φ'(h)); φ' in closed form for the named, by autograd for others."""
    import torch

    def by_autograd(h: Tensor) -> tuple[Tensor, Tensor]:
        with torch.inference_mode(False), torch.enable_grad():
            h = h.clone().detach().requires_grad_(True)
            y = activation(phi)(h)
            (slope,) = torch.autograd.grad(y.sum(), h)
        check_slope(phi, h.detach(), y.detach(), slope)
        return y.detach(), slope

    def tanh(h: Tensor) -> tuple[Tensor, Tensor]:
        y = torch.tanh(h)
        return y, torch.addcmul(y.new_ones(()), y, y, value=-1)

    def relu(h: Tensor) -> tuple[Tensor, Tensor]:
        return torch.relu(h), (h > 0).to(h.dtype)

    def erf(h: Tensor) -> tuple[Tensor, Tensor]:
        return torch.erf(h), (2 / math.sqrt(math.pi)) * torch.exp(-h * h)

    def gelu(h: Tensor) -> tuple[Tensor, Tensor]:
        cdf = torch.special.ndtr(h)
        pdf = torch.exp(-0.5 * h * h) / math.sqrt(2 * math.pi)
        return h * cdf, cdf + h * pdf

    def silu(h: Tensor) -> tuple[Tensor, Tensor]:
        s = torch.sigmoid(h)
        return h * s, s + h * s * (1 - s)

    if callable(phi):
        return by_autograd
    return {
        "identity": lambda h: (h, torch.ones_like(h)),
        "relu": relu,
        "tanh": tanh,
        "erf": erf,
        "gelu": gelu,
        "silu": silu,
    }[phi]
