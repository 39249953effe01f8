"""What fitted laws say: a loss somewhere, diminishing returns, the floor beside a limit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from leadline.errors import check_real
from leadline.forecasting.estimate import Fitted
from leadline.forecasting.runs import Runs
from leadline.intervals import Interval

# Within the ranges of the runs, but so far from the nearest of them, is outside too.
_FAR = 3.0


@dataclass(frozen=True)
class PredictedLoss(Interval):
    """The loss at a size, with its interval.

    Attributes:
        at: the size by axis, also of axes that were not named. outside: by axis how many times beyond the
            largest run it lies, or below the smallest (less than 1); empty within the runs.
        nearest: factor to the nearest run in the axis where that is largest.
        undecided: why the value should not be relied on; empty where it may.
        rivals: what the other laws that the interval encloses predict, by their formula.
    """

    at: Mapping[str, float] = field(default_factory=dict)
    outside: Mapping[str, float] = field(default_factory=dict)
    nearest: float = 1.0
    undecided: str = ""
    rivals: Mapping[str, float] = field(default_factory=dict)

    @property
    def beyond(self) -> str:
        """How far outside the runs, in words; empty within."""
        said = [
            f"{a} {x:.3g} times the largest run's"
            if x > 1
            else f"{a} {1 / x:.3g} times below the smallest"
            for a, x in self.outside.items()
        ]
        if not said and self.nearest > _FAR:
            said = [f"between the runs, {self.nearest:.3g} times from the nearest"]
        return "outside: " + ", ".join(said) if self.outside else "".join(said)

    def to_json(self) -> dict[str, Any]:
        """Plain numbers."""
        out: dict[str, Any] = Interval(self.value, self.low, self.high).to_json()
        return out | {
            "at": dict(self.at),
            "outside": dict(self.outside),
            "nearest_run": self.nearest,
            "undecided": self.undecided or None,
            "rivals": dict(self.rivals),
        }


def outside(runs: Runs, at: Mapping[str, float]) -> dict[str, float]:
    """By axis how far beyond the runs a size is."""
    out = {}
    for axis, x in at.items():
        low, high = float(runs.sizes[axis].min()), float(runs.sizes[axis].max())
        if x > high * (1 + 1e-9):
            out[axis] = x / high
        elif x < low * (1 - 1e-9):
            out[axis] = x / low
    return out


def nearest(runs: Runs, at: Mapping[str, float], axes: tuple[str, ...]) -> float:
    """The factor, in the axis where it is largest, to the nearest run."""
    if not axes:
        return 1.0
    apart = [np.abs(np.log(runs.sizes[a] / at[a])) for a in axes]
    return float(np.exp(np.max(apart, axis=0).min()))


def diminishing(fitted: Fitted, axis: str, gain: float, others: Mapping[str, float]) -> np.ndarray:
    """(1 + K,) sizes beyond which a doubling along the axis lowers the loss by less than ``gain``.

    The least x with 1 - f(2x)/f(x) <= gain, by bisection: 0 where no doubling gains as much, infinite
    where every one does.
    """
    count = 1 + len(fitted.draws)
    if axis not in fitted.law.axes:
        return np.zeros(count)

    def share(u: np.ndarray) -> np.ndarray:
        sizes = {a: np.full((count, 1), x) for a, x in others.items()}
        now = fitted.values({**sizes, axis: np.exp(u)[:, None]})[:, 0]
        then = fitted.values({**sizes, axis: np.exp(u + np.log(2))[:, None]})[:, 0]
        return 1 - then / now

    u0 = np.log(others[axis])
    low, high = np.full(count, u0 - 60.0), np.full(count, u0 + 60.0)
    never, always = share(low) <= gain, share(high) > gain
    for _ in range(70):
        middle = (low + high) / 2
        more = share(middle) > gain
        low, high = np.where(more, middle, low), np.where(more, high, middle)
    return np.where(never, 0.0, np.where(always, np.inf, np.exp(low)))


@dataclass(frozen=True)
class LimitComparison:
    """value ± error of the limit (about 95 %), the fitted floor's distance from it, and whether the
    two intervals overlap."""

    value: float
    error: float
    difference: float
    agrees: bool

    def __str__(self) -> str:
        verb = "agrees with" if self.agrees else "CONTRADICTS"
        return f"{verb} the limit {self.value:.4g} ± {self.error:.2g} ({self.difference:+.2g})"

    def to_json(self) -> dict[str, Any]:
        """Plain numbers."""
        return asdict(self)


def read_limit(limit: Any) -> tuple[float, float]:
    """Value and error of a ``Limit`` (training loss at its last step), or of a pair.

    Raises:
        ValueError, TypeError: neither, or it diverged.
    """
    if hasattr(limit, "train_loss_error"):
        pair = (float(limit.train_loss[-1]), float(limit.train_loss_error[-1]))
    elif isinstance(limit, tuple | list) and len(limit) == 2:
        pair = (limit[0], limit[1])
    else:
        raise TypeError(f"limit={limit!r} is neither a Limit nor (value, error): give one of them")
    return check_real("limit value", pair[0], 0.0), check_real("limit error", pair[1], 0.0)


def compare_limit(floor: Interval, value: float, error: float) -> LimitComparison:
    """Floor against limit."""
    overlap = floor.low <= value + error and value - error <= floor.high
    return LimitComparison(value, error, floor.value - value, overlap)
