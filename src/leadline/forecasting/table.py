"""Columns of numbers from what a user has: dicts, columns, a data frame, a CSV file."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from leadline.errors import check_path, scalar

# Of a CSV file: a million runs.
_MOST = 200_000_000


@dataclass(frozen=True)
class Table:
    """Columns of the same length; ``row`` names a row as the user knows it."""

    columns: Mapping[str, list[Any]]
    row: Callable[[int], str]
    source: str

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), []))

    def numbers(self, name: str) -> np.ndarray:
        """A column as floats; what is empty is NaN.

        Raises:
            ValueError: no such column, or a cell that is no number.
        """
        if name not in self.columns:
            have = ", ".join(self.columns) or "none"
            raise ValueError(
                f"{self.source} has no column {name!r} (it has {have}): "
                "columns width, depth and loss are needed, one row a run"
            )
        return np.array([self._number(name, i) for i in range(len(self))], dtype=float)

    def _number(self, name: str, i: int) -> float:
        value = self.columns[name][i]
        if value is None or (isinstance(value, str) and not value.strip()):
            return np.nan
        try:
            if isinstance(value, bool):
                raise ValueError
            return float(value)
        except (TypeError, ValueError):
            raise ValueError(
                f"{self.source}: column {name!r} is {value!r} in {self.row(i)}: give a number"
            ) from None


def table(data: Any) -> Table:
    """Any of the accepted forms as columns.

    Raises:
        ValueError, TypeError, OSError: none of them, columns of different lengths, no rows.
    """
    if isinstance(data, str | os.PathLike):
        out = _csv(Path(check_path("data", data)))
    elif hasattr(data, "columns") and hasattr(data, "to_numpy"):
        columns = {str(c): data[c].tolist() for c in data.columns}
        out = Table(columns, lambda i: f"row {i}", "the data frame")
    elif isinstance(data, Mapping):
        out = _columns(data)
    elif isinstance(scalar(data), Iterable):
        out = _dicts(list(data))
    else:
        raise TypeError(
            f"data={type(data).__name__} cannot be read: give a list of dicts, a dict of columns, "
            "a pandas DataFrame or the path of a CSV file"
        )
    if not len(out):
        raise ValueError(f"{out.source} has no rows: give one row a run")
    return out


def _columns(data: Mapping[Any, Any]) -> Table:
    columns = {}
    for name, values in data.items():
        if isinstance(scalar(values), str) or not isinstance(scalar(values), Iterable):
            raise TypeError(f"data[{name!r}]={values!r} is no column: give a list, one entry a run")
        columns[str(name)] = list(values)
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"{k}: {v}" for k, v in lengths.items())
        raise ValueError(f"the columns have different lengths ({said}): give one entry a run")
    return Table(columns, lambda i: f"row {i}", "data")


def _dicts(rows: list[Any]) -> Table:
    for i, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise TypeError(
                f"data[{i}]={row!r} is no dict: give a dict such as width=64, depth=4, …"
            )
    names = dict.fromkeys(str(k) for row in rows for k in row)
    columns = {name: [row.get(name) for row in rows] for name in names}
    return Table(columns, lambda i: f"row {i}", "data")


def _csv(path: Path) -> Table:
    source = f"data={str(path)!r}"
    if path.is_dir():
        raise IsADirectoryError(f"{source} is a folder: give the path of a CSV file")
    if not path.exists():
        raise FileNotFoundError(f"{source} does not exist: give the path of a CSV file")
    lines: list[int] = []
    rows: list[dict[str, Any]] = []
    with open(path, "rb") as stream:
        content = stream.read(_MOST + 1)
    if len(content) > _MOST:
        raise ValueError(f"{source} has more than {_MOST:,} bytes: give one row a run")
    with io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, skipinitialspace=True)
        try:
            names = [n.strip() for n in reader.fieldnames or []]
            if len(names) == 1 and any(mark in names[0] for mark in ";\t"):
                raise ValueError(f"{source} is not separated by commas: write it with commas")
            if len(set(names)) < len(names):
                raise ValueError(f"{source} names a column twice ({', '.join(names)}): rename one")
            for row in reader:
                if row.pop(None, None):
                    raise ValueError(
                        f"{source} has more cells than columns in line {reader.line_num}: "
                        f"give {len(names)}"
                    )
                rows.append(dict(zip(names, row.values(), strict=True)))
                lines.append(reader.line_num)
        except (UnicodeDecodeError, csv.Error) as e:
            raise ValueError(f"{source} is no CSV text file: {e}") from None
    columns = {name: [row[name] for row in rows] for name in names}
    return Table(columns, lambda i: f"line {lines[i]}", source)
