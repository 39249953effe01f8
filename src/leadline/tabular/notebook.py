"""What results show in a notebook: their text as HTML, and losses over steps as a figure."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import plotly.graph_objects as go

_BLUE, _GREY = "#2a7fc0", "#888888"
_STYLE = "text-align:{};padding:.1em .7em;white-space:nowrap"


class Shown:
    """A result that a notebook shows as text with tables, not as what a terminal prints."""

    def _repr_html_(self) -> str:
        return as_html(str(self))

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        # The text beside it too, where a record's own repr would list every field.
        return {"text/plain": str(self), "text/html": self._repr_html_()}


class Plotted(Shown):
    """A result that shows as tables in a notebook, and has a figure."""

    def figure(self) -> go.Figure:
        """The figure of this result."""
        raise NotImplementedError

    def plot(self) -> go.Figure:
        """The figure; a notebook shows it as the last value of a cell, elsewhere ``.show()`` does."""
        return self.figure()


def as_html(text: str) -> str:
    """What a terminal prints, with its tables as tables and its first sentence in bold.

    A line of ─ under a header makes a table: it says which columns belong together.

    >>> as_html("Fit: good\\n\\nmore & more")
    '<div><p><b>Fit: good</b></p><p>more &amp; more</p></div>'
    """
    out: list[str] = []
    said: list[str] = []

    def end_paragraph() -> None:
        if said:
            body = "<br>".join(html.escape(line) for line in said)
            body = re.sub("`([^`]+)`", r"<code>\1</code>", body)
            out.append(f"<p>{body}</p>" if out else f"<p><b>{body}</b></p>")
            said.clear()

    lines = text.splitlines()
    k = 0
    while k < len(lines):
        below = lines[k + 1] if k + 1 < len(lines) else ""
        if below and set(below) <= set("─ "):
            end_paragraph()
            rows, spans = [lines[k]], [m.span() for m in re.finditer("─+", below)]
            k += 2
            while k < len(lines) and lines[k].strip() and _in_columns(lines[k], spans):
                rows.append(lines[k])
                k += 1
            out.append(_table(rows, spans))
            continue
        line = lines[k].strip()
        continued = bool(said) and lines[k].startswith("    ")
        if continued:
            said[-1] = f"{said[-1]} {line}"
        elif line:
            if not out and said:
                end_paragraph()
            said.append(line)
        else:
            end_paragraph()
        k += 1
    end_paragraph()
    return f"<div>{''.join(out)}</div>"


def _in_columns(row: str, spans: Sequence[tuple[int, int]]) -> bool:
    """Is nothing between the columns? Otherwise the line is a note under the table."""
    between = zip(
        [0, *(end for _, end in spans)], [*(begin for begin, _ in spans), None], strict=True
    )
    return not any(row[a:b].strip() for a, b in between)


def _table(rows: Sequence[str], spans: Sequence[tuple[int, int]]) -> str:
    """Cells by the columns of the rule under the header; numbers to the right."""
    cells = [[row[a:b].strip() for a, b in spans] for row in rows]
    number = re.compile(r"[+−-]?[\d.∞–]")
    right = [
        all(number.match(row[i]) or not row[i] for row in cells[1:]) for i in range(len(spans))
    ]

    def line(row: Sequence[str], tag: str) -> str:
        style = (_STYLE.format("right" if r else "left") for r in right)
        made = (
            f'<{tag} style="{s}">{html.escape(c)}</{tag}>' for s, c in zip(style, row, strict=True)
        )
        return f"<tr>{''.join(made)}</tr>"

    body = "".join(line(row, "td") for row in cells[1:])
    return f"<table><thead>{line(cells[0], 'th')}</thead><tbody>{body}</tbody></table>"


def losses_over_steps(
    steps: np.ndarray, curves: Sequence[tuple[str, Any, Any]], title: str
) -> go.Figure:
    """Losses with bands of about 95 %.

    Args:
        steps: (R,).
        curves: name, loss (R,) and half-width (R,), NaN where it is not known.
    """
    import plotly.graph_objects as go

    figure = go.Figure()
    for (name, loss, error), color in zip(curves, (_BLUE, _GREY), strict=False):
        wide = np.nan_to_num(np.asarray(error, float))
        x, y = np.asarray(steps), np.asarray(loss, float)
        if wide.any():
            around = np.concatenate([y + wide, (y - wide)[::-1]])
            figure.add_scatter(
                x=np.concatenate([x, x[::-1]]), y=around, fill="toself", mode="none",
                fillcolor=color, opacity=0.25, name=f"{name}, 95 %", hoverinfo="skip",
            )  # fmt: skip
        figure.add_scatter(x=x, y=y, mode="lines+markers", name=name, line={"color": color})
    figure.update_layout(
        title=title, xaxis_title="training step", yaxis_title="loss", template="plotly_white"
    )
    return figure
