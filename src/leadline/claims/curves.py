"""What the eye does not see in two loss curves: their gap, the distance of two seeds, the shift in time."""

from __future__ import annotations

import math

import numpy as np

from leadline.intervals import Interval, jackknife

# Curves are (seeds, couplings, steps): losses, first of true backpropagation, then of the other coupling.


def relative_gap(curves: np.ndarray, step: int) -> Interval:
    """Mean loss of the second coupling over that of the first, minus 1, at one recorded step.

    Infinite where a run of the second coupling diverged and none of the first did; NaN where one of the
    first did.
    """
    v = curves[..., step]
    if not np.isfinite(v[:, 0]).all():
        return Interval(math.nan, -math.inf, math.inf)
    if not np.isfinite(v[:, 1]).all():
        return Interval(math.inf, -math.inf, math.inf)
    return jackknife(lambda x: _gap(x), v)


def _gap(v: np.ndarray) -> float:
    first, second = v.mean(0)
    return float(second / first - 1)


def seed_distance(curves: np.ndarray, step: int) -> Interval:
    """How far apart two seeds of one coupling are: root mean square of their losses' difference over
    the mean loss, both couplings together."""
    v = curves[..., step]
    if len(v) < 3 or not np.isfinite(v).all():
        return Interval(math.nan, -math.inf, math.inf)
    # In the logarithm, so that no end is negative.
    e = jackknife(lambda x: math.log(_distance(x)), v)
    return Interval(*(math.exp(min(x, 700.0)) for x in (e.value, e.low, e.high)))


def _distance(v: np.ndarray) -> float:
    return float(np.sqrt(2 * (v.var(0, ddof=1) / v.mean(0) ** 2).mean()))


def in_seeds(curves: np.ndarray, step: int) -> Interval:
    """The gap in units of the distance of two seeds: below 1, two curves of one seed each are no
    further apart than two seeds of the same network.

    Its ends are those of the gap over the opposite ones of the distance, which is wider than 95 %.
    """
    gap, apart = relative_gap(curves, step), seed_distance(curves, step)
    if not math.isfinite(gap.value) or math.isnan(apart.value):
        return Interval(math.nan, -math.inf, math.inf)
    least = 0.0 if gap.low <= 0.0 <= gap.high else min(abs(gap.low), abs(gap.high))
    most = max(abs(gap.low), abs(gap.high))
    return Interval(abs(gap.value) / apart.value, least / apart.high, most / apart.low)


def time_shift(curves: np.ndarray, step: int, steps: np.ndarray) -> Interval:
    """By what share of its training the second coupling is behind the first at one recorded step.

    The first coupling had the second's mean loss at some earlier time s: 1 − s/t. Negative where the
    first is behind. Times between recorded steps are interpolated in the logarithm of the loss; the mean
    loss counts as reached when it is first reached.

    Args:
        steps: (steps,) the recorded steps.
    """
    if step == 0 or not np.isfinite(curves[..., : step + 1]).all():
        return Interval(math.nan, -math.inf, math.inf)
    return jackknife(lambda v: _shift(v.mean(0), steps[: step + 1]), curves[..., : step + 1])


def _shift(means: np.ndarray, steps: np.ndarray) -> float:
    first, second = np.log(means)
    if first[-1] <= second[-1]:
        return 1 - _when(first, second[-1], steps) / float(steps[-1])
    return _when(second, first[-1], steps) / float(steps[-1]) - 1


def _when(curve: np.ndarray, level: float, steps: np.ndarray) -> float:
    """The first time at which the curve is at or below the level, which its end is."""
    k = int(np.argmax(curve <= level))
    if k == 0:
        return float(steps[0])
    share = (curve[k - 1] - level) / (curve[k - 1] - curve[k])
    return float(steps[k - 1] + share * (steps[k] - steps[k - 1]))
