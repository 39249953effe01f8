"""What ``claims_map`` says of a cell's losses: statements, each with its interval over seeds.

Losses of a scheme are (depths, rates, seeds). A run that diverged, or whose loss ends above that of equal
probabilities, counts as one that learned nothing: log C of C classes. A rate is chosen as a user's sweep
chooses it, by the mean log training loss of four seeds; what a statement says of "the best rate" is the
mean over all such choices among the seeds measured. So the edge of divergence, where one seed decides which
rate is best, costs what it costs on average, and no statement hangs on one seed.

An interval is 95 % of 400 resamples of the seeds, the same resample at every rate, depth and scheme (seeds
share their first weights and their batches), about the value, stretched by Student's t over the normal's
quantile. Rates are chosen anew in each resample, so that an interval contains what choosing among the
rates adds.

Of the later seeds only rates have runs that some choice among the first seeds leads to (``needed``). The
others are left out: they cannot be chosen, and what would need one is not measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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
CLASSES = 10
SWEEP = 4
"""Seeds by which a rate is chosen."""
REPLICATES = 400
# Choices by four seeds: of all seeds, and of each resample.
CHOICES = (4000, 200)
# A rate counts as on the grid while at most this share of the choices lies below it.
BELOW = 0.05
# Rates that fewer of the choices among the first seeds lead to are left out later.
RARE = 1e-3


@dataclass(frozen=True)
class Curves:
    """One scheme's losses in the data and in every resample, which comes first: R = 1 + replicates.

    Attributes:
        loss: by metric, (R, depths, rates): mean log loss; NaN where the rate was left out.
        choice: (R, depths, rates): chance that four seeds choose this rate; they sum to 1 over rates.
        lost: (depths, rates): share of the runs that diverged; 0 where the rate was left out.
    """

    depths: tuple[int, ...]
    rates: np.ndarray
    loss: Mapping[str, np.ndarray]
    choice: np.ndarray
    lost: np.ndarray

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]], scheme: str) -> Curves:
        """Of runs as rows with scheme, depth, lr, seed, loss and test_loss.

        A rate at a depth where a seed is missing is left out.
        """
        mine = [r for r in rows if r["scheme"] == scheme]
        depths, rates, seeds = (sorted({r[k] for r in mine}) for k in ("depth", "lr", "seed"))
        y = np.full((2, len(depths), len(rates), len(seeds)), np.nan)
        for r in mine:
            at = depths.index(r["depth"]), rates.index(r["lr"]), seeds.index(r["seed"])
            y[:, *at] = r["loss"], r["test_loss"]
        out = np.isnan(y[0]).any(-1)
        assert not out.all(-1).any(), f"{scheme}: runs are missing"
        y[:, out] = np.nan
        lost = np.isinf(y[0])
        y = np.log(np.minimum(y, math.log(CLASSES)))
        y[:, lost] = math.log(math.log(CLASSES))
        draws = _resamples(len(seeds))
        weights = np.stack([np.bincount(d, minlength=len(seeds)) for d in draws]) / len(seeds)
        means = [np.tensordot(weights, v, (1, 2)) for v in y]
        choice = np.stack([_choice(np.nan_to_num(v, nan=np.inf), draws) for v in y[0]], 1)
        return cls(
            tuple(depths),
            np.array(rates),
            dict(zip(METRICS, means, strict=True)),
            choice,
            lost.mean(-1),
        )

    def best(self, depth: int) -> np.ndarray:
        """(R, rates): how often each rate is chosen at a depth."""
        return self.choice[:, self.depths.index(depth)]

    def best_rate(self, depth: int) -> np.ndarray:
        """(R,) mean log2 of the rate that is chosen at a depth."""
        return self.best(depth) @ np.log2(self.rates)

    def at(
        self, depth: int, choice: np.ndarray, metric: str = "loss", below: int = 0
    ) -> np.ndarray:
        """(R,) mean log loss at rates chosen so often, or notches below; NaN where not trained."""
        y = self.loss[metric][:, self.depths.index(depth)]
        moved = _lowered(choice, below) * ~np.isnan(y)
        rest = moved.sum(1)
        out = (moved * np.nan_to_num(y)).sum(1) / np.where(rest > 0, rest, 1)
        return np.where(rest < 1 - BELOW, np.nan, out)

    def share_lost(self, depth: int, choice: np.ndarray, below: int = 0) -> float:
        """Share of the runs at such rates that diverge."""
        moved = _lowered(choice[:1], below)[0]
        return float(moved @ self.lost[self.depths.index(depth)])

    def drift(self, base: int) -> np.ndarray:
        """(R,) slope of log2 of the best rate against log2 of depth, from the base on."""
        depths = [d for d in self.depths if d >= base]
        t = np.log2(depths) - np.mean(np.log2(depths))
        return t @ np.stack([self.best_rate(d) for d in depths]) / (t @ t)

    def shift(self, base: int) -> np.ndarray:
        """(R,) by how many doublings of the rate the deepest's curve lies right of the base's, per
        doubling of depth, where the base's is at half of its best rate; NaN where there is none."""
        deep, x = self.depths[-1], np.log2(self.rates)
        low, high = (self.loss["loss"][:, self.depths.index(d)] for d in (base, deep))
        out = np.full(len(low), np.nan)
        for i, (shallow, curve) in enumerate(zip(low, high, strict=True)):
            k, b = shallow.argmin() - MARGINS["at half"], curve.argmin()
            falling = curve[: b + 1][::-1]
            if k >= 0 and falling[0] <= shallow[k] <= falling[-1]:
                out[i] = np.interp(shallow[k], falling, x[: b + 1][::-1]) - x[k]
        return out / np.log2(deep / base)


def _lowered(choice: np.ndarray, notches: int) -> np.ndarray:
    """The choices, so many rates lower; what falls off the grid is gone."""
    if not notches:
        return choice
    return np.pad(choice[:, notches:], ((0, 0), (0, notches)))


def needed(
    rows: Sequence[Mapping[str, Any]], bases: Sequence[int]
) -> dict[tuple[str, int], list[float]]:
    """By scheme and depth: the rates that choices lead to, here or at a base above it."""
    out = {}
    for scheme in dict.fromkeys(r["scheme"] for r in rows):
        c = Curves.of(rows, scheme)
        for depth in c.depths:
            led = [c.best(depth)[:1], *(c.best(b)[:1] for b in bases if b <= depth)]
            led += [_lowered(c.best(bases[0])[:1], k) for k in MARGINS.values()]
            rates = c.rates[np.concatenate(led).max(0) > RARE]
            out[scheme, depth] = [float(r) for r in rates]
    return out


def _resamples(count: int) -> np.ndarray:
    """(R, count) seeds: all of them, then resamples."""
    drawn = np.random.default_rng(0).integers(0, count, (REPLICATES, count))
    return np.concatenate([np.arange(count)[None], drawn])


def _choice(y: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """(R, rates): how often four seeds of each resample choose a rate, of (rates, seeds) losses."""
    generator, out = np.random.default_rng(1), []
    for i, draw in enumerate(draws):
        picks = draw[generator.integers(0, len(draw), (CHOICES[i > 0], SWEEP))]
        chosen = y[:, picks].mean(-1).argmin(0)
        out.append(np.bincount(chosen, minlength=len(y)) / len(picks))
    return np.stack(out)


def interval(values: np.ndarray, seeds: int) -> tuple[float, float, float]:
    """The value and its interval, from the value and its replicates."""
    value, draws = float(values[0]), values[1:]
    if math.isnan(value):
        return (value,) * 3
    stretch = float(student.ppf(0.975, seeds - 1)) / 1.959964
    # NaN: rates below the grid. It stands for anything.
    low = np.where(np.isnan(draws), -np.inf, draws)
    high = np.where(np.isnan(draws), np.inf, draws)
    ends = (
        float(np.quantile(low, 0.025, method="lower")),
        float(np.quantile(high, 0.975, method="higher")),
    )
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
    rows: Sequence[Mapping[str, Any]], bases: Sequence[int], seeds: int, first: int | None = None
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """All statements of a cell (what, word, number, and what stands beside it), and its losses.

    Losses: by scheme and depth, training and test loss at the best rate, and at that of the first base.

    Args:
        first: so many seeds have runs at all rates; None: all. What needs whole curves is theirs.
    """
    schemes = list(dict.fromkeys(r["scheme"] for r in rows))
    curves = {s: Curves.of(rows, s) for s in schemes}
    whole = set(sorted({r["seed"] for r in rows})[:first])
    statements = [
        *_transfers([r for r in rows if r["seed"] in whole], curves, bases, seeds),
        *_margins(curves, bases[0], seeds),
        *_stronger(curves, bases[0], seeds),
    ]
    return statements, {s: _losses(c, bases[0]) for s, c in curves.items()}


def _transfers(
    rows: Sequence[Mapping[str, Any]],
    curves: Mapping[str, Curves],
    bases: Sequence[int],
    seeds: int,
) -> list[dict[str, Any]]:
    """Among the rates of the grid; beside it the verdict of ``transfer``, on what lies between them too.

    Args:
        rows: those of the seeds with runs at all rates.
    """
    out = []
    full = {s: Curves.of(rows, s) for s in curves}
    count = len({r["seed"] for r in rows})
    for base in bases:
        result = ll.transfer_from(
            [r for r in rows if r["depth"] >= base], list(curves), axes=("depth",)
        )
        for a in result.axes:
            c = curves[a.scheme]
            deep = c.depths[-1]
            cost = interval(c.at(deep, c.best(base)) - c.at(deep, c.best(deep)), seeds)
            drift = interval(c.drift(base), seeds)
            shift = interval(full[a.scheme].shift(base), count)
            out.append(
                dict(
                    what="transfers", scheme=a.scheme, base=base, word=_moved(cost, drift),
                    cost=_ends(cost), drift=_ends(drift), shift=_ends(shift),
                    best={d: _number(2.0 ** c.best_rate(d)[0]) for d in c.depths if d >= base},
                    lost=_number(c.share_lost(deep, c.best(base))), **_diverges(c, base, c.best(base)),
                    ends=[d for d in (base, deep) if max(c.best(d)[0][[0, -1]]) > BELOW],
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


def _diverges(c: Curves, base: int, choice: np.ndarray, below: int = 0) -> dict[str, int]:
    """The first depth from the base on at which more than half of the runs at such rates diverge."""
    depths = [d for d in c.depths if d >= base and c.share_lost(d, choice, below) > 0.5]
    return {"diverges": depths[0]} if depths else {}


def _margins(curves: Mapping[str, Curves], base: int, seeds: int) -> list[dict[str, Any]]:
    """What a rate below the base's best costs the deepest more than it costs the base."""
    out = []
    for scheme, c in curves.items():
        deep = c.depths[-1]
        for margin, notches in MARGINS.items():
            cost, usual = (
                c.at(d, c.best(base), below=notches) - c.at(d, c.best(d)) for d in (deep, base)
            )
            e = interval(cost - usual, seeds)
            word = _word(e, math.log1p(LOSS), "serves", "costs more")
            out.append(
                dict(
                    what="margin", scheme=scheme, margin=margin, word=word, excess=_ends(e),
                    cost=_number(float(cost[0])), at_base=_number(float(usual[0])),
                    lost=_number(c.share_lost(deep, c.best(base), notches)),
                )
            )  # fmt: skip
    return out


def _stronger(curves: Mapping[str, Curves], base: int, seeds: int) -> list[dict[str, Any]]:
    """The deepest network's log loss against depth-μP's."""
    usual = curves["depth-mup"]
    deep = usual.depths[-1]
    out = []
    for scheme, c in curves.items():
        if scheme == "depth-mup":
            continue
        # Schemes of one anchor are one network at the base, of which rounding makes another in a few runs.
        mine, other = (x.loss["loss"][:, 0] for x in (c, usual))
        same = np.mean((mine == other) | (np.isnan(mine) & np.isnan(other))) > 0.5
        for reading in READINGS if same else (*READINGS, "tuned, base"):
            depth = base if reading == "tuned, base" else deep
            of = depth if reading.startswith("tuned") else base
            below = MARGINS.get(reading, 0)
            both = min(x.share_lost(depth, x.best(of), below) for x in (c, usual)) > 0.5
            for metric in METRICS:
                mine, other = (x.at(depth, x.best(of), metric, below) for x in (c, usual))
                e = interval(mine - other, seeds)
                word = "both diverge" if both else compared(e)
                row = dict(what="stronger", scheme=scheme, reading=reading, metric=metric)
                lost = _diverges(c, of, c.best(of), below)
                out.append(row | dict(word=word, ratio=_ends(e), **lost))
    return out


def _losses(c: Curves, base: int) -> dict[int, Any]:
    return {
        d: [_number(math.exp(c.at(d, q, k)[0])) for q in (c.best(d), c.best(base)) for k in METRICS]
        for d in c.depths
    }


def averaged(sets: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A statement with the mean of two sets' numbers; "not measured" where one has none."""
    out = dict(sets[0])
    for k in ("cost", "drift", "excess", "ratio"):
        ends = [s[k] for s in sets if isinstance(s.get(k), Sequence)]
        if None in [e for many in ends for e in many]:
            out["word"] = "not measured"
        elif ends:
            out[k] = [sum(e) / len(e) for e in zip(*ends, strict=True)]
    if any(s["word"] in ("not measured", "both diverge") for s in sets):
        out["word"] = "not measured"
    return out


def redrawn(s: Mapping[str, Any], times: float, generator: np.random.Generator) -> str:
    """The word that other seeds would give, so many times as many.

    The true number is taken to be the one measured; intervals shrink like the root of the seeds.
    """

    def drawn(ends: Sequence[float]) -> tuple[float, float, float]:
        value, low, high = ends
        error = (high - low) / (2 * 1.959964) / math.sqrt(times)
        other = value + error * generator.standard_normal()
        return other, *(other + (e - value) / math.sqrt(times) for e in (low, high))

    ends = [s[k] for k in ("cost", "drift", "excess", "ratio") if isinstance(s.get(k), Sequence)]
    if s["word"] in ("not measured", "both diverge") or None in [e for many in ends for e in many]:
        return s["word"]
    if s["what"] == "transfers":
        return _moved(drawn(s["cost"]), drawn(s["drift"]))
    if s["what"] == "margin":
        return _word(drawn(s["excess"]), math.log1p(LOSS), "serves", "costs more")
    return compared(drawn(s["ratio"]))


def _numbers(e: Any) -> list[float | None]:
    return [_number(v) for v in (e.value, e.low, e.high)]


def _ends(e: tuple[float, float, float]) -> list[float | None]:
    return [_number(v) for v in e]


def _number(value: float) -> float | None:
    """Four digits; None for what is infinite or unknown."""
    return float(f"{value:.4g}") if math.isfinite(value) else None
