"""Drift, regret, sharpness and verdict of one axis, with bootstrap intervals.

- best rate of a size: see ``optimum``.
- drift: slope of log2(best rate) against log2(size), by least squares over the sizes: doublings of the rate
  per doubling of the size, in the base's units (the plan's factors already applied). 0 is transfer.
- regret of a size: loss at the base's best rate over loss at the size's own best rate, minus 1.
- stable up to: the largest rate of the grid below the first at which a seed diverges.
- sharpness: second derivative of log loss by log2 of the rate at the optimum.

Intervals are 95 % of bootstrap replicates that resample the seeds, the same resample at every rate and size
(seeds share their data order and noise); with fewer than three seeds there is no interval.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from leadline.transferring.optimum import Landscape, loss_at, optimum, stable

REPLICATES = 400
DRIFT = 0.25
"""Largest drift, in doublings of the rate per doubling of the size, that still counts as transfer."""
REGRET = 0.05
"""Largest loss that trusting the base's rate may cost, relative."""


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
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}]"


@dataclass(frozen=True)
class SizeResult:
    """One size of an axis."""

    size: int
    lr: Estimate
    """Best rate, in the base's units."""
    loss: Estimate
    """At the best rate."""
    at_base: Estimate
    """Loss at the base's best rate."""
    regret: Estimate
    sharpness: Estimate
    edge: str
    stable: Estimate
    """Largest rate of the grid before any seed diverges; inf: none did."""


@dataclass(frozen=True)
class AxisResult:
    """One scheme over one axis."""

    scheme: str
    axis: str
    sizes: tuple[SizeResult, ...]
    drift: Estimate
    verdict: str
    """transfers, does not transfer, undecided."""
    reason: str
    monotone: str
    """Does loss at the base's rate fall with size? yes, no, undecided."""


def analyse(scheme: str, axis: str, landscapes: dict[int, Landscape]) -> AxisResult:
    """Everything about one axis; the first size is the base."""
    sizes = sorted(landscapes)
    seeds = landscapes[sizes[0]].losses.shape[1]
    point = _once(sizes, landscapes, None)
    draws = []
    if seeds >= 3:
        rng = np.random.default_rng(0)
        for _ in range(REPLICATES):
            draws.append(_once(sizes, landscapes, rng.integers(0, seeds, seeds)))
    results = []
    for i, size in enumerate(sizes):
        optimal = optimum(landscapes[size].x, landscapes[size].mean())
        results.append(
            SizeResult(
                size,
                _estimate(point, draws, "x", i, np.exp2),
                _estimate(point, draws, "value", i, np.exp),
                _estimate(point, draws, "trusted", i, np.exp),
                _estimate(point, draws, "regret", i, np.expm1),
                _estimate(point, draws, "sharpness", i, lambda v: v),
                "all diverged" if optimal is None else optimal.edge,
                _estimate(point, draws, "stable", i, np.exp2),
            )
        )
    drift = _estimate(point, draws, "drift", 0, lambda v: v)
    verdict, reason = _verdict(results, drift)
    return AxisResult(scheme, axis, tuple(results), drift, verdict, reason, _monotone(results))


def _once(
    sizes: list[int], landscapes: dict[int, Landscape], seeds: np.ndarray | None
) -> dict[str, np.ndarray]:
    """One replicate."""
    found = []
    for size in sizes:
        y = landscapes[size].mean(seeds)
        best = optimum(landscapes[size].x, y)
        found.append((y, best))
    base = found[0][1]
    out: dict[str, list[float]] = {
        k: [] for k in ("x", "value", "trusted", "regret", "sharpness", "stable")
    }
    for size, (y, best) in zip(sizes, found, strict=True):
        trusted = float("inf") if base is None else loss_at(landscapes[size].x, y, base.x)
        out["x"].append(float("nan") if best is None else best.x)
        out["value"].append(float("inf") if best is None else best.value)
        # Between grid points two parabolas may disagree by a little: no loss is below the best.
        regret = float("inf") if best is None else max(trusted - best.value, 0.0)
        out["trusted"].append(trusted)
        out["stable"].append(stable(landscapes[size].x, y))
        out["sharpness"].append(float("nan") if best is None else best.sharpness)
        out["regret"].append(regret)
    x = np.array(out["x"])
    known = np.isfinite(x)
    drift = float("nan")
    if known.sum() >= 2:
        drift = float(np.polyfit(np.log2(np.array(sizes)[known]), x[known], 1)[0])
    return {k: np.array(v) for k, v in out.items()} | {"drift": np.array([drift])}


def _estimate(
    point: dict[str, np.ndarray],
    draws: list[dict[str, np.ndarray]],
    what: str,
    i: int,
    transform: Callable[[Any], Any],
) -> Estimate:
    value = float(transform(point[what][i]))
    if not draws:
        return Estimate(value)
    sample = np.array([transform(d[what][i]) for d in draws])
    sample = sample[~np.isnan(sample)]
    if not len(sample):
        return Estimate(value)
    low, high = np.quantile(sample, [0.025, 0.975], method="nearest")
    return Estimate(value, float(low), float(high))


def _verdict(results: list[SizeResult], drift: Estimate) -> tuple[str, str]:
    """Transfers, does not, or undecided; and why."""
    lost = [r for r in results if r.edge == "all diverged"]
    if lost:
        return "undecided", f"every rate diverged at size {lost[0].size}: extend lrs downwards"
    edges = {r.edge for r in results if r.edge}
    regret = results[-1].regret
    if edges:
        where = " and ".join({"low": "downwards", "high": "upwards"}[e] for e in sorted(edges))
        return "undecided", f"the grid does not bracket every optimum: extend lrs {where}"
    if not np.isfinite(regret.value) and np.isfinite(regret.low):
        return "undecided", "the base's best rate is at the edge of divergence: trust a smaller one"
    if not np.isfinite(regret.value):
        return "does not transfer", "the base's rate diverges at the largest size"
    if np.isnan(drift.low):
        return "undecided", "intervals need three seeds or more"
    within = drift.low >= -DRIFT and drift.high <= DRIFT
    if within and regret.high <= REGRET:
        return "transfers", f"drift within ±{DRIFT}, regret at most {REGRET:.0%}"
    if drift.low > DRIFT or drift.high < -DRIFT:
        return "does not transfer", f"drift beyond ±{DRIFT} doublings per doubling"
    if regret.low > REGRET:
        return "does not transfer", f"regret above {REGRET:.0%}"
    return "undecided", "intervals reach across the limits: more seeds or larger sizes decide"


def _monotone(results: list[SizeResult]) -> str:
    """Is the largest size better than the base at the base's rate?"""
    first, last = results[0].at_base, results[-1].at_base
    if np.isinf(last.value) and np.isfinite(last.low):
        return "undecided"
    if not np.isfinite(last.value) or first.high < last.low:
        return "no"
    return "yes" if last.high < first.low else "undecided"
