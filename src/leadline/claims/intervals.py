"""Values with 95 % intervals over seeds.

One method serves every number: the jackknife over seeds with Student's t. It needs no formula for the
number (a slope of means, an extrapolated gap, a ratio), treats whatever a seed shares between sizes
and couplings as paired, and is honest for the handful of seeds that large networks allow, where the
percentiles of a bootstrap are too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval; low = high = value where there is nothing random in it."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        from leadline.reporting.page_numbers import interval

        return interval(self.value, self.low, self.high)


def jackknife(number: Callable[..., float], *groups: Any) -> Estimate:
    """``number(*groups)`` with its interval.

    Args:
        groups: arrays whose first axis is seeds. Seeds of one group are independent of each other and
            of other groups; along the other axes anything may be shared.
    """
    from scipy import stats

    arrays = [np.asarray(g, dtype=float) for g in groups]
    value = float(number(*arrays))
    variance = curvature = 0.0
    for at, group in enumerate(arrays):
        s = len(group)
        if s < 2:
            return Estimate(value, -math.inf, math.inf)
        left = np.array(
            [
                number(*(np.delete(g, i, axis=0) if k == at else g for k, g in enumerate(arrays)))
                for i in range(s)
            ]
        )
        part = (s - 1) / s * float(((left - left.mean()) ** 2).sum())
        variance += part
        curvature += part**2 / (s - 1)
    if not math.isfinite(value) or not math.isfinite(variance):
        return Estimate(value, -math.inf, math.inf)
    if variance == 0:
        return Estimate(value, value, value)
    # Welch and Satterthwaite's degrees of freedom.
    t = float(stats.t.ppf((1 + LEVEL) / 2, variance**2 / curvature))
    half = t * math.sqrt(variance)
    return Estimate(value, value - half, value + half)


def mean(values: Any) -> Estimate:
    """Mean over seeds: Student's t."""
    return jackknife(lambda v: v.mean(), values)


def slope(sizes: Sequence[float] | np.ndarray, values: Any) -> float:
    """Least-squares slope of log |values| against log sizes."""
    y = np.log(np.abs(np.asarray(values, dtype=float)))
    return float(np.polyfit(np.log(np.asarray(sizes, dtype=float)), y, 1)[0])


def exponent(sizes: Sequence[float], values: Any, last: int | None = None) -> Estimate:
    """Exponent in size of the mean over seeds.

    Args:
        values: (seeds, sizes). last: fit the largest ``last`` sizes only.
    """
    x = np.asarray(sizes, dtype=float)
    keep = slice(None) if last is None else slice(-last, None)
    return jackknife(lambda v: slope(x[keep], v.mean(0)[keep]), values)
