"""Figures as a page draws them: plain JSON in which every string is text."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import plotly.graph_objects as go

# What code may write into a template of hover text; plotly reads these tags.
_TAGS = re.compile(r"&lt;(/?(?:b|i|br|sub|sup|extra)/?)&gt;")


def drawable(figure: go.Figure) -> dict[str, Any]:
    """Traces and layout without title and template, which the page sets itself."""
    plain = json.loads(figure.to_json() or "{}")
    layout = plain.get("layout", {})
    for own in ("title", "template", "width"):
        layout.pop(own, None)
    return {"data": text_only(plain.get("data", [])), "layout": text_only(layout)}


def text_only(x: Any, key: str = "") -> Any:
    """``x`` with every string escaped, so that plotly shows its tags and entities as they are.

    In templates of hover text the tags that format it stay.
    """
    if isinstance(x, dict):
        return {k: text_only(v, k) for k, v in x.items()}
    if isinstance(x, list):
        return [text_only(v, key) for v in x]
    if not isinstance(x, str):
        return x
    escaped = x.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _TAGS.sub(r"<\1>", escaped) if key.endswith("template") else escaped
