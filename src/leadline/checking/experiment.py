"""Everything that a check has trained so far, and what more of it would take."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import count

from leadline.checking.quantities import Measurement
from leadline.checking.report import FAILED, Row
from leadline.checking.rows import rows_of
from leadline.checking.training import Setup, run
from leadline.reporting.progress import Progress
from leadline.tracing.builder import Size

# A larger size takes this many times the time of half of it.
_GROWTH = {"width": 3.0, "depth": 2.0}


@dataclass
class Experiment:
    """Sizes by axis, and what was measured at each, seed by seed.

    Attributes:
        first: seeds that were asked for; what fails has to fail in as many others too.
        seconds: that each seed of a size took.
    """

    setup: Setup
    sizes: dict[str, list[Size]]
    first: int
    progress: bool = True
    measured: dict[Size, list[Measurement]] = field(default_factory=dict)
    seconds: dict[Size, float] = field(default_factory=dict)

    @property
    def seeds(self) -> int:
        """Seeds of every size so far."""
        return min((len(m) for m in self.measured.values()), default=0)

    @property
    def all_sizes(self) -> list[Size]:
        """Every size once."""
        return list(dict.fromkeys(s for members in self.sizes.values() for s in members))

    def train(self, seeds: int, until: float = math.inf) -> None:
        """Bring every size to this number of seeds, as far as time allows.

        Args:
            until: reading of ``time.perf_counter`` after which no more is begun: what all sizes have
                counts.
        """
        work = [s for s in self.all_sizes if len(self.measured.get(s, ())) < seeds]
        each = self.setup.steps + 1
        with Progress(quiet=not self.progress) as bar:
            for i, size in enumerate(work):
                at = count(i * each)

                def done(at: Iterator[int] = at, size: Size = size) -> None:
                    bar(step=next(at), steps=len(work) * each, branch=f"{size}")

                known = self.seconds.get(size, 0.0) * (seeds - len(self.measured.get(size, ())))
                if time.perf_counter() + known > until:
                    break
                done()
                new = range(len(self.measured.get(size, ())), seeds)
                started = time.perf_counter()
                self.measured[size] = self.measured.get(size, []) + run(self.setup, size, new, done)
                self.seconds[size] = (time.perf_counter() - started) / len(new)

    def enlarge(self, axis: str) -> Size:
        """Add twice the largest size of an axis, with as many seeds as the others have."""
        size = self.next_size(axis)
        seeds = self.seeds
        self.sizes[axis] = [*self.sizes[axis], size]
        self.train(seeds)
        return size

    def next_size(self, axis: str) -> Size:
        """Twice the largest size of an axis."""
        last = self.sizes[axis][-1]
        return replace(last, **{axis: 2 * getattr(last, axis)})

    def cost_of_seeds(self, seeds: int) -> float:
        """Seconds that so many more seeds of every size take."""
        return seeds * sum(self.seconds.get(s, 0.0) for s in self.all_sizes)

    def cost_of_size(self, axis: str) -> float:
        """Seconds that the next size of an axis takes."""
        return self.seeds * _GROWTH[axis] * self.seconds.get(self.sizes[axis][-1], 0.0)

    def rows(self) -> list[Row]:
        """Rows from all seeds.

        Among a hundred intervals of 95 % some miss: what fails has to fail in each half of the seeds
        too, and as many more are trained where there are only the first.
        """
        rows = self._rows(slice(None))
        if not any(r.verdict in FAILED for r in rows):
            return rows
        if self.seeds < 2 * self.first:
            self.train(2 * self.first)
            rows = self._rows(slice(None))
        half = self.seeds // 2
        suspects = [
            {(*r.key, r.verdict) for r in self._rows(part)}
            for part in (slice(half), slice(half, None))
        ]
        return [
            r
            if r.verdict not in FAILED or all((*r.key, r.verdict) in s for s in suspects)
            else replace(r, verdict="inconclusive")
            for r in rows
        ]

    def _rows(self, seeds: slice) -> list[Row]:
        measured = {s: m[: self.seeds][seeds] for s, m in self.measured.items()}
        return rows_of(self.setup.plan, self.sizes, measured)
