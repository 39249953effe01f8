"""The theory's tables, recomputed: ./dev bench theory [first loss limits blocks rates]

first   first step of hidden weights: formulas, solver, dense networks (both couplings)
loss    loss after 4 steps, tanh, both couplings, three depths: the gap does not close
limits  the same loss at infinite width and depth, with error bars
blocks  two-layer blocks: collapse of the first internal layer, correction, explosion
rates   exponents in depth of each layer's own update, per scheme
Every mean comes with its standard error over seeds.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from history import keep_printed, size

import leadline as ll
from leadline.kernels.kernels import first_step
from leadline.solving.configuration import Configuration
from leadline.solving.network import RevealedNetwork


def pm(values: np.ndarray, digits: int = 4) -> str:
    """Mean and standard error over seeds."""
    v = np.asarray(values, dtype=float)
    return f"{v.mean():.{digits}f}±{v.std(ddof=1) / math.sqrt(len(v)):.{digits}f}"


def one_sample() -> ll.Problem:
    return ll.arrays(np.ones((1, 4)), np.array([1.0]), standardize=False)


def first() -> None:
    """−Δf/(ηχ), one sample, T = 1: formula, solver (n=4096, L=64), dense (n=512, L=32)."""
    p, sgd = one_sample(), ll.SGD(lr=0.02, steps=1, train="hidden", center=True)
    print("activation   coupling     limit   L=64    solve n=4096     dense n=512, L=32")
    names = ("identity", "tanh", "sqrt2 relu", "relu", "gelu", "erf")
    solved = size(dict(width=4096, depth=64, seeds=24), dict(width=64, depth=4, seeds=2))
    dense = size(dict(width=512, depth=32, seeds=10), dict(width=32, depth=4, seeds=2))
    for name in size(names, names[:2]):
        gain = math.sqrt(2) if name == "sqrt2 relu" else 1.0
        net = ll.ResNet(name.split()[-1], gain=gain, scheme="depth-mup")
        for coupling in ("reused", "independent"):
            how = dict(coupling=coupling, seed=0)
            limit = first_step(p, net, coupling)[0, 0]
            finite = first_step(p, net, coupling, 64)[0, 0]
            s = ll.solve(p, net, sgd, variance_reduction="balanced", **solved, **how)
            t = ll.train(p, net, sgd, **dense, **how)
            a, b = (r.train_outputs[:, 1, 0, 0] / sgd.lr for r in (s, t))
            print(f"{name:12s} {coupling:12s} {limit:.4f}  {finite:.4f}  {pm(a)}  {pm(b)}")


def four_samples() -> tuple[ll.Problem, ll.ResNet, ll.SGD]:
    """Four random inputs of norm √6, tanh, T = 1, η = 0.5, only W trained, f_0 = 0."""
    x = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    x = x / x.norm(dim=1, keepdim=True) * math.sqrt(6)
    p = ll.arrays(x, np.array([1.0, -1.0, 1.0, -1.0]), standardize=False)
    net = ll.ResNet("tanh", scheme="depth-mup")
    return p, net, ll.SGD(lr=0.5, steps=4, train="hidden", center=True)


def loss() -> None:
    """Loss after 4 steps, four random inputs, tanh, T = 1, η = 0.5, only W trained, f_0 = 0."""
    p, net, sgd = four_samples()
    print("coupling      L=8             L=32            L=128           dense n=800, L=32")
    for coupling in ("reused", "independent"):
        row = [
            ll.solve(
                p,
                net,
                sgd,
                width=size(16384, 64),
                depth=depth,
                coupling=coupling,
                seeds=size(4, 2),
                variance_reduction="ends",
            ).train_loss[:, -1]
            for depth in size((8, 32, 128), (2, 4))
        ]
        dense = size(dict(width=800, depth=32, seeds=10), dict(width=32, depth=4, seeds=2))
        t = ll.train(p, net, sgd, coupling=coupling, **dense)
        print(f"{coupling:12s} {'  '.join(pm(r) for r in row)}  {pm(t.train_loss[:, -1])}")


class Stream:
    """Keeps h of every layer."""

    def __init__(self) -> None:
        self.h: list[torch.Tensor] = []

    def stream(self, layer: int, h: torch.Tensor) -> None:
        self.h.append(h)

    def weight(self, a: torch.Tensor) -> None:
        pass


def internal_movement(net: ll.ResNet, coupling: str, depth: int, s: int) -> tuple[float, float]:
    """Δf, and mean over blocks of RMS(ΔW_1 h), of one step at n = 512 (one sample, target 1)."""
    n = size(512, 64)
    p, sgd = one_sample(), ll.SGD(lr=0.5, steps=1, train="hidden", center=True)
    exact = dict(coupling=coupling, dtype="float64", tol=0.0)
    run = RevealedNetwork(Configuration(p, net, sgd, width=n, depth=depth, **exact), s)
    x = torch.tensor(p.x)
    run.center(x)
    stream = Stream()
    done = run.forward(x, stream)
    run.step(done, done.outputs - 1.0, sgd.lr)
    moves = []
    for block, h in zip(run.operators, stream.h[:-1], strict=True):
        both = torch.cat([h, h])  # the input of a two-layer block's first weight
        rows = torch.tensor([False, True])
        (now, before), _ = block[0].query(both, initial=rows)
        moves.append(float((now - before).square().mean().sqrt()))
    return float(run.evaluate(x)[0, 0] - done.outputs[0, 0]), float(np.mean(moves))


def blocks() -> None:
    """First step of two-layer blocks: mean Δf; mean RMS(ΔW_1 h)."""
    print("network                              L=4                       L=16  and  L=64")
    for activation, scheme, coupling in (
        ("relu", "depth-mup", "reused"),
        ("relu", "depth-mup-corrected", "reused"),
        ("relu", "depth-mup-corrected", "independent"),
        ("relu", "completep", "reused"),
        ("tanh", "depth-mup", "reused"),
        ("tanh", "depth-mup-corrected", "reused"),
        ("tanh", "completep", "reused"),
    ):
        net = ll.ResNet(activation, block_layers=2, scheme=scheme)
        cells = []
        for depth in size((4, 16, 64), (2, 4)):
            both = np.array([internal_movement(net, coupling, depth, s) for s in range(size(6, 2))])
            cells.append(f"{pm(both[:, 0], 3)}; {pm(both[:, 1], 3)}")
        print(f"{activation} {scheme:20s} {coupling:12s} {'   '.join(cells)}")


def limits() -> None:
    """The same problem at infinite width and depth, rtol = 0.003, with the limit's own error bars."""
    for coupling in ("reused", "independent"):
        found = ll.limit(*four_samples(), coupling=coupling, rtol=size(0.003, 0.2))
        loss, error = found.train_loss[-1], found.train_loss_error[-1]
        print(f"{coupling:12s} {loss:.4f} ± {error:.4f}  {found.message}")


def rates() -> None:
    """Slopes of log RMS(ΔW_1 h) against log L over L = 4, 16, 64, with standard errors."""
    depths = size((4, 16, 64), (2, 4))
    for scheme, due in (("depth-mup", -0.5), ("depth-mup-corrected", 0.0), ("completep", 0.0)):
        net = ll.ResNet("tanh", block_layers=2, scheme=scheme)
        slopes = []
        for s in range(size(6, 2)):
            moves = [internal_movement(net, "reused", depth, s)[1] for depth in depths]
            slopes.append(np.polyfit(np.log(depths), np.log(moves), 1)[0])
        print(f"{scheme:20s} RMS(ΔW_1 h) ~ L^{pm(np.array(slopes), 3)} (due {due:+.1f})")


if __name__ == "__main__":
    keep_printed("theory", {f.__name__: f for f in (first, loss, limits, blocks, rates)})
