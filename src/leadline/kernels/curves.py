"""Which covariances have to be followed through depth, and how the rest comes from them.

What a block does to K(x, x') depends on K(x, x), K(x', x') and K(x, x') alone. So a kernel on P
inputs is followed on a list of pairs, whose first m entries are the variances of its m groups:

    every   all pairs of P inputs, once: P(P+1)/2 of them, a group per input
    curves  inputs of m distinct variances: at depth 0 a pair (g, g') of groups differs by its
            angle θ = arccos ρ alone, so every kernel is a function of θ. It is followed at
            Chebyshev nodes in θ and its series evaluated at the data's angles.

In θ the kernels are smooth up to ρ = ±1, where they have a square-root singularity in ρ if φ has
a kink. The series is accepted when its last eighth is below 1e-11 of its largest coefficient.
A φ that is homogeneous, φ(sh) = sφ(h) for s > 0, needs one variance: K/(s s') has unit variances.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from leadline.activations.pairs import Pairs, distinct, every, matrix

NODES = (32, 64, 128)
_ENOUGH = 1e-11
_CHUNK = 1 << 13

Follow = Callable[["Pairs", np.ndarray], tuple[np.ndarray, ...]]
"""(pairs, K_0 (N,)) -> kernels (..., N)."""


def follow(
    k0: np.ndarray, work: Follow, degrees: tuple[int, ...], *, homogeneous: bool = False
) -> list[np.ndarray]:
    """``work`` on as few pairs as will do; its kernels as (..., P, P).

    Args:
        k0: (P, P) covariances at depth 0.
        work: follows K_0 on pairs through depth.
        degrees: of every kernel that ``work`` returns, in (s s'), for a homogeneous φ.
        homogeneous: whether φ is.
    """
    size = len(k0)
    pairs = every(size)
    # Correlated pairs first: a chunk of weakly correlated ones needs few terms of a series in ρ.
    rho = pairs.correlation(k0[pairs.left, pairs.right])[1][size:]
    order = size + np.argsort(-np.abs(rho))
    pairs = Pairs.of(size, pairs.left[order], pairs.right[order])
    flat = k0[pairs.left, pairs.right]
    q = flat[:size]
    scale = np.ones(size)
    if homogeneous and (q > 0).all():
        scale = np.sqrt(q)
        _, flat = pairs.correlation(flat)
        q = flat[:size]
    kernels = _by_curves(pairs, q, flat, work) or work(pairs, flat)
    back = pairs.outer(scale)
    return [
        matrix(k * back if degree else k, pairs) for k, degree in zip(kernels, degrees, strict=True)
    ]


def _by_curves(
    pairs: Pairs, q: np.ndarray, flat: np.ndarray, work: Follow
) -> list[np.ndarray] | None:
    """Kernels (..., N) of all pairs from curves in the angle; None if that is no gain."""
    values, group = distinct(q)
    m = len(values)
    g, h = np.triu_indices(m)
    rest = slice(pairs.groups, None)
    if 8 * len(g) * NODES[0] > len(flat):
        return None
    angle = np.arccos(pairs.correlation(flat)[1][rest])
    low, high = angle.min(), angle.max()
    if not high - low > 1e-6:
        return None
    # The curve (g, h), g <= h, of every pair of inputs.
    a, b = np.sort(group[np.stack([pairs.left[rest], pairs.right[rest]])], 0)
    curve = a * m - a * (a - 1) // 2 + b - a
    x = (2 * angle - low - high) / (high - low)
    for nodes in NODES:
        if 4 * len(g) * nodes > len(flat):
            return None
        theta = 0.5 * (low + high) + 0.5 * (high - low) * chebyshev_nodes(nodes)
        followed = Pairs.of(m, np.repeat(g, nodes), np.repeat(h, nodes))
        k = followed.outer(np.sqrt(values))
        k[m:] *= np.tile(np.cos(theta), len(g))
        kernels = work(followed, k)
        series = [
            chebyshev_series(f[..., m:].reshape(*f.shape[:-1], len(g), nodes)) for f in kernels
        ]
        if all(_resolved(c) for c in series):
            return [
                np.concatenate([f[..., :m][..., group], _evaluate(c, curve, x)], -1)
                for f, c in zip(kernels, series, strict=True)
            ]
    return None


def chebyshev_nodes(count: int) -> np.ndarray:
    """Chebyshev nodes cos((j + ½)π/count)."""
    return np.cos((np.arange(count) + 0.5) * np.pi / count)


def chebyshev_series(values: np.ndarray) -> np.ndarray:
    """Chebyshev coefficients (..., count) of values at the nodes."""
    count = values.shape[-1]
    j = np.arange(count)
    table = np.cos(np.outer(j + 0.5, j) * (np.pi / count)) * (2 / count)
    table[:, 0] /= 2
    return values @ table


def _resolved(c: np.ndarray) -> bool:
    """Whether every series' last eighth is negligible."""
    size = np.abs(c).max(-1)
    return bool((np.abs(c[..., -(c.shape[-1] // 8) :]).max(-1) <= _ENOUGH * size).all())


def _evaluate(c: np.ndarray, curve: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Series (..., curves, count), number ``curve`` at x (N,): (..., N), by one product a curve."""
    out = np.empty((*c.shape[:-2], len(x)))
    count = c.shape[-1]
    for which in range(c.shape[-2]):
        one = c[..., which, :]
        (at,) = np.nonzero(curve == which) if c.shape[-2] > 1 else (np.arange(len(x)),)
        for i in range(0, len(at), _CHUNK):
            here = at[i : i + _CHUNK]
            t = np.empty((count, len(here)))
            t[0], t[1] = 1.0, x[here]
            twice = 2 * t[1]
            for j in range(2, count):
                np.multiply(twice, t[j - 1], out=t[j])
                t[j] -= t[j - 2]
            out[..., here] = one @ t
    return out
