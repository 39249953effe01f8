"""What ``transfer`` returns: as text and JSON, the figure people know, and a page."""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from leadline.disk.plain import plain
from leadline.errors import cut
from leadline.intervals import Interval
from leadline.reporting.commands import with_options
from leadline.reporting.page import Drawing, Page, Section, Table, facts
from leadline.reporting.page_figures import with_ticks
from leadline.reporting.panels import Panels, shades
from leadline.tabular.notebook import Plotted
from leadline.tabular.tables import number, table_csv, text_table, wrapped
from leadline.transferring.advice import exit_code, percents, sentence
from leadline.transferring.analysis import AxisResult
from leadline.transferring.landscapes import landscapes
from leadline.transferring.wording import NAMES, in_words, judged

if TYPE_CHECKING:
    import plotly.graph_objects as go


@dataclass(frozen=True)
class Transfer(Plotted):
    """Every scheme over every axis.

    Attributes:
        axes: one result for each scheme and axis.
        rows: the runs.
        metric: what was minimised: loss (training) or test_loss.
        notes: what was made of the runs' table.
        hyperparameter: the one that is judged: lr, weight_decay or warmup. In ``axes`` it stands in the
            place of the rate.
    """

    axes: tuple[AxisResult, ...]
    rows: tuple[dict[str, Any], ...]
    metric: str

    notes: tuple[str, ...] = ()
    hyperparameter: str = "lr"

    def __str__(self) -> str:
        lines = []
        for a in self.axes:
            reason = in_words(a.reason, self.hyperparameter)
            scheme = SCHEMES.get(a.scheme, a.scheme)
            lines += wrapped(f"{scheme} over {a.axis}: {a.verdict} ({reason})")
            base, last = (f"{a.axis} {s.size}" for s in (a.sizes[0], a.sizes[-1]))
            said = [a.range] if len(a.reach) > 1 else []
            said += [
                f"drift {a.drift}: doublings by which the curve of loss over rate shifts when {a.axis} "
                "doubles",
                f"at the rate best for {base}, {last} ends with a lower loss: "
                f"{'not clear' if a.monotone == 'undecided' else a.monotone}",
            ]
            for text in said:
                lines += wrapped(in_words(text, self.hyperparameter), first="  ")
        blocks = ["\n".join(lines), self._table()]
        if self.notes:
            blocks.append("\n".join(line for note in self.notes for line in wrapped(note)))
        blocks.append("\n".join(line for said in self.answer for line in wrapped(said)))
        return "\n\n".join(blocks)

    def _table(self) -> str:
        """At most 100 columns wide: what has no room is in the page and in ``to_json``."""
        loss = self.metric if len(self.metric) < 10 else "loss"
        best, base = (in_words(f"{x} lr", self.hyperparameter) for x in ("best", "base's"))
        header = [
            "scheme",
            "axis",
            "size",
            best,
            f"best {loss}",
            f"at {base}",
            "regret",
            "trains up to",
        ]
        body = [
            [
                *(a.scheme[:12], a.axis, str(s.size), f"{s.lr}"),
                *(number(s.loss.value), number(s.at_base.value), _percentage(s.regret)),
                f"grid ends {s.edge}" if s.edge in ("low", "high") else stable_rate(s.stable.value),
            ]
            for a in self.axes
            for s in a.sizes
        ]
        if len({a.scheme for a in self.axes}) == 1:
            header, body = header[1:], [row[1:] for row in body]
        return text_table(header, body, left=len(header) - 6)

    @property
    def answer(self) -> tuple[str, ...]:
        """What to do, or what to run next to know: a sentence for each scheme and axis."""
        several = len({a.scheme for a in self.axes}) > 1
        return tuple(in_words(sentence(a, several), self.hyperparameter) for a in self.axes)

    @property
    def exit_code(self) -> int:
        """0 if a scheme transfers along all axes, else 3 if that is undecided for one, else 1."""
        return exit_code(self.axes)

    def to_json(self) -> str:
        """Axes and runs."""
        data = {
            "metric": self.metric,
            "hyperparameter": self.hyperparameter,
            "answer": self.answer,
            "notes": self.notes,
            "axes": [asdict(a) for a in self.axes],
            "runs": self.rows,
        }
        return json.dumps(plain(data))

    def figure(self) -> go.Figure:
        """Loss against log2 of the learning rate, one curve a size, one panel a scheme and axis."""
        return transfer_figure(self)


SCHEMES = {"auto": "auto (leadline's scaling)", "sp": "sp (PyTorch's own scaling)"}
"""Schemes whose names say nothing by themselves."""


def _percentage(cost: Interval) -> str:
    """A regret in percent."""
    if not math.isfinite(cost.value):
        return str(cost).split(" [")[0]
    if math.isnan(cost.low):
        return f"{percents(cost.value)} %"
    low, high = percents(cost.low, math.floor), percents(cost.high, math.ceil)
    return f"{percents(cost.value)} % [{low}, {high}]"


def stable_rate(rate: float) -> str:
    """The largest rate of a grid that trains, in words where that is every one or none."""
    return "all tried" if rate == math.inf else "none" if math.isnan(rate) else f"{rate:.3g}"


@dataclass(frozen=True)
class RateCurve:
    """One size of one scheme over one axis: mean over seeds, and their range."""

    scheme: str
    axis: str
    size: int
    lr: tuple[float, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    best: float


def curves(result: Transfer) -> list[RateCurve]:
    """Finite points only."""
    out = []
    for a in result.axes:
        rows = judged(result.rows, result.hyperparameter)
        scapes = landscapes(rows, a.scheme, a.axis, result.metric)
        for s in a.sizes:
            scape = scapes[s.size]
            y = np.exp(scape.mean())
            keep = np.isfinite(y)
            lr, y = np.exp2(scape.x[keep]), y[keep]
            low, high = scape.losses[keep].min(1), scape.losses[keep].max(1)
            arrays = (tuple(float(v) for v in z) for z in (lr, y, low, high))
            out.append(RateCurve(a.scheme, a.axis, s.size, *arrays, s.lr.value))
    return out


def transfer_figure(result: Transfer) -> go.Figure:
    """Panels by scheme and axis; optima are marked."""
    axes = list(dict.fromkeys(a.axis for a in result.axes))
    schemes = list(dict.fromkeys(a.scheme for a in result.axes))
    titles = {(a.scheme, a.axis): f"{a.scheme} over {a.axis}: {a.verdict}" for a in result.axes}
    places = [(s, a) for s in schemes for a in axes]
    panels = Panels([titles.get(p, "") for p in places], columns=len(axes), share_y=True)
    drawn, one = curves(result), NAMES[result.hyperparameter][0]
    for i, (scheme, axis) in enumerate(places):
        metric = result.metric.replace("_", " ") if axis == axes[0] else ""
        panels.panel(i, f"{one} of the base", metric, log_x=True, log_y=True)
        sizes = sorted({c.size for c in drawn if c.axis == axis})
        colors = dict(zip(sizes, shades(len(sizes)), strict=True))
        for c in drawn:
            if (c.scheme, c.axis) != (scheme, axis):
                continue
            name, color = f"{axis} {c.size}", colors[c.size]
            panels.band(c.lr, c.low, c.high, color, name)
            panels.line(c.lr, c.mean, name, color)
            if np.isfinite(c.best):
                line = dict(color=color, dash="dot", width=1)
                panels.figure.add_vline(x=c.best, line=line, **panels.at)
    return with_ticks(panels.figure)


def transfer_page(result: Transfer, command: str = "") -> Page:
    """The landscapes of all schemes, then each scheme over each axis."""
    best = "; ".join(
        f"{a.scheme} over {a.axis}: best rate " + ", ".join(f"{s.lr.value:.3g}" for s in a.sizes)
        for a in result.axes
    )
    metric = result.metric.replace("_", " ")

    def worded(text: str) -> str:
        return in_words(text, result.hyperparameter)

    overview = Section(
        title=worded("Loss against the learning rate"),
        anchor="landscapes",
        figures=(
            Drawing(
                transfer_figure(result),
                worded(
                    f"{metric.capitalize()} against the base’s learning rate, a curve for every size, "
                    "mean and range over seeds; dotted: the best rate"
                ),
                worded(f"Log–log panels by scheme and axis. {best}."),
            ),
        ),
        command=command,
        downloads=(("runs.csv", table_csv(_same_keys(result.rows))),),
    )
    axes = tuple(_axis(a, metric, i, worded) for i, a in enumerate(result.axes))
    lead = (
        "Does the best learning rate of a small network serve larger ones, and what is lost by it?"
    )
    commands = tuple(dict.fromkeys(filter(None, (again(command, a, worded) for a in result.axes))))
    return Page(
        worded("Transfer of the learning rate") + _of_model(result),
        (worded(lead), *result.notes),
        (overview, *axes),
        facts(command),
        answer=tuple(
            f"{_ANSWERS[a.verdict]}, over {a.axis}. {said}"
            for a, said in zip(result.axes, result.answer, strict=True)
        ),
        commands=commands,
    )


_ANSWERS = {"transfers": "Yes", "does not transfer": "No", "undecided": "Not decided yet"}


def _of_model(result: Transfer) -> str:
    """The model's name, as far as runs have one, without what tells two versions apart."""
    names = {str(row.get("model") or "") for row in result.rows}
    name = cut(re.sub(r"#[0-9a-f]+", "", names.pop()), 60) if len(names) == 1 else ""
    return f": {name}" if name else ""


def again(command: str, a: AxisResult, worded: Callable[[str], str] = str) -> str:
    """The command that decides an axis: the one that was run, with the options that change; "" for none."""
    after = a.next
    if not command or not after.options or not after.steps:
        return ""
    words, changed = shlex.split(command), {}
    if after.rates is not None:
        name, value = worded(after.rates.option).split()
        changed[name] = value
    if after.seeds is not None:
        changed["--seeds"] = str(after.seeds)
    elif after.more:
        seeds = [w for option, w in pairwise(words) if option == "--seeds"]
        changed["--seeds"] = str(2 * int(seeds[-1] if seeds else 3))
    return with_options(command, changed)


def _axis(a: AxisResult, metric: str, i: int, worded: Callable[[str], str]) -> Section:
    head = (
        a.axis,
        worded("best rate"),
        f"{metric} there",
        worded("at the base’s rate"),
        "regret",
        "sharpness",
        "trains up to",
        "grid",
    )
    rows = [
        (s.size, s.lr, s.loss, s.at_base, _percentage(s.regret), s.sharpness, stable_rate(s.stable.value),
         f"ends {s.edge}" if s.edge else "–")
        for s in a.sizes
    ]  # fmt: skip
    slug = re.sub(r"[^a-z0-9]+", "-", f"{a.scheme}-{a.axis}".lower()).strip("-")
    known = a.drift.low == a.drift.low
    return Section(
        title=f"{a.scheme} over {a.axis}",
        anchor=f"axis-{i + 1}-{slug}",
        verdict=a.verdict,
        number=worded("drift, doublings of the best rate per doubling of the size"),
        value=a.drift.value if a.drift.value == a.drift.value else None,
        low=a.drift.low if known else None,
        high=a.drift.high if known else None,
        paragraphs=(
            worded(f"{a.reason[:1].upper()}{a.reason[1:]}."),
            *([worded(f"{a.range[:1].upper()}{a.range[1:]}.")] if len(a.reach) > 1 else []),
            worded(f"Is the larger network better at the base’s rate? {a.monotone}."),
        ),
        tables=(Table(head, rows, "Sizes, with 95 % intervals over the grid and the seeds"),),
    )


def _same_keys(rows: tuple[dict[str, object], ...]) -> list[dict[str, object]]:
    keys = list(dict.fromkeys(k for row in rows for k in row))
    return [{k: row.get(k) for k in keys} for row in rows]
