"""The figure people know: loss against log2 lr, one curve a size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from leadline.transferring.landscapes import landscapes

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from leadline.transferring.result import Transfer


@dataclass(frozen=True)
class Curve:
    """One size of one scheme over one axis: mean over seeds, and their range."""

    scheme: str
    axis: str
    size: int
    lr: tuple[float, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    best: float


def curves(result: Transfer) -> list[Curve]:
    """Finite points only."""
    out = []
    for a in result.axes:
        found = landscapes(result.rows, a.scheme, a.axis, result.metric)
        for s in a.sizes:
            scape = found[s.size]
            y = np.exp(scape.mean())
            keep = np.isfinite(y)
            lr, y = np.exp2(scape.x[keep]), y[keep]
            low, high = scape.losses[keep].min(1), scape.losses[keep].max(1)
            arrays = (tuple(float(v) for v in z) for z in (lr, y, low, high))
            out.append(Curve(a.scheme, a.axis, s.size, *arrays, s.lr.value))
    return out


def transfer_figure(result: Transfer) -> go.Figure:
    """Panels by scheme and axis; optima are marked."""
    import plotly.graph_objects as go
    from plotly.colors import sample_colorscale
    from plotly.subplots import make_subplots

    panels = [(a.scheme, a.axis) for a in result.axes]
    axes = list(dict.fromkeys(axis for _, axis in panels))
    schemes = list(dict.fromkeys(scheme for scheme, _ in panels))
    titles = {(a.scheme, a.axis): f"{a.scheme} over {a.axis}: {a.verdict}" for a in result.axes}
    figure = make_subplots(
        rows=len(schemes),
        cols=len(axes),
        shared_yaxes=True,
        vertical_spacing=0.4 / len(schemes),
        subplot_titles=[titles.get((s, a), "") for s in schemes for a in axes],
    )
    drawn = curves(result)
    for c in drawn:
        where = dict(row=schemes.index(c.scheme) + 1, col=axes.index(c.axis) + 1)
        sizes = sorted({d.size for d in drawn if d.axis == c.axis})
        shade = sample_colorscale("Viridis", [0.85 * sizes.index(c.size) / max(len(sizes) - 1, 1)])[
            0
        ]
        band = go.Scatter(
            x=[*c.lr, *c.lr[::-1]],
            y=[*c.high, *c.low[::-1]],
            mode="lines",
            fill="toself",
            fillcolor=shade.replace("rgb", "rgba").replace(")", ", 0.15)"),
            line=dict(width=0),
            hoverinfo="skip",
            showlegend=False,
        )
        line = go.Scatter(
            x=c.lr,
            y=c.mean,
            mode="lines+markers",
            name=f"{c.axis} {c.size}",
            legendgroup=f"{c.axis} {c.size}",
            showlegend=c.scheme == schemes[0],
            line=dict(color=shade),
            hovertemplate=f"{c.axis} {c.size}<br>lr %{{x:.3g}}: %{{y:.4g}}<extra></extra>",
        )
        figure.add_trace(band, **where)
        figure.add_trace(line, **where)
        if np.isfinite(c.best):
            figure.add_vline(x=c.best, line=dict(color=shade, dash="dot", width=1), **where)
    figure.update_xaxes(type="log", title_text="learning rate of the base")
    figure.update_yaxes(type="log")
    figure.update_yaxes(title_text=result.metric.replace("_", " "), col=1)
    figure.update_layout(template="plotly_white", height=320 * len(schemes) + 80)
    return figure
