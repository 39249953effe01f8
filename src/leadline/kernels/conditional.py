"""E[φ(h)φ(h')] of one pair by two integrals: over h, and over h' given h.

With h = a·x and h' = b(ρx + sz), s = √(1 − ρ²), it is ∫ φ(ax) Ψ(ρx) n(x) dx, where Ψ(y) = E[φ(b(y + sz))]
is φ smoothed by a Gaussian. It costs milliseconds a pair, and it is for those that a series in ρ
does not reach: ρ near ±1 with a φ that is steep, kinked or jumps. φ's pieces are the panels of both
integrals. The outer one is halved until its integrand is a polynomial on each panel, to a measured
error; the inner one is exact for φ's polynomials.
"""

from __future__ import annotations

import numpy as np

from leadline.kernels.piecewise import Evaluate, Pieces, W, X, density, masses, nodes, tails

TARGET = 1e-10
"""Bound of the outer integral's estimated error, relative to √(E[φ²]E[φ'²])."""
_WINDOW = 9.0
"""Half the inner integral's range, in standard deviations."""
_WIDE = 2.5
"""Width of a panel of the inner integral, in standard deviations."""
_ROUNDS = 40
_ROWS = 256
_Z, _V = np.polynomial.hermite_e.hermegauss(12)
_V = _V / np.sqrt(2 * np.pi)


def moments(
    evaluate: Evaluate, f: Pieces, g: Pieces, a: float, b: float, rho: float
) -> tuple[np.ndarray, np.ndarray]:
    """(E[φφ'], E[φ'φ']) of standard deviations a, b and correlation ρ, and their errors, (2,) each.

    Args:
        f, g: φ's pieces for a and for b.

    The errors are those of the outer integral; what φ differs from its polynomials is not in them.
    """
    s = float(np.sqrt((1 - rho) * (1 + rho)))
    size = np.sqrt(f.energy(np.array([a]))[:, 0] * g.energy(np.array([b]))[:, 0])
    allowed = TARGET * size
    edges = _panels(f, g, a, b, rho, s, _reach(f, g, a, size))

    def integrate(panels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Integrals and errors of panels (n, 2): (2, n) each."""
        middle, half = panels.mean(1)[:, None], 0.5 * np.diff(panels, axis=1)
        x = middle + half * X
        y = (rho * x).ravel()
        inner = evaluate(b * y) if s == 0 else _smooth(evaluate, g, b * y, b * s)
        values = evaluate(a * x) * inner.reshape(2, *x.shape) * density(x)
        return (values * (half * W)).sum(-1), tails(values) * (2 * half[:, 0])

    panels = np.stack([edges[:-1], edges[1:]], 1)
    value, error = integrate(panels)
    for _ in range(_ROUNDS):
        bad = (error > (allowed / max(len(panels), 64))[:, None]).any(0)
        bad &= np.diff(panels, axis=1)[:, 0] > 1e-13 * np.maximum(np.abs(panels).max(1), 1e-20)
        if (error.sum(1) <= allowed).all() or not bad.any() or len(panels) > 1 << 13:
            break
        middle = panels[bad].mean(1)
        new = np.concatenate(
            [np.stack([panels[bad, 0], middle], 1), np.stack([middle, panels[bad, 1]], 1)]
        )
        more, off = integrate(new)
        panels = np.concatenate([panels[~bad], new])
        value = np.concatenate([value[:, ~bad], more], 1)
        error = np.concatenate([error[:, ~bad], off], 1)
    return value.sum(1), error.sum(1)


def _reach(f: Pieces, g: Pieces, a: float, size: np.ndarray) -> float:
    """Where the outer integral ends: what is beyond is below rounding."""
    with np.errstate(invalid="ignore"):
        most = np.abs(g.values).max((1, 2))[:, None] * np.abs(f.values).max(-1)
        small = (most * masses(f.edges, np.array([a])) <= 1e-17 * size[:, None]).all(0)
    matter = np.flatnonzero(~small)
    ends = f.edges[[matter[0], matter[-1] + 1]] if len(matter) else f.edges[[0, -1]]
    return float(np.abs(ends).max() / a)


def _panels(
    f: Pieces, g: Pieces, a: float, b: float, rho: float, s: float, far: float
) -> np.ndarray:
    """Ends of the outer integral's first panels: φ's pieces, and those of φ smoothed."""
    edges_f = f.edges / a
    other = g.edges / (b * rho)
    if s > 0:
        # Smoothed, φ has nothing finer than s; around a break it has that scale.
        other = other[np.unique(np.floor(other / (0.5 * s)), return_index=True)[1]]
        near = s * 2.0 ** np.arange(-1, max(1, int(np.ceil(-np.log2(s)))))
        rings = (g.breaks / (b * rho))[:, None] + np.concatenate([-near, near])
        other = np.concatenate([other, rings.ravel()])
        other = other[np.unique(np.floor(other / (0.25 * s)), return_index=True)[1]]
        after = np.clip(np.searchsorted(edges_f, other), 1, len(edges_f) - 1)
        gap = np.minimum(np.abs(other - edges_f[after]), np.abs(other - edges_f[after - 1]))
        other = other[gap > 0.25 * s]
    edges = np.union1d(edges_f, other)
    edges = edges[np.abs(edges) < far]
    edges = np.concatenate([[-far], edges, [far]])
    return edges[np.append(True, np.diff(edges) > 0)]


def _smooth(evaluate: Evaluate, g: Pieces, y: np.ndarray, sigma: float) -> np.ndarray:
    """E[φ(y + σZ)] and of φ', (2, N), at y (N,)."""
    out = np.empty((2, len(y)))
    low = np.searchsorted(g.edges, y - _WINDOW * sigma)
    rough = np.searchsorted(g.edges, y + _WINDOW * sigma) != low
    clear = y[~rough]
    if len(clear):  # one polynomial: 12 nodes are exact
        out[:, ~rough] = evaluate(clear[:, None] + sigma * _Z) @ _V
    if rough.any():
        order = np.argsort(y[rough])
        sorted_y = y[rough][order]
        values = np.empty((2, len(sorted_y)))
        for i in range(0, len(sorted_y), _ROWS):
            values[:, i : i + _ROWS] = _rough(evaluate, g, sorted_y[i : i + _ROWS], sigma)
        back = np.empty_like(values)
        back[:, order] = values
        out[:, rough] = back
    return out


def _rough(evaluate: Evaluate, g: Pieces, y: np.ndarray, sigma: float) -> np.ndarray:
    """``_smooth`` at increasing y, whose windows hold ends of pieces."""
    reach = _WINDOW * sigma
    first = max(np.searchsorted(g.edges, y[0] - reach) - 1, 0)
    last = min(np.searchsorted(g.edges, y[-1] + reach), len(g.edges) - 1)
    ends = g.edges[first : last + 1]
    values = g.values[:, first:last]
    narrow = np.diff(ends) <= _WIDE * sigma
    out = np.zeros((2, len(y)))
    if narrow.any():  # at the nodes of φ's pieces
        h, w = (z[narrow].ravel() for z in nodes(ends))
        weight = density((h - y[:, None]) / sigma) * (w / sigma)
        out += values[:, narrow].reshape(2, -1) @ weight.T
    # Wide ones, and what is beyond the last, only inside the window.
    left = np.concatenate([[-np.inf], ends[:-1][~narrow], ends[-1:]])
    right = np.concatenate([ends[:1], ends[1:][~narrow], [np.inf]])
    l = np.maximum(left, (y - reach)[:, None])
    r = np.minimum(right, (y + reach)[:, None])
    row, column = np.nonzero(r > l)
    l, r = l[row, column], r[row, column]
    parts = np.ceil((r - l) / (_WIDE * sigma)).astype(int)
    which = np.repeat(np.arange(len(parts)), parts)
    step = (r - l)[which] / parts[which]
    index = np.arange(len(which)) - np.repeat(np.cumsum(parts) - parts, parts)
    middle = l[which] + (index + 0.5) * step
    h = middle[:, None] + 0.5 * step[:, None] * X
    weight = density((h - y[row[which]][:, None]) / sigma) * (0.5 * step / sigma)[:, None] * W
    inside = (evaluate(h) * weight).sum(-1)
    for k in (0, 1):
        out[k] += np.bincount(row[which], inside[k], len(y))
    return out
