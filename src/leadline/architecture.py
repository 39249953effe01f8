"""The residual network, described without width and depth."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from leadline import activations
from leadline.errors import check_choice, check_int, check_real
from leadline.parametrization import schemes

if TYPE_CHECKING:
    import torch


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
            derivative is taken by autograd. relu and gelu carry no √2.
        block_layers: weight layers k in a residual block.
        skip: False is the plain deep network; ``horizon`` is then unused.
        gain: multiplies every W in the forward pass (so gain √2 with relu is the same network as
            the activation √2·relu).
        horizon: T, the variance that the residual branches add in total under depth-mup.
        scheme: how multipliers and rates depend on n and L; see ``leadline.parametrization``.

    Raises:
        ValueError, TypeError: naming the argument, its value and the remedy.
    """

    activation: str | activations.Function = "tanh"
    block_layers: int = 1
    skip: bool = True
    gain: float = 1.0
    horizon: float = 1.0
    scheme: str = "auto"

    def __post_init__(self) -> None:
        if not callable(self.activation):
            check_choice("activation", self.activation, activations.NAMES)
        check_int("block_layers", self.block_layers, 1)
        if not isinstance(self.skip, bool):
            raise TypeError(f"skip={self.skip!r} is not a bool: give True or False")
        check_real("gain", self.gain, 0.0, open_minimum=True)
        check_real("horizon", self.horizon, 0.0, open_minimum=True)
        check_choice("scheme", self.scheme, schemes.NAMES)

    @property
    def table(self) -> schemes.Scheme:
        """The row of the scheme table that applies (``auto`` resolved)."""
        return schemes.scheme(self.scheme, self.block_layers)

    @property
    def activation_name(self) -> str:
        """A printable name of φ."""
        phi = self.activation
        return phi if isinstance(phi, str) else getattr(phi, "__name__", repr(phi))

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
        from leadline.networks.module import DenseResNet

        return DenseResNet(
            self, width, depth, seed, inputs=inputs, outputs=outputs, dtype=dtype, device=device
        )
