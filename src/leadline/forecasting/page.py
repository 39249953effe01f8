"""A forecast as a page."""

from __future__ import annotations

from collections.abc import Mapping

from leadline.forecasting.answers import Best
from leadline.forecasting.figure import curves, shown_axes
from leadline.forecasting.result import Forecast, candidate_cells
from leadline.intervals import Interval
from leadline.reporting.page import Drawing, Page, Section, Table, facts
from leadline.reporting.tables import table_csv


def forecast_page(
    made: Forecast,
    command: str = "",
    predictions: Mapping[str, Interval] | None = None,
    best: Best | None = None,
) -> Page:
    """The law with its floor, what follows from it, and the candidates."""
    runs = made.runs
    floor = f"floor {made.floor:.4g}"
    drawing = Drawing(
        made.figure(),
        f"Loss of the runs and the law, over {' and '.join(shown_axes(runs))}; dotted: the floor; "
        f"bands {100 * made.confidence:g} %",
        f"Log–log panels: points are runs, lines the law loss = {made.law}, which falls to its {floor}.",
    )
    law = Section(
        title="The law",
        anchor="law",
        sentence=f"loss = {made.law}",
        verdict=None if made.limit is None else "agrees" if made.limit.agrees else "contradicts",
        number="the floor: loss at infinite size",
        value=made.floor.value,
        low=made.floor.low,
        high=made.floor.high,
        figures=(drawing,),
        paragraphs=(
            *([f"The floor {made.limit}."] if made.limit is not None else []),
            f"Fitted to {len(runs)} runs of {runs.cells} sizes; intervals are {100 * made.confidence:g} %, "
            f"by bootstrap over residuals of {made.resampled}.",
            *made.notes,
        ),
        tables=(_numbers(made),),
        command=command,
        downloads=(("curves.csv", _csv(made)), ("runs.csv", _runs(made))),
    )
    candidates = Section(
        title="Candidates",
        anchor="candidates",
        sentence="The law is the one that predicts the largest sizes best from the smaller ones.",
        tables=(Table(*candidate_cells(made), "Laws that were tried"),),
    )
    answers = [(f"loss at {k}", *i.cells()) for k, i in (predictions or {}).items()]
    if best is not None:
        answers += [(f"best {k}", *getattr(best, k).cells()) for k in ("width", "depth", "loss")]
    predicted = Section(
        title="What was asked",
        anchor="answers",
        tables=(Table(("", "value", "low", "high"), answers, "Predictions"),),
    )
    sections = (law, predicted, candidates) if answers else (law, candidates)
    return Page("Forecast of the loss", (), sections, facts(command))


def _numbers(made: Forecast) -> Table:
    rows = [("floor E", *made.floor.cells())]
    for axis in made.terms:
        rows.append((f"coefficient of {axis}", *made.coefficients[axis].cells()))
        rows.append((f"exponent of {axis}", *made.exponents[axis].cells()))
    for axis in made.runs.axes:
        name = f"{axis} where a doubling gains < {made.gain:g} %"
        rows.append((name, *made.diminishing(axis).cells()))
    return Table(("", "value", "low", "high"), rows, "The law’s numbers")


def _csv(made: Forecast) -> str:
    return table_csv(
        [
            dict(axis=axis, curve=c["name"], size=x, loss=y, low=low, high=high)
            for axis in shown_axes(made.runs)
            for c in curves(made.runs, made.laws, made.confidence, axis)
            for x, y, low, high in zip(c["x"], c["y"], c["low"], c["high"], strict=True)
        ]
    )


def _runs(made: Forecast) -> str:
    sizes = {k: v.tolist() for k, v in made.runs.sizes.items()}
    return table_csv(
        [
            dict(zip([*sizes, "loss"], row, strict=True))
            for row in zip(*sizes.values(), made.runs.loss.tolist(), strict=True)
        ]
    )
