"""The forward pass of a dense residual network, the one definition that module and training share, and its
parameter groups."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from leadline import activations

if TYPE_CHECKING:
    from leadline.recipes.sgd import SGD


class Architecture(Protocol):
    """What is known of a network without its width n and depth L; see ``leadline.ResNet``."""

    @property
    def activation(self) -> str | activations.Function: ...
    @property
    def block_layers(self) -> int: ...
    @property
    def skip(self) -> bool: ...
    @property
    def gain(self) -> float: ...
    def branch(self, depth: int) -> float:
        """Multiplier of a residual branch."""
        ...

    def readout(self, width: int) -> float:
        """Multiplier of v·h_L in the output."""
        ...

    def rate(self, width: int) -> float:
        """Learning rate of U and v in units of η."""
        ...

    def rate_factor(self, position: int, depth: int) -> float:
        """Learning rate of weight layer ``position`` of a block, in units of ``rate``."""
        ...


class ForwardObserver(Protocol):
    """What sees the intermediate results of a forward pass."""

    def stream(self, index: int, h: Tensor) -> None:
        """h_index (..., P, n), index 0..L."""

    def layer(self, index: int, a: Tensor, u: Tensor) -> None:
        """Input a and output u = gain·W a/√n of hidden weight ``index``, both (..., P, n)."""


@dataclass(frozen=True)
class Weights:
    """The N(0, 1) weights of a network, or of S networks stacked along a leading axis.

    Attributes:
        input: U, (..., n, d).
        hidden: every W, block-major: L·k tensors (..., n, n).
        readout: v, (..., n, C).
        backward: the matrices that backpropagate in place of ``hidden`` in the decoupled network
            (coupling "independent"); None is true backpropagation.
    """

    input: Tensor
    hidden: Sequence[Tensor]
    readout: Tensor
    backward: Sequence[Tensor] | None = None

    @property
    def tensors(self) -> list[Tensor]:
        """All weights."""
        return [self.input, self.readout, *self.hidden, *(self.backward or ())]

    def apply(self, index: int, a: Tensor) -> Tensor:
        """a Wᵀ for hidden weight ``index``: (..., P, n) -> (..., P, n)."""
        w = self.hidden[index]
        b = None if self.backward is None else self.backward[index]
        # A stack of one as a plain matrix: its products are several times faster than batched.
        alone = w.ndim == 3 and len(w) == 1 and a.ndim == 3
        if alone:
            # squeeze, not [0]: the gradient is then a view, not a copy into zeros.
            a, w, b = a.squeeze(0), w.squeeze(0), None if b is None else b.squeeze(0)
        u: Any = a @ w.mT if b is None else DecoupledLinear.apply(a, w, b)
        return u[None] if alone else u

    def run(self, index: int) -> Weights:
        """Views of one of the stacked networks, without gradients."""
        back = None if self.backward is None else [w.detach()[index] for w in self.backward]
        return Weights(
            self.input.detach()[index],
            [w.detach()[index] for w in self.hidden],
            self.readout.detach()[index],
            back,
        )


class DecoupledLinear(torch.autograd.Function):
    """a Wᵀ whose gradient by a uses another matrix; both matrices get the gradient gᵀa of W.

    So one optimizer gives both the same learned updates, and each decays its own initial values:
    the gradient-independence assumption as a finite network.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, weight: Tensor, backward_weight: Tensor) -> Tensor:
        """(..., P, n), (..., n, n), (..., n, n) -> (..., P, n)."""
        ctx.save_for_backward(a, backward_weight)
        return a @ weight.mT

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """g (..., P, n) -> g W_b, gᵀa, gᵀa."""
        (g,) = grads
        a, backward_weight = ctx.saved_tensors
        by_input = g @ backward_weight if ctx.needs_input_grad[0] else None
        by_weight = g.mT @ a if ctx.needs_input_grad[1] or ctx.needs_input_grad[2] else None
        return by_input, by_weight, by_weight


def forward(
    network: Architecture, weights: Weights, x: Tensor, observer: ForwardObserver | None = None
) -> Tensor:
    """The outputs f of a network or of stacked networks.

    Args:
        weights: of one network, or of S networks with a leading axis.
        x: inputs (*, d); (P, d) if the weights are stacked.
        observer: is shown every h_l and every hidden weight's input and output.

    Returns:
        (*, C), or (S, P, C) for stacked weights.
    """
    phi = activations.find(network.activation).value
    k = network.block_layers
    depth, n = len(weights.hidden) // k, weights.readout.shape[-2]
    scale, alpha = network.gain / math.sqrt(n), network.branch(depth)

    h = x @ weights.input.mT / math.sqrt(x.shape[-1])
    if observer is not None:
        observer.stream(0, h)
    for block in range(depth):
        a = phi(h) if k == 1 else h
        u = a
        for position in range(k):
            if position:
                a = phi(u)
            index = block * k + position
            u = weights.apply(index, a) * scale
            if observer is not None:
                observer.layer(index, a, u)
        h = torch.add(h, u, alpha=alpha) if network.skip else u
        if observer is not None:
            observer.stream(block + 1, h)
    return h @ weights.readout * network.readout(n)


def param_groups(
    network: Architecture, sgd: SGD, weights: Weights, depth: int
) -> list[dict[str, Any]]:
    """One group for each of the roles in ``sgd.train``, one per position in a block for hidden.

    Each has params, lr = η·n^q·c, weight_decay = λ·η/lr (a step multiplies the weight by 1 − ηλ),
    momentum, and ``role``. The schedule is left to the caller: it multiplies lr.
    """
    n, k = weights.readout.shape[-2], network.block_layers
    rate = network.rate(n)

    def group(role: str, params: list[Any], factor: float) -> dict[str, Any]:
        return {
            "params": params,
            "lr": sgd.lr * rate * factor,
            "weight_decay": sgd.weight_decay / (rate * factor),
            "momentum": sgd.momentum,
            "role": role,
        }

    groups = []
    if "input" in sgd.train:
        groups.append(group("input", [weights.input], 1.0))
    if "hidden" in sgd.train:
        for position in range(k):
            params = [*weights.hidden[position::k], *(weights.backward or ())[position::k]]
            groups.append(group("hidden", params, network.rate_factor(position, depth)))
    if "readout" in sgd.train:
        groups.append(group("readout", [weights.readout], 1.0))
    return groups
