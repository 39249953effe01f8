"""The networks of ``claims_map``: blocks of two layers in plain PyTorch, and the schemes compared."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

import leadline as ll

PHI = {"relu": torch.relu, "tanh": torch.tanh, "gelu": nn.functional.gelu}


class Block(nn.Module):
    """h + a·W₂ φ(b·W₁ h)."""

    def __init__(self, width: int, activation: str, multiplier: float, inside: float) -> None:
        super().__init__()
        self.inner = nn.Linear(width, width, bias=False)
        self.outer = nn.Linear(width, width, bias=False)
        self.phi, self.multiplier, self.inside = PHI[activation], multiplier, inside

    def forward(self, h: Tensor) -> Tensor:
        """(B, n) to (B, n)."""
        return h + self.multiplier * self.outer(self.phi(self.inside * self.inner(h)))


class Blocks(nn.Module):
    """The paper's form at one width n, in the units of PyTorch: hidden weights N(0, 1/fan_in), and a
    readout whose output is of size 1/√n at initialization. With SGD it learns as f = v·h/n does with v of
    N(0, 1) and the rate η·n: readout weights N(0, 1/n) behind a multiplier 1/√n; the input layer's rate
    is that form's times d/n. Other optimizers take steps of one size: no multiplier, N(0, 1/n²)."""

    def __init__(self, how: blocks, width: int, depth: int) -> None:
        super().__init__()
        self.embed = nn.Linear(how.inputs, width, bias=False)
        a = (how.horizon / how.anchor) ** 0.5
        b = how.ratio**0.5 if how.gradient else how.ratio
        self.blocks = nn.ModuleList(Block(width, how.activation, a, b) for _ in range(depth))
        self.readout = nn.Linear(width, how.outputs, bias=False)
        self.scale = width**-0.5 if how.gradient else 1.0
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=module.in_features**-0.5)
        nn.init.normal_(self.readout.weight, std=1 / (width * self.scale))
        for block in self.blocks:
            # The same function; a step moves b·W₁ b² times as far with SGD, b times with others.
            block.inner.weight.data /= b

    def forward(self, x: Tensor) -> Tensor:
        """(B, d) to (B, C)."""
        h = self.embed(x)
        for block in self.blocks:
            h = block(h)
        return self.scale * self.readout(h)


@dataclass(frozen=True)
class blocks:
    """A builder (width, depth).

    Args:
        horizon: T, the variance that all branches add under depth-μP.
        anchor: depth at which all schemes are the same network with the same rates: the base of plans.
        gradient: for SGD.
        ratio: the internal layers' learning rate over the last layers', at every depth.
    """

    activation: str
    horizon: float
    anchor: int
    gradient: bool
    inputs: int = 64
    outputs: int = 10
    ratio: float = 1.0

    def __call__(self, width: int, depth: int) -> Blocks:
        """Build."""
        return Blocks(self, width, depth)


def _scheme(name: str, inner: float, last: float, reason: str) -> ll.Scheme:
    return ll.Scheme(name, -0.5, inner, last, -1.0, 1.0, reason)


QUARTER = _scheme("kappa-1/4", 0.25, 0.0, "internal layers learn L^¼ faster")
COMMON = _scheme("kappa-1/4-slow", 0.125, -0.125, "the same, all rates of blocks times L^-⅛")
NAMED = ("depth-mup", "depth-mup-corrected", "completep")
ALL = (*NAMED, QUARTER, COMMON)
