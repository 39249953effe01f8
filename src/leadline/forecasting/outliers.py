"""Runs that lie so far off that they say nothing of the law: named, and left out of it.

With few runs each is predicted from all others; with many the residuals of a robust fit are enough.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import t as student

from leadline.forecasting import fit, noise
from leadline.forecasting.estimate import (
    ROBUST,
    Data,
    estimate,
    leverages,
    residuals,
    slopes,
    with_scale,
)
from leadline.forecasting.law import Law
from leadline.forecasting.runs import DATA, Runs

FAR = 9.0
"""Standard deviations beyond which a run is left out."""
NAMED = 4.5
"""And beyond which it is named."""
_FEW = 80
_RARE = 1e-4
# Where no residual over what its leverage hides is so many standard deviations, nothing is far.
_NEAR = 5.0
# Of the runs at most so many are outliers; more are noise, or a misfit.
_SHARE = 0.1


@dataclass(frozen=True)
class Outlier:
    """A run far off the law.

    Attributes:
        row: its place as the table names it. index: among the runs read. factor: its loss over the
            law's. deviations: how many standard deviations that is. left_out: whether the law was
            fitted without it.
    """

    row: str
    index: int
    loss: float
    factor: float
    deviations: float
    left_out: bool


def far_off(data: Data, law: Law) -> tuple[Data, np.ndarray]:
    """The runs that are kept, and (N,) whether one is left out, by the law that scatters least."""
    out = np.zeros(len(data.runs), bool)
    most = int(_SHARE * len(data.runs)) + 1
    if len(data.runs) <= law.parameters + 3 or law.parameters < 2:
        return data, out
    if len(data.runs) > _FEW or data.runs.grouped:
        far = _by_residuals(law, data)
    else:
        far = _one_by_one(law, data, most)
    if not far.any() or far.sum() > most:
        return data, out
    return replace(data.take(~far), scale=np.inf), far


def least_scattered(data: Data, laws: list[Law]) -> tuple[Data, Law]:
    """The law of least robust cost at the scale that is the least of all, and that scale."""
    scaled = [with_scale(law, data) for law in laws]
    data = min(scaled, key=lambda d: d.scale)
    return data, min(laws, key=lambda law: estimate(law, data).cost)


def _by_residuals(law: Law, data: Data) -> np.ndarray:
    """Refit without what is far until that stays the same."""
    far = np.zeros(len(data.runs), bool)
    for _ in range(5):
        rest = data.take(~far)
        rest = with_scale(law, rest)
        fitted = estimate(law, rest, most=9)
        left = residuals(law, fitted.theta, data)
        local = noise.local_scale(data.runs, left, rest.scale, ~far)
        new = np.abs(left) > FAR * local
        if data.runs.grouped:
            # What the rows beside it in its training share with it is no outlier.
            new &= np.abs(left - _beside(data.runs, left)) > FAR * local
        if (new == far).all() or new.sum() > _SHARE * len(far) + 1:
            break
        far = new
    return far


def _beside(runs: Runs, left: np.ndarray) -> np.ndarray:
    """(N,) the median residual of the two rows before and after in the same training."""
    along = [runs.sizes[a] for a in runs.sizes if runs.role(a) in DATA]
    out = np.zeros(len(left))
    for group in np.unique(runs.groups):
        rows = np.flatnonzero(runs.groups == group)
        rows = rows[np.lexsort([x[rows] for x in along])] if along else rows
        for k, row in enumerate(rows):
            near = [*rows[max(k - 2, 0) : k], *rows[k + 1 : k + 3]]
            out[row] = np.median(left[near]) if near else 0.0
    return out


def _one_by_one(law: Law, data: Data, most: int) -> np.ndarray:
    """The run farthest from what all others predict, again and again."""
    count = len(data.runs)
    far = np.zeros(count, bool)
    fitted = estimate(law, data)
    hidden = np.maximum(1 - leverages(slopes(law, fitted.theta, data)), 0.02)
    if np.abs(residuals(law, fitted.theta, data) / hidden).max() < _NEAR * data.scale:
        return far
    logs, bounds = data.logs(law), law.bounds(data.losses)
    for _ in range(most):
        kept = np.flatnonzero(~far)
        if len(kept) <= law.parameters + 3:
            break
        first = estimate(law, data.take(~far), most=16).theta
        grid = fit.starts(law, logs[kept], data.losses[kept], 16)
        cost = fit.minimise(
            law, logs[kept], data.target[kept], data.weight[kept], ROBUST * data.scale, grid,
            bounds, 0,
        )[1]  # fmt: skip
        starts = [first, grid[int(np.argmin(cost))]]
        weight = np.tile(np.where(far, 0.0, data.weight), (len(kept), 1))
        weight[np.arange(len(kept)), kept] = 0.0
        best, theta = np.full(len(kept), np.inf), np.zeros((len(kept), law.parameters))
        for start in starts:
            t, c = fit.minimise(
                law, logs, data.target, weight, ROBUST * data.scale,
                np.repeat(start[None], len(kept), 0), bounds, 60,
            )  # fmt: skip
            better = c < best
            theta[better], best[better] = t[better], c[better]
        value, slope = law.log_value(theta, logs)
        left = (data.target - value) * data.weight
        dof = len(kept) - 1 - law.parameters
        scores = np.zeros(len(kept))
        for k, i in enumerate(kept):
            rest = np.delete(kept, k)
            j = slope[k][:, rest].T * data.weight[rest, None]
            x = slope[k][:, i] * data.weight[i]
            inverse = np.linalg.pinv(j.T @ j, rcond=1e-12, hermitian=True)
            rms = np.sqrt((left[k, rest] ** 2).sum() / dof)
            spread = min(rms, 2 * noise.scale(left[k, rest], law.parameters)) if dof >= 8 else rms
            scores[k] = abs(left[k, i]) / max(spread * np.sqrt(1 + x @ inverse @ x), 1e-9)
        worst = int(np.argmax(scores))
        if scores[worst] < max(FAR, float(student.isf(_RARE / (2 * count), dof))):
            break
        far[kept[worst]] = True
    return far


def describe(
    law: Law, theta: np.ndarray, data: Data, far: np.ndarray, runs: Runs
) -> tuple[Outlier, ...]:
    """What is far off the law, the farthest first; ``data`` are those kept of ``runs``."""
    every = replace(data, runs=runs, weight=_spread_weight(data, far))
    left = residuals(law, theta, every)
    scale = noise.scale(left[~far], law.parameters)
    if scale <= 1e-8:
        return ()
    local = noise.local_scale(runs, left, scale, ~far)
    j = slopes(law, theta, data)
    inverse = np.linalg.pinv(j.T @ j, rcond=1e-12, hermitian=True)
    x = slopes(law, theta, every)
    leverage = np.einsum("np,pq,nq->n", x, inverse, x)
    deviations = left / local / np.sqrt(np.where(far, 1 + leverage, 1.0))
    named = np.flatnonzero(far | (np.abs(deviations) > NAMED))
    named = named[np.argsort(-np.abs(deviations[named]), kind="stable")]
    return tuple(
        Outlier(
            row=runs.label(int(i)),
            index=int(i),
            loss=float(runs.loss[i]),
            factor=float(np.exp(left[i] / every.weight[i])),
            deviations=float(deviations[i]),
            left_out=bool(far[i]),
        )
        for i in named
    )


def _spread_weight(data: Data, far: np.ndarray) -> np.ndarray:
    weight = np.full(len(far), float(np.median(data.weight)))
    weight[~far] = data.weight
    return weight
