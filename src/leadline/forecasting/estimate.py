"""One law fitted to runs, and its bootstrap draws."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from leadline.forecasting import fit, noise
from leadline.forecasting.law import Law
from leadline.forecasting.runs import Runs

# Residuals beyond so many standard deviations count by their absolute value.
_ROBUST = 2.0


@dataclass(frozen=True)
class Data:
    """Runs as the fit sees them.

    Attributes:
        weight: (N,) of the log losses. scale: standard deviation of a weighted log loss; infinite
            until it is known, and the fit then one of least squares.
        origin: smallest size by axis.
    """

    runs: Runs
    weight: np.ndarray
    scale: float = math.inf
    origin: Mapping[str, float] = field(default_factory=dict)

    @property
    def target(self) -> np.ndarray:
        return np.log(self.runs.loss)

    def logs(self, law: Law) -> np.ndarray:
        """(N, T) log sizes over the origin."""
        return self.runs.logs(law.axes, np.array([self.origin[a] for a in law.axes]))

    def take(self, keep: np.ndarray) -> Data:
        """Some of the runs."""
        return replace(self, runs=self.runs.take(keep), weight=self.weight[keep])


def prepare(runs: Runs, weight: np.ndarray) -> Data:
    """Data whose scale is not yet known."""
    return Data(runs, weight, origin={a: x.min() for a, x in runs.sizes.items()})


@dataclass(frozen=True)
class Fitted:
    """Parameters of a law (p,), and draws of them (K, p)."""

    law: Law
    origin: Mapping[str, float]
    theta: np.ndarray
    cost: float
    draws: np.ndarray

    @property
    def all(self) -> np.ndarray:
        """(1 + K, p): the estimate, then the draws."""
        return np.concatenate([self.theta[None], self.draws])

    def logs(self, sizes: Mapping[str, np.ndarray]) -> np.ndarray:
        """(N, T) of sizes by axis, each (N,)."""
        columns = [np.log(np.asarray(sizes[a]) / self.origin[a]) for a in self.law.axes]
        count = len(next(iter(sizes.values())))
        return np.stack(columns, axis=1) if columns else np.zeros((count, 0))

    def values(self, sizes: Mapping[str, np.ndarray]) -> np.ndarray:
        """(1 + K, N) losses."""
        return self.law.value(self.all, self.logs(sizes))


def estimate(
    law: Law, data: Data, starts: np.ndarray | None = None, most: int = fit.MOST
) -> Fitted:
    """Fit from a grid of starts and from those given."""
    logs = data.logs(law)
    grid = fit.starts(law, logs, data.runs.loss, most)
    if starts is not None:
        grid = np.concatenate([np.atleast_2d(starts), grid])
    bounds = law.bounds(data.runs.loss)
    fitted = fit.minimise(law, logs, data.target, data.weight, _ROBUST * data.scale, grid, bounds)
    theta, cost = fit.best(*fitted)
    return Fitted(law, data.origin, theta, cost, np.zeros((0, len(theta))))


def residuals(law: Law, theta: np.ndarray, data: Data) -> np.ndarray:
    """(N,) weighted."""
    return (data.target - np.log(law.value(theta, data.logs(law))[0])) * data.weight


def with_scale(law: Law, data: Data) -> Data:
    """The scale from a law's residuals: least squares first, then twice robustly."""
    start: np.ndarray | None = None
    most = fit.MOST
    for _ in range(3):
        fitted = estimate(law, data, start, most)
        left = residuals(law, fitted.theta, data)
        data = replace(data, scale=noise.scale(left, law.parameters))
        start, most = fitted.theta, 1
    return data


def leverages(slope: np.ndarray) -> np.ndarray:
    """(N,) of a least-squares fit with derivatives (N, p): their sum is how many directions it has."""
    return (slope * np.linalg.pinv(slope, rcond=1e-9).T).sum(1)


def bootstrap(fitted: Fitted, data: Data, draws: int, rng: np.random.Generator) -> Fitted:
    """Refit losses made of the law and resampled residuals.

    Residuals are weighted, corrected for their leverage and pooled over sizes; each draw rescales
    them by √(ν/χ²_ν), for the standard deviation is itself estimated from ν = N - p residuals.
    """
    law, logs = fitted.law, data.logs(fitted.law)
    value, slope = (x[0] for x in law.log_value(fitted.theta, logs))
    leverage = leverages(slope * data.weight[:, None])
    dof = len(data.runs) - law.parameters
    pool = (data.target - value) * data.weight
    size = np.sqrt((pool**2).sum() / dof)
    fair = leverage < 0.95
    if fair.sum() < 3:
        fair[:] = True
    pool = pool[fair] / np.sqrt(np.maximum(1 - leverage[fair], 0.05))
    pool = pool - pool.mean()
    rms = np.sqrt((pool**2).mean())
    pool = pool * (size / rms) if rms > 0 else pool
    noisy = rng.choice(pool, (draws, len(data.runs))) * np.sqrt(
        dof / rng.chisquare(dof, (draws, 1))
    )
    target = value + noisy / data.weight
    bounds = law.bounds(data.runs.loss)
    theta = np.repeat(fitted.theta[None], draws, axis=0)
    where = fit.minimise(law, logs, target, data.weight, _ROBUST * data.scale, theta, bounds)[0]
    return replace(fitted, draws=where)
