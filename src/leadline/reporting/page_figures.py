"""Figures as a page draws them: plain JSON in which every string is text."""

from __future__ import annotations

import copy
import json
import re
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from leadline.reporting.page_colours import dark, dark_scale
from leadline.reporting.panels import UNLISTED, ticks

if TYPE_CHECKING:
    import plotly.graph_objects as go

# Pixels of a panel with its axis, and of what lies between two of them.
_PANEL, _BETWEEN = 210, 90
_SINGLE = 340
# A panel's title starts left of its axis, and wraps.
_LETTERS, _LEFT = 40, 48
# Letters of a title across the narrowest figure whose panels stand side by side.
_ACROSS = 84
# Decades from which a narrow figure's horizontal axis has ticks at powers of ten alone.
_ENOUGH = 1.3
# What code may write into a template of hover text; plotly reads these tags.
_TAGS = re.compile(r"&lt;(/?(?:b|i|br|sub|sup|extra)/?)&gt;")
# What the page sets itself, by its colours and its width.
_SET_BY_PAGE = ("title", "template", "width", "margin", "font", "paper_bgcolor", "plot_bgcolor")


def drawable(figure: go.Figure) -> dict[str, Any]:
    """What the page's script draws.

    Returns:
        data: the traces. wide, narrow: layouts; bars: colour bars of the narrow one, by trace.
        dark: colours on a dark page, by the light ones; those of colour scales as "scale:…".
        panels: what ``legends`` says.
        one_by_one: whether a legend entry hides its own curve rather than its group.
    """
    plain = json.loads(figure.to_json() or "{}")
    layout = {k: v for k, v in plain.get("layout", {}).items() if k not in _SET_BY_PAGE}
    legend = layout.pop("legend", {})
    long = log_ticks(figure, layout)
    safe = {"data": text_only(plain.get("data", [])), "layout": text_only(layout)}
    panels = legends(safe)
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
        "panels": panels,
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


def log_ticks(figure: go.Figure, layout: dict[str, Any]) -> list[str]:
    """Set the ticks of every log axis of ``layout`` that has none of its own.

    Returns:
        Names of the axes that are long enough for ticks at powers of ten alone.
    """
    long = []
    for name, axis in layout.items():
        if name[1:5] != "axis" or axis.get("type") != "log":
            continue
        if "tickvals" in axis or "dtick" in axis:
            continue
        short = name[0] + name[5:]
        spans = [_decades(_values(figure, short, name[0]))]
        # Axes that match share their range.
        for other, its in layout.items():
            if other[1:5] == "axis" and short in (its.get("matches"), axis.get("matches")):
                spans.append(_decades(_values(figure, other[0] + other[5:], other[0])))
        axis |= ticks(max(spans))
        if max(spans) > _ENOUGH:
            long.append(name)
    return long


def with_ticks(figure: go.Figure) -> go.Figure:
    """The figure with the ticks that a page gives to its log axes, for where it is shown by itself."""
    layout = json.loads(figure.to_json() or "{}")["layout"]
    log_ticks(figure, layout)
    return figure.update_layout({k: v for k, v in layout.items() if k[1:5] == "axis"})


def _values(figure: go.Figure, axis: str, letter: str) -> Iterable[np.ndarray]:
    for trace in figure.data:
        if getattr(trace, f"{letter}axis", None) in (axis, None if len(axis) == 1 else axis):
            values = getattr(trace, letter, None)
            if values is None:
                continue
            values = np.asarray(values, dtype=object).ravel()
            yield values
            bars = getattr(trace, f"error_{letter}", None)
            if bars is not None and bars.array is not None and bars.symmetric is not False:
                yield from _ends(values, np.asarray(bars.array, dtype=object))


def _ends(values: np.ndarray, bars: np.ndarray) -> Iterable[np.ndarray]:
    """Where error bars end."""
    pairs = [(v, b) for v, b in zip(values, bars, strict=False) if v is not None and b is not None]
    yield np.array([v + b for v, b in pairs], dtype=object)
    yield np.array([v - b for v, b in pairs], dtype=object)


def _decades(arrays: Iterable[np.ndarray]) -> float:
    """log10 of the largest over the smallest positive number."""
    numbers = [v for a in arrays for v in a if isinstance(v, int | float | np.number) and v > 0]
    finite = [float(v) for v in numbers if np.isfinite(v)]
    return float(np.log10(max(finite) / min(finite))) if finite else 0.0


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


def legends(plain: dict[str, Any]) -> list[dict[str, Any]]:
    """The panels in reading order, each with its legend.

    A name is an entry once in each panel that shows it, wherever the curve stands that plotly lists
    for it. What plotly never lists is no entry: bands, heat maps, curves marked ``UNLISTED``.

    Returns:
        title: the panel's, or what its axes say. axes: titles of its axes.
        entries: indices of traces. curves: of all its traces.
        row, first, last: its place in the grid of panels, counted from 1.
    """
    layout, data = copy.deepcopy(plain["layout"]), plain["data"]
    panels = _panels(layout)
    _name_axes(layout, panels)
    named = [_key(t) if _nameable(t) else None for t in data]
    listed = {_key(t) for t in data if _nameable(t) and t.get("showlegend", True)}
    homes = [_home(layout, panels, trace) for trace in data]
    out = []
    for i, (title, place) in enumerate(_places(layout, panels)):
        here = [name if homes[k] == i else None for k, name in enumerate(named)]
        entries = [here.index(name) for name in dict.fromkeys(here) if name in listed]
        curves = [k for k, home in enumerate(homes) if home == i]
        axes = [_axis_title(layout, axis) for axis in (panels or [("xaxis", "yaxis")])[i]]
        out.append({"title": title, "axes": axes, "entries": entries, "curves": curves, **place})
    return out


def _axis_title(layout: dict[str, Any], axis: str) -> str:
    return layout.get(axis, {}).get("title", {}).get("text") or axis[0]


def _key(trace: dict[str, Any]) -> tuple[Any, str]:
    """What tells one curve of a legend from another."""
    return trace.get("legendgroup"), trace["name"]


def _nameable(trace: dict[str, Any]) -> bool:
    never = trace.get("type") == "heatmap" or trace.get("meta") == UNLISTED
    return bool(trace.get("name")) and not never


def _home(layout: dict[str, Any], panels: list[tuple[str, str]], trace: dict[str, Any]) -> int:
    """The panel of a trace; axes that overlay another's follow it."""
    pair = []
    for letter in "xy":
        axis = str(trace.get(f"{letter}axis", letter))
        axis = str(layout.get(f"{letter}axis{axis[1:]}", {}).get("overlaying", axis))
        pair.append(f"{letter}axis{axis[1:]}")
    return panels.index((pair[0], pair[1])) if (pair[0], pair[1]) in panels else 0


def _places(
    layout: dict[str, Any], panels: list[tuple[str, str]]
) -> list[tuple[str, dict[str, int]]]:
    """Title and place of every panel; a figure without a grid is one."""
    if not panels:
        return [("", {"row": 1, "first": 1, "last": 1})]
    across = [layout[x]["domain"] for x, _ in panels]
    down = [layout[y].get("domain", [0, 1]) for _, y in panels]
    lefts, tops = sorted({a[0] for a in across}), sorted({-d[1] for d in down})
    out = []
    for (x, y), a, d in zip(panels, across, down, strict=True):
        heads = [n.get("text") for n in layout.get("annotations", []) if _heads(n, a, d)]
        named = [layout[axis].get("title", {}).get("text") for axis in (y, x)]
        columns = [k for k, left in enumerate(lefts, 1) if a[0] <= left < a[1]]
        title = next(filter(None, heads), " over ".join(filter(None, named)))
        place = {"row": tops.index(-d[1]) + 1, "first": columns[0], "last": columns[-1]}
        out.append((title, place))
    return out


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
