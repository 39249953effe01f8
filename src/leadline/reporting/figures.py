"""Figures: thin drawing of ``series`` with plotly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from leadline.reporting.page_axes import ticks
from leadline.reporting.series import Series, loss_curves, result_curves
from leadline.trajectory import Trajectory

if TYPE_CHECKING:
    from leadline.comparison import Comparison
    from leadline.kernels.kernels import InitialKernels
    from leadline.limits.extrapolation import Limit

# Light to dark by size; the limit is the darkest.
_RAMPS = {
    "reused": ((158, 202, 225), (8, 81, 156)),
    "independent": ((253, 190, 133), (189, 63, 4)),
    "train": ((8, 81, 156), (8, 81, 156)),
    "test": ((189, 63, 4), (189, 63, 4)),
}
_GREY = "rgb(90,90,90)"
_SYMBOLS = {"reused": "circle", "independent": "diamond"}
_TITLES = {
    "train": "Training loss",
    "test": "Test loss",
    "size": "Training loss at the last step",
    "gap": "Gap to the limit",
}


def comparison_figure(comparison: Comparison) -> go.Figure:
    """Losses over steps, final loss and gap to the limit over width."""
    curves = loss_curves(comparison)
    tested = any(s["panel"] == "test" for s in curves)
    specs = [[{}, {}], [{}, {}]] if tested else [[{"colspan": 2}, None], [{}, {}]]
    where = {"train": (1, 1), "test": (1, 2), "size": (2, 1), "gap": (2, 2)}
    if not tested:
        del where["test"]
    titles = [_TITLES[panel] for panel in where]
    if any(s["role"] == "reference" for s in curves):
        titles[-1] = "Gap to the large solve"
    fig = make_subplots(rows=2, cols=2, specs=specs, subplot_titles=titles, vertical_spacing=0.15)
    named: set[str] = set()
    for panel, (row, col) in where.items():
        for s in (s for s in curves if s["panel"] == panel):
            for trace in _traces(s, named):
                fig.add_trace(trace, row=row, col=col)
        _axes(fig, [s for s in curves if s["panel"] == panel], panel, row, col)
    info = comparison.info
    fig.update_layout(
        title=f"{info['problem']['name']}, {info['seeds']} seeds; bars and bands about 95 %",
        template="plotly_white",
        height=860,
        legend={"groupclick": "toggleitem", "tracegroupgap": 14},
        margin={"t": 90, "r": 30},
    )
    return fig


def result_figure(result: Trajectory | Limit) -> go.Figure:
    """Loss over steps of one result."""
    curves = result_curves(result)
    fig = go.Figure()
    for s in curves:
        fig.add_traces(_traces(s, set()))
    _axes(fig, curves, "train")
    fig.update_layout(title=_title(result), template="plotly_white", height=520)
    return fig


def kernels_figure(kernels: InitialKernels) -> go.Figure:
    """Feature and tangent kernel as heat maps, one row a training sample."""
    fig = make_subplots(
        rows=1, cols=2, subplot_titles=["Features K", "Tangent kernel Θ, units of η"]
    )
    for col, (matrix, x) in enumerate(((kernels.features, 0.44), (kernels.tangent, 1.0)), 1):
        bar = {"x": x, "len": 0.9, "thickness": 12}
        fig.add_trace(go.Heatmap(z=matrix, colorscale="RdBu", zmid=0, colorbar=bar), row=1, col=col)
        fig.update_xaxes(title_text="sample", row=1, col=col, domain=[0.58 * (col - 1), x - 0.03])
        fig.update_yaxes(title_text="sample", autorange="reversed", row=1, col=col)
    depth = "∞" if kernels.depth is None else kernels.depth
    fig.update_layout(
        title=f"Kernels at initialization, width ∞, depth {depth}",
        template="plotly_white",
        height=560,
    )
    return fig


def _traces(s: Series, named: set[str]) -> list[go.Scatter]:
    """A curve and its band; a legend entry only the first time a curve of that name appears."""
    group = s["coupling"] or "lazy"
    key = f"{group}/{s['name']}"
    style: dict[str, Any] = {
        "x": s["x"],
        "y": s["y"],
        "name": s["name"],
        "legendgroup": group,
        "legendgrouptitle": {"text": None if s["role"] in ("lazy", "result") else group},
        "showlegend": key not in named and not s["name"].startswith("networks"),
    }
    named.add(key)
    color = _color(s)
    if s["role"] == "finite":
        mark = {"color": color, "size": 6, "symbol": _SYMBOLS[group]}
        bars = None
        if s["error"] is not None and s["panel"] == "size":
            bars = {"type": "data", "array": s["error"], "thickness": 1.5, "width": 4}
        line = {"color": color, "width": 1}
        return [go.Scatter(mode="lines+markers", line=line, marker=mark, error_y=bars, **style)]
    dash = {"lazy": "dot", "reference": "dash"}.get(s["role"], "solid")
    curve = go.Scatter(mode="lines", line={"color": color, "width": 2.5, "dash": dash}, **style)
    return [*_band(s, color), curve]


def _band(s: Series, color: str) -> list[go.Scatter]:
    """The error band as a closed outline; on a log axis it must stay above 0."""
    if s["error"] is None:
        return []
    x, y, e = (np.array(v) for v in (s["x"], s["y"], s["error"]))
    ok = np.isfinite(y) & np.isfinite(e)
    if not ok.any() or not e[ok].any():
        return []
    x, y, e = x[ok], y[ok], e[ok]
    low = np.maximum(y - e, 0.02 * y) if (y > 0).all() else y - e
    return [
        go.Scatter(
            x=np.concatenate([x, x[::-1]]).tolist(),
            y=np.concatenate([y + e, low[::-1]]).tolist(),
            fill="toself",
            fillcolor=color.replace("rgb(", "rgba(").replace(")", ",0.18)"),
            mode="lines",
            line={"width": 0},
            hoverinfo="skip",
            showlegend=False,
            legendgroup=s["coupling"] or "lazy",
        )
    ]


def _color(s: Series) -> str:
    if s["coupling"] is None:
        return _GREY
    light, dark = _RAMPS.get(s["coupling"], _RAMPS["reused"])
    t = s["shade"] * (0.75 if s["role"] == "finite" else 1.0)
    mixed = (round(a + t * (b - a)) for a, b in zip(light, dark, strict=True))
    return f"rgb({','.join(str(c) for c in mixed)})"


def _axes(
    fig: go.Figure,
    curves: Sequence[Series],
    panel: str,
    row: int | None = None,
    col: int | None = None,
) -> None:
    """Titles, and a log axis where everything is positive."""
    y = np.array([v for s in curves for v in s["y"]])
    y = y[np.isfinite(y)]
    log = bool(y.size and (y > 0).all())
    at = {} if row is None else {"row": row, "col": col}
    rms = "RMS loss difference" if panel == "gap" else "loss, mean over samples"
    fig.update_yaxes(title_text=rms, type="log" if log else "linear", **_ticks(y, log), **at)
    if panel in ("size", "gap"):
        n = sorted({v for s in curves for v in s["x"]})
        shown = {"tickvals": n, "ticktext": [f"{v:g}" for v in n]}
        fig.update_xaxes(title_text="width n, neurons", type="log", **shown, **at)
    else:
        fig.update_xaxes(title_text="step", **at)


def _ticks(y: np.ndarray, log: bool) -> dict[str, Any]:
    return ticks(float(np.log10(y.max() / y.min()))) if log else {}


def _title(result: Trajectory | Limit) -> str:
    info = result.info
    what = [str(info["kind"]), str(info["problem"]["name"])]
    for key, letter in (("width", "n"), ("depth", "L")):
        if info.get(key) is not None:
            what.append(f"{letter}={info[key]}")
    if info.get("coupling"):
        what.append(str(info["coupling"]))
    if info["seeds"] > 1:
        what.append(f"{info['seeds']} seeds; bands about 95 %")
    return ", ".join(what)
