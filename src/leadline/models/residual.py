"""The project's residual network in PyTorch's own convention: Linear layers, no multipliers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from leadline import activations
from leadline.errors import check_choice, check_int


class Block(nn.Module):
    """h + W φ(h) for one layer, h + W_k φ(… W_1 h) for more."""

    def __init__(self, width: int, activation: str, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(layers))
        self.phi = activations.find(activation).value

    def forward(self, h: Tensor) -> Tensor:
        """(B, n) to (B, n)."""
        a = h
        for j, layer in enumerate(self.layers):
            a = layer(self.phi(a) if j > 0 or len(self.layers) == 1 else a)
        return h + a


class ResidualMLP(nn.Module):
    """(B, inputs) to (B, outputs); every weight N(0, 1/fan_in)."""

    def __init__(
        self, inputs: int, outputs: int, width: int, depth: int, activation: str, block_layers: int
    ) -> None:
        super().__init__()
        self.embed = nn.Linear(inputs, width, bias=False)
        self.blocks = nn.ModuleList(Block(width, activation, block_layers) for _ in range(depth))
        self.readout = nn.Linear(width, outputs, bias=False)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=module.in_features**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs."""
        h = self.embed(x)
        for block in self.blocks:
            h = block(h)
        return self.readout(h)


@dataclass(frozen=True)
class residual_mlp:
    """A builder (width, depth) of ``ResidualMLP``: the function class of ``ll.ResNet``.

    Args:
        inputs, outputs: dimensions.
        activation: as for ``ll.ResNet``.
        block_layers: weight layers of a block.
    """

    inputs: int
    outputs: int = 1
    activation: str = "relu"
    block_layers: int = 2

    def __post_init__(self) -> None:
        for name in ("inputs", "outputs", "block_layers"):
            object.__setattr__(self, name, check_int(name, getattr(self, name), 1))
        name = check_choice("activation", self.activation, activations.NAMES)
        object.__setattr__(self, "activation", name)

    def __call__(self, width: int, depth: int, **change: Any) -> ResidualMLP:
        """Build; ``change`` sets fields anew, so that they can be axes of a sweep."""
        if change:
            return replace(self, **change)(width, depth)
        return ResidualMLP(
            self.inputs, self.outputs, width, depth, self.activation, self.block_layers
        )
