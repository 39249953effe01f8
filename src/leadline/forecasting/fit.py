"""Robust regression of log losses: soft-L1, many problems and starts at once.

Minimised is Σ 2c²(√(1 + (w·r/c)²) - 1), r = log(loss) - log(law): squares of small residuals, absolute
values of large ones. Levenberg-Marquardt steps with the loss's own weights; the same cost and minimum
as ``scipy.optimize.least_squares(loss="soft_l1")``, for a whole batch together.
"""

from __future__ import annotations

import itertools

import numpy as np
from scipy.optimize import nnls

from leadline.forecasting.law import Law

_STARTS = (0.25, 0.5, 1.0, 2.0)
MOST = 48
# Numbers that the derivatives of one batch may take.
_BATCH = 2_000_000
# Rows of which starts are made.
_ROWS = 400


def minimise(
    law: Law,
    logs: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray,
    scale: float,
    starts: np.ndarray,
    bounds: tuple[np.ndarray, np.ndarray],
    iterations: int = 200,
    tolerance: float = 1e-10,
) -> tuple[np.ndarray, np.ndarray]:
    """Parameters (K, p) and costs (K,) of minimisation from each of the starts (K, p).

    A step solves the Newton system with 0.01 of its diagonal added; a fifth of that after a step that
    gains, six times that after one that does not and is not taken. No parameter moves by more than 2.

    Args:
        logs: (N, A). target: log losses, (N,) or one for each start (K, N).
        weight: (N,) or (K, N). scale: c, in units of w·r.
        tolerance: share of the cost below which a gain is none.
    """
    count = max(_BATCH // (len(logs) * (law.parameters + 6) + 1), 1)
    if len(starts) > count:
        parts = [
            minimise(
                law,
                logs,
                target if target.ndim == 1 else target[i : i + count],
                weight if weight.ndim == 1 else weight[i : i + count],
                scale,
                starts[i : i + count],
                bounds,
                iterations,
                tolerance,
            )
            for i in range(0, len(starts), count)
        ]
        return np.concatenate([t for t, _ in parts]), np.concatenate([c for _, c in parts])
    low, high = bounds
    theta = np.clip(starts, low, high)
    problem = _Problem(law, logs, target, weight, scale)
    cost, gradient, hessian = problem.derivatives(theta)
    damping = np.full(len(theta), 1e-2)
    active = np.arange(len(theta))
    for _ in range(iterations):
        if not len(active):
            break
        at, h, g = theta[active], hessian[active], gradient[active]
        # What pushes against a bound stays there.
        held = ((at <= low) & (g > 0)) | ((at >= high) & (g < 0))
        step = _solve(h, g, damping[active], held)
        new = np.clip(at - np.clip(step, -2.0, 2.0), low, high)
        c, g1, h1 = problem.derivatives(new, active)
        better = c <= cost[active]
        gain = cost[active] - c
        won = active[better]
        theta[won], cost[won] = new[better], c[better]
        gradient[won], hessian[won] = g1[better], h1[better]
        damping[active] *= np.where(better, 0.2, 6.0)
        # The end is a step that would gain nothing if it were whole, however far it goes along a flat
        # direction; or that none gains.
        still = better & (gain * (1 + damping[active]) <= tolerance * c)
        done = still | (damping[active] > 1e9)
        active = active[~done]
    return theta, cost


class _Problem:
    """Cost, gradient and Gauss-Newton matrix of a batch."""

    def __init__(
        self, law: Law, logs: np.ndarray, target: np.ndarray, weight: np.ndarray, scale: float
    ) -> None:
        self.law, self.logs, self.scale = law, logs, scale
        self.target, self.weight = target, weight

    def derivatives(
        self, theta: np.ndarray, rows: np.ndarray | slice = slice(None)
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        target = self.target if self.target.ndim == 1 else self.target[rows]
        weight = self.weight if self.weight.ndim == 1 else self.weight[rows]
        value, slope = self.law.log_value(theta, self.logs)
        r = (target - value) * weight
        root = np.sqrt(1 + (r / self.scale) ** 2)
        # 2c²(√(1+u²) - 1) without cancellation where u is small.
        cost = (2 * r**2 / (root + 1)).sum(-1)
        slope *= weight[..., None, :]
        lean = slope / root[:, None, :]
        gradient = -np.matmul(lean, r[:, :, None]).squeeze(-1)
        return cost, gradient, np.matmul(lean, slope.swapaxes(1, 2))


def _solve(h: np.ndarray, g: np.ndarray, damping: np.ndarray, held: np.ndarray) -> np.ndarray:
    """Damped Newton steps, zero where held."""
    p = g.shape[1]
    free = ~held
    h = h * (free[:, :, None] & free[:, None, :])
    diagonal = np.einsum("kii->ki", h)
    floor = 1e-12 * diagonal.max(-1, keepdims=True) + 1e-300
    extra = damping[:, None] * np.maximum(diagonal, 1e-6 * diagonal.max(-1, keepdims=True)) + floor
    extra = np.where(held, 1.0, extra)
    h = h + extra[:, :, None] * np.eye(p)
    return np.linalg.solve(h, np.where(held, 0.0, g)[:, :, None]).squeeze(-1)


def starts(law: Law, logs: np.ndarray, losses: np.ndarray, most: int = MOST) -> np.ndarray:
    """For a grid of exponents the best non-negative E and terms by linear least squares."""
    if len(losses) > _ROWS:
        pick = np.linspace(0, len(losses) - 1, _ROWS).astype(int)
        order = np.lexsort(logs.T) if logs.shape[1] else np.arange(len(losses))
        logs, losses = logs[order[pick]], losses[order[pick]]
    fixed = [t.exponent if j == 0 else None for t in law.terms for j in range(len(t.axes))]
    powers = list(itertools.product(*[_STARTS if x is None else (x,) for x in fixed]))
    if len(powers) > most:
        pick = np.random.default_rng(0).choice(len(powers), most, replace=False)
        powers = [powers[i] for i in pick]
    out = []
    for power in powers:
        ones = np.zeros(len(law.terms))
        parts = law._parts(np.exp(ones)[None], np.array([power]).reshape(1, -1), logs)
        columns = [p[0] for p in parts]
        if law.floor:
            columns.insert(0, np.ones(len(losses)))
        design = np.stack(columns, axis=1)
        values = nnls(design / losses[:, None], np.ones(len(losses)))[0]
        # Not at zero, where a logarithm's slope vanishes.
        values = np.maximum(values, 1e-2 * losses.min())
        e, rest = (values[0], values[1:]) if law.floor else (0.0, values)
        out.append(law.join(e, rest, power))
    return np.stack(out)


def best(theta: np.ndarray, cost: np.ndarray) -> tuple[np.ndarray, float]:
    """The parameters with the lowest cost, and that cost."""
    k = int(np.argmin(cost))
    return theta[k], float(cost[k])
