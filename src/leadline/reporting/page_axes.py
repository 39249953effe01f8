"""Ticks of logarithmic axes: whole numbers at 1, 2 and 5 where the data span few decades."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import plotly.graph_objects as go

_FEW = 2.5
_ENOUGH = 1.3


def log_ticks(figure: go.Figure, layout: dict[str, Any]) -> list[str]:
    """Set the ticks of every log axis of ``layout`` that has none of its own.

    Returns:
        Names of the axes that are long enough for ticks at powers of ten alone.
    """
    long = []
    for name, axis in layout.items():
        if name[1:5] != "axis" or axis.get("type") != "log":
            continue
        if "tickvals" in axis or "dtick" in axis:
            continue
        short = name[0] + name[5:]
        spans = [_decades(_values(figure, short, name[0]))]
        # Axes that match share their range.
        for other, its in layout.items():
            if other[1:5] == "axis" and short in (its.get("matches"), axis.get("matches")):
                spans.append(_decades(_values(figure, other[0] + other[5:], other[0])))
        axis |= ticks(max(spans))
        if max(spans) > _ENOUGH:
            long.append(name)
    return long


def ticks(decades: float) -> dict[str, Any]:
    """For an axis over so many decades; below one plotly's own are as on a linear axis."""
    if decades >= _FEW:
        return {"dtick": 1 if decades < 8 else 2, "exponentformat": "power"}
    return {"tickformat": "~g"} | ({"dtick": "D2"} if decades >= 0.6 else {"nticks": 6})


def _values(figure: go.Figure, axis: str, letter: str) -> Iterable[np.ndarray]:
    for trace in figure.data:
        if getattr(trace, f"{letter}axis", None) in (axis, None if len(axis) == 1 else axis):
            values = getattr(trace, letter, None)
            if values is None:
                continue
            values = np.asarray(values, dtype=object).ravel()
            yield values
            bars = getattr(trace, f"error_{letter}", None)
            if bars is not None and bars.array is not None and bars.symmetric is not False:
                yield from _ends(values, np.asarray(bars.array, dtype=object))


def _ends(values: np.ndarray, bars: np.ndarray) -> Iterable[np.ndarray]:
    """Where error bars end."""
    pairs = [(v, b) for v, b in zip(values, bars, strict=False) if v is not None and b is not None]
    yield np.array([v + b for v, b in pairs], dtype=object)
    yield np.array([v - b for v, b in pairs], dtype=object)


def _decades(arrays: Iterable[np.ndarray]) -> float:
    """log10 of the largest over the smallest positive number."""
    found = [v for a in arrays for v in a if isinstance(v, int | float | np.number) and v > 0]
    finite = [float(v) for v in found if np.isfinite(v)]
    return float(np.log10(max(finite) / min(finite))) if finite else 0.0
