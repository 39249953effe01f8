"""A report: sections with figures, as one HTML file that needs no network.

What a page says is plain data (``Page``); ``render`` lays it out. Every string is taken for text,
never for markup, whether it reaches HTML or plotly, which reads tags in names and titles.
"""

from __future__ import annotations

import base64
import hashlib
import mimetypes
import os
import platform
import re
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from jinja2 import Environment, PackageLoader, StrictUndefined
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from leadline.disk.write import write_atomic
from leadline.intervals import written
from leadline.reporting.page_figures import drawable
from leadline.trajectory import versions

if TYPE_CHECKING:
    import plotly.graph_objects as go


# Glyph and style of a verdict, which is never told apart by colour alone.
_GOOD, _BAD, _OPEN, _OTHER = ("✓", "holds"), ("✕", "fails"), ("?", "undecided"), ("•", "other")
_VERDICTS = {
    **dict.fromkeys(("holds", "passed", "transfers", "agrees"), _GOOD),
    **dict.fromkeys(("fails", "failed", "does not transfer", "contradicts"), _BAD),
    **dict.fromkeys(("undecided", "not decided at this size"), _OPEN),
}
# Values of a problem that a page leaves out.
_LONG = ("name", "fingerprint")
_SCRIPTS = ("theme.js", "figure.js", "legend.js", "numbers.js", "page.js")


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
        sentence: the claim, or the result.
        verdict: "holds", "fails", "undecided" or other words; a section with one is in the summary.
        number: what the value is.
        value, low, high: the number and its interval.
        findings: the results in words; they stand before the figures.
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
    findings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Page:
    """A report.

    Attributes:
        lead: paragraphs below the title, after the answer.
        facts: name and value of how it was made: date, versions, machine class, command.
        answer: what was found, in sentences, before all else.
        commands: what to run to decide what is open.
    """

    title: str
    lead: tuple[str, ...]
    sections: tuple[Section, ...]
    facts: tuple[tuple[str, str], ...] = ()
    answer: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()


def render(page: Page) -> str:
    """The page as one self-contained HTML document.

    Raises:
        ValueError: an anchor that is not one, or that two sections share.
    """
    anchors = [s.anchor for s in page.sections]
    for anchor in anchors:
        if not re.fullmatch(r"[a-z][a-z0-9-]*", anchor):
            raise ValueError(f"anchor={anchor!r} is not one: give lower-case letters, digits, -")
        if anchors.count(anchor) > 1 or anchor in ("summary", "made", "main"):
            raise ValueError(f"anchor={anchor!r} is taken: give every section its own")
    return _document(page)


def write(page: Page, path: str | os.PathLike[str]) -> Path:
    """Write the page, whole or not at all."""
    return write_atomic(path, render(page).encode())


def _document(page: Page) -> str:
    """HTML of a page."""
    scripts = (_plotly(), "".join(_asset(name) for name in _SCRIPTS))
    judged = [s for s in page.sections if s.verdict is not None]
    filled = _template().render(
        page=page,
        style=Markup(_asset("page.css")),
        scripts=[Markup(s) for s in scripts],
        policy=_policy(scripts),
        # One verdict needs no summary: it stands below the title.
        judged=judged if len(judged) > 1 else [],
        badge=lambda verdict: _VERDICTS.get(verdict, _OTHER),
        interval=written,
        aligned=_aligned,
        open=any(_VERDICTS.get(s.verdict or "") == _OPEN for s in judged),
        words=_VERDICTS,
        plotted=_plotted,
        unbroken=_unbroken,
        link=_link,
    )
    # A file name may hold bytes that are no text; UTF-8 cannot say them.
    return filled.encode("utf-8", "surrogatepass").decode("utf-8", "replace")


@cache
def _template():
    env = Environment(
        loader=PackageLoader("leadline.reporting"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    return env.get_template("page.html")


def _aligned(table: Table, column: int) -> bool:
    """Is a column one of numbers, set to the right? The first one names its row."""
    cells = [row[column] for row in table.rows if column < len(row)]
    return column > 0 and bool(cells) and all(map(is_number, cells))


def is_number(cell: object) -> bool:
    """Is a cell to be set to the right: a number, with an error, an interval or a unit sign?

    >>> [is_number(c) for c in ("0.1 ± 0.2", "−3", "12 %", "∞", "tanh", "–", "1.2 [1, 3]")]
    [True, True, True, True, False, True, True]
    """
    return bool(re.fullmatch(r"[–∞]|[+−-]?[\d.∞][\d.,eE∞+−…± \[\]%×-]*", str(cell).strip()))


def _unbroken(cell: object) -> str:
    """A cell whose interval is not cut in two: lines end before it."""
    return re.sub(r"(?<=,) (?=[^\[\]]*\])|(?<=±) | (?=±)| (?=%)", "\u00a0", str(cell))


def _plotted(drawing: Drawing) -> Markup:
    """JSON in which no end of a script can hide."""
    return htmlsafe_json_dumps(drawable(drawing.figure), sort_keys=True)


def _link(content: str, name: str) -> str:
    """A file's content as a link that needs no network."""
    kind = mimetypes.guess_type(name)[0] or "text/plain"
    data = base64.b64encode(content.encode("utf-8", "replace")).decode()
    return f"data:{kind};charset=utf-8;base64,{data}"


@cache
def _asset(name: str) -> str:
    return (files("leadline.reporting") / "templates" / name).read_text("utf-8")


@cache
def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return get_plotlyjs()


def _policy(scripts: tuple[str, ...]) -> str:
    """Only the page's own scripts run, and nothing is fetched."""
    hashes = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts]
    allowed = " ".join(f"'sha256-{h}'" for h in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )


def facts(
    command: str = "", more: Mapping[str, object] | None = None
) -> tuple[tuple[str, str], ...]:
    """Date, versions, machine class and command, as a page's ``facts``.

    Args:
        command: the command line; "" leaves it out. more: names and values shown before it.
    """
    shown = {
        "Date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "Versions": ", ".join(f"{k} {v}" for k, v in versions().items()),
        "Machine": machine(),
        **(more or {}),
    }
    pairs = [(k, str(v)) for k, v in shown.items()]
    return (*pairs, ("Command", command)) if command else tuple(pairs)


def machine(device: str | None = None) -> str:
    """The class of machine: cores, memory, and the accelerator there is, or that ``device`` names."""
    import torch

    memory = psutil.virtual_memory().total / 2**30
    if device is None:
        gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    elif device.startswith("cuda"):
        gpu = torch.cuda.get_device_name(device)
    else:
        gpu = "no GPU used" if device == "cpu" else device
    return f"{os.cpu_count()} cores ({platform.machine()}), {memory:.0f} GiB, {gpu}"


def command_line() -> str:
    """The command that this process was started by."""
    return shlex.join(["leadline", *sys.argv[1:]])


_SETTINGS = (
    ("problem", "Problem"),
    ("network", "Network"),
    ("sgd", "Recipe"),
    ("recipe", "Recipe"),
)


def settings(info: Any) -> dict[str, object]:
    """Problem, network and recipe, as far as a result knows them."""
    out: dict[str, object] = {}
    for key, name in _SETTINGS:
        values = info.get(key)
        if isinstance(values, dict):
            out[name] = ", ".join(
                f"{k} {v}" for k, v in values.items() if v is not None and k not in _LONG
            )
    return out
