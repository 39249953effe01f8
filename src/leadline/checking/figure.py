"""The figure of a check: data, then drawing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from leadline.checking.report import CheckReport

QUANTITIES = ("change", "own update", "effect on output")


@dataclass(frozen=True)
class Curve:
    """One parameter's quantity over an axis, divided by the due power and by its value at the base."""

    panel: tuple[str, str]
    """Quantity and axis."""
    name: str
    x: tuple[int, ...]
    y: tuple[float, ...]
    verdict: str


def curves(report: CheckReport) -> list[Curve]:
    """What is drawn: flat curves are as due."""
    out = []
    for r in report.rows:
        if r.quantity not in QUANTITIES or r.exponent is None or r.due is None:
            continue
        first = r.values[0] if r.values[0] > 0 else 1.0
        y = tuple(
            v / first * (s / r.sizes[0]) ** -r.due for s, v in zip(r.sizes, r.values, strict=True)
        )
        out.append(Curve((r.quantity, r.axis), f"{r.parameter} ({r.place})", r.sizes, y, r.verdict))
    return out


# Told apart by symbol too.
_STYLES = {
    "ok": ("#0b62a8", "circle"),
    "inconclusive": ("#8a8a8a", "circle-open"),
    "collapsed": ("#7a3b8f", "triangle-down"),
    "exploding": ("#c4500a", "triangle-up"),
}


def check_figure(report: CheckReport) -> go.Figure:
    """Log-log panels, quantities by axes."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    axes = list(dict.fromkeys(r.axis for r in report.rows))
    figure = make_subplots(
        rows=len(QUANTITIES),
        cols=len(axes),
        subplot_titles=[f"{q} over {a}" for q in QUANTITIES for a in axes],
        vertical_spacing=0.1,
    )
    shown = set()
    for c in curves(report):
        (quantity, axis), (colour, symbol) = c.panel, _STYLES[c.verdict]
        where = dict(row=QUANTITIES.index(quantity) + 1, col=axes.index(axis) + 1)
        line = go.Scatter(
            x=c.x,
            y=c.y,
            mode="lines+markers",
            name=c.verdict,
            legendgroup=c.verdict,
            showlegend=c.verdict not in shown,
            text=c.name,
            hovertemplate="%{text}<br>size %{x}: %{y:.3g}<extra></extra>",
            line=dict(color=colour),
            marker=dict(symbol=symbol, size=8),
        )
        shown.add(c.verdict)
        figure.add_trace(line, **where)
    drawn = curves(report)
    for i, a in enumerate(axes):
        sizes = sorted({x for c in drawn if c.panel[1] == a for x in c.x})
        figure.update_xaxes(type="log", tickvals=sizes, ticktext=[str(x) for x in sizes], col=i + 1)
        figure.update_xaxes(title_text=a, row=len(QUANTITIES), col=i + 1)
    # One scale for all, and no narrower than a factor of two either way: small wiggles look small.
    heights = [abs(math.log10(y)) for c in drawn for y in c.y if y > 0 and math.isfinite(y)]
    top = 1.05 * max([*heights, math.log10(2)])
    figure.update_yaxes(type="log", range=[-top, top])
    figure.update_yaxes(title_text="over due, base = 1", col=1)
    figure.add_hline(y=1, line=dict(dash="dash", color="#555555", width=1))
    head = "passed" if report.ok else "FAILED"
    figure.update_layout(title=f"{report.title}: {head}", template="plotly_white", height=900)
    return figure
