"""From the sizes solved to the limit's outputs and losses, their error bars, and a test of the error model.

Outputs are extrapolated, not losses: outputs depend on the size smoothly where a loss bounces off 0, and
the loss of the extrapolated outputs is never negative. Where there are only losses, each counts as an
output.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import polygamma

from leadline.intervals import f_tail, normal_quantile, t_quantile
from leadline.limits.series import Posterior, Sizes, infer
from leadline.trajectory import Trajectory

SOURCES = ("sampling", "width", "depth")
# A variance from few seeds is mixed with that of all sizes, which counts as so many seeds more.
_PRIOR_SEEDS = 3.0
# How fast noise may fall or grow with depth: standard deviation of the exponent before anything is results.
_EXPONENT = 1.0
# The same for its exponent in width, around −1, of models that may keep randomness at infinite width.
_FALL = 0.5
# Half of what lies outside the bars.
_OUTSIDE = 0.025


@dataclass(frozen=True)
class Extrapolation:
    """The limit of one part, training or test inputs.

    Attributes:
        loss, bar: (R,), the bar about 95 %. outputs: (R, P, C), of losses as numbers (R, 1, 1).
        sources: (R,) each, what makes up the bar, in squares.
        p_value: of the test that the series describes all sizes; NaN where nothing is left to test.
        sizes, posterior: of the error model.
        noise: (R, c) variance of a size's mean, the mean over outputs.
    """

    loss: np.ndarray
    bar: np.ndarray
    outputs: np.ndarray
    sources: dict[str, np.ndarray]
    p_value: float
    sizes: Sizes
    posterior: Posterior
    noise: np.ndarray


def estimate(
    runs: Sequence[Trajectory],
    part: str,
    kind: str | None,
    y: np.ndarray | None,
    rank: float = 0.0,
    *,
    deepen: bool = True,
    any_fall: bool = False,
) -> Extrapolation:
    """Extrapolate.

    Args:
        runs: one a size, none of them diverged. part: "train" or "test".
        kind, y: the loss and its targets (P, C); None extrapolates losses as numbers.
        rank: of the queries, where it is larger than that of the runs' bases.
        deepen: is the limit over depth too?
        any_fall: may noise fall with width by another law than 1/n?
    """
    results = _results(runs, part, kind, rank, deepen, any_fall)
    y = np.zeros((1, 1)) if y is None else y
    seeds, each, noise = results.seeds, results.each, results.noise
    flat, m = results.flat, results.flat.shape[2]
    posterior = infer(results.sizes, flat, noise, *results.scales)
    r, (p, outputs) = len(flat), y.shape
    weights = posterior.mean_weights
    f = np.einsum("rc,rcm->rm", weights, flat).reshape(r, p, outputs)
    loss, slope, curvature = _loss(kind, f, y)

    slope = slope.reshape(r, m)
    along = np.einsum("rcm,rm->rc", flat, slope)
    losses = [np.einsum("srm,rm->sr", x.reshape(len(x), r, m), slope) for x in each]
    shares = weights**2 * noise_of_means(
        np.stack([x.var(0, ddof=1) for x in losses], axis=1), results.sizes, seeds, any_fall
    )
    variances = {
        "sampling": shares.sum(1) * widening(shares, seeds) ** 2,
        "width": posterior.width * (slope**2).sum(1),
        "depth": posterior.depth * (slope**2).sum(1),
    }
    variances["depth" if deepen else "width"] += posterior.spread(products(along[..., None]))
    linear = sum(variances.values())
    # What is of second order in the outputs' error counts where the loss is near its minimum.
    uncertain = (weights**2 * noise).sum(1) + posterior.width + posterior.depth
    uncertain += posterior.spread(products(flat))
    second = 0.5 * uncertain * curvature * (1 + 2 * np.sqrt(2 / m))
    z = normal_quantile(1 - _OUTSIDE)
    bar = np.hypot(z * np.sqrt(linear), second)
    share = np.divide(bar**2, linear, out=np.ones(r), where=linear > 0)
    return Extrapolation(
        loss=loss,
        bar=bar,
        outputs=f,
        sources={k: np.sqrt(v * share) for k, v in variances.items()},
        p_value=lack_of_fit(results, posterior),
        sizes=results.sizes,
        posterior=posterior,
        noise=noise,
    )


@dataclass(frozen=True)
class SizeResults:
    """What the sizes gave: flat (R, c, M) means over seeds, each (S, R, P, C), noise (R, c).

    scales: (R,) how far outputs have moved, and how far training has come.
    """

    sizes: Sizes
    seeds: np.ndarray
    each: list[np.ndarray]
    flat: np.ndarray
    noise: np.ndarray
    scales: tuple[np.ndarray, np.ndarray]


def _results(
    runs: Sequence[Trajectory],
    part: str,
    kind: str | None = "mse",
    rank: float = 0.0,
    deepen: bool = True,
    any_fall: bool = False,
) -> SizeResults:
    n, l, seeds = (
        np.array([t.info[k] for t in runs], dtype=float) for k in ("width", "depth", "seeds")
    )
    sizes = Sizes(n, l, float(max([rank, *(t.info["largest_rank"] for t in runs)])), deepen)
    name = f"{part}_loss" if kind is None else f"{part}_outputs"
    each = [np.asarray(getattr(t, name), dtype=float) for t in runs]
    if kind is None:
        each = [x[..., None, None] for x in each]
    means = np.stack([f.mean(0) for f in each], axis=1)
    variances = np.stack([f.var(0, ddof=1).mean((-2, -1)) for f in each], axis=1)
    noise = noise_of_means(variances, sizes, seeds, any_fall)
    steps = runs[0].steps
    progress = (steps + 1.0) / (steps[-1] + 1.0)
    typical = _typical(means[:, np.argmax(n * l)])
    if kind is None:
        # The loss of random outputs depends on the width before any step, the mean of outputs does not.
        typical = np.hypot(typical, np.maximum.accumulate(np.ptp(means[..., 0, 0], axis=1)))
    flat = means.reshape(*means.shape[:2], -1)
    return SizeResults(sizes, seeds, each, flat, noise, (typical, progress))


def products(y: np.ndarray) -> np.ndarray:
    """(R, c, c) products of sizes, their mean taken off, averaged over outputs: y is (R, c, M)."""
    y = y - y.mean(1, keepdims=True)
    return np.einsum("rcm,rdm->rcd", y, y) / y.shape[2]


def noise_of_means(
    variance: np.ndarray, sizes: Sizes, seeds: np.ndarray, any_fall: bool = False
) -> np.ndarray:
    """Variance of a size's mean (R, c), from that of one seed.

    Sizes are pooled as if it were ∝ Lᵝ/n, and every size counts itself too. β is fitted: with balanced
    noise it may fall with depth, above all where a block has two layers. With ``any_fall`` it is
    ∝ Lᵝ/n^(1−δ), δ fitted too.
    """
    x = np.log(np.stack([sizes.l, sizes.n]))
    x -= x.mean(1, keepdims=True)
    scaled = variance * sizes.n
    # A size may have no noise at all, as every size does before training.
    y = np.log(np.maximum(scaled, 1e-6 * scaled.max(1, keepdims=True) + 1e-300))
    # The logarithm of a variance from few seeds has the variance polygamma(1, freedom/2).
    blur = float(polygamma(1, (seeds - 1) / 2).mean())
    x = x if any_fall else x[:1]
    spread = np.array([_EXPONENT, _FALL])[: len(x)]
    slopes = np.linalg.solve(x @ x.T + np.diag(blur / spread**2), x @ y.T)
    trend = np.exp(slopes.T @ x)
    pooled = (scaled / trend).mean(1, keepdims=True) * trend / sizes.n
    freedom = seeds - 1
    total = freedom + _PRIOR_SEEDS
    return (freedom * variance + _PRIOR_SEEDS * pooled) / total / seeds


def widening(shares: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """(R,) Student's quantile over the normal one, for variances from few seeds and the pooled ones."""
    total = shares.sum(1)
    each = (shares**2 / (seeds - 1 + _PRIOR_SEEDS)).sum(1)
    freedom = np.divide(total**2, each, out=np.full(len(total), np.inf), where=each > 0)
    return t_quantile(1 - _OUTSIDE, freedom) / normal_quantile(1 - _OUTSIDE)


def _typical(f: np.ndarray) -> np.ndarray:
    """(R,) size of outputs: the farthest they have moved up to a step."""
    return np.sqrt(np.maximum.accumulate(((f - f[0]) ** 2).mean((1, 2))))


def _loss(
    kind: str | None, f: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Loss (R,) of outputs (R, P, C), its gradient, and its Hessian's trace."""
    p = f.shape[1]
    if kind is None:
        return f[:, 0, 0], np.ones_like(f), np.zeros(len(f))
    if kind == "mse":
        loss = 0.5 * ((f - y) ** 2).sum(-1).mean(-1)
        return loss, (f - y) / p, np.full(len(f), float(f.shape[2]))
    shifted = f - f.max(-1, keepdims=True)
    total = np.exp(shifted).sum(-1, keepdims=True)
    chance = np.exp(shifted) / total
    loss = -(y * (shifted - np.log(total))).sum(-1).mean(-1)
    return loss, (chance - y) / p, (chance * (1 - chance)).sum((1, 2)) / p


def lack_of_fit(results: SizeResults, posterior: Posterior) -> float:
    """p-value of the test that the series describes the sizes.

    Three tests: are the sizes nearer to the most probable series than noise would be; and were the
    largest depth and the largest width what the smaller ones made expect? The smallest of the
    p-values, times their number.
    """
    c = len(results.seeds)
    if c < 2:
        return math.nan
    freedom = int((results.seeds - 1).sum())
    # Before training outputs are what they are at any size, and say nothing of the series.
    trained = slice(min(1, len(results.flat) - 1), None)
    p_values = [_p_value(posterior.misfit[trained] / (c - 1), c - 1, freedom)]
    n, l = results.sizes.n, results.sizes.l
    for size, other in ((l, n), (n, l)):
        rest = size < size.max()
        if len(np.unique(size[rest])) < 2:
            continue
        new = int(np.argmax(np.where(rest, 0.0, other)))
        expected = infer(
            replace(results.sizes, n=n[rest], l=l[rest]),
            results.flat[:, rest],
            results.noise[:, rest],
            *results.scales,
            at=(n[new], l[new]),
        )
        w = expected.mean_weights
        surprise = results.flat[:, new] - np.einsum("rc,rcm->rm", w, results.flat[:, rest])
        variance = (
            results.noise[:, new]
            + (w**2 * results.noise[:, rest]).sum(1)
            + expected.width
            + expected.depth
            + expected.spread(products(results.flat[:, rest]))
        )
        ratio = (surprise**2).mean(1) / np.maximum(variance, 1e-300)
        p_values.append(_p_value(ratio[trained], 1, freedom))
    return min(1.0, len(p_values) * min(p_values))


def _p_value(ratio: np.ndarray, differences: int, freedom: int) -> float:
    """p-value of mean squares over their expectation at every step, with so many degrees of freedom.

    Outputs and steps may be copies of each other: a step's outputs count as one, and the steps' p-values
    join by their mean in Cauchy's scale, which holds however they depend on each other.
    """
    p = np.clip(f_tail(ratio, differences, freedom), 1e-15, 1 - 1e-15)
    return float(0.5 - np.arctan(np.tan((0.5 - p) * np.pi).mean()) / np.pi)
