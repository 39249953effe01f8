"""``leadline train`` and ``solve`` of a FILE.py: its model, and what flags and file say of the training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from leadline.cli import values
from leadline.cli.flags import COURSE, MODELS, OF_A_MODEL, together
from leadline.cli.sweeps import model_of
from leadline.cli.user_file import READING, is_file, load

if TYPE_CHECKING:
    from leadline.measure.observation import Measure
    from leadline.recipes.base import Recipe

_RESNETS = ("activation", "block_layers", "skip", "gain", "horizon", "train", "center", "loss")
_RESNETS += ("measure_times", "variance_reduction", "storage", "spill")
"""Flags that say what a ``ResNet`` is, or that only it has."""
_MODELS = tuple(f.argument for f in OF_A_MODEL)
_MODELS += ("schedule", "warmup", "clip", "accumulation", "role", "inputs")
_RECIPE = ("lr", "steps", "batch_size", "momentum", "weight_decay")


def of_a_model(command: str) -> Callable[[Any], Any]:
    """Decorator: the model and its flags, for commands that take one."""
    if command not in MODELS.split():
        return lambda function: function
    model = click.argument("model", required=False, metavar="[FILE.py[:BUILD]|mlp|gpt]")
    return together([model, *_options(command), *COURSE, *READING])


def _options(command: str) -> list[Callable[[Any], Any]]:
    return [f.option(command) for f in OF_A_MODEL if command in f.commands.split()]


def training(options: dict[str, Any]) -> tuple[Any, Any, Recipe] | None:
    """Task, builder and recipe of a model, whose flags leave the options; None for a ``ResNet``.

    Raises:
        ValueError: a flag that only the other has.
    """
    reference = options.pop("model", None)
    wrong = _told(_MODELS if reference is None else _RESNETS, options)
    if wrong and reference is None:
        raise ValueError(f"{wrong[0]} is for a model: name it, FILE.py[:BUILD], or leave it out")
    if reference is None:
        for name in _MODELS:
            options.pop(name, None)
        return None
    if wrong:
        raise ValueError(f"{wrong[0]} is for the built-in ResNet: leave it out for {reference}")
    if reference == "resnet":
        raise ValueError("model='resnet' is what is trained without a model: leave it out")
    problem = options.pop("problem") if _told(("problem",), options) else None
    task, build, told = model_of(reference, problem, options.pop("role"), options.pop("inputs"))
    module = load(reference)[0] if is_file(reference) else None
    recipe = _recipe(module, told.pop("schedule", None), options)
    if options.get("checkpoint") is not None and not _told(("checkpoint",), options):
        options["checkpoint"] = _checkpoint(options["checkpoint"], task, build, recipe)
    for name in (*_RESNETS, "problem", "optimizer", "betas", "eps", "adamw_lr"):
        options.pop(name, None)
    width, depth = values.size("base", options["base"], "64x4")
    options |= told | {"base": dict(width=width, depth=depth)}
    if "stored" in options:
        options["stored"] = parts(options["stored"])
    return task, build, recipe


def measuring(options: dict[str, Any]) -> Measure | None:
    """What the flags ask to measure, which leave the options; None for nothing.

    Raises:
        ValueError: steps, times or modules of nothing.
    """
    told = {
        k: options.pop(k, None) for k in ("quantities", "modules", "measure_steps", "measure_times")
    }
    how: dict[str, Any] = {k: parts(v) for k, v in told.items() if v is not None}
    if not {"quantities", "modules"} & how.keys():
        for flag in how:
            raise ValueError(
                f"{flag}={told[flag]!r} is for --measure: give such as --measure feature_kernel,movement, "
                "for a model with --modules"
            )
        return None
    from leadline.measure.observation import Measure

    for flag, kind in (("measure_steps", int), ("measure_times", float)):
        if how.pop(flag, None) is not None:
            how[flag.removeprefix("measure_")] = tuple(values.numbers(flag, told[flag], kind))
    return Measure(**how)


def parts(text: str | None) -> tuple[str, ...]:
    """What stands between commas."""
    return tuple(filter(None, (p.strip() for p in (text or "").split(","))))


def _checkpoint(path: str, task: Any, build: Any, recipe: Recipe) -> str | None:
    """The file that --out keeps by default; none where what is trained cannot be told from others."""
    from leadline.matrixfree.run_state import check_identified

    try:
        check_identified(build, task, recipe, "checkpoint")
    except TypeError as error:
        click.echo(f"Warning: no checkpoint is kept: {error}", err=True)
        return None
    return path


def _told(names: tuple[str, ...], options: dict[str, Any]) -> list[str]:
    """The flags of these arguments that the command line has."""
    context = click.get_current_context()
    said = [p for p in context.command.params if p.name in names and p.name in options]
    return [
        p.opts[0]
        for p in said
        if context.get_parameter_source(p.name or "") is ParameterSource.COMMANDLINE
    ]


def _recipe(module: Any, schedule: Any, options: dict[str, Any]) -> Recipe:
    """The recipe of the flags; of the file where it has one, changed by the flags that are there."""
    from leadline.errors import check_choice, check_type
    from leadline.recipes.base import Recipe
    from leadline.recipes.elementwise import Adam, AdamW, Lion, SignSGD
    from leadline.recipes.muon import Muon
    from leadline.recipes.sgd import SGD

    kinds: dict[str, type[Recipe]] = {
        "sgd": SGD, "adam": Adam, "adamw": AdamW, "lion": Lion, "signsgd": SignSGD, "muon": Muon,
        "muon-match-rms": Muon,
    }  # fmt: skip
    written = getattr(module, "recipe", None)
    if written is not None:
        check_type(
            "recipe", written, Recipe, "let FILE.py define such as recipe = leadline.AdamW()"
        )
    for name in ("optimizer", "scheduler"):
        if hasattr(module, name) and written is None:
            click.echo(
                f"Warning: {name} of the file is not used: a recipe makes it; give --optimizer, or define "
                "recipe there",
                err=True,
            )
    name = options["optimizer"] or (written.optimizer if written is not None else "adamw")
    check_choice("optimizer", name, kinds)
    how = {k: options.pop(k) for k in _RECIPE if _told((k,), options) or k == "steps"}
    for k in _RECIPE:
        options.pop(k, None)
    if written is not None and not _told(("steps",), options | how):
        how["steps"] = written.steps
    if options["betas"] is not None:
        how["betas"] = tuple(values.numbers("betas", options["betas"], float))
    if options["eps"] is not None:
        how["eps"] = options["eps"]
    if options["adamw_lr"] is not None:
        how["adamw"] = {"lr": options["adamw_lr"]}
    clip = options.pop("clip")
    if clip is not None:
        (how["clip"],) = values.numbers("clip", clip, float)[:1]
    course = _course(schedule, how["steps"], options)
    if course is not None:
        how["schedule"] = course
    kind = kinds[name]
    known = {f.name for f in fields(kind)}
    for k in how:
        if k not in known:
            raise ValueError(f"{k}={how[k]!r} is none of the settings of {name}: leave it out")
    if kind is Muon:
        how["adjust"] = "match-rms" if name == "muon-match-rms" else "original"
    same = written is not None and isinstance(written, kind)
    return replace(written, **how) if same else kind(**how)


def _course(schedule: Any, steps: int, options: dict[str, Any]) -> list[float] | None:
    """The multipliers of lr by flags or by the file's schedule(step, steps); None where all are 1."""
    from leadline.schedules import check_schedule, course

    named, (warmup,) = options.pop("schedule"), values.numbers("warmup", options.pop("warmup"), int)
    if schedule is None and named == "constant" and not warmup:
        return None
    return course(check_schedule("schedule", schedule or named), warmup, steps).tolist()
