"""The commands about a user's own model: ``leadline plan``, ``check`` and ``explain``."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from leadline.cli import values
from leadline.cli.flags import HTML, JSON, QUIET, RECIPE, together
from leadline.cli.lifecycle import one_line, show
from leadline.cli.outputs import Outputs, file
from leadline.cli.user_file import READING, load, reading, settings, task_of
from leadline.disk.write import attempt

if TYPE_CHECKING:
    from leadline.planning.plans import Plan
    from leadline.reporting.page import Page


_OPTIONS = [
    click.argument("reference", metavar="FILE.py[:BUILD]"),
    click.option("--base", default="64x4", show_default=True, help="Base size, WIDTHxDEPTH."),
    click.option("--target", default=None, help="Target size, WIDTHxDEPTH; default: the base."),
    click.option("--scheme", default="auto", show_default=True, help="See `leadline explain`."),
    click.option("--optimizer", default="adamw", show_default=True, help="sgd, adam, adamw, ..."),
    click.option("--batch-ratio", default=1.0, show_default=True, help="Batch over the base's."),
    click.option("--token-ratio", default=1.0, show_default=True, help="Tokens over the base's."),
    *READING,
    JSON,
]


def _ends(options: dict[str, Any]) -> dict[str, Any]:
    """Base and target, where the options say them."""
    out: dict[str, Any] = {}
    for name in ("base", "target"):
        if options[name] is not None:
            width, depth = values.size(name, options[name], "64x4")
            out[name] = dict(width=width, depth=depth)
    return out


def _plan(module: Any, build: Any, options: dict[str, Any]) -> Plan:
    from leadline.planning.plans import plan

    sizes = _ends(options)
    if options.get("depths") is not None and "base" in sizes:
        depths = {*values.integers("depths", options["depths"])}
        if depths == {sizes["base"]["depth"]}:
            # What depth alone leaves undecided is no matter.
            sizes.setdefault("target", sizes["base"])
    how = {k: options[k] for k in ("scheme", "optimizer", "batch_ratio", "token_ratio")}
    how |= reading(module, options["role"], options["inputs"])
    if "inputs" not in how and hasattr(module, "loss") and not options.get("problem"):
        how["inputs"] = _inputs(module, build, sizes["base"])
    return plan(build, **sizes, **how)


def _afforded(
    reference: str, module: Any, build: Any, options: dict[str, Any], hours: float, steps: int
) -> str:
    """What a budget affords, and the command that trains it."""
    from leadline.transferring.budget import affordable

    if options["target"] is None:
        raise ValueError("--budget needs the size that it is for: give --target WIDTHxDEPTH")
    task = task_of(module, options["problem"])
    how = {k: options[k] for k in ("scheme", "optimizer")}
    how |= reading(module, options["role"], options["inputs"])
    budget = affordable(task, build, hours=hours, steps=steps, **_ends(options), **how)
    command = budget.command(reference)
    if options["as_json"]:
        return json.dumps(budget.to_json() | {"command": command})
    return f"{budget}\n\n    {command}"


def _inputs(module: Any, build: Any, base: dict[str, int]) -> Any:
    """What the file's loss calls the model with."""
    from leadline.tasks.first_call import first_call
    from leadline.tasks.task import data_of
    from leadline.tracing.builder import construct, size

    return first_call(data_of(task_of(module, None)), construct(build, size("base", base)))


@click.command("plan", help="Print how every parameter of a model scales from base to target.")
@together(_OPTIONS)
@click.option("--out", type=click.Path(), default=None, help="Write the plan (JSON) to this file.")
@click.option("--code", is_flag=True, help="Print plain PyTorch that does the same.")
@click.option(
    "--budget",
    type=float,
    default=None,
    metavar="HOURS",
    help="Time a few steps, and say which proxy sizes, rates and seeds so many hours afford.",
)
@click.option("--steps", default=100, show_default=True, help="For --budget: of every training.")
@click.option("--problem", default=None, help="For --budget: data, if FILE.py has none.")
def plan_command(
    reference: str, out: str | None, code: bool, budget: float | None, steps: int, **options: Any
) -> None:
    """FILE.py may also define ``inputs`` and ``roles``, or a loss and batches that show the inputs."""
    with one_line([]):
        file("out", out)
        module, build = load(reference)
        result = _plan(module, build, options)
        if budget is not None:
            show(_afforded(reference, module, build, options, budget, steps))
            return
        show(result.to_json() if options["as_json"] else result.to_code() if code else str(result))
        if out is not None and attempt(lambda: result.save(out)):
            click.echo(f"wrote {out}", err=True)


@click.command("explain", help="Print a scheme's table for an optimizer, with reasons and sources.")
@click.argument("scheme")
@click.argument("optimizer", default="adamw")
@JSON
def explain_command(scheme: str, optimizer: str, as_json: bool) -> None:
    """A table of the rules alone, which needs no model."""
    with one_line([]):
        from leadline.planning.explanation import explain

        table = explain(scheme, optimizer)
        rows = [dict(zip(table.header, row, strict=True)) for row in table.rows]
        show(json.dumps({"rows": rows, "notes": table.notes}) if as_json else str(table))


@click.command(
    "check",
    help="Train small sizes of a model; exit 1 if a layer collapses or explodes, 3 if undecided.",
)
@together(_OPTIONS)
@click.option("--widths", default=None, help="Widths, such as 64,128,256; default: 1, 2, 4 × base.")
@click.option("--depths", default=None, help="Depths; default: 1, 2, 4, 8 × the base's.")
@click.option("--steps", default=4, show_default=True, help="Training steps.")
@click.option("--seeds", default=3, show_default=True, help="Seeds of every size.")
@click.option("--lr", default=None, type=float, help="Base learning rate; default: small.")
@click.option("--weight-decay", default=0.0, show_default=True, help="Weight decay of the base.")
@together(RECIPE)
@click.option("--problem", default=None, help="Data, if FILE.py has no loss and batches.")
@click.option(
    "--until-decided",
    default=None,
    type=float,
    metavar="SECONDS",
    help="Add seeds and sizes until it is decided, within this time.",
)
@click.option("--device", default=None, help="A torch device; default: where FILE.py puts things.")
@click.option("--out", type=click.Path(), default=None, help="Folder: check.json, check.html.")
@HTML
@QUIET
def check_command(reference: str, **options: Any) -> None:
    """FILE.py may define ``loss(model, batch)``, ``batch`` or ``batches``, ``optimizer``, ``scheduler``."""
    code = 0
    with one_line([]):
        from leadline.checking.checks import check
        from leadline.checking.report import check_page

        outputs = Outputs.take(options)
        module, build = load(reference)
        task = task_of(module, options["problem"])
        plan = _plan(module, build, options)
        widths = _sizes("widths", options["widths"], plan.base.width, (1, 2, 4))
        depths = _sizes("depths", options["depths"], plan.base.depth, (1, 2, 4, 8))
        how: dict[str, Any] = settings(module, "optimizer", "scheduler")
        how |= {k: options[k] for k in ("weight_decay", "accumulation", "precision")}
        how["schedule"] = getattr(module, "schedule", options["schedule"])
        (how["warmup"],) = values.numbers("warmup", options["warmup"], int)[:1]
        if options["clip"] is not None:
            (how["clip"],) = values.numbers("clip", options["clip"], float)[:1]
        how |= {k: options[k] for k in ("steps", "seeds", "lr", "device", "until_decided")}
        quiet = options["quiet"]
        report = check(task, plan, widths, depths, progress=not quiet, **how)

        def page(command: str) -> Page:
            return check_page(report, command)

        code = outputs.answer("check", report, page, as_json=options["as_json"])
    sys.exit(code)


def _sizes(name: str, text: str | None, base: int, ratios: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(base * k for k in ratios) if text is None else values.integers(name, text)


COMMANDS = (plan_command, check_command, explain_command)
