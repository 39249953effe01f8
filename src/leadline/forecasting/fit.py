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


def minimise(
    law: Law,
    logs: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray,
    scale: float,
    starts: np.ndarray,
    bounds: tuple[np.ndarray, np.ndarray],
    iterations: int = 200,
) -> tuple[np.ndarray, np.ndarray]:
    """Parameters (K, p) and costs (K,) of minimisation from each of the starts (K, p).

    A step solves the Newton system with 0.01 of its diagonal added; a fifth of that after a step that
    gains, six times that after one that does not and is not taken. No parameter moves by more than 2.

    Args:
        logs: (N, T). target: log losses, (N,) or one for each start (K, N).
        weight: (N,). scale: c, in units of w·r.
    """
    low, high = bounds
    theta = np.clip(starts, low, high)
    target = np.broadcast_to(target, (len(theta), len(logs)))
    cost, gradient, hessian = _derivatives(law, logs, target, weight, scale, theta)
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
        c, g1, h1 = _derivatives(law, logs, target[active], weight, scale, new)
        better = c <= cost[active]
        gain = cost[active] - c
        won = active[better]
        theta[won], cost[won] = new[better], c[better]
        gradient[won], hessian[won] = g1[better], h1[better]
        damping[active] *= np.where(better, 0.2, 6.0)
        # The end is a step that would gain nothing if it were whole, however far it goes along a flat
        # direction; or that none gains.
        still = better & (gain * (1 + damping[active]) <= 1e-10 * c)
        done = still | (damping[active] > 1e9)
        active = active[~done]
    return theta, cost


def _derivatives(
    law: Law,
    logs: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray,
    scale: float,
    theta: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    value, slope = law.log_value(theta, logs)
    r = (target - value) * weight
    root = np.sqrt(1 + (r / scale) ** 2)
    # 2c²(√(1+u²) - 1) without cancellation where u is small.
    cost = (2 * r**2 / (root + 1)).sum(-1)
    slope = slope * weight[:, None]
    lean = slope / root[:, :, None]
    gradient = -np.matmul(lean.swapaxes(1, 2), r[:, :, None]).squeeze(-1)
    return cost, gradient, np.matmul(lean.swapaxes(1, 2), slope)


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
    grids = [_STARTS if t.exponent is None else (t.exponent,) for t in law.terms]
    powers = list(itertools.product(*grids))
    if len(powers) > most:
        pick = np.random.default_rng(0).choice(len(powers), most, replace=False)
        powers = [powers[i] for i in pick]
    out = []
    for power in powers:
        columns = np.exp(-np.array(power) * logs).reshape(len(losses), len(power))
        design = np.concatenate([np.ones((len(losses), 1)), columns], axis=1)
        values = nnls(design / losses[:, None], np.ones(len(losses)))[0]
        # Not at zero, where a logarithm's slope vanishes.
        values = np.maximum(values, 1e-2 * losses.min())
        out.append(law.join(values[0], values[1:], power))
    return np.stack(out)


def best(theta: np.ndarray, cost: np.ndarray) -> tuple[np.ndarray, float]:
    """The lowest cost's."""
    k = int(np.argmin(cost))
    return theta[k], float(cost[k])
