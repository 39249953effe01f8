"""A page's document: the template, filled."""

from __future__ import annotations

import base64
import hashlib
import mimetypes
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from leadline.reporting.page_figures import drawable
from leadline.reporting.page_numbers import interval, is_number

if TYPE_CHECKING:
    from leadline.reporting.page import Page

# Glyph and style of a verdict: never told apart by colour alone.
VERDICTS = {"holds": ("✓", "holds"), "fails": ("✕", "fails"), "undecided": ("?", "undecided")}


def document(page: Page) -> str:
    """HTML of a page."""
    scripts = dict(plotly=_plotly(), page=_asset("page.js"))
    filled = (
        _environment()
        .get_template("page.html")
        .render(
            page=page,
            style=Markup(_asset("page.css")),
            scripts={k: Markup(v) for k, v in scripts.items()},
            policy=_policy(list(scripts.values())),
            judged=[s for s in page.sections if s.verdict is not None],
        )
    )
    # A file name may hold bytes that are no text; UTF-8 cannot say them.
    return filled.encode("utf-8", "surrogatepass").decode("utf-8", "replace")


@cache
def _environment() -> Environment:
    env = Environment(
        loader=PackageLoader("leadline.reporting"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    env.filters["drawable"] = lambda d: htmlsafe_json_dumps(drawable(d.figure))
    env.filters["link"] = _link
    env.tests["numeric"] = is_number
    env.globals["interval"] = interval
    env.globals["badge"] = _badge
    return env


def _badge(verdict: str) -> tuple[str, str]:
    return VERDICTS.get(verdict, ("•", "other"))


def _link(download: tuple[str, str]) -> str:
    """A file's content as a link that asks nobody for it."""
    name, content = download
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


def _policy(scripts: list[str]) -> str:
    """Only the page's own scripts run, and nothing is fetched."""
    hashes = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts]
    allowed = " ".join(f"'sha256-{h}'" for h in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
