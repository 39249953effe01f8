"""``leadline forecast``: laws of the loss over size, from finished runs."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from leadline.cli import values
from leadline.cli.flags import HTML, JSON, QUIET
from leadline.cli.lifecycle import one_line, show
from leadline.cli.outputs import Outputs

if TYPE_CHECKING:
    from leadline.forecasting.answers import PredictedLoss
    from leadline.forecasting.frontier import Best, Frontier
    from leadline.forecasting.profiles import Profiles
    from leadline.forecasting.result import Forecast
    from leadline.reporting.page import Page

_SETTINGS = (
    *("loss", "group", "law", "exponents", "gain", "confidence", "draws", "seed"),
    *("thousands", "decimal"),
)


@click.command("forecast", help="Fit how the loss falls with size, and say what follows from it.")
@click.argument("runs", metavar="RUNS", type=click.Path())
@click.option("--loss", default="loss", show_default=True, help="Column of the loss.")
@click.option("--columns", multiple=True, metavar="WHAT=COLUMN",
              help="Which column is parameters, tokens, width, depth, samples, steps, flops, loss, seed or "
              "group, where its name does not say it; by commas, or repeated.")  # fmt: skip
@click.option(
    "--axes", default=None, metavar="A,B", help="Columns that the loss is fitted against."
)
@click.option("--where", multiple=True, metavar="COLUMN=V1,V2",
              help="Only rows with one of these values; may be repeated.")  # fmt: skip
@click.option("--by", default=None, metavar="COLUMN", help="A forecast for each value of a column.")
@click.option("--group", default=None, metavar="COLUMN",
              help="Column of the training that a row is a checkpoint of.")  # fmt: skip
@click.option("--law", default="auto", show_default=True, help="auto, sum, kaplan or product.")
@click.option(
    "--exponents", default="auto", show_default=True, help="auto, free or theory (all 1)."
)
@click.option("--at", multiple=True, metavar="N=7e9,D=1.4e11",
              help="Predict the loss there (repeatable); all else the runs' largest.")  # fmt: skip
@click.option(
    "--target", multiple=True, metavar="WIDTHxDEPTH", help="The same for width and depth."
)
@click.option("--budget", multiple=True, type=float, metavar="C",
              help="Best sizes for a cost (repeatable).")  # fmt: skip
@click.option("--cost", default=None, metavar="EXPRESSION",
              help="What a run costs: such as 6*N*D, or a column; default 6·N·D or "
              "width²·depth·samples·steps.")  # fmt: skip
@click.option(
    "--hold", default=None, metavar="A=X,B=Y", help="Sizes that a budget is not spent on."
)
@click.option("--frontier", is_flag=True, help="Best sizes over the cost, with their exponents.")
@click.option("--isoflop", is_flag=True, help="Minima of runs of one cost, without any law.")
@click.option("--gain", type=float, default=1.0, show_default=True, metavar="PERCENT",
              help="What a doubling has to gain to be worth it.")  # fmt: skip
@click.option(
    "--limit", default=None, metavar="VALUE,ERROR", help="Compare the floor with a limit."
)
@click.option(
    "--confidence",
    type=float,
    default=0.95,
    show_default=True,
    help="Confidence level of the intervals.",
)
@click.option("--draws", type=int, default=1000, show_default=True, help="Bootstrap draws.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the bootstrap.")
@click.option("--thousands", default="", metavar="MARK", help="Mark of thousands in numbers.")
@click.option("--decimal", default=".", metavar="MARK", help="Decimal mark in numbers: . or ,")
@click.option(
    "--out", type=click.Path(), default=None, help="Folder: forecast.json, forecast.html."
)
@HTML
@JSON
@QUIET
def forecast_command(runs: str, by: str | None, **options: Any) -> None:
    """RUNS is a table (CSV, JSON, JSON lines, parquet, also .gz), a store, or a folder of event files."""
    with one_line([]):
        outputs = Outputs.take(options)
        if by is not None and outputs.html is not None:
            raise ValueError("html: --by makes a page for each value: give --out FOLDER instead")
        selected = values.selections("where", options["where"])
        kinds = [None] if by is None else _kinds(runs, by, selected)
        answers = []
        for kind in kinds:
            where = selected if kind is None or by is None else selected | {by: kind}
            answers.append(_Answer.of(runs, where, options, outputs, kind))
        if options["as_json"]:
            data = {a.kind: a.data() for a in answers} if by is not None else answers[0].data()
            show(json.dumps(data, ensure_ascii=False))
        else:
            show("\n\n".join(a.text(by) for a in answers))
        for a in answers:
            name = "forecast" if a.kind is None else f"forecast-{values.plain_file(a.kind)}"
            text = json.dumps(a.data(), ensure_ascii=False)
            outputs.keep(a.page, f"{name}.html", {f"{name}.json": text})


def _kinds(runs: str, by: str, where: dict[str, Any]) -> list[str]:
    from leadline.forecasting.columns import kinds_of

    return kinds_of(runs, by, where)


class _Answer:
    """A forecast with what was asked of it."""

    def __init__(
        self,
        kind: str | None,
        result: Forecast,
        at: dict[str, tuple[PredictedLoss, PredictedLoss]],
        best: Sequence[Best],
        frontier: Frontier | None,
        profiles: Profiles | None,
    ) -> None:
        self.kind, self.result, self.at = kind, result, at
        self.best, self.frontier, self.profiles = best, frontier, profiles

    @classmethod
    def of(
        cls, runs: str, where: dict[str, Any], options: dict[str, Any], outputs: Outputs,
        kind: str | None,
    ) -> _Answer:  # fmt: skip
        """Everything is read from the options before any work."""
        from leadline.errors import check_real
        from leadline.forecasting.forecasts import forecast
        from leadline.reporting.progress import Progress

        places = {t: values.places("at", t) for t in options["at"]}
        for text in options["target"]:
            width, depth = values.size("target", text, "1024x32", 1)
            places[text] = {"width": float(width), "depth": float(depth)}
        for budget in options["budget"]:
            check_real("budget", budget, 0.0, open_minimum=True)
        held = {} if options["hold"] is None else values.places("hold", options["hold"])
        axes = None if options["axes"] is None else values.names("axes", options["axes"])
        limit = None if options["limit"] is None else values.limit(options["limit"])
        settings = {name: options[name] for name in _SETTINGS}
        with Progress(quiet=options["quiet"]) as progress:
            result = forecast(
                runs,
                columns=values.assignments("columns", options["columns"]) or None,
                axes=axes,
                where=where,
                limit=limit,
                progress=progress,
                **settings,
            )
        predictions = {
            t: (result.predict_at(at), result.predict_at(at, run=True)) for t, at in places.items()
        }
        cost = options["cost"]
        best = [result.best(b, cost, **held) for b in options["budget"]]
        frontier = result.frontier(None, cost, **held) if options["frontier"] else None
        profiles = result.isoflop(cost) if options["isoflop"] else None
        return cls(kind, result, predictions, best, frontier, profiles)

    def data(self) -> dict[str, Any]:
        """The answer as plain data, for --json and the files."""
        data = self.result.to_json()
        data["target"] = {
            t: law.to_json() | {"run": {"low": run.low, "high": run.high}}
            for t, (law, run) in self.at.items()
        }
        best = [b.to_json() for b in self.best]
        data["best"] = best[0] if len(best) == 1 else best or None
        data["frontier"] = None if self.frontier is None else self.frontier.to_json()
        data["isoflop"] = None if self.profiles is None else self.profiles.to_json()
        return data

    def text(self, by: str | None) -> str:
        """The answer in words and tables, for a terminal."""
        lines = [] if self.kind is None else [f"=== {by} {self.kind} ===", ""]
        lines.append(str(self.result))
        some = self.at or self.best or self.frontier is not None or self.profiles is not None
        lines += [""] * bool(some)
        for text, (law, run) in self.at.items():
            line = f"Loss at {text}: {law:.4g}; one run [{run.low:.4g}, {run.high:.4g}]"
            lines.append(line + (f"; {law.beyond}" if law.beyond else ""))
            lines.append("  at " + ", ".join(f"{a} {x:.4g}" for a, x in law.at.items()))
            lines += [f"  by {other}: {x:.4g}" for other, x in law.rivals.items()]
            lines += _undecided(law)
        for b in self.best:
            lines.append(f"Best for {b.budget:g} (cost {b.formula}): {b}")
            prices = {f: x.value for f, x in b.price.items() if math.isfinite(x.value)}
            if prices:
                said = ", ".join(f"×{f:g} +{100 * x:.2g} %" for f, x in prices.items())
                lines.append(f"  off the best {next(iter(b.sizes))} at the same cost: {said}")
            lines += _undecided(b.loss)
        if self.frontier is not None:
            lines += frontier_lines(self.frontier)
        if self.profiles is not None:
            lines.append(f"IsoFLOP: {self.profiles}")
        return "\n".join(lines)

    def page(self, command: str) -> Page:
        from leadline.forecasting.page import forecast_page

        predictions = {t: law for t, (law, _) in self.at.items()}
        return forecast_page(
            self.result, command, predictions, self.best, self.frontier, self.profiles
        )


def _undecided(loss: PredictedLoss) -> list[str]:
    return [f"  UNDECIDED: {loss.undecided}"] if loss.undecided else []


def frontier_lines(frontier: Frontier) -> list[str]:
    """The exponents, then a line a budget."""
    from leadline.tabular.tables import text_table

    axes = list(frontier.points[0].sizes)
    rows = [
        [
            f"{p.budget:.3g}",
            *(f"{p.sizes[a]:.3g}" for a in axes),
            f"{p.loss:.4g}",
            "; ".join(filter(None, ("UNDECIDED" * bool(p.loss.undecided), p.loss.beyond))),
        ]
        for p in frontier.points
    ]
    why = dict.fromkeys(p.loss.undecided for p in frontier.points if p.loss.undecided)
    held = ", ".join(f"{a} {x:.4g}" for a, x in frontier.held.items())
    return [
        f"Frontier: {frontier}" + (f"; held: {held}" if held else ""),
        text_table(["cost", *(f"best {a}" for a in axes), "loss", ""], rows),
        *(f"  UNDECIDED: {x}" for x in why),
    ]


COMMANDS = (forecast_command,)
