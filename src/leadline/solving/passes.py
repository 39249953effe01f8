"""What a forward pass leaves behind, and who may look on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor


@dataclass
class Pass:
    """What a forward pass leaves behind for the backward pass.

    Attributes:
        x (B, d), outputs (B, C), top h_L (B, n).
        slopes: φ' of every weight's input, by block; None where there is no φ.
        coefficients: those of every weight's input in Q, by block.
    """

    x: Tensor
    outputs: Tensor
    top: Tensor
    slopes: list[list[Tensor | None]] = field(default_factory=list)
    coefficients: list[list[Tensor]] = field(default_factory=list)


class PassObserver(Protocol):
    """What sees the intermediate results of a pass; each method is called in order of the layers."""

    def stream(self, layer: int, h: Tensor) -> None:
        """h_layer (B, n), layer 0..L; in a backward pass the gradient there."""

    def weight(self, a: Tensor) -> None:
        """Input a (B, n) of a weight; in a backward pass the gradient at its output."""


class _Unobserved:
    """An observer that keeps nothing."""

    def stream(self, layer: int, h: Tensor) -> None:
        pass

    def weight(self, a: Tensor) -> None:
        pass


UNOBSERVED = _Unobserved()
