"""What is whole in a damaged store, put into a new one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from leadline.errors import check_path
from leadline.store.file import NAME, StoreError
from leadline.store.records import whole_runs
from leadline.store.store import Store

_AT_ONCE = 500


def rescue(path: str | os.PathLike[str], new: str | os.PathLike[str]) -> tuple[str, ...]:
    """Put every whole record of a damaged store, in order, into a new one; a message for each loss.

    Raises:
        StoreError: nothing can be read, or ``new`` is not empty.
    """
    file = Path(check_path("path", path)) / NAME
    if not file.is_file():
        raise StoreError(f"path={os.fspath(path)!r} is no store: give the folder of one")
    lost: list[str] = []
    with Store(new) as target:
        if len(target):
            raise StoreError(f"rescue={os.fspath(new)!r} has runs already: give a new folder")
        puts: list[tuple[Any, Any, Any]] = []
        for kept in whole_runs(file, lost):
            curves = None
            try:
                curves = dict(kept.curves)
            except StoreError as e:
                lost.append(str(e))
            puts.append((kept.spec, kept.result, curves))
            if len(puts) == _AT_ONCE:
                target.put_many(puts)
                puts = []
        target.put_many(puts)
    return tuple(lost)
