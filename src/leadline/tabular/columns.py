"""Columns of finished runs, from what a user has in memory."""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from leadline.errors import scalar

MOST_DEEP = 8
"""Dicts inside of dicts."""


@dataclass(frozen=True)
class Columns:
    """Columns of the same length; ``row`` names a row as the user knows it."""

    columns: Mapping[str, list[Any]]
    row: Callable[[int], str]
    source: str

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), []))

    def numbers(self, name: str, needed: str = "") -> np.ndarray:
        """(N,) a column as floats; what is empty is NaN.

        Args:
            needed: said where there is no such column.

        Raises:
            ValueError: no such column, or a cell that is no number.
        """
        if name not in self.columns:
            have = ", ".join(self.columns) or "none"
            raise ValueError(f"{self.source} has no column {name!r} (it has {have}): {needed}")
        return np.array([self.number(name, i) for i in range(len(self))], dtype=float)

    def number(self, name: str, i: int) -> float:
        """One cell as a float; NaN where it is empty.

        Raises:
            ValueError: it is no number.
        """
        value = self.columns[name][i]
        if empty(value):
            return math.nan
        try:
            if isinstance(value, bool):
                raise ValueError
            return float(value)
        except (TypeError, ValueError, OverflowError):
            raise ValueError(
                f"{self.source}: column {name!r} is {value!r} in {self.row(i)}: give a number"
            ) from None

    def take(self, rows: list[int]) -> Columns:
        """Some rows, under the names that they have."""
        columns = {k: [v[i] for i in rows] for k, v in self.columns.items()}
        return Columns(columns, lambda i: self.row(rows[i]), self.source)


def empty(value: Any) -> bool:
    """Nothing was written there: None, pandas' NA, blank text. NaN is a value."""
    return (
        value is None
        or type(value).__name__ in ("NAType", "NaTType")
        or (isinstance(value, str) and not value.strip())
    )


def from_frame(data: Any, source: str = "the data frame") -> Columns:
    """Columns of a frame of pandas or polars.

    Raises:
        ValueError: two columns of one name.
    """
    if any(n is not None for n in getattr(getattr(data, "index", None), "names", ())):
        data = data.reset_index()
    names = [str(c) for c in data.columns]
    refuse_twice(names, source)
    columns = {str(c): list(data[c].to_list()) for c in data.columns}
    return unpacked(Columns(columns, lambda i: f"row {i}", source))


def refuse_twice(names: list[str], source: str) -> None:
    """Refuse names that stand there twice."""
    if len(set(names)) < len(names):
        raise ValueError(f"{source} names a column twice ({', '.join(names)}): rename one")


def from_columns(data: Mapping[Any, Any], source: str = "data") -> Columns:
    """A dict of columns.

    Raises:
        TypeError, ValueError: something else, or columns of different lengths.
    """
    columns = {}
    for name, values in data.items():
        if isinstance(scalar(values), str) or not isinstance(scalar(values), Iterable):
            raise TypeError(
                f"{source}[{name!r}]={values!r} is no column: give a list, one entry a run"
            )
        # A frame written as JSON has columns that are dicts by row.
        columns[str(name)] = list(values.values() if isinstance(values, Mapping) else values)
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"{k}: {v}" for k, v in lengths.items())
        raise ValueError(f"the columns have different lengths ({said}): give one entry a run")
    return unpacked(Columns(columns, lambda i: f"row {i}", source))


def from_dicts(
    rows: list[Any],
    source: str = "data",
    row: Callable[[int], str] = lambda i: f"row {i}",
) -> Columns:
    """A dict a run; dicts inside become ``outer.inner``.

    Raises:
        TypeError: something else than a dict.
    """
    for i, line in enumerate(rows):
        if not isinstance(line, Mapping):
            where = f"{source}: {row(i)} is" if "=" in source else f"{source}[{i}]={line!r} is"
            raise TypeError(f"{where} no dict: give a dict such as width=64, depth=4, …")
    flat = [dict(_flat(line)) for line in rows]
    names = dict.fromkeys(k for line in flat for k in line)
    columns = {name: [line.get(name) for line in flat] for name in names}
    return Columns(columns, row, source)


def _flat(data: Mapping[Any, Any], prefix: str = "", deep: int = 0) -> Iterator[tuple[str, Any]]:
    for key, value in data.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and deep < MOST_DEEP:
            yield from _flat(value, f"{name}.", deep + 1)
        else:
            yield name, value


def unpacked(t: Columns) -> Columns:
    """Columns of dicts, or of dicts written as text, as a column for each of their keys.

    A table of W&B's programming interface has such columns: ``config`` and ``summary``.
    """
    out: dict[str, list[Any]] = {}
    for name, values in t.columns.items():
        dicts = _dicts(values)
        if dicts is None:
            out[name] = values
            continue
        flat = [dict(_flat(d, f"{name}.")) for d in dicts]
        for key in dict.fromkeys(k for d in flat for k in d):
            out[key] = [d.get(key) for d in flat]
    return Columns(out, t.row, t.source)


def _dicts(values: list[Any]) -> list[Mapping[Any, Any]] | None:
    """Cells as dicts; None if some are something else."""
    out: list[Mapping[Any, Any]] = []
    for value in values:
        if empty(value):
            out.append({})
            continue
        read = _literal(value) if isinstance(value, str) else value
        if not isinstance(read, Mapping):
            return None
        out.append(read)
    return out if any(out) else None


_NOT_FINITE = re.compile(r"(?<=[:\[,(\s])(nan|-?inf)(?=\s*[,}\])])")


def _literal(text: str) -> Any:
    text = text.strip()
    if not (text.startswith("{") and text.endswith("}")):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(_NOT_FINITE.sub(r"'\1'", text))
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None
