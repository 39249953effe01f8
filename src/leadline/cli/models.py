"""The commands about a user's own model: ``leadline plan``, ``check`` and ``explain``."""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from leadline.cli import values
from leadline.cli.flags import HTML, JSON, QUIET, together
from leadline.cli.lifecycle import one_line, show
from leadline.cli.outputs import Outputs, file
from leadline.disk.write import attempt

if TYPE_CHECKING:
    from types import ModuleType

    from leadline.planning.plans import Plan
    from leadline.reporting.page import Page


def load(reference: str) -> tuple[ModuleType, Any]:
    """The module and the builder that ``module.py:build`` or ``package.module:build`` names.

    Raises:
        ValueError: no such file, module or name; or its import fails.
    """
    where, _, name = reference.rpartition(":")
    if not where or not name:
        raise ValueError(f"build={reference!r} is no reference: give FILE.py:NAME or MODULE:NAME")
    try:
        if where.endswith(".py"):
            path = Path(where)
            if not path.is_file():
                raise ValueError(f"build={reference!r}: there is no file {where!r}")
            spec = importlib.util.spec_from_file_location(path.stem, path)
            if spec is None or spec.loader is None:
                raise ValueError(f"build={reference!r}: {where!r} cannot be imported")
            module = importlib.util.module_from_spec(spec)
            sys.modules[path.stem] = module
            sys.path.insert(0, str(path.parent.resolve()))
            spec.loader.exec_module(module)
        else:
            sys.path.insert(0, "")
            module = importlib.import_module(where)
    except ValueError:
        raise
    except Exception as e:
        raise ValueError(
            f"build={reference!r}: importing {where!r} failed with {type(e).__name__}: {e}"
        ) from e
    if not hasattr(module, name):
        near = [n for n in vars(module) if callable(getattr(module, n)) and not n.startswith("_")]
        raise ValueError(
            f"build={reference!r}: {where!r} has no {name!r}; it has {', '.join(near)}"
        )
    return module, getattr(module, name)


_OPTIONS = [
    click.argument("reference", metavar="FILE.py:BUILD"),
    click.option("--base", default="64x4", show_default=True, help="Base size, WIDTHxDEPTH."),
    click.option("--target", default=None, help="Target size, WIDTHxDEPTH; default: the base."),
    click.option("--scheme", default="auto", show_default=True, help="See `leadline explain`."),
    click.option("--optimizer", default="adamw", show_default=True, help="sgd, adam, adamw, ..."),
    click.option("--batch-ratio", default=1.0, show_default=True, help="Batch over the base's."),
    click.option("--token-ratio", default=1.0, show_default=True, help="Tokens over the base's."),
    JSON,
]


def _plan(module: Any, build: Any, options: dict[str, Any]) -> Plan:
    from leadline.planning.plans import plan

    sizes: dict[str, Any] = {}
    for name in ("base", "target"):
        if options[name] is not None:
            width, depth = values.size(name, options[name], "64x4")
            sizes[name] = dict(width=width, depth=depth)
    settings = {k: options[k] for k in ("scheme", "optimizer", "batch_ratio", "token_ratio")}
    return plan(
        build,
        **sizes,
        **settings,
        inputs=getattr(module, "inputs", None),
        roles=getattr(module, "roles", None),
    )


@click.command("plan", help="Print how every parameter of a model scales from base to target.")
@together(_OPTIONS)
@click.option("--out", type=click.Path(), default=None, help="Write the plan (JSON) to this file.")
@click.option("--code", is_flag=True, help="Print plain PyTorch that does the same.")
def plan_command(reference: str, out: str | None, code: bool, **options: Any) -> None:
    """FILE.py may also define ``inputs`` and ``roles``."""
    with one_line([]):
        file("out", out)
        result = _plan(*load(reference), options)
        show(result.to_json() if options["as_json"] else result.to_code() if code else str(result))
        if out is not None and attempt(lambda: result.save(out)):
            click.echo(f"wrote {out}", err=True)


@click.command("explain", help="Print a scheme's table for an optimizer, with reasons and sources.")
@click.argument("scheme")
@click.argument("optimizer", default="adamw")
@JSON
def explain_command(scheme: str, optimizer: str, as_json: bool) -> None:
    """Needs no model."""
    with one_line([]):
        from leadline.planning.explanation import explain

        table = explain(scheme, optimizer)
        rows = [dict(zip(table.header, row, strict=True)) for row in table.rows]
        show(json.dumps({"rows": rows, "notes": table.notes}) if as_json else str(table))


@click.command(
    "check", help="Train small sizes of a model; exit 1 if a layer collapses or explodes."
)
@together(_OPTIONS)
@click.option("--widths", default=None, help="Widths, such as 64,128,256; default: 1, 2, 4 × base.")
@click.option("--depths", default=None, help="Depths; default: 1, 2, 4, 8 × the base's.")
@click.option("--steps", default=4, show_default=True, help="Training steps.")
@click.option("--seeds", default=3, show_default=True, help="Seeds of every size.")
@click.option("--lr", default=None, type=float, help="Base learning rate; default: small.")
@click.option("--problem", default=None, help="Data, if FILE.py has no `batch` and `loss`.")
@click.option("--device", default=None, help="A torch device; default: where FILE.py puts things.")
@click.option("--out", type=click.Path(), default=None, help="Folder: check.json, check.html.")
@HTML
@QUIET
def check_command(reference: str, **options: Any) -> None:
    """FILE.py may define ``batch``, ``loss(model, batch)``, ``optimizer``, ``scheduler``."""
    with one_line([]):
        from leadline.checking.checks import check

        outputs = Outputs.take(options)
        module, build = load(reference)
        batch, loss = _data(module, options["problem"])
        plan = _plan(module, build, options)
        widths = _sizes("widths", options["widths"], plan.base.width, (1, 2, 4))
        depths = _sizes("depths", options["depths"], plan.base.depth, (1, 2, 4, 8))
        settings = {k: getattr(module, k) for k in ("optimizer", "scheduler") if hasattr(module, k)}
        settings |= {k: options[k] for k in ("steps", "seeds", "lr", "device")}
        quiet = options["quiet"]
        report = check(plan, batch, loss, widths, depths, progress=not quiet, **settings)
        show(report.to_json() if options["as_json"] else str(report))

        def page(command: str) -> Page:
            from leadline.checking.report import check_page

            return check_page(report, command)

        outputs.keep(page, "check.html", {"check.json": report.to_json()})
        passed = report.ok
    if not passed:
        sys.exit(1)


def _sizes(name: str, text: str | None, base: int, ratios: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(base * k for k in ratios) if text is None else values.integers(name, text)


def _data(module: Any, problem: str | None) -> tuple[Any, Any]:
    """The module's own batch and loss, or a problem's with its loss on model(x)."""
    if problem is None:
        missing = [n for n in ("batch", "loss") if not hasattr(module, n)]
        if missing:
            raise ValueError(
                f"the module defines no {' and no '.join(missing)}: define batch and "
                "loss(model, batch) there, or give --problem"
            )
        return module.batch, module.loss
    import torch

    from leadline.problems import parse
    from leadline.problems.losses import loss_value

    data = parse(problem, None)
    x = torch.tensor(data.x, dtype=torch.float32)
    y = torch.tensor(data.y, dtype=torch.float32)

    def loss(model: Any, batch: Any) -> Any:
        f = model(batch[0])
        if getattr(f, "shape", None) != batch[1].shape:
            shape = tuple(f.shape) if isinstance(f, torch.Tensor) else type(f).__name__
            raise ValueError(
                f"the model puts out {shape}, the problem's targets are {tuple(batch[1].shape)}"
            )
        return loss_value(data.loss, f, batch[1])

    return (x, y), loss


COMMANDS = (plan_command, check_command, explain_command)
