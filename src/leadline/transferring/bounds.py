"""What measured points say of the function between them.

Log loss is taken for a function of log2 of the rate that falls to one minimum and rises after it, convex
around it and infinite where training diverges. A convex function lies, between two measured points, below
their chord and above the secants of the neighbouring cells, extended. Where the points are not convex, on a
cliff and beyond it, only the order counts: the function lies between the two.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

BENT = 0.1
"""A rise may get flatter by this part and still count as convex, for rounding and noise."""


@dataclass(frozen=True)
class Valley:
    """The measured points around the smallest, up to where training diverges.

    Attributes:
        x: (m,) log2 of the rates. y: (m,) log losses, finite.
        best: index of the smallest.
        convex: first and last index of the points around it that one convex curve may pass. A rise that
            gets flatter is a cliff, and its top says nothing of the curve: it is left out.
        ends: what lies beyond the first and the last point: the next rate, which diverged, or where the
            grid ends -inf and inf.
    """

    x: np.ndarray
    y: np.ndarray
    best: int
    convex: tuple[int, int]
    ends: tuple[float, float]

    def within(self, cell: int) -> bool:
        """Are both points of a cell among the convex ones?"""
        return self.convex[0] <= cell < self.convex[1]

    def slope(self, cell: int) -> float:
        """Slope of the secant of points ``cell`` and ``cell + 1``."""
        return float((self.y[cell + 1] - self.y[cell]) / (self.x[cell + 1] - self.x[cell]))


def valley(x: np.ndarray, y: np.ndarray) -> Valley | None:
    """The valley of log losses y (k,) over x (k,); None if all diverged."""
    finite = np.isfinite(y)
    if not finite.any():
        return None
    best = int(np.argmin(np.where(finite, y, np.inf)))
    first = last = best
    while first > 0 and finite[first - 1]:
        first -= 1
    while last < len(x) - 1 and finite[last + 1]:
        last += 1
    ends = (
        float(x[first - 1]) if first > 0 else -np.inf,
        float(x[last + 1]) if last < len(x) - 1 else np.inf,
    )
    keep = slice(first, last + 1)
    x, y, best = x[keep], y[keep], best - first
    reach = (best - _reach(x[best::-1], y[best::-1]), best + _reach(x[best:], y[best:]))
    return Valley(x, y, best, reach, ends)


def _reach(x: np.ndarray, y: np.ndarray) -> int:
    """How many points rise convexly from the first one on."""
    rise = np.abs(np.diff(y) / np.diff(x))
    bent = np.flatnonzero(rise[1:] < (1 - BENT) * rise[:-1])
    return int(bent[0]) if len(bent) else len(rise)


def below(r: Valley, at: float) -> float:
    """The least that log loss can be at a rate; -inf where nothing bounds it, inf outside of the ends."""
    if not r.ends[0] < at < r.ends[1]:
        return float("inf")
    if at > r.x[-1]:
        return _beyond(r, len(r.x) - 2, len(r.x) - 1, at)
    if at < r.x[0]:
        return _beyond(r, 0, 0, at)
    cell = _cell(r, at)
    if at in (r.x[cell], r.x[cell + 1]):
        return above(r, at)
    lower = [_line(r, s, p, at) for s, p in ((cell - 1, cell), (cell + 1, cell + 1)) if r.within(s)]
    if r.best not in (cell, cell + 1):
        lower.append(min(r.y[cell], r.y[cell + 1]))
    return min(max(lower, default=-np.inf), above(r, at))


def above(r: Valley, at: float) -> float:
    """The most that log loss can be at a rate; inf outside of the points."""
    if not r.x[0] <= at <= r.x[-1]:
        return float("inf")
    cell = _cell(r, at)
    if r.within(cell) or at in (r.x[cell], r.x[cell + 1]):
        part = (at - r.x[cell]) / (r.x[cell + 1] - r.x[cell]) if len(r.x) > 1 else 0.0
        return float((1 - part) * r.y[cell] + part * r.y[cell + 1])
    return float(max(r.y[cell], r.y[cell + 1]))


def bracket(r: Valley) -> tuple[float, float]:
    """Where the minimum can be: between the neighbours of the smallest point, and nearer where the secants
    beyond them, extended, come down to its level before."""
    return -_right(_mirror(r)), _right(r)


def floor(r: Valley) -> float:
    """The least that log loss can be at its minimum; -inf where nothing bounds it."""
    low, high = bracket(r)
    if math.isinf(low) or math.isinf(high):
        return -math.inf
    level = float(r.y[r.best])
    return min(level, _lowest(r, low, float(r.x[r.best])), _lowest(r, float(r.x[r.best]), high))


def _lowest(r: Valley, low: float, high: float) -> float:
    """The least of the bound below, in a part of one cell: at its ends, or where the two secants meet."""
    if low == high:
        return float("inf")
    middle = (low + high) / 2
    cell = int(np.searchsorted(r.x, middle)) - 1
    lines = [(s, p) for s, p in ((cell - 1, cell), (cell + 1, cell + 1)) if r.within(s)]
    if not lines:
        return float("-inf")
    corners = [low, high]
    if len(lines) == 2:
        (a, p), (b, q) = lines
        s, t = r.slope(a), r.slope(b)
        if s != t:
            meet = (r.y[q] - r.y[p] + s * r.x[p] - t * r.x[q]) / (s - t)
            corners.append(min(max(float(meet), low), high))
    return min(max(_line(r, a, p, at) for a, p in lines) for at in corners)


def _right(r: Valley) -> float:
    """How far to the right of the smallest point the minimum can be."""
    b = r.best
    if b == len(r.x) - 1:
        return r.ends[1]
    if not r.within(b + 1):
        return float(r.x[b + 1])
    rise, beyond = r.y[b + 1] - r.y[b], r.slope(b + 1)
    down = rise / beyond if beyond > 0 else 0.0
    return float(max(r.x[b + 1] - down, r.x[b]))


def _mirror(r: Valley) -> Valley:
    last = len(r.x) - 1
    convex = (last - r.convex[1], last - r.convex[0])
    return Valley(-r.x[::-1], r.y[::-1], last - r.best, convex, (-r.ends[1], -r.ends[0]))


def _cell(r: Valley, at: float) -> int:
    return min(max(int(r.x.searchsorted(at)) - 1, 0), len(r.x) - 2)


def _line(r: Valley, cell: int, point: int, at: float) -> float:
    """The secant of a cell through one of its points, extended."""
    return float(r.y[point] + r.slope(cell) * (at - r.x[point]))


def _beyond(r: Valley, cell: int, point: int, at: float) -> float:
    """The bound between the last point and the rate that diverged."""
    return _line(r, cell, point, at) if r.within(cell) else float("-inf")
