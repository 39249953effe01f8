"""Do both ensembles of W(0) train alike? One small size, seed by seed, one test for all outputs at once."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from leadline.intervals import t_quantile
from leadline.trajectory import Trajectory

# 2⁹ choices of signs: the smallest p-value is 1/512.
SEEDS = 10
# Below it the ensembles disagree.
LEVEL = 0.01
# Signs that are tried, and outputs worked on together.
_MOST, _CHUNK = 4096, 4096


@dataclass(frozen=True)
class Agreement:
    """The fast ensemble against the Gaussian one, at one width and depth.

    Attributes:
        p_value: of the hypothesis that outputs (losses, where there are no outputs) have the same law,
            family-wise over all outputs, inputs and steps; NaN where networks diverge.
        difference, error: of the mean training losses (fast − gaussian) where it is largest, in units of
            the initial loss, and half of its 95 % interval, simultaneous over steps.
    """

    width: int
    depth: int
    seeds: int
    p_value: float
    difference: float
    error: float

    @property
    def agrees(self) -> bool:
        """Whether the test could be made and shows no difference at the level of 1 %."""
        return self.p_value >= LEVEL

    def __str__(self) -> str:
        where = f"gaussian at width={self.width}, depth={self.depth}, {self.seeds} seeds"
        if math.isnan(self.p_value):
            return f"not compared with {where}: networks diverge"
        return (
            f"{'agrees with' if self.agrees else 'DIFFERS from'} {where} (p = {self.p_value:.2g}; "
            f"losses by {100 * self.difference:+.1f} ± {100 * self.error:.1f} % of the initial loss)"
        )


def agreement(fast: Trajectory, gaussian: Trajectory) -> Agreement:
    """Compare runs of one size with the same stored weights, seed by seed: outputs, or losses alone."""
    what = "loss" if fast.train_outputs is None else "outputs"
    names = [f"{part}_{what}" for part in ("train", "test")]
    pairs = [(getattr(fast, name), getattr(gaussian, name)) for name in names]
    d = np.concatenate([np.reshape(a - b, (len(a), -1)) for a, b in pairs if a is not None], axis=1)
    s = len(d)
    loss = (fast.train_loss - gaussian.train_loss) / gaussian.train_loss[:, 0].mean()
    size = {"width": fast.info["width"], "depth": fast.info["depth"], "seeds": s}
    if not (np.isfinite(d).all() and np.isfinite(loss).all()):
        return Agreement(**size, p_value=math.nan, difference=math.nan, error=math.nan)
    quantile = t_quantile(1 - 0.025 / loss.shape[1], s - 1)
    mean, error = loss.mean(0), quantile * loss.std(0, ddof=1) / math.sqrt(s)
    k = int(np.argmax(np.abs(mean)))
    return Agreement(**size, p_value=_p_value(d), difference=float(mean[k]), error=float(error[k]))


def _p_value(d: np.ndarray) -> float:
    """p-value of differences (S, M) whose signs are random, as between equals, however the M depend.

    The largest |t| over all M against what it is with each seed's sign reversed or not: exact.
    """
    s = len(d)
    size = np.sqrt((d**2).sum(0))
    d = d[:, size > 0] / size[size > 0]
    if not d.shape[1]:
        return 1.0
    if 1 << (s - 1) <= _MOST:
        bits = np.arange(1 << (s - 1))[:, None] >> np.arange(s) & 1
    else:
        bits = np.random.default_rng(0).integers(0, 2, (_MOST, s))
        bits[0] = 0
    signs = 1.0 - 2.0 * bits
    top = np.zeros(len(signs))
    for start in range(0, d.shape[1], _CHUNK):
        top = np.maximum(top, np.abs(signs @ d[:, start : start + _CHUNK]).max(1))
    return float((top >= top[0] * (1 - 1e-12)).mean())
