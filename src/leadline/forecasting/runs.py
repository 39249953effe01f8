"""Finished runs, from what a user has: read as columns and checked before any work."""

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

AXES = ("width", "depth", "samples", "steps")
# Settings that a law has no term for: where they vary, runs of a size are no replicates.
_SETTINGS = ("lr", "scheme", "optimizer", "batch_size", "weight_decay", "momentum", "activation")
_FEWEST = 3
# Bytes of a CSV file: a million runs.
_MOST = 200_000_000


@dataclass(frozen=True)
class Columns:
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


def read_columns(data: Any) -> Columns:
    """Any of the accepted forms as columns.

    Raises:
        ValueError, TypeError, OSError: none of them, columns of different lengths, no rows.
    """
    if isinstance(data, str | os.PathLike):
        out = _from_csv(Path(check_path("data", data)))
    elif hasattr(data, "columns") and hasattr(data, "to_numpy"):
        columns = {str(c): data[c].tolist() for c in data.columns}
        out = Columns(columns, lambda i: f"row {i}", "the data frame")
    elif isinstance(data, Mapping):
        out = _from_columns(data)
    elif isinstance(scalar(data), Iterable):
        out = _from_dicts(list(data))
    else:
        raise TypeError(
            f"data={type(data).__name__} cannot be read: give a list of dicts, a dict of columns, "
            "a pandas DataFrame or the path of a CSV file"
        )
    if not len(out):
        raise ValueError(f"{out.source} has no rows: give one row a run")
    return out


def _from_columns(data: Mapping[Any, Any]) -> Columns:
    columns = {}
    for name, values in data.items():
        if isinstance(scalar(values), str) or not isinstance(scalar(values), Iterable):
            raise TypeError(f"data[{name!r}]={values!r} is no column: give a list, one entry a run")
        columns[str(name)] = list(values)
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"{k}: {v}" for k, v in lengths.items())
        raise ValueError(f"the columns have different lengths ({said}): give one entry a run")
    return Columns(columns, lambda i: f"row {i}", "data")


def _from_dicts(rows: list[Any]) -> Columns:
    for i, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise TypeError(
                f"data[{i}]={row!r} is no dict: give a dict such as width=64, depth=4, …"
            )
    names = dict.fromkeys(str(k) for row in rows for k in row)
    columns = {name: [row.get(name) for row in rows] for name in names}
    return Columns(columns, lambda i: f"row {i}", "data")


def _from_csv(path: Path) -> Columns:
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
    return Columns(columns, lambda i: f"line {lines[i]}", source)


@dataclass(frozen=True)
class Runs:
    """Runs with a finite loss.

    Attributes:
        sizes: (N,) by axis, for the axes that the data have.
        loss: (N,).
        cell: (N,) number of the run's size, 0 to the number of sizes - 1.
        diverged: how many runs were left out.
        notes: what a reader of the forecast has to know about the data.
    """

    sizes: Mapping[str, np.ndarray]
    loss: np.ndarray
    cell: np.ndarray
    diverged: int = 0
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.loss)

    @property
    def cells(self) -> int:
        """Number of sizes."""
        return int(self.cell.max()) + 1

    @property
    def axes(self) -> tuple[str, ...]:
        """The axes that vary."""
        return tuple(a for a, x in self.sizes.items() if len(np.unique(x)) > 1)

    def levels(self, axis: str) -> np.ndarray:
        """The values of an axis, ascending."""
        return np.unique(self.sizes[axis])

    def logs(self, axes: tuple[str, ...], origin: np.ndarray) -> np.ndarray:
        """(N, axes) logarithms of size over origin."""
        if not axes:
            return np.zeros((len(self), 0))
        return np.log(np.stack([self.sizes[a] for a in axes], axis=1) / origin)

    def take(self, keep: np.ndarray) -> Runs:
        """The runs where ``keep`` is true."""
        return _runs({a: x[keep] for a, x in self.sizes.items()}, self.loss[keep])

    def means(self) -> Runs:
        """One run a size: the geometric mean of its losses."""
        first = np.unique(self.cell, return_index=True)[1]
        counts = np.bincount(self.cell)
        loss = np.exp(np.bincount(self.cell, np.log(self.loss)) / counts)
        return Runs(
            {a: x[first] for a, x in self.sizes.items()}, loss, np.arange(len(first)), self.diverged
        )


def _runs(sizes: Mapping[str, np.ndarray], loss: np.ndarray, *rest: Any) -> Runs:
    cell = np.unique(np.stack(list(sizes.values()), axis=1), axis=0, return_inverse=True)[1]
    return Runs(sizes, loss, cell.reshape(-1), *rest)


def runs(data: Any, loss: str = "loss") -> Runs:
    """Read and check.

    Raises:
        ValueError, TypeError, OSError: naming column, row and remedy.
    """
    t = data if isinstance(data, Columns) else read_columns(data)
    y = t.numbers(loss)
    ok = np.isfinite(y)
    sizes = {}
    for axis in AXES:
        if axis not in t.columns and axis in ("samples", "steps"):
            continue
        sizes[axis] = _sizes(t, axis)
    if not ok.any():
        raise ValueError(
            f"{t.source}: all {len(t)} runs diverged (column {loss!r} is nowhere finite): "
            "lower the learning rate and run again"
        )
    for i in np.flatnonzero(ok & (y <= 0)):
        raise ValueError(
            f"{t.source}: column {loss!r} is {y[i]:g} in {t.row(i)}: a law of sizes needs losses "
            "> 0; leave accuracies and shifted losses out"
        )
    notes = _notes(t, ok)
    finite = _runs({a: x[ok] for a, x in sizes.items()}, y[ok], int((~ok).sum()), notes)
    if finite.cells < _FEWEST:
        seen = ", ".join(
            "×".join(f"{v:g}" for v in size)
            for size in np.unique(np.stack(list(finite.sizes.values()), 1), axis=0)
        )
        what = "one size" if finite.cells == 1 else "two sizes"
        raise ValueError(
            f"{t.source} has only {what} ({'×'.join(finite.sizes)}: {seen}): give runs of at least "
            f"{_FEWEST} sizes, better 4 widths and 4 depths"
        )
    return finite


def _sizes(t: Columns, axis: str) -> np.ndarray:
    x = t.numbers(axis)
    for i in np.flatnonzero(~np.isfinite(x)):
        raise ValueError(
            f"{t.source}: column {axis!r} has no finite number in {t.row(i)}: fill it in, or leave "
            "the row out"
        )
    for i in np.flatnonzero(x <= 0):
        raise ValueError(f"{t.source}: column {axis!r} is {x[i]:g} in {t.row(i)}: give a size > 0")
    return x


def _notes(t: Columns, ok: np.ndarray) -> tuple[str, ...]:
    notes = []
    if not ok.all():
        count = int((~ok).sum())
        said = "1 run without a finite loss (diverged) is" if count == 1 else (
            f"{count} runs without a finite loss (diverged) are"
        )  # fmt: skip
        notes.append(f"{said} left out, of {len(t)}.")
    for name in _SETTINGS:
        values = list(dict.fromkeys(str(v) for v in t.columns.get(name, [])))
        if len(values) > 1:
            notes.append(
                f"Column {name!r} takes {len(values)} values and no law has a term for it: its runs "
                "count as replicates; better give the best setting's runs only."
            )
    if "seed" in t.columns:
        key = [n for n in (*AXES, *_SETTINGS, "seed") if n in t.columns]
        rows = [tuple(str(t.columns[n][i]) for n in key) for i in np.flatnonzero(ok)]
        twice = len(rows) - len(set(rows))
        if twice:
            notes.append(f"{twice} rows repeat the size and seed of another: they count twice.")
    return tuple(notes)
