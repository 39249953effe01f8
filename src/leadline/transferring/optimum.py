"""The best learning rate of one size, from losses on a grid of rates.

Everything is in log2 of the rate. Seeds are averaged in log loss; a rate at which any seed diverges counts
as diverged. The best rate is the smallest measured point, or the vertex of a smooth model where the points
support one (``smooth``); what else it and its loss can be, between the points, is bounded by convexity
(``bounds``). Between points the loss is a monotone cubic through them and the vertex, kept to the bounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, nan

import numpy as np

from leadline.transferring.bounds import Valley, above, below, bracket, floor, valley
from leadline.transferring.smooth import vertex


@dataclass(frozen=True)
class Optimum:
    """The best rate of one landscape (or of one bootstrap replicate of it).

    Attributes:
        valley: the points around the smallest. x_all, y_all: (k,) the whole grid.
        x: log2 of the best rate. low, high: where it can be.
        value: log loss there. least: the least that it can be; the most is the smallest measured.
        bends: second derivatives of log loss by log2 of the rate, left and right; nan where no smooth model
            is supported.
        edge: "low" or "high" if the grid ends there before the minimum is passed, else "".
    """

    valley: Valley
    x_all: np.ndarray
    y_all: np.ndarray
    x: float
    low: float
    high: float
    value: float
    least: float
    bends: tuple[float, float]
    edge: str

    @property
    def most(self) -> float:
        """The smallest measured log loss."""
        return self.valley.y[self.valley.best]

    @property
    def bent(self) -> tuple[float, float]:
        """The least and the most that the second derivative can be: differences of neighbouring secants."""
        r, b = self.valley, self.valley.best
        bends = [v for v in self.bends if not np.isnan(v)]
        for i in range(max(b - 1, 1), min(b + 2, len(r.x) - 1)):
            bends.append(2 * (r.slope(i) - r.slope(i - 1)) / float(r.x[i + 1] - r.x[i - 1]))
        return (min(bends), max(bends)) if bends else (nan, nan)

    def at(self, rate: float) -> tuple[float, float, float]:
        """Log loss at a rate (log2): value, least and most.

        Between a rate that diverged and one that did not the value is that of the nearer, and the most is
        infinite. Outside of the grid nothing is known, and the value is nan.
        """
        r, x, y = self.valley, self.x_all, self.y_all
        if rate == self.x:
            return self.value, self.least, self.most
        if r.x[0] <= rate <= r.x[-1]:
            least, most = below(r, rate), above(r, rate)
            value = min(max(self._near(rate, least, most), least, self.value), most)
            return value, least, most
        if not x[0] <= rate <= x[-1]:
            return nan, -inf, inf
        k = int(np.searchsorted(x, rate))
        if x[k] == rate:
            there = float(y[k])
            return there, there, there
        pair = y[k - 1 : k + 1]
        if np.isinf(pair).all():
            return inf, inf, inf
        nearer = pair[int(rate - x[k - 1] > x[k] - rate)]
        low, high = r.ends
        least = below(r, rate) if low < rate < high else -inf
        return float(nearer), least, inf

    def _near(self, rate: float, least: float, most: float) -> float:
        """The smooth model's; without one a quarter of the way from the chord to the secants, where a
        parabola is in the middle of a cell."""
        bend = self.bends[rate > self.x]
        if not np.isnan(bend):
            return self.value + bend / 2 * (rate - self.x) ** 2
        cell = int(np.searchsorted(self.valley.x, rate)) - 1
        inside = np.isfinite(least) and self.valley.within(cell)
        return (
            most - (most - least) / 4 if inside else np.interp(rate, self.valley.x, self.valley.y)
        )


def optimum(x: np.ndarray, y: np.ndarray, sides: int = 0) -> Optimum | None:
    """The minimum of log losses y (k,) over x (k,); None if all diverged.

    Args:
        sides: of the smooth model that the points support (``smooth.believed``); 0: the smallest point.
    """
    r = valley(x, y)
    if r is None:
        return None
    low, high = bracket(r)
    at, value, bends = float(r.x[r.best]), float(r.y[r.best]), (nan, nan)
    model = vertex(r, sides) if sides else None
    if model is not None:
        at = min(max(model.x, low), high)
        # No model goes below what convexity allows, nor above what was measured.
        value = min(max(model.value, below(r, at)), value)
        bends = model.bends
    edge = {-np.inf: "low", np.inf: "high"}
    return Optimum(
        valley=r,
        x_all=x,
        y_all=y,
        x=at,
        low=low,
        high=high,
        value=value,
        least=floor(r),
        bends=bends,
        edge=edge.get(low, "") or edge.get(high, ""),
    )


def stable(x: np.ndarray, y: np.ndarray) -> float:
    """The largest rate (log2) below the first that diverged; inf if none did, nan if all did."""
    finite = np.isfinite(y)
    if finite.all():
        return inf
    first = np.argmin(finite)
    return float(x[first - 1]) if first else float("nan")
