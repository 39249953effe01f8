"""The sizes that ``limit`` has solved, what the next one would cost, and which one tells the most."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from leadline.disk.write import attempt
from leadline.errors import CheckpointError
from leadline.intervals import standard_error, t_quantile
from leadline.limits import agreement as agreements
from leadline.limits.estimate import Extrapolation
from leadline.limits.networks import (
    Solved,
    facts,
    is_random,
    leads,
    power,
    run,
    sized,
    truncates,
)
from leadline.solving.configuration import Configuration
from leadline.solving.solver import Progress
from leadline.trajectory import Trajectory

if TYPE_CHECKING:
    import os

    from leadline.problems import Problem

Size = tuple[int, int]

# A fit of two lines through two widths and two depths says nothing of itself: so many different ones.
LEVELS = 3
# Neurons that take as long as what does not depend on their number, where time grows as n and as n².
_OVERHEAD, _SQUARE_OVERHEAD = 512, 256
# The most that dropped directions may change the loss by, as a share of the bar that is asked for.
_DROPPED = 0.1
# A chosen tol: the coarsest, the finest, and that of which ranks make the error bars that were calibrated.
_COARSEST, _FINEST, _CALIBRATED = 1e-2, 1e-4, 1e-3


def first_width(problem: Problem) -> int:
    """Room enough for the problem: the first width of ``limit`` if none is given."""
    return max(256, 1 << (4 * problem.samples - 1).bit_length())


def first_sizes(width: int, depth: int, over: str = "both") -> tuple[Size, ...]:
    """The sizes that ``limit`` solves in any case."""
    if over == "width":
        return tuple((k * width, depth) for k in (1, 2, 4))
    return (width, depth), (2 * width, depth), (width, 2 * depth)


def first_tol(rtol: float, remembers: bool) -> float:
    """Where ``limit`` begins if no tol is given: half of rtol, dropped directions change less."""
    return min(max(rtol / 2, _FINEST), _COARSEST) if remembers else _CALIBRATED


class Ladder:
    """Sizes solved, kept in a folder if one is given.

    Args:
        first: the first size; the others differ from it in width, depth and seed.
        folder: where finished sizes are written, and read by the next call that needs the same.
        over: "both", or "width": all sizes have the first one's depth.
        rtol: chooses tol: it falls until what it drops at the first size changes the loss by less than a
            tenth of the bar, rtol of the initial loss. None keeps the first size's.
    """

    def __init__(
        self,
        first: Solved,
        progress: Progress | None = None,
        folder: str | os.PathLike[str] | None = None,
        over: str = "both",
        rtol: float | None = None,
    ) -> None:
        self.first, self.over, self._progress, self._rtol = first, over, progress, rtol
        self._begun = first.tol
        self._folder = None if folder is None else Path(folder)
        self.cells: dict[Size, Trajectory] = {}
        self._fine: Trajectory | None = None
        self.agreement: agreements.Agreement | None = None
        """How the first size compares with Gaussian weights, if the ensemble is another."""
        self.rank = 0.0
        """Directions queried at the first size, where the runs themselves do not tell."""
        self.seconds = 0.0
        """Spent on solving, in this call."""

    def solve(self, n: int, l: int, seeds: int | None = None) -> None:
        """Add one size (and, with the first, the check of the truncation)."""
        first = not self.cells
        few = {} if seeds in (None, self.first.seeds) else {"seeds": seeds}
        self.cells[n, l] = self._run(n, l, self.first.tol, **few)
        if first and truncates(self.first):
            self._fine = self._run(n, l, self.first.tol / 10)
            while self._drops_too_much():
                self.first = sized(self.first, n, l, tol=self.first.tol / 10)
                self.cells[n, l] = self._fine
                self._fine = self._run(n, l, self.first.tol / 10)
            if self.first.tol > _CALIBRATED:
                self.rank = float(self._fine.info["largest_rank"])
        if first and self.first.ensemble != "gaussian":
            self._compare(n, l)

    def _drops_too_much(self) -> bool:
        """Is a chosen tol too coarse for the bar?"""
        if self._rtol is None or self.first.tol < 2 * _FINEST:
            return False
        most = _DROPPED * self._rtol * float(next(iter(self.cells.values())).mean()[0])
        return bool(self.truncation("train_loss").max() > most)

    def _compare(self, n: int, l: int) -> None:
        """Both ensembles at one size, by as many seeds as a test needs."""
        seeds = max(self.first.seeds, agreements.SEEDS)
        usual = self._run(n, l, self.first.tol, seeds=seeds, ensemble="gaussian")
        same = seeds == self.first.seeds
        fast = self.cells[n, l] if same else self._run(n, l, self.first.tol, seeds=seeds)
        self.agreement = agreements.agreement(fast, usual)
        self.rank = float(usual.info["largest_rank"])

    def _run(self, n: int, l: int, tol: float, **other: Any) -> Trajectory:
        # Sizes share the order of batches and nothing else: their noise is independent.
        seed = self.first.seed
        how = {"tol": tol, "seed": _size_seed(seed, n, l), "batch_seed": seed, **other}
        one = sized(self.first, n, l, **how)
        if isinstance(one, Configuration) and (n, l) == (self.first.width, self.first.depth):
            # What tol drops is to be seen here, and which rank it leaves.
            one = replace(one, complete=False)
        path = None
        if self._folder is not None:
            marks = ["fine"] * round(math.log10(self._begun / tol)) if tol else []
            marks += [f"{v}" for v in other.values()]
            path = self._folder / f"{'-'.join([f'{n}x{l}', *marks])}.safetensors"
            if path.exists():
                return self._kept(path, one)
        result = run(one, self._progress)
        self.seconds += result.info["seconds"]
        if path is not None and leads(one):
            attempt(lambda: result.save(path))
        return result

    def _kept(self, path: Path, one: Solved) -> Trajectory:
        """A size that an earlier call has solved."""
        kept = Trajectory.load(path)
        for key, value in json.loads(json.dumps(facts(one))).items():
            if kept.info.get(key) != value:
                raise CheckpointError(
                    f"checkpoint={str(self._folder)!r} belongs to another limit: {path.name} has "
                    f"{key}={kept.info.get(key)!r}, this call {value!r}; give another folder"
                )
        return kept

    @cached_property
    def random(self) -> bool:
        """Do outputs stay random in the limit?"""
        return is_random(self.first)

    @property
    def runs(self) -> list[Trajectory]:
        """The sizes that did not diverge."""
        return [t for t in self.cells.values() if not _diverged(t)]

    @property
    def diverges(self) -> float:
        """The first step at which any network diverges; infinity if none does."""
        first = [t.diverged[t.diverged >= 0] for t in self.cells.values() if t.diverged is not None]
        return min((float(at.min()) for at in first if len(at)), default=math.inf)

    @property
    def divergence(self) -> str:
        """Why there is no limit, or none that these sizes could tell; "" if the largest all train."""
        bad = {size: _diverged(t) for size, t in self.cells.items() if _diverged(t)}
        if len(bad) == len(self.cells):
            return "training diverges at every size: no limit; lower lr"
        widest, deepest = (max(size[i] for size in self.cells) for i in (0, 1))
        for (n, l), count in bad.items():
            if n == widest or l == deepest:
                return (
                    f"undecided: {count} of {self.cells[n, l].seeds} networks of width={n}, depth={l} "
                    "diverge, others do not: lower lr"
                )
        return ""

    @property
    def levels(self) -> tuple[int, int]:
        """How many widths and depths there are among the sizes that did not diverge."""
        kept = [size for size, t in self.cells.items() if not _diverged(t)]
        return len({n for n, _ in kept}), len({l for _, l in kept})

    @property
    def enough(self) -> bool:
        """Are there so many widths, and depths, that a series can be tested?"""
        return min(self.levels[: 1 if self.over == "width" else 2]) >= LEVELS

    def rows(self) -> Iterator[dict[str, Any]]:
        """One row for every size that was solved, as the result shows them."""
        for (n, l), t in self.cells.items():
            yield {
                "width": n,
                "depth": l,
                "seeds": t.seeds,
                "train_loss": float(t.mean()[-1]),
                "error": float(t.error()[-1]),
                "seconds": float(t.info["seconds"]),
            }

    def truncation(self, name: str) -> np.ndarray:
        """tol against tol/10 at the first size, where it is more than noise at any step would be.

        Both draw alike up to the first direction that one of them drops: seeds are compared one by one.
        """
        coarse, fine = next(iter(self.cells.values())), self._fine
        if fine is None:
            return np.zeros(coarse.mean(name).shape)
        change = np.abs(coarse.mean(name) - fine.mean(name))
        one, other = (
            t.measures[name] if name in t.measures else getattr(t, name) for t in (coarse, fine)
        )
        noise = standard_error(one - other)
        # Bonferroni over steps (and entries): training would otherwise "change" at one in twenty.
        quantile = t_quantile(1 - 0.025 / change.size, coarse.seeds - 1)
        return np.where(change > quantile * noise, change, 0.0)

    def predict_seconds(self, n: int, l: int, seeds: int | None = None) -> float:
        """Time a layer is a + b·n (b·n² where updates are elementwise), fitted to the sizes so far."""
        sizes, p = np.array(list(self.cells), dtype=float), power(self.first)
        each = [t.info["seconds"] / t.seeds for t in self.cells.values()]
        layer = np.array(each) * (seeds or self.first.seeds) / sizes[:, 1]
        design = np.stack([np.ones(len(sizes)), sizes[:, 0] ** p], axis=1)
        # Relative errors count: a small size tells as much as a large one.
        a, b = _nonnegative(design / layer[:, None])
        return float(l * (a + b * n**p))

    def next_seeds(self, estimate: Extrapolation, target: float) -> int:
        """Seeds of the next size: half as many where it is there for the test of the series alone.

        Such a size is the largest so far, and what it costs is most of the work.
        """
        seeds = self.first.seeds
        return max(2, seeds // 2) if float(estimate.bar.max()) <= target else seeds

    def next_size(self, estimate: Extrapolation, target: float) -> Size:
        """The size that, by the error model, lowers the worst error bar most for its time.

        Candidates are those of the grid not yet solved, up to four times the width and twice the depth.
        Where the bar is met but not believed, the cheapest size that adds what is missing. Time is
        counted, not measured: the same call solves the same sizes on any machine.
        """
        widths = sorted({n for n, _ in self.cells})
        depths = sorted({l for _, l in self.cells})
        deepen = self.over == "both"
        cost = _cost if power(self.first) == 1 else _square_cost
        grid = [
            (n, l)
            for n in (*widths, 2 * widths[-1], 4 * widths[-1])
            for l in (*depths, *[2 * depths[-1]] * deepen)
            if (n, l) not in self.cells
        ]
        k = int(np.argmax(estimate.bar))
        if estimate.bar[k] <= target:
            few_widths, few_depths = (count < LEVELS for count in self.levels)
            useful = [
                (n, l)
                for n, l in grid
                if (few_widths and n not in widths) or (deepen and few_depths and l not in depths)
            ] or [(n, l) for n, l in grid if n > widths[-1] or l > depths[-1]]
            return min(useful, key=cost)
        models = estimate.posterior.likely(k)
        now = sum(p * model.variance(estimate.sizes, estimate.noise[k]) for p, model in models)

        def bar(n: int, l: int) -> float:
            sizes = estimate.sizes.and_one(n, l)
            noise = np.append(estimate.noise[k], self._noise(estimate, k, n, l))
            then = sum(p * model.variance(sizes, noise) for p, model in models)
            return float(estimate.bar[k] * np.sqrt(then / now))

        def worth(size: Size) -> float:
            return (estimate.bar[k] - max(bar(*size), target)) / cost(size)

        return max(grid, key=worth)

    def _noise(self, estimate: Extrapolation, k: int, n: int, l: int) -> float:
        """Noise of a size not yet solved: that of the nearest depth, and ∝ 1/n."""
        nearest = int(np.argmin(np.abs(np.log(estimate.sizes.l / l))))
        return float(estimate.noise[k, nearest] * estimate.sizes.n[nearest] / n)


def _cost(size: Size) -> int:
    """The cost of a size, in neurons times layers."""
    return (size[0] + _OVERHEAD) * size[1]


def _square_cost(size: Size) -> int:
    """The cost of a size where time grows as n²."""
    return (size[0] ** 2 + _SQUARE_OVERHEAD**2) * size[1]


def _nonnegative(design: np.ndarray) -> np.ndarray:
    """The two coefficients ≥ 0 whose sum of columns (c, 2) is nearest to ones."""
    best = np.linalg.lstsq(design, np.ones(len(design)), rcond=None)[0]
    if best.min() >= 0:
        return best
    each = design.sum(0) / np.maximum((design**2).sum(0), 1e-300)
    # The column that comes nearer to ones by itself.
    return each * (np.arange(2) == np.argmax(design.sum(0) * each))


def _size_seed(seed: int, n: int, l: int) -> int:
    """The seed of a size's noise."""
    return int(np.random.SeedSequence([seed, n, l]).generate_state(1)[0])


def _diverged(t: Trajectory) -> int:
    return 0 if t.diverged is None else int((t.diverged >= 0).sum())
