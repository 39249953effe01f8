"""Numbers as a page writes them."""

from __future__ import annotations

import math
import re


def interval(value: float | None, low: float | None = None, high: float | None = None) -> str:
    """A value and its interval, to two digits of the interval's width.

    >>> interval(0.030512, 0.02871, 0.03229)
    '0.0305 [0.0287, 0.0323]'
    >>> interval(0.08, -0.001, 0.15)
    '0.08 [0.00, 0.15]'
    >>> interval(None)
    ''
    >>> interval(1.0)
    '1'
    """
    if value is None:
        return ""
    if low is None or high is None:
        return f"{value:.4g}".replace("-", "−")
    places = _places(value, low, high)
    shown = [_plain(x, places) for x in (value, low, high)]
    return "{} [{}, {}]".format(*shown)


def is_number(cell: object) -> bool:
    """Is a cell to be set to the right: a number, with an error, an interval or a unit sign?

    >>> [is_number(c) for c in ("0.1 ± 0.2", "−3", "12 %", "∞", "tanh", "–", "1.2 [1, 3]")]
    [True, True, True, True, False, True, True]
    """
    return bool(re.fullmatch(r"[–∞]|[+−-]?[\d.∞][\d.,eE∞+−…± \[\]%×-]*", str(cell).strip()))


def _places(*numbers: float) -> int | None:
    """Decimals that show two digits of the interval; None where plain decimals do not serve."""
    width = numbers[-1] - numbers[-2]
    if not all(map(math.isfinite, numbers)) or width <= 0:
        return None
    places = 1 - math.floor(math.log10(width))
    return places if places <= 8 and max(abs(x) for x in numbers) < 1e7 else None


def _plain(x: float, places: int | None) -> str:
    if math.isinf(x):
        return "∞" if x > 0 else "−∞"
    text = f"{x:.4g}" if places is None else f"{x:.{max(places, 0)}f}"
    if not text.strip("-0."):
        text = text.removeprefix("-")
    return text.replace("-", "−")
