"""Loss against each axis, and what the law leaves: the data, and apart from them the drawing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, TypedDict

import numpy as np

from leadline.forecasting.estimate import Fitted
from leadline.forecasting.runs import Runs
from leadline.forecasting.words import FittedLaw
from leadline.reporting.panels import BLUE, GREY, ORANGE, Panels, faded, ramp

if TYPE_CHECKING:
    import plotly.graph_objects as go

_MOST = 6
_PANELS = 3
# Ticks across a figure, which its panels share.
_TICKS = 15
_UNITS = ((1e12, "T"), (1e9, "B"), (1e6, "M"))


def short(x: float) -> str:
    """A size in few letters.

    >>> short(10240), short(1.5e9), short(2e12), short(3e17)
    ('10240', '1.5B', '2T', '3e+17')
    """
    if not 1e6 <= x < 1e15:
        return f"{x:.6g}" if x < 1e6 else f"{x:.3g}"
    size, letter = next((s, name) for s, name in _UNITS if x >= s)
    return f"{x / size:.3g}{letter}"


def round_sizes(low: float, high: float, most: int) -> list[float]:
    """Round numbers on a logarithmic axis, as many as there is room for; none where fewer than two fit.

    >>> round_sizes(20, 900, 8), round_sizes(20, 900, 3), round_sizes(10, 1e5, 3)
    ([20.0, 50.0, 100.0, 200.0, 500.0], [30.0, 100.0, 300.0], [10.0, 1000.0, 100000.0])
    """
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for digits, step in (
        ((1, 2, 5), 1),
        ((1, 3), 1),
        *(((1,), k) for k in (1, 2, 3, 4, 6, 10, 20)),
    ):
        some = [float(f"{d}e{k}") for k in range(first, last + 1, step) for d in digits]
        some = [x for x in some if low * (1 - 1e-9) <= x <= high * (1 + 1e-9)]
        if len(some) <= most:
            return some if len(some) > 1 else []
    return []


def label_sizes(panels: Panels, low: float, high: float) -> None:
    """Give the chosen panel's horizontal axis its ends and ticks that do not touch."""
    some = round_sizes(low, high, max(_TICKS // panels.columns - 1, 2))
    room = 0.03 * math.log10(high / low) + 0.02
    ends = [math.log10(low) - room, math.log10(high) + room]
    how = {"tickvals": some, "ticktext": [short(x) for x in some]} if some else {}
    panels.figure.update_xaxes(range=ends, tickangle=0, **how, **panels.at)


class Drawn(FittedLaw, Protocol):
    """A forecast, as far as its figure needs it."""

    @property
    def laws(self) -> Sequence[Fitted]: ...


class LawCurve(TypedDict):
    """One curve of a panel: the runs at (or nearest to) one value of another axis, the law and its band.

    shade: 0 (smallest of the other axis) to 1 (largest). runs_y: losses, moved along the law to the
    curve's sizes of all other axes. runs_index: which runs.
    """

    axis: str
    name: str
    shade: float
    runs_x: list[float]
    runs_y: list[float]
    runs_index: list[int]
    x: list[float]
    y: list[float]
    low: list[float]
    high: list[float]


def curves(
    runs: Runs, laws: Sequence[Fitted], confidence: float, axis: str, points: int = 40
) -> list[LawCurve]:
    """The law along an axis, to four times the largest run, for some values of another one.

    The remaining sizes are the runs' largest; of many values of the other axis six are shown.
    """
    others = [a for a in runs.axes if a != axis]
    other = others[0] if others else next((a for a in runs.sizes if a != axis), None)
    values = runs.levels(other) if other is not None else np.array([1.0])
    if len(values) > _MOST:
        spread = np.quantile(runs.sizes[other], np.linspace(0, 1, _MOST), method="nearest")  # ty: ignore
        values = np.unique(spread)
    held = {a: float(x.max()) for a, x in runs.sizes.items() if a not in (axis, other)}
    near = np.zeros(len(runs), int)
    if other is not None:
        near = np.abs(np.log(runs.sizes[other][:, None] / values)).argmin(1)
    ratio = runs.loss / laws[0].values(runs.sizes)[0]
    levels = runs.levels(axis)
    x = np.geomspace(levels[0], 4 * levels[-1], points)
    out = []
    for k, value in enumerate(values):
        at = held | ({} if other is None else {other: float(value)})
        here = np.flatnonzero(near == k)
        y, low, high = _band(
            laws, confidence, {a: np.full(points, v) for a, v in at.items()} | {axis: x}
        )
        there = {a: np.full(len(here), v) for a, v in at.items()} | {axis: runs.sizes[axis][here]}
        moved = laws[0].values(there)[0] * ratio[here]
        out.append(
            LawCurve(
                axis=axis,
                name="" if other is None else f"{other} {short(value)}",
                shade=k / max(len(values) - 1, 1),
                runs_x=runs.sizes[axis][here].tolist(),
                runs_y=moved.tolist(),
                runs_index=here.tolist(),
                x=x.tolist(),
                y=y.tolist(),
                low=low.tolist(),
                high=high.tolist(),
            )
        )
    return out


def _band(
    laws: Sequence[Fitted], confidence: float, sizes: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    tail = (1 - confidence) / 2
    values = [f.values(sizes) for f in laws]
    y = values[0][0]
    ends = [np.quantile(v[1:] if len(v) > 1 else v, (tail, 1 - tail), axis=0) for v in values]
    low = np.minimum(np.min([e[0] for e in ends], axis=0), y)
    return y, low, np.maximum(np.max([e[1] for e in ends], axis=0), y)


def shown_axes(runs: Runs) -> list[str]:
    """The axes that vary; the first if none does."""
    return list(runs.axes)[:_PANELS] or [next(iter(runs.sizes))]


def residuals_along(made: Drawn, axis: str) -> tuple[list[float], list[float], list[int]]:
    """Sizes along an axis, log(loss/law) there in percent, and which runs."""
    left = 100 * np.log(made.runs.loss / made.laws[0].values(made.runs.sizes)[0])
    return made.runs.sizes[axis].tolist(), left.tolist(), list(range(len(left)))


def forecast_figure(made: Drawn) -> go.Figure:
    """A column of two panels an axis: loss with the law above, what it leaves below."""
    axes = shown_axes(made.runs)
    panels = Panels([""] * (2 * len(axes)), columns=len(axes), share_y=True, row_height=380)
    far = {o.index for o in made.outliers if o.left_out}
    for i, axis in enumerate(axes):
        ends = float(made.runs.sizes[axis].min()), 4 * float(made.runs.sizes[axis].max())
        panels.panel(i, axis, "loss" * (i == 0), log_x=True, log_y=True)
        label_sizes(panels, *ends)
        lines = curves(made.runs, made.laws, made.confidence, axis)
        for curve in lines:
            _draw(panels, curve, curve is lines[-1], far)
        for curve in lines:
            x, y = _runs_of(curve, far, left_out=True)
            if x:
                name = curve["name"] or "law"
                panels.line(x, y, "left out", ORANGE, mode="markers", symbol="x", label=name)
        if made.laws[0].law.terms and made.floor.value > 0:
            line = {"dash": "dot", "color": GREY}
            panels.figure.add_hline(y=made.floor.value, line=line, **panels.at)
            if 0 < made.floor.low < made.floor.high:
                panels.figure.add_hrect(
                    made.floor.low, made.floor.high, fillcolor=faded(GREY, 0.15), line_width=0,
                    **panels.at,
                )  # fmt: skip
        below = "off the law, %" * (i == 0)
        panels.panel(len(axes) + i, axis, below, log_x=True)
        label_sizes(panels, *ends)
        panels.figure.add_hline(y=0, line={"color": GREY, "width": 1}, **panels.at)
        x, y, rows = residuals_along(made, axis)
        for name, color, symbol, kept in (
            ("residuals", BLUE, "circle", True), ("left out", ORANGE, "x", False)
        ):  # fmt: skip
            some = [k for k in rows if (k not in far) == kept]
            if some:
                panels.line([x[k] for k in some], [y[k] for k in some], name, color,
                            mode="markers", symbol=symbol)  # fmt: skip
    panels.title(f"loss = {made.law}; floor {made.floor:.4g} ({made.confidence:.0%})")
    return panels.figure


def _draw(panels: Panels, curve: LawCurve, banded: bool, far: set[int]) -> None:
    # A curve of the same size in another panel has its name and its colour.
    color, name = ramp(BLUE, curve["shade"]), curve["name"] or "law"
    # Bands of every curve would hide each other.
    if banded:
        panels.band(curve["x"], curve["low"], curve["high"], color, name)
    panels.line(curve["x"], curve["y"], name, color, mode="lines", width=2)
    panels.line(*_runs_of(curve, far, left_out=False), name, color, mode="markers", legend=False)


def _runs_of(curve: LawCurve, far: set[int], *, left_out: bool) -> tuple[list[float], list[float]]:
    """The runs of a curve that are left out, or the others."""
    some = [k for k, i in enumerate(curve["runs_index"]) if (i in far) == left_out]
    return [curve["runs_x"][k] for k in some], [curve["runs_y"][k] for k in some]
