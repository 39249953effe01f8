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
LEAST_SEEDS = 3
"""Fewer make no interval."""
BESIDE = 3
"""Steps of a proposed grid beyond the best rates, on either side."""


@dataclass(frozen=True)
class RateGrid:
    """A grid of learning rates to run: from the first to the last by equal factors."""

    first: float
    last: float
    factor: float

    @property
    def option(self) -> str:
        """The grid as an option of the command line."""
        return f"--lrs {self.first:.6g}:{self.last:.6g}:{self.factor:.6g}"

    @property
    def words(self) -> str:
        """The grid in words, for runs that were made elsewhere."""
        return f"rates from {self.first:.6g} to {self.last:.6g} by factors of {self.factor:.6g}"


@dataclass(frozen=True)
class Next:
    """What to run to know.

    Attributes:
        rates: at these rates; None: those that were.
        seeds: so many of every size and rate; None: as many as were.
        more: more seeds or larger sizes, as many as it takes.
        trusted: a rate at which every size trains, until it is known.
        options: said in options of the command line, or in words.
    """

    rates: RateGrid | None = None
    seeds: int | None = None
    more: bool = False
    trusted: float | None = None
    options: bool = True

    @property
    def steps(self) -> tuple[str, ...]:
        """Each in a few words; empty where nothing is left to run, or where nobody knows what."""
        out = []
        if self.rates is not None:
            out.append(self.rates.option if self.options else self.rates.words)
        if self.seeds is not None:
            words = {3: "three"}.get(self.seeds, str(self.seeds))
            elsewhere = f"{words} seeds of every size and rate"
            out.append(f"--seeds {self.seeds}" if self.options else elsewhere)
        if self.more:
            out.append(MORE)
        return tuple(out)


MORE = "more seeds or larger sizes"
NOTHING = Next()
"""Nothing is left to run."""


@dataclass(frozen=True)
class SizeResult:
    """One size of an axis.

    Attributes:
        lr: the best rate, in the base's units.
        loss: at the best rate.
        at_base: loss at the base's best rate.
        regret: at_base over loss, minus 1.
        sharpness: second derivative of log loss by log2 of the rate, at the best rate.
        edge: "low" or "high" where the grid ends there before the best rate is passed; "all diverged";
            otherwise empty.
        stable: largest rate of the grid before any seed diverges; inf: none did.
    """

    size: int
    lr: Interval
    loss: Interval
    at_base: Interval
    regret: Interval
    sharpness: Interval
    edge: str
    stable: Interval


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


@dataclass(frozen=True)
class AxisVerdict:
    """The verdict on an axis, its reason, and what to run next."""

    verdict: str
    reason: str
    next: Next = NOTHING


def judge(measured: AxisMeasurement, rates: np.ndarray) -> AxisVerdict:
    """The verdict, its reason, and what to run where it is undecided.

    Args:
        rates: log2 of those that were measured, increasing.
    """
    base, last = measured.sizes[0], measured.sizes[-1]
    drift, regret = measured.drift, last.regret
    lost = [s.size for s in measured.sizes if s.edge == "all diverged"]
    if lost:
        grid = _extended(rates, ["low"])
        reason = f"every rate diverged at size {lost[0]}: extend lrs downwards, {grid.option}"
        return AxisVerdict("undecided", reason, Next(grid))
    edges = sorted({s.edge for s in measured.sizes if s.edge}, reverse=True)
    if edges:
        where = " and ".join({"low": "downwards", "high": "upwards"}[e] for e in edges)
        grid = _extended(rates, edges)
        reason = f"the grid does not bracket every optimum: extend lrs {where}, {grid.option}"
        return AxisVerdict("undecided", reason, Next(grid))
    if math.isnan(regret.value):
        grid = _extended(rates, [])
        reason = (
            f"the base's best rate was not measured at size {measured.sizes[-1].size}: give every size the "
            f"same rates, {grid.option}"
        )
        return AxisVerdict("undecided", reason, Next(grid))
    if math.isinf(regret.value):
        # Its best rate may be lower than the point that is best by measurement.
        sure = math.isinf(regret.low) and np.log2(base.lr.low) >= _diverged(last, rates) - 1e-9
        if not sure:
            return _trust(measured.sizes)
        return AxisVerdict("does not transfer", "the base's rate diverges at the largest size")
    if math.isnan(drift.low):
        reason = f"intervals need three seeds or more: --seeds {LEAST_SEEDS}"
        return AxisVerdict("undecided", reason, Next(seeds=LEAST_SEEDS))
    if _within(drift) and regret.high <= REGRET:
        return AxisVerdict(
            "transfers", f"drift is within ±{DRIFT}, and regret at {last.size} at most {REGRET:.0%}"
        )
    if _beyond(drift):
        return AxisVerdict("does not transfer", f"drift beyond ±{DRIFT} doublings per doubling")
    # Another rate may be the base's best, and cost less: the printed one's cost is not enough.
    if min(regret.low, measured.least - (measured.costs.low - regret.low)) > REGRET:
        return AxisVerdict("does not transfer", f"regret above {REGRET:.0%}")
    return _open(measured, rates)


def _within(drift: Interval) -> bool:
    return drift.low >= -DRIFT and drift.high <= DRIFT


def _beyond(drift: Interval) -> bool:
    return drift.low > DRIFT or drift.high < -DRIFT


def _diverged(size: SizeResult, rates: np.ndarray) -> float:
    """log2 of the first rate at which a seed diverged."""
    last = size.stable.value
    return rates[0 if math.isnan(last) else np.searchsorted(rates, np.log2(last) + 1e-9)]


def _trust(sizes: Sequence[SizeResult]) -> AxisVerdict:
    rates = [s.stable.value for s in sizes]
    # The lowest rate of the grid may be one that diverged.
    trusted = None if any(math.isnan(v) for v in rates) else min(rates)
    such = "" if trusted is None else f", such as {trusted:.3g}, at which every size trains"
    reason = f"the base's best rate is at the edge of divergence: trust a smaller one{such}"
    return AxisVerdict("undecided", reason, Next(trusted=trusted))


def _open(measured: AxisMeasurement, rates: np.ndarray) -> AxisVerdict:
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
    noisy = room <= 0 or (spare <= 0 and costs.value <= REGRET)
    fine = None
    if coarse:
        parts = max(
            _parts(max(grid.value - grid.low, grid.high - grid.value), room),
            _parts(costs.high - costs.value, spare),
        )
        # With so much noise no grid decides: the finest would be many runs for nothing.
        fine = _finer(measured.sizes, rates, 2 if noisy else parts)
    more = not coarse or noisy
    words = [] if fine is None else [f"a finer grid, {fine.option}"]
    words += [MORE] if more else []
    reason = (
        f"the intervals reach across the limits; the grid alone leaves drift {_shown(grid.low)} to "
        f"{_shown(grid.high)} and regret {_shown(costs.low, '.1%')} to {_shown(costs.high, '.1%')}; "
        f"next: {' and '.join(words)}"
    )
    return AxisVerdict("undecided", reason, Next(fine, more=more))


def _shown(x: float, form: str = ".2g") -> str:
    return format(x, form).replace("inf", "∞")


def _parts(open_part: float, room: float) -> int:
    """Into how many parts to divide a step, so that what the grid leaves open fits into the room."""
    if not room * FINEST > open_part:
        return FINEST
    return max(2, math.ceil(open_part / room))


def _finer(sizes: Sequence[SizeResult], rates: np.ndarray, parts: int) -> RateGrid:
    """Around where every best rate can be."""
    old = float(np.median(np.diff(rates)))
    step = old / parts
    # Where the seeds leave an end open, as far as two steps beyond the grid.
    lowest, highest = 2.0 ** (rates[0] - 2 * old), 2.0 ** (rates[-1] + 2 * old)
    low = math.log2(max(lowest, min(s.lr.low for s in sizes))) - BESIDE * step
    high = math.log2(min(highest, max(s.lr.high for s in sizes))) + BESIDE * step
    return _lrs(low, step, math.ceil((high - low) / step - 1e-6) + 1)


def _extended(rates: np.ndarray, edges: Sequence[str]) -> RateGrid:
    """Two rates more on a side where the grid ends."""
    step = float(rates[-1] - rates[0]) / (len(rates) - 1)
    down, up = 2 * ("low" in edges), 2 * ("high" in edges)
    return _lrs(float(rates[0]) - down * step, step, len(rates) + down + up)


def _lrs(low: float, step: float, count: int) -> RateGrid:
    """A grid of rates with the digits that are printed; ``low`` and ``step`` are in log2."""
    first, factor = float(f"{2**low:.6g}"), float(f"{2**step:.6g}")
    last = first * factor ** (count - 1)
    # Rounded up: the last rate is not to be lost.
    top = next(
        t for t in (float(f"{last * k:.6g}") for k in (1, 1.00001)) if t >= last * (1 - 1e-9)
    )
    return RateGrid(first, top, factor)


def monotone(results: Sequence[SizeResult]) -> str:
    """Is the largest size better than the base at the base's rate?"""
    first, last = results[0].at_base, results[-1].at_base
    if math.isinf(last.value):
        return "no" if math.isinf(last.low) else "undecided"
    if first.high < last.low:
        return "no"
    return "yes" if last.high < first.low else "undecided"
