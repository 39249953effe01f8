"""One law fitted to runs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from leadline.forecasting import fit, noise
from leadline.forecasting.law import Law
from leadline.forecasting.runs import Runs

# Residuals beyond so many standard deviations count by their absolute value.
ROBUST = 2.0
# Of more runs so many are enough to tell good starts from bad ones, and so many steps; so many go on.
_SOME = 200
_LOOK = 10
_GOOD = 6
# These take so many steps, or until a step gains no more than this share; the best one goes to the end.
_MORE, _CLOSE = 40, 1e-6


@dataclass(frozen=True)
class Data:
    """Runs as the fit sees them.

    Attributes:
        weight: (N,) of the log losses. scale: standard deviation of a weighted log loss; infinite
            until it is known, and the fit then one of least squares.
        origin: smallest size by axis. unit: the typical loss.
    """

    runs: Runs
    weight: np.ndarray
    scale: float = math.inf
    origin: Mapping[str, float] = field(default_factory=dict)
    unit: float = 1.0

    @property
    def losses(self) -> np.ndarray:
        """(N,) over the unit."""
        return self.runs.loss / self.unit

    @property
    def target(self) -> np.ndarray:
        return np.log(self.losses)

    def logs(self, law: Law) -> np.ndarray:
        """(N, A) log sizes over the origin."""
        return self.runs.logs(law.axes, np.array([self.origin[a] for a in law.axes]))

    def take(self, keep: np.ndarray) -> Data:
        """Some of the runs."""
        return replace(self, runs=self.runs.take(keep), weight=self.weight[keep])


def prepare(runs: Runs, weight: np.ndarray) -> Data:
    """Data whose scale is not yet known."""
    origin = {a: float(x.min()) for a, x in runs.sizes.items()}
    return Data(runs, weight, math.inf, origin, float(np.exp(np.log(runs.loss).mean())))


@dataclass(frozen=True)
class Fitted:
    """Parameters of a law (p,), and draws of them (K, p)."""

    law: Law
    origin: Mapping[str, float]
    unit: float
    theta: np.ndarray
    cost: float
    draws: np.ndarray

    @property
    def all(self) -> np.ndarray:
        """(1 + K, p): the estimate, then the draws."""
        return np.concatenate([self.theta[None], self.draws])

    @property
    def floors(self) -> np.ndarray:
        """(1 + K,) E; 0 for a law without a floor, and for E alone, which is none."""
        if not self.law.terms:
            return np.zeros(1 + len(self.draws))
        return self.law.split(self.all)[0] * self.unit

    @property
    def exponents(self) -> dict[str, np.ndarray]:
        """(1 + K,) by axis."""
        powers = self.law.split(self.all)[2]
        return {a: powers[:, k] for k, a in enumerate(self.law.axes)}

    @property
    def coefficients(self) -> dict[str, np.ndarray]:
        """(1 + K,) A, B, … of the formula, by the first axis of each term."""
        _, sizes, powers = self.law.split(self.all)
        out, at = {}, 0
        for k, term in enumerate(self.law.terms):
            value = sizes[:, k] * self.unit
            for j, axis in enumerate(term.axes):
                value = value * self.origin[axis] ** powers[:, at + j]
            out[term.axis] = value
            at += len(term.axes)
        return out

    def logs(self, sizes: Mapping[str, np.ndarray]) -> np.ndarray:
        """(N, A) of sizes by axis, each (N,); (K, N, A) of sizes (K, N)."""
        columns = [np.log(np.asarray(sizes[a]) / self.origin[a]) for a in self.law.axes]
        if not columns:
            return np.zeros((*np.shape(next(iter(sizes.values()))), 0))
        return np.stack(np.broadcast_arrays(*columns), axis=-1)

    def values(self, sizes: Mapping[str, np.ndarray]) -> np.ndarray:
        """(1 + K, N) losses."""
        return self.unit * self.law.value(self.all, self.logs(sizes))


def estimate(
    law: Law, data: Data, starts: np.ndarray | None = None, most: int = fit.MOST
) -> Fitted:
    """Fit from a grid of starts and from those given."""
    logs = data.logs(law)
    grid = fit.starts(law, logs, data.losses, most)
    if starts is not None:
        grid = np.concatenate([np.atleast_2d(starts), grid])
    bounds = law.bounds(data.losses)
    scale = ROBUST * data.scale
    if len(grid) > _GOOD:
        rows = np.arange(len(data.runs))
        if len(rows) > 1.5 * _SOME:
            rows = np.random.default_rng(0).choice(len(rows), _SOME, replace=False)
        near = fit.minimise(
            law, logs[rows], data.target[rows], data.weight[rows], scale, grid, bounds, _LOOK
        )
        grid = near[0][np.argsort(near[1], kind="stable")[:_GOOD]]
    if len(grid) > 1:
        near = fit.minimise(
            law, logs, data.target, data.weight, scale, grid, bounds, _MORE, tolerance=_CLOSE
        )
        grid = near[0][np.argsort(near[1], kind="stable")[:1]]
    fitted = fit.minimise(law, logs, data.target, data.weight, scale, grid, bounds)
    theta, cost = fit.best(*fitted)
    return Fitted(law, data.origin, data.unit, theta, cost, np.zeros((0, len(theta))))


def residuals(law: Law, theta: np.ndarray, data: Data) -> np.ndarray:
    """Weighted residuals of the log losses, (N,)."""
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


def slopes(law: Law, theta: np.ndarray, data: Data) -> np.ndarray:
    """(N, p) weighted derivatives of the log loss by the parameters."""
    return law.log_value(theta, data.logs(law))[1][0].T * data.weight[:, None]


def leverages(slope: np.ndarray) -> np.ndarray:
    """(N,) of a least-squares fit with derivatives (N, p): their sum is how many directions it has."""
    return (slope * np.linalg.pinv(slope, rcond=1e-9).T).sum(1)
