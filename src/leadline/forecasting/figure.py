"""Loss against width and against depth: the data, and apart from them the drawing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from leadline.forecasting.estimate import Fitted
from leadline.forecasting.runs import Runs
from leadline.intervals import Interval
from leadline.reporting.panels import BLUE, GREY, Panels, faded, ramp

if TYPE_CHECKING:
    import plotly.graph_objects as go

_MOST = 6


class LawCurve(TypedDict):
    """One curve of a panel: the runs at one value of the other axis, the law and its band.

    shade: 0 (smallest of the other axis) to 1 (largest).
    """

    axis: str
    name: str
    shade: float
    runs_x: list[float]
    runs_y: list[float]
    x: list[float]
    y: list[float]
    low: list[float]
    high: list[float]


def curves(
    runs: Runs, laws: Sequence[Fitted], confidence: float, axis: str, points: int = 40
) -> list[LawCurve]:
    """The law along an axis, to four times the largest run, for each value of the other one.

    Samples and steps are the runs' largest; of many values of the other axis six are shown.
    """
    other = "depth" if axis == "width" else "width"
    rest = {a: runs.levels(a)[-1] for a in runs.sizes if a not in (axis, other)}
    values = runs.levels(other)
    if len(values) > _MOST:
        values = values[np.linspace(0, len(values) - 1, _MOST).round().astype(int)]
    levels = runs.levels(axis)
    x = np.geomspace(levels[0], 4 * levels[-1], points)
    out = []
    for k, value in enumerate(values):
        at = rest | {other: value}
        here = np.all([runs.sizes[a] == v for a, v in at.items()], axis=0)
        y, low, high = _band(
            laws, confidence, {a: np.full(points, v) for a, v in at.items()} | {axis: x}
        )
        out.append(
            LawCurve(
                axis=axis,
                name=f"{other} {value:g}",
                shade=k / max(len(values) - 1, 1),
                runs_x=runs.sizes[axis][here].tolist(),
                runs_y=runs.loss[here].tolist(),
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
    ends = [np.quantile(v, (tail, 1 - tail), axis=0) for v in values]
    y = values[0][0]
    low = np.minimum(np.min([e[0] for e in ends], axis=0), y)
    return y, low, np.maximum(np.max([e[1] for e in ends], axis=0), y)


def shown_axes(runs: Runs) -> list[str]:
    """Width and depth where they vary; width if neither does."""
    return [a for a in ("width", "depth") if a in runs.axes] or ["width"]


def forecast_figure(
    law: str, floor: Interval, runs: Runs, laws: Sequence[Fitted], confidence: float
) -> go.Figure:
    """One panel an axis."""
    axes = shown_axes(runs)
    panels = Panels([""] * len(axes), columns=len(axes), share_y=True, row_height=450)
    for i, axis in enumerate(axes):
        title = "loss" if axis == axes[0] else ""
        panels.panel(i, axis, title, sizes=runs.levels(axis).tolist())
        lines = curves(runs, laws, confidence, axis)
        for curve in lines:
            color, group = ramp(BLUE, curve["shade"]), f"{axis} {curve['name']}"
            # Bands of every curve would hide each other.
            if curve is lines[-1]:
                panels.band(curve["x"], curve["low"], curve["high"], color, group)
            panels.line(
                curve["x"], curve["y"], curve["name"], color, mode="lines", width=2, group=group
            )
            runs_at = (curve["runs_x"], curve["runs_y"])
            panels.line(*runs_at, curve["name"], color, mode="markers", group=group, legend=False)
        line = {"dash": "dot", "color": GREY}
        panels.figure.add_hline(y=floor.value, line=line, **panels.at)
        if floor.low < floor.high:
            color = faded(GREY, 0.15)
            ends = dict(y0=floor.low, y1=floor.high)
            panels.figure.add_hrect(**ends, fillcolor=color, line_width=0, **panels.at)
    panels.title(f"loss = {law}; floor {floor:.4g} ({confidence:.0%})")
    return panels.figure
