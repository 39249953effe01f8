"""What the base's best rate costs other sizes, among the rates that were run.

What lies between them takes a model of the curve (``bounds``, ``smooth``), which a few noisy seeds may
not support. The seeds say more about the rates themselves: these are compared seed by seed, so that what a
seed adds at every rate falls out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from leadline.intervals import LEVEL, Interval, t_quantile
from leadline.transferring.landscapes import Landscape


@dataclass(frozen=True)
class TriedRates:
    """The base's best rate among those that were run.

    Attributes:
        rate: the rate of least mean log loss at the base.
        costs: by size, the base's first: loss at this rate over the loss at the best of the rates run at
            this size, minus 1; NaN where the rate was not run, or where no rate trained.
    """

    rate: float
    costs: dict[int, Interval]


def among_tried(landscapes: dict[int, Landscape]) -> TriedRates | None:
    """Compare at every size, the smallest is the base; None if no rate trained there in every seed."""
    base = landscapes[min(landscapes)]
    y = base.mean()
    if not np.isfinite(y).any():
        return None
    best = base.x[int(np.argmin(y))]
    costs = {size: _cost(landscapes[size], best) for size in sorted(landscapes)}
    costs[min(landscapes)] = Interval(0.0, 0.0, 0.0)
    return TriedRates(float(np.exp2(best)), costs)


def _cost(scape: Landscape, x: float) -> Interval:
    """The cost of one rate against the best of all.

    The cost is the largest of the mean differences to the others. Its upper end is the largest upper end
    of Student's intervals, which covers since one of them covers the best one's difference; for the lower
    end Bonferroni's, since each of them could be too high.
    """
    at = np.flatnonzero(np.isclose(scape.x, x, rtol=0, atol=1e-9))
    logs = np.log(scape.losses)
    trained = np.isfinite(logs).all(1)
    if not len(at) or not trained.any():
        return Interval(math.nan)
    mine = logs[at[0]]
    if not np.isfinite(mine).all():
        return Interval(math.inf, math.inf if np.isinf(mine).all() else 0.0, math.inf)
    d = mine - logs[trained & (np.arange(len(logs)) != at[0])]
    count, seeds = d.shape
    if not count:
        return Interval(0.0, 0.0, 0.0)
    mean = d.mean(1)
    value = math.expm1(max(mean.max(), 0.0))
    if seeds < 2:
        return Interval(value)
    error = d.std(1, ddof=1) / math.sqrt(seeds)
    tail = (1 - LEVEL) / 2
    low, high = (
        float((mean + float(t_quantile(p, seeds - 1)) * error).max())
        for p in (tail / count, 1 - tail)
    )
    return Interval(value, math.expm1(max(low, 0.0)), math.expm1(max(high, 0.0)))
