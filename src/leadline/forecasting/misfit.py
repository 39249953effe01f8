"""Whether a law fits: what is left along the axes, without seeds, and the floor beside the losses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr

from leadline.forecasting import noise
from leadline.forecasting.estimate import Data, Fitted, residuals, slopes
from leadline.forecasting.runs import DATA, Runs, numbered, numbered_rows
from leadline.intervals import f_tail

RARE = 0.01
# Residuals beyond so many standard deviations count as that many.
_CUT = 3.0
# Groups that are looked for have at least so many rows each, and there are at least so many.
_ROWS, _GROUPS = 3, 5
# And one at least has so many.
_LONG = 4
# Rank correlation of neighbours, or ratio of variances between and within trainings, beyond which rows
# go together; and the p-value of either.
_TOGETHER, _APART, _SURE = 0.5, 3.0, 1e-3


@dataclass(frozen=True)
class Misfit:
    """What a law misses.

    Attributes:
        p_value: that noise alone leaves as smooth a pattern along the axes, or as much between sizes
            beside their seeds.
        size: RMS of the smooth pattern, of the log loss. ratio: that over the noise around it.
        where: the axis along which most is left, and which way.
        floor_above: how far the floor lies above the smallest loss, in standard deviations; 0 if below.
    """

    p_value: float
    size: float
    ratio: float
    where: str
    floor_above: float

    @property
    def seen(self) -> bool:
        return self.p_value < RARE or self.floor_above > 4.0

    @property
    def grave(self) -> bool:
        """More than the noise around it: what was fitted is not what the runs follow."""
        return self.seen and (self.ratio > 1.25 or self.floor_above > 4.0)


def features(runs: Runs, axes: tuple[str, ...], fitted: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """(N, q) smooth functions of the axes and of the fitted log loss, that a law could miss: bends along
    each, and products of two."""
    at: dict[str, np.ndarray] = {}
    for axis in axes:
        at[axis] = np.log(runs.sizes[axis])
    at["loss"] = -fitted
    columns, names = [], []
    for axis, x in at.items():
        levels = len(np.unique(np.round(x, 9)))
        if np.ptp(x) < 1e-9 or levels < 3:
            continue
        at[axis] = u = _centred(x)
        columns.append(1.5 * u**2 - 0.5)
        names.append(axis)
        if levels > 3:
            columns.append(2.5 * u**3 - 1.5 * u)
            names.append(axis)
    for i, a in enumerate(axes):
        for b in axes[:i]:
            columns.append(_centred(at[a]) * _centred(at[b]))
            names.append(f"{b} with {a}")
    return (np.stack(columns, 1) if columns else np.zeros((len(runs), 0))), names


def _centred(x: np.ndarray) -> np.ndarray:
    span = np.ptp(x)
    return 2 * (x - x.min()) / span - 1 if span > 0 else np.zeros_like(x)


def left_over(fitted: Fitted, data: Data) -> Misfit:
    """Test what a law leaves: a smooth pattern by an F-test, sizes against their seeds by another."""
    runs = data.runs
    r = residuals(fitted.law, fitted.theta, data)
    p = fitted.law.parameters
    scale = noise.scale(r, p)
    if scale <= 1e-8:
        return Misfit(1.0, 0.0, 0.0, "", 0.0)
    local = noise.local_scale(runs, r, scale)
    cut = np.clip(r / local, -_CUT, _CUT)
    value = data.target - r / data.weight
    smooth, names = features(runs, fitted.law.axes, value)
    p_smooth, size, ratio, where = _smooth(
        cut, slopes(fitted.law, fitted.theta, data), smooth, names, runs
    )
    p_seeds = noise.misfit(runs, r / data.weight, p)
    e = fitted.floors[0]
    above = max(np.log(e / runs.loss.min()), 0.0) if e > 0 else 0.0
    low = np.argmin(runs.loss)
    scale_there = float(local[low] / data.weight[low])
    return Misfit(
        float(min(p_smooth, p_seeds)), float(size * scale), float(ratio), where, float(above / scale_there)
    )  # fmt: skip


def _smooth(
    r: np.ndarray, slope: np.ndarray, smooth: np.ndarray, names: list[str], runs: Runs
) -> tuple[float, float, float, str]:
    """p-value, RMS in units of the noise's scale, ratio to what is around it, and along what."""
    n = len(r)
    basis = _basis(slope)
    z = smooth - basis @ (basis.T @ smooth)
    r = r - basis @ (basis.T @ r)
    u, s, _ = np.linalg.svd(z, full_matrices=False)
    u = u[:, s > 1e-2 * max(float(s.max(initial=0.0)), 0.05 * np.sqrt(n))]
    q, dof = u.shape[1], n - basis.shape[1] - u.shape[1]
    if q < 1 or dof < 3:
        return 1.0, 0.0, 0.0, ""
    total, part = (r**2).sum(), ((u.T @ r) ** 2).sum()
    around = max((total - part) / dof, 1e-12)
    f = part / q / around
    size = np.sqrt(max(part - q * around, 0.0) / n)
    p = float(f_tail(f, q, dof))
    if runs.grouped:
        # Rows of one training count as one: scores by group.
        count = len(np.unique(runs.groups))
        q = min(q, max(count // 3, 1))
        scores = np.zeros((count, q))
        np.add.at(scores, numbered(runs.groups), u[:, :q] * r[:, None])
        if count <= q + 2:
            return 1.0, size, 0.0, ""
        g = scores.sum(0)
        t2 = g @ np.linalg.pinv(scores.T @ scores) @ g
        p = float(f_tail(t2 * (count - q) / (q * max(count - 1, 1)), q, count - q))
    # The single function that explains most.
    norms = np.linalg.norm(z, axis=0)
    share = np.where(norms > 1e-3 * np.sqrt(n), np.abs(z.T @ r) / np.maximum(norms, 1e-12), 0.0)
    return p, float(size), float(size / np.sqrt(around)), names[int(np.argmax(share))]


def _basis(slope: np.ndarray) -> np.ndarray:
    scaled = slope / np.maximum(np.linalg.norm(slope, axis=0), 1e-300)
    u, s, _ = np.linalg.svd(scaled, full_matrices=False)
    return u[:, s > 1e-7 * s.max()]


def trainings(runs: Runs) -> np.ndarray:
    """(N,) numbers of rows that are the same but for tokens, samples, steps and costs: what could be
    checkpoints of one training."""
    others = [x for a, x in runs.sizes.items() if runs.role(a) not in DATA]
    if not others or len(others) == len(runs.sizes):
        return np.arange(len(runs))
    return numbered_rows(others)


def dependent(fitted: Fitted, data: Data) -> np.ndarray | None:
    """Groups of rows whose residuals go together, None if rows are independent.

    What the law leaves, without what is smooth over all axes, goes together where rows are checkpoints:
    neighbours along a training's data are correlated by more than .5 (ranks, p < .001), or trainings
    differ by more than three times what their rows scatter (F-test, p < .001).
    """
    runs = data.runs
    groups = trainings(runs)
    rows = np.bincount(groups)
    if (rows >= _ROWS).sum() < _GROUPS or rows.max() < _LONG or runs.grouped:
        return None
    r = residuals(fitted.law, fitted.theta, data)
    scale = noise.scale(r, fitted.law.parameters)
    if scale <= 1e-8:
        return None
    r = np.clip(r / scale, -_CUT, _CUT)
    smooth, _ = features(runs, fitted.law.axes, data.target - r)
    basis = _basis(np.concatenate([slopes(fitted.law, fitted.theta, data), smooth], 1))
    r = r - basis @ (basis.T @ r)
    along = [runs.sizes[a] for a in runs.sizes if runs.role(a) in DATA]
    order = np.lexsort([*along, groups])
    same = groups[order][1:] == groups[order][:-1]
    # Two runs of one size are no neighbours along a training.
    apart = np.any([x[order][1:] != x[order][:-1] for x in along], axis=0)
    before, after = r[order][:-1][same & apart], r[order][1:][same & apart]
    if len(before) < 12:
        return None
    test = spearmanr(before, after)
    close = test.statistic > _TOGETHER and test.pvalue < _SURE
    return groups if close or _apart(r, groups) else None


def _apart(r: np.ndarray, groups: np.ndarray) -> bool:
    """Whether groups of several rows differ by more than their rows scatter."""
    some = (np.bincount(groups) >= _ROWS)[groups]
    labels = numbered(groups[some])
    counts = np.bincount(labels)
    means = np.bincount(labels, r[some]) / counts
    within, between = len(labels) - len(counts), len(counts)
    inner = ((r[some] - means[labels]) ** 2).sum() / within
    f = (counts * means**2).sum() / between / max(inner, 1e-300)
    return bool(f > _APART and f_tail(f, between, within) < _SURE)
