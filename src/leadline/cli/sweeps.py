"""The commands that keep many runs in a store: ``leadline sweep``, ``transfer`` and ``study``."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from leadline.cli import lifecycle, runs, values
from leadline.cli.flags import HTML, JSON, QUIET, RECIPE, together
from leadline.cli.lifecycle import Kept, one_line, show
from leadline.cli.outputs import Outputs
from leadline.cli.user_file import READING, is_file, load, reading, settings, task_of

if TYPE_CHECKING:
    from leadline.reporting.page import Page

_BUILTIN = ("mlp", "resnet", "gpt")
_DIGITS = "digits:0,1?samples=64,test_samples=64"
_OPTIONS = [
    click.argument("model", metavar="FILE.py[:BUILD]|mlp|resnet|gpt"),
    click.option(
        "--problem",
        default=None,
        help="Data, if FILE.py has no loss and batches: see `leadline solve`, or text:FILE?length=128. "
        "Default for gpt: the source of Python's standard library; for mlp and resnet: two digits.",
    ),
    click.option(
        "--widths", default="32,64,128", show_default=True, help="The first is the base's."
    ),
    click.option("--depths", default="4", show_default=True, help="The first is the base's."),
    click.option(
        "--lrs", default="1e-4:1e-1:2", show_default=True, help="Learning rates of the base."
    ),
    click.option("--seeds", default=3, show_default=True, help="Seeds of every setting."),
    click.option("--steps", default=100, show_default=True, help="Training steps."),
    click.option("--batch-size", default=None, type=int, help="Samples a step; default: all."),
    click.option("--scheme", default="auto", show_default=True, help="One or several, by commas."),
    click.option(
        "--optimizer",
        default=None,
        help="sgd, adam, adamw, lion, signsgd, muon; default adamw, for resnet sgd.",
    ),
    click.option(
        "--weight-decay",
        default="0",
        show_default=True,
        help="Weight decay of the base; several by commas.",
    ),
    *RECIPE,
    *READING,
    click.option(
        "--arg",
        "arguments",
        multiple=True,
        metavar="NAME=V1,V2",
        help="Values of a further argument of the builder; may be repeated.",
    ),
    click.option("--momentum", default=0.0, show_default=True, help="For sgd and signsgd."),
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
    JSON,
    QUIET,
]


def model_of(
    reference: str, problem: str | None, role: Sequence[str], inputs: Sequence[str]
) -> tuple[Any, Any, dict[str, Any]]:
    """What is trained on, the builder, and what the user's file says besides.

    mlp is ``ll.residual_mlp`` for any optimizer; resnet is ``ll.ResNet`` with two-layer blocks, for
    sgd. They and gpt are the project's own, and so are their default data; a user's file has its own.
    """
    if is_file(reference):
        module, build = load(reference)
        told = reading(module, role, inputs) | settings(module, "schedule")
        return task_of(module, problem), build, told
    if role or inputs:
        raise ValueError(
            f"--role and --input are for FILE.py, and {reference} is built in: leave them out"
        )
    if reference not in _BUILTIN:
        raise ValueError(
            f"model={reference!r} is unknown: give FILE.py:NAME, or one of {', '.join(_BUILTIN)}"
        )
    import leadline as ll
    from leadline.problems.parsing import parse_data

    data = parse_data(problem or ("text" if reference == "gpt" else _DIGITS))
    if isinstance(data, ll.Text) != (reference == "gpt"):
        wanted = "text:FILE, text:FOLDER, or text" if reference == "gpt" else "such as digits:0,1"
        raise ValueError(f"problem={problem!r} is nothing that {reference} learns: give {wanted}")
    if isinstance(data, ll.Text):
        return data, ll.gpt(context=data.context, vocabulary=data.vocabulary), {}
    if reference == "mlp":
        return data, ll.residual_mlp(data.dimension, data.outputs), {}
    return data, ll.ResNet("relu", block_layers=2), {}


def _settings(model: str, options: dict[str, Any]) -> dict[str, Any]:
    """What ``sweep`` and ``transfer`` train, and how."""
    task, build, told = model_of(model, options["problem"], options["role"], options["inputs"])
    optimizer = options["optimizer"]
    if optimizer is None:
        optimizer = "sgd" if model == "resnet" else "adamw"
    names = (
        *("seeds", "steps", "batch_size", "momentum", "accumulation", "precision"),
        *("store", "executor", "workers", "hopeless", "device", "dry_run"),
    )
    return (
        {k: options[k] for k in names}
        | told
        | dict(
            task=task,
            build=build,
            optimizer=optimizer,
            weight_decay=values.numbers("weight_decay", options["weight_decay"], float),
            warmup=values.numbers("warmup", options["warmup"], int),
            clip=None
            if options["clip"] is None
            else values.numbers("clip", options["clip"], float),
            schedule=told.get("schedule") or options["schedule"].split(","),
            slurm=values.slurm(options["slurm"]),
            arguments=values.axes(options["arguments"]),
            widths=values.numbers("widths", options["widths"], int),
            depths=values.numbers("depths", options["depths"], int),
            lrs=values.numbers("lrs", options["lrs"], float),
        )
    )


def _has_runs(folder: Path) -> bool:
    """Whether a store holds a run."""
    from leadline.store.file import NAME, read_with

    def some(db: Any) -> bool:
        return db.execute("SELECT runs FROM counts").fetchone()[0] > 0

    return (folder / NAME).is_file() and read_with(folder / NAME, some, patience=1.0)


def _kept(store: str | None) -> Kept:
    words = f"finished runs are in {store}; the same command goes on"
    return [] if store is None else [(Path(store), _has_runs, words)]


@click.command(
    "sweep", help="Train every combination of sizes, rates and seeds; resume from a store."
)
@together(_OPTIONS)
@click.option(
    "--sizes",
    default="product",
    show_default=True,
    help="product, or axes: widths at the smallest depth and depths at the smallest width only.",
)
@click.option("--dry-run", is_flag=True, help="Say how many runs and how long, and stop.")
def sweep_command(model: str, sizes: str, **options: Any) -> None:
    """Runs of one shape train as one batched program."""
    with one_line(_kept(options["store"])):
        from leadline.reporting.progress import Progress
        from leadline.sweeps.driver import sweep
        from leadline.sweeps.schedule import SweepEstimate

        how = _settings(model, options)
        schemes = options["scheme"].split(",")
        with Progress(quiet=options["quiet"]) as bar:
            result = sweep(scheme=schemes, sizes=sizes, progress=bar, **how)
        if isinstance(result, SweepEstimate):
            show(json.dumps(vars(result)) if options["as_json"] else str(result))
            return
        data = {k: getattr(result, k) for k in ("rows", "fresh", "failed", "seconds")}
        show(json.dumps(data) if options["as_json"] else str(result))
        failed = bool(result.failed)
    if failed:
        sys.exit(1)


@click.command(
    "transfer",
    help="Does the best learning rate carry over width and depth; what is lost? Instead of a model, "
    "finished runs: a table (CSV, JSON, JSON lines, parquet) with columns width, depth, lr, loss, seed, "
    "scheme, or a folder (a store, TensorBoard's event files). Exit code 0: it transfers, 1: it does not, "
    "3: undecided.",
)
@together(_OPTIONS)
@runs.COLUMNS
@runs.WHERE
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
def transfer_command(model: str, metric: str, extend: int, **options: Any) -> None:
    """Widths at the smallest depth, depths at the smallest width."""
    code = 0
    with one_line(_kept(options["store"])):
        outputs = Outputs.take(options)
        finished = {k: options.pop(k) for k in ("columns", "where")}
        result: Any
        if runs.is_table(model, _BUILTIN):
            result = runs.transferred(model, metric, options["scheme"], **finished)
        else:
            runs.refuse_for_models(**finished)
            result = _transferred(model, metric, extend, options)
            if options["dry_run"]:
                show(json.dumps(vars(result)) if options["as_json"] else str(result))
                return

        def page(command: str) -> Page:
            from leadline.transferring.result import transfer_page

            return transfer_page(result, command)

        code = outputs.answer("transfer", result, page, as_json=options["as_json"])
    sys.exit(code)


def _transferred(model: str, metric: str, extend: int, options: dict[str, Any]) -> Any:
    from leadline.reporting.progress import Progress
    from leadline.transferring.transfers import transfer

    how = _settings(model, options)
    how |= dict(schemes=options["scheme"].split(","), metric=metric, extend=extend)
    with Progress(quiet=options["quiet"]) as bar:
        return transfer(progress=bar, **how)


@click.command("study", help="Measure the paper's claims: verdicts, data and a report.")
@click.option("--claims", default=None, metavar="3,7", help="Numbers 1 to 10; default: all.")
@click.option(
    "--figure",
    "figures",
    default=None,
    metavar="2",
    help="Figures 1 to 3 of the paper, by its protocol.",
)
@click.option("--preset", default="quick", show_default=True, help="quick, standard or full.")
@click.option(
    "--problem", default="digits", show_default=True, help="digits, cifar10:PATH or mnist:FOLDER."
)
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
@QUIET
def study_command(
    claims: str | None, figures: str | None, out: str, dry_run: bool, **options: Any
) -> None:
    """Print the verdicts; the report is in the folder."""
    as_json, quiet = options.pop("as_json"), options.pop("quiet")
    words = f"finished cells are in {out}; the same command goes on"
    kept: Kept = [] if dry_run else [(Path(out) / "store", _has_runs, words)]
    with one_line(kept):
        wanted = None if claims is None else values.claims(claims)
        options["figures"] = None if figures is None else values.claims(figures, "figure")
        if dry_run:
            from leadline.claims.measurement import outline

            options.pop("resume")
            plan = outline(wanted, out=out, **options)
            show(json.dumps(plan.to_json()) if as_json else str(plan))
            return
        from leadline.claims.measurement import study
        from leadline.reporting.progress import Progress

        with Progress(quiet=quiet) as bar:
            result = study(wanted, out=out, progress=bar, **options)
        show(json.dumps(result.to_json()) if as_json else repr(result))
        if not lifecycle.state.unwritten:
            click.echo(f"wrote {result.path / 'report.html'} and verdicts.json", err=True)


COMMANDS = (study_command, sweep_command, transfer_command)
