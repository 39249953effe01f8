"""``leadline sweep`` and ``leadline transfer``."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from leadline.cli.build import folder
from leadline.cli.mistakes import Kept, one_line
from leadline.cli.models import load
from leadline.cli.pages import HTML, file, keep
from leadline.cli.runs import has_runs
from leadline.cli.start import show
from leadline.errors import shown

if TYPE_CHECKING:
    from leadline.reporting.page import Page
    from leadline.sweeps.schedule import SweepEstimate

_MOST = 1000
_BUILTIN = ("mlp", "resnet", "gpt")


def _values(text: str, name: str, kind: Any) -> list[Any]:
    """Numbers separated by commas; for learning rates also LOW:HIGH:FACTOR.

    >>> _values("1e-3:8e-3:2", "lrs", float)
    [0.001, 0.002, 0.004, 0.008]
    """
    try:
        if ":" in text and kind is float:
            return _ladder(name, text)
        out = [kind(p) for p in text.split(",") if p.strip()]
    except ValueError as e:
        if str(e).startswith(name):
            raise
        out = []
    if not out:
        raise ValueError(
            f"{name}={shown(text)} is not a list of numbers: give such as 1,2,4"
            + (" or LOW:HIGH:FACTOR such as 1e-4:1e-1:2" if kind is float else "")
        )
    return out


def _ladder(name: str, text: str) -> list[float]:
    """LOW, LOW·FACTOR, … up to HIGH."""
    low, high, factor = (float(p) for p in text.split(":"))
    if not (0 < low <= high < math.inf and 1 < factor < math.inf):
        raise ValueError
    count = int((math.log(high * (1 + 1e-9)) - math.log(low)) / math.log(factor)) + 1
    if count > _MOST:
        raise ValueError(
            f"{name}={text!r} would be {count:,} values: give a larger FACTOR, for at most {_MOST:,}"
        )
    out = []
    while low <= high * (1 + 1e-9):
        out.append(float(f"{low:.10g}"))
        low *= factor
    return out


def _model(reference: str, problem: str | None) -> tuple[Any, Any]:
    """Builder and data.

    mlp is ``ll.residual_mlp`` for any optimizer; resnet is ``ll.ResNet`` with two-layer blocks, for
    sgd.
    """
    from leadline.problems import parse

    problem = problem or ("text" if reference == "gpt" else _DIGITS)
    if ":" in reference:
        module, build = load(reference)
        data = getattr(module, "data", None)
        if data is None:
            kind, _, path = problem.partition(":")
            data = _text(path) if kind == "text" else parse(problem, None)
        return build, data
    if reference not in _BUILTIN:
        raise ValueError(
            f"model={reference!r} is unknown: give FILE.py:NAME, or one of {', '.join(_BUILTIN)}"
        )
    import leadline as ll

    if reference == "gpt":
        kind, _, path = problem.partition(":")
        if kind != "text":
            raise ValueError(
                f"problem={problem!r} is no text: give text:FILE, text:FOLDER, or text for the source "
                "of Python's standard library"
            )
        data = _text(path)
        return ll.gpt(context=data.context), data
    data = parse(problem, None)
    if reference == "mlp":
        return ll.residual_mlp(data.dimension, data.outputs), data
    return ll.ResNet("relu", block_layers=2), data


def _text(path: str) -> Any:
    from leadline.problems.text import text

    return text(path or None)


def _axes(given: tuple[str, ...]) -> dict[str, list[Any]]:
    """NAME=V1,V2 as an axis of the builder's argument; values are numbers where they read as such.

    >>> _axes(("gain=0.5,1", "activation=relu,tanh", "tied=true"))
    {'gain': [0.5, 1], 'activation': ['relu', 'tanh'], 'tied': [True]}
    """
    axes: dict[str, list[Any]] = {}
    for text in given:
        name, equals, values = text.partition("=")
        if not equals or not name or not values:
            raise ValueError(f"arg={text!r} is not NAME=VALUE,...: give such as gain=0.5,1")
        axes[name] = [_value(v) for v in values.split(",")]
    return axes


def _slurm(given: tuple[str, ...]) -> dict[str, Any]:
    """Options of sbatch; those without a value are True.

    >>> _slurm(("time=2:00:00", "exclusive"))
    {'time': '2:00:00', 'exclusive': True}
    """
    options: dict[str, Any] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not key or (equals and not value):
            raise ValueError(f"slurm={text!r} is not KEY=VALUE: give such as time=2:00:00")
        options[key.lstrip("-")] = value or True
    return options


def _value(text: str) -> Any:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


_DIGITS = "digits:0,1?samples=64,test_samples=64"
_OPTIONS = [
    click.argument("model", metavar="FILE.py:BUILD|mlp|resnet|gpt"),
    click.option(
        "--problem",
        default=None,
        help="Data, unless FILE.py has `data`: see `leadline solve`; for gpt "
        "text:FILE, default the source of Python's standard library. Default for others: two digits.",
    ),
    click.option(
        "--widths", default="32,64,128", show_default=True, help="The first is the base's."
    ),
    click.option("--depths", default="4", show_default=True, help="The first is the base's."),
    click.option("--lrs", default="1e-4:1e-1:2", show_default=True, help="Of the base."),
    click.option("--seeds", default=3, show_default=True, help="Seeds of every setting."),
    click.option("--steps", default=100, show_default=True, help="Training steps."),
    click.option("--batch-size", default=None, type=int, help="Samples a step; default: all."),
    click.option("--scheme", default="auto", show_default=True, help="One or several, by commas."),
    click.option(
        "--optimizer", default=None, help="sgd, adam, adamw, muon; default adamw, for resnet sgd."
    ),
    click.option("--weight-decay", default=0.0, show_default=True, help="Of the base."),
    click.option(
        "--arg",
        "arguments",
        multiple=True,
        metavar="NAME=V1,V2",
        help="Values of a further argument of the builder; may be repeated.",
    ),
    click.option("--momentum", default=0.0, show_default=True, help="For sgd."),
    click.option(
        "--store", default=None, type=click.Path(), help="Folder of runs: resumes from it."
    ),
    click.option(
        "--executor",
        default=None,
        help="processes, inline, ray, slurm; default: processes on a CPU, inline elsewhere.",
    ),
    click.option("--device", default="cpu", show_default=True, help="A torch device."),
    click.option(
        "--slurm",
        multiple=True,
        metavar="KEY=VALUE",
        help="An option of sbatch, such as partition=long, time=2:00:00, account=me, mem=4G; may be "
        "repeated.",
    ),
    click.option(
        "--workers",
        default=None,
        type=int,
        help="Programs at once; default: one a core, 16 jobs of slurm.",
    ),
    click.option(
        "--hopeless", default=None, type=float, help="Give up runs this many times the best."
    ),
    click.option("--json", "as_json", is_flag=True, help="Print JSON, and nothing else."),
    click.option("--quiet", is_flag=True, help="No progress."),
]


def _options(function: Any) -> Any:
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def _settings(model: str, given: dict[str, Any]) -> dict[str, Any]:
    """Keywords of ``sweep``."""
    if given["optimizer"] is None:
        given["optimizer"] = "sgd" if model == "resnet" else "adamw"
    out = {k: given[k] for k in ("seeds", "steps", "batch_size", "optimizer", "weight_decay")}
    out |= {k: given[k] for k in ("momentum", "store", "executor", "workers", "hopeless", "device")}
    return out | dict(
        slurm=_slurm(given["slurm"]),
        arguments=_axes(given["arguments"]),
        widths=_values(given["widths"], "widths", int),
        depths=_values(given["depths"], "depths", int),
        lrs=_values(given["lrs"], "lrs", float),
    )


def _kept(given: dict[str, Any]) -> Kept:
    store = given["store"]
    words = f"finished runs are in {store}; the same command goes on"
    return [] if store is None else [(Path(store), has_runs, words)]


def _show(estimate: SweepEstimate, as_json: bool) -> None:
    show(json.dumps(vars(estimate)) if as_json else str(estimate))


@click.command(
    "sweep", help="Train every combination of sizes, rates and seeds; resume from a store."
)
@_options
@click.option(
    "--sizes",
    default="product",
    show_default=True,
    help="product, or axes: widths at the smallest depth and depths at the smallest width only.",
)
@click.option("--dry-run", is_flag=True, help="Say how many runs and how long, and stop.")
def sweep_command(model: str, problem: str | None, sizes: str, dry_run: bool, **given: Any) -> None:
    """Runs of one shape train as one batched program."""
    with one_line(_kept(given)):
        from leadline.reporting.progress import Progress
        from leadline.sweeps.driver import sweep
        from leadline.sweeps.schedule import SweepEstimate

        build, data = _model(model, problem)
        schemes = given["scheme"].split(",")
        with Progress(quiet=given["quiet"]) as bar:
            done = sweep(
                build,
                data,
                scheme=schemes,
                sizes=sizes,
                dry_run=dry_run,
                progress=bar,
                **_settings(model, given),
            )
        if isinstance(done, SweepEstimate):
            _show(done, given["as_json"])
            return
        shown = dict(rows=done.rows, fresh=done.fresh, failed=done.failed, seconds=done.seconds)
        show(json.dumps(shown) if given["as_json"] else str(done))
        failed = bool(done.failed)
    if failed:
        sys.exit(1)


@click.command(
    "transfer", help="Does the best learning rate carry over width and depth; what is lost?"
)
@_options
@click.option(
    "--extend",
    default=0,
    show_default=True,
    help="Times the grid of rates may grow where it does not bracket an optimum.",
)
@click.option("--metric", default="loss", show_default=True, help="loss or test_loss.")
@click.option(
    "--out", type=click.Path(), default=None, help="Folder: transfer.json, transfer.html."
)
@HTML
@click.option(
    "--dry-run",
    is_flag=True,
    help="Say how many runs and how long, without what --extend would add, and stop.",
)
def transfer_command(
    model: str,
    problem: str | None,
    metric: str,
    extend: int,
    out: str | None,
    dry_run: bool,
    **given: Any,
) -> None:
    """Widths at the smallest depth, depths at the smallest width."""
    with one_line(_kept(given)):
        from leadline.reporting.progress import Progress
        from leadline.sweeps.schedule import SweepEstimate
        from leadline.transferring.transfer import transfer

        html, where = file("html", given["html"]), folder({"out": out, "dry_run": dry_run})
        build, data = _model(model, problem)
        schemes = given["scheme"].split(",")
        with Progress(quiet=given["quiet"]) as bar:
            found = transfer(
                build,
                data,
                schemes=schemes,
                metric=metric,
                extend=extend,
                dry_run=dry_run,
                progress=bar,
                **_settings(model, given),
            )
        if isinstance(found, SweepEstimate):
            _show(found, given["as_json"])
            return
        show(found.to_json() if given["as_json"] else str(found))

        def page() -> Page:
            from leadline.reporting.page_facts import command_line
            from leadline.transferring.page import transfer_page

            return transfer_page(found, command_line())

        keep(page, where, "transfer.html", html, {"transfer.json": found.to_json()})
