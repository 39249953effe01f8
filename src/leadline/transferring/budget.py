"""What a budget of hours affords: proxy sizes, rates and seeds of a ``transfer``, timed on this machine."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from leadline.errors import check_int, check_real
from leadline.sweeps.driver import sweep
from leadline.sweeps.schedule import SweepEstimate
from leadline.tracing.builder import Size, size

RATES, SEEDS = (9, 7, 5), (5, 3)
"""Learning rates, by factors of two, and seeds of every size that are worth having: most first."""
_LADDER = 5
_TIMED = (3, 2)
"""Rates and seeds of the runs that are timed."""


@dataclass(frozen=True)
class Affordable:
    """One design of a transfer.

    Attributes:
        widths, depths: sizes of each axis, the base's first.
        rates, seeds: of every size.
        seconds: that it takes, at most.
    """

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    rates: int
    seeds: int
    seconds: float

    @property
    def order(self) -> tuple[int, ...]:
        """Designs by what they can decide: three sizes of each axis first, then more of all."""
        sizes = len(self.widths), len(self.depths)
        return (
            min(*sizes, 3),
            min(sum(sizes), 6),
            self.rates >= 7,
            sum(sizes),
            self.seeds,
            self.rates,
        )


@dataclass(frozen=True)
class TransferBudget:
    """The best design within a budget, and what it was chosen from.

    Attributes:
        best: None where the budget affords no design.
        least: the cheapest design.
        target_seconds: of one training of the target, at most, on this machine.
        steps: of every training.
    """

    hours: float
    best: Affordable | None
    least: Affordable
    target: Size
    target_seconds: float
    steps: int
    timed: Mapping[Size, float]

    def command(self, model: str, lr: str = "LOW:HIGH:2") -> str:
        """The command that trains the best design."""
        d = self.best or self.least
        widths, depths = (",".join(map(str, v)) for v in (d.widths, d.depths))
        return (
            f"leadline transfer {model} --widths {widths} --depths {depths} --lrs {lr} "
            f"--seeds {d.seeds} --steps {self.steps} --store runs"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        timed = [{"width": s.width, "depth": s.depth, "seconds": t} for s, t in self.timed.items()]
        sizes = {"target": vars(self.target), "timed": timed}
        return vars(self) | sizes | {
            "best": None if self.best is None else vars(self.best), "least": vars(self.least),
        }  # fmt: skip

    def __str__(self) -> str:
        from leadline.reporting.progress import duration

        d = self.best or self.least
        runs = (len(d.widths) + len(d.depths) - 1) * d.rates * d.seeds
        sizes = f"widths {', '.join(map(str, d.widths))}; depths {', '.join(map(str, d.depths))}"
        what = f"{sizes}; {d.rates} rates by factors of 2; {d.seeds} seeds: {runs} runs of "
        what += f"{self.steps} steps"
        if self.best is None:
            head = f"{self.hours:g} h afford no transfer here; the least is {what}, {duration(d.seconds)}"
        else:
            head = f"{self.hours:g} h afford: {what}, at most {duration(d.seconds)}"
        there = f"one training of {self.target} takes at most {duration(self.target_seconds)} here"
        return (
            f"{head}.\n{there[:1].upper()}{there[1:]}. Sizes beyond twice the base are not timed: they "
            "are taken to grow with width² and with depth, an upper bound."
        )


def affordable(
    task: Any,
    build: Callable[..., Any],
    *,
    base: Any,
    target: Any,
    hours: float,
    steps: int = 100,
    **settings: Any,
) -> TransferBudget:
    """The design of a ``transfer`` that a budget affords, sizes by doublings from the base to the target.

    The base, twice its width and twice its depth are timed for a few steps, as a dry run does.

    Args:
        task, build: as for ``sweep``.
        base, target: dict(width=, depth=).
        hours: of this machine, with the executor of ``settings``.
        steps: of every training.
        settings: as for ``sweep``.

    Raises:
        ValueError, TypeError: a bad argument.
    """
    at, to = size("base", base), size("target", target)
    hours = check_real("hours", hours, 0.0, open_minimum=True)
    steps = check_int("steps", steps, 1)
    rates, seeds = _TIMED
    timed: dict[Size, float] = {}
    for s in (at, Size(2 * at.width, at.depth), Size(at.width, 2 * at.depth)):
        estimate = sweep(
            task,
            build,
            widths=[s.width],
            depths=[s.depth],
            lrs=[1e-3 * 2.0**k for k in range(rates)],
            seeds=seeds,
            steps=steps,
            base=at,
            dry_run=True,
            **settings,
        )
        assert isinstance(estimate, SweepEstimate)
        timed[s] = estimate.seconds / (rates * seeds)
    base_run, wide, deep = timed.values()

    def seconds(width: int, depth: int) -> float:
        """Seconds of one run, at most."""
        doublings = math.log2(width / at.width)
        by_width = base_run if doublings <= 0 else wide * 4 ** max(doublings - 1, 0.0)
        by_depth = 1.0 if depth <= at.depth else max(deep / base_run, 1.0)
        return by_width * by_depth * max(depth / (2 * at.depth), 1.0)

    designs = []
    ladders = [_starts(_ladder(x, y)) for x, y in ((at.width, to.width), (at.depth, to.depth))]
    for widths, depths in itertools.product(*ladders):
        if len(widths) + len(depths) < 3:
            continue
        sizes = {Size(w, depths[0]) for w in widths} | {Size(widths[0], d) for d in depths}
        each = sum(seconds(s.width, s.depth) for s in sizes)
        designs += [Affordable(widths, depths, r, k, r * k * each) for r in RATES for k in SEEDS]
    if not designs:
        raise ValueError(
            f"target={to} is less than twice the base, {at}: there is nothing to carry over; give a larger "
            "target, or a smaller base"
        )
    fits = [d for d in designs if d.seconds <= 3600 * hours]
    best = max(fits, key=lambda d: (d.order, -d.seconds), default=None)
    least = min(designs, key=lambda d: d.seconds)
    return TransferBudget(
        hours=hours,
        best=best,
        least=least,
        target=to,
        target_seconds=seconds(to.width, to.depth),
        steps=steps,
        timed=timed,
    )


def _ladder(base: int, target: int) -> list[int]:
    """The base and its doublings, below the target; the target too where it is the first of them."""
    out = [base]
    while len(out) < _LADDER and 2 * out[-1] <= max(target // 2, min(2 * base, target)):
        out.append(2 * out[-1])
    return out


def _starts(ladder: list[int]) -> list[tuple[int, ...]]:
    """Every beginning of a ladder."""
    return [tuple(ladder[: k + 1]) for k in range(len(ladder))]
