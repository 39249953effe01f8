"""The sizes of lowest loss at a cost: for the law and for each of its draws."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from leadline.forecasting.costs import RunCost
from leadline.forecasting.estimate import Fitted

# Points of the first grid of each free direction, and of those that narrow it down.
_GRID = {1: 128, 2: 32}
_ZOOM = {1: 12, 2: 9}
_ROUNDS = 11
_TABLE = 2000


@dataclass(frozen=True)
class Surface:
    """Sizes of one cost: free axes ≥ 1, the last of them what the others leave.

    Attributes:
        free: axes that are chosen. held: the others, with their sizes.
    """

    budget: float
    cost: RunCost
    free: tuple[str, ...]
    held: Mapping[str, float]

    def check(self) -> None:
        """Refuse a budget that buys nothing, or a cost that does not grow.

        Raises:
            ValueError: so it is.
        """
        ones = dict.fromkeys(self.free, 1.0)
        least = float(self.cost({**self.held, **ones}))
        if not self.free and not self.cost.axes:
            raise ValueError(
                f"cost={self.cost.text!r} depends on none of {', '.join(self.held)}: give one that does"
            )
        if not self.free:
            return
        twice = float(self.cost({**self.held, **dict.fromkeys(self.free, 2.0)}))
        if not (math.isfinite(least) and least >= 0 and twice > least):
            raise ValueError(
                f"cost={self.cost.text!r} does not grow with {' and '.join(self.free)}: give a function "
                f"({', '.join((*self.free, *self.held))}) of positive numbers that does"
            )
        for axis in self.free:
            if not float(self.cost({**self.held, **ones, axis: 1e6})) > least:
                raise ValueError(
                    f"cost={self.cost.text!r} does not grow with every size ({axis}): give a function that "
                    f"does, or hold it, {axis}=SIZE (--hold {axis}=SIZE)"
                )
        if least > self.budget:
            rest = "".join(f", {a} {x:g}" for a, x in self.held.items())
            raise ValueError(
                f"budget={self.budget:g} is less than the {least:g} of "
                f"{', '.join(f'{a} 1' for a in self.free)}{rest}: give more, or less of what is held"
            )
        if len(self.free) > 3 or (len(self.free) == 3 and self.cost.powers is None):
            raise ValueError(
                f"cost={self.cost.text!r}: {len(self.free)} sizes are free "
                f"({', '.join(self.free)}): hold one, {self.free[-1]}=SIZE "
                f"(--hold {self.free[-1]}=SIZE)"
            )

    def last(self, others: Sequence[np.ndarray]) -> np.ndarray:
        """Log of the last free axis, of logs of the others; what the budget leaves."""
        if self.cost.powers is not None:
            powers = self.cost.powers
            ones = {**self.held, **dict.fromkeys(self.free, 1.0)}
            left = math.log(self.budget / float(self.cost(ones)))
            for axis, u in zip(self.free[:-1], others, strict=True):
                left = left - powers.get(axis, 0.0) * u
            return np.asarray(left / powers[self.free[-1]])
        if not others:
            return np.asarray(self._largest(self.free[-1], {}))
        grid, values = self._table()
        return np.interp(others[0], grid, values)

    def span(self, axis: str) -> float:
        """Log of the largest an axis can be, the other free ones 1."""
        others = {a: 1.0 for a in self.free if a != axis}
        if self.cost.powers is not None:
            ones = {**self.held, **dict.fromkeys(self.free, 1.0)}
            return math.log(self.budget / float(self.cost(ones))) / self.cost.powers[axis]
        return self._largest(axis, others)

    def _largest(self, axis: str, others: Mapping[str, float]) -> float:
        return float(self._bisect(axis, {a: np.array([x]) for a, x in others.items()}, 1)[0])

    def _bisect(self, axis: str, others: Mapping[str, np.ndarray], count: int) -> np.ndarray:
        def spent(u: np.ndarray) -> np.ndarray:
            held = {a: np.full(count, x) for a, x in self.held.items()}
            with np.errstate(over="ignore"):
                return np.broadcast_to(self.cost({**held, **others, axis: np.exp(u)}), (count,))

        low, high = np.zeros(count), np.ones(count)
        while (small := spent(high) <= self.budget).any():
            high = np.where(small, 2 * high, high)
            if high.max() > 512:
                raise ValueError(
                    f"cost={self.cost.text!r} does not grow with every size ({axis}): give a "
                    f"function that does"
                )
        for _ in range(60):
            middle = (low + high) / 2
            within = spent(middle) <= self.budget
            low, high = np.where(within, middle, low), np.where(within, high, middle)
        return low

    def _table(self) -> tuple[np.ndarray, np.ndarray]:
        """The last axis over the first, by bisection on a fine grid."""
        first, last = self.free
        grid = np.linspace(0.0, self.span(first), _TABLE)
        return grid, self._bisect(last, {first: np.exp(grid)}, _TABLE)

    def best(self, fitted: Fitted) -> dict[str, np.ndarray]:
        """(1 + K,) the free axes' sizes of lowest loss."""
        self.check()
        count = 1 + len(fitted.draws)
        directions = len(self.free) - 1
        if directions < 0:
            return {}
        if directions == 0:
            return {self.free[0]: np.full(count, float(np.exp(self.last(()))))}
        spans = [self.span(a) for a in self.free[:-1]]
        center = np.tile([s / 2 for s in spans], (count, 1))
        width = np.array(spans, float) / 2
        points = _GRID[directions]
        surface = self if self.cost.powers is not None else _Tabled.of(self)
        for _ in range(_ROUNDS):
            steps = np.linspace(-1.0, 1.0, points)
            mesh = np.stack(np.meshgrid(*[steps] * directions, indexing="ij"), -1)
            at = center[:, None, :] + mesh.reshape(1, -1, directions) * width
            at = np.clip(at, 0.0, spans)
            loss = surface.losses(fitted, at)
            k = loss.argmin(1)
            center = at[np.arange(count), k]
            width = width * 2 / (points - 1)
            points = _ZOOM[directions]
        sizes = {a: np.exp(center[:, i]) for i, a in enumerate(self.free[:-1])}
        last = np.maximum(surface.last([center[:, i] for i in range(directions)]), 0.0)
        return {**sizes, self.free[-1]: np.exp(last)}

    def losses(self, fitted: Fitted, at: np.ndarray) -> np.ndarray:
        """(1 + K, M) at logs (1 + K, M, directions) of all free axes but the last; infinite where the
        others leave less than 1 of the last."""
        others = [at[..., i] for i in range(at.shape[-1])]
        last = self.last(others)
        sizes: dict[str, np.ndarray] = {
            a: np.exp(u) for a, u in zip(self.free[:-1], others, strict=True)
        }
        sizes[self.free[-1]] = np.exp(np.maximum(last, 0.0))
        held = {a: np.full(last.shape, x) for a, x in self.held.items()}
        return np.where(last < -1e-9, np.inf, fitted.values({**held, **sizes}))


@dataclass(frozen=True)
class _Tabled(Surface):
    """A surface whose table is made once."""

    grid: np.ndarray
    values: np.ndarray

    @classmethod
    def of(cls, s: Surface) -> _Tabled:
        return cls(s.budget, s.cost, s.free, s.held, *s._table())

    def _table(self) -> tuple[np.ndarray, np.ndarray]:
        return self.grid, self.values


def whole(surface: Surface, best: Mapping[str, float]) -> dict[str, int]:
    """Whole numbers next to the optimum within the budget, the coarsest axis first."""
    out: dict[str, int] = {}
    order = sorted(surface.free, key=lambda a: best[a])
    for i, axis in enumerate(order):
        rest = dict.fromkeys(order[i + 1 :], 1.0)

        def spent(x: int, axis: str = axis, rest: Mapping[str, float] = rest) -> float:
            return float(surface.cost({**surface.held, **out, **rest, axis: float(x)}))

        x = max(round(best[axis]), 1)
        if spent(x) > surface.budget:
            low, high = 1, x
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if spent(middle) <= surface.budget else (low, middle)
            x = low
        out[axis] = x
    return {a: out[a] for a in surface.free}
