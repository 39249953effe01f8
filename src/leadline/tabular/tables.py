"""Tables as plain text and as CSV."""

from __future__ import annotations

import csv
import io
import math
import re
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np

WIDE = 100
"""Columns of a terminal."""


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Columns aligned by spaces; the first ``left`` ones to the left, the rest to the right."""
    lines = [list(header), *[list(row) for row in rows]]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    out = []
    for line in lines:
        cells = [
            cell.ljust(w) if i < left else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        ]
        out.append("  ".join(cells).rstrip())
    out.insert(1, "  ".join("─" * w for w in widths))
    return "\n".join(out)


def wrapped(text: str, first: str = "") -> list[str]:
    """A text in lines of a terminal's 100 columns, the first one behind ``first``.

    A percent sign and an option's value stay beside what they belong to.

    >>> [len(line) for line in wrapped("x" * 95 + " 5.5 % more")], wrapped("y" * 90 + " --lrs 1:4:2")[1]
    ([95, 14], '    --lrs 1:4:2')
    """
    tied = re.sub(r"(?<=\d) (?=%)|(?<= --lrs) (?=\S)", _TIE, text)
    lines = textwrap.wrap(
        tied, WIDE, initial_indent=first, subsequent_indent="    ", break_on_hyphens=False
    )
    return [line.replace(_TIE, " ") for line in lines]


# A space at which no line breaks: textwrap breaks at ASCII's alone.
_TIE = "\u00a0"


def number(x: float | None, digits: int = 3) -> str:
    """A short number; an en dash for none."""
    if x is None:
        return "–"
    return f"{x:.{digits}g}" if math.isfinite(x) else "diverged"


def with_error(x: float | None, error: float | None) -> str:
    """``value ± error``, the value to the error's last digit.

    >>> with_error(0.019812, 0.00034)
    '0.01981 ± 0.00034'
    >>> with_error(-0.0002, 0.025)
    '0.000 ± 0.025'
    """
    if x is None or error is None or not math.isfinite(x) or not math.isfinite(error):
        return number(x, 4)
    if error <= 0 or error < 1e-12 * abs(x):
        return f"{x:.4g}"
    places = 1 - math.floor(math.log10(error))
    if not 0 <= places <= 8:
        return f"{x:.4g} ± {error:.2g}"
    # Adding 0 takes the sign off a zero.
    return f"{round(x, places) + 0.0:.{places}f} ± {error:.{places}f}"


def table_csv(rows: Sequence[Any]) -> str:
    """Dicts with the same keys."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def matrix_csv(matrix: Any) -> str:
    """A matrix, one row a line."""
    return "".join(",".join(f"{v:.9g}" for v in row) + "\n" for row in np.asarray(matrix))
