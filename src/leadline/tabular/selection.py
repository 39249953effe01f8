"""Which rows of a table are meant, and which column a name is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from leadline.errors import shown
from leadline.tabular.columns import Columns, empty
from leadline.tabular.names import axis_of, meanings, role_of


def selected(t: Columns, where: Mapping[str, Any]) -> Columns:
    """The rows whose columns have these values, each one value or a list of them.

    Raises:
        ValueError: no such column, or no such row.
    """
    keep = list(range(len(t)))
    for name, wanted in where.items():
        column = column_named(t, "where", name)
        options = wanted if isinstance(wanted, list | tuple | set) else [wanted]
        keep = [i for i in keep if any(equal(t.columns[column][i], o) for o in options)]
        if not keep:
            have = ", ".join(dict.fromkeys(shown(v, 20) for v in t.columns[column][:999]))
            raise ValueError(
                f"where: no run has {name}={shown(wanted)}: {column!r} is {have[:200]} in {t.source}"
            )
    return t.take(keep) if where else t


def equal(cell: Any, wanted: Any) -> bool:
    """Whether a cell is a value, as text or as a number."""
    if empty(cell):
        return empty(wanted)
    if str(cell).strip().lower() == str(wanted).strip().lower():
        return True
    try:
        return float(cell) == float(wanted)
    except (TypeError, ValueError):
        return False


def column_named(t: Columns, argument: str, name: str) -> str:
    """A column by its name, or by what it is where one alone is that.

    Raises:
        ValueError: no such column, or several.
    """
    if name in t.columns:
        return name
    same = (
        [c for c in t.columns if name in meanings(c)]
        or [c for c in t.columns if role_of(c) == name]
        or [c for c in t.columns if (axis_of(c) or ("",))[0] == name]
    )
    if len(same) == 1:
        return same[0]
    have = ", ".join(t.columns)
    raise ValueError(f"{argument}={name!r} is no column of {t.source}: it has {cut_list(have)}")


def cut_list(text: str) -> str:
    """A list of names for an error."""
    return text if len(text) <= 400 else f"{text[:400]}…"
