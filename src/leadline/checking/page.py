"""A check as a page."""

from __future__ import annotations

from leadline.checking.figure import check_figure, curves
from leadline.checking.report import FAILED, CheckReport
from leadline.reporting.page import Drawing, Page, Section, Table
from leadline.reporting.page_facts import facts
from leadline.reporting.page_results import table_csv


def check_page(report: CheckReport, command: str = "") -> Page:
    """The verdict, every exponent, and the curves they were fitted to."""
    verdicts = [r.verdict for r in report.rows]
    count = {v: verdicts.count(v) for v in ("ok", *FAILED, "inconclusive")}
    counted = ", ".join(f"{n} {v}" for v, n in count.items() if n)
    drawing = Drawing(
        check_figure(report),
        "Every quantity over width and depth, divided by the power that is due: flat is right",
        f"{len(curves(report))} curves, one a parameter and quantity, in log–log panels: {counted}. "
        "The table below has every exponent.",
    )
    found = Section(
        title="Do the layers scale as they should?",
        anchor="check",
        sentence="Each parameter’s change, its own update and its effect on the output go with width and "
        "depth as the scheme says.",
        verdict="passed" if report.ok else "failed",
        number=f"exponents: {counted}" if counted else "",
        figures=(drawing,),
        paragraphs=report.notes,
        tables=(*_failures(report), _exponents(report), *_losses(report)),
        command=command,
        downloads=(("exponents.csv", _csv(report)),),
    )
    rate = {"Base learning rate": f"{report.lr:.3g}"}
    return Page(report.title[:1].upper() + report.title[1:], (), (found,), facts(command, rate))


def _failures(report: CheckReport) -> tuple[Table, ...]:
    rows = [f.partition(": ")[::2] for f in report.failures]
    return (Table(("layer", "what is wrong"), rows, "What failed"),) if rows else ()


def _exponents(report: CheckReport) -> Table:
    head = ("parameter", "place", "quantity", "axis", "exponent", "95 %", "due", "verdict")
    rows = []
    # What needs a look comes first.
    for r in sorted(report.rows, key=lambda r: r.verdict not in FAILED):
        e = r.exponent
        value = "–" if e is None else f"{e.value:+.2f}"
        bounds = "–" if e is None else f"{e.low:+.2f}…{e.high:+.2f}"
        due = "–" if r.due is None else f"{r.due:+.2g}"
        rows.append((r.parameter, r.place, r.quantity, r.axis, value, bounds, due, r.verdict))
    return Table(head, rows, "Exponents of width and depth")


def _losses(report: CheckReport) -> tuple[Table, ...]:
    rows = [(a, s, f"{v:.4g}") for a, sizes in report.losses.items() for s, v in sizes.items()]
    return (Table(("axis", "size", "loss"), rows, "Loss after the steps"),) if rows else ()


def _csv(report: CheckReport) -> str:
    """One row a parameter, quantity, axis and size."""
    return table_csv(
        [
            dict(parameter=r.parameter, place=r.place, quantity=r.quantity, axis=r.axis, due=r.due,
                 verdict=r.verdict, size=s, value=v)
            for r in report.rows
            for s, v in zip(r.sizes, r.values, strict=True)
        ]
    )  # fmt: skip
