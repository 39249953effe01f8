"""IsoFLOP profiles: runs of one cost, the size of lowest loss among them, and how it grows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from leadline.forecasting.costs import RunCost
from leadline.forecasting.runs import Runs
from leadline.intervals import Interval, t_quantile

# Costs that differ by less, relatively, are one.
_ALIKE = 0.05
# Runs of a profile, and of its parabola: those whose log loss is so near the lowest, or so many.
_LEAST, _NEAR, _FEW = 4, 0.06, 5
_PROFILES = 3


@dataclass(frozen=True)
class Profile:
    """Runs of one cost along an axis.

    Attributes:
        cost: of each of them. x, loss: the runs. best, least: where the parabola through those near the
            lowest loss has its minimum, and the loss there; None where the lowest is at an end.
        curve: coefficients of log loss in powers of log x.
    """

    cost: float
    x: tuple[float, ...]
    loss: tuple[float, ...]
    best: float | None
    least: float | None
    curve: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain numbers."""
        return {"cost": self.cost, "runs": len(self.x), "best": self.best, "loss": self.least}


@dataclass(frozen=True)
class Profiles:
    """IsoFLOP profiles along an axis, and the exponent with which their minima grow with cost."""

    axis: str
    cost: str
    profiles: tuple[Profile, ...]
    exponent: Interval

    def __str__(self) -> str:
        some = [p for p in self.profiles if p.best is not None]
        low, high = some[0].cost, some[-1].cost
        return (
            f"{self.axis}* grows as cost^{self.exponent:.3g}, by the minima of {len(some)} isoFLOP "
            f"profiles "
            f"({low:.3g} to {high:.3g}; cost {self.cost})"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain lists and numbers."""
        return {
            "axis": self.axis,
            "cost": self.cost,
            "exponent": self.exponent.to_json(),
            "profiles": [p.to_json() for p in self.profiles],
        }


def isoflop_profiles(runs: Runs, cost: RunCost, axis: str, confidence: float) -> Profiles:
    """Group runs by cost, find each group's minimum, and fit their growth.

    The exponent's interval is Student's of the straight line through the minima.

    Raises:
        ValueError: fewer than three profiles with a minimum inside.
    """
    costs = cost(runs.sizes)
    order = np.argsort(costs, kind="stable")
    breaks = np.flatnonzero(np.diff(np.log(costs[order])) > _ALIKE) + 1
    profiles = []
    for rows in np.split(order, breaks):
        x = runs.sizes[axis][rows]
        if len(np.unique(x)) >= _LEAST:
            profiles.append(_profile(float(np.median(costs[rows])), x, runs.loss[rows]))
    some = [p for p in profiles if p.best is not None]
    if len(some) < _PROFILES:
        raise ValueError(
            f"the runs have {len(some)} isoFLOP profiles (at least {_LEAST} sizes of one cost "
            f"{cost.text}, the best of them inside): {_PROFILES} are needed; ask the law, "
            f"frontier() or --frontier"
        )
    u = np.log([p.cost for p in some])
    v = np.log([p.best for p in some if p.best is not None])
    u0 = u - u.mean()
    slope = float((u0 * v).sum() / (u0**2).sum())
    left = v - v.mean() - slope * u0
    dof = len(u) - 2
    error = np.sqrt((left**2).sum() / dof / (u0**2).sum()) if dof > 0 else np.inf
    half = float(t_quantile((1 + confidence) / 2, max(dof, 1)) * error)
    return Profiles(axis, cost.text, tuple(profiles), Interval(slope, slope - half, slope + half))


def _profile(cost: float, x: np.ndarray, loss: np.ndarray) -> Profile:
    order = np.argsort(x, kind="stable")
    x, loss = x[order], loss[order]
    u, y = np.log(x), np.log(loss)
    lowest = int(np.argmin(y))
    near = y < y[lowest] + _NEAR
    if near.sum() < _FEW:
        near = np.zeros(len(y), bool)
        near[np.argsort(np.abs(u - u[lowest]), kind="stable")[:_FEW]] = True
    curve = np.polynomial.polynomial.polyfit(u[near] - u[lowest], y[near], 2)
    best = least = None
    if curve[2] > 0:
        at = -curve[1] / (2 * curve[2])
        if u[0] < u[lowest] + at < u[-1] and 0 < lowest < len(u) - 1:
            best = float(np.exp(u[lowest] + at))
            least = float(np.exp(curve[0] - curve[1] ** 2 / (4 * curve[2])))
    return Profile(
        cost=cost,
        x=tuple(x.tolist()),
        loss=tuple(loss.tolist()),
        best=best,
        least=least,
        curve=tuple(curve.tolist()),
    )
