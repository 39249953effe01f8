"""What ``print(forecast)`` shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from leadline.tabular.tables import number, text_table

if TYPE_CHECKING:
    from leadline.forecasting.answers import LimitComparison
    from leadline.forecasting.choice import HeldOut
    from leadline.forecasting.outliers import Outlier
    from leadline.forecasting.runs import Runs
    from leadline.intervals import Interval

# Candidates and outliers that are printed.
_SHOWN = 6

WAYS = {
    "runs": "bootstrap over residuals of runs",
    "sizes": "bootstrap over residuals of sizes",
    "signs": "wild bootstrap: signs of residuals",
    "pairs": "bootstrap over runs",
    "groups": "bootstrap over trainings",
}


class FittedLaw(Protocol):
    """A forecast, as far as its words and its figure need it: the law, and the runs it was fitted to."""

    @property
    def law(self) -> str: ...
    @property
    def floor(self) -> Interval: ...
    @property
    def runs(self) -> Runs: ...
    @property
    def outliers(self) -> Sequence[Outlier]: ...
    @property
    def confidence(self) -> float: ...


class Told(FittedLaw, Protocol):
    """A forecast, as far as its words need it."""

    @property
    def held_out(self) -> Sequence[HeldOut]: ...
    @property
    def resampled(self) -> str: ...
    @property
    def limit(self) -> LimitComparison | None: ...
    @property
    def notes(self) -> Sequence[str]: ...
    @property
    def gain(self) -> float: ...
    @property
    def exponents(self) -> dict[str, Interval]: ...
    @property
    def coefficients(self) -> dict[str, Interval]: ...
    def diminishing(self, axis: str) -> Interval: ...


def number_rows(forecast: Told) -> list[list[str]]:
    """The law's numbers as cells: floor, coefficients, exponents, where returns end."""
    rows = []
    if forecast.exponents:
        rows.append(["floor E", *forecast.floor.cells()])
    for axis, exponent in forecast.exponents.items():
        if axis in forecast.coefficients:
            rows.append([f"coefficient of {axis}", *forecast.coefficients[axis].cells()])
        rows.append([f"exponent of {axis}", *exponent.cells()])
    for axis in forecast.runs.axes:
        point = forecast.diminishing(axis)
        rows.append([f"{axis} where a doubling gains < {forecast.gain:g} %", *point.cells()])
    return rows


def forecast_text(forecast: Told) -> str:
    """What was read, the law, its numbers, the candidates, what was left out, the notes."""
    runs = forecast.runs
    head = f"loss = {forecast.law}"
    read = f"{runs.read}: " if runs.read else ""
    about = (
        f"{read}{len(runs)} runs, {runs.cells} sizes; intervals {forecast.confidence:.0%}, "
        f"{WAYS[forecast.resampled]}"
    )
    lines = [about, "", head, "", text_table(["", "value", "low", "high"], number_rows(forecast))]
    if forecast.limit is not None:
        lines += ["", f"The floor {forecast.limit}."]
    lines += ["", *_candidates(forecast)]
    if forecast.outliers:
        lines += ["", *outlier_lines(forecast.outliers)]
    lines += ["", *(f"Note: {n}" for n in forecast.notes)] if forecast.notes else []
    return "\n".join(lines)


def outlier_lines(outliers: Sequence[Outlier]) -> list[str]:
    """Runs that are far off, one a line."""
    lines = []
    for o in outliers[:_SHOWN]:
        what = "left out" if o.left_out else "kept, it counts by its distance, not its square"
        lines.append(
            f"Outlier: {o.row}, loss {o.loss:.4g}, {o.factor:.3g} times the law "
            f"({o.deviations:+.1f} standard deviations): {what}."
        )
    more = len(outliers) - _SHOWN
    return lines + ([f"  and {more} more"] if more > 0 else [])


def candidate_cells(forecast: Told) -> tuple[list[str], list[list[str]]]:
    """Header and rows: the chosen law, then the best candidates."""
    order = sorted(
        forecast.held_out,
        key=lambda r: (not r.chosen, r.error is None, r.error or 0.0, -r.rejected),
    )
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


def _candidates(forecast: Told) -> list[str]:
    header, rows = candidate_cells(forecast)
    more = len(rows) - _SHOWN
    return [text_table(header, rows[:_SHOWN])] + ([f"  and {more} more"] if more > 0 else [])
