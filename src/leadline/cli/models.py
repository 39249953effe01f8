"""``leadline plan``, ``check`` and ``explain``: the commands about a user's own model."""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from leadline.cli.build import folder
from leadline.cli.mistakes import one_line
from leadline.cli.pages import HTML, file, keep
from leadline.cli.start import show
from leadline.disk.write import attempt
from leadline.errors import shown

if TYPE_CHECKING:
    from types import ModuleType

    from leadline.planning.plan import Plan
    from leadline.reporting.page import Page


def _size(text: str, name: str) -> dict[str, int]:
    """WIDTHxDEPTH."""
    match = re.fullmatch(r"\s*([0-9]{1,18})\s*[x×]\s*([0-9]{1,18})\s*", text.lower())
    if match is None:
        raise ValueError(f"{name}={shown(text)} is not WIDTHxDEPTH: give such as 64x4")
    return dict(width=int(match[1]), depth=int(match[2]))


def _numbers(text: str, name: str) -> tuple[int, ...]:
    parts = [p.strip() for p in text.split(",") if p.strip()]
    if not parts or not all(re.fullmatch(r"[0-9]{1,18}", p) for p in parts):
        raise ValueError(f"{name}={shown(text)} is not a list of integers: give such as 64,128,256")
    return tuple(int(p) for p in parts)


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
    click.option("--json", "as_json", is_flag=True, help="Print JSON, and nothing else."),
]


def _options(function: Any) -> Any:
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def _plan(module: Any, build: Any, given: dict[str, Any]) -> Plan:
    from leadline.planning.plan import plan

    target = given["target"]
    return plan(
        build,
        _size(given["base"], "base"),
        None if target is None else _size(target, "target"),
        given["scheme"],
        given["optimizer"],
        given["batch_ratio"],
        given["token_ratio"],
        inputs=getattr(module, "inputs", None),
        roles=getattr(module, "roles", None),
    )


def _save(out: str | None, plan: Plan) -> None:
    if out is not None and attempt(lambda: plan.save(out)):
        click.echo(f"wrote {out}", err=True)


@click.command("plan", help="Print how every parameter of a model scales from base to target.")
@_options
@click.option("--out", type=click.Path(), default=None, help="Write the plan (JSON) to this file.")
@click.option("--code", is_flag=True, help="Print plain PyTorch that does the same.")
def plan_command(reference: str, out: str | None, code: bool, **given: Any) -> None:
    """FILE.py may also define ``inputs`` and ``roles``."""
    with one_line([]):
        file("out", out)
        module, build = load(reference)
        made = _plan(module, build, given)
        show(made.to_json() if given["as_json"] else made.to_code() if code else str(made))
        _save(out, made)


@click.command("explain", help="Print a scheme's table for an optimizer, with reasons and sources.")
@click.argument("scheme")
@click.argument("optimizer", default="adamw")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, and nothing else.")
def explain_command(scheme: str, optimizer: str, as_json: bool) -> None:
    """Needs no model."""
    with one_line([]):
        from leadline.planning.explain import explain

        table = explain(scheme, optimizer)
        rows = [dict(zip(table.header, row, strict=True)) for row in table.rows]
        show(json.dumps({"rows": rows, "notes": table.notes}) if as_json else str(table))


@click.command(
    "check", help="Train small sizes of a model; exit 1 if a layer collapses or explodes."
)
@_options
@click.option("--widths", default=None, help="Widths, such as 64,128,256; default: 1, 2, 4 × base.")
@click.option("--depths", default=None, help="Depths; default: 1, 2, 4, 8 × the base's.")
@click.option("--steps", default=4, show_default=True, help="Training steps.")
@click.option("--seeds", default=3, show_default=True, help="Seeds of every size.")
@click.option("--lr", default=None, type=float, help="Base learning rate; default: small.")
@click.option("--problem", default=None, help="Data, if FILE.py has no `batch` and `loss`.")
@click.option("--device", default=None, help="A torch device; default: where FILE.py puts things.")
@click.option("--out", type=click.Path(), default=None, help="Folder: check.json, check.html.")
@HTML
@click.option("--quiet", is_flag=True, help="No progress.")
def check_command(reference: str, out: str | None, **given: Any) -> None:
    """FILE.py may define ``batch``, ``loss(model, batch)``, ``optimizer``, ``scheduler``."""
    with one_line([]):
        from leadline.checking.checks import check

        html, where = file("html", given["html"]), folder({"out": out})
        module, build = load(reference)
        batch, loss = _data(module, given["problem"])
        made = _plan(module, build, given)
        widths = _sizes(given["widths"], "widths", made.base.width, (1, 2, 4))
        depths = _sizes(given["depths"], "depths", made.base.depth, (1, 2, 4, 8))
        how = {k: getattr(module, k) for k in ("optimizer", "scheduler") if hasattr(module, k)}
        how |= {k: given[k] for k in ("steps", "seeds", "lr", "device")}
        report = check(made, batch, loss, widths, depths, progress=not given["quiet"], **how)
        show(report.to_json() if given["as_json"] else str(report))

        def page() -> Page:
            from leadline.checking.report import check_page
            from leadline.reporting.page_facts import command_line

            return check_page(report, command_line())

        keep(page, where, "check.html", html, {"check.json": report.to_json()})
        passed = report.ok
    if not passed:
        sys.exit(1)


def _sizes(text: str | None, name: str, base: int, ratios: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(base * k for k in ratios) if text is None else _numbers(text, name)


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
