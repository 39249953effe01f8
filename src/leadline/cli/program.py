"""The commands."""

from __future__ import annotations

import json
import os
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from leadline._version import __version__
from leadline.cli import build, pages, processes, start
from leadline.cli.flags import flags
from leadline.cli.forecast import forecast_command
from leadline.cli.mistakes import Kept, one_line
from leadline.cli.models import check_command, explain_command, plan_command
from leadline.cli.pages import report_command
from leadline.cli.runs import runs_command
from leadline.cli.start import Program, show
from leadline.cli.study import study_command
from leadline.cli.sweeps import sweep_command, transfer_command
from leadline.disk.write import attempt

if TYPE_CHECKING:
    from leadline.reporting.page import Page

_HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
_ABOUT = {
    "solve": "Solve one width and depth without its n×n matrices.",
    "train": "Train dense finite networks.",
    "limit": "Extrapolate solve to infinite width and depth, with an error bar.",
    "lazy": "Train the network linearised at initialization, at infinite width.",
    "compare": "Limits, lazy limit and finite networks side by side.",
    "kernels": "Kernels at initialization, at infinite width.",
}


@click.group(cls=Program, context_settings=_HELP)
@click.version_option(__version__, prog_name="leadline")
def main() -> None:
    """The training dynamics of infinitely wide and deep residual networks, solved.

    Results go to stdout (with --json as JSON), everything else to stderr.
    """
    # Threads that spin while they wait make a busy machine tens of times slower; read by OpenMP
    # when torch is imported.
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
        os.environ |= {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000"}


def _command(name: str) -> Any:
    """Register a command that gets its flags as one dict and what it keeps as a list."""

    def decorate(function: Any) -> Any:
        @main.command(name, help=_ABOUT[name])
        @flags(name)
        def run(**given: Any) -> None:
            kept: Kept = []
            with one_line(kept):
                processes.check(name)
                function(given, kept)

        return run

    return decorate


for _extra in (
    plan_command,
    check_command,
    explain_command,
    forecast_command,
    report_command,
    runs_command,
    study_command,
    sweep_command,
    transfer_command,
):
    main.add_command(_extra)


@_command("solve")
def _solve(given: dict[str, Any], kept: Kept) -> None:
    out = build.folder(given)
    if given["checkpoint"] is None and out is not None:
        given["checkpoint"] = str(out / "checkpoint.safetensors")
    path, every = given["checkpoint"], given["checkpoint_every"]
    if path is not None:
        words = f"the same command resumes from {path} (written every {every:g} s)"
        kept.append((Path(path).parent, escape(Path(path).name), words))
    _train_by("solve", given, out)


@_command("train")
def _train(given: dict[str, Any], kept: Kept) -> None:
    _train_by("train", given, build.folder(given))


@_command("limit")
def _limit(given: dict[str, Any], kept: Kept) -> None:
    out = build.folder(given)
    if given["checkpoint"] is None and out is not None:
        given["checkpoint"] = str(out / "sizes")
    if given["checkpoint"] is not None:
        sizes = Path(given["checkpoint"])
        words = f"the same command resumes from the finished sizes in {sizes}"
        kept.append((sizes, "*.safetensors", words))
    _train_by("limit", given, out)


@_command("lazy")
def _lazy(given: dict[str, Any], kept: Kept) -> None:
    _train_by("lazy", given, build.folder(given))


@_command("compare")
def _compare(given: dict[str, Any], kept: Kept) -> None:
    out = build.folder(given)
    if out is not None:
        kept.append((out, "*", f"finished branches are in {out}"))
    _train_by("compare", given, out)


@_command("kernels")
def _kernels(given: dict[str, Any], kept: Kept) -> None:
    from leadline.cli.show import kernels_json, kernels_table
    from leadline.kernels.kernels import initial_kernels

    out, as_json = build.folder(given), given["as_json"]
    html = pages.file("html", given["html"])
    how = {name: given[name] for name in ("depth", "rtol", "seconds")}
    kernels = initial_kernels(build.problem(given), build.network(given), **how)
    data = kernels_json(kernels)
    show(json.dumps(data) if as_json else kernels_table(kernels))

    def page() -> Page:
        from leadline.reporting.page_facts import command_line
        from leadline.reporting.page_results import kernels_page

        return kernels_page(kernels, command_line())

    pages.keep(page, out, "figure.html", html, {"result.json": data})


def _train_by(command: str, given: dict[str, Any], out: Path | None) -> None:
    """What the training commands share: build, run, save, print."""
    as_json, quiet = given.pop("as_json"), given.pop("quiet")
    dry, html = given.pop("dry_run", False), pages.file("html", given.pop("html"))
    network, sgd, problem = build.network(given), build.recipe(given), build.problem(given)
    if dry and not processes.leads():
        return
    if dry:
        from leadline.cli.predict import predict

        prediction = predict(command, problem, network, sgd, given)
        click.echo(json.dumps(prediction.to_json()) if as_json else prediction.text())
        return

    import leadline
    from leadline.cli.show import warnings
    from leadline.comparison import Comparison
    from leadline.reporting.json_text import pieces
    from leadline.reporting.progress import Progress
    from leadline.trajectory import Trajectory

    with (
        processes.group(given),
        Progress(given["seeds"], quiet=quiet or not processes.leads()) as progress,
    ):
        if command != "lazy":
            given["progress"] = progress
        if command == "compare":
            given["out"] = out
        result = getattr(leadline, command)(problem, network, sgd, **given)
    if not processes.leads():
        return
    for warning in warnings(result):
        click.echo(f"Warning: {warning}", err=True)
    data = result.to_json(lists=False)
    show(pieces(data) if as_json else repr(result))

    def page() -> Page:
        from leadline.reporting.page_facts import command_line
        from leadline.reporting.page_results import comparison_page, result_page

        if isinstance(result, Comparison):
            return comparison_page(result, command_line())
        return result_page(result, command_line())

    if isinstance(result, Comparison):
        pages.keep(page, out, "compare.html", html)
        if out is not None and not start.state.unwritten:
            click.echo(f"wrote {out / 'compare.json'} and branches", err=True)
        return
    if out is not None and isinstance(result, Trajectory):
        attempt(lambda: result.save(out / "trajectory.safetensors"))
    pages.keep(page, out, "figure.html", html, {"result.json": data})
