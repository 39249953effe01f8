"""A page's document: the template, filled."""

from __future__ import annotations

import base64
import hashlib
import mimetypes
import re
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from leadline.intervals import written
from leadline.reporting.page_figures import drawable

if TYPE_CHECKING:
    from leadline.reporting.page import Drawing, Page, Table

# Glyph and style of a verdict, which is never told apart by colour alone.
_GOOD, _BAD, _OPEN, _OTHER = ("✓", "holds"), ("✕", "fails"), ("?", "undecided"), ("•", "other")
_VERDICTS = {
    **dict.fromkeys(("holds", "passed", "transfers", "agrees"), _GOOD),
    **dict.fromkeys(("fails", "failed", "does not transfer", "contradicts"), _BAD),
    **dict.fromkeys(("undecided", "not decided at this size"), _OPEN),
}
_SCRIPTS = ("theme.js", "figure.js", "legend.js", "numbers.js", "page.js")


def document(page: Page) -> str:
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
        words=_VERDICTS,
        plotted=_plotted,
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


def _plotted(drawing: Drawing) -> Markup:
    """JSON in which no end of a script can hide."""
    return htmlsafe_json_dumps(drawable(drawing.figure), sort_keys=True)


def _link(content: str, name: str) -> str:
    """A file's content as a link that asks nobody for it."""
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
