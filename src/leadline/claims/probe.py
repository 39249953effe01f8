"""What a few steps move inside two-layer blocks: each layer's own update, stream, output, backward.

Networks in the form of ``ll.ResNet`` (N(0, 1) weights, explicit multipliers), SGD or AdamW, true or
independent backward weights. Rates at width n and depth L come from the one table of schemes, with
base n = L = 1; for AdamW that of a weight W with N(0, 1) entries is the table's, which speaks of
w = n^δ W, divided by n^δ.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from leadline.dense.forward import Weights, forward, param_groups
from leadline.dense.weights import centred, draw
from leadline.parametrization.optimizers import BETAS
from leadline.parametrization.optimizers import optimizer as optimizer_named
from leadline.parametrization.rules import Place, exponents
from leadline.problems.losses import loss_value
from leadline.recipes.sgd import SGD

if TYPE_CHECKING:
    from leadline.architecture import ResNet
    from leadline.problems import Problem


def probe(
    problem: Problem,
    *,
    network: ResNet,
    optimizer: str,
    lr: float,
    steps: int,
    width: int,
    depth: int,
    coupling: str = "reused",
    seeds: int = 1,
    seed: int = 0,
    device: str = "cpu",
) -> dict[str, np.ndarray]:
    """Train hidden weights for a few steps from f_0 = 0 and inspect them after each.

    Returns:
        Arrays (seeds, steps), RMS over what is not listed (blocks, samples, neurons):
        ``own_1`` … ``own_k``, ΔW_j times its present input, per layer j of a block, over √n;
        ``stream`` h_L − h_L(0); ``output`` f − f(0); ``backward`` z_0 − z_0(0). All are O(1) a
        coordinate where a parametrization is right, at every width and depth, save the last layer's
        own update under depth-μP, which is O(1/√L) by design.
    """
    place = torch.device(device)
    weights = draw(
        network,
        width,
        depth,
        problem.dimension,
        problem.outputs,
        seed=seed,
        runs=range(seeds),
        independent=coupling == "independent",
        dtype=torch.float32,
        device=place,
    )
    x = torch.tensor(problem.x, dtype=torch.float32, device=place)
    y = torch.tensor(problem.y, dtype=torch.float32, device=place)
    inspector = _Inspector(network, weights, x)
    for v, h in zip(weights.readout, inspector.top(weights), strict=True):
        v.copy_(centred(v, h))  # so that f_0 = 0
    start = inspector.inside(weights)
    stepper = _optimizer(network, weights, optimizer, lr, width, depth)
    out: dict[str, list[np.ndarray]] = {}
    for _ in range(steps):
        stepper.zero_grad()
        with torch.enable_grad():
            loss_value(problem.loss, forward(network, weights, x), y).sum().backward()
        stepper.step()
        now = inspector.inside(weights)
        values = inspector.updates(weights) | {k: _rms(now[k] - start[k]) for k in now}
        for name, value in values.items():
            out.setdefault(name, []).append(value.double().cpu().numpy())
    return {name: np.stack(values, axis=1) for name, values in out.items()}


class _Inspector:
    """Inspects stacked networks; holds a copy of their initial hidden weights."""

    def __init__(self, network: ResNet, weights: Weights, x: Tensor) -> None:
        self.network, self.x = network, x
        self.initial = [w.detach().clone() for w in weights.hidden]

    def top(self, weights: Weights) -> Tensor:
        """h_L (S, P, n)."""
        seen = _Stream()
        with torch.no_grad():
            forward(self.network, weights, self.x, seen)
        return seen.last

    def inside(self, weights: Weights) -> dict[str, Tensor]:
        """h_L (S, P, n), f (S, P, C), z_0 (S, P, n) of the outputs' sum, through the coupling."""
        seen = _Stream(first=True)
        with torch.enable_grad():
            f = forward(self.network, weights, self.x, seen)
            n = weights.readout.shape[-2]
            (z,) = torch.autograd.grad(f.sum() / self.network.readout(n), [seen.bottom])
        return {"stream": seen.last.detach(), "output": f.detach(), "backward": z}

    def updates(self, weights: Weights) -> dict[str, Tensor]:
        """RMS of ΔW_j a/√n by layer j of a block, a the layer's present input: (S,) each."""
        k = self.network.block_layers
        seen = _Updates(self.initial, weights, self.network.gain)
        with torch.no_grad():
            forward(self.network, weights, self.x, seen)
        squares = torch.stack(seen.squares)
        return {f"own_{j + 1}": squares[j::k].mean(0).sqrt() for j in range(k)}


class _Stream:
    """Keeps h_0 (with a gradient if ``first``) and the latest h."""

    bottom: Tensor
    last: Tensor

    def __init__(self, first: bool = False) -> None:
        self.first = first

    def stream(self, index: int, h: Tensor) -> None:
        if index == 0:
            if self.first and not h.requires_grad:
                h.requires_grad_()
            self.bottom = h
        self.last = h

    def layer(self, index: int, a: Tensor, u: Tensor) -> None:
        pass


class _Updates:
    """Collects mean squares of ΔW a."""

    def __init__(self, initial: list[Tensor], weights: Weights, gain: float) -> None:
        self.initial, self.weights, self.gain = initial, weights, gain
        self.squares: list[Tensor] = []

    def stream(self, index: int, h: Tensor) -> None:
        pass

    def layer(self, index: int, a: Tensor, u: Tensor) -> None:
        change = self.weights.hidden[index].detach() - self.initial[index]
        moved = (a @ change.mT) * (self.gain / a.shape[-1] ** 0.5)
        self.squares.append(moved.square().mean((-2, -1)))


def _rms(change: Tensor) -> Tensor:
    return change.square().mean((-2, -1)).sqrt()


def _optimizer(
    network: ResNet, weights: Weights, name: str, lr: float, width: int, depth: int
) -> torch.optim.Optimizer:
    """The hidden weights' optimizer, with this width's and depth's rates."""
    groups: list[dict[str, Any]]
    kind, k = optimizer_named(name), network.block_layers
    settings: dict[str, Any] = {"foreach": False}
    if name == "sgd":
        groups = param_groups(network, SGD(lr=lr, train=("hidden",)), weights, depth)
    else:
        groups = []
        for j in range(k):
            place = Place("hidden", position=j, layers=k, last=j == k - 1)
            e = exponents(network.table, kind, place)
            factor = e.lr.at(width, depth) * width**0.5
            # ε would stand between sizes: it is far below every gradient.
            params = [*weights.hidden[j::k], *(weights.backward or ())[j::k]]
            groups.append({"params": params, "lr": lr * factor, "eps": 1e-30})
        settings |= {"betas": BETAS, "weight_decay": 0.0}
    (made,) = kind.make(groups, settings=settings)
    for group in groups:
        for p in group["params"]:
            p.requires_grad_()
    return made
