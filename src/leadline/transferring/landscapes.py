"""Losses on a grid of rates, and reading them from rows of runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from leadline.sweeps.runs import final_loss


@dataclass(frozen=True)
class Landscape:
    """Losses of one size.

    Attributes:
        x: (k,) log2 of the rates, increasing.
        losses: (k, seeds), above 0, inf where diverged.
    """

    x: np.ndarray
    losses: np.ndarray

    def mean(self, seeds: np.ndarray | None = None) -> np.ndarray:
        """(k,) mean log loss over seeds; inf where one diverged."""
        chosen = self.losses if seeds is None else self.losses[:, seeds]
        return np.log(chosen).mean(1)

    def noise(self) -> float:
        """Standard error of a mean log loss, after what a seed adds at every rate: the median over the
        rates that did not diverge; 0 for one seed."""
        logs = np.log(self.losses[np.isfinite(self.losses).all(1)])
        rates, seeds = logs.shape
        if seeds < 2 or not rates:
            return 0.0
        rest = logs - logs.mean(0)
        return float(np.median(rest.std(1, ddof=1)) / np.sqrt(seeds))


def other_axis(axis: str) -> str:
    """Depth for width, and the reverse."""
    return "depth" if axis == "width" else "width"


def anchor(rows: Iterable[Mapping[str, Any]], scheme: str, axis: str) -> int | None:
    """The smallest value of the other axis at which there are two or more sizes; None if there is none.

    Rows without the other axis are all at 0.
    """
    sizes: dict[int, set[int]] = {}
    for r in rows:
        if r.get("scheme", scheme) == scheme and r.get(axis) is not None:
            sizes.setdefault(int(r.get(other_axis(axis)) or 0), set()).add(int(r[axis]))
    return min((at for at, some in sizes.items() if len(some) > 1), default=None)


def landscapes(
    rows: Iterable[Mapping[str, Any]], scheme: str, axis: str, metric: str
) -> dict[int, Landscape]:
    """By size along an axis, the other axis at the smallest value at which there are two sizes.

    Raises:
        ValueError: one size only, or sizes without a common grid of rates and seeds.
    """
    mine = [r for r in rows if r.get("scheme", scheme) == scheme]
    other = other_axis(axis)
    if not mine:
        raise ValueError(f"there are no runs of scheme {scheme!r}")
    at = anchor(mine, scheme, axis)
    if at is None:
        have = sorted({int(r[axis]) for r in mine})
        if len(have) < 2:
            raise ValueError(f"{axis}s hold one size, {have}: give two or more")
        raise ValueError(
            f"no two {axis}s of {scheme!r} are at one {other}: give {axis} {have[0]} and {axis} {have[1]} "
            f"at the same {other}"
        )
    mine = [r for r in mine if int(r.get(other) or 0) == at]
    sizes = sorted({int(r[axis]) for r in mine})
    out: dict[int, Landscape] = {}
    common: list[int] | None = None
    for size in sizes:
        here = [r for r in mine if int(r[axis]) == size]
        rates = sorted({float(r["lr"]) for r in here})
        seeds = sorted({int(r.get("seed", 0)) for r in here})
        by_place: dict[tuple[float, int], Mapping[str, Any]] = {}
        for r in here:
            key = (float(r["lr"]), int(r.get("seed", 0)))
            if key in by_place:
                raise ValueError(_twice(by_place[key], r))
            by_place[key] = r
        table = {key: _loss(r, metric) for key, r in by_place.items()}
        missing = [(a, s) for a in rates for s in seeds if (a, s) not in table]
        if missing:
            raise ValueError(
                f"{axis} {size} of {scheme!r} has no run with lr={missing[0][0]:g}, seed={missing[0][1]}: "
                "run the whole grid"
            )
        if len(rates) < 3:
            raise ValueError(f"lrs={rates} are too few to find an optimum: give three or more")
        if common is not None and seeds != common:
            raise ValueError(
                f"{axis} {size} of {scheme!r} has seeds {seeds}, {axis} {sizes[0]} has {common}: run the "
                "same seeds at every size"
            )
        common = seeds
        losses = np.array([[table[a, s] for s in seeds] for a in rates])
        out[size] = Landscape(np.log2(rates), losses)
    return out


_RESULTS = ("id", "loss", "test_loss", "diverged", "stopped", "steps_done", "seconds")


def _twice(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """What to say of two runs in one place."""
    place = ", ".join(f"{k}={one[k]!r}" for k in ("width", "depth", "lr", "seed") if k in one)
    differ = [k for k in one if k not in _RESULTS and one[k] != other.get(k)]
    if not differ:
        return f"there are two runs with {place}: leave one out"
    name = differ[0]
    return (
        f"runs with {place} differ in {name} ({one[name]!r}, {other.get(name)!r}): give the runs of one "
        f"{name} at a time"
    )


def _loss(row: Mapping[str, Any], metric: str) -> float:
    """Infinite for runs that did not end well: logarithms are taken."""
    value = final_loss(row, metric)
    return value if value > 0 else np.inf
