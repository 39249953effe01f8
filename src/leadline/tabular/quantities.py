"""Sizes and losses as people write them: 1.3B, 300M, 2^10; what is ambiguous is refused."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from leadline.errors import check_choice, shown
from leadline.tabular.columns import Columns, empty

_SUFFIX = {"k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12, "p": 1e15, "e": 1e18}
_POWER = re.compile(r"(\d+)(?:\^|\*\*)(-?\d+)")
_NUMBER = re.compile(
    r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*([kKmMbBgGtTpP]|E(?![+-]?\d))?"
)
_GROUPED = re.compile(r"[+-]?\d{1,3}(?:[ ,.'_\u00a0\u202f]\d{3})+")
_ONE_POINT = re.compile(r"[+-]?\d{1,3}\.\d{3}")
MARKS = (",", ".", "'", "_", " ")
# Points that mark thousands leave the comma for decimals.
_POINTS = "thousands='.' with decimal=','", "--thousands . --decimal ,"


def quantity(text: str, thousands: str = "", decimal: str = ".") -> float:
    """A number with its unit.

    >>> quantity("1.3B"), quantity("300M"), quantity("2^10"), quantity("1.280", thousands=".")
    (1300000000.0, 300000000.0, 1024.0, 1280.0)

    Raises:
        ValueError: it is none.
    """
    text = text.strip().strip("\u00a0")
    if thousands:
        text = text.replace(thousands, "")
    if decimal != ".":
        text = text.replace(decimal, ".")
    if power := _POWER.fullmatch(text):
        return float(power[1]) ** int(power[2])
    if match := _NUMBER.fullmatch(text):
        return float(match[1]) * _SUFFIX.get((match[2] or "").lower(), 1.0)
    return float(text)


def quantities(
    t: Columns, name: str, *, whole: bool, thousands: str = "", decimal: str = "."
) -> list[float]:
    """A column as numbers; what is empty is NaN.

    Args:
        whole: the column counts something, so that 1.280 is hardly a number of its own.

    Raises:
        ValueError: a cell that is no number, or that can be read in two ways.
    """
    cells = t.columns[name]
    out = [_cell(t, name, i, thousands, decimal) for i in range(len(cells))]
    if whole and not thousands and decimal == ".":
        _refuse_points(t, name, cells, out)
    return out


def _cell(t: Columns, name: str, i: int, thousands: str, decimal: str) -> float:
    value = t.columns[name][i]
    if not isinstance(value, str) or empty(value):
        return t.number(name, i)
    text = value.strip()
    try:
        return quantity(text, thousands, decimal)
    except (ValueError, OverflowError):
        pass
    if "," in text or _GROUPED.fullmatch(text):
        raise ValueError(
            f"{t.source}: column {name!r} is {shown(text, 40)} in {t.row(i)}: write it without marks"
            f"{_declared(text)}"
        )
    raise ValueError(
        f"{t.source}: column {name!r} is {shown(value, 40)} in {t.row(i)}: give a number"
    )


def _declared(text: str) -> str:
    """How to say what the marks in a number are, where they can be said."""
    first = next((c for c in text if c in MARKS), "")
    if not first:
        return ""
    if first == ".":
        python, shell = _POINTS
    elif text.count(",") == 1 and "." not in text:
        python, shell = "thousands=',' or decimal=','", "--thousands , or --decimal ,"
    else:
        python = f"thousands={first!r}"
        shell = f"--thousands {first if first == ',' else repr(first)}"
    return f", or say what they are, {python} ({shell})"


def _refuse_points(t: Columns, name: str, cells: Sequence[Any], values: Sequence[float]) -> None:
    """Where every cell looks like 1.280 or like a whole number below 1000, a point may mark thousands."""
    texts = [c.strip() for c in cells if isinstance(c, str) and not empty(c)]
    if len(texts) < len(cells) or not any(_ONE_POINT.fullmatch(x) for x in texts):
        return
    if all(_ONE_POINT.fullmatch(x) or re.fullmatch(r"\d{1,3}", x) for x in texts):
        i = next(k for k, x in enumerate(texts) if _ONE_POINT.fullmatch(x))
        if math.isclose(values[i], round(values[i])):
            return
        raise ValueError(
            f"{t.source}: column {name!r} is {texts[i]!r} in {t.row(i)}, which is {values[i]:g} or "
            f"{quantity(texts[i], '.'):g}: say which, thousands=',' or {_POINTS[0]} "
            f"(--thousands , or {_POINTS[1]})"
        )


def check_marks(thousands: str, decimal: str) -> None:
    """Refuse marks that no one writes."""
    if thousands:
        check_choice("thousands", thousands, MARKS)
    check_choice("decimal", decimal, (".", ","))
    if thousands == decimal:
        raise ValueError(
            f"thousands={thousands!r} is the decimal mark too: give "
            f"decimal={',' if decimal == '.' else '.'!r}"
        )
