"""Panels of a figure: one grid, one palette, lines with error bars, bands and reference lines."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from leadline.intervals import Interval, half_width

if TYPE_CHECKING:
    import plotly.graph_objects as go

# Told apart by lightness too, and on white as on black.
BLUE, ORANGE, GREEN, PURPLE = "#2a7fc0", "#d9730d", "#2f9e6e", "#9a5fc0"
GREY, RED = "#888888", "#c0392b"
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "x", "star")
# Light to dark by size; a limit is the darkest.
_RAMPS = {
    BLUE: ((158, 202, 225), (8, 81, 156)),
    ORANGE: ((253, 190, 133), (189, 63, 4)),
}
# The mark of curves that no legend lists; others are listed once a figure by plotly, once a panel by pages.
UNLISTED = {"legend": False}
# Decades from which an axis has ticks at powers of ten alone, and below which plotly's own serve.
_MANY, _FEW = 2.5, 0.6


def ramp(color: str, shade: float) -> str:
    """A shade of blue or orange, from light (0) to dark (1)."""
    light, dark = _RAMPS[color]
    mixed = (round(a + shade * (b - a)) for a, b in zip(light, dark, strict=True))
    return f"rgb({','.join(str(c) for c in mixed)})"


def shades(count: int) -> list[str]:
    """Colours of sizes in their order, dark to light."""
    from plotly.colors import sample_colorscale

    return sample_colorscale("Viridis", [0.85 * k / max(count - 1, 1) for k in range(count)])


def faded(color: str, opacity: float) -> str:
    """A colour that lets through what is below it.

    >>> faded("#ff0080", 0.2), faded("rgb(1, 2, 3)", 0.5)
    ('rgba(255,0,128,0.2)', 'rgba(1,2,3,0.5)')
    """
    if color.startswith("#"):
        parts = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
    else:
        parts = [int(v) for v in re.findall(r"\d+", color)]
    return f"rgba({','.join(map(str, parts))},{opacity:g})"


def ticks(decades: float) -> dict[str, Any]:
    """Ticks of a logarithmic axis over so many decades; of a short one plotly's own, as of a linear one."""
    if decades >= _MANY:
        return {"dtick": 1 if decades < 8 else 2, "exponentformat": "power"}
    return {"tickformat": "~g"} | ({"dtick": "D2"} if decades >= _FEW else {"nticks": 6})


class Panels:
    """A row-major grid of panels; each call draws into the panel chosen last.

    Args:
        titles: one a panel. columns: panels side by side.
        share_y: one vertical scale for the panels of a row.
        wide: the first panel has the whole first row.
        row_height: pixels of a row with its axis.

    Attributes:
        figure: the plotly figure. at: row and column of the chosen panel.
    """

    def __init__(
        self,
        titles: Sequence[str],
        columns: int = 2,
        *,
        share_y: bool = False,
        wide: bool = False,
        row_height: int = 360,
    ) -> None:
        from plotly.subplots import make_subplots

        self.columns = columns if wide else min(columns, len(titles))
        # Places in the grid that a wide first panel takes beside its own.
        taken = self.columns - 1 if wide else 0
        self._places = [0, *range(1 + taken, len(titles) + taken)]
        rows = math.ceil((len(titles) + taken) / self.columns)
        specs: list[list[Any]] = [[{} for _ in range(self.columns)] for _ in range(rows)]
        if wide:
            specs[0] = [{"colspan": self.columns}, *[None] * (self.columns - 1)]
        self.figure: go.Figure = make_subplots(
            rows=rows,
            cols=self.columns,
            specs=specs,
            subplot_titles=list(titles),
            shared_yaxes=share_y,
            vertical_spacing=0.0 if rows == 1 else 0.34 / rows,
            horizontal_spacing=0.06 if share_y else 0.12,
        )
        self.figure.update_layout(
            template="plotly_white",
            height=row_height * rows + 70,
            margin={"t": 40, "r": 20, "l": 60, "b": 40},
            legend={"orientation": "h", "y": -0.16 / rows, "yanchor": "top", "x": 0},
        )
        self._named: set[tuple[str, str]] = set()
        self._log_y = False
        self.at: dict[str, Any] = {"row": 1, "col": 1}

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
        """Choose a panel and name its axes.

        Args:
            sizes: the values on a logarithmic axis that get ticks.
        """
        row, col = divmod(self._places[index], self.columns)
        self.at = {"row": row + 1, "col": col + 1}
        self._log_y = log_y
        how: dict[str, Any] = {"title_text": x}
        if sizes is not None:
            log_x = True
            how |= {"tickvals": list(sizes), "ticktext": [f"{s:g}" for s in sizes]}
        self.figure.update_xaxes(**how, type="log" if log_x else "linear", **self.at)
        self.figure.update_yaxes(title_text=y, type="log" if log_y else "linear", **self.at)
        return self

    def title(self, text: str) -> None:
        """A title above the grid; pages replace it by their caption."""
        self.figure.update_layout(title=text, margin_t=90)

    def line(
        self,
        x: Sequence[float] | np.ndarray,
        values: Any,
        name: str,
        color: str,
        *,
        error: Sequence[float] | np.ndarray | None = None,
        dash: str = "solid",
        symbol: str | None = "circle",
        mode: str = "lines+markers",
        width: float = 1.8,
        group: str | None = None,
        legend: bool = True,
        label: str | None = None,
    ) -> None:
        """A curve; (seeds, len(x)) values are their mean with 95 % bars.

        Args:
            error: half-widths of bars. group: what legends hide and show together, by default the name.
            label: what hovering names the curve, by default its name.
        """
        import plotly.graph_objects as go

        v = np.asarray(values, dtype=float)
        if v.ndim == 2:
            error = half_width(v) if len(v) > 1 else np.zeros(v.shape[1])
            v = v.mean(0)
        y = np.abs(v) if self._log_y else v
        bars = None
        if error is not None:
            half = np.asarray(error, dtype=float).tolist()
            bars = {"type": "data", "array": half, "thickness": 1.2, "width": 3}
        key = (group or name, name)
        shown = "%{fullData.name}" if label is None else "%{text}"
        self.figure.add_trace(
            go.Scatter(
                x=[float(a) for a in x],
                y=[float(a) if math.isfinite(a) else None for a in y],
                error_y=bars,
                mode=mode,
                line={"color": color, "width": width, "dash": dash},
                marker={"color": color, "size": 7, "symbol": symbol},
                name=name,
                text=label,
                legendgroup=key[0],
                meta=None if legend else UNLISTED,
                showlegend=legend and key not in self._named,
                hovertemplate=f"{shown}<br>%{{x:.4g}}: %{{y:.4g}}<extra></extra>",
            ),
            **self.at,
        )
        if legend:
            self._named.add(key)

    def intervals(
        self,
        x: Sequence[float] | np.ndarray,
        intervals: Sequence[Interval],
        name: str,
        color: str,
        **how: Any,
    ) -> None:
        """Values with their own intervals."""
        values = np.array([[e.value, e.low, e.high] for e in intervals], dtype=float)
        half = (values[:, 2] - values[:, 1]) / 2
        error = half if np.isfinite(half).all() else None
        self.line(x, values[:, 0], name, color, error=error, **how)

    def theory(
        self, x: Sequence[float] | np.ndarray, y: Sequence[float], name: str, color: str = GREY
    ) -> None:
        """A line that was not fitted."""
        self.line(x, y, name, color, dash="dot", mode="lines", width=1.5, symbol=None)

    def band(
        self,
        x: Sequence[float] | np.ndarray,
        low: Sequence[float] | np.ndarray,
        high: Sequence[float] | np.ndarray,
        color: str,
        group: str,
        name: str | None = None,
    ) -> None:
        """What lies between two curves, as one closed outline.

        Args:
            group, name: of the curve that it is hidden and shown with.
        """
        import plotly.graph_objects as go

        self.figure.add_trace(
            go.Scatter(
                x=[*map(float, x), *map(float, x[::-1])],
                y=[*map(float, high), *map(float, low[::-1])],
                mode="lines",
                fill="toself",
                fillcolor=faded(color, 0.18),
                line={"width": 0},
                hoverinfo="skip",
                name=name,
                meta=UNLISTED,
                showlegend=False,
                legendgroup=group,
            ),
            **self.at,
        )


def power(
    sizes: Sequence[float], through: float, slope: float
) -> tuple[Sequence[float], list[float]]:
    """A line of the given exponent that begins at ``through``."""
    return sizes, [through * (s / sizes[0]) ** slope for s in sizes]
