"""Values with intervals: the one type, how it is written, and the statistics that make one.

Over seeds alone the jackknife with Student's t serves every number. It needs no formula for the number
(a slope of means, an extrapolated gap, a ratio), treats whatever a seed shares between sizes and couplings
as paired, and is honest for the handful of seeds that large networks allow, where the percentiles of a
bootstrap are too narrow. Where a number has bounds of its own (what a grid of rates leaves open),
bootstrap replicates widen them; where it is refitted to resampled data, percentiles of the refits are used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from leadline.disk.plain import plain

LEVEL = 0.95
Triple = tuple[float, float, float]
"""A value with the least and the most that it can be."""


@dataclass(frozen=True)
class Interval:
    """A value with its interval.

    An end is NaN where seeds are too few for one; low = high = value where nothing is random. As text:
    ``str`` has three significant digits and says where training diverged; ``f"{x:.4g}"`` has as many
    digits as asked and ∞ for infinity; ``f"{x:w}"`` has two digits of the interval's width, or
    says that training diverges.
    """

    value: float
    low: float = float("nan")
    high: float = float("nan")

    def __str__(self) -> str:
        if np.isnan(self.value):
            return "–"
        if np.isinf(self.value):
            return f"diverged [{self.low:.3g}, ∞]" if np.isfinite(self.low) else "diverged"
        if np.isnan(self.low):
            return f"{self.value:.3g}"
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}]".replace("inf", "∞")

    def __format__(self, spec: str) -> str:
        """The interval as text.

        >>> f"{Interval(0.08, -0.001, 0.15):w}", f"{Interval(float('inf'), 20, 1e9):.4g}"
        ('0.08 [0.00, 0.15]', '∞ [20, 1e+09]')
        """
        if not spec:
            return str(self)
        if spec == "w":
            return written(self.value, self.low, self.high)
        return "{} [{}, {}]".format(*self.cells(spec))

    def cells(self, spec: str = ".4g") -> tuple[str, str, str]:
        """Value, low and high as text of a table's cells; infinity is ∞."""
        value, low, high = (
            "∞" if math.isinf(x) else format(x, spec) for x in (self.value, self.low, self.high)
        )
        return value, low, high

    def to_json(self) -> dict[str, float | None]:
        """Infinity and NaN as None."""
        return plain(asdict(self))


def written(value: float | None, low: float | None = None, high: float | None = None) -> str:
    """A value and its interval, to two digits of the interval's width.

    >>> written(0.030512, 0.02871, 0.03229)
    '0.0305 [0.0287, 0.0323]'
    >>> written(0.08, -0.001, 0.15)
    '0.08 [0.00, 0.15]'
    >>> written(None)
    ''
    >>> written(1.0)
    '1'
    >>> written(float("inf"), float("inf"), float("inf"))
    'diverges'
    """
    if value is None:
        return ""
    if math.isinf(value):
        return "diverges"
    if low is None or high is None:
        return f"{value:.4g}".replace("-", "−")
    places = _places(value, low, high)
    return "{} [{}, {}]".format(*(_decimal(x, places) for x in (value, low, high)))


def _places(*numbers: float) -> int | None:
    """Decimals that show two digits of the interval; None where plain decimals do not serve."""
    width = numbers[-1] - numbers[-2]
    if not all(map(math.isfinite, numbers)) or width <= 0:
        return None
    places = 1 - math.floor(math.log10(width))
    return places if places <= 8 and max(abs(x) for x in numbers) < 1e7 else None


def _decimal(x: float, places: int | None) -> str:
    if math.isinf(x):
        return "∞" if x > 0 else "−∞"
    text = f"{x:.4g}" if places is None else f"{x:.{max(places, 0)}f}"
    if not text.strip("-0."):
        text = text.removeprefix("-")
    return text.replace("-", "−")


def jackknife(number: Callable[..., float], *groups: Any) -> Interval:
    """``number(*groups)`` with its 95 % interval.

    Args:
        groups: arrays whose first axis is seeds. Seeds of one group are independent of each other and
            of other groups; along the other axes anything may be shared.
    """
    arrays = [np.asarray(g, dtype=float) for g in groups]
    value = float(number(*arrays))
    variance = curvature = 0.0
    for at, group in enumerate(arrays):
        s = len(group)
        if s < 2:
            return Interval(value, -math.inf, math.inf)
        left = np.array(
            [
                number(*(np.delete(g, i, axis=0) if k == at else g for k, g in enumerate(arrays)))
                for i in range(s)
            ]
        )
        part = (s - 1) / s * float(((left - left.mean()) ** 2).sum())
        variance += part
        curvature += part**2 / (s - 1)
    if not math.isfinite(value) or not math.isfinite(variance):
        return Interval(value, -math.inf, math.inf)
    if variance == 0:
        return Interval(value, value, value)
    # Welch and Satterthwaite's degrees of freedom.
    t = float(t_quantile((1 + LEVEL) / 2, variance**2 / curvature))
    half = t * math.sqrt(variance)
    return Interval(value, value - half, value + half)


def mean(values: Any) -> Interval:
    """Mean over seeds: Student's t."""
    return jackknife(lambda v: v.mean(), values)


def standard_error(x: np.ndarray) -> np.ndarray:
    """Standard error of the mean over the first axis; NaN for a single seed, and where one diverged."""
    if len(x) < 2:
        return np.full(x.shape[1:], np.nan)
    with np.errstate(invalid="ignore"):
        return np.std(x, axis=0, ddof=1) / np.sqrt(len(x))


def half_width(x: np.ndarray) -> np.ndarray:
    """Half of the 95 % interval of the mean over the first axis (Student's t); NaN for a single seed."""
    error = standard_error(x)
    return error if len(x) < 2 else t_quantile((1 + LEVEL) / 2, len(x) - 1) * error


def slope(sizes: Sequence[float] | np.ndarray, values: Any) -> float:
    """Least-squares slope of log |values| against log sizes."""
    y = np.log(np.abs(np.asarray(values, dtype=float)))
    return float(np.polyfit(np.log(np.asarray(sizes, dtype=float)), y, 1)[0])


def exponent(sizes: Sequence[float], values: Any, last: int | None = None) -> Interval:
    """Exponent in size of the mean over seeds.

    Args:
        values: (seeds, sizes). last: fit the largest ``last`` sizes only.
    """
    x = np.asarray(sizes, dtype=float)
    keep = slice(None) if last is None else slice(-last, None)
    return jackknife(lambda v: slope(x[keep], v.mean(0)[keep]), values)


def percentiles(answers: Sequence[np.ndarray], confidence: float) -> Interval:
    """Percentiles of several models' answers (1 + K,), each the estimate and then its K refits.

    The first model's estimate is the value; low and high enclose every model's own interval.
    """
    tail = (1 - confidence) / 2
    value = float(answers[0][0])
    lows, highs = [value], [value]
    for answer in answers:
        draws = answer[1:]
        if len(draws):
            lows.append(float(np.quantile(draws, tail, method="lower")))
            highs.append(float(np.quantile(draws, 1 - tail, method="higher")))
    return Interval(value, min(lows), max(highs))


@dataclass(frozen=True)
class Spread:
    """The point estimate, its different bootstrap replicates, how often each was drawn, and the factor by
    which their spread is stretched."""

    point: Any
    draws: Sequence[Any]
    often: np.ndarray
    stretch: float

    def of(self, what: Callable[[Any], Triple], transform: Callable[[Any], Any]) -> Interval:
        """A number; ``what`` gives its value, least and most for a replicate; no replicates, no ends."""
        value, low, high = what(self.point)
        if not self.draws:
            return Interval(float(transform(value)))
        if np.isnan(value):
            return Interval(value)
        numbers = np.repeat([what(d) for d in self.draws], self.often, axis=0)
        ends = widened((low, high), (numbers[:, 1], numbers[:, 2]), self.stretch)
        return Interval(*(float(transform(v)) for v in (value, *ends)))


def widened(
    ends: tuple[float, float], draws: tuple[np.ndarray, np.ndarray], stretch: float
) -> tuple[float, float]:
    """The ends of an interval, moved out by as much as those of the replicates are beyond them."""
    out = []
    for end, drawn, sign in zip(ends, draws, (-1.0, 1.0), strict=True):
        drawn = drawn[~np.isnan(drawn)]
        if not len(drawn):
            out.append(end)
            continue
        tail = float(np.quantile(sign * drawn, (1 + LEVEL) / 2, method="nearest"))
        if not np.isfinite([tail, end]).all():
            out.append(sign * max(tail, sign * end))
        else:
            out.append(end + sign * stretch * max(tail - sign * end, 0.0))
    return out[0], out[1]


def stretch(seeds: int) -> float:
    """Half-width of Student's t for a mean over so many seeds, over that of the percentiles themselves."""
    if seeds < 2:
        return float("nan")
    tail = (1 + LEVEL) / 2
    ratio = t_quantile(tail, seeds - 1) / normal_quantile(tail)
    return float(ratio * (seeds / (seeds - 1)) ** 0.5)


def t_quantile(p: Any, freedom: Any) -> Any:
    """Quantile of Student's t, as ``scipy.stats.t.ppf``, whose import takes longer than a small solve."""
    from scipy.special import stdtrit

    return stdtrit(np.minimum(freedom, 1e10), p)


def normal_quantile(p: float) -> float:
    """Quantile of the normal distribution, as ``scipy.stats.norm.ppf``."""
    from scipy.special import ndtri

    return float(ndtri(p))


def f_tail(ratio: Any, above: Any, below: Any) -> Any:
    """Probability of more than a ratio by Fisher's F, as ``scipy.stats.f.sf``.

    Args:
        above, below: degrees of freedom of numerator and denominator.
    """
    from scipy.special import fdtrc

    return fdtrc(above, below, np.maximum(ratio, 0.0))
