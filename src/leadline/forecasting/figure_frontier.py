"""Best sizes against cost with their bands, and isoFLOP curves with their minima."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from leadline.forecasting.figure import label_sizes, short
from leadline.forecasting.frontier import Frontier
from leadline.forecasting.profiles import Profiles
from leadline.reporting.panels import BLUE, GREEN, ORANGE, Panels, ramp

if TYPE_CHECKING:
    import plotly.graph_objects as go


def frontier_figure(frontier: Frontier) -> go.Figure:
    """One panel a free axis, and the loss, over the cost; bands are the intervals."""
    axes = list(frontier.points[0].sizes)
    panels = Panels([""] * (len(axes) + 1), columns=len(axes) + 1, row_height=400)
    x = [p.budget for p in frontier.points]
    drawn = [(f"best {a}", [p.sizes[a] for p in frontier.points], BLUE) for a in axes]
    drawn.append(("loss there", [p.loss for p in frontier.points], GREEN))
    for i, (name, values, color) in enumerate(drawn):
        panels.panel(i, f"cost {frontier.formula}", name, log_x=True, log_y=True)
        label_sizes(panels, min(x), max(x))
        _band(panels, x, values, color, name)
        for end in frontier.span:
            panels.figure.add_vline(x=end, line={"dash": "dot", "color": ORANGE}, **panels.at)
    panels.title(str(frontier))
    return panels.figure


def _band(panels: Panels, x: list[float], values: list, color: str, name: str) -> None:
    panels.band(x, [v.low for v in values], [v.high for v in values], color, name)
    panels.line(x, [v.value for v in values], name, color, group=name)


def isoflop_figure(profiles: Profiles) -> go.Figure:
    """Loss over size for every cost with the parabola near its minimum, and the minima over cost."""
    panels = Panels(["", ""], columns=2, row_height=460)
    panels.panel(0, profiles.axis, "loss", log_x=True, log_y=True)
    every = [x for p in profiles.profiles for x in p.x]
    label_sizes(panels, min(every), max(every))
    count = max(len(profiles.profiles) - 1, 1)
    for k, p in enumerate(profiles.profiles):
        color, name = ramp(BLUE, k / count), f"cost {short(p.cost)}"
        panels.line(p.x, p.loss, name, color, mode="lines+markers", width=1, group=name)
        if p.best is not None and p.least is not None:
            x, y = parabola(p.x, p.loss, p.curve)
            panels.line(x, y, name, ORANGE, mode="lines", width=2, group=name, legend=False)
    minima = [
        (p.cost, p.best, p.least)
        for p in profiles.profiles
        if p.best is not None and p.least is not None
    ]
    x, y, least = (list(values) for values in zip(*minima, strict=True))
    panels.line(y, least, "minima", ORANGE, mode="markers", symbol="diamond")
    panels.panel(1, f"cost {profiles.cost}", f"best {profiles.axis}", log_x=True, log_y=True)
    label_sizes(panels, min(x), max(x))
    panels.line(x, y, "minima", ORANGE, mode="markers", symbol="diamond")
    u, v = np.log(x), np.log(y)
    line = np.exp(v.mean() + profiles.exponent.value * (u - u.mean()))
    panels.line(x, line, f"slope {profiles.exponent.value:.3g}", BLUE, mode="lines")
    panels.title(str(profiles))
    return panels.figure


def parabola(
    x: tuple[float, ...], loss: tuple[float, ...], curve: tuple[float, ...], points: int = 30
) -> tuple[list[float], list[float]]:
    """The fitted parabola a little around the lowest run."""
    u, lowest = np.log(x), int(np.argmin(loss))
    low, high = max(lowest - 2, 0), min(lowest + 2, len(x) - 1)
    at = np.linspace(u[low], u[high], points)
    y = np.polynomial.polynomial.polyval(at - u[lowest], curve)
    return np.exp(at).tolist(), np.exp(y).tolist()
