"""What a check found: rows, verdicts, text, figure."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from leadline.checking.fits import BAND, Exponent
from leadline.disk.plain import plain
from leadline.reporting.tables import text_table

if TYPE_CHECKING:
    import plotly.graph_objects as go

_SEES = (
    "A check sees a few steps at small sizes. It cannot see instabilities late in training, optima that "
    "move with the data or the duration, or sizes beyond those it trained."
)


FAILED = ("collapsed", "exploding")


@dataclass(frozen=True)
class Row:
    """One exponent.

    Attributes:
        parameter: template of a parameter, or of a block for the stream.
        place: input, hidden, readout, vector, finite, or inner 1/2, last 2/2 of a branch, stream.
        axis: width or depth.
        due: the exponent that the scheme asks for, relative to the base's parametrization.
        sizes, values: the axis' sizes, and means over seeds of the quantity.
    """

    parameter: str
    place: str
    quantity: str
    axis: str
    exponent: Exponent | None
    due: float | None
    verdict: str
    sizes: tuple[int, ...]
    values: tuple[float, ...]

    @property
    def key(self) -> tuple[str, str, str]:
        """What it is about."""
        return self.parameter, self.quantity, self.axis


@dataclass(frozen=True)
class CheckReport:
    """The result of ``check``.

    Attributes:
        ok: nothing collapsed, exploded or lost its ratios.
        lost: optimizer settings that are not the plan's, by parameter.
        losses: final loss by (axis, size), means over seeds.
        lr: the base's learning rate that was used.
    """

    rows: tuple[Row, ...]
    lost: tuple[str, ...]
    losses: dict[str, dict[int, float]]
    notes: tuple[str, ...]
    lr: float
    title: str

    @property
    def ok(self) -> bool:
        """Did everything pass? What is inconclusive does not fail, and is listed."""
        return not self.lost and not any(r.verdict in ("collapsed", "exploding") for r in self.rows)

    @property
    def failures(self) -> tuple[str, ...]:
        """One line for each failure, the layer first."""
        return (*self.lost, *(_failure(r) for r in self.rows if r.verdict in FAILED))

    @property
    def table(self) -> str:
        """Every exponent."""
        return self._table(self.rows)

    def _table(self, rows: tuple[Row, ...]) -> str:
        header = [
            "parameter",
            "place",
            "quantity",
            "axis",
            "exponent",
            "95 %",
            "due",
            "local",
            "verdict",
        ]
        body = []
        for r in rows:
            e = r.exponent
            body.append(
                [
                    *(r.parameter, r.place, r.quantity, r.axis),
                    "–" if e is None else f"{e.value:+.2f}",
                    "–" if e is None else f"{e.low:+.2f}…{e.high:+.2f}",
                    "–" if r.due is None else f"{r.due:+.2g}",
                    "–" if e is None else " ".join(f"{s:+.2f}" for s in e.slopes),
                    r.verdict,
                ]
            )
        return text_table(header, body, left=4)

    def __str__(self) -> str:
        verdicts = [r.verdict for r in self.rows]
        count = {v: verdicts.count(v) for v in ("ok", *FAILED, "inconclusive")}
        head = "passed" if self.ok else "FAILED"
        summary = ", ".join(f"{n} {v}" for v, n in count.items() if n)
        lines = [f"{self.title}: {head} ({summary}; base learning rate {self.lr:.3g})"]
        lines += [f"  {f}" for f in self.failures]
        undecided = [r for r in self.rows if r.verdict == "inconclusive"]
        if undecided:
            lines.append(
                f"  inconclusive: {len(undecided)} exponents with intervals wider than the band of "
                f"± {BAND}: more seeds=, or larger sizes, decide"
            )
        for axis, by_size in self.losses.items():
            shown = ", ".join(f"{s}: {v:.4g}" for s, v in by_size.items())
            lines.append(f"  loss after the steps, by {axis}: {shown}")
        lines += [f"  {n}" for n in self.notes]
        lines.append(f"  {_SEES}")
        shown = tuple(r for r in self.rows if r.verdict not in ("ok", "n/a", "not lazy"))
        if shown:
            lines += ["", self._table(shown)]
        return "\n".join(
            [*lines, "", "`report.table` has every exponent, `report.figure()` draws them"]
        )

    def to_json(self) -> str:
        """Everything."""
        data = {
            "ok": self.ok,
            "failures": list(self.failures),
            "rows": [asdict(r) for r in self.rows],
            "losses": self.losses,
            "notes": list(self.notes),
            "lr": self.lr,
        }
        return json.dumps(plain(data))

    def figure(self) -> go.Figure:
        """Quantities over their due powers against width and depth: flat curves are as due."""
        from leadline.checking.figure import check_figure

        return check_figure(self)


def _failure(r: Row) -> str:
    e = r.exponent
    assert e is not None
    return (
        f"{r.parameter} ({r.place}): its {r.quantity} goes as {r.axis}^{e.value:+.2f} "
        f"[{e.low:+.2f}, {e.high:+.2f}], due {r.due:+.2g}: {r.verdict}"
    )
