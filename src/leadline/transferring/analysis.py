"""Drift, regret, sharpness and verdict of one axis, each with what the grid and the seeds leave open.

- best rate of a size: see ``optimum``; its interval is where convexity lets the minimum be.
- drift: slope of the landscapes' shifts along log2 of the rate (see ``shift``) against log2(size), by least
  squares over the sizes: doublings of the rate per doubling of the size, in the base's units (the plan's
  factors already applied). 0 is transfer.
- regret of a size: loss at the base's best rate, as it is printed, over loss at the size's own best rate,
  minus 1; the base's is 0.
- cost among the rates tried: see ``tried``; it needs no model of what lies between them, and decides no
  verdict.
- stable up to: the largest rate of the grid below the first at which a seed diverges.
- sharpness: second derivative of log loss by log2 of the rate at the optimum.

An interval is what the grid leaves open, widened by what the seeds do: 95 % of bootstrap replicates that
resample the seeds, the same resample at every rate and size (seeds share their data order and noise),
stretched as Student's t asks for so few; with fewer than three seeds there is no interval.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from leadline.intervals import Interval, Spread, Triple, stretch, widened
from leadline.transferring.bounds import valley
from leadline.transferring.landscapes import Landscape
from leadline.transferring.optimum import Optimum, optimum, stable
from leadline.transferring.reach import Reach, in_range
from leadline.transferring.shift import Shift, moved, shift
from leadline.transferring.smooth import believed
from leadline.transferring.tried import TriedRates, among_tried
from leadline.transferring.verdict import (
    LEAST_SEEDS,
    NOTHING,
    AxisMeasurement,
    Next,
    SizeResult,
    judge,
    monotone,
)

REPLICATES = 400
TRIED = 33
"""Rates that are tried for the base's."""


@dataclass(frozen=True)
class AxisResult:
    """One scheme over one axis.

    Attributes:
        axis: width or depth.
        sizes: what was measured at each size, the base first.
        drift: doublings of the best rate per doubling of the size; 0 is transfer.
        verdict: transfers, does not transfer, undecided.
        reason: why, in words.
        monotone: does loss at the base's rate fall with size? yes, no, undecided.
        next: what to run to know, where it is undecided.
        reach: the same verdict with each size as the last one.
        tried: what the base's best rate costs among the rates that were run; None if none trained there.
    """

    scheme: str
    axis: str
    sizes: tuple[SizeResult, ...]
    drift: Interval
    verdict: str
    reason: str
    monotone: str
    next: Next = NOTHING
    reach: tuple[Reach, ...] = ()
    tried: TriedRates | None = None

    @property
    def range(self) -> str:
        """The sizes from which to which the rate transfers, and from where it does not, in words."""
        return in_range(self.axis, self.sizes[0].size, self.reach)


def analyse(scheme: str, axis: str, landscapes: dict[int, Landscape]) -> AxisResult:
    """Everything about one axis; the first size is the base."""
    every = measurements(landscapes)
    measured = every[-1]
    rates = np.unique(np.concatenate([s.x for s in landscapes.values()]))
    verdicts = [judge(m, rates) for m in every]
    judged = verdicts[-1]
    reach = [
        Reach(m.sizes[-1].size, v.verdict, v.reason if v.verdict == "does not transfer" else "")
        for m, v in zip(every, verdicts, strict=True)
    ]
    return AxisResult(
        scheme=scheme,
        axis=axis,
        sizes=measured.sizes,
        drift=measured.drift,
        verdict=judged.verdict,
        reason=judged.reason,
        monotone=monotone(measured.sizes),
        next=judged.next,
        reach=tuple(reach),
        tried=among_tried(landscapes),
    )


def measure(landscapes: dict[int, Landscape]) -> AxisMeasurement:
    """Everything about one axis but the verdict; the first size is the base."""
    return measurements(landscapes)[-1]


def measurements(landscapes: dict[int, Landscape]) -> list[AxisMeasurement]:
    """The same up to each size after the base, the largest last."""
    sizes = sorted(landscapes)
    scapes = [landscapes[s] for s in sizes]
    count = scapes[0].losses.shape[1]
    sides = [_sides(s) for s in scapes]
    point = _replicate(scapes, sides, None)
    draws, often = [], np.array([], dtype=int)
    if count >= LEAST_SEEDS:
        chosen = np.random.default_rng(0).integers(0, count, (REPLICATES, count))
        # One resample for every size: seeds share their data order and noise. Few seeds make few different.
        different, often = np.unique(np.sort(chosen, axis=1), axis=0, return_counts=True)
        draws = [_replicate(scapes, sides, seeds) for seeds in different]
    spread = Spread(point, draws, often, stretch(count))
    places = _places(scapes, spread)
    results = []
    for i, size in enumerate(sizes):
        best = point.optima[i]
        results.append(
            SizeResult(
                size=size,
                lr=spread.of(lambda d, i=i: d.rate(i), np.exp2),
                loss=spread.of(lambda d, i=i: d.best(i), np.exp),
                at_base=spread.of(lambda d, i=i: d.at_base(i), np.exp),
                regret=spread.of(lambda d, i=i: d.regret(i), _cost),
                sharpness=spread.of(lambda d, i=i: d.sharpness(i), float),
                edge="all diverged" if best is None else best.edge,
                stable=spread.of(lambda d, i=i: (d.stable[i], d.stable[i], d.stable[i]), np.exp2),
            )
        )
    out = []
    for last in range(min(1, len(sizes) - 1), len(sizes)):
        grid, drift = _drift(sizes, places.until(last), spread.stretch)
        costs = Interval(*(_cost(v) for v in point.regret(last)))
        least, best = costs.value, point.optima[last]
        if point.optima[0] is not None and best is not None:
            base = places.rates[0]
            least = _cost(_least(best, base.low, base.high))
        out.append(AxisMeasurement(tuple(results[: last + 1]), drift, grid, costs, least))
    return out


def _least(best: Optimum, low: float, high: float) -> float:
    """The least that log loss rises from its minimum to any rate between two (log2)."""
    if math.isinf(low) or math.isinf(high):
        return 0.0
    rates = np.linspace(low, high, TRIED).tolist()
    return min(best.at(rate)[1] for rate in rates) - best.most


def _cost(excess: float) -> float:
    return float(np.expm1(max(excess, 0.0)))


def _sides(scape: Landscape) -> int:
    """Sides of the smooth model that a landscape supports, decided once, from all of its seeds."""
    r = valley(scape.x, scape.mean())
    return 0 if r is None else believed(r, scape.noise())


@dataclass(frozen=True)
class Replicate:
    """Every size's landscape with one choice of seeds; numbers are (value, least, most) in logs."""

    optima: list[Optimum | None]
    stable: list[float]
    means: list[np.ndarray]

    def rate(self, i: int) -> Triple:
        best = self.optima[i]
        return _NOTHING if best is None else (best.x, best.low, best.high)

    def best(self, i: int) -> Triple:
        best = self.optima[i]
        return _DIVERGED if best is None else (best.value, best.least, best.most)

    def at_base(self, i: int) -> Triple:
        base, best = self.optima[0], self.optima[i]
        if base is None or best is None:
            return _DIVERGED
        return best.at(base.x)

    def regret(self, i: int) -> Triple:
        best = self.optima[i]
        if best is None or self.optima[0] is None:
            return _DIVERGED
        if i == 0:
            return (0.0, 0.0, 0.0)
        value, least, most = self.at_base(i)
        return value - best.value, max(least - best.most, 0.0), most - best.least

    def sharpness(self, i: int) -> Triple:
        best = self.optima[i]
        return _NOTHING if best is None else (float(np.mean(best.bends)), *best.bent)


_NOTHING = (math.nan, math.nan, math.nan)
_DIVERGED = (math.inf, math.inf, math.inf)


def _replicate(scapes: list[Landscape], sides: list[int], seeds: np.ndarray | None) -> Replicate:
    optima, edges, means = [], [], []
    for scape, k in zip(scapes, sides, strict=True):
        y = scape.mean(seeds)
        optima.append(optimum(scape.x, y, k))
        edges.append(stable(scape.x, y))
        means.append(y)
    return Replicate(optima, edges, means)


@dataclass(frozen=True)
class Places:
    """Where sizes lie against the base, for those of which some rate trained.

    Attributes:
        known: their indices, the base's first. rates: intervals of log2 of the best rates.
        shifts: against the base, as the grid leaves them open.
        off: (known, replicates) by how much each landscape is moved in a replicate.
    """

    known: list[int]
    rates: list[Interval]
    shifts: list[Shift]
    off: np.ndarray

    def until(self, last: int) -> Places:
        """The same for the sizes up to an index."""
        k = sum(i <= last for i in self.known)
        return Places(self.known[:k], self.rates[:k], self.shifts[:k], self.off[:k])


def _places(scapes: list[Landscape], spread: Spread) -> Places:
    point, draws = spread.point, spread.draws
    known = [i for i, best in enumerate(point.optima) if best is not None]
    rates = [
        spread.of(lambda d, i=i: d.rate(i), float) if draws else Interval(*point.rate(i))
        for i in known
    ]
    runs = {i: point.optima[i].valley for i in known}
    off = [[moved(runs[i], d.means[i], point.means[i], scapes[i].x) for d in draws] for i in known]
    shifts = [Shift(0.0, 0.0, 0.0)]
    for k, i in enumerate(known[1:], start=1):
        reach = (rates[k].low - rates[0].high, rates[k].high - rates[0].low)
        noise = max(scapes[known[0]].noise(), scapes[i].noise())
        shifts.append(shift(runs[known[0]], runs[i], reach, noise))
    moves = np.array(off).reshape(len(known), len(draws))
    return Places(known, rates, shifts, np.repeat(moves, spread.often, axis=1))


def _drift(sizes: list[int], p: Places, stretched: float) -> tuple[Interval, Interval]:
    """The drift with what the grid leaves open, and with what the seeds add."""
    if len(p.known) < 2:
        return Interval(float("nan")), Interval(float("nan"))
    t = np.log2([sizes[i] for i in p.known])
    weights = (t - t.mean()) / ((t - t.mean()) ** 2).sum()

    def slope(ends: list[tuple[float, float]]) -> tuple[float, float]:
        """The least and the most slope of all values between the ends."""
        pairs = zip(weights, ends, strict=True)
        # As floats: infinite ends of both signs are nan without a word.
        weighed = [(float(w * low), float(w * high)) for w, (low, high) in pairs if w]
        return sum(min(e) for e in weighed), sum(max(e) for e in weighed)

    value = float(weights @ [s.value for s in p.shifts])
    grid = Interval(value, *slope([(s.low, s.high) for s in p.shifts]))
    if not p.off.size:
        return grid, Interval(value)
    off = weights @ p.off
    less, more = widened((0.0, 0.0), (off, off), stretched)
    # The seeds do not move a minimum out of its bracket.
    least, most = slope([(r.low, r.high) for r in p.rates])
    return grid, Interval(value, max(grid.low + less, least), min(grid.high + more, most))
