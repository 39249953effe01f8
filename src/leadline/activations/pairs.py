"""Pairs of centred Gaussians, grouped by their variances: what expectations are taken of.

A covariance K(x, x') is kept on a list of pairs whose first m entries are the variances of its m groups,
since what a layer does to K(x, x') depends on K(x, x), K(x', x') and K(x, x') alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_ROUNDING = 9e-16


@dataclass(frozen=True, eq=False)
class Pairs:
    """N pairs of groups; the first ``groups`` of them are (i, i).

    Attributes:
        groups: m, how many variances there are.
        left, right: (N,) the groups of every pair.
    """

    groups: int
    left: np.ndarray
    right: np.ndarray

    @classmethod
    def of(cls, groups: int, left: np.ndarray, right: np.ndarray) -> Pairs:
        """The m variances, then these pairs."""
        same = np.arange(groups)
        return cls(groups, np.concatenate([same, left]), np.concatenate([same, right]))

    def outer(self, values: np.ndarray) -> np.ndarray:
        """values_i values_j of every pair, (..., N) of (..., m)."""
        return values[..., self.left] * values[..., self.right]

    def correlation(self, k: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Variances (m,) and correlations (N,) in [-1, 1]; 0 where a variance is 0."""
        q = np.maximum(k[: self.groups], 0.0)
        both = np.sqrt(self.outer(q))  # exactly q for equal ones: then ρ = 1 exactly
        if q.max(initial=0) > 1e150 or (q[q > 0] < 1e-150).any():
            both = self.outer(np.sqrt(q))
        alive = None if q.all() else both > 0
        rho = k / both if alive is None else np.divide(k, both, out=0 * k, where=alive)
        rho = np.clip(rho, -1, 1, out=rho)
        # What rounding alone keeps from ±1.
        np.copyto(rho, np.sign(rho), where=np.abs(rho) > 1 - _ROUNDING)
        rho[: self.groups] = q > 0
        return q, rho


def every(size: int) -> Pairs:
    """All pairs of ``size`` inputs."""
    return Pairs.of(size, *np.triu_indices(size, 1))


def matrix(values: np.ndarray, pairs: Pairs) -> np.ndarray:
    """Symmetric (..., P, P) of the values (..., N) of ``every`` pair."""
    size = pairs.groups
    out = np.empty((*values.shape[:-1], size, size))
    out[..., pairs.left, pairs.right] = values
    out[..., pairs.right, pairs.left] = values
    return out


def distinct(q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct variances (m,), equal to a relative 1e-12, and the group of each sample (P,)."""
    order = np.argsort(q)
    ordered = q[order]
    new = np.diff(ordered, prepend=-1.0) > 1e-12 * ordered
    new[0] = True
    group = np.empty(len(q), dtype=int)
    group[order] = np.cumsum(new) - 1
    return ordered[new], group
