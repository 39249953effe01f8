"""A transfer as a page."""

from __future__ import annotations

import re

from leadline.reporting.page import Drawing, Page, Section, Table
from leadline.reporting.page_facts import facts
from leadline.reporting.page_results import table_csv
from leadline.transferring.analysis import AxisResult
from leadline.transferring.figure import transfer_figure
from leadline.transferring.result import Transfer, stable_rate


def transfer_page(result: Transfer, command: str = "") -> Page:
    """The landscapes of all schemes, then each scheme over each axis."""
    best = "; ".join(
        f"{a.scheme} over {a.axis}: best rate " + ", ".join(f"{s.lr.value:.3g}" for s in a.sizes)
        for a in result.axes
    )
    metric = result.metric.replace("_", " ")
    landscapes = Section(
        title="Loss against the learning rate",
        anchor="landscapes",
        figures=(
            Drawing(
                transfer_figure(result),
                f"{metric.capitalize()} against the base’s learning rate, a curve for every size, mean "
                "and range over seeds; dotted: the best rate",
                f"Log–log panels by scheme and axis. {best}.",
            ),
        ),
        command=command,
        downloads=(("runs.csv", table_csv(_same_keys(result.rows))),),
    )
    axes = tuple(_axis(a, metric, i) for i, a in enumerate(result.axes))
    lead = (
        "Does the best learning rate of a small network serve larger ones, and what is lost by it?"
    )
    return Page("Transfer of the learning rate", (lead,), (landscapes, *axes), facts(command))


def _axis(a: AxisResult, metric: str, i: int) -> Section:
    head = (
        a.axis,
        "best rate",
        f"{metric} there",
        "at the base’s rate",
        "regret",
        "sharpness",
        "stable to",
        "grid",
    )
    rows = [
        (s.size, s.lr, s.loss, s.at_base, s.regret, s.sharpness, stable_rate(s.stable.value),
         f"ends {s.edge}" if s.edge else "–")
        for s in a.sizes
    ]  # fmt: skip
    slug = re.sub(r"[^a-z0-9]+", "-", f"{a.scheme}-{a.axis}".lower()).strip("-")
    known = a.drift.low == a.drift.low
    return Section(
        title=f"{a.scheme} over {a.axis}",
        anchor=f"axis-{i + 1}-{slug}",
        verdict=a.verdict,
        number="drift, doublings of the best rate per doubling of the size",
        value=a.drift.value if a.drift.value == a.drift.value else None,
        low=a.drift.low if known else None,
        high=a.drift.high if known else None,
        paragraphs=(
            f"{a.reason[:1].upper()}{a.reason[1:]}.",
            f"Is the larger network better at the base’s rate? {a.monotone}.",
        ),
        tables=(Table(head, rows, "Sizes, with 95 % intervals over the grid and the seeds"),),
    )


def _same_keys(rows: tuple[dict[str, object], ...]) -> list[dict[str, object]]:
    keys = list(dict.fromkeys(k for row in rows for k in row))
    return [{k: row.get(k) for k in keys} for row in rows]
