"""What measurement needs from one dense network: features, backward features, tangent kernel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from leadline.dense.forward import Weights, forward
from leadline.measure.observation import Measure, Snapshot, gram

if TYPE_CHECKING:
    from leadline.architecture import ResNet


class _Tap:
    """Keeps h at some layers; adds up the hidden tangent kernel while gradients flow back."""

    def __init__(self, network: ResNet, depth: int, layers: Sequence[int], tangent: bool) -> None:
        self.network, self.depth = network, depth
        self.layers, self.tangent = set(layers), tangent
        self.h: dict[int, Tensor] = {}
        self.hidden: Tensor | None = None

    def stream(self, index: int, h: Tensor) -> None:
        if index == 0 and torch.is_grad_enabled():
            h.requires_grad_()
        if index in self.layers:
            self.h[index] = h

    def layer(self, index: int, a: Tensor, u: Tensor) -> None:
        if not self.tangent:
            return
        position = index % self.network.block_layers
        c = self.network.rate_factor(position, self.depth)
        inputs = gram(a.detach()) * (c * self.network.gain**2)

        def add(g: Tensor) -> None:
            part = gram(g) * inputs
            self.hidden = part if self.hidden is None else self.hidden.add_(part)

        u.register_hook(add)


def take(
    network: ResNet,
    weights: Weights,
    x: Tensor,
    request: Measure,
    h_initial: Sequence[Tensor] | None = None,
) -> Snapshot:
    """Observe one network on inputs x (P, d).

    Backward features are ∂f_c/∂h through the coupling's own backward pass, divided by the output
    multiplier. The hidden part of the tangent kernel is the sum over hidden weights of
    c·gain²·(z·z'/n)(a·a'/n), z the gradient by the weight's output and a its input.

    Args:
        weights: of one network (no leading axis), without gradients.
        h_initial: ``Snapshot.h`` before training; None takes the present features.
    """
    k = network.block_layers
    depth = len(weights.hidden) // k
    chosen = request.layers(depth)
    tangent = "tangent_kernel" in request.quantities
    tap = _Tap(network, depth, (*chosen, 0, depth) if tangent else chosen, tangent)
    with torch.set_grad_enabled(request.backward):
        f = forward(network, weights, x, tap)
    z = _backward(network, weights, f, tap.h) if request.backward else {}
    h = {layer: value.detach() for layer, value in tap.h.items()}
    parts = None
    if tangent and tap.hidden is not None:
        parts = {
            "input": gram(z[0]) * (x @ x.mT / x.shape[-1]),
            "hidden": tap.hidden / f.shape[-1],
            "readout": gram(h[depth]),
        }
    features = [h[layer] for layer in chosen]
    return Snapshot(
        h=features,
        h_initial=(h_initial or features) if request.initial else None,
        z=[z[layer] for layer in chosen] if request.backward else None,
        tangent=parts,
    )


def _backward(
    network: ResNet, weights: Weights, f: Tensor, h: dict[int, Tensor]
) -> dict[int, Tensor]:
    """z_l (P, C, n) by layer: one backward pass per output, all samples at once."""
    n, outputs = weights.readout.shape[-2:]
    ones = torch.full_like(f[:, 0], 1 / network.readout(n))
    layers = list(h)
    parts = [
        torch.autograd.grad(
            f[:, c], [h[layer] for layer in layers], ones, retain_graph=c < outputs - 1
        )
        for c in range(outputs)
    ]
    return {layer: torch.stack(part, 1) for layer, *part in zip(layers, *parts, strict=True)}
