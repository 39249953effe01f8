"""Bootstrap draws of a law: of residuals, of their signs, of runs, or of whole groups of runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from leadline.forecasting import fit
from leadline.forecasting.estimate import ROBUST, Data, Fitted, leverages, residuals, slopes

# Rows times draws up to which draws start from several places, and that are drawn at once.
_SEVERAL = 4_000_000
_FIRST = 100
# Steps of a draw, and the share of the cost below which its gain is none.
_STEPS, _END = 60, 1e-7
# Groups below which whole ones are not redrawn but change the sign of their residuals together.
FEW_GROUPS = 40
# Residuals are divided by this power of 1 - leverage, but not by more than that of the second: between
# those of HC2 (.5) and of HC3 (1).
_POWER, _LEAST = 0.8, 0.15


def bootstrap(
    fitted: Fitted,
    data: Data,
    draws: int,
    rng: np.random.Generator,
    way: str = "runs",
    report: Callable[[int, int], None] | None = None,
) -> Fitted:
    """Refit resampled runs, each draw from several starts, of which the lowest cost is kept."""
    law, logs = fitted.law, data.logs(fitted.law)
    bounds = law.bounds(data.losses)
    starts = fitted.theta[None]
    if len(data.runs) * draws <= _SEVERAL:
        starts = np.concatenate([starts, _elsewhere(fitted, data, logs, bounds)])
    parts: list[np.ndarray] = []
    done = 0
    # The first hundred show which other starts ever end lower.
    size = max(min(draws, _FIRST, _SEVERAL // len(data.runs)), 1)
    while done < draws:
        count = min(size, draws - done)
        target, weight = _resampled(fitted, data, count, rng, way)
        how = (law, logs, target, weight, ROBUST * data.scale)
        theta, cost = fit.minimise(*how, _each(starts[0], count), bounds, _STEPS, _END)
        gained = []
        for start in starts[1:]:
            t, c = fit.minimise(*how, _each(start, count), bounds, _STEPS, _END)
            # A gain that is rounding's is none.
            better = c < cost * (1 - 1e-3)
            theta, cost = np.where(better[:, None], t, theta), np.where(better, c, cost)
            gained.append(better.any())
        starts = np.concatenate([starts[:1], starts[1:][np.array(gained, bool)]])
        parts.append(theta)
        done += count
        size = max(_SEVERAL // len(data.runs), 1)
        if report is not None:
            report(done, draws)
    return replace(fitted, draws=np.concatenate(parts))


def _each(start: np.ndarray, count: int) -> np.ndarray:
    return np.repeat(start[None], count, axis=0)


def _elsewhere(
    fitted: Fitted, data: Data, logs: np.ndarray, bounds: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """Two more starts: the best of the grid whose floor is low, and whose floor is high."""
    law = fitted.law
    grid = fit.starts(law, logs, data.losses, 16)
    cost = fit.minimise(law, logs, data.target, data.weight, ROBUST * data.scale, grid, bounds, 0)[
        1
    ]
    order = grid[np.argsort(cost, kind="stable")]
    if not law.floor or not law.terms or len(order) < 2:
        return order[: min(2, len(order))]
    middle = np.median(order[:, 0])
    low, high = order[order[:, 0] <= middle], order[order[:, 0] > middle]
    return np.concatenate([low[:1], high[:1]])


def _resampled(
    fitted: Fitted, data: Data, draws: int, rng: np.random.Generator, way: str
) -> tuple[np.ndarray, np.ndarray]:
    """Log losses (draws, N) or (N,), and weights (N,) or (draws, N)."""
    if way == "pairs":
        return data.target, data.weight * np.sqrt(_counts(len(data.runs), draws, rng))
    value = data.target - residuals(fitted.law, fitted.theta, data) / data.weight
    if way == "groups":
        group = data.runs.groups
        count = int(group.max()) + 1
        if count >= FEW_GROUPS:
            return data.target, data.weight * np.sqrt(_counts(count, draws, rng))[:, group]
        fair, dof = _fair_groups(fitted, data)
        signs = rng.choice((-1.0, 1.0), (draws, count))[:, group]
        stretch = np.sqrt(dof / rng.chisquare(dof, (draws, 1)))
        return value + stretch * signs * fair / data.weight, data.weight
    if way == "signs":
        signs = rng.choice((-1.0, 1.0), (draws, len(data.runs)))
        return value + signs * _fair(fitted, data) / data.weight, data.weight
    pool, dof = _pool(fitted, data)
    noisy = rng.choice(pool, (draws, len(data.runs)))
    noisy *= np.sqrt(dof / rng.chisquare(dof, (draws, 1)))
    return value + noisy / data.weight, data.weight


def _counts(count: int, draws: int, rng: np.random.Generator) -> np.ndarray:
    """(draws, count) how often each is drawn."""
    return rng.multinomial(count, np.full(count, 1 / count), draws).astype(float)


def _fair(fitted: Fitted, data: Data) -> np.ndarray:
    """(N,) weighted residuals over a power of 1 - leverage."""
    leverage = leverages(slopes(fitted.law, fitted.theta, data))
    return residuals(fitted.law, fitted.theta, data) / np.maximum(1 - leverage, _LEAST) ** _POWER


def _fair_groups(fitted: Fitted, data: Data) -> tuple[np.ndarray, float]:
    """(N,) weighted residuals over a power of I - H, H their group's block of the hat matrix; and the
    degrees of freedom of what groups differ by: their number less the offsets of groups that the law
    takes up."""
    u, s, _ = np.linalg.svd(slopes(fitted.law, fitted.theta, data), full_matrices=False)
    basis = u[:, s > 1e-9 * s.max()]
    left = residuals(fitted.law, fitted.theta, data)
    out, dof = left.copy(), 0.0
    for group in np.unique(data.runs.groups):
        rows = data.runs.groups == group
        shared, size, _ = np.linalg.svd(basis[rows], full_matrices=False)
        more = np.maximum(1 - size**2, _LEAST) ** -_POWER - 1
        out[rows] += shared @ (more * (shared.T @ left[rows]))
        dof += 1 - float((basis[rows].sum(0) ** 2).sum()) / rows.sum()
    return out, max(dof, 1.0)


def _pool(fitted: Fitted, data: Data) -> tuple[np.ndarray, int]:
    """Residuals to draw from, weighted, corrected for their leverage, with the variance of the fit; and
    from how many degrees of freedom that is estimated."""
    leverage = leverages(slopes(fitted.law, fitted.theta, data))
    dof = max(len(data.runs) - fitted.law.parameters, 1)
    pool = residuals(fitted.law, fitted.theta, data)
    size = np.sqrt((pool**2).sum() / dof)
    fair = leverage < 0.95
    if fair.sum() < 3:
        fair[:] = True
    pool = pool[fair] / np.sqrt(np.maximum(1 - leverage[fair], 0.05))
    pool = pool - pool.mean()
    rms = np.sqrt((pool**2).mean())
    return (pool * (size / rms) if rms > 0 else pool), dof
