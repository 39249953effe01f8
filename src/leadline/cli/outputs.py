"""Where a command writes beside stdout: the folder of --out, the report of --html."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from leadline.cli.lifecycle import show
from leadline.disk.write import attempt, check_file, check_folder, write_atomic

if TYPE_CHECKING:
    from leadline.reporting.page import Page


def file(name: str, path: str | None) -> Path | None:
    """The file of a flag, refused before any work if it cannot be written."""
    return None if path is None else check_file(name, path)


@dataclass(frozen=True)
class Outputs:
    """A folder for results and their page, and a file for the page alone; None where not wanted."""

    out: Path | None
    html: Path | None

    @classmethod
    def take(cls, options: dict[str, Any]) -> Outputs:
        """Take --out and --html out of a command's options, and try them before any work.

        A dry run leaves no folder.
        """
        out, html = options.pop("out"), file("html", options.pop("html"))
        if out is not None:
            out = check_folder("out", out, make=not options.get("dry_run"))
        return cls(out, html)

    def answer(self, name: str, result: Any, make: Callable[[str], Page], *, as_json: bool) -> int:
        """Show what ``check`` or ``transfer`` has found and write it, as NAME.json and NAME.html.

        Returns:
            The exit code that it asks for.
        """
        text = result.to_json()
        show(text if as_json else str(result))
        self.keep(make, f"{name}.html", {f"{name}.json": text})
        return result.exit_code

    def keep(self, make: Callable[[str], Page], name: str, others: Mapping[str, Any] = {}) -> None:
        """Write a result that has been shown: each file by itself, whatever becomes of the others.

        Args:
            make: makes the page of a command line; it goes into the folder as ``name``, with its content
                for ``leadline report``, and to the file of --html.
            others: what further files in the folder hold: a text, or data for JSON.
        """
        if self.out is None and self.html is None:
            return
        from leadline.reporting.page import command_line, render
        from leadline.reporting.page_store import save

        wrote: list[Path] = []
        if self.out is not None:
            for other, content in others.items():
                wrote += _write(self.out / other, content, "out")
        page = make(command_line())
        text = render(page)
        if self.out is not None:
            out = self.out
            attempt(lambda: save(page, out))
            wrote += _write(out / name, text, "out")
        if self.html is not None:
            wrote += _write(self.html, text, "html")
        if wrote:
            click.echo(f"wrote {', '.join(map(str, wrote))}", err=True)


def _write(path: Path, content: Any, argument: str) -> list[Path]:
    """The path in a list if it could be written."""
    from leadline.reporting import json_text

    def fill(file: BinaryIO) -> None:
        json_text.write(file, content)

    data = content.encode() if isinstance(content, str) else fill
    return [path] if attempt(lambda: write_atomic(path, data, argument)) else []
