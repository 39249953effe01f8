"""Exponents of width and depth: what a scheme promises, what was measured, and the verdict.

In the N(0, 1) form with rates ∝ n^q, outputs ∝ n^-p, branch multiplier L^a and rate factor L^c, gradients
of hidden features are ∝ n^-p and inside branches ∝ L^a more. Then the table of the plans promises

    own update of a weight       n^(q - p)             L^(a + c) inside branches
    own update of the readout    n^(q - 2p + 1)
    output at initialization     readout n^(1/2 - p), others 1
    change of features           n^(q - p), over depth 1: what a stream of O(1) movement hands on
    effect on the model's output 1 everywhere: what every scheme promises

and what is folded into a weight multiplies what its module puts out. Over depth the effect of a layer kind
is L·L^a·L^(a + c): 1 where the scheme is consistent. The paper's correction has √L there with true
backpropagation; 1 is expected as claimed, and a check says what it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from leadline.intervals import LEVEL, t_quantile
from leadline.parametrization.rules import ONE, Power
from leadline.planning.factors import resolve
from leadline.planning.plans import Plan
from leadline.tracing.kinds import Kind

QUANTITIES = ("preactivation", "change", "own update", "effect on output")


def expected(plan: Plan, kind: Kind, quantity: str) -> Power:
    """The exponents of a quantity of a kind; with sp those that its user wants, 1."""
    s = resolve(plan.scheme, kind.layers)
    if s is None or kind.role == "frozen":
        return ONE
    p, q = -s.readout, s.rate_width
    fold = plan.fold(kind, norms=False)
    if quantity == "effect on output":
        return ONE
    if quantity == "preactivation":
        return Power(width=0.5 - p if kind.role == "readout" else 0.0) + fold
    if quantity == "change":
        return Power(width=0.0 if kind.role in ("readout", "finite") else q - p) + fold
    update = q - 2 * p + 1 if kind.role == "readout" else q - p
    if kind.role == "finite":
        update = 0.0
    c = 0.0
    if kind.place.inside:
        c = s.branch + (s.rate_last if kind.last else s.rate_internal)
    elif kind.beside and s.branch:
        c = -1.0
    return Power(width=update, depth=c) + fold


def expected_stream(plan: Plan, quantity: str) -> Power:
    """The exponents of the stream's size and movement, and of the output's change."""
    s = resolve(plan.scheme, 2)
    if s is None or quantity in ("stream", "change of output"):
        return ONE
    return Power(width=s.rate_width + s.readout)


def slack(
    plan: Plan, kind: Kind | None, quantity: str, axis: str, stream: float
) -> tuple[float, float]:
    """How far below and above the expected an exponent of depth may lie while the base is too shallow.

    At initialization L branches of size L^a add the variance L^(1 + 2a) to the stream, less and less with
    depth if 1 + 2a < 0. Where they dominate what the stream begins with (small embeddings, norms that end
    the branches), its size falls as L^(½ + a) at first, and so does what it enters outside the branches,
    and every effect on the output. What a norm makes of the stream's change grows by as much. Both end
    where the stream no longer shrinks: with what training adds to it, or at larger depths.

    Args:
        stream: the measured exponent of the stream's size at initialization.
    """
    s = resolve(plan.scheme, 2)
    if s is None or axis != "depth":
        return 0.0, 0.0
    shrinks = min(max(0.0, -stream), max(0.0, -s.noise / 2))
    inside = kind is not None and kind.place.inside and quantity != "effect on output"
    through_norms = quantity in ("change", "effect on output")
    return 0.0 if inside and not through_norms else shrinks, shrinks if through_norms else 0.0


BAND = 0.25
"""A verdict is about the expected exponent ± this: ``transfer``'s margin for the drift of a best rate."""


@dataclass(frozen=True)
class Exponent:
    """Slope of log value against log size.

    Attributes:
        low, high: 95 % interval.
        slopes: local ones, size to size, means over seeds.
        ahead: where the last two local slopes lead: corrections of finite size fall as 1/size, so what is
            left of them in local slopes halves at every doubling.
        curved: the sizes do not lie on a line, beyond the seeds' noise: more seeds narrow nothing.
    """

    value: float
    low: float
    high: float
    slopes: tuple[float, ...]
    ahead: float
    curved: bool = False


def exponent(sizes: np.ndarray, values: np.ndarray) -> Exponent | None:
    """Fit over all sizes where they lie on one line, otherwise over the largest three.

    Every seed has its own level; the interval is that of the common slope with the residuals of all
    seeds, so that curvature widens it too.

    Args:
        sizes: (k,) increasing. values: (k, seeds), >= 0.

    Returns:
        None where a value is zero; infinite where training diverged.
    """
    if not np.isfinite(values).all():
        return Exponent(np.inf, np.inf, np.inf, (np.inf,) * (len(sizes) - 1), np.inf)
    if (values <= 0).any():
        return None
    x, y = np.log(sizes), np.log(values)
    slopes = tuple(float(s) for s in (np.diff(y, axis=0) / np.diff(x)[:, None]).mean(1))
    curved = len(x) > 2 and _curved(x, y)
    if curved:
        x, y = x[-3:], y[-3:]
        curved = _curved(x, y)
    seeds = y.shape[1]
    xc, yc = x - x.mean(), y - y.mean(0)
    ss = float((xc**2).sum()) * seeds
    value = float((xc[:, None] * yc).sum() / ss)
    residual = yc - value * xc[:, None]
    freedom = y.size - seeds - 1
    ahead = 2 * slopes[-1] - slopes[-2] if len(slopes) > 1 else value
    if freedom < 1:
        return Exponent(value, -np.inf, np.inf, slopes, ahead, curved)
    error = np.sqrt((residual**2).sum() / freedom / ss)
    half = float(t_quantile((1 + LEVEL) / 2, freedom) * error)
    return Exponent(value, value - half, value + half, slopes, ahead, curved)


def _curved(x: np.ndarray, y: np.ndarray) -> bool:
    """Do the means over seeds leave a line, against how far single seeds leave the means (F, 5 %)?

    With one seed nothing tells noise from curvature: then it counts as curved.
    """
    sizes, seeds = y.shape
    if seeds < 2:
        return True
    yc = y - y.mean(0)
    xc = x - x.mean()
    mean = yc.mean(1)
    slope = float((xc * mean).sum() / (xc**2).sum())
    lack = float(((mean - slope * xc) ** 2).sum()) * seeds / (sizes - 2)
    noise = float(((yc - mean[:, None]) ** 2).sum()) / ((sizes - 1) * (seeds - 1))
    return lack > noise * float(stats.f.ppf(0.95, sizes - 2, (sizes - 1) * (seeds - 1)))


def verdict(
    e: Exponent | None, expected: float | None, below: float = 0.0, above: float = 0.0
) -> str:
    """ok, transient, collapsed, exploding, inconclusive; n/a where there is nothing to judge.

    An exponent whose local slopes lead back into the band has not failed: larger sizes decide.

    Args:
        below, above: how far outside the band an exponent may lie at sizes too small for it.
    """
    if e is None or expected is None:
        return "n/a"
    if expected - BAND <= e.low and e.high <= expected + BAND:
        return "ok"
    if expected - BAND - below <= e.low and e.high <= expected + BAND + above:
        return "transient"
    if max(e.high, e.ahead) < expected - BAND - below:
        return "collapsed"
    if min(e.low, e.ahead) > expected + BAND + above:
        return "exploding"
    return "inconclusive"
