"""``leadline transfer RUNS``: of runs that were made elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from leadline.transferring.result import Transfer

COLUMNS = click.option(
    "--columns",
    multiple=True,
    metavar="WHAT=COLUMN",
    help="For RUNS: which column is width, depth, lr, loss, test_loss, seed, scheme or step, where its "
    "name does not say it; by commas, or repeated.",
)
WHERE = click.option(
    "--where",
    multiple=True,
    metavar="COLUMN=V1,V2",
    help="For RUNS: only those with one of these values; may be repeated.",
)
_TAKEN = (
    *("model", "columns", "where", "scheme", "metric"),
    *("out", "html", "as_json", "quiet"),
)
"""Options of ``transfer`` that finished runs take, or that change nothing."""


def is_table(reference: str, models: Sequence[str]) -> bool:
    """Whether a reference is to finished runs: a table's name, a folder, or a file but of Python."""
    from leadline.tabular.files import ENDINGS

    if reference in models:
        return False
    path = Path(reference)
    if reference.lower().endswith(ENDINGS):
        return True
    try:
        return path.is_dir() or (path.is_file() and path.suffix != ".py")
    except (OSError, ValueError):
        return False


def transferred(
    reference: str, metric: str, scheme: str, columns: Sequence[str], where: Sequence[str]
) -> Transfer:
    """The analysis of a table or folder.

    Raises:
        ValueError: options of a training that cannot be, or as ``transfer_from``.
    """
    from leadline.transferring.transfers import transfer_from

    context = click.get_current_context()
    for parameter in context.command.params:
        name = parameter.name or ""
        if name not in _TAKEN and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise ValueError(
                f"{parameter.opts[0]} is for training, and {reference!r} holds finished runs: leave it "
                "out, or choose among the runs with --where COLUMN=VALUE"
            )
    told = context.get_parameter_source("scheme") is ParameterSource.COMMANDLINE
    return transfer_from(
        reference,
        scheme.split(",") if told else None,
        metric,
        columns=dict(_pair("columns", c) for text in columns for c in text.split(",")),
        where={k: v.split(",") for k, v in (_pair("where", text) for text in where)},
    )


def refuse_for_models(columns: Sequence[str], where: Sequence[str]) -> None:
    """Refuse options of finished runs where a model is to be trained."""
    for name, values in (("columns", columns), ("where", where)):
        if values:
            raise ValueError(
                f"{name}={values[0]!r} is for finished runs: give a table such as runs.csv instead of a "
                "model, or leave it out"
            )


def _pair(name: str, text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip() or not value.strip():
        example = "lr=peak_lr" if name == "columns" else "optimizer=adamw"
        raise ValueError(f"{name}={text!r} is not NAME=VALUE: give such as {example}")
    return key.strip(), value.strip()
