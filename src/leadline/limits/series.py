"""The error model of ``limit``: what is computed at width n and depth L is its limit and smooth functions.

Every output is E + g(a/L) + h(b/n) + a mixed term + noise. g and h are unknown, with a power series that
begins at first order: Gaussian processes with correlation length 1, made to be 0 at 0. a and b are the
depth and width below which sizes say nothing of each other or of the limit. Given a, b and the sizes of g
and h, the estimate of E with the smallest variance is a weighted mean of what was computed, and that
variance is its error bar: noise, and what terms of any order may still be worth, in one number. (In
geostatistics: ordinary kriging, read at 1/n = 1/L = 0.)

What is not known is averaged over, weighted by its likelihood: a (which grows as training goes on, since
a step changes what the next one sees), and the sizes of g and h. b is the largest rank that a layer's bases
had: at n = b there is no direction left.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np

# What a can be at the last step, how it grows (a power of the step), and the sizes of g and h relative to
# how far outputs have moved.
DEPTH_SCALES = 2.0 ** np.arange(7)
GROWTHS = (0.0, 0.5, 1.0)
DEPTH_SIZES = 2.0 * 4.0 ** -np.arange(3)
WIDTH_SIZES = 4.0 ** -np.arange(3)
# Rounding and truncation, relative to the outputs.
_FLOOR = 1e-4
# Steps that are worked on together.
_CHUNK = 64


def _smooth(x: np.ndarray) -> np.ndarray:
    """Covariance of a smooth function of x (…, c), which is 0 at x = 0 and has variance 1 far from it."""
    apart = x[..., :, None] - x[..., None, :]
    return np.exp(-(apart**2) / 2) - np.exp(-(x[..., :, None] ** 2 + x[..., None, :] ** 2) / 2)


@dataclass(frozen=True)
class Sizes:
    """Widths and depths (c,) and the rank b.

    Attributes:
        deepen: is the limit over depth too? Otherwise there is one depth, which makes no difference.
    """

    n: np.ndarray
    l: np.ndarray
    rank: float
    deepen: bool = True

    def covariances(self, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Covariances of the terms with depth and of those with width alone, both of size 1, for every
        step's a: (R, c, c)."""
        depth, width = _smooth(scale[:, None] / self.l), _smooth(self.rank / self.n)
        depth = depth * float(self.deepen)
        return depth * (1 + width), np.broadcast_to(width, depth.shape)

    def and_one(self, n: float, l: float) -> Sizes:
        """These sizes and one more; the limit is at infinity."""
        return replace(self, n=np.append(self.n, n), l=np.append(self.l, l))


@dataclass(frozen=True)
class Model:
    """One set of what is averaged over, at one step: a, and the sizes of both functions."""

    scale: float
    depth: float
    width: float

    def variance(self, sizes: Sizes, noise: np.ndarray) -> float:
        """Variance of the best estimate from these sizes."""
        a, b = sizes.covariances(np.array([self.scale]))
        k = self.depth**2 * a + self.width**2 * b + np.diag(noise)
        return float(1 / np.linalg.solve(k[0], np.ones(len(noise))).sum())


@dataclass(frozen=True)
class Posterior:
    """Weights of the sizes and variances of the limit (or of a size), with R steps and H models.

    Attributes:
        probability: (H, R). weights: (H, R, c), each row sums to 1.
        depth, width: (R,) variance of an output's limit by the terms that are left (of a size's
            output, by what its terms differ from what is expected).
        misfit: (R,) for the most probable model, M⁻¹ Σ over outputs of yᵀPy: about c − 1.
        models: (H, R, 3): a, and the sizes of both functions.
    """

    probability: np.ndarray
    weights: np.ndarray
    depth: np.ndarray
    width: np.ndarray
    misfit: np.ndarray
    models: np.ndarray

    @property
    def mean_weights(self) -> np.ndarray:
        """The weights of the sizes' outputs, averaged over the models, (R, c)."""
        return np.einsum("hr,hrc->rc", self.probability, self.weights)

    def spread(self, gram: np.ndarray) -> np.ndarray:
        """(R,) variance over models of the limit, from the sizes' products (R, c, c): the mean over
        outputs of y yᵀ."""
        each = np.einsum("hrc,rcd,hrd->hr", self.weights, gram, self.weights)
        mean = self.mean_weights
        whole = np.einsum("rc,rcd,rd->r", mean, gram, mean)
        return np.maximum((self.probability * each).sum(0) - whole, 0.0)

    def likely(self, step: int, count: int = 6) -> list[tuple[float, Model]]:
        """The most probable models of a step, with their probabilities."""
        order = np.argsort(-self.probability[:, step], kind="stable")[:count]
        return [(float(self.probability[h, step]), Model(*self.models[h, step])) for h in order]


def infer(
    sizes: Sizes,
    y: np.ndarray,
    noise: np.ndarray,
    typical: np.ndarray,
    progress: np.ndarray,
    at: tuple[float, float] = (np.inf, np.inf),
) -> Posterior:
    """The distribution of the limit, or of what a size would give without noise.

    Args:
        y: (R, c, M) means over seeds of M outputs at R steps. noise: (R, c) their variance, the mean
            over outputs. typical: (R,) size of an output. progress: (R,) in (0, 1], step over steps.
        at: the width and depth that the estimate is for.
    """
    r, c, m = y.shape
    noise = noise + (_FLOOR * typical[:, None]) ** 2 + 1e-30
    gram = np.einsum("rcm,rdm->rcd", y, y) / m
    amplitudes = np.array(list(itertools.product(DEPTH_SIZES, WIDTH_SIZES)))
    laws = list(itertools.product(DEPTH_SCALES, GROWTHS))
    shape = (len(laws), len(amplitudes), r)
    likelihood, misfit = np.empty(shape), np.empty(shape)
    weights, models = np.empty((*shape, c)), np.empty((*shape, 3))
    parts = np.empty((*shape, 2))
    for i, (a, growth) in enumerate(laws):
        scale = a * progress**growth
        kernels = sizes.and_one(*at).covariances(scale)
        models[i, :, :, 0] = scale
        models[i, :, :, 1:] = amplitudes[:, None, :] * typical[:, None]
        for start in range(0, r, _CHUNK):
            s = slice(start, start + _CHUNK)
            kd, kw = (
                (amplitudes[:, j, None] * typical[s])[:, :, None, None] ** 2 * kernels[j][s]
                for j in (0, 1)
            )
            both = kd + kw
            k = both[..., :c, :c] + noise[s, :, None] * np.eye(c)
            inverse = np.linalg.inv(k)
            u = inverse.sum(-1)
            total = u.sum(-1)
            projected = inverse - u[..., :, None] * (u / total[..., None])[..., None, :]
            w = u / total[..., None] + (projected @ both[..., :c, c:])[..., 0]
            contrast = np.concatenate([w, np.full((*w.shape[:-1], 1), -1.0)], axis=-1)
            quadratic = (projected * gram[s]).sum((-2, -1))
            logarithm = np.linalg.slogdet(k)[1] + np.log(total)
            likelihood[i, :, s] = -0.5 * (quadratic + logarithm)
            misfit[i, :, s], weights[i, :, s] = quadratic, w
            for j, kernel in ((0, kd), (1, kw)):
                parts[i, :, s, j] = np.einsum("...i,...ij,...j->...", contrast, kernel, contrast)
    probability = _probabilities(likelihood)
    best = probability.reshape(-1, r).argmax(0)
    flat = probability.reshape(-1, r)
    return Posterior(
        flat,
        weights.reshape(-1, r, c),
        *(np.einsum("hr,hr->r", flat, parts[..., j].reshape(-1, r)) for j in (0, 1)),
        misfit.reshape(-1, r)[best, np.arange(r)],
        models.reshape(-1, r, 3),
    )


def _probabilities(likelihood: np.ndarray) -> np.ndarray:
    """Probability of every model at every step, from log likelihoods (laws of a, amplitudes, R).

    a's law is one for all steps. Amplitudes are a step's own, but where sizes agree by chance a step
    alone would see none: its neighbours count half as much as it does, and all steps together as one.
    """
    r = likelihood.shape[-1]
    pooled = likelihood.copy()
    if r > 1:
        pooled[..., 1:] += 0.5 * likelihood[..., :-1]
        pooled[..., :-1] += 0.5 * likelihood[..., 1:]
        pooled += likelihood[..., 1:].mean(-1, keepdims=True)
    top = pooled.max(1, keepdims=True)
    evidence = np.log(np.exp(pooled - top).mean(1)) + top[:, 0]
    share = np.exp(pooled - top)
    share /= share.sum(1, keepdims=True)
    whole = evidence[:, 1:].mean(1) if r > 1 else evidence[:, 0]
    law = np.exp(whole - whole.max())
    return law[:, None, None] / law.sum() * share
