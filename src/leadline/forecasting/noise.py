"""How runs scatter about a law: seed noise over size, its scale, and what a law misses."""

from __future__ import annotations

import numpy as np
from scipy.special import digamma, polygamma
from scipy.stats import spearmanr

from leadline.forecasting.runs import Runs
from leadline.intervals import f_tail

_SURE = 2.5
_LEAST = 1e-9


def weights(runs: Runs) -> np.ndarray:
    """(N,) inverse standard deviations of the runs' log losses, up to a factor, mean square 1.

    The variance among a size's seeds is fitted by a power of each axis; powers within 2.5 standard
    errors of 0 are 0. Without seeds all weights are 1.
    """
    log = np.log(runs.loss)
    counts = np.bincount(runs.cell)
    mean = np.bincount(runs.cell, log) / counts
    spread = np.bincount(runs.cell, (log - mean[runs.cell]) ** 2)
    use = (counts > 1) & (spread > 0)
    half = (counts[use] - 1) / 2
    first = np.unique(runs.cell, return_index=True)[1]
    axes = runs.axes
    if use.sum() < len(axes) + 3 or half.sum() < 4:
        return np.ones(len(runs))
    # log s² of k degrees of freedom has mean log σ² + ψ(k/2) - log(k/2) and variance ψ'(k/2).
    value = np.log(spread[use] / (2 * half)) - digamma(half) + np.log(half)
    sure = 1 / np.sqrt(polygamma(1, half))
    x = np.stack([np.log(runs.sizes[a][first]) for a in axes], axis=1)
    keep = np.arange(len(axes))
    powers = np.zeros(len(axes))
    while len(keep):
        design = np.concatenate([np.ones((use.sum(), 1)), x[use][:, keep]], axis=1)
        inverse = np.linalg.pinv(design * sure[:, None])
        slopes = (inverse @ (value * sure))[1:]
        errors = np.sqrt((inverse**2).sum(1))[1:]
        z = np.abs(slopes) / errors
        if z.min() > _SURE:
            powers[keep] = np.clip(slopes, -4, 4)
            break
        keep = np.delete(keep, int(z.argmin()))
    out = np.exp(-0.5 * (x @ powers))[runs.cell]
    return out / np.sqrt((out**2).mean())


def scale(residuals: np.ndarray, parameters: int) -> float:
    """Standard deviation of residuals; of their bulk where there are enough."""
    dof = max(len(residuals) - parameters, 1)
    rms = np.sqrt((residuals**2).sum() / dof)
    if dof >= 5:
        bulk = 1.4826 * np.median(np.abs(residuals)) * np.sqrt(len(residuals) / dof)
        rms = max(bulk, rms / 4)
    return max(float(rms), _LEAST)


def local_scale(
    runs: Runs, residuals: np.ndarray, scale: float, keep: np.ndarray | None = None
) -> np.ndarray:
    """(N,) standard deviations of residuals among the runs near along the axis on which they change most,
    where there are enough to tell; else the one scale everywhere. Never below half of it.

    Args:
        keep: rows that say how large residuals are.
    """
    keep = np.ones(len(runs), bool) if keep is None else keep
    if keep.sum() < 40 or not unequal(runs, residuals, keep):
        return np.full(len(runs), scale)
    size = np.abs(residuals)
    ranks = {a: abs(spearmanr(size[keep], runs.sizes[a][keep]).statistic) for a in runs.axes}
    x = runs.sizes[max(ranks, key=lambda a: ranks[a])]
    order = np.argsort(x[keep], kind="stable")
    at, ordered = x[keep][order], size[keep][order]
    half = max(8, int(keep.sum()) // 16)
    out = np.empty(len(runs))
    for i, place in enumerate(np.searchsorted(at, x)):
        low = int(np.clip(place - half, 0, len(at) - 2 * half))
        out[i] = 1.4826 * np.median(ordered[low : low + 2 * half])
    return np.maximum(out, 0.5 * scale)


def unequal(runs: Runs, residuals: np.ndarray, keep: np.ndarray | None = None) -> bool:
    """Whether the residuals' size changes along an axis, by ranks (1 %, for all axes together)."""
    keep = np.ones(len(runs), bool) if keep is None else keep
    size = np.abs(residuals[keep])
    axes = runs.axes
    if keep.sum() < 12 or np.ptp(size) == 0:
        return False
    least = min(spearmanr(size, runs.sizes[a][keep]).pvalue for a in axes)
    return bool(least < 0.01 / len(axes))


def misfit(runs: Runs, residuals: np.ndarray, parameters: int) -> float:
    """p-value that seeds alone explain how far the sizes' means lie from the law (F-test); 1 where
    the data cannot tell."""
    between, within = runs.cells - parameters, len(runs) - runs.cells
    if between < 1 or within < 1:
        return 1.0
    counts = np.bincount(runs.cell)
    mean = np.bincount(runs.cell, residuals) / counts
    inner = ((residuals - mean[runs.cell]) ** 2).sum()
    outer = (counts * mean**2).sum()
    if outer / between < _LEAST**2:
        return 1.0
    if inner == 0:
        return 0.0
    return float(f_tail((outer / between) / (inner / within), between, within))
