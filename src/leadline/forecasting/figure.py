"""Loss against width and against depth: the data, and apart from them the drawing."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from leadline.forecasting.runs import Runs

if TYPE_CHECKING:
    from leadline.forecasting.result import Forecast

_LIGHT, _DARK = (158, 202, 225), (8, 81, 156)
_MOST = 6


class Curve(TypedDict):
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


def curves(forecast: Forecast, axis: str, points: int = 40) -> list[Curve]:
    """The law along an axis, to four times the largest run, for each value of the other one.

    Samples and steps are the runs' largest; of many values of the other axis six are shown.
    """
    runs = forecast.runs
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
        y, low, high = _band(forecast, {a: np.full(points, v) for a, v in at.items()} | {axis: x})
        out.append(
            Curve(
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
    forecast: Forecast, sizes: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    tail = (1 - forecast.confidence) / 2
    values = [f.values(sizes) for f in forecast.laws]
    ends = [np.quantile(v, (tail, 1 - tail), axis=0) for v in values]
    y = values[0][0]
    low = np.minimum(np.min([e[0] for e in ends], axis=0), y)
    return y, low, np.maximum(np.max([e[1] for e in ends], axis=0), y)


def shown_axes(runs: Runs) -> list[str]:
    """Width and depth where they vary; width if neither does."""
    return [a for a in ("width", "depth") if a in runs.axes] or ["width"]


def forecast_figure(forecast: Forecast) -> go.Figure:
    """One panel an axis."""
    axes = shown_axes(forecast.runs)
    fig = make_subplots(rows=1, cols=len(axes), shared_yaxes=True, horizontal_spacing=0.06)
    for col, axis in enumerate(axes, 1):
        lines = curves(forecast, axis)
        for curve in lines:
            fig.add_traces(_traces(curve, last=curve is lines[-1]), rows=1, cols=col)
        floor = forecast.floor
        fig.add_hline(y=floor.value, line={"dash": "dot", "color": "rgb(90,90,90)"}, row=1, col=col)
        if floor.low < floor.high:
            fig.add_hrect(
                y0=floor.low, y1=floor.high, fillcolor="rgba(90,90,90,0.10)", line_width=0,
                row=1, col=col,
            )  # fmt: skip
        ticks = forecast.runs.levels(axis)
        fig.update_xaxes(
            title_text=axis,
            type="log",
            tickvals=ticks.tolist(),
            ticktext=[f"{v:g}" for v in ticks],
            row=1,
            col=col,
        )
    fig.update_yaxes(title_text="loss", row=1, col=1)
    fig.update_layout(
        title=f"loss = {forecast.law}; floor {forecast.floor:.4g} ({forecast.confidence:.0%})",
        template="plotly_white",
        height=520,
        legend={"tracegroupgap": 14},
    )
    return fig


def _traces(curve: Curve, last: bool) -> list[go.Scatter]:
    r, g, b = (round(a + curve["shade"] * (z - a)) for a, z in zip(_LIGHT, _DARK, strict=True))
    color, group = f"rgb({r},{g},{b})", f"{curve['axis']} {curve['name']}"
    common = {"legendgroup": group}
    out = [
        go.Scatter(
            x=curve["x"] + curve["x"][::-1],
            y=curve["high"] + curve["low"][::-1],
            fill="toself",
            fillcolor=f"rgba({r},{g},{b},0.18)",
            line={"width": 0},
            mode="lines",
            hoverinfo="skip",
            showlegend=False,
            **common,
        ),
        go.Scatter(
            x=curve["x"], y=curve["y"], mode="lines", line={"color": color, "width": 2},
            name=curve["name"], **common,
        ),
        go.Scatter(
            x=curve["runs_x"], y=curve["runs_y"], mode="markers", showlegend=False,
            marker={"color": color, "size": 6}, name=curve["name"], **common,
        ),
    ]  # fmt: skip
    # Bands of every curve would hide each other.
    return out if last else out[1:]
