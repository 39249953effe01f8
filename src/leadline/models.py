"""Small models in plain PyTorch, for sweeps: a GPT and a residual perceptron without any scheme."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from leadline import activations
from leadline.errors import check_bool, check_choice, check_int


class Attention(nn.Module):
    """Causal self-attention, written out so that stacked models can be mapped over."""

    def __init__(self, width: int, context: int, head_size: int) -> None:
        super().__init__()
        self.head_size = head_size
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        future = torch.full((context, context), -torch.inf).triu(1)
        self.register_buffer("future", future, persistent=False)
        self.future: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, n) to (B, T, n)."""
        b, t, n = x.shape

        def heads(y: Tensor) -> Tensor:
            return y.reshape(b, t, -1, self.head_size).transpose(1, 2)

        q, k, v = heads(self.query(x)), heads(self.key(x)), heads(self.value(x))
        logits = q @ k.transpose(-1, -2) * self.head_size**-0.5 + self.future[:t, :t]
        y = torch.softmax(logits, -1) @ v
        return self.out(y.transpose(1, 2).reshape(b, t, n))


class GPTBlock(nn.Module):
    """Pre-norm attention and MLP."""

    def __init__(self, width: int, context: int, head_size: int) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, context, head_size)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, n) to (B, T, n)."""
        x = x + self.attention(self.norm_1(x))
        return x + self.down(nn.functional.gelu(self.up(self.norm_2(x))))


class GPT(nn.Module):
    """Bytes (B, T) to logits (B, T, vocabulary).

    Args:
        width: n, a multiple of head_size; heads are n / head_size.
        depth: blocks, two residual branches each.
        tied: the readout is the embedding.
    """

    def __init__(
        self,
        width: int,
        depth: int,
        context: int = 64,
        vocabulary: int = 256,
        head_size: int = 16,
        tied: bool = False,
    ) -> None:
        super().__init__()
        if width % head_size:
            raise ValueError(
                f"width={width} is no multiple of head_size={head_size}: give one that is"
            )
        self.embed, self.position = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
        self.blocks = nn.ModuleList(GPTBlock(width, context, head_size) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.readout = nn.Linear(width, vocabulary, bias=False)
        self.register_buffer("places", torch.arange(context), persistent=False)
        self.places: Tensor
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        if tied:
            self.readout.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of the next byte at every place."""
        x = self.embed(tokens) + self.position(self.places[: tokens.shape[1]])
        for block in self.blocks:
            x = block(x)
        return self.readout(self.norm(x))


@dataclass(frozen=True)
class gpt:
    """A builder (width, depth) of ``GPT``: ``ll.gpt(context=64)``.

    Args:
        context: tokens that a model sees at once, ≥ 1.
        head_size: width of an attention head; a model's width is a multiple of it.
        tied: whether the readout is the embedding's weight.
        vocabulary: kinds of tokens.
    """

    context: int = 64
    head_size: int = 16
    tied: bool = False
    vocabulary: int = 256

    def __post_init__(self) -> None:
        for name in ("context", "head_size", "vocabulary"):
            object.__setattr__(self, name, check_int(name, getattr(self, name), 1))
        object.__setattr__(self, "tied", check_bool("tied", self.tied))

    def __call__(self, width: int, depth: int, **change: Any) -> GPT:
        """Build; ``change`` sets fields anew, so that they can be axes of a sweep."""
        if change:
            return replace(self, **change)(width, depth)
        return GPT(width, depth, self.context, self.vocabulary, self.head_size, self.tied)


class ResidualBlock(nn.Module):
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
        self.blocks = nn.ModuleList(
            ResidualBlock(width, activation, block_layers) for _ in range(depth)
        )
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
