"""Runs of a file, a folder, a store or memory as one table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from leadline.store.store import Store
from leadline.tabular.columns import Columns, from_dicts
from leadline.tabular.exports import chart, from_folder
from leadline.tabular.files import read_columns
from leadline.tabular.selection import selected


def table(data: Any, where: Mapping[str, Any] | None, name: str = "rows") -> Columns:
    """The runs of a table, a file or a folder that are meant, one row a run or a step.

    Args:
        name: the argument's, for errors.
    """
    return selected(chart(_read(data, name)), where or {})


def _read(data: Any, name: str) -> Columns:
    """The data as columns; also a folder, of a store or with a folder for each run."""
    if isinstance(data, str | Path) and Path(data).is_dir():
        if (Path(data) / "runs.sqlite").is_file():
            with Store(data, create=False) as store:
                return from_dicts(store.table(), f"{name}={str(data)!r}")
        return from_folder(Path(data), name)
    return read_columns(data, name)
