"""What is whole in a damaged store, copied into a new one."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from leadline.errors import check_path
from leadline.sweeps import store_file
from leadline.sweeps.store import Store
from leadline.sweeps.store_file import StoreError, damaged
from leadline.sweeps.store_record import Record, read, record

_AT_ONCE = 500


def rescue(path: str | os.PathLike[str], new: str | os.PathLike[str]) -> tuple[str, ...]:
    """Put every whole record of a damaged store, in order, into a new one; what is lost, in words.

    Raises:
        StoreError: nothing can be read, or ``new`` is not empty.
    """
    file = Path(check_path("path", path)) / store_file.NAME
    if not file.is_file():
        raise StoreError(f"path={os.fspath(path)!r} is no store: give the folder of one")
    lost: list[str] = []
    with Store(new) as target:
        if len(target):
            raise StoreError(f"rescue={os.fspath(new)!r} has runs already: give a new folder")
        puts: list[tuple[Any, Any, Any]] = []
        for kept in _whole(file, lost):
            puts.append((kept.spec, kept.result, _curves(kept, lost)))
            if len(puts) == _AT_ONCE:
                target.put_many(puts)
                puts = []
        target.put_many(puts)
    return tuple(lost)


def _whole(file: Path, lost: list[str]) -> Iterator[Record]:
    with contextlib.closing(store_file.connect(file)) as db:
        for seq in range(1, _last(db, file) + 1):
            try:
                query = "SELECT record, sha256 FROM runs WHERE seq = ?"
                row = db.execute(query, (seq,)).fetchone() or (None, None)
                data = read(file, seq, *row)
            except (sqlite3.Error, StoreError) as e:
                lost.append(f"{file}: run {seq} is lost ({e})")
                continue
            yield record(file, data)


def _last(db: sqlite3.Connection, file: Path) -> int:
    """The number of the last record, by any part of the file that says it."""
    said = []
    for query in ("SELECT runs FROM counts", "SELECT max(seq) FROM runs"):
        with contextlib.suppress(sqlite3.Error):
            said += [n for (n,) in db.execute(query) if type(n) is int]
    if not said:
        raise damaged(file, "nothing in it can be read: no run can be rescued")
    return min(max(said), file.stat().st_size)


def _curves(kept: Record, lost: list[str]) -> Mapping[str, Any] | None:
    try:
        return dict(kept.curves)
    except StoreError as e:
        lost.append(str(e))
        return None
