"""Curves of losses as plain data, and what is made of them: panels, CSV, words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypedDict

import numpy as np

from leadline.reporting.panels import BLUE, GREY, ORANGE, Panels, ramp, ticks
from leadline.reporting.tables import table_csv

_COLORS = {"reused": BLUE, "independent": ORANGE, "train": BLUE, "test": ORANGE}
_SYMBOLS = {"reused": "circle", "independent": "diamond"}


class Series(TypedDict):
    """One curve.

    panel: "train" and "test" (loss over step), "size" (final loss over width), "gap" (to the limit,
    over width). role: "limit", "reference", "lazy", "finite" or "result". shade: 0 (smallest size)
    to 1 (largest, and limits). error: half-widths of about 95 %, or None.
    """

    name: str
    panel: str
    role: str
    coupling: str | None
    shade: float
    x: list[float]
    y: list[float]
    error: list[float] | None


def series(
    name: str,
    panel: str,
    role: str,
    coupling: str | None,
    shade: float,
    x: Iterable[float],
    y: Iterable[float],
    error: Iterable[float] | None,
) -> Series:
    """One curve, None as NaN."""
    return Series(
        name=name,
        panel=panel,
        role=role,
        coupling=coupling,
        shade=shade,
        x=_list(x),
        y=_list(y),
        error=None if error is None else _list(error),
    )


def _list(x: Iterable[Any]) -> list[float]:
    return [float(v) for v in np.asarray([np.nan if v is None else v for v in x], dtype=float)]


def draw(panels: Panels, index: int, curves: Sequence[Series]) -> None:
    """The curves in one panel; its vertical axis is logarithmic where everything is positive."""
    panel = curves[0]["panel"] if curves else "train"
    y = np.array([v for s in curves for v in s["y"]])
    y = y[np.isfinite(y)]
    log = bool(y.size and (y > 0).all())
    label = "RMS loss difference" if panel == "gap" else "loss, mean over samples"
    widths = sorted({v for s in curves for v in s["x"]}) if panel in ("size", "gap") else None
    panels.panel(
        index, "step" if widths is None else "width n, neurons", label, sizes=widths, log_y=log
    )
    if log:
        panels.figure.update_yaxes(**ticks(float(np.log10(y.max() / y.min()))), **panels.at)
    for s in curves:
        _curve(panels, s)


def _curve(panels: Panels, s: Series) -> None:
    group = s["coupling"] or "lazy"
    how: dict[str, Any]
    color = GREY
    if s["coupling"] is not None:
        shade = s["shade"] * (0.75 if s["role"] == "finite" else 1.0)
        color = ramp(_COLORS.get(s["coupling"], BLUE), shade)
    if s["role"] == "finite":
        error = s["error"] if s["panel"] == "size" else None
        how = {"symbol": _SYMBOLS[group], "error": error, "width": 1}
    else:
        _band(panels, s, color, group)
        dash = {"lazy": "dot", "reference": "dash"}.get(s["role"], "solid")
        how = {"dash": dash, "mode": "lines", "width": 2.5}
    legend = not s["name"].startswith("networks")
    panels.line(s["x"], s["y"], s["name"], color, group=group, legend=legend, **how)
    title = None if s["role"] in ("lazy", "result") else group
    panels.figure.data[-1].legendgrouptitle = {"text": title}


def _band(panels: Panels, s: Series, color: str, group: str) -> None:
    """The error band; on a logarithmic axis it must stay above 0."""
    if s["error"] is None:
        return
    x, y, e = (np.array(v) for v in (s["x"], s["y"], s["error"]))
    ok = np.isfinite(y) & np.isfinite(e)
    if not ok.any() or not e[ok].any():
        return
    x, y, e = x[ok], y[ok], e[ok]
    low = np.maximum(y - e, 0.02 * y) if (y > 0).all() else y - e
    panels.band(x, low, y + e, color, group)


def curves_csv(curves: Iterable[Series]) -> str:
    """Every point of every curve."""
    return table_csv(
        [
            dict(panel=c["panel"], curve=c["name"], coupling=c["coupling"], x=x, y=y, error=e)
            for c in curves
            for x, y, e in zip(c["x"], c["y"], c["error"] or [None] * len(c["x"]), strict=True)
        ]
    )


def in_words(curves: Sequence[Series]) -> str:
    """The ends of the loss curves."""
    out = []
    for c in curves:
        if c["panel"] in ("train", "test", "loss") and c["y"]:
            name = c["name"] if c["panel"] == "loss" else f"{c['panel']} loss, {c['name']}"
            if c["coupling"] in ("reused", "independent") and c["coupling"] not in name:
                name += f" ({c['coupling']})"
            out.append(f"{name}: from {c['y'][0]:.3g} to {c['y'][-1]:.3g}")
    return "; ".join(out) + "."
