"""E[φ(h)φ(h')] and E[φ'(h)φ'(h')] in closed form, for (h, h') centred Gaussian, by φ's name.

relu: the arc-cosine kernels (Cho & Saul 2009). erf: Williams 1997. gelu: hΦ(h) with Φ(h) = P(Z ≤ h)
gives, by parts, c·A + N·(qq' − c² + c²/(1+q) + c²/(1+q')), where A = E[ΦΦ'] is an arcsine and N the
density of (h + Z, h' + Z') at 0; E[φ'φ'] is its derivative by c (Price 1958). The others are
elementary. q, q' are the variances, c = ρ√(qq') the covariance.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from leadline.activations.pairs import Pairs

Both = tuple[np.ndarray, np.ndarray]
ClosedForm = Callable[[np.ndarray, Pairs], Both]
"""(K (N,), pairs) -> the two expectations, (N,) each."""


def identity(k: np.ndarray, pairs: Pairs) -> Both:
    return k.copy(), np.ones_like(k)


def _angle(rho: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """√(1 − ρ²) and arcsin ρ, without cancellation at ρ = ±1."""
    across = np.sqrt((1 - rho) * (1 + rho))
    return across, np.arctan2(rho, across)


def _moving(values: np.ndarray, q: np.ndarray, pairs: Pairs) -> np.ndarray:
    """``values``, and 0 for pairs with a variance 0: φ'(0) = 0 of relu, abs."""
    return values if q.all() else pairs.outer((q > 0).astype(float)) * values


def relu(k: np.ndarray, pairs: Pairs) -> Both:
    q, rho = pairs.correlation(k)
    across, arcsine = _angle(rho)
    slope = 0.25 + arcsine / (2 * np.pi)
    phi = across / (2 * np.pi) + rho * slope
    return pairs.outer(np.sqrt(q)) * phi, _moving(slope, q, pairs)


def absolute(k: np.ndarray, pairs: Pairs) -> Both:
    q, rho = pairs.correlation(k)
    across, arcsine = _angle(rho)
    phi = (2 / np.pi) * (across + rho * arcsine)
    return pairs.outer(np.sqrt(q)) * phi, _moving((2 / np.pi) * arcsine, q, pairs)


def sign(k: np.ndarray, pairs: Pairs) -> Both:
    q, rho = pairs.correlation(k)
    return _moving((2 / np.pi) * _angle(rho)[1], q, pairs), np.zeros_like(k)


def _determinant(q: np.ndarray, rho: np.ndarray, shift: float, pairs: Pairs) -> np.ndarray:
    """(shift + q)(shift + q') − c², without cancellation."""
    return (
        pairs.outer(q) * ((1 - rho) * (1 + rho))
        + shift * (q[pairs.left] + q[pairs.right])
        + shift**2
    )


def erf(k: np.ndarray, pairs: Pairs) -> Both:
    q, rho = pairs.correlation(k)
    root = np.sqrt(_determinant(q, rho, 0.5, pairs))
    return (2 / np.pi) * np.arctan2(k, root), (2 / np.pi) / root


def gelu(k: np.ndarray, pairs: Pairs) -> Both:
    q, rho = pairs.correlation(k)
    inside = _determinant(q, rho, 1.0, pairs)
    both = 0.25 + np.arctan2(k, np.sqrt(inside)) / (2 * np.pi)
    at_zero = 1 / (2 * np.pi * np.sqrt(inside))
    each = 1 / (1 + q)
    each = each[pairs.left] + each[pairs.right]
    rest = pairs.outer(q) * ((1 - rho) * (1 + rho)) + k * k * each
    phi = k * both + at_zero * rest
    return phi, both + at_zero * (k * (rest / inside - 1) + 2 * k * each)


def _waves(k: np.ndarray, pairs: Pairs) -> Both:
    """E[sin sin'] and E[cos cos']."""
    q = np.maximum(k[: pairs.groups], 0)
    mean = 0.5 * (q[pairs.left] + q[pairs.right])
    # cosh c − sinh c cancels where c is small: expm1 keeps sinh.
    plus, minus = np.exp(k - mean), np.exp(-k - mean)
    small = np.abs(k) < 1
    sine = np.where(small, np.exp(-mean) * np.sinh(np.where(small, k, 0)), 0.5 * (plus - minus))
    return sine, 0.5 * (plus + minus)


def sin(k: np.ndarray, pairs: Pairs) -> Both:
    return _waves(k, pairs)


def cos(k: np.ndarray, pairs: Pairs) -> Both:
    sine, cosine = _waves(k, pairs)
    return cosine, sine


def exp(k: np.ndarray, pairs: Pairs) -> Both:
    q = np.maximum(k[: pairs.groups], 0)
    value = np.exp(0.5 * (q[pairs.left] + q[pairs.right]) + k)
    return value, value.copy()
