"""Files of finished runs as columns: CSV, JSON, JSON lines and parquet, each also as .gz."""

from __future__ import annotations

import csv
import gzip
import importlib
import io
import json
import os
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from leadline.errors import check_path, scalar, shown
from leadline.tabular.columns import (
    Columns,
    from_columns,
    from_dicts,
    from_frame,
    refuse_twice,
    unpacked,
)

MOST = 200_000_000
"""Bytes of a table, unpacked: a million runs."""
ENDINGS = (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet", ".gz")
"""Names of tables end so."""
FORMS = "CSV, JSON, JSON lines or parquet, also as .gz"


def read_columns(data: Any, name: str = "data") -> Columns:
    """A list of dicts, a dict of columns, a frame of pandas, polars or pyarrow, or a file, as columns.

    Args:
        name: the argument's, for errors.

    Raises:
        ValueError, TypeError, OSError: none of these, columns of different lengths, no rows.
    """
    if isinstance(data, str | os.PathLike):
        out = from_file(Path(check_path(name, data)), name)
    elif hasattr(data, "columns") and hasattr(data, "to_numpy"):
        out = from_frame(data)
    elif hasattr(data, "column_names") and hasattr(data, "to_pydict"):
        out = from_columns(data.to_pydict(), name)
    elif isinstance(data, Mapping):
        out = from_columns(data, name)
    elif isinstance(scalar(data), Iterable):
        out = from_dicts(list(data), name)
    else:
        raise TypeError(
            f"{name}={type(data).__name__} cannot be read: give a list of dicts, a dict of columns, "
            "a data frame of pandas or polars, or the path of a CSV file"
        )
    if not len(out):
        raise ValueError(f"{out.source} has no rows: give one row a run")
    return out


def from_file(path: Path, name: str = "data") -> Columns:
    """A file as columns; what it is shows in its content.

    Raises:
        ValueError, OSError: no table, or a damaged one.
    """
    source = f"{name}={str(path)!r}"
    if path.is_dir():
        raise IsADirectoryError(f"{source} is a folder: give the path of a CSV file")
    if not path.exists():
        raise FileNotFoundError(f"{source} does not exist: give the path of a CSV file")
    with open(path, "rb") as stream:
        content = stream.read(MOST + 1)
    if content[:2] == b"\x1f\x8b":
        content = _unpacked(content, source)
    if len(content) > MOST:
        raise ValueError(f"{source} has more than {MOST:,} bytes: give one row a run")
    if content[:4] == b"PAR1":
        return _parquet(content, source)
    if content[:15] == b"SQLite format 3":
        raise ValueError(f"{source} is a database: give its folder to `leadline runs --csv FILE`")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise ValueError(f"{source} is no CSV text file: {e}; give {FORMS}") from None
    if text.lstrip()[:1] in ("{", "["):
        return _json(text, source)
    return _csv(text, source)


def _unpacked(content: bytes, source: str) -> bytes:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
            return stream.read(MOST + 1)
    except (OSError, EOFError, zlib.error) as e:
        raise ValueError(f"{source} cannot be unpacked: {e}; write it again") from None


def _csv(text: str, source: str) -> Columns:
    lines: list[int] = []
    rows: list[list[str | None]] = []
    names: list[str] = []
    reader = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True)
    try:
        for cells in reader:
            if not cells or (not names and cells[0].startswith("#")):
                continue
            if not names:
                names = [n.strip() for n in cells]
                if len(names) == 1 and "\t" in names[0] and ";" not in names[0]:
                    return _csv(_comma_separated(text), source)
                if len(names) == 1 and any(mark in names[0] for mark in ";\t"):
                    raise ValueError(
                        f"{source} is not separated by commas: write it with commas, and with "
                        "points in numbers"
                    )
                refuse_twice(names, source)
                continue
            if len(cells) > len(names):
                raise ValueError(
                    f"{source} has more cells than columns in line {reader.line_num}: "
                    f"give {len(names)}"
                )
            if len(cells) < len(names):
                raise ValueError(
                    f"{source} has {len(cells)} cells for {len(names)} columns in line "
                    f"{reader.line_num}: complete the line, or leave it out"
                )
            rows.append(list(cells))
            lines.append(reader.line_num)
    except csv.Error as e:
        raise ValueError(f"{source} is no CSV text file: {e}") from None
    columns = {name: [row[i] for row in rows] for i, name in enumerate(names)}
    return unpacked(Columns(columns, lambda i: f"line {lines[i]}", source))


def _comma_separated(text: str) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(
        csv.reader(io.StringIO(text, newline=""), delimiter="\t")
    )
    return out.getvalue()


def _json(text: str, source: str) -> Columns:
    """A list of runs, a dict with ``runs``, a dict of columns, or one run a line."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return _json_lines(text, source)
    if isinstance(data, Mapping) and isinstance(data.get("runs"), list):
        data = data["runs"]
    if isinstance(data, list):
        return from_dicts(data, source, lambda i: f"run {i}")
    if all(isinstance(v, list | Mapping) for v in data.values()):
        return from_columns(data, source)
    return from_dicts([data], source, lambda i: f"run {i}")


def _json_lines(text: str, source: str) -> Columns:
    rows, lines = [], []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            rows.append(json.loads(line))
        except (ValueError, RecursionError) as e:
            raise ValueError(
                f"{source} is neither JSON nor JSON lines: {shown(line, 40)} in line {number} ({e})"
            ) from None
        lines.append(number)
    return from_dicts(rows, source, lambda i: f"line {lines[i]}")


def _parquet(content: bytes, source: str) -> Columns:
    """Read by what is installed: pandas (with pyarrow or fastparquet), else polars."""
    for library in ("pandas", "polars"):
        try:
            frame = importlib.import_module(library).read_parquet(io.BytesIO(content))
        except ImportError:
            continue
        except Exception as e:
            raise ValueError(f"{source} is no parquet file that {library} reads: {e}") from None
        return from_frame(frame, source)
    raise ValueError(
        f"{source} is parquet, and neither pyarrow (with pandas) nor polars is installed: "
        "`pip install polars`, or write it as CSV"
    )
