"""Gaussian expectations of an activation, E[φ(h)φ(h')] and E[φ'(h)φ'(h')], each with its error.

(h, h') is centred Gaussian with covariance K; q = K_xx, q' = K_x'x', ρ = K_xx'/√(qq'). φ' is what autograd
gives, so that of a step is 0. Four ways, the first that does:

    closed forms    of the named activations and of torch's own functions (``closed_forms``)
    ρ = ±1, q = q'  one integral over φ's pieces (``piecewise``)
    Mehler's series in ρ, while Parseval's remainder says that it has converged (``hermite``)
    conditionally   an integral over h of one over h' given h (``conditional``): for ρ near ±1

The error of a pair is what was measured: the L² distance of φ to its polynomials, Parseval's remainder
or the outer integral's, relative to √(E[φ(h)²]E[φ(h')²]). ``RTOL`` is the largest that is let pass. What
float64 makes of ρ itself is not in it: at a kink E[φ'φ'] has a square root at ρ = 1, and a relative
1e-16 of K is 1e-8 there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from leadline import activations
from leadline.activations.pairs import Pairs, distinct, every, matrix
from leadline.kernels import conditional, hermite, piecewise

RTOL = 1e-6
_ROUNDING = 1e-15
_SERIES = 1e-12
"""Bound of the series' remainder, relative."""
_ONE_PAIR = 8e-3
_ONE_TERM = 5e-9
"""Seconds of a conditional pair, and of a term at a node or a pair: which way is faster."""


class Moments(NamedTuple):
    """The two expectations of N pairs, (N,), and a bound of both errors, (2, N), absolute."""

    phi: np.ndarray
    slope: np.ndarray
    error: np.ndarray


OnPairs = Callable[[np.ndarray, Pairs], Moments]


def dual(
    activation: str | activations.Function,
) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """The map K -> (E[φ(h)φ(h')], E[φ'(h)φ'(h')]) of covariances, all (P, P) float64.

    Args:
        activation: a name, or any elementwise torch function.

    Returns:
        A function of a symmetric positive semidefinite K; zero variances are legal (h = 0).
        It raises a ValueError, naming the activation, where it does not reach ``RTOL``.
    """
    on_pairs = dual_on_pairs(activation)

    def on_matrix(k: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        pairs = every(len(k))
        values = np.asarray(k, dtype=np.float64)[pairs.left, pairs.right]
        moments = on_pairs(values, pairs)
        return matrix(moments.phi, pairs), matrix(moments.slope, pairs)

    return on_matrix


def dual_on_pairs(
    activation: str | activations.Function,
    rtol: float = RTOL,
    tick: Callable[[int], None] | None = None,
) -> OnPairs:
    """``dual`` as a map of covariances on a list of pairs, (N,).

    Args:
        rtol: largest relative error that is let pass.
        tick: called with the number of conditional pairs that are left; may raise.
    """
    form = activations.find(activation).closed_form
    if form is None:
        return _Numerical(activation, rtol, tick or (lambda _: None))

    def closed(k: np.ndarray, pairs: Pairs) -> Moments:
        with np.errstate(over="ignore", invalid="ignore"):
            values = np.stack(form(k, pairs))
            return Moments(*values, _ROUNDING * np.abs(values))

    return closed


class _Band(NamedTuple):
    """What is known of φ for standard deviations in [scale/2, scale]."""

    pieces: piecewise.Pieces
    nodes: hermite.OnPieces
    distance: np.ndarray


class _Numerical:
    """Expectations of one activation by quadrature; remembers its pieces between calls."""

    def __init__(
        self, phi: str | activations.Function, rtol: float, tick: Callable[[int], None]
    ) -> None:
        self._function = activations.find(phi).value_and_slope
        self._name = activations.name(phi)
        self._rtol, self._tick = rtol, tick
        self._grid = hermite.Grid()
        self._bands: dict[int, _Band] = {}

    def __call__(self, k: np.ndarray, pairs: Pairs) -> Moments:
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            q, rho = pairs.correlation(k)
            if not np.isfinite(q).all():
                raise self.refuse(np.inf, np.inf, 0)
            values, group = distinct(q)
            return self._moments(np.sqrt(values), group[pairs.left], group[pairs.right], rho)

    def _moments(
        self, s: np.ndarray, left: np.ndarray, right: np.ndarray, rho: np.ndarray
    ) -> Moments:
        source = _Source(self, s)
        norm = np.sqrt(source.energy)
        scale = norm[:, left] * norm[:, right]
        full = np.abs(rho) == 1
        same = full & (rho > 0) & (left == right)
        out = np.empty((2, len(rho)))
        out[:, same] = source.energy[:, left[same]]
        loss, slow = np.zeros((2, len(rho))), full & ~same
        if not same.all():
            loss, slow = self._series(source, left, right, np.where(full, 0, rho), same, out)
            slow |= full & ~same
        error = source.distance[:, left] + source.distance[:, right] + _ROUNDING
        error = (error + np.where(slow | same, 0, loss)) * scale
        todo = np.flatnonzero(slow)
        for done, i in enumerate(todo):
            self._tick(len(todo) - done)
            # In a fixed order: the same for (x, x') and (x', x).
            l, r = sorted((left[i], right[i]))
            out[:, i], off = self._pair(s[l], s[r], rho[i])
            error[:, i] += off
        self._check(error, scale, s)
        return Moments(out[0], out[1], error)

    def _series(
        self,
        source: _Source,
        left: np.ndarray,
        right: np.ndarray,
        rho: np.ndarray,
        known: np.ndarray,
        out: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Fill in ``out`` (2, N) by the series, but for what is ``known`` or needs too many terms.

        Returns:
            The relative bound of the remainder, (2, N), and which pairs are left, (N,).
        """
        far = np.abs(rho)
        terms = 64
        if source.nodes:
            # The series begins anew for more terms. Few pairs are better done one by one.
            most = float(np.quantile(far, 0.9))
            while most**terms > _SERIES and terms < 256:
                terms *= 2
        while True:
            a = source.coefficients(terms)
            rest = hermite.remainder(a, source.energy)
            loss = rest[:, left] * rest[:, right] * far**terms
            slow = (loss > _SERIES).any(0) & ~known
            more = 2 * terms * (source.nodes + len(rho)) * _ONE_TERM
            if terms == hermite.TERMS or np.count_nonzero(slow) * _ONE_PAIR < more:
                break
            terms *= 2
        (here,) = np.nonzero(~slow & ~known)
        if len(here):
            for k in (0, 1):
                out[k, here] = hermite.add(a[k], left[here], right[here], rho[here])
        return loss, slow

    def _pair(self, a: float, b: float, rho: float) -> tuple[np.ndarray, np.ndarray]:
        f, g = self.band(a).pieces, self.band(b).pieces
        return conditional.moments(self.finite, f, g, a, b, rho)

    def evaluate(self, h: np.ndarray) -> np.ndarray:
        """φ and φ' stacked, (2, ...)."""
        import torch

        y, slope = self._function(torch.from_numpy(np.ascontiguousarray(h)))
        return np.stack([y.numpy(), slope.numpy()])

    def finite(self, h: np.ndarray) -> np.ndarray:
        """``evaluate`` with 0 for what is not finite, where φ's pieces have said that it does not occur."""
        return np.nan_to_num(self.evaluate(h), nan=0.0, posinf=0.0, neginf=0.0)

    def band(self, s: float) -> _Band:
        """The pieces for a standard deviation."""
        octave = int(np.ceil(np.log2(s)))
        if octave not in self._bands:
            pieces = piecewise.build(self.evaluate, 2.0**octave)
            self._bands[octave] = _Band(
                pieces,
                hermite.OnPieces(self.finite, pieces),
                pieces.distance(np.array([0.5, 1.0]) * 2.0**octave).max(1, keepdims=True),
            )
        return self._bands[octave]

    @property
    def grid(self) -> hermite.Grid:
        """Nodes that serve every variance."""
        return self._grid

    def refuse(self, error: float, s: float, which: int) -> ValueError:
        """What to say where an expectation is not known well enough."""
        what = ("E[φ(h)φ(h')]", "E[φ'(h)φ'(h')]")[which]
        known = f"is known to a relative {error:.1g} only" if error < 1 else "does not converge"
        return ValueError(
            f"activation={self._name}: {what} at a standard deviation {s:.3g} of h {known}, "
            f"rtol={self._rtol:g} is asked for: φ or φ' varies too fast there, or has no "
            "finite second moment; give inputs of smaller norm, another activation, or a larger rtol"
        )

    def _check(self, error: np.ndarray, scale: np.ndarray, s: np.ndarray) -> None:
        relative = np.divide(error, scale, out=np.zeros_like(error), where=error > 0)
        if not (relative <= self._rtol).all():
            worst = np.where(np.isnan(relative), np.inf, relative)
            which = int(worst.max(1).argmax())
            raise self.refuse(float(worst.max()), float(s.max()), which)


class _Source:
    """Coefficients of φ for the standard deviations of one call, by grid or by pieces."""

    def __init__(self, owner: _Numerical, s: np.ndarray) -> None:
        self._owner, self._s = owner, s
        octaves = np.full(len(s), np.iinfo(int).min)
        octaves[s > 0] = np.ceil(np.log2(s[s > 0]))
        self._members = {int(o): np.flatnonzero(octaves == o) for o in np.unique(octaves[s > 0])}
        bands = {o: owner.band(float(s[i[0]])) for o, i in self._members.items()}
        by_grid = s == 0
        for o, i in self._members.items():
            by_grid[i] = bands[o].pieces.plain
        self.energy = np.empty((2, len(s)))
        self.distance = np.zeros((2, len(s)))
        (where,) = np.nonzero(by_grid)
        if len(where):
            values, energy, distance = owner.grid.values(owner.evaluate, s[where])
            # A feature between the two ends of a band, at which its pieces were measured.
            good = (distance <= 1e-11).all(0) | (s[where] == 0)
            by_grid[where[~good]] = False
            self._values = values[:, good]
            self.energy[:, where[good]] = energy[:, good]
            self.distance[:, where[good]] = distance[:, good]
        self._by_grid = np.flatnonzero(by_grid)
        self.nodes = 0
        self._pieces: list[tuple[np.ndarray, _Band]] = []
        for o, i in self._members.items():
            band = bands[o]
            # On the grid it was seen at these very nodes; and once for the band.
            self.distance[:, i] = np.maximum(self.distance[:, i], band.distance)
            i = i[~by_grid[i]]
            if len(i):
                self.distance[:, i] = band.pieces.distance(s[i])
                self._pieces.append((i, band))
                self.energy[:, i] = band.pieces.energy(s[i])
                self.nodes += min(len(i), hermite.FEW) * len(band.nodes.h)
        if not np.isfinite(self.energy).all():
            which = int(~np.isfinite(self.energy[0]).all())
            raise owner.refuse(np.inf, float(s.max()), 1 - which)

    def coefficients(self, terms: int) -> np.ndarray:
        """Hermite coefficients of φ and φ' at every variance, (2, m, terms)."""
        out = np.empty((2, len(self._s), terms))
        if len(self._by_grid):
            out[:, self._by_grid] = self._owner.grid.coefficients(self._values, terms)
        for i, band in self._pieces:
            out[:, i] = band.nodes.coefficients(self._s[i], terms)
        return out
