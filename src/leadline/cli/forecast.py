"""``leadline forecast``: the law of finished runs, and what it says."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import click

from leadline.cli.mistakes import one_line
from leadline.cli.pages import HTML, file, keep
from leadline.cli.start import show
from leadline.errors import shown

if TYPE_CHECKING:
    from leadline.reporting.page import Page


@click.command("forecast", help="Fit how the loss falls with width and depth, and where it ends.")
@click.argument("runs", metavar="RUNS.csv", type=click.Path())
@click.option("--loss", default="loss", show_default=True, help="Column of the loss.")
@click.option(
    "--target", multiple=True, metavar="WIDTHxDEPTH", help="Predict the loss there (repeatable)."
)
@click.option("--budget", type=float, default=None, metavar="FLOPS",
              help="Best size for width²·depth·samples·steps = FLOPS.")  # fmt: skip
@click.option("--gain", type=float, default=1.0, show_default=True, metavar="PERCENT",
              help="What a doubling has to gain to be worth it.")  # fmt: skip
@click.option(
    "--exponents", default="auto", show_default=True, help="auto, free or theory (all 1)."
)
@click.option(
    "--limit", default=None, metavar="VALUE,ERROR", help="Compare the floor with a limit."
)
@click.option("--confidence", type=float, default=0.95, show_default=True, help="Of the intervals.")
@click.option("--draws", type=int, default=1000, show_default=True, help="Bootstrap draws.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the bootstrap.")
@click.option(
    "--out", type=click.Path(), default=None, help="Folder: forecast.json, forecast.html."
)
@HTML
@click.option("--json", "as_json", is_flag=True, help="Print JSON, and nothing else.")
@click.option("--quiet", is_flag=True, help="No progress.")
def forecast_command(runs: str, **given: Any) -> None:
    """RUNS.csv has columns width, depth, loss, and steps, samples, seed where they vary."""
    with one_line([]):
        from leadline.cli.build import folder
        from leadline.forecasting.forecast import forecast
        from leadline.reporting.progress import Progress

        targets = {text: _size(text) for text in given["target"]}
        limit = None if given["limit"] is None else _pair(given["limit"])
        out, html, budget = folder(given), file("html", given["html"]), given["budget"]
        how = {k: given[k] for k in ("loss", "exponents", "gain", "confidence", "draws", "seed")}
        with Progress(quiet=given["quiet"]) as progress:
            made = forecast(runs, limit=limit, progress=progress, **how)
        predictions = {text: made.predict(*size) for text, size in targets.items()}
        best = None if budget is None else made.best(budget)
        data = made.to_json()
        data["target"] = {text: i.to_json() for text, i in predictions.items()}
        data["best"] = None if best is None else {"budget": budget, **best.to_json()}
        lines = [str(made)]
        if predictions or best is not None:
            lines.append("")
        lines += [f"Loss at {text}: {i:.4g}" for text, i in predictions.items()]
        lines += [f"Best for {budget:g}: {best}"] if best is not None else []
        text = json.dumps(data, ensure_ascii=False)
        show(text if given["as_json"] else "\n".join(lines))

        def page() -> Page:
            from leadline.forecasting.page import forecast_page
            from leadline.reporting.page_facts import command_line

            return forecast_page(made, command_line(), predictions, best)

        keep(page, out, "forecast.html", html, {"forecast.json": text})


def _size(text: str) -> tuple[float, float]:
    match = re.fullmatch(r"\s*([0-9]{1,18})\s*[x×]\s*([0-9]{1,18})\s*", text.lower())
    if match is None or not (int(match[1]) and int(match[2])):
        raise ValueError(f"target={shown(text)} is not WIDTHxDEPTH: give such as 1024x32")
    return float(match[1]), float(match[2])


def _pair(text: str) -> tuple[float, float]:
    try:
        value, error = (float(p) for p in text.split(","))
    except ValueError:
        raise ValueError(
            f"limit={shown(text)} is not VALUE,ERROR: give such as 0.275,0.002"
        ) from None
    return value, error
