"""Whether a folder is a store, and making one."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

from leadline.disk import strict
from leadline.sweeps.store_files import LINES, make_folder, write_durable
from leadline.sweeps.store_lines import FORMAT, START, StoreError
from leadline.sweeps.store_scan import newer

MARKER = "store.json"


def open_folder(folder: Path, create: bool) -> list[str]:
    """See that a folder is a store of a version that is known here; what had to be mended.

    Raises:
        StoreError: it is not.
    """
    shown = f"path={str(folder)!r}"
    if folder.exists() and not folder.is_dir():
        raise StoreError(f"{shown} is a file: give a folder")
    names = sorted(p.name for p in folder.iterdir()) if folder.exists() else []
    names = [n for n in names if not n.startswith(".") and n != "lost+found"]
    if MARKER in names:
        version: Any = None
        with contextlib.suppress(ValueError, KeyError, TypeError):
            version = strict.loads(strict.read(folder / MARKER))["leadline_store"]
        if type(version) is int and 1 <= version <= FORMAT:
            return []
        if version is not None:
            raise StoreError(newer(folder, version))
    ours = any(_begins(folder / n) for n in names if LINES.fullmatch(n))
    if names and not ours and names != [MARKER]:
        raise StoreError(
            f"{shown} is not a store (it holds {names[0]!r}): give a new or empty folder"
        )
    if not names and not create:
        raise StoreError(f"{shown} is no store: there is nothing; give the folder of a store")
    try:
        make_folder(folder)
        part = folder / f".{MARKER}.{os.urandom(4).hex()}.part"
        write_durable(folder / MARKER, b'{"leadline_store": %d}\n' % FORMAT, part)
    except OSError as e:
        if not ours:
            raise StoreError(f"{shown} cannot be made a store: {e.strerror}") from e
    return [f"{folder / MARKER}: missing or damaged; it is written anew"] if names else []


def _begins(path: Path) -> bool:
    """Whether a file begins as a store's lines do."""
    with open(path, "rb") as file:
        return file.read(len(START)) == START
