"""What would decide an undecided check: more seeds, or a larger size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from leadline.checking.experiment import Experiment
from leadline.checking.exponents import BAND
from leadline.checking.report import Row

# More seeds than this times those there are make too far a guess.
_MOST = 4


@dataclass(frozen=True)
class Remedy:
    """The next step towards a verdict.

    Attributes:
        axis: of which the next larger size is taken, or None.
        seeds: of every size, those that are there included.
        seconds: that it takes, about.
        words: options in Python and on the command line.
    """

    axis: str | None
    seeds: int
    seconds: float
    words: str


def remedy(experiment: Experiment, rows: Sequence[Row]) -> Remedy | None:
    """The next step, or None where nothing is undecided."""
    undecided = [r for r in rows if r.verdict == "inconclusive" and r.exponent is not None]
    if not undecided:
        return None
    curved = [r for r in undecided if r.exponent is not None and r.exponent.curved]
    have = experiment.seeds
    if 2 * len(curved) > len(undecided) or have == 1:
        if have == 1:
            return _seeds(experiment, 3)
        axes = [r.axis for r in curved]
        axis = max(sorted(set(axes)), key=axes.count)
        new = [getattr(s, axis) for s in (*experiment.sizes[axis], experiment.next_size(axis))]
        text = ",".join(map(str, new))
        words = f"{axis}s=({text.replace(',', ', ')}) (--{axis}s {text})"
        return Remedy(axis, have, experiment.cost_of_size(axis), words)
    needs = [_needed(r, have) for r in undecided if r not in curved]
    wanted = int(np.quantile(needs, 0.9)) if needs else 2 * have
    return _seeds(experiment, min(max(wanted, have + 1), _MOST * have))


def _seeds(experiment: Experiment, seeds: int) -> Remedy:
    cost = experiment.cost_of_seeds(seeds - experiment.seeds)
    return Remedy(None, seeds, cost, f"seeds={seeds} (--seeds {seeds})")


def _needed(r: Row, seeds: int) -> int:
    """Seeds after which a row's interval lies inside the band, or outside of it."""
    assert r.exponent is not None
    assert r.expected is not None
    half = (r.exponent.high - r.exponent.low) / 2
    room = abs(BAND - abs(r.exponent.value - r.expected))
    if not math.isfinite(half) or room < 0.02:
        return _MOST * seeds
    return min(math.ceil(1.2 * seeds * (half / room) ** 2), 100 * seeds)
