"""Hermite coefficients of an activation, a_j(q) = E[φ(√q Z) he_j(Z)], and the series that they make.

he_j are orthonormal under N(0, 1). Mehler's series E[φ(h)φ(h')] = Σ_j a_j(q) a_j(q') ρ^j is cut after J
terms; Parseval's remainder r(q) = E[φ²] − Σ_{j<J} a_j² bounds what is left out by √(r(q) r(q'))·|ρ|^J.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from leadline.kernels.curves import chebyshev_nodes, chebyshev_series
from leadline.kernels.piecewise import EDGES, Evaluate, Pieces, density, nodes, tails

TERMS = 1024
"""At most; more would need finer panels: he_j oscillates."""
FEW = 24
"""Standard deviations from which coefficients at many follow."""
_CHUNK = 1 << 12
_BLOCK = 1 << 15
_FINEST = 0.25
"""Widest panel in units of a scale S: half a standard deviation of at least S/2."""


class Grid:
    """Nodes that serve every variance: φ(√q x) is a polynomial on the panels between ``EDGES``."""

    def __init__(self) -> None:
        x, w = nodes(EDGES)
        self.x = x.ravel()
        self.weight = w.ravel() * density(self.x)
        self._basis = self.weight[None]

    def basis(self, terms: int) -> np.ndarray:
        """he_j(x)·weight, (terms, G), for every term so far."""
        if len(self._basis) < terms:
            self._basis = table(self.x, terms, self.weight)
        return self._basis[:terms]

    def values(self, evaluate: Evaluate, s: np.ndarray) -> tuple[np.ndarray, ...]:
        """φ and φ' (2, m, G), their energies (2, m), and relative L² distances to polynomials."""
        f = evaluate(s[:, None] * self.x)
        energy = (f * f) @ self.weight
        panels = f.reshape(2, len(s), len(EDGES) - 1, -1)
        mass = self.weight.reshape(len(EDGES) - 1, -1).sum(-1)
        off = tails(panels) ** 2 @ mass
        return f, energy, np.sqrt(np.divide(off, energy, out=np.zeros_like(off), where=off > 0))

    def coefficients(self, f: np.ndarray, terms: int) -> np.ndarray:
        """(2, m, terms) of values (2, m, G)."""
        return f @ self.basis(terms).T


class OnPieces:
    """φ at nodes of its pieces, fine enough for he_j, for standard deviations in [S/2, S]."""

    def __init__(self, evaluate: Evaluate, pieces: Pieces) -> None:
        width = np.diff(pieces.edges)
        parts = np.maximum(np.ceil(width / (_FINEST * pieces.scale) - 1e-9), 1).astype(int)
        which = np.repeat(np.arange(len(parts)), parts)
        index = np.arange(len(which)) - np.repeat(np.cumsum(parts) - parts, parts)
        left = pieces.edges[:-1][which] + width[which] * (index / parts[which])
        h, w = nodes(np.append(left, pieces.edges[-1]))
        self.h, self.w = h.ravel(), w.ravel()
        self.values = evaluate(self.h)

    def coefficients(self, s: np.ndarray, terms: int) -> np.ndarray:
        """(2, m, terms): of few standard deviations one by one, of many as a series in log s."""
        for count in (FEW, 2 * FEW):
            if len(s) < 2 * count:
                break
            low, high = np.log(s.min()), np.log(s.max())
            at = 0.5 * (low + high) + 0.5 * (high - low) * chebyshev_nodes(count)
            series = chebyshev_series(np.moveaxis(self._each(np.exp(at), terms), 1, -1))
            x = (2 * np.log(s) - low - high) / (high - low)
            if np.abs(series[..., -3:]).max() <= 1e-13 * np.sqrt((series**2).sum(1)).max():
                return np.moveaxis(
                    series @ np.polynomial.chebyshev.chebvander(x, count - 1).T, 1, 2
                )
        return self._each(s, terms)

    def _each(self, s: np.ndarray, terms: int) -> np.ndarray:
        out = np.empty((2, len(s), terms))
        size = max(1, _BLOCK // len(self.h))
        for i in range(0, len(s), size):
            x = self.h / s[i : i + size, None]
            # √density on both factors: neither overflows.
            root = np.sqrt(density(x))
            weighted = self.values[:, None] * (root * (self.w / s[i : i + size, None]))
            now, before = root, np.zeros_like(root)
            for j in range(terms):
                out[:, i : i + size, j] = np.einsum("kmg,mg->km", weighted, now)
                step = x * now
                step -= math.sqrt(j) * before
                step /= math.sqrt(j + 1)
                before, now = now, step
        return out


def table(x: np.ndarray, terms: int, start: np.ndarray) -> np.ndarray:
    """start·he_j(x), j < terms, by the three-term recurrence (stable: it stays oscillatory)."""
    out = np.empty((terms, *x.shape))
    out[0] = start
    if terms > 1:
        out[1] = x * start
    for j in range(1, terms - 1):
        out[j + 1] = (x * out[j] - math.sqrt(j) * out[j - 1]) / math.sqrt(j + 1)
    return out


def remainder(a: np.ndarray, energy: np.ndarray) -> np.ndarray:
    """√r relative to the norm, (2, m), of coefficients (2, m, J)."""
    rest = np.maximum(energy - (a * a).sum(-1), 0)
    return np.sqrt(np.divide(rest, energy, out=np.zeros_like(rest), where=energy > 0))


def add(a: np.ndarray, left: np.ndarray, right: np.ndarray, rho: np.ndarray) -> np.ndarray:
    """Σ_j a_j(q) a_j(q') ρ^j, (N,); a (m, J) with J even, left, right (N,)."""
    energy = np.array([(a[:, p::2] ** 2).sum(1).max() for p in (0, 1)])
    alive = energy > 1e-26 * energy.sum()  # an odd φ has no even terms
    out = np.empty_like(rho)
    for i in range(0, len(rho), _CHUNK):
        here = slice(i, i + _CHUNK)
        l, r, x = left[here], right[here], rho[here]
        terms = _needed(a.shape[1], float(np.abs(x).max()))
        if len(a) == 1:  # one variance: a polynomial of ρ
            c = list(a[0, :terms] ** 2)
            out[here] = _horner(c.__getitem__, terms, alive, x)
        else:
            columns = np.ascontiguousarray(a[:, :terms].T)
            out[here] = _horner(
                lambda j, c=columns, l=l, r=r: c[j].take(l) * c[j].take(r), terms, alive, x
            )
    return out


def _needed(terms: int, largest: float) -> int:
    """How many of an even number of terms matter at |ρ| ≤ largest: the rest has |ρ|^j < 1e-16."""
    if not 0 < largest < 1:
        return terms
    return min(terms, 2 * math.ceil(math.log(1e-16) / (2 * math.log(largest))) + 2)


def _horner(
    c: Callable[[int], np.ndarray | float], terms: int, alive: np.ndarray, rho: np.ndarray
) -> np.ndarray:
    """Σ_{j<terms} c(j) ρ^j, even and odd terms apart."""
    square = rho * rho
    out = np.zeros_like(rho)
    for parity in (0, 1):
        if not alive[parity]:
            continue
        value = np.zeros_like(rho)
        for j in range(terms - 2 + parity, -1, -2):
            value *= square
            value += c(j)
        out += value if parity == 0 else rho * value
    return out
