"""``leadline study``: every claim of the paper, measured by one command."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import click

from leadline.cli import start
from leadline.cli.mistakes import Kept, one_line
from leadline.cli.runs import has_runs
from leadline.cli.start import show
from leadline.errors import shown


def _numbers(text: str | None) -> list[int] | None:
    """Claims separated by commas; ranges as 3-6.

    >>> _numbers("3,7-9")
    [3, 7, 8, 9]
    """
    if text is None:
        return None
    out = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,3})(?:-([0-9]{1,3}))?\s*", part)
        if match is None:
            raise ValueError(f"claims={shown(text)} are no numbers: give such as 3,7 or 1-10")
        out.extend(range(int(match[1]), int(match[2] or match[1]) + 1))
    return out


@click.command("study", help="Measure the paper's claims: verdicts, data and a report.")
@click.option("--claims", default=None, metavar="3,7", help="Numbers 1 to 10; default: all.")
@click.option("--preset", default="quick", show_default=True, help="quick, standard or full.")
@click.option("--problem", default="digits", show_default=True, help="digits or cifar10:PATH.")
@click.option(
    "--out", default="leadline-study", show_default=True, type=click.Path(), help="Folder."
)
@click.option("--device", default="cpu", show_default=True, help="A torch device.")
@click.option("--seed", default=0, show_default=True, help="Seed of weights and batches.")
@click.option(
    "--resume/--no-resume", default=True, show_default=True, help="Use what the folder has."
)
@click.option("--workers", default=None, type=int, help="Processes at once; default: one a core.")
@click.option("--dry-run", is_flag=True, help="List what would be measured, and stop.")
@click.option("--json", "as_json", is_flag=True, help="Print verdicts as JSON, and nothing else.")
@click.option("--quiet", is_flag=True, help="No progress.")
def study_command(claims: str | None, out: str, dry_run: bool, **given: Any) -> None:
    """Verdicts to stdout."""
    as_json, quiet = given.pop("as_json"), given.pop("quiet")
    words = f"finished cells are in {out}; the same command goes on"
    kept: Kept = [] if dry_run else [(Path(out) / "store", has_runs, words)]
    with one_line(kept):
        wanted = _numbers(claims)
        if dry_run:
            from leadline.claims.outline import outline

            given.pop("resume")
            plan = outline(wanted, out=out, **given)
            show(json.dumps(plan.to_json()) if as_json else str(plan))
            return
        from leadline.claims.study import study
        from leadline.reporting.progress import Progress

        with Progress(quiet=quiet) as bar:
            done = study(wanted, out=out, progress=bar, **given)
        show(json.dumps(done.to_json()) if as_json else repr(done))
        if not start.state.unwritten:
            click.echo(f"wrote {done.path / 'report.html'} and verdicts.json", err=True)
