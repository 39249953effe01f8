"""The residual network, described without width and depth."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from leadline import activations
from leadline.errors import check_bool, check_choice, check_int, check_real, shown
from leadline.parametrization import schemes

if TYPE_CHECKING:
    import torch

COUPLINGS = ("reused", "independent")
"""reused: the backward pass goes through the same weights (true backpropagation); independent: through
an independent copy of W(0) (the gradient-independence assumption of arXiv 2512.21075)."""

ENSEMBLES = ("gaussian", "fast")
"""What W(0) is drawn from in a solve: gaussian is the law of dense networks; fast is a product of
transforms, signs and singular values, with the same limit at infinite width."""

# Far beyond any network: what a product of a few of them still holds, in double precision.
_LARGEST = 1e15
# One block is no place for depth: every layer of it is visited for every step of an equation.
_MOST_LAYERS = 1000


@dataclass(frozen=True)
class ResNet:
    """A residual multilayer perceptron as a family over width n and depth L.

    All weights have N(0, 1) entries, with explicit multipliers::

        h_0 = U x/√d
        u_1 = gain·W_1 φ(h)/√n                                       (block_layers k = 1)
        u_1 = gain·W_1 h/√n,  u_j = gain·W_j φ(u_{j-1})/√n           (k ≥ 2; no φ before W_1)
        h_l = h_{l-1} + √T·L^-s u_k      (skip)     or     h_l = u_k   (no skip)
        f   = v·h_L/n                                                  (ntk: /√n)

    Args:
        activation: identity, relu, tanh, erf, gelu, silu, or an elementwise torch function, whose
            derivative is taken by autograd; it is called once on a probe. relu and gelu carry no √2.
        block_layers: weight layers k in a residual block, 1 to 1000.
        skip: False is the plain deep network; ``horizon`` is then unused.
        gain: > 0, at most 1e15; multiplies every W in the forward pass (so gain √2 with relu is the
            same network as the activation √2·relu).
        horizon: T > 0, at most 1e15, the variance that the residual branches add in total under
            depth-mup.
        scheme: how multipliers and rates depend on n and L, by name or as a ``Scheme`` of your own; see
            ``leadline.parametrization``.

    Raises:
        ValueError, TypeError: naming the argument, its value and the remedy.
    """

    activation: str | activations.Function = "tanh"
    block_layers: int = 1
    skip: bool = True
    gain: float = 1.0
    horizon: float = 1.0
    scheme: str | schemes.Scheme = "auto"

    def __post_init__(self) -> None:
        def keep(name: str, value: object) -> None:
            object.__setattr__(self, name, value)

        if callable(self.activation) and not isinstance(self.activation, str):
            from leadline.activations import probe

            probe.check(self.activation)
        else:
            names = activations.NAMES
            keep("activation", check_choice("activation", self.activation, names))
        keep("block_layers", check_int("block_layers", self.block_layers, 1, _MOST_LAYERS))
        keep("skip", check_bool("skip", self.skip))
        keep("gain", check_real("gain", self.gain, 0.0, _LARGEST, open_minimum=True))
        keep("horizon", check_real("horizon", self.horizon, 0.0, _LARGEST, open_minimum=True))
        keep("scheme", schemes.check_network_scheme(self.scheme))

    @property
    def table(self) -> schemes.Scheme:
        """The row of the scheme table that applies (``auto`` resolved)."""
        return schemes.scheme(self.scheme, self.block_layers)

    @property
    def activation_name(self) -> str:
        """A printable name of φ."""
        return activations.name(self.activation)

    def branch(self, depth: int) -> float:
        """Multiplier α_L of a residual branch (1 without skip connections)."""
        return math.sqrt(self.horizon) * depth**self.table.branch if self.skip else 1.0

    def readout(self, width: int) -> float:
        """Multiplier of v·h_L in the output."""
        return width**self.table.readout

    def rate(self, width: int) -> float:
        """Learning rate of U and v in units of η."""
        return width**self.table.rate_width

    def rate_factor(self, position: int, depth: int) -> float:
        """Learning rate of weight layer ``position`` of a block, in units of ``rate``."""
        return depth ** self.table.rate_depth(position, self.block_layers) if self.skip else 1.0

    def module(
        self,
        width: int,
        depth: int,
        seed: int = 0,
        *,
        inputs: int | None = None,
        outputs: int = 1,
        dtype: torch.dtype | None = None,
        device: str | torch.device = "cpu",
    ) -> torch.nn.Module:
        """The dense network of this width n and depth L as an ordinary ``nn.Module``.

        Args:
            inputs: input dimension d; None takes it from the first batch (as ``nn.LazyLinear``).
            outputs: number of outputs C; the module maps (*, d) to (*, C).

        Returns:
            An ``nn.Module`` whose ``param_groups(sgd)`` gives the groups for ``torch.optim.SGD``.
        """
        from leadline.dense.module import DenseResNet

        return DenseResNet(
            self, width, depth, seed, inputs=inputs, outputs=outputs, dtype=dtype, device=device
        )


# What options have where they are left out; None for all others.
_LEFT_OUT: dict[str, Any] = {
    "scheme": "auto",
    "accumulation": 1,
    "stored": (),
    "variance_reduction": "none",
}


def refuse_for_network(**options: Any) -> None:
    """Refuse options of builders' models where a ``ResNet`` is given.

    Raises:
        TypeError: naming the first that was not left out.
    """
    _refuse(options, "for a builder", "a ResNet, which has a scheme of its own and no base")


def refuse_for_builder(**options: Any) -> None:
    """Refuse options of a ``ResNet`` where a builder is given; as ``refuse_for_network``."""
    _refuse(options, "for a ResNet", "a builder's models")


def _refuse(options: Mapping[str, Any], whose: str, leave_out: str) -> None:
    for name, value in options.items():
        if value is not None and value != _LEFT_OUT.get(name):
            raise TypeError(f"{name}={shown(value)} is {whose}: leave it out for {leave_out}")
