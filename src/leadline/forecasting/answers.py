"""What fitted laws say: diminishing returns, the best size for a budget, the floor beside a limit."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from leadline.errors import check_real
from leadline.forecasting.estimate import Fitted
from leadline.intervals import Interval

Cost = Callable[..., Any]


@dataclass(frozen=True)
class Best:
    """The best size for a budget: width, depth and the loss there. ``cost`` is that of the size in
    whole numbers, ``extrapolated`` how far beyond the runs it lies (1: within)."""

    width: Interval
    depth: Interval
    loss: Interval
    size: tuple[int, int]
    cost: float
    extrapolated: float

    def __str__(self) -> str:
        size = "x".join(map(str, self.size))
        return f"{size} (width {self.width:.4g}, depth {self.depth:.4g}): {self.loss:.4g}"

    def to_json(self) -> dict[str, Any]:
        """Plain numbers."""
        return {
            **{k: getattr(self, k).to_json() for k in ("width", "depth", "loss")},
            "size": dict(zip(("width", "depth"), self.size, strict=True)),
            "cost": self.cost,
            "extrapolated": self.extrapolated,
        }


def diminishing(fitted: Fitted, axis: str, gain: float, others: Mapping[str, float]) -> np.ndarray:
    """(1 + K,) sizes beyond which a doubling along the axis lowers the loss by less than ``gain``.

    Of f(x) = R + T·x^-a a doubling gains (1 - 2^-a)·T·x^-a: the size where this is gain·f(x). 0 where
    no doubling gains as much, infinite where every one does.
    """
    law = fitted.law
    if axis not in law.axes:
        return np.zeros(1 + len(fitted.draws))
    k = law.axes.index(axis)
    e, sizes, powers = law.split(fitted.all)
    rest = fitted.values({a: np.array([others[a]]) for a in others})[:, 0]
    at = np.log(others[axis] / fitted.origin[axis])
    rest = np.maximum(rest - sizes[:, k] * np.exp(-powers[:, k] * at), e)
    share = 1 - 2.0 ** -powers[:, k]
    # What the fit's lower bound of E leaves is no floor.
    rest = np.where(rest < 1e-6 * sizes[:, k], 0.0, rest)
    with np.errstate(divide="ignore"):
        left = gain * rest / np.maximum(share - gain, 1e-300)
        out = np.exp((np.log(sizes[:, k]) - np.log(left)) / powers[:, k])
    return np.where(share <= gain, 0.0, fitted.origin[axis] * out)


def default_cost(width: Any, depth: Any, samples: Any, steps: Any) -> Any:
    """width²·depth·samples·steps."""
    return width**2 * depth * samples * steps


class Frontier:
    """Sizes of a given cost: for each depth of a fine grid the width that spends the budget.

    Args:
        width, depth: held there; None is free.

    Raises:
        ValueError: the cost function is unusable, or the budget buys no network.
    """

    def __init__(
        self,
        budget: float,
        cost: Cost,
        samples: float,
        steps: float,
        width: float | None,
        depth: float | None,
    ) -> None:
        def spent(n: float, l: float) -> float:
            return float(cost(n, l, samples, steps))

        n, l = width or 1.0, depth or 1.0
        least = spent(n, l)
        if not math.isfinite(least) or least < 0 or not spent(2 * n, 2 * l) > least:
            raise ValueError(
                f"cost={getattr(cost, '__name__', cost)!r} does not grow with width and depth: give "
                "a function (width, depth, samples, steps) of positive numbers that does"
            )
        if least > budget:
            raise ValueError(
                f"budget={budget:g} is less than the {least:g} of width {n:g}, depth {l:g}, samples "
                f"{samples:g}, steps {steps:g}: give more, or fewer samples or steps"
            )
        self.spent = spent
        self.depth = np.array([l])
        if depth is None:
            deepest = _largest(lambda l: spent(n, l), budget)
            self.depth = np.exp(np.linspace(0.0, math.log(deepest), 1000))
        self.width = np.full(len(self.depth), n)
        if width is None:
            self.width = np.array(
                [_largest(lambda n, l=l: spent(n, l), budget) for l in self.depth]
            )
        elif depth is None:
            self.depth, self.width = self.depth[-1:], self.width[-1:]

    def best(self, fitted: Fitted, others: Mapping[str, float]) -> tuple[np.ndarray, np.ndarray]:
        """(1 + K,) widths and depths of the lowest loss."""
        full = {a: np.full(len(self.depth), x) for a, x in others.items()}
        losses = fitted.values(full | {"width": self.width, "depth": self.depth})
        k = losses.argmin(1)
        return self.width[k], self.depth[k]


def _largest(spent: Callable[[float], float], budget: float) -> float:
    """The largest x ≥ 1 with spent(x) ≤ budget, for a growing function."""
    low, high = 0.0, 1.0
    while spent(math.exp(high)) <= budget:
        low, high = high, 2 * high
        if high > 512:
            raise ValueError(
                "cost does not grow with every size: give a function (width, depth, samples, steps) "
                "that does"
            )
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if spent(math.exp(middle)) <= budget else (low, middle)
    return math.exp(low)


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


def whole_size(width: float, depth: float, frontier: Frontier, budget: float) -> tuple[int, int]:
    """Whole numbers next to the optimum within the budget (depth first: it is the coarser)."""
    l = max(round(depth), 1)
    n = max(round(width), 1)
    while l > 1 and frontier.spent(1, l) > budget:
        l -= 1
    if frontier.spent(n, l) > budget:
        low, high = 1, n
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if frontier.spent(middle, l) <= budget else (low, middle)
        n = low
    return n, l
