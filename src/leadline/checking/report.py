"""The result of a check: rows, verdicts, text, figure, page."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from leadline.checking.exponents import Exponent
from leadline.checking.wording import exponents_csv, losses_table, meanings
from leadline.disk.plain import plain
from leadline.reporting.commands import offered
from leadline.reporting.page import Drawing, Page, Section, Table, facts
from leadline.reporting.panels import BLUE, GREY, ORANGE, PURPLE, Panels
from leadline.reporting.progress import duration
from leadline.tabular.notebook import Plotted
from leadline.tabular.tables import text_table, wrapped

if TYPE_CHECKING:
    import plotly.graph_objects as go

_SEES = (
    "A check sees a few steps at small sizes. It cannot see instabilities late in training, optima that "
    "move with the data or the duration, or sizes beyond those it trained."
)

# Characters of a parameter's name, and failures, in the text.
_NAME, _SHOWN = 32, 8
FAILED = ("collapsed", "exploding")
_OPEN = ("transient", "minor", "inconclusive")
DRAWN = ("change", "own update", "effect on output")


@dataclass(frozen=True)
class Row:
    """One exponent.

    Attributes:
        parameter: template of a parameter, or of a block for the stream.
        place: input, hidden, readout, vector, finite, or inner 1/2, last 2/2 of a branch, stream.
        axis: width or depth.
        expected: the exponent that the scheme promises, relative to the base's parametrization.
        verdict: ok; collapsed or exploding, which fail; inconclusive, which leaves the check undecided;
            transient, outside the band only as far as a base that is too shallow explains; minor, open but
            without weight (``part``) at up to 16 times the largest size; lazy, not lazy, n/a.
        sizes, values: the axis' sizes, and means over seeds of the quantity; effects on the output are
            relative to the median of the layers'.
        part: the layer's largest part in the change of the output.
    """

    parameter: str
    place: str
    quantity: str
    axis: str
    exponent: Exponent | None
    expected: float | None
    verdict: str
    sizes: tuple[int, ...]
    values: tuple[float, ...]
    part: float | None = None

    @property
    def key(self) -> tuple[str, str, str]:
        """Parameter, quantity and axis."""
        return self.parameter, self.quantity, self.axis

    @property
    def scaled(self) -> tuple[float, ...]:
        """Values over the expected power and over the base's value: 1 at all sizes is right."""
        assert self.expected is not None
        first = self.values[0] if self.values[0] > 0 else 1.0
        sizes = [size / self.sizes[0] for size in self.sizes]
        pairs = zip(self.values, sizes, strict=True)
        return tuple(v / first * size**-self.expected for v, size in pairs)

    def cells(self) -> list[str]:
        """The row of a table: its key, the exponent, its interval, and the expected one."""
        e = self.exponent
        return [
            *(self.parameter, self.place, self.quantity, self.axis),
            "–" if e is None else f"{e.value:+.2f}",
            "–" if e is None else f"{e.low:+.2f}…{e.high:+.2f}",
            "–" if self.expected is None else f"{self.expected:+.2g}",
        ]


@dataclass(frozen=True)
class CheckReport(Plotted):
    """The result of ``check``.

    Attributes:
        verdict: "failed" if something collapsed, exploded or lost its ratios; "undecided" if an exponent
            that matters has an interval too wide for its band; otherwise "passed".
        exit_code: 0 passed, 1 failed, 3 undecided.
        ok: nothing failed; it may be undecided.
        lost: optimizer settings that are not the plan's, by parameter.
        losses: final loss by (axis, size), means over seeds.
        lr: the base's learning rate that was used.
        seeds: of every size.
        seconds: of the check.
        steps: that were trained, each counted by its part of the learning rate.
        remedy: options that would decide, where it is undecided. remedy_seconds: that they add, about.
    """

    rows: tuple[Row, ...]
    lost: tuple[str, ...]
    losses: dict[str, dict[int, float]]
    notes: tuple[str, ...]
    lr: float
    title: str
    seeds: int = 0
    seconds: float = 0.0
    remedy: str | None = None
    remedy_seconds: float = 0.0
    steps: float = 0.0

    @property
    def ok(self) -> bool:
        """Did nothing fail? What is undecided does not fail: ``verdict`` says."""
        return not self.lost and not any(r.verdict in FAILED for r in self.rows)

    @property
    def verdict(self) -> str:
        """passed, failed or undecided."""
        if not self.ok:
            return "failed"
        clear = not any(r.verdict == "inconclusive" for r in self.rows)
        return "passed" if clear and self._moved else "undecided"

    @property
    def _moved(self) -> bool:
        """Did the output change, over every axis? Where it did not, nothing was measured."""
        moved = [r.exponent is not None for r in self.rows if r.quantity == "change of output"]
        return bool(moved) and all(moved)

    @property
    def exit_code(self) -> int:
        """0, 1 or 3."""
        return {"passed": 0, "failed": 1, "undecided": 3}[self.verdict]

    @property
    def answer(self) -> str:
        """What to do, in a sentence."""
        if self.verdict == "passed":
            return "Every layer that matters scales as it should at these sizes."
        if self.verdict == "failed":
            return f"Do not carry hyperparameters over with this: {self.failures[0]}"
        if not self._moved:
            remedy = "Run again with a larger learning rate, lr= (--lr)."
            return f"Training did not change the output, so nothing is known of it. {remedy}"
        count = sum(r.verdict == "inconclusive" for r in self.rows)
        whole = self.seconds + self.remedy_seconds
        # Half as much again for what the next step leaves open.
        limit = max(300, 100 * math.ceil(1.5 * whole / 100))
        return (
            f"To decide the {count} exponents that are open, run again with {self.remedy}, about "
            f"{duration(whole)}; or with until_decided={limit} (--until-decided {limit}), which adds what "
            "it needs by itself."
        )

    @property
    def failures(self) -> tuple[str, ...]:
        """One line for each failure, the layer first."""
        return (*self.lost, *(_failure(r) for r in self.rows if r.verdict in FAILED))

    @property
    def counts(self) -> str:
        """How many exponents have each verdict."""
        verdicts = [r.verdict for r in self.rows]
        count = {v: verdicts.count(v) for v in ("ok", *FAILED, *_OPEN)}
        return ", ".join(f"{n} {v}" for v, n in count.items() if n)

    @property
    def table(self) -> str:
        """A table of every exponent."""
        return _text(self.rows)

    def __str__(self) -> str:
        head = "FAILED" if self.verdict == "failed" else self.verdict
        said = [self.answer, *self.failures[1:_SHOWN]]
        if len(self.failures) > _SHOWN:
            said.append(f"and {len(self.failures) - _SHOWN} more: report.failures")
        for axis, by_size in self.losses.items():
            shown = ", ".join(f"{s}: {v:.4g}" for s, v in by_size.items())
            said.append(f"loss after the steps, by {axis}: {shown}")
        lines = wrapped(
            f"{self.title}: {head} ({self.counts}; base learning rate {self.lr:.3g}, {self.seeds} seeds, "
            f"{duration(self.seconds)})"
        )
        for text in (*said, *self.notes, _SEES):
            lines += wrapped(text, "  ")
        shown = tuple(r for r in self.rows if r.verdict in (*FAILED, "inconclusive", "lazy"))
        if shown:
            lines += ["", _narrow(shown)]
        return "\n".join(
            [*lines, "", "`report.table` has every exponent, `report.figure()` draws them"]
        )

    def to_json(self) -> str:
        """The whole report as JSON."""
        data = {
            "verdict": self.verdict,
            "answer": self.answer,
            "ok": self.ok,
            "seeds": self.seeds,
            "steps": self.steps,
            "seconds": self.seconds,
            "remedy": self.remedy,
            "remedy_seconds": self.remedy_seconds,
            "title": self.title,
            "failures": list(self.failures),
            "rows": [asdict(r) for r in self.rows],
            "losses": self.losses,
            "notes": list(self.notes),
            "lr": self.lr,
        }
        return json.dumps(plain(data))

    def figure(self) -> go.Figure:
        """Quantities over their expected powers against width and depth: flat curves are right."""
        return check_figure(self)


_HEAD = ("parameter", "place", "quantity", "axis", "exponent", "95 %", "expected")


def _text(rows: tuple[Row, ...]) -> str:
    body = []
    for r in rows:
        slopes = "–" if r.exponent is None else " ".join(f"{s:+.2f}" for s in r.exponent.slopes)
        body.append([*r.cells(), slopes, r.verdict])
    return text_table([*_HEAD, "local", "verdict"], body, left=4)


def _narrow(rows: tuple[Row, ...]) -> str:
    """What needs attention, within a terminal: names that are long keep their ends."""
    body = []
    for r in rows:
        name, e = r.parameter, r.exponent
        name = name if len(name) <= _NAME else f"…{name[1 - _NAME :]}"
        interval = "–" if e is None else f"{e.value:+.2f} [{e.low:+.2f}, {e.high:+.2f}]"
        target = "–" if r.expected is None else f"{r.expected:+.2g}"
        body.append([name, r.quantity, r.axis, interval, target, r.verdict])
    head = ["parameter", "quantity", "axis", "exponent, 95 %", "expected", "verdict"]
    return text_table(head, body, left=3)


def _failure(r: Row) -> str:
    e = r.exponent
    assert e is not None
    return (
        f"{r.parameter} ({r.place}): its {r.quantity} goes as {r.axis}^{e.value:+.2f} "
        f"[{e.low:+.2f}, {e.high:+.2f}], expected {r.expected:+.2g}: {r.verdict}"
    )


# Told apart by symbol too.
_STYLES = {
    "ok": (BLUE, "circle"),
    "transient": (BLUE, "circle-open"),
    "minor": (GREY, "circle"),
    "inconclusive": (GREY, "circle-open"),
    "collapsed": (PURPLE, "triangle-down"),
    "exploding": (ORANGE, "triangle-up"),
}


def _drawn(report: CheckReport) -> list[Row]:
    """Rows with curves, those that are as expected first: below the others, and first in legends."""
    shown = (r for r in report.rows if r.quantity in DRAWN)
    rows = [r for r in shown if r.exponent is not None and r.expected is not None]
    return sorted(rows, key=lambda r: [*_STYLES].index(r.verdict))


def check_figure(report: CheckReport) -> go.Figure:
    """Log-log panels, quantities by axes."""
    axes, drawn = list(dict.fromkeys(r.axis for r in report.rows)), _drawn(report)
    places = [(q, a) for q in DRAWN for a in axes]
    panels = Panels([f"{q} over {a}" for q, a in places], columns=len(axes), row_height=280)
    # One scale for all, and no narrower than a factor of two either way: small wiggles look small.
    heights = [abs(math.log10(y)) for r in drawn for y in r.scaled if y > 0 and math.isfinite(y)]
    top = 1.05 * max([*heights, math.log10(2)])
    for i, (quantity, axis) in enumerate(places):
        sizes = sorted({x for r in drawn if r.axis == axis for x in r.sizes})
        below = axis if quantity == DRAWN[-1] else ""
        beside = "over expected, base = 1" if axis == axes[0] else ""
        panels.panel(i, below, beside, sizes=sizes, log_y=True)
        panels.figure.update_yaxes(range=[-top, top], **panels.at)
        for r in drawn:
            if (r.quantity, r.axis) == (quantity, axis):
                color, symbol = _STYLES[r.verdict]
                label = f"{r.parameter} ({r.place})"
                panels.line(r.sizes, r.scaled, r.verdict, color, symbol=symbol, label=label)
    panels.figure.add_hline(y=1, line=dict(dash="dash", color=GREY, width=1))
    panels.title(f"{report.title}: {report.verdict}")
    return panels.figure


def check_page(report: CheckReport, command: str = "") -> Page:
    """The verdict, every exponent, and the curves they were fitted to."""
    counted = report.counts
    drawing = Drawing(
        check_figure(report),
        "Every quantity over width and depth, divided by the expected power: flat is right",
        f"{len(_drawn(report))} curves, one a parameter and quantity, in log–log panels: {counted}. "
        "The table below has every exponent.",
    )
    section = Section(
        title="Do the layers scale as they should?",
        anchor="check",
        sentence="Each parameter’s change, its own update and its effect on the output go with width and "
        "depth as the scheme says.",
        verdict=report.verdict,
        number=f"exponents: {counted}" if counted else "",
        figures=(drawing,),
        paragraphs=report.notes,
        tables=(*_failures(report), _exponents(report), *losses_table(report.losses)),
        command=command,
        downloads=(("exponents.csv", exponents_csv(report.rows)),),
    )
    rate = {"Base learning rate": f"{report.lr:.3g}"}
    title = report.title[:1].upper() + report.title[1:]
    answer = (f"{report.verdict.capitalize()}. {report.answer}",)
    commands = offered(command, report.remedy) if report.verdict == "undecided" else ()
    return Page(title, (), (section,), facts(command, rate), answer=answer, commands=commands)


def _failures(report: CheckReport) -> tuple[Table, ...]:
    rows = [f.partition(": ")[::2] for f in report.failures]
    return (Table(("layer", "what is wrong"), rows, "What failed"),) if rows else ()


def _exponents(report: CheckReport) -> Table:
    # What needs attention comes first.
    rows = sorted(report.rows, key=lambda r: (r.verdict not in FAILED, r.verdict != "inconclusive"))
    cells = [(*r.cells(), r.verdict) for r in rows]
    explained = meanings(r.verdict for r in rows)
    return Table((*_HEAD, "verdict"), cells, f"Exponents of width and depth. {explained}")
