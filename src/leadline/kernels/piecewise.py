"""An activation as polynomials of degree 15 on pieces of the line, with the error of that measured.

For h ~ N(0, s²) with s in [S/2, S] the pieces cover |h| ≤ 13 S (more if φ grows so fast that the rest
matters). A piece is halved until φ and φ' are the polynomials through their values at 16 Gauss
nodes: to the last three Legendre coefficients, and at four points that the polynomial has not seen,
two of them as close to the ends as numbers get, so that a steep zone cannot hide between two
pieces. Where halving would go on to the resolution of numbers, φ has a kink or a jump: it becomes
an end of two pieces, and costs no more than that.

For every s the L² distance between φ and its polynomials follows, which bounds the error of
E[φ(h)φ(h')] at every correlation (Cauchy and Schwarz).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.special import ndtr

Evaluate = Callable[[np.ndarray], np.ndarray]
"""h -> φ(h), φ'(h) stacked, (2, ...)."""

NODES = 16
X, W = np.polynomial.legendre.leggauss(NODES)
_TO_LEGENDRE = (np.polynomial.legendre.legvander(X, NODES - 1) * W[:, None]) * (
    np.arange(NODES) + 0.5
)
"""Values at the nodes -> Legendre coefficients, (16, 16)."""

_HALF = (
    *(0.0025, 0.008, 0.025, 0.06, 0.12, 0.2, 0.3, 0.43, 0.6, 0.8),
    *(1.0, 1.25, 1.5, 1.75),
    *np.arange(2.0, 13.1, 0.5).tolist(),
)
EDGES = np.array([-e for e in reversed(_HALF)] + [0.0, *_HALF])
"""In units of s; 0 is where most activations are steep, kinked or flat."""
FAR = (20.0, 28.0, 37.0)
TARGET = 3e-12
"""Bound of the L² distance, relative to E[φ²]^½."""
_PIECES = 1 << 13
_ROUNDS = 160
_NEVER = 1e-20
_OTHER = 0.77131
"""So that an end of one scale's pieces is inside another's, but for 0."""
_UNSEEN = np.array([-0.7138, 0.3861])
_SCAN = 1 << 12


@dataclass(frozen=True, eq=False)
class Pieces:
    """φ on pieces of the line, for h ~ N(0, s²) with s ≤ ``scale``.

    Attributes:
        scale: S.
        edges: (n + 1,) ends of the pieces.
        values: (2, n, 16) φ and φ' at ``nodes(edges)``.
        error: (2, n) largest difference to the polynomial that was seen.
        complete: whether halving ended because nothing was left to halve.
        breaks: where φ has a kink or a jump.
        plain: whether no piece of ``EDGES``·S had to be halved, nor would for other S: then φ has no
            kink but at 0.
    """

    scale: float
    edges: np.ndarray
    values: np.ndarray
    error: np.ndarray
    complete: bool = False
    breaks: np.ndarray = field(default_factory=lambda: np.zeros(0))
    plain: bool = False

    def distance(self, s: np.ndarray) -> np.ndarray:
        """L² distances of φ and φ' to the polynomials under N(0, s²), relative to their norms, (2, m)."""
        mass = masses(self.edges, s)
        thin = np.diff(self.edges) <= floor(self.edges, 0.0)
        with np.errstate(over="ignore", invalid="ignore"):
            size = np.abs(self.values).max(-1)
            ends = size[:, [0, -1]] ** 2 @ mass[:, [0, -1]].T
            off = (self.error * ~thin) ** 2 @ mass.T + np.where(ends > 1e-300, ends, 0)
            energy = self.energy(s)
            out = np.sqrt(np.divide(off, energy, out=np.zeros_like(off), where=off > 0))
            # A kink or jump that no end of a piece hit: a point, whatever its neighbours.
            most = (size[:, None] * (mass > 1e-20)).max(-1)
            point = (self.error * thin) @ mass.T * most
            out += np.divide(point, energy, out=np.zeros_like(off), where=point > 0)
        return np.where(np.isfinite(out), out, np.inf)

    def energy(self, s: np.ndarray) -> np.ndarray:
        """E[φ²] and E[φ'²], (2, m)."""
        h, w = nodes(self.edges)
        with np.errstate(under="ignore", over="ignore"):
            weight = w.ravel() / s[:, None] * density(h.ravel() / s[:, None])
            return (self.values**2).reshape(2, -1) @ weight.T


def floor(edges: np.ndarray, scale: float) -> np.ndarray:
    """Width below which a piece is not halved: the resolution of numbers, (n,)."""
    return np.maximum(256 * np.spacing(np.maximum(np.abs(edges[1:]), np.abs(edges[:-1]))), scale)


def density(x: np.ndarray) -> np.ndarray:
    """Density of N(0, 1)."""
    return np.exp(-0.5 * x * x) / np.sqrt(2 * np.pi)


def nodes(edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gauss nodes and weights of the pieces between ``edges`` (n + 1,), both (n, 16)."""
    half = 0.5 * np.diff(edges)[:, None]
    return 0.5 * (edges[1:] + edges[:-1])[:, None] + half * X, half * W


def masses(edges: np.ndarray, s: np.ndarray) -> np.ndarray:
    """P(piece) under N(0, s²), (m, n)."""
    x = edges / s[:, None]
    a, b = x[:, :-1], x[:, 1:]
    # Both ends on the side where the distribution function is small: no cancellation.
    flip = a + b > 0
    inside = ndtr(np.where(flip, -a, b)) - ndtr(np.where(flip, -b, a))
    # A thin piece: width times density.
    return np.maximum(inside, 0.1 * (b - a) * density(np.maximum(np.abs(a), np.abs(b))))


def tails(values: np.ndarray) -> np.ndarray:
    """The largest of the last three Legendre coefficients of values (..., 16) at the nodes."""
    return np.abs(values @ _TO_LEGENDRE[:, -3:]).max(-1)


def build(evaluate: Evaluate, scale: float) -> Pieces:
    """The pieces of φ for standard deviations in [scale/2, scale]."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore"):
        start = EDGES * scale
        for far in FAR:
            if _ends_matter(evaluate, start, scale):
                more = np.arange(start[-1] / scale, far, 0.5)[1:] * scale
                start = np.concatenate([-more[::-1], start, more])
        pieces = _refine(evaluate, start, scale, 9)
        plain = len(pieces.edges) == len(EDGES) and _fits(evaluate, EDGES * (_OTHER * scale), scale)
        known = np.zeros(0)
        if not pieces.complete:  # as it is at a kink, which only needs to be an end
            known = _breaks(evaluate, pieces, start)
            start = np.union1d(start, known)
            pieces = _refine(evaluate, start, scale, _ROUNDS)
            more = _breaks(evaluate, pieces, start)
            if len(more):
                other = _refine(evaluate, np.union1d(start, more), scale, _ROUNDS)
                if len(other.edges) < len(pieces.edges):
                    pieces, known = other, np.union1d(known, more)
    # Where no neuron is, φ may overflow.
    never = masses(pieces.edges, np.array([scale]))[0] < _NEVER
    never &= ~(np.isfinite(pieces.values).all((0, 2)) & np.isfinite(pieces.error).all(0))
    pieces.values[:, never], pieces.error[:, never] = 0, 0
    return replace(pieces, breaks=np.append(known, 0.0), plain=plain)


def _ends_matter(evaluate: Evaluate, edges: np.ndarray, scale: float) -> bool:
    values = evaluate(nodes(edges)[0])
    mass = masses(edges, np.array([scale]))[0]
    each = (values**2).max(-1) * mass
    each[~np.isfinite(each)] = 0
    return bool((each[:, [0, -1]].max(1) > 1e-26 * each.sum(1)).any())


def _measure(evaluate: Evaluate, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values (2, n, 16) and errors (2, n) on separate pieces (n, 2)."""
    left, right = edges[:, :1], edges[:, 1:]
    middle, half = 0.5 * (left + right), 0.5 * (right - left)
    near = 32 * np.spacing(np.maximum(np.abs(left), np.abs(right)))
    inward = [
        np.where(left == 0, 1e-40 * half, np.minimum(near, 0.01 * half)),
        np.where(right == 0, 1e-40 * half, np.minimum(near, 0.01 * half)),
    ]
    unseen = np.concatenate([left + inward[0], middle + half * _UNSEEN, right - inward[1]], 1)
    seen = middle + half * X
    both = evaluate(np.concatenate([seen, unseen], 1))
    values, checks = both[..., :NODES], both[..., NODES:]
    at = np.clip((unseen - middle) / half, -1, 1)
    polynomial = np.polynomial.legendre.legvander(at, NODES - 1)
    coefficients = values @ _TO_LEGENDRE
    off = np.abs((polynomial @ coefficients[..., None])[..., 0] - checks)
    error = np.maximum(np.abs(coefficients[..., -3:]).max(-1), off.max(-1))
    # An end where φ' alone is infinite (√h at 0) says so by the coefficients too.
    return values, np.where(np.isnan(error), np.inf, error)


def _fits(evaluate: Evaluate, edges: np.ndarray, scale: float) -> bool:
    """Whether φ and φ' are polynomials on these pieces as they are."""
    values, error = _measure(evaluate, np.stack([edges[:-1], edges[1:]], 1))
    s = np.array([0.5 * scale, scale])
    small = error[:, None] ** 2 * masses(edges, s)
    return bool((small <= _allowed(Pieces(scale, edges, values, error), s)).all())


def _allowed(pieces: Pieces, s: np.ndarray) -> np.ndarray:
    """What a piece may add to the squared distance, (2, m, 1)."""
    return (TARGET**2 / 128) * pieces.energy(s)[..., None]


def _refine(evaluate: Evaluate, edges: np.ndarray, scale: float, rounds: int) -> Pieces:
    """Halve pieces until φ and φ' are polynomials on each."""
    values, error = _measure(evaluate, np.stack([edges[:-1], edges[1:]], 1))
    stuck = np.zeros(len(edges) - 1, dtype=bool)
    sizes = np.array([0.5 * scale, scale])
    scanned = False
    for _ in range(rounds):
        mass, least = masses(edges, sizes), floor(edges, 1e-36 * scale)
        usable = np.asarray(np.isfinite(values).all(-1))
        now = Pieces(scale, edges, np.where(usable[..., None], values, 0), error)
        off = np.asarray((error[:, None] ** 2 * mass > _allowed(now, sizes)).any(1))
        bad = off.any(0)
        bad &= usable.all(0)
        bad |= (~usable).any(0) & (mass.max(0) > _NEVER)
        wide = (np.diff(edges) > least) & ~stuck
        # So narrow is only what ends at a singularity, where φ cannot be evaluated.
        thin = np.diff(edges) <= 1e-36 * scale
        error[:, thin] = tails(values[:, thin])
        bad &= wide
        if (~usable & (mass.max(0) > 1e-6)).any():
            break  # nothing to integrate
        if not bad.any() and not scanned:
            scanned, bad = True, _scan(evaluate, now) & wide
        if not bad.any():
            return Pieces(scale, edges, values, error, complete=True)
        if len(stuck) + bad.sum() > _PIECES:
            break
        l, r = edges[:-1][bad], edges[1:][bad]
        # Towards 0, where there are numbers of any size, in larger steps.
        cut = l, np.where(l == 0, r / 16, np.where(r == 0, l / 16, 0.5 * (l + r))), r
        v, e = _measure(evaluate, np.stack([cut[:2], cut[1:]]).transpose(0, 2, 1).reshape(-1, 2))
        # Noise of φ's rounding: small, and no smaller on either half.
        size = np.abs(values[:, bad]).max(-1)
        both = e.reshape(2, 2, -1) > 0.5 * error[:, None, bad]
        noise = (both.all(1) & (error[:, bad] < 1e-9 * size) | ~off[:, bad]).all(0)
        noise &= off[:, bad].any(0)
        left = np.concatenate([edges[:-1][~bad], cut[0], cut[1]])
        order = np.argsort(left)
        values = np.concatenate([values[:, ~bad], v], 1)[:, order]
        error = np.concatenate([error[:, ~bad], e], 1)[:, order]
        stuck = np.concatenate([stuck[~bad], noise, noise])[order]
        edges = np.append(left[order], edges[-1])
    return Pieces(scale, edges, values, error)


def _scan(evaluate: Evaluate, pieces: Pieces) -> np.ndarray:
    """Pieces (n,) on which φ differs from its polynomial at one of many evenly spread points."""
    h = np.linspace(-6 * pieces.scale, 6 * pieces.scale, _SCAN + 1)[1:] - 0.00037 * pieces.scale
    at = np.searchsorted(pieces.edges, h, "right") - 1
    off = np.abs(interpolate(pieces, h, at) - evaluate(h))
    size = np.abs(pieces.values).max(-1)
    size = np.maximum(size[:, at], 1e-3 * np.sqrt(pieces.energy(np.array([pieces.scale]))))
    missed = np.zeros(len(pieces.edges) - 1, dtype=bool)
    missed[at[(~(off <= 1e-9 * size)).any(0)]] = True
    return missed


def interpolate(pieces: Pieces, h: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The polynomials of pieces ``at`` (N,) at h (N,): (2, N)."""
    left, right = pieces.edges[at], pieces.edges[at + 1]
    x = np.clip((2 * h - left - right) / (right - left), -1, 1)
    coefficients = (pieces.values @ _TO_LEGENDRE)[:, at]
    return (coefficients * np.polynomial.legendre.legvander(x, NODES - 1)).sum(-1)


def _breaks(evaluate: Evaluate, pieces: Pieces, start: np.ndarray) -> np.ndarray:
    """Where halving ran towards a point: candidates for kinks and jumps."""
    width = np.diff(pieces.edges)
    whole = np.searchsorted(start, 0.5 * (pieces.edges[1:] + pieces.edges[:-1])) - 1
    small = width < 0.02 * np.diff(start)[whole]
    around = np.pad(width, 1, constant_values=np.inf)
    size = np.abs(pieces.values).max((1, 2))[:, None]
    small &= (pieces.error > 1e-10 * size).any(0)
    # Siblings are as narrow, but for rounding.
    lowest = small & (width <= 1.5 * around[:-2]) & (width <= 1.5 * around[2:])
    left, right = pieces.edges[:-1][lowest], pieces.edges[1:][lowest]
    if not len(left) or len(left) > _PIECES // 8:
        return np.zeros(0)
    for _ in range(60):
        middle = 0.5 * (left + right)
        halves = np.stack([np.stack([left, middle], 1), np.stack([middle, right], 1)])
        wide = (right - left) > 8 * np.spacing(np.maximum(np.abs(left), np.abs(right)))
        if not wide.any():
            break
        values, error = _measure(evaluate, halves.reshape(-1, 2))
        size = np.abs(values).max((1, 2), keepdims=True)[..., 0]
        worse = np.nan_to_num(error / np.maximum(size, 1e-300)).max(0).reshape(2, -1)
        lower = worse[0] >= worse[1]
        hit = (worse < 1e-10).all(0)  # the break is the middle itself
        right = np.where(wide & (lower | hit), middle, right)
        left = np.where(wide & (~lower | hit), middle, left)
    middle = 0.5 * (left + right)
    known = np.abs(middle[:, None] - start).min(1) <= 1e-13 * np.maximum(
        np.abs(middle), pieces.scale
    )
    return np.unique(middle[~known])
