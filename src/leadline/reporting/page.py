"""A report: sections with figures, as one HTML file that needs no network.

What a page says is plain data (``Page``); ``render`` lays it out. Every string is taken for text,
never for markup, whether it reaches HTML or plotly, which reads tags in names and titles.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from leadline.disk.write import write_atomic

if TYPE_CHECKING:
    import plotly.graph_objects as go


@dataclass(frozen=True)
class Drawing:
    """A figure with its words.

    Attributes:
        title: the caption; the figure's own title is not drawn.
        alt: what the figure shows, for a reader who does not see it.
    """

    figure: go.Figure
    title: str
    alt: str


@dataclass(frozen=True)
class Table:
    """Rows of cells, shown with ``str``; the first cell of a row is its header."""

    head: Sequence[object]
    rows: Sequence[Sequence[object]]
    caption: str = ""


@dataclass(frozen=True)
class Section:
    """One part of a page.

    Attributes:
        anchor: what links name it by: lower-case letters, digits and hyphens.
        sentence: what is claimed, or found.
        verdict: "holds", "fails", "undecided" or other words; a section with one is in the summary.
        number: what the value is.
        value, low, high: the number and its interval.
        found: what was found, in words; it stands before the figures.
        paragraphs: how it was measured.
        command: what makes it again.
        downloads: name and content of the files with its raw data.
    """

    title: str
    anchor: str
    sentence: str = ""
    verdict: str | None = None
    number: str = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    figures: tuple[Drawing, ...] = ()
    paragraphs: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    command: str = ""
    downloads: tuple[tuple[str, str], ...] = ()
    found: tuple[str, ...] = ()


@dataclass(frozen=True)
class Page:
    """A report.

    Attributes:
        lead: paragraphs below the title.
        facts: name and value of how it was made: date, versions, machine class, command.
    """

    title: str
    lead: tuple[str, ...]
    sections: tuple[Section, ...]
    facts: tuple[tuple[str, str], ...] = ()


def render(page: Page) -> str:
    """The page as one self-contained HTML document.

    Raises:
        ValueError: an anchor that is not one, or that two sections share.
    """
    from leadline.reporting.page_html import document

    anchors = [s.anchor for s in page.sections]
    for anchor in anchors:
        if not re.fullmatch(r"[a-z][a-z0-9-]*", anchor):
            raise ValueError(f"anchor={anchor!r} is not one: give lower-case letters, digits, -")
        if anchors.count(anchor) > 1 or anchor in ("summary", "made", "main"):
            raise ValueError(f"anchor={anchor!r} is taken: give every section its own")
    return document(page)


def write(page: Page, path: str | os.PathLike[str]) -> Path:
    """Write the page, whole or not at all."""
    return write_atomic(path, render(page).encode())
