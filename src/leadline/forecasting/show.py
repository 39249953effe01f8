"""A forecast as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from leadline.intervals import Interval
from leadline.reporting.tables import number, text_table

if TYPE_CHECKING:
    from leadline.forecasting.result import Forecast

_SHOWN = 6


def text(forecast: Forecast) -> str:
    """What ``print(forecast)`` shows."""
    runs = forecast.runs
    unit = {"runs": "residuals of runs", "sizes": "residuals of sizes"}[forecast.resampled]
    head = (
        f"loss = {forecast.law}   ({len(runs)} runs, {runs.cells} sizes; intervals "
        f"{forecast.confidence:.0%}, bootstrap over {unit})"
    )
    rows = [_row("floor E", forecast.floor)]
    for axis in forecast.terms:
        rows.append(_row(f"coefficient of {axis}", forecast.coefficients[axis]))
        rows.append(_row(f"exponent of {axis}", forecast.exponents[axis]))
    for axis in runs.axes:
        point = forecast.diminishing(axis)
        rows.append(_row(f"{axis} where a doubling gains < {forecast.gain:g} %", point))
    lines = [head, "", text_table(["", "value", "low", "high"], rows)]
    if forecast.limit is not None:
        lines += ["", f"The floor {forecast.limit}."]
    lines += ["", *_candidates(forecast)]
    lines += ["", *(f"Note: {n}" for n in forecast.notes)] if forecast.notes else []
    return "\n".join(lines)


def _row(name: str, x: Interval) -> list[str]:
    return [name, *x.cells()]


def candidate_cells(forecast: Forecast) -> tuple[list[str], list[list[str]]]:
    """Header and rows: the chosen law, then the best candidates."""
    order = sorted(forecast.held_out, key=lambda r: (not r.chosen, r.error is None, r.error or 0.0))
    rows = [
        [
            ("→ " if r.chosen else "  ") + r.law,
            str(r.parameters),
            "–" if r.error is None else f"{100 * r.error:.3g} %",
            f"{r.rejected:.2g}",
            number(r.floor, 4),
        ]
        for r in order
    ]
    return ["  law", "parameters", "held-out error", "p of its fit", "floor"], rows


def _candidates(forecast: Forecast) -> list[str]:
    header, rows = candidate_cells(forecast)
    more = len(rows) - _SHOWN
    return [text_table(header, rows[:_SHOWN])] + ([f"  and {more} more"] if more > 0 else [])
