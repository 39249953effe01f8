"""Figures as a page draws them: plain JSON in which every string is text."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from leadline.reporting.page_axes import log_ticks
from leadline.reporting.page_colours import dark, dark_scale
from leadline.reporting.page_stack import stacked, wrap_titles

if TYPE_CHECKING:
    import plotly.graph_objects as go

# What code may write into a template of hover text; plotly reads these tags.
_TAGS = re.compile(r"&lt;(/?(?:b|i|br|sub|sup|extra)/?)&gt;")
# What the page sets itself, by its colours and its width.
_OWN = ("title", "template", "width", "margin", "font", "paper_bgcolor", "plot_bgcolor")


def drawable(figure: go.Figure) -> dict[str, Any]:
    """What the page's script draws.

    Returns:
        data: the traces. wide, narrow: layouts; bars: colour bars of the narrow one, by trace.
        dark: colours on a dark page, by those given; those of colour scales as "scale:…".
        one_by_one: whether a legend entry hides its own curve rather than its group.
    """
    plain = json.loads(figure.to_json() or "{}")
    layout = {k: v for k, v in plain.get("layout", {}).items() if k not in _OWN}
    legend = layout.pop("legend", {})
    long = log_ticks(figure, layout)
    safe = {"data": text_only(plain.get("data", [])), "layout": text_only(layout)}
    wrap_titles(safe["layout"])
    colours: dict[str, str] = {}
    _collect(safe, "", colours)
    narrow, bars = stacked(safe, long)
    return {
        "data": safe["data"],
        "wide": safe["layout"],
        "narrow": narrow,
        "bars": bars,
        "dark": colours,
        "one_by_one": legend.get("groupclick") == "toggleitem",
    }


def text_only(x: Any, key: str = "") -> Any:
    """``x`` with every string escaped, so that plotly shows its tags and entities as they are.

    In templates of hover text the tags that format it stay; what they name is escaped by plotly's
    own rules, as the names are.
    """
    if isinstance(x, dict):
        return {k: text_only(v, k) for k, v in x.items()}
    if isinstance(x, list):
        return [text_only(v, key) for v in x]
    if not isinstance(x, str):
        return x
    escaped = x.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _TAGS.sub(r"<\1>", escaped) if key.endswith("template") else escaped


def _collect(x: Any, key: str, colours: dict[str, str]) -> None:
    """Fill in the dark colour of every colour below ``x``."""
    if isinstance(x, dict):
        for k, v in x.items():
            _collect(v, k, colours)
    elif key == "colorscale" and isinstance(x, list):
        colours |= {f"scale:{k}": v for k, v in dark_scale(x).items()}
    elif isinstance(x, list):
        for v in x:
            if isinstance(v, dict | list | str):
                _collect(v, key, colours)
    elif isinstance(x, str) and key.endswith("color") and (exchanged := dark(x)) is not None:
        colours[x] = exchanged
