"""Reports: where commands write them, and ``leadline report``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from leadline.cli.mistakes import one_line
from leadline.cli.start import show
from leadline.disk.write import attempt, check_file, write_atomic

if TYPE_CHECKING:
    from leadline.reporting.page import Page

HTML = click.option(
    "--html", type=click.Path(), default=None, help="Write the report (one HTML file) to this file."
)


def file(name: str, path: str | None) -> Path | None:
    """The file of a flag, refused before any work if it cannot be written."""
    return None if path is None else check_file(name, path)


def keep(
    make: Callable[[], Page],
    out: Path | None,
    name: str,
    html: Path | None,
    others: Mapping[str, Any] = {},
) -> None:
    """Write a result that has been shown: each file by itself, whatever becomes of the others.

    Args:
        make: makes the page; it goes into the folder as ``name``, with its content for ``leadline
            report``, and to the file ``html``.
        others: what further files in the folder hold: a text, or data for JSON.
    """
    from leadline.reporting import json_text
    from leadline.reporting.page import render
    from leadline.reporting.page_store import save

    if out is None and html is None:
        return
    wrote: list[Path] = []

    def put(path: Path, content: Any, argument: str) -> None:
        def fill(file: BinaryIO) -> None:
            json_text.write(file, content)

        data = content.encode() if isinstance(content, str) else fill
        if attempt(lambda: write_atomic(path, data, argument)):
            wrote.append(path)

    if out is not None:
        for other, text in others.items():
            put(out / other, text, "out")
    page = make()
    text = render(page)
    if out is not None:
        attempt(lambda: save(page, out))
        put(out / name, text, "out")
    if html is not None:
        put(html, text, "html")
    if wrote:
        click.echo(f"wrote {', '.join(map(str, wrote))}", err=True)


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
        from leadline.claims.study import load as load_study

        study = load_study(folder)
        if not study.data:
            raise FileNotFoundError(f"{folder!r} has no data of the study any more: run it again")
        return study.page()
    from leadline.reporting.page_store import load

    return load(folder)
