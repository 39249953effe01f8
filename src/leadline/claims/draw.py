"""Thin drawing that all claims share: panels, lines with bars over seeds, lines of theory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import plotly.graph_objects as go

# Told apart by lightness too, and on white as on black.
BLUE, ORANGE, GREEN, PURPLE, GREY = "#2a7fc0", "#d9730d", "#2f9e6e", "#9a5fc0", "#888888"
REUSED, INDEPENDENT = BLUE, ORANGE
NAMES = {"reused": "true backpropagation", "independent": "NFD (independent weights)"}
COLORS = {"reused": REUSED, "independent": INDEPENDENT}
SCHEME_COLORS = {"depth-mup": ORANGE, "depth-mup-corrected": BLUE, "completep": GREEN}
SCHEME_NAMES = {
    "depth-mup": "depth-μP",
    "depth-mup-corrected": "corrected",
    "completep": "1/L (CompleteP)",
}
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "x", "star")


class Panels:
    """A row-major grid of panels; each call draws into the one named last."""

    def __init__(self, titles: Sequence[str], columns: int = 2) -> None:
        from plotly.subplots import make_subplots

        self.columns = min(columns, len(titles))
        rows = math.ceil(len(titles) / self.columns)
        self.figure: go.Figure = make_subplots(
            rows=rows,
            cols=self.columns,
            subplot_titles=list(titles),
            vertical_spacing=0.0 if rows == 1 else 0.17,
            horizontal_spacing=0.12,
        )
        self.figure.update_layout(
            height=360 * rows + 70,
            margin={"t": 40, "r": 20, "l": 60, "b": 40},
            legend={"orientation": "h", "y": -0.16 / rows, "yanchor": "top", "x": 0},
        )
        self._named: set[str] = set()
        self._at: dict[str, int] = {"row": 1, "col": 1}

    def panel(
        self,
        index: int,
        x: str,
        y: str,
        *,
        sizes: Sequence[float] | None = None,
        log_x: bool = False,
        log_y: bool = False,
    ) -> Panels:
        """Go to a panel and name its axes.

        Args:
            sizes: the values on a logarithmic axis that get ticks.
        """
        self._at = {"row": index // self.columns + 1, "col": index % self.columns + 1}
        how: dict[str, Any] = {"title_text": x}
        if sizes is not None:
            log_x = True
            how |= {"tickvals": list(sizes), "ticktext": [f"{s:g}" for s in sizes]}
        how["type"] = "log" if log_x else "linear"
        self.figure.update_xaxes(**how, **self._at)
        self._log_y = log_y
        self.figure.update_yaxes(title_text=y, type="log" if log_y else "linear", **self._at)
        return self

    def line(
        self,
        x: Sequence[float] | np.ndarray,
        values: Any,
        name: str,
        color: str,
        *,
        dash: str = "solid",
        symbol: str | None = "circle",
        mode: str = "lines+markers",
    ) -> None:
        """Mean over seeds with 95 % bars; (seeds, len(x)) values, or (len(x),) without bars."""
        import plotly.graph_objects as go

        v = np.asarray(values, dtype=float)
        bars = None
        if v.ndim == 2:
            bars = {"type": "data", "array": half_width(v).tolist(), "thickness": 1.2, "width": 3}
            v = v.mean(0)
        y = np.abs(v) if self._log_y else v
        self._add(
            go.Scatter(
                x=[float(a) for a in x],
                y=[float(a) if math.isfinite(a) else None for a in y],
                error_y=bars,
                mode=mode,
                line={"color": color, "width": 1.8, "dash": dash},
                marker={"color": color, "size": 7, "symbol": symbol},
                name=name,
            )
        )

    def estimates(
        self,
        x: Sequence[float] | np.ndarray,
        found: Sequence[Any],
        name: str,
        color: str,
        **how: Any,
    ) -> None:
        """Values with their own intervals."""
        import plotly.graph_objects as go

        dash, symbol = how.get("dash", "solid"), how.get("symbol", "circle")
        values = np.array([[e.value, e.low, e.high] for e in found], dtype=float)
        y = np.abs(values[:, 0]) if self._log_y else values[:, 0]
        half = (values[:, 2] - values[:, 1]) / 2
        bars = {"type": "data", "array": half.tolist(), "thickness": 1.2, "width": 3}
        self._add(
            go.Scatter(
                x=[float(a) for a in x],
                y=y.tolist(),
                error_y=bars if np.isfinite(half).all() else None,
                mode=how.get("mode", "lines+markers"),
                line={"color": color, "width": 1.8, "dash": dash},
                marker={"color": color, "size": 7, "symbol": symbol},
                name=name,
            )
        )

    def theory(
        self, x: Sequence[float] | np.ndarray, y: Sequence[float], name: str, color: str = GREY
    ) -> None:
        """A line that was not fitted."""
        import plotly.graph_objects as go

        self._add(
            go.Scatter(
                x=[float(a) for a in x],
                y=[float(a) for a in y],
                mode="lines",
                line={"color": color, "width": 1.5, "dash": "dot"},
                name=name,
            )
        )

    def _add(self, trace: Any) -> None:
        """One entry in the legend for each name."""
        trace.legendgroup = trace.name
        trace.showlegend = trace.name not in self._named
        self._named.add(trace.name)
        trace.hovertemplate = "%{fullData.name}<br>%{x:.4g}: %{y:.4g}<extra></extra>"
        self.figure.add_trace(trace, **self._at)


def half_width(values: np.ndarray) -> np.ndarray:
    """Half of the 95 % interval of the mean over the first axis."""
    from scipy import stats

    s = len(values)
    if s < 2:
        return np.zeros(values.shape[1:])
    return stats.t.ppf(0.975, s - 1) * values.std(0, ddof=1) / math.sqrt(s)


def power(
    sizes: Sequence[float], through: float, slope: float
) -> tuple[Sequence[float], list[float]]:
    """A line of the given exponent that begins at ``through``."""
    return sizes, [through * (s / sizes[0]) ** slope for s in sizes]
