"""Intervals: what the grid leaves open, and what the seeds add to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

LEVEL = 0.95
Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval (nan where seeds are too few)."""

    value: float
    low: float = float("nan")
    high: float = float("nan")

    def __str__(self) -> str:
        if np.isnan(self.value):
            return "–"
        if np.isinf(self.value):
            return f"diverged [{self.low:.3g}, ∞]" if np.isfinite(self.low) else "diverged"
        if np.isnan(self.low):
            return f"{self.value:.3g}"
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}]".replace("inf", "∞")


@dataclass(frozen=True)
class Spread:
    """The point estimate, its different bootstrap replicates, how often each was drawn, and by how much
    their spread is stretched."""

    point: Any
    draws: Sequence[Any]
    often: np.ndarray
    stretch: float

    def of(self, what: Callable[[Any], Triple], transform: Callable[[Any], Any]) -> Estimate:
        """A number whose value, least and most ``what`` gives for a replicate; no interval without any."""
        value, low, high = what(self.point)
        if not self.draws:
            return Estimate(float(transform(value)))
        if np.isnan(value):
            return Estimate(value)
        found = np.repeat([what(d) for d in self.draws], self.often, axis=0)
        ends = widened((low, high), (found[:, 1], found[:, 2]), self.stretch)
        return Estimate(*(float(transform(v)) for v in (value, *ends)))


def widened(
    ends: tuple[float, float], draws: tuple[np.ndarray, np.ndarray], stretch: float
) -> tuple[float, float]:
    """The ends of an interval, moved out by as much as those of the replicates are beyond them."""
    out = []
    for end, drawn, sign in zip(ends, draws, (-1.0, 1.0), strict=True):
        drawn = drawn[~np.isnan(drawn)]
        if not len(drawn):
            out.append(end)
            continue
        tail = float(np.quantile(sign * drawn, (1 + LEVEL) / 2, method="nearest"))
        if not np.isfinite([tail, end]).all():
            out.append(sign * max(tail, sign * end))
        else:
            out.append(end + sign * stretch * max(tail - sign * end, 0.0))
    return out[0], out[1]


def stretch(seeds: int) -> float:
    """Over the percentiles' own half-width, the half-width of Student's t for a mean of so many seeds."""
    from scipy import stats

    if seeds < 2:
        return float("nan")
    tail = (1 + LEVEL) / 2
    return float(stats.t.ppf(tail, seeds - 1) / stats.norm.ppf(tail) * (seeds / (seeds - 1)) ** 0.5)
