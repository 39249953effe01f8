"""Compute-optimal sizes: the best for a budget, how they grow with it, and what being off costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from leadline.forecasting.answers import PredictedLoss
from leadline.forecasting.costs import RunCost
from leadline.forecasting.estimate import Fitted
from leadline.forecasting.optimum import Surface
from leadline.forecasting.runs import DATA, Runs
from leadline.intervals import Interval, percentiles

OFF = (0.25, 0.5, 2.0, 4.0)
"""Factors from the optimum whose price is told."""
# Axes that a budget of width and depth leaves as they are.
_KEPT = ("samples", "steps")


@dataclass(frozen=True)
class Best:
    """The sizes of lowest loss for a budget.

    Attributes:
        budget, cost: what may be spent, and what the whole sizes cost. formula: of the cost.
        sizes: by free axis. loss: there. size: in whole numbers within the budget.
        held: the other axes' sizes. extrapolated: how many times beyond the runs the farthest axis is.
        price: what the loss rises by, as a share, with the first axis times a factor at the same cost.

    A free axis's size is an attribute too: ``best.width``, ``best.N``.
    """

    budget: float
    cost: float
    formula: str
    sizes: Mapping[str, Interval]
    loss: PredictedLoss
    size: tuple[int, ...]
    held: Mapping[str, float]
    extrapolated: float
    price: Mapping[float, Interval]

    def __getattr__(self, name: str) -> Interval:
        """A free axis's size by its name, by what it is or by the field's letter: ``best.N``."""
        sizes = self.__dict__.get("sizes", {})
        try:
            return sizes[name]
        except KeyError:
            raise AttributeError(f"Best has no {name!r}: it has {', '.join(sizes)}") from None

    def __str__(self) -> str:
        sizes = ", ".join(f"{a} {x:.4g}" for a, x in self.sizes.items())
        whole = "x".join(f"{x:d}" if x < 1e6 else f"{x:.4g}" for x in self.size)
        text = f"{whole} ({sizes}): {self.loss:.4g}"
        if self.held:
            text += "; held: " + ", ".join(f"{a} {x:.4g}" for a, x in self.held.items())
        return f"{text}; {self.loss.beyond}" if self.loss.beyond else text

    def to_json(self) -> dict[str, Any]:
        """Plain numbers."""
        return {
            "budget": self.budget,
            **{k: x.to_json() for k, x in self.sizes.items()},
            "loss": self.loss.to_json(),
            "size": dict(zip(self.sizes, self.size, strict=True)),
            "cost": self.cost,
            "cost_formula": self.formula,
            "held": dict(self.held),
            "extrapolated": self.extrapolated,
            "price": {f"{f:g}": x.to_json() for f, x in self.price.items()},
        }


@dataclass(frozen=True)
class Frontier:
    """Best sizes over budgets, and the exponents with which they and the cost grow together."""

    formula: str
    points: tuple[Best, ...]
    exponents: Mapping[str, Interval]
    held: Mapping[str, float]
    span: tuple[float, float]
    """Costs of the cheapest and of the dearest run."""

    def __str__(self) -> str:
        said = ", ".join(f"{a}* grows as cost^{x:.3g}" for a, x in self.exponents.items())
        return f"{said} (cost {self.formula})"

    def to_json(self) -> dict[str, Any]:
        """Plain lists and numbers."""
        return {
            "cost": self.formula,
            "exponents": {a: x.to_json() for a, x in self.exponents.items()},
            "held": dict(self.held),
            "runs_cost": list(self.span),
            "points": [p.to_json() for p in self.points],
        }


def free_axes(
    runs: Runs, laws: Sequence[Fitted], cost: RunCost, held: Mapping[str, float]
) -> tuple[str, ...]:
    """Axes that a budget is spent on: those of the law and the cost that are not held.

    Samples and steps stay as they are where width or depth are chosen.
    """
    roles = [runs.role(a) for a in laws[0].law.axes]
    sizes = any(r in ("width", "depth") for r in roles)
    return tuple(
        a
        for a in runs.sizes
        if a in laws[0].law.axes
        and a in cost.axes
        and a not in held
        and not (sizes and runs.role(a) in _KEPT)
    )


def held_sizes(
    runs: Runs, laws: Sequence[Fitted], cost: RunCost, held: Mapping[str, float]
) -> tuple[tuple[str, ...], dict[str, float]]:
    """What is free, and everything else's size: as told; the runs' largest; of what is useless the
    smallest."""
    free, low = free_axes(runs, laws, cost, held), useless_axes(runs, laws, cost, held)
    out = {}
    for axis, x in runs.sizes.items():
        if axis not in free:
            out[axis] = held.get(axis, float(x.min() if axis in low else x.max()))
    return free, out


def useless_axes(
    runs: Runs, laws: Sequence[Fitted], cost: RunCost, held: Mapping[str, float]
) -> tuple[str, ...]:
    """Axes of a model that cost, have no term and are not held."""
    return tuple(
        a for a in cost.axes if a not in (*laws[0].law.axes, *held) and runs.role(a) not in DATA
    )


def optima(
    surface: Surface, laws: Sequence[Fitted]
) -> tuple[list[dict[str, np.ndarray]], list[np.ndarray]]:
    """The best sizes (1 + K,) of every law's free axes, and the losses there."""
    sizes = [surface.best(f) for f in laws]
    losses = []
    for f, at in zip(laws, sizes, strict=True):
        every = {a: x[:, None] for a, x in at.items()}
        every |= {a: np.full((len(f.draws) + 1, 1), x) for a, x in surface.held.items()}
        losses.append(f.values(every)[:, 0])
    return sizes, losses


def prices(
    surface: Surface,
    laws: Sequence[Fitted],
    sizes: list[dict[str, np.ndarray]],
    losses: list[np.ndarray],
    confidence: float,
) -> dict[float, Interval]:
    """What the loss rises by, as a share, with the first free axis times a factor, the others of the
    rest of the budget as good as they can be."""
    if len(surface.free) != 2:
        return {}
    first, second = surface.free
    out = {}
    for factor in OFF:
        answers = []
        for f, at, least in zip(laws, sizes, losses, strict=True):
            u = np.log(at[first] * factor)
            last = surface.last([u])
            every = {first: np.exp(u)[:, None], second: np.exp(np.maximum(last, 0.0))[:, None]}
            every |= {a: np.full((len(u), 1), x) for a, x in surface.held.items()}
            rise = f.values(every)[:, 0] / least - 1
            answers.append(np.where((u < 0) | (last < -1e-9), np.inf, np.maximum(rise, 0.0)))
        out[factor] = percentiles(answers, confidence)
    return out


def growth(
    low: list[dict[str, np.ndarray]],
    high: list[dict[str, np.ndarray]],
    factor: float,
    confidence: float,
) -> dict[str, Interval]:
    """Exponents of the sizes between two budgets that differ by a factor."""
    return {
        axis: percentiles(
            [np.log(b[axis] / a[axis]) / np.log(factor) for a, b in zip(low, high, strict=True)],
            confidence,
        )
        for axis in low[0]
    }
