"""Reading what was added to a store's files of lines, and setting aside what is damaged."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from leadline._version import __version__
from leadline.disk import strict
from leadline.sweeps.store_files import LINES, unless_written, write_all
from leadline.sweeps.store_index import Index
from leadline.sweeps.store_lines import (
    FORMAT,
    Damaged,
    Newer,
    StoreError,
    read_line,
    salvage,
)

DAMAGED = "damaged.jsonl"
_MARK = 64
_SHOWN = 2**20


class Damage:
    """Damaged lines: each is copied to ``damaged.jsonl`` and reported once, ever.

    Its bytes stay where they are too: lines are never changed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.messages: list[str] = []
        self._known: set[tuple[Any, ...]] | None = None
        self._new: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def rows(self) -> list[dict[str, Any]]:
        """What ``damaged.jsonl`` lists."""
        rows = []
        with contextlib.suppress(OSError):
            for raw in (self.folder / DAMAGED).read_bytes().splitlines():
                with contextlib.suppress(ValueError):
                    row = strict.loads(raw)
                    if isinstance(row, dict) and [
                        type(row.get(key)) for key in ("file", "at", "sha256")
                    ] == [str, int, str]:
                        rows.append(row)
        return rows

    def _listed(self) -> set[tuple[Any, ...]]:
        return {(row["file"], row["at"], row["sha256"]) for row in self.rows()}

    def note(self, path: Path, at: int, raw: bytes, why: str, kept: int) -> None:
        """A damaged line: unless it is known, report it and set it aside."""
        raw = raw.rstrip(b"\n")
        key = (path.name, at, hashlib.sha256(raw).hexdigest())
        if self._known is None:
            self._known = self._listed()
        if key in self._known:
            return
        self._known.add(key)
        with open(path, "rb") as file:
            line = file.read(at).count(b"\n") + 1
        row = dict(file=path.name, at=at, line=line, bytes=len(raw), sha256=key[2], why=why)
        try:
            row["text"] = raw[:_SHOWN].decode()
        except UnicodeDecodeError:
            row["base64"] = base64.b64encode(raw[:_SHOWN]).decode()
        self._new.append((key, row))
        saved = f"; {kept} whole record(s) in it kept" if kept else ""
        self.messages.append(f"{path}, line {line}: {why}{saved}; set aside in {DAMAGED}")

    def set_aside(self) -> None:
        """Write what is new; a disk that cannot take it hears of it again next time."""
        new, self._new = self._new, []
        if not new:
            return
        with contextlib.suppress(OSError):
            fd = os.open(self.folder / DAMAGED, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            try:
                with contextlib.suppress(OSError):
                    fcntl.flock(fd, fcntl.LOCK_EX)
                listed = self._listed()
                rows = [json.dumps(row) for key, row in new if key not in listed]
                start = os.fstat(fd).st_size
                fresh = start == 0 or os.pread(fd, 1, start - 1) == b"\n"
                try:
                    text = "".join(f"{row}\n" for row in rows)
                    write_all(fd, text.encode() if fresh else b"\n" + text.encode())
                    os.fsync(fd)
                except OSError:
                    os.ftruncate(fd, start)
            finally:
                os.close(fd)


def catch_up(folder: Path, index: Index, damage: Damage, *, thorough: bool = False) -> None:
    """Read what the index lacks; all of it if files changed otherwise than by growing.

    Args:
        thorough: look at files that have the length they had, too.

    Raises:
        StoreError: a line is of a later version.
    """
    sizes = {}
    with os.scandir(folder) as found:
        for item in found:
            if LINES.fullmatch(item.name) and item.is_file():
                sizes[item.name] = item.stat().st_size
    read = index.read_so_far()
    for name, (at, mark) in read.items():
        grown = sizes.get(name, -1)
        if grown < at or ((thorough or grown > at) and not _continues(folder / name, at, mark)):
            index.clear()
            read = {}
            break
    behind = [n for n in sorted(sizes) if sizes[n] > read.get(n, (0, b""))[0]]
    if not behind:
        return
    try:
        with index.change():
            for name in behind:
                _File(folder / name, read.get(name, (0, b""))[0], index, damage).read()
    finally:
        damage.set_aside()


def _continues(path: Path, at: int, mark: bytes) -> bool:
    """Whether the bytes before an offset are still what they were."""
    with open(path, "rb") as file:
        file.seek(at - len(mark))
        return file.read(len(mark)) == mark


class _File:
    """One file of lines, read from an offset on."""

    def __init__(self, path: Path, at: int, index: Index, damage: Damage) -> None:
        self.path, self.at, self.index, self.damage = path, at, index, damage

    def read(self) -> None:
        if self._lines() is not None:
            # Half a line: somebody is writing it, or was when the power went.
            with unless_written(self.path) as free:
                tail = self._lines() if free else None
                if tail is not None and self._take(tail, whole=False):
                    self.at += len(tail)
        with open(self.path, "rb") as file:
            start = max(self.at - _MARK, 0)
            file.seek(start)
            self.index.has_read(self.path.name, self.at, file.read(self.at - start))

    def _lines(self) -> bytes | None:
        """Take the lines that end; return what follows them."""
        with open(self.path, "rb") as file:
            file.seek(self.at)
            for raw in file:
                if not raw.endswith(b"\n"):
                    return raw
                self._take(raw, whole=True)
                self.at += len(raw)
        return None

    def _take(self, raw: bytes, *, whole: bool) -> bool:
        """Add the record, or set the line aside; whether there was one."""
        raw = raw.removesuffix(b"\n")
        if not raw:
            return False
        try:
            self.index.add(read_line(raw), self.path.name, self.at)
            return True
        except Newer as e:
            raise StoreError(newer(self.path, e.args[0])) from None
        except Damaged as e:
            found = salvage(raw)
            for start, entry in found:
                self.index.add(entry, self.path.name, self.at + start)
            why = str(e) if whole else f"{e} and has no end"
            self.damage.note(self.path, self.at, raw, why, len(found))
            return False


def newer(path: Path, version: object) -> str:
    """What to say of a later format."""
    return (
        f"path={str(path)!r} is of store format {version}, and leadline {__version__} knows "
        f"formats up to {FORMAT}: upgrade leadline (pip install -U leadline); nothing was changed"
    )
