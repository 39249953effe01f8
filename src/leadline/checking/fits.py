"""Exponents with intervals, and verdicts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

BAND = 0.15
"""A verdict is about due ± this."""


@dataclass(frozen=True)
class Exponent:
    """Of log value against log size.

    Attributes:
        low, high: 95 % interval.
        slopes: local ones, size to size, means over seeds.
    """

    value: float
    low: float
    high: float
    slopes: tuple[float, ...]
    ahead: float
    """Where the last two local slopes lead: corrections of finite size fall as 1/size, so what is left
    of them in local slopes halves at every doubling."""


def exponent(sizes: np.ndarray, values: np.ndarray) -> Exponent | None:
    """Fit over the largest sizes (three, or two where there are only two).

    Every seed has its own level; the interval is that of the common slope with the residuals of all
    seeds, so that curvature widens it too.

    Args:
        sizes: (k,) increasing. values: (k, seeds), >= 0.

    Returns:
        None where a value is zero; infinite where training diverged.
    """
    if not np.isfinite(values).all():
        return Exponent(np.inf, np.inf, np.inf, (np.inf,) * (len(sizes) - 1), np.inf)
    if (values <= 0).any():
        return None
    x, y = np.log(sizes), np.log(values)
    slopes = tuple(float(s) for s in (np.diff(y, axis=0) / np.diff(x)[:, None]).mean(1))
    x, y = x[-3:], y[-3:]
    seeds = y.shape[1]
    xc, yc = x - x.mean(), y - y.mean(0)
    ss = float((xc**2).sum()) * seeds
    value = float((xc[:, None] * yc).sum() / ss)
    residual = yc - value * xc[:, None]
    freedom = y.size - seeds - 1
    if freedom < 1:
        return Exponent(value, -np.inf, np.inf, slopes, value)
    error = np.sqrt((residual**2).sum() / freedom / ss)
    half = float(stats.t.ppf(0.975, freedom) * error)
    ahead = 2 * slopes[-1] - slopes[-2] if len(slopes) > 1 else value
    return Exponent(value, value - half, value + half, slopes, ahead)


def verdict(e: Exponent | None, due: float | None, slack: float = 0.0) -> str:
    """ok, collapsed, exploding, inconclusive; n/a where there is nothing to judge.

    An exponent whose local slopes lead back into the band has not failed: larger sizes decide.

    Args:
        slack: how far below due an exponent may lie at sizes too small for it.
    """
    if e is None or due is None:
        return "n/a"
    if due - BAND <= e.low and e.high <= due + BAND:
        return "ok"
    if max(e.high, e.ahead) < due - BAND - slack:
        return "collapsed"
    if min(e.low, e.ahead) > due + BAND:
        return "exploding"
    return "inconclusive"
