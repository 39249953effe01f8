"""Reports: where commands write them, and ``leadline report``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from leadline.cli.mistakes import one_line

if TYPE_CHECKING:
    from leadline.reporting.page import Page

HTML = click.option(
    "--html", type=click.Path(), default=None, help="Write the report (one HTML file) to this file."
)


def file(html: str | None) -> Path | None:
    """The file of --html, refused before any work if it cannot be one."""
    if html is None:
        return None
    path = Path(html)
    if path.is_dir():
        raise IsADirectoryError(f"html={html!r} is a folder: give a file")
    if path.parent.exists() and not path.parent.is_dir():
        raise NotADirectoryError(f"html={html!r} is below a file: give another")
    return path


def keep(page: Page, out: Path | None, name: str, html: Path | None) -> None:
    """Write the page into the folder, with its content for ``leadline report``, and to the file."""
    from leadline.reporting.page import write
    from leadline.reporting.page_store import save

    if out is not None:
        save(page, out)
        write(page, out / name)
    if html is not None:
        write(page, html)
        click.echo(f"wrote {html}", err=True)


def write_json(out: Path | None, name: str, text: str) -> None:
    """name.json in the folder, beside name.html."""
    if out is not None:
        from leadline.disk.write import write_atomic

        write_atomic(out / f"{name}.json", text.encode())
        click.echo(f"wrote {out / f'{name}.json'} and {out / f'{name}.html'}", err=True)


@click.command("report", help="Write the report of stored results again, as one HTML file.")
@click.argument("folder", metavar="DIR", type=click.Path())
@HTML
def report_command(folder: str, html: str | None) -> None:
    """DIR is what a command wrote with --out; the report goes to DIR/report.html."""
    with one_line([]):
        from leadline.reporting.page import write

        wanted = file(html)
        click.echo(
            write(_stored(folder), Path(folder) / "report.html" if wanted is None else wanted)
        )


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
