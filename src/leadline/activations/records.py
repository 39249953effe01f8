"""Activations by name, or any elementwise torch function: one record each.

relu and gelu carry no √2: use ``ResNet(gain=...)``, which multiplies W. What a function of the user's
must be is checked before it is used: ``activations.probe``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING

from leadline.errors import shown

if TYPE_CHECKING:
    from torch import Tensor

    from leadline.activations.closed_forms import ClosedForm

NAMES = ("identity", "relu", "tanh", "erf", "gelu", "silu")

Function = Callable[["Tensor"], "Tensor"]


@dataclass(frozen=True)
class Activation:
    """All that any part of the project knows of φ.

    Attributes:
        name: printable.
        value: h -> φ(h), elementwise on tensors of any shape.
        value_and_slope: h -> (φ(h), φ'(h)).
        closed_form: Gaussian expectations of φφ' and φ'φ', where they are known.
        homogeneous: whether φ(sh) = sφ(h) for s > 0.
    """

    name: str
    value: Function
    value_and_slope: Callable[[Tensor], tuple[Tensor, Tensor]]
    closed_form: ClosedForm | None = None
    homogeneous: bool = False


def find(phi: str | Function) -> Activation:
    """The record of a name in ``NAMES``, or of a function, whose slope is then autograd's."""
    if isinstance(phi, str):
        return _named()[phi]
    try:
        closed_form = _closed_forms_of_torch().get(phi)
    except TypeError:  # not hashable
        closed_form = None
    return Activation(name(phi), phi, partial(_by_autograd, phi), closed_form)


def name(phi: str | Function) -> str:
    """A printable name of φ."""
    if isinstance(phi, str):
        return phi
    inner = getattr(phi, "func", None)  # functools.partial
    if callable(inner):
        return f"partial({name(inner)})"
    return getattr(phi, "__name__", None) or shown(phi)


@cache
def _named() -> dict[str, Activation]:
    import torch
    from torch.nn import functional

    from leadline.activations import closed_forms

    def identity(h: Tensor) -> tuple[Tensor, Tensor]:
        return h, torch.ones_like(h)

    def relu(h: Tensor) -> tuple[Tensor, Tensor]:
        return torch.relu(h), (h > 0).to(h.dtype)

    def tanh(h: Tensor) -> tuple[Tensor, Tensor]:
        y = torch.tanh(h)
        return y, torch.addcmul(y.new_ones(()), y, y, value=-1)

    def erf(h: Tensor) -> tuple[Tensor, Tensor]:
        return torch.erf(h), (2 / math.sqrt(math.pi)) * torch.exp(-h * h)

    def gelu(h: Tensor) -> tuple[Tensor, Tensor]:
        cdf = torch.special.ndtr(h)
        pdf = torch.exp(-0.5 * h * h) / math.sqrt(2 * math.pi)
        return h * cdf, cdf + h * pdf

    def silu(h: Tensor) -> tuple[Tensor, Tensor]:
        s = torch.sigmoid(h)
        return h * s, s + h * s * (1 - s)

    records = (
        Activation("identity", lambda h: h, identity, closed_forms.identity, homogeneous=True),
        Activation("relu", torch.relu, relu, closed_forms.relu, homogeneous=True),
        Activation("tanh", torch.tanh, tanh),
        Activation("erf", torch.erf, erf, closed_forms.erf),
        Activation("gelu", functional.gelu, gelu, closed_forms.gelu),
        Activation("silu", functional.silu, silu),
    )
    return {record.name: record for record in records}


@cache
def _closed_forms_of_torch() -> dict[Function, ClosedForm]:
    """What is known of torch's own functions."""
    import torch
    from torch.nn import functional

    from leadline.activations import closed_forms

    return {
        torch.relu: closed_forms.relu,
        functional.relu: closed_forms.relu,
        torch.erf: closed_forms.erf,
        torch.special.erf: closed_forms.erf,
        functional.gelu: closed_forms.gelu,
        torch.abs: closed_forms.absolute,
        torch.sign: closed_forms.sign,
        torch.sin: closed_forms.sin,
        torch.cos: closed_forms.cos,
        torch.exp: closed_forms.exp,
    }


def _by_autograd(phi: Function, h: Tensor) -> tuple[Tensor, Tensor]:
    import torch

    with torch.inference_mode(False), torch.enable_grad():
        h = h.clone().detach().requires_grad_(True)
        y = phi(h)
        (slope,) = torch.autograd.grad(y.sum(), h)
    check_slope(phi, h.detach(), y.detach(), slope)
    return y.detach(), slope


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
