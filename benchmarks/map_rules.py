"""What ``claims_map`` says of a cell's losses: statements, each with its interval over seeds.

Losses of a scheme are (depths, rates, seeds), infinite where a run diverged. An interval is 95 % of
400 resamples of the seeds, the same resample at every rate, depth and scheme (seeds share their first
weights and their batches), about the value, stretched by Student's t over the normal's quantile. Rates
are chosen anew in each resample, so that an interval contains what choosing among the rates adds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import t as student

import leadline as ll

LOSS = 0.05
"""Relative loss that counts as alike."""
DRIFT = 0.25
"""Doublings of the best rate per doubling of depth that count as none."""
MARGINS = {"at its best": 0, "at half": 2, "at a quarter": 4}
"""Notches of √2 below the base's best rate."""
READINGS = ("tuned", *MARGINS)
METRICS = ("loss", "test_loss")
REPLICATES = 400


@dataclass(frozen=True)
class Means:
    """Mean log losses of one scheme in the data and in every resample: (1 + replicates, depths, rates)."""

    depths: tuple[int, ...]
    rates: np.ndarray
    train: np.ndarray
    test: np.ndarray

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]], scheme: str) -> Means:
        """Of runs as rows with scheme, depth, lr, seed, loss and test_loss."""
        mine = [r for r in rows if r["scheme"] == scheme]
        depths, rates, seeds = (sorted({r[k] for r in mine}) for k in ("depth", "lr", "seed"))
        means = []
        for metric in METRICS:
            y = np.full((len(depths), len(rates), len(seeds)), np.nan)
            for r in mine:
                at = depths.index(r["depth"]), rates.index(r["lr"]), seeds.index(r["seed"])
                y[at] = math.log(r[metric]) if math.isfinite(r[metric]) else math.inf
            assert not np.isnan(y).any(), f"{scheme}: runs are missing"
            means.append(_resampled(y))
        return cls(tuple(depths), np.array(rates), *means)

    def best(self, depth: int) -> np.ndarray:
        """(1 + replicates,) the rate of the least training loss at a depth."""
        return self.train[:, self.depths.index(depth)].argmin(1)

    def drift(self, base: int) -> np.ndarray:
        """(1 + replicates,) slope of log2 of the best rate against log2 of depth, from the base on."""
        depths = [d for d in self.depths if d >= base]
        t = np.log2(depths) - np.mean(np.log2(depths))
        best = np.stack([np.log2(self.rates)[self.best(d)] for d in depths])
        return t @ best / (t @ t)

    def shift(self, base: int) -> np.ndarray:
        """(1 + replicates,) by how many doublings of the rate the deepest's curve lies right of the base's,
        per doubling of depth, where the base's is at half of its best rate; NaN where there is none."""
        deep, x = self.depths[-1], np.log2(self.rates)
        first, best = self.best(base) - 2, self.best(deep)
        level, curve = self.at(base, first), self.train[:, -1]
        out = np.full(len(level), np.nan)
        for i, (k, b) in enumerate(zip(first, best, strict=True)):
            falling = curve[i, : b + 1][::-1]
            if k >= 0 and falling[0] <= level[i] <= falling[-1]:
                out[i] = np.interp(level[i], falling, x[: b + 1][::-1]) - x[k]
        return out / np.log2(deep / base)

    def at(self, depth: int, rate: np.ndarray, metric: str = "loss") -> np.ndarray:
        """(1 + replicates,) mean log loss at these rates; NaN below the grid."""
        y = (self.train if metric == "loss" else self.test)[:, self.depths.index(depth)]
        out = y[np.arange(len(y)), np.maximum(rate, 0)]
        return np.where(rate < 0, np.nan, out)


def _resampled(y: np.ndarray) -> np.ndarray:
    """Mean over all seeds, then over each resample of them; infinite where one of its runs is."""
    count = y.shape[-1]
    chosen = np.random.default_rng(0).integers(0, count, (REPLICATES, count))
    weights = np.stack([np.bincount(c, minlength=count) for c in [np.arange(count), *chosen]])
    over = np.isinf(y)
    means = np.tensordot(weights / count, np.where(over, 0.0, y), (1, 2))
    lost = np.tensordot(weights, over.astype(float), (1, 2)) > 0
    return np.where(lost, np.inf, means)


def interval(values: np.ndarray, seeds: int) -> tuple[float, float, float]:
    """The value and its interval, from the value and its replicates."""
    value, draws = float(values[0]), values[1:]
    if math.isnan(value):
        return (value,) * 3
    stretch = float(student.ppf(0.975, seeds - 1)) / 1.959964
    # NaN: two infinite losses, or a rate below the grid. It stands for anything.
    low = np.where(np.isnan(draws), -np.inf, draws)
    high = np.where(np.isnan(draws), np.inf, draws)
    ends = (
        float(np.quantile(low, 0.025, method="lower")),
        float(np.quantile(high, 0.975, method="higher")),
    )
    if math.isinf(value):
        return (value, ends[0], math.inf) if value > 0 else (value, -math.inf, ends[1])
    return value, *(value + stretch * (e - value) for e in ends)


def _word(e: tuple[float, float, float], bound: float, below: str, above: str) -> str:
    if math.isnan(e[0]):
        return "not measured"
    return below if e[2] <= bound else above if e[1] > bound else "undecided"


def compared(e: tuple[float, float, float]) -> str:
    """A log ratio of losses, another scheme's over depth-μP's, in a word."""
    if not math.isnan(e[0]) and max(abs(e[1]), abs(e[2])) <= math.log1p(LOSS):
        # The sign may be known as well; within the margin it decides nothing.
        return "alike"
    return _word(e, 0.0, "stronger", "weaker")


def judge(
    rows: Sequence[Mapping[str, Any]], bases: Sequence[int], seeds: int
) -> list[dict[str, Any]]:
    """All statements of a cell: what, word, number, and what stands beside it."""
    schemes = list(dict.fromkeys(r["scheme"] for r in rows))
    means = {s: Means.of(rows, s) for s in schemes}
    return [
        *_transfers(rows, means, bases, seeds),
        *_margins(means, bases[0], seeds),
        *_stronger(means, bases[0], seeds),
    ]


def _transfers(
    rows: Sequence[Mapping[str, Any]], means: Mapping[str, Means], bases: Sequence[int], seeds: int
) -> list[dict[str, Any]]:
    """On the grid of rates; beside it the verdict of ``transfer``, on what lies between them too."""
    out = []
    for base in bases:
        result = ll.transfer_from(
            [r for r in rows if r["depth"] >= base], list(means), axes=("depth",)
        )
        for a in result.axes:
            m = means[a.scheme]
            deep = m.depths[-1]
            with np.errstate(invalid="ignore"):
                cost = interval(m.at(deep, m.best(base)) - m.at(deep, m.best(deep)), seeds)
            drift = interval(m.drift(base), seeds)
            out.append(
                dict(
                    what="transfers", scheme=a.scheme, base=base, word=_moved(cost, drift),
                    cost=_ends(cost), drift=_ends(drift), shift=_ends(interval(m.shift(base), seeds)),
                    best={d: float(m.rates[m.best(d)[0]]) for d in m.depths if d >= base},
                    diverges=_first_lost(m, m.best(base)[0], base),
                    ends=[d for d in (base, deep) if m.best(d)[0] in (0, len(m.rates) - 1)],
                    between=dict(
                        verdict=a.verdict, range=a.range, reason=a.reason, drift=_numbers(a.drift),
                        regret=_numbers(a.sizes[-1].regret),
                        stable={s.size: _number(s.stable.value) for s in a.sizes},
                    ),
                )
            )  # fmt: skip
    return out


def _moved(cost: tuple[float, float, float], drift: tuple[float, float, float]) -> str:
    """The rule of transfer."""
    if cost[1] > math.log1p(LOSS) or drift[1] > DRIFT or drift[2] < -DRIFT:
        return "does not transfer"
    return "transfers" if cost[2] <= math.log1p(LOSS) and abs(drift[0]) <= DRIFT else "undecided"


def _first_lost(m: Means, rate: int, base: int) -> int | None:
    """The first depth from the base on at which a rate diverges."""
    for depth in m.depths:
        if depth >= base and math.isinf(m.train[0, m.depths.index(depth), rate]):
            return depth
    return None


def _margins(means: Mapping[str, Means], base: int, seeds: int) -> list[dict[str, Any]]:
    """What a rate below the base's best costs the deepest more than it costs the base."""
    out = []
    for scheme, m in means.items():
        deep = m.depths[-1]
        for margin, notches in MARGINS.items():
            rate = m.best(base) - notches
            with np.errstate(invalid="ignore"):
                cost = m.at(deep, rate) - m.at(deep, m.best(deep))
                usual = m.at(base, rate) - m.at(base, m.best(base))
                e = interval(cost - usual, seeds)
            word = _word(e, math.log1p(LOSS), "serves", "costs more")
            out.append(
                dict(
                    what="margin", scheme=scheme, margin=margin, word=word, excess=_ends(e),
                    cost=_number(float(cost[0])), at_base=_number(float(usual[0])),
                )
            )  # fmt: skip
    return out


def _stronger(means: Mapping[str, Means], base: int, seeds: int) -> list[dict[str, Any]]:
    """The deepest network's log loss against depth-μP's."""
    usual = means["depth-mup"]
    deep = usual.depths[-1]
    out = []
    for scheme, m in means.items():
        if scheme == "depth-mup":
            continue
        # Schemes of one anchor are one network at the base.
        same = np.array_equal(m.train[:, 0], usual.train[:, 0])
        for reading in READINGS if same else (*READINGS, "tuned, base"):
            depth = base if reading == "tuned, base" else deep
            for metric in METRICS:
                mine = _read(m, reading, base, depth, metric)
                other = _read(usual, reading, base, depth, metric)
                with np.errstate(invalid="ignore"):
                    e = interval(mine - other, seeds)
                both = math.isinf(mine[0]) and math.isinf(other[0])
                word = "both diverge" if both else compared(e)
                row = dict(what="stronger", scheme=scheme, reading=reading, metric=metric)
                out.append(row | dict(word=word, ratio=_ends(e), **_lost(m, reading, base)))
    return out


def _read(m: Means, reading: str, base: int, depth: int, metric: str) -> np.ndarray:
    rate = m.best(depth) if reading.startswith("tuned") else m.best(base) - MARGINS[reading]
    return m.at(depth, rate, metric)


def _lost(m: Means, reading: str, base: int) -> dict[str, int]:
    """The first depth at which a transferred rate diverges."""
    for depth in m.depths:
        if math.isinf(_read(m, reading, base, depth, "loss")[0]):
            return {"diverges": depth}
    return {}


def losses(rows: Sequence[Mapping[str, Any]], base: int) -> dict[str, Any]:
    """By scheme and depth: training and test loss at the best rate, and at the base's; None: diverged."""
    out: dict[str, Any] = {}
    for scheme in dict.fromkeys(r["scheme"] for r in rows):
        m = Means.of(rows, scheme)
        show: Callable[..., Any] = lambda d, i, k, m=m: _number(math.exp(m.at(d, i, k)[0]))  # noqa: E731
        out[scheme] = {
            d: [show(d, i, k) for i in (m.best(d), m.best(base)) for k in METRICS] for d in m.depths
        }
    return out


def _numbers(e: Any) -> list[float | None]:
    return [_number(v) for v in (e.value, e.low, e.high)]


def _ends(e: tuple[float, float, float]) -> list[float | None]:
    return [_number(v) for v in e]


def _number(value: float) -> float | None:
    """Four digits; None for what is infinite or unknown."""
    return float(f"{value:.4g}") if math.isfinite(value) else None
