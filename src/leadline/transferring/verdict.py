"""Transfers, does not, or undecided; and what decides."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from leadline.intervals import Interval

DRIFT = 0.25
"""Largest drift, in doublings of the rate per doubling of the size, that still counts as transfer."""
REGRET = 0.05
"""Largest loss that trusting the base's rate may cost, relative."""
FINEST = 8
"""Largest number of parts that a proposed grid divides a step of the old one into."""
BESIDE = 3
"""Steps of a proposed grid beyond the best rates, on either side."""


@dataclass(frozen=True)
class SizeResult:
    """One size of an axis."""

    size: int
    lr: Interval
    """Best rate, in the base's units."""
    loss: Interval
    """At the best rate."""
    at_base: Interval
    """Loss at the base's best rate."""
    regret: Interval
    sharpness: Interval
    edge: str
    stable: Interval
    """Largest rate of the grid before any seed diverges; inf: none did."""


@dataclass(frozen=True)
class AxisMeasurement:
    """One axis before its verdict.

    Attributes:
        grid: the drift with what the grid alone leaves open. costs: the same of the last size's regret.
        least: the least regret of the last size, wherever the base's best rate can be.
    """

    sizes: tuple[SizeResult, ...]
    drift: Interval
    grid: Interval
    costs: Interval
    least: float


def judge(measured: AxisMeasurement, rates: np.ndarray) -> tuple[str, str]:
    """The verdict and its reason.

    Args:
        rates: log2 of those that were measured, increasing.
    """
    base, last = measured.sizes[0], measured.sizes[-1]
    drift, regret = measured.drift, last.regret
    lost = [s.size for s in measured.sizes if s.edge == "all diverged"]
    if lost:
        return "undecided", (
            f"every rate diverged at size {lost[0]}: extend lrs downwards, {_extended(rates, ['low'])}"
        )
    edges = sorted({s.edge for s in measured.sizes if s.edge}, reverse=True)
    if edges:
        where = " and ".join({"low": "downwards", "high": "upwards"}[e] for e in edges)
        return "undecided", (
            f"the grid does not bracket every optimum: extend lrs {where}, {_extended(rates, edges)}"
        )
    if math.isnan(regret.value):
        return "undecided", (
            f"the base's best rate was not measured at size {measured.sizes[-1].size}: give every size the "
            f"same rates, {_extended(rates, [])}"
        )
    if math.isinf(regret.value):
        # Its best rate may be lower than the point that is best by measurement.
        sure = math.isinf(regret.low) and np.log2(base.lr.low) >= _diverged(last, rates) - 1e-9
        if not sure:
            return "undecided", _trust(measured.sizes)
        return "does not transfer", "the base's rate diverges at the largest size"
    if math.isnan(drift.low):
        return "undecided", "intervals need three seeds or more: --seeds 3"
    if _within(drift) and regret.high <= REGRET:
        return "transfers", f"drift within ±{DRIFT}, regret at most {REGRET:.0%}"
    if _beyond(drift):
        return "does not transfer", f"drift beyond ±{DRIFT} doublings per doubling"
    # Another rate may be the base's best, and cost less: the printed one's cost is not enough.
    if min(regret.low, measured.least - (measured.costs.low - regret.low)) > REGRET:
        return "does not transfer", f"regret above {REGRET:.0%}"
    return "undecided", _next(measured, rates)


def _within(drift: Interval) -> bool:
    return drift.low >= -DRIFT and drift.high <= DRIFT


def _beyond(drift: Interval) -> bool:
    return drift.low > DRIFT or drift.high < -DRIFT


def _diverged(size: SizeResult, rates: np.ndarray) -> float:
    """log2 of the first rate at which a seed diverged."""
    last = size.stable.value
    return rates[0 if math.isnan(last) else np.searchsorted(rates, np.log2(last) + 1e-9)]


def _trust(sizes: Sequence[SizeResult]) -> str:
    rates = [s.stable.value for s in sizes]
    # The lowest rate of the grid may be one that diverged.
    lost = any(math.isnan(v) for v in rates)
    such = "" if lost else f", such as {min(rates):.3g}, at which every size trains"
    return f"the base's best rate is at the edge of divergence: trust a smaller one{such}"


def _next(measured: AxisMeasurement, rates: np.ndarray) -> str:
    """What decides: a finer grid, more seeds, or larger sizes."""
    drift, grid, costs, regret = (
        measured.drift,
        measured.grid,
        measured.costs,
        measured.sizes[-1].regret,
    )
    coarse = not (_beyond(grid) or min(costs.low, measured.least) > REGRET) and not (
        _within(grid) and costs.high <= REGRET
    )
    seeds = max(grid.low - drift.low, drift.high - grid.high)
    room = abs(DRIFT - abs(grid.value)) - seeds
    spare = REGRET - costs.value - (regret.high - costs.high)
    words = []
    if coarse:
        parts = max(
            _parts(max(grid.value - grid.low, grid.high - grid.value), room),
            _parts(costs.high - costs.value, spare),
        )
        words.append(f"a finer grid, {_finer(measured.sizes, rates, parts)}")
    if not coarse or room <= 0 or (spare <= 0 and costs.value <= REGRET):
        words.append("more seeds or larger sizes")
    return (
        f"the intervals reach across the limits; the grid alone leaves drift {grid.low:.2g} to "
        f"{grid.high:.2g} and regret {costs.low:.1%} to {costs.high:.1%}; next: {' and '.join(words)}"
    )


def _parts(open_part: float, room: float) -> int:
    """Into how many parts to divide a step, so that what the grid leaves open fits into the room."""
    if not room * FINEST > open_part:
        return FINEST
    return max(2, math.ceil(open_part / room))


def _finer(sizes: Sequence[SizeResult], rates: np.ndarray, parts: int) -> str:
    """Around where every best rate can be."""
    old = float(np.median(np.diff(rates)))
    step = old / parts
    # Where the seeds leave an end open, as far as two steps beyond the grid.
    lowest, highest = 2.0 ** (rates[0] - 2 * old), 2.0 ** (rates[-1] + 2 * old)
    low = math.log2(max(lowest, min(s.lr.low for s in sizes))) - BESIDE * step
    high = math.log2(min(highest, max(s.lr.high for s in sizes))) + BESIDE * step
    return _lrs(low, step, math.ceil((high - low) / step - 1e-6) + 1)


def _extended(rates: np.ndarray, edges: Sequence[str]) -> str:
    """Two rates more on a side where the grid ends."""
    step = float(rates[-1] - rates[0]) / (len(rates) - 1)
    down, up = 2 * ("low" in edges), 2 * ("high" in edges)
    return _lrs(float(rates[0]) - down * step, step, len(rates) + down + up)


def _lrs(low: float, step: float, count: int) -> str:
    """The option of the command line; ``low`` and ``step`` are in log2."""
    first, factor = float(f"{2**low:.6g}"), float(f"{2**step:.6g}")
    last = first * factor ** (count - 1)
    # Rounded up: the last rate is not to be lost.
    top = next(
        t for t in (float(f"{last * k:.6g}") for k in (1, 1.00001)) if t >= last * (1 - 1e-9)
    )
    return f"--lrs {first:.6g}:{top:.6g}:{factor:.6g}"


def monotone(results: Sequence[SizeResult]) -> str:
    """Is the largest size better than the base at the base's rate?"""
    first, last = results[0].at_base, results[-1].at_base
    if math.isinf(last.value):
        return "no" if math.isinf(last.low) else "undecided"
    if first.high < last.low:
        return "no"
    return "yes" if last.high < first.low else "undecided"
