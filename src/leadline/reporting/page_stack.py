"""A figure's panels one below the other, for a narrow page."""

from __future__ import annotations

import copy
import textwrap
from collections.abc import Sequence
from typing import Any

# Pixels of a panel with its axis, and of what lies between two of them.
_PANEL, _BETWEEN = 210, 90
_SINGLE = 340
# A panel's title starts left of its axis, and wraps.
_LETTERS, _LEFT = 40, 48
# Letters of a title across the narrowest figure whose panels stand side by side.
_ACROSS = 84


def stacked(
    plain: dict[str, Any], long: Sequence[str] = ()
) -> tuple[dict[str, Any], dict[int, Any]]:
    """The layout with the panels of a grid stacked, and the traces' colour bars that moved.

    A panel is a pair of axes with domains of their own; axes that overlay another's follow it.

    Args:
        long: horizontal ones of these log axes get ticks at powers of ten alone.
    """
    layout = copy.deepcopy(plain["layout"])
    for name in long:
        if name.startswith("xaxis"):
            layout[name]["dtick"] = 1
    panels = _panels(layout)
    if len(panels) < 2:
        layout["height"] = min(layout.get("height", _SINGLE), _SINGLE)
        return layout, {}
    _name_axes(layout, panels)
    n = len(panels)
    height = n * _PANEL + (n - 1) * _BETWEEN
    share, step = _PANEL / height, (_PANEL + _BETWEEN) / height
    moved: dict[str, list[float]] = {}
    for i, (x, y) in enumerate(panels):
        old_x, old_y = (layout[a].get("domain", [0, 1]) for a in (x, y))
        top = 1 - i * step
        new = [max(top - share, 0.0), top]
        for note in layout.get("annotations", []):
            if _heads(note, old_x, old_y):
                text = note.get("text", "").replace("<br>", " ")
                note |= {"x": 0, "y": top, "xanchor": "left", "xshift": -_LEFT, "align": "left"}
                note |= {"text": _wrapped(text, _LETTERS), "done": True}
        moved[x], moved[y] = [0.0, 1.0], new
    for note in layout.get("annotations", []):
        note.pop("done", None)
    for axis, domain in moved.items():
        layout[axis]["domain"] = domain
        layout[axis]["showticklabels"] = True
    layout["height"] = height + 80
    return layout, _bars(plain, layout, moved)


def wrap_titles(layout: dict[str, Any]) -> None:
    """Break the titles of panels side by side, so that they do not overlap."""
    for x, y in _panels(layout):
        across, down = layout[x]["domain"], layout[y].get("domain", [0, 1])
        for note in layout.get("annotations", []):
            if _heads(note, across, down):
                letters = max(int(_ACROSS * (across[1] - across[0])), 12)
                note["text"] = _wrapped(note.get("text", ""), letters)


def _wrapped(text: str, letters: int) -> str:
    text = text.replace(" = ", "\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}")
    return "<br>".join(textwrap.wrap(text, letters, break_long_words=False))


def _panels(layout: dict[str, Any]) -> list[tuple[str, str]]:
    """Pairs of axes, in reading order."""
    pairs = []
    for name, axis in layout.items():
        if name.startswith("xaxis") and isinstance(axis, dict) and "overlaying" not in axis:
            other = "yaxis" + str(axis.get("anchor", "y"))[1:]
            if other in layout and "domain" in axis:
                pairs.append((name, other))
    return sorted(
        pairs, key=lambda p: (-layout[p[1]].get("domain", [0, 1])[1], layout[p[0]]["domain"][0])
    )


def _name_axes(layout: dict[str, Any], panels: list[tuple[str, str]]) -> None:
    """Give every panel the titles it shared with the panel beside or below it."""
    for pick, other in ((0, 1), (1, 0)):
        for panel in panels:
            axis = layout[panel[pick]]
            if axis.get("title", {}).get("text"):
                continue
            for donor in panels:
                title = layout[donor[pick]].get("title", {})
                near = layout[donor[pick]].get("domain") == axis.get("domain")
                if title.get("text") and near and donor[other] != panel[other]:
                    axis["title"] = copy.deepcopy(title)


def _heads(note: dict[str, Any], x: list[float], y: list[float]) -> bool:
    """Is it the title above the panel with these domains?"""
    if note.get("done") or note.get("xref") != "paper" or note.get("yref") != "paper":
        return False
    return x[0] <= note.get("x", -1) <= x[1] and abs(note.get("y", -1) - y[1]) < 1e-6


def _bars(
    plain: dict[str, Any], layout: dict[str, Any], moved: dict[str, list[float]]
) -> dict[int, Any]:
    """Colour bars beside their panels."""
    out = {}
    for i, trace in enumerate(plain["data"]):
        if trace.get("type") != "heatmap" or trace.get("showscale") is False:
            continue
        low, high = moved.get("yaxis" + str(trace.get("yaxis", "y"))[1:], [0.0, 1.0])
        bar = {"x": 1.0, "y": (low + high) / 2, "yanchor": "middle", "len": high - low}
        out[i] = trace.get("colorbar", {}) | bar
    return out
