"""The commands on what is there already: ``leadline runs`` and ``report``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from leadline.cli import values
from leadline.cli.flags import HTML, JSON
from leadline.cli.lifecycle import one_line, show
from leadline.cli.outputs import file
from leadline.disk.write import attempt, check_file, write_atomic

if TYPE_CHECKING:
    from leadline.reporting.page import Page


@click.command("runs", help="List the training runs of a store.")
@click.argument("folder", metavar="DIR")
@click.option("--where", multiple=True, metavar="KEY=VALUE", help="Only these; may be repeated.")
@click.option("--columns", default=None, help="Columns, such as width,lr,loss; default: all.")
@click.option("--csv", "csv_file", type=click.Path(), default=None, help="Write CSV to this file.")
@JSON
@click.option("--check", is_flag=True, help="Read everything, curves too, and say what is damaged.")
@click.option(
    "--rescue",
    type=click.Path(),
    default=None,
    metavar="NEW",
    help="Copy what is whole in a damaged store into a new one, and list that.",
)
def runs_command(folder: str, where: tuple[str, ...], columns: str | None, **options: Any) -> None:
    """The table to stdout; what is damaged or lost to stderr."""
    with one_line([]):
        from leadline.store.rescue import rescue
        from leadline.store.store import Store
        from leadline.store.values import csv_text

        path, new = file("csv", options["csv_file"]), options["rescue"]
        lost = () if new is None else rescue(folder, new)
        with Store(folder if new is None else new, create=False) as store:
            for problem in (*lost, *(store.check() if options["check"] else ())):
                click.echo(f"Warning: {problem}", err=True)
            table = store.table(dict(values.condition(text) for text in where))
            total = len(store)
        if columns is not None and table:
            table = _only(table, columns)
        show(_json(table) if options["as_json"] else _text(table, total, columns is not None))
        if path is not None:
            text = csv_text(table).encode(errors="backslashreplace")
            if attempt(lambda: write_atomic(path, text, "csv")):
                click.echo(f"wrote {path}", err=True)


def _only(table: list[dict[str, Any]], columns: str) -> list[dict[str, Any]]:
    from leadline.errors import check_choice

    names = [name.strip() for name in columns.split(",") if name.strip()]
    for name in names:
        check_choice("columns", name, table[0])
    return [{name: row[name] for name in names} for row in table]


def _json(table: list[dict[str, Any]]) -> str:
    """Strict JSON: what is not finite as text."""
    from leadline.store.values import encode

    def plain(value: Any) -> Any:
        if isinstance(value, tuple):
            return [plain(x) for x in value]
        encoded = encode(value, "value")
        return str(value) if isinstance(encoded, dict) and "$float" in encoded else value

    return json.dumps([{k: plain(v) for k, v in row.items()} for row in table])


def _text(table: list[dict[str, Any]], total: int, all_columns: bool) -> str:
    """A table; what is the same in all runs stands above it."""
    from leadline.tabular.tables import text_table

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


@click.command("report", help="Write the report of stored results again, as one HTML file.")
@click.argument("folder", metavar="DIR", type=click.Path())
@HTML
def report_command(folder: str, html: str | None) -> None:
    """DIR is what a command wrote with --out; the report goes to DIR/report.html."""
    with one_line([]):
        from leadline.reporting.page import render

        page = _stored(folder)
        name, path = ("folder", Path(folder) / "report.html") if html is None else ("html", html)
        check_file(name, path)
        show(str(write_atomic(path, render(page).encode(), name)))


def _stored(folder: str) -> Page:
    """A study's page is made anew from its data; others are stored as they were made."""
    if (Path(folder) / "verdicts.json").is_file():
        from leadline.claims.studies import load as load_study

        study = load_study(folder)
        if not study.data:
            raise FileNotFoundError(f"{folder!r} has no data of the study any more: run it again")
        return study.page()
    from leadline.reporting.page_store import load

    return load(folder)


COMMANDS = (report_command, runs_command)
