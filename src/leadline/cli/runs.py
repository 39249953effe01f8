"""``leadline runs``: what a store of training runs holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from leadline.cli.mistakes import one_line
from leadline.cli.pages import file
from leadline.cli.start import show


@click.command("runs", help="List the training runs of a store.")
@click.argument("folder", metavar="DIR")
@click.option("--where", multiple=True, metavar="KEY=VALUE", help="Only these; may be repeated.")
@click.option("--columns", default=None, help="Columns, such as width,lr,loss; default: all.")
@click.option("--csv", "csv_file", type=click.Path(), default=None, help="Write CSV to this file.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, and nothing else.")
@click.option("--check", is_flag=True, help="Read everything, curves too, and say what is damaged.")
@click.option(
    "--rescue",
    type=click.Path(),
    default=None,
    metavar="NEW",
    help="Copy what is whole in a damaged store into a new one, and list that.",
)
def runs_command(folder: str, where: tuple[str, ...], columns: str | None, **given: Any) -> None:
    """The table to stdout; what is damaged or lost to stderr."""
    with one_line([]):
        from leadline.disk.write import attempt, write_atomic
        from leadline.sweeps.store import Store, rescue
        from leadline.sweeps.store_values import csv_text

        path, new = file("csv", given["csv_file"]), given["rescue"]
        lost = () if new is None else rescue(folder, new)
        with Store(folder if new is None else new, create=False) as store:
            for problem in (*lost, *(store.check() if given["check"] else ())):
                click.echo(f"Warning: {problem}", err=True)
            table = store.table(dict(_condition(text) for text in where))
            total = len(store)
        if columns is not None and table:
            table = _only(table, columns)
        show(_json(table) if given["as_json"] else _text(table, total, columns is not None))
        if path is not None:
            text = csv_text(table).encode(errors="backslashreplace")
            if attempt(lambda: write_atomic(path, text, "csv")):
                click.echo(f"wrote {path}", err=True)


def has_runs(folder: Path) -> bool:
    """Whether a store holds a run."""
    from leadline.sweeps.store_file import NAME, read_with

    def some(db: Any) -> bool:
        return db.execute("SELECT runs FROM counts").fetchone()[0] > 0

    return (folder / NAME).is_file() and read_with(folder / NAME, some, patience=1.0)


def _condition(text: str) -> tuple[str, Any]:
    """KEY=VALUE; the value is meant as JSON or as it is written, whichever there is."""
    key, equals, raw = text.partition("=")
    if not equals or not key:
        raise ValueError(f"where={text!r} is no condition: give KEY=VALUE")
    from leadline.sweeps.store import AnyOf
    from leadline.sweeps.store_values import loads

    try:
        return key, AnyOf((raw, loads(raw)))
    except ValueError:
        return key, AnyOf((raw, *([float(raw)] if raw.lower() in ("nan", "inf", "-inf") else [])))


def _only(table: list[dict[str, Any]], columns: str) -> list[dict[str, Any]]:
    from leadline.errors import check_choice

    names = [name.strip() for name in columns.split(",") if name.strip()]
    for name in names:
        check_choice("columns", name, table[0])
    return [{name: row[name] for name in names} for row in table]


def _json(table: list[dict[str, Any]]) -> str:
    """Strict JSON: what is not finite as text."""
    from leadline.sweeps.store_values import encode

    def plain(value: Any) -> Any:
        if isinstance(value, tuple):
            return [plain(x) for x in value]
        encoded = encode(value, "value")
        return str(value) if isinstance(encoded, dict) and "$float" in encoded else value

    return json.dumps([{k: plain(v) for k, v in row.items()} for row in table])


def _text(table: list[dict[str, Any]], total: int, all_columns: bool) -> str:
    """A table; what is the same in all runs stands above it."""
    from leadline.reporting.tables import text_table

    count = f"{len(table)} of {total} runs" if len(table) < total else f"{total} runs"
    if not table:
        return count
    cells = [{k: _cell(k, v) for k, v in row.items()} for row in table]
    same = {k: c for k, c in cells[0].items() if all(row[k] == c for row in cells)}
    if all_columns or len(table) == 1:
        same = {}
    header = [k for k in cells[0] if k not in same]
    head = [count] + ([", ".join(f"{k}={c}" for k, c in same.items())] if same else [])
    names = [_printable(k) for k in header]
    return "\n".join([*head, "", text_table(names, [[r[k] for k in header] for r in cells])])


def _cell(column: str, value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.6g}"
    text = _printable(str(value))
    return text[:12] if column == "id" else text if len(text) <= 40 else f"{text[:39]}…"


def _printable(text: str) -> str:
    """What a terminal shows as one cell: control characters and surrogates escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
