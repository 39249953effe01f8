"""The best learning rate of one size, from losses on a grid of rates, with bootstrap replicates.

Everything is in log2 of the rate. Seeds are averaged in log loss; a rate at which any seed diverges counts
as diverged. The optimum is that of a parabola through the points around the smallest mean (two on either
side where they are finite), kept between its neighbours and away from diverged ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Landscape:
    """Losses of one size.

    Attributes:
        x: (k,) log2 of the rates, increasing.
        losses: (k, seeds), inf where diverged.
    """

    x: np.ndarray
    losses: np.ndarray

    def mean(self, seeds: np.ndarray | None = None) -> np.ndarray:
        """(k,) mean log loss over seeds; inf where one diverged."""
        chosen = self.losses if seeds is None else self.losses[:, seeds]
        with np.errstate(divide="ignore"):
            return np.log(chosen).mean(1)


@dataclass(frozen=True)
class Optimum:
    """Of one landscape (or one bootstrap replicate of it).

    Attributes:
        x: log2 of the best rate.
        value: log loss there.
        sharpness: second derivative of log loss by log2 of the rate.
        edge: "low" or "high" if the grid ends there before the minimum is passed, else "".
    """

    x: float
    value: float
    sharpness: float
    edge: str


def optimum(x: np.ndarray, y: np.ndarray) -> Optimum | None:
    """The minimum of log losses y (k,) over x (k,); None if all diverged."""
    finite = np.isfinite(y)
    if not finite.any():
        return None
    best = int(np.argmin(np.where(finite, y, np.inf)))
    # A rate that diverges ends the grid as well as one that is worse.
    low = best > 0
    high = best < len(x) - 1
    near = [i for i in range(max(best - 2, 0), min(best + 3, len(x))) if finite[i]]
    # Far above the minimum a parabola describes nothing.
    near = [i for i in near if abs(i - best) < 2 or y[i] - y[best] < 0.7]
    at, value, sharpness = float(x[best]), float(y[best]), float("nan")
    if len(near) >= 3:
        c2, c1, c0 = np.polyfit(x[near] - at, y[near], 2)
        if c2 > 0:
            left = x[best - 1] - at if best > 0 and finite[best - 1] else 0.0
            right = x[best + 1] - at if best < len(x) - 1 and finite[best + 1] else 0.0
            step = float(np.clip(-c1 / (2 * c2), left, right))
            value = float(c0 + c1 * step + c2 * step**2)
            at, sharpness = at + step, float(2 * c2)
    return Optimum(at, value, sharpness, "low" if not low else "high" if not high else "")


def stable(x: np.ndarray, y: np.ndarray) -> float:
    """The largest rate (log2) below the first that diverged; inf if none did, nan if all did."""
    finite = np.isfinite(y)
    if finite.all():
        return float("inf")
    first = int(np.argmin(finite))
    return float(x[first - 1]) if first else float("nan")


def loss_at(x: np.ndarray, y: np.ndarray, rate: float) -> float:
    """Log loss at a rate (log2) between grid points, by a parabola through the nearest three.

    Between a rate that diverged and one that did not, the nearer decides; inf outside the grid.
    """
    if rate < x[0] - 1e-9 or rate > x[-1] + 1e-9:
        return float("inf")
    right = int(np.clip(np.searchsorted(x, rate), 1, len(x) - 1))
    pair = [right - 1, right]
    on = [i for i in pair if abs(x[i] - rate) < 1e-9]
    if on:
        return float(y[on[0]])
    if not np.isfinite(y[pair]).all():
        return float(y[min(pair, key=lambda i: abs(x[i] - rate))])
    third = min(
        (i for i in (right - 2, right + 1) if 0 <= i < len(x) and np.isfinite(y[i])),
        key=lambda i: abs(x[i] - rate),
        default=None,
    )
    points = pair if third is None else sorted([*pair, third])
    return float(np.polyval(np.polyfit(x[points] - rate, y[points], len(points) - 1), 0.0))
