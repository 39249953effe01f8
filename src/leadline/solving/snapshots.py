"""What a measurement needs of a revealed network: features, backward features, tangent kernel."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from leadline.measure.observation import Measure, Snapshot
from leadline.solving.network import Pass, RevealedNetwork


class _Kept:
    """Keeps the stream at some layers, and what is shown of the weights if that is wanted."""

    def __init__(self, layers: Sequence[int], weights: bool) -> None:
        self._layers, self._weights = layers, weights
        self.features: dict[int, Tensor] = {}
        self.weights: list[Tensor] = []

    def stream(self, layer: int, h: Tensor) -> None:
        if layer in self._layers:
            self.features[layer] = h

    def weight(self, a: Tensor) -> None:
        if self._weights:
            self.weights.append(a)


def snapshot(run: RevealedNetwork, x: Tensor, request: Measure) -> Snapshot:
    """What ``request`` needs on inputs x (P, d), by queries that are forgotten."""
    p, layers = len(x), request.layers(run.depth)
    tangent = "tangent_kernel" in request.quantities
    start = run.mark()
    rows, initial = x, None
    if request.initial:
        rows = torch.cat([x, x])
        initial = torch.arange(2 * p, device=x.device) >= p
    seen = _Kept(layers, tangent)
    done = run.observe(rows, seen, initial)
    shot = Snapshot(h=[seen.features[l][:p] for l in layers], neurons=run.shards)
    if request.initial:
        shot.h_initial = [seen.features[l][p:] for l in layers]
    if request.backward:
        _add_backward(run, _first(done, p), [a[:p] for a in seen.weights], shot, layers)
    run.rollback(start)
    return shot


def _add_backward(
    run: RevealedNetwork, done: Pass, inputs: list[Tensor], shot: Snapshot, layers: Sequence[int]
) -> None:
    """Backward features, and the parts of the tangent kernel if the weights' inputs are known."""
    x, c = done.x, run.v.value.shape[1]
    p = len(x)
    seen = _Kept(layers, bool(inputs))
    z0 = run.backward(done, run.v.value.mT.repeat_interleave(p, dim=0), seen)

    def by_sample(rows: Tensor) -> Tensor:
        return rows.reshape(c, p, run.shards.width).transpose(0, 1)

    shot.z = [by_sample(seen.features[l]) for l in layers]
    if not inputs:
        return
    hidden = x.new_zeros((p, p))
    network, gram = run.network, run.shards.gram
    for i, (a, b) in enumerate(zip(inputs, seen.weights[::-1], strict=True)):
        factor = network.rate_factor(i % network.block_layers, run.depth) * network.gain**2
        hidden += factor * gram(by_sample(b)) * gram(a)
    shot.tangent = {
        "input": gram(by_sample(z0)) * (x @ x.mT) / x.shape[1],
        "hidden": hidden,
        "readout": gram(done.top),
    }


def _first(done: Pass, p: int) -> Pass:
    """A pass restricted to its first p inputs."""
    return Pass(
        done.x[:p],
        done.outputs[:p],
        done.top[:p],
        [[None if s is None else s[:p] for s in block] for block in done.slopes],
        [[c[:p] for c in block] for block in done.coefficients],
    )
