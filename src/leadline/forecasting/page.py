"""A forecast as a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from leadline.forecasting.answers import PredictedLoss
from leadline.forecasting.figure import curves, shown_axes
from leadline.forecasting.figure_frontier import frontier_figure, isoflop_figure
from leadline.forecasting.frontier import Best, Frontier
from leadline.forecasting.profiles import Profiles
from leadline.forecasting.result import Forecast
from leadline.forecasting.words import WAYS, candidate_cells, number_rows, outlier_lines
from leadline.reporting.page import Drawing, Page, Section, Table, facts
from leadline.tabular.tables import table_csv


def forecast_page(
    made: Forecast,
    command: str = "",
    predictions: Mapping[str, PredictedLoss] | None = None,
    best: Sequence[Best] = (),
    frontier: Frontier | None = None,
    profiles: Profiles | None = None,
) -> Page:
    """The law with its floor, what follows from it, and the candidates."""
    candidates = Section(
        title="Candidates",
        anchor="candidates",
        sentence="The law is the simplest of those that their fit does not reject and that predict the "
        "largest sizes from the smaller ones as well as the best of them.",
        tables=(Table(*candidate_cells(made), "Laws that were tried"),),
    )
    answers, said = [], []
    for name, loss in (predictions or {}).items():
        answers.append((f"loss at {name}", *loss.cells()))
        said += [f"Loss at {name}: {_said(loss)}."] * bool(_said(loss))
    for b in best:
        answers += [(f"best {axis} for {b.budget:g}", *x.cells()) for axis, x in b.sizes.items()]
        answers.append((f"loss there, {b.budget:g}", *b.loss.cells()))
        said += [f"Best for {b.budget:g}: {_said(b.loss)}."] * bool(_said(b.loss))
    sections = [law_section(made, command)]
    if answers:
        sections.append(
            Section(
                title="Predictions",
                anchor="answers",
                paragraphs=tuple(said),
                tables=(Table(("", "value", "low", "high"), answers, "Predictions"),),
            )
        )
    if frontier is not None:
        sections.append(_frontier(frontier))
    if profiles is not None:
        sections.append(_profiles(profiles))
    answer = _answer(made, predictions or {})
    return Page("Forecast of the loss", (), (*sections, candidates), facts(command), answer=answer)


def _answer(made: Forecast, predictions: Mapping[str, PredictedLoss]) -> tuple[str, ...]:
    """The losses that were wanted, or where the loss ends."""
    said = []
    for name, loss in predictions.items():
        value, low, high = loss.cells()
        open_ = "Undecided: loss" if loss.undecided else "Loss"
        said.append(f"{open_} at {name}: {value} [{low}, {high}].")
    if said:
        return tuple(said)
    if made.floor.value > 0:
        return (f"No size gets below a loss of {made.floor:.4g}.",)
    return ("These runs show no floor: the loss falls as far as they reach.",)


def _said(loss: PredictedLoss) -> str:
    """Whether a loss is undecided and why, and how far outside the runs it lies."""
    undecided = f"undecided, {loss.undecided}" if loss.undecided else ""
    return "; ".join(filter(None, (undecided, loss.beyond)))


def law_section(made: Forecast, command: str) -> Section:
    """The law, its figure, numbers, outliers and notes."""
    runs = made.runs
    floor = f"floor {made.floor:.4g}"
    marks = [
        *["crosses are left out"] * any(o.left_out for o in made.outliers),
        *["dotted: the floor"] * (made.floor.value > 0),
        f"band {100 * made.confidence:g}\u00a0%",
        "below, what the law leaves",
    ]
    drawing = Drawing(
        made.figure(),
        f"Loss of the runs and the law, over {' and '.join(shown_axes(runs))}, runs moved along the law to "
        f"the sizes of their curve; {'; '.join(marks)}",
        f"Log–log panels: points are runs, lines the law loss = {made.law}, which falls to its {floor}; "
        "under them the residuals in percent.",
    )
    return Section(
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
            f"Read: {runs.read}. Fitted to {len(runs)} runs of {runs.cells} sizes; intervals are "
            f"{100 * made.confidence:g} %, by {WAYS[made.resampled]}.",
            *outlier_lines(made.outliers),
            *made.notes,
        ),
        tables=(Table(("", "value", "low", "high"), number_rows(made), "The law’s numbers"),),
        command=command,
        downloads=(("curves.csv", _csv(made)), ("runs.csv", _runs(made))),
    )


def _frontier(frontier: Frontier) -> Section:
    axes = list(frontier.points[0].sizes)
    rows = [
        (f"{p.budget:.3g}", *(f"{p.sizes[a]:.3g}" for a in axes), f"{p.loss:.4g}")
        for p in frontier.points
    ]
    table = Table(("cost", *axes, "loss"), rows, "Best sizes")
    # Sentences, which a narrow column of the table would hide.
    said = [f"Cost {p.budget:.3g}: {_said(p.loss)}." for p in frontier.points if _said(p.loss)]
    drawing = Drawing(
        frontier_figure(frontier),
        f"Best sizes over the cost {frontier.formula}; dotted: the cheapest and the dearest run",
        f"Log–log panels over the cost: {frontier}.",
    )
    held = ", ".join(f"{a} {x:.4g}" for a, x in frontier.held.items())
    return Section(
        title="Best sizes for a budget",
        anchor="frontier",
        sentence=str(frontier),
        figures=(drawing,),
        paragraphs=(*((f"Held: {held}.",) if held else ()), *said),
        tables=(table,),
    )


def _profiles(profiles: Profiles) -> Section:
    rows = [
        (f"{p.cost:.4g}", len(p.x), "–" if p.best is None else f"{p.best:.4g}",
         "–" if p.least is None else f"{p.least:.4g}")
        for p in profiles.profiles
    ]  # fmt: skip
    drawing = Drawing(
        isoflop_figure(profiles),
        "Runs of one cost with the parabola near their minimum, and the minima over the cost",
        f"Two log–log panels: {profiles}.",
    )
    return Section(
        title="IsoFLOP profiles",
        anchor="isoflop",
        sentence=str(profiles),
        figures=(drawing,),
        tables=(Table(("cost", "runs", f"best {profiles.axis}", "loss"), rows, "Minima"),),
    )


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
    far = {o.index for o in made.outliers if o.left_out}
    law = made.laws[0].values(made.runs.sizes)[0].tolist()
    return table_csv(
        [
            dict(zip([*sizes, "loss", "law", "left_out"], [*row, i in far], strict=True))
            for i, row in enumerate(zip(*sizes.values(), made.runs.loss.tolist(), law, strict=True))
        ]
    )
