"""By how much one landscape is moved against another, from their shapes.

Two sizes have one landscape, moved along log2 of the rate and along log loss, if their points, moved back,
lie on one convex curve. The curve need not be known for that: points with tolerances lie on a convex curve
exactly if none lies, by more than the tolerances, above a chord of two others. So every shift is tried, and
those that pass are what the points leave open. The tolerance of a point is a part of its height above the
minimum (the shapes of two sizes are alike, not equal) and of its standard error, where there are seeds; it
grows until some shift passes. A minimum between the last rate that trained and the first that diverged is
left open between them, as is one beside a point that contradicts convexity (a cliff).
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass

import numpy as np

from leadline.transferring.bounds import Valley, floor

ALIKE = 0.1
"""Log losses of two sizes, as far from the best rates, are as high above their minima up to this part."""
LEVELS = (0.0, 0.01, 0.02, 0.04, 0.07, 0.1, 0.15, 0.3)
"""Tolerances tried until a shift passes; none does: the shapes say nothing."""
NOISE = 0.5
"""Standard errors of a point that are tolerated where ``ALIKE`` is."""
FEW, MANY, FAR = 3, 6, 2.0
"""Points used on either side of the smallest: the nearest few, and as many within so many doublings."""
TRIED = 129
"""Shifts tried."""


@dataclass(frozen=True)
class Shift:
    """How far a landscape is moved against another, in doublings of the rate."""

    value: float
    low: float
    high: float


def shift(base: Valley, other: Valley, reach: tuple[float, float], noise: float = 0.0) -> Shift:
    """The shifts within ``reach`` under which both landscapes are one.

    Args:
        reach: what the brackets of the two minima leave; may be infinite.
        noise: standard error of a point.
    """
    away = float(other.x[other.best] - base.x[base.best])
    unknown = Shift(float(np.clip(away, *reach)), *reach)
    points = Points.of(base, other)
    if points is None:
        return unknown
    # Farther than this the grids do not overlap.
    most = float(max(base.x[-1], other.x[-1]) - min(base.x[0], other.x[0]))
    d = np.linspace(max(reach[0], -most), min(reach[1], most), TRIED)
    for level in LEVELS:
        passing = d[points.pass_at(d, level, noise)]
        if len(passing):
            break
    else:
        return unknown
    allowed = d[points.pass_at(d, level + ALIKE, noise)]
    # Shifts are tried at a distance: the end is between the last that passes and the next.
    step = float(d[1] - d[0])
    low = reach[0] if allowed[0] == d[0] else float(allowed[0]) - step
    high = reach[1] if allowed[-1] == d[-1] else float(allowed[-1]) + step
    return Shift(float(passing[0] + passing[-1]) / 2, low, high)


@dataclass(frozen=True)
class Points:
    """The points of both landscapes, each with its own smallest at 0.

    Attributes:
        x, y: (n,) rates and heights. up: (n,) heights above the middle of what the minimum can be.
        mine: (n,) 1 for points of the other landscape, 0 for the base's.
        walls: lowest and highest rate that diverged, of the base and of the other.
    """

    x: np.ndarray
    y: np.ndarray
    up: np.ndarray
    mine: np.ndarray
    walls: tuple[tuple[float, float], tuple[float, float]]

    @classmethod
    def of(cls, base: Valley, other: Valley) -> Points | None:
        """None where either minimum is not bounded from below."""
        x, y, up, mine, walls = [], [], [], [], []
        for k, r in enumerate((base, other)):
            at, wall = near(r)
            least = floor(r) - float(r.y[r.best])
            if not np.isfinite(least):
                return None
            height = r.y[at] - r.y[r.best]
            x.append(r.x[at])
            y.append(height)
            up.append(height - least / 2)
            mine.append(np.full(len(height), float(k)))
            walls.append(wall)
        return cls(*(np.concatenate(v) for v in (x, y, up, mine)), (walls[0], walls[1]))

    def pass_at(self, d: np.ndarray, level: float, noise: float) -> np.ndarray:
        """(D,) whether the points, the other's moved back by d (D,), lie on one convex curve."""
        x = self.x[None, :] - d[:, None] * self.mine
        order = np.argsort(x, axis=1, kind="stable")
        x = np.take_along_axis(x, order, axis=1)
        slack = (level * self.up + level / ALIKE * NOISE * noise + 1e-12)[order]
        y, mine = self.y[order], self.mine[order]
        j, i, k = _triples(x.shape[1])
        span = np.maximum(x[:, k] - x[:, j], 1e-12)
        part = (x[:, i] - x[:, j]) / span
        # The middle point is above the chord by over + c·tilt, c the loss by which the other is moved.
        top = y + slack
        over = (y - slack)[:, i] - (1 - part) * top[:, j] - part * top[:, k]
        tilt = mine[:, i] - (1 - part) * mine[:, j] - part * mine[:, k]
        with np.errstate(divide="ignore", invalid="ignore"):
            most = np.where(tilt > 1e-9, -over / tilt, np.inf).min(1)
            least = np.where(tilt < -1e-9, -over / tilt, -np.inf).max(1)
        alone = np.where(np.abs(tilt) <= 1e-9, over, -np.inf).max(1) <= 1e-12
        return alone & (least <= most + 1e-12) & self._within_walls(d)

    def _within_walls(self, d: np.ndarray) -> np.ndarray:
        """No point lies where the other landscape diverged."""
        base, other = self.x[self.mine == 0], self.x[self.mine == 1]
        (a, b), (s, t) = self.walls
        return (
            (other.min() - d > a)
            & (other.max() - d < b)
            & (base.min() > s - d)
            & (base.max() < t - d)
        )


def near(r: Valley) -> tuple[slice, tuple[float, float]]:
    """The points around the smallest that one convex curve may pass, and the rates beside them that
    diverged."""
    ends = []
    for step, end in ((-1, r.convex[0]), (1, r.convex[1])):
        count = 0
        while r.best + step * count != end and count < MANY:
            distance = abs(float(r.x[r.best + step * (count + 1)] - r.x[r.best]))
            if count >= FEW and distance > FAR:
                break
            count += 1
        ends.append(r.best + step * count)
    first, last = ends
    walls = (
        r.ends[0] if first == 0 else -np.inf,
        r.ends[1] if last == len(r.x) - 1 else np.inf,
    )
    return slice(first, last + 1), walls


@functools.cache
def _triples(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    triples = np.array(list(itertools.combinations(range(n), 3))).T
    return triples[0], triples[1], triples[2]


def moved(r: Valley, means: np.ndarray, usual: np.ndarray, x: np.ndarray) -> float:
    """By how much log losses ``means`` (k,) over x (k,) are moved against the ``usual`` ones that ``r`` is
    of, to first order: least squares of their difference by the slope and a constant, over the points that
    one convex curve may pass."""
    at, _ = near(r)
    if at.stop - at.start < 3:
        return 0.0
    slope = np.gradient(r.y, r.x)[at]
    slope = slope - slope.mean()
    size = float((slope**2).sum())
    first = int(np.searchsorted(x, r.x[0]))
    here = slice(first, first + len(r.x))
    change = (means[here] - usual[here])[at]
    return 0.0 if size < 1e-18 else -float((slope * change).sum()) / size
