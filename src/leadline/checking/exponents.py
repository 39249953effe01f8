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
    """The exponents of the stream's size and movement."""
    s = resolve(plan.scheme, 2)
    if s is None or quantity == "stream":
        return ONE
    return Power(width=s.rate_width + s.readout)


def slack(plan: Plan, kind: Kind | None, quantity: str, axis: str) -> float:
    """How far below the expected an exponent of depth may lie while the base is too shallow.

    At initialization L branches of size L^a add the variance L^(1 + 2a) to the stream, less and less with
    depth if 1 + 2a < 0. Where they dominate what the stream begins with (norms that end the branches), its
    size falls as L^(½ + a) at first, and so does what it enters outside the branches, and every effect on
    the output. What layers inside branches make of their own inputs does not.
    """
    s = resolve(plan.scheme, 2)
    inside = kind is not None and kind.place.inside and quantity != "effect on output"
    if s is None or axis != "depth" or inside:
        return 0.0
    return max(0.0, -s.noise / 2)


BAND = 0.15
"""A verdict is about the expected exponent ± this."""


@dataclass(frozen=True)
class Exponent:
    """Slope of log value against log size.

    Attributes:
        low, high: 95 % interval.
        slopes: local ones, size to size, means over seeds.
    """

    value: float
    low: float
    high: float
    slopes: tuple[float, ...]
    ahead: float
    """Where the last two local slopes lead: corrections of finite size fall as 1/size, so what is left
    of them in local slopes halves at every doubling."""


def exponent(sizes: np.ndarray, values: np.ndarray) -> Exponent | None:
    """Fit over the largest sizes (three, or two where there are only two).

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
    x, y = x[-3:], y[-3:]
    seeds = y.shape[1]
    xc, yc = x - x.mean(), y - y.mean(0)
    ss = float((xc**2).sum()) * seeds
    value = float((xc[:, None] * yc).sum() / ss)
    residual = yc - value * xc[:, None]
    freedom = y.size - seeds - 1
    if freedom < 1:
        return Exponent(value, -np.inf, np.inf, slopes, value)
    error = np.sqrt((residual**2).sum() / freedom / ss)
    half = float(stats.t.ppf(0.975, freedom) * error)
    ahead = 2 * slopes[-1] - slopes[-2] if len(slopes) > 1 else value
    return Exponent(value, value - half, value + half, slopes, ahead)


def verdict(e: Exponent | None, expected: float | None, slack: float = 0.0) -> str:
    """ok, collapsed, exploding, inconclusive; n/a where there is nothing to judge.

    An exponent whose local slopes lead back into the band has not failed: larger sizes decide.

    Args:
        slack: how far below the expected an exponent may lie at sizes too small for it.
    """
    if e is None or expected is None:
        return "n/a"
    if expected - BAND <= e.low and e.high <= expected + BAND:
        return "ok"
    if max(e.high, e.ahead) < expected - BAND - slack:
        return "collapsed"
    if min(e.low, e.ahead) > expected + BAND:
        return "exploding"
    return "inconclusive"
