"""The index of a store: an sqlite database in memory, kept as a snapshot that may always be lost.

In memory, because sqlite's locks and journals are not to be trusted on network disks, and because a
store on a read-only disk is read the same way. The snapshot is an ordinary sqlite file (with the
SHA-256 of what precedes in its last 32 bytes, which sqlite passes over), put in place as a whole,
and says how far it has read each file of lines: the rest is read from there.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

from leadline.sweeps.store_lines import CurvesFile, Entry
from leadline.sweeps.store_values import dumps, loads

NAME = "index.sqlite"
_SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE files (name TEXT PRIMARY KEY, read INTEGER NOT NULL, mark BLOB NOT NULL);
CREATE TABLE lines (
    id TEXT NOT NULL, rerun INTEGER NOT NULL, time REAL NOT NULL,
    file TEXT NOT NULL, at INTEGER NOT NULL,
    spec TEXT NOT NULL, result TEXT NOT NULL, curves TEXT,
    PRIMARY KEY (file, at)
);
CREATE INDEX by_id ON lines (id, rerun, time);
CREATE VIEW runs AS
    SELECT id, min(time) OVER (PARTITION BY id) AS first, time, spec, result, curves, file, at,
        row_number() OVER (PARTITION BY id ORDER BY rerun DESC, time DESC, file DESC, at DESC) AS nth
    FROM lines;
"""
_FIELDS = "id, rerun, time, spec, result, curves"


class Index:
    """Which records there are, and how far each file has been read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / NAME
        self._unsaved = 0
        self.db = self._load() or self._empty()

    def _empty(self) -> sqlite3.Connection:
        db = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        db.executescript(f"{_SCHEMA}PRAGMA user_version = {_SCHEMA_VERSION};")
        return db

    def _load(self) -> sqlite3.Connection | None:
        """The snapshot if it is whole and of this version."""
        db = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        try:
            data = self.path.read_bytes()
            if len(data) > 32 and hashlib.sha256(data[:-32]).digest() == data[-32:]:
                where = f"{self.path.absolute().as_uri()}?mode=ro&immutable=1"
                with contextlib.closing(sqlite3.connect(where, uri=True)) as source:
                    source.backup(db)
                if db.execute("PRAGMA user_version").fetchone() == (_SCHEMA_VERSION,):
                    return db
        except (OSError, sqlite3.Error):
            pass
        db.close()
        return None

    def clear(self) -> None:
        """Forget everything, snapshot included."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)
        self.db.close()
        self.db = self._empty()

    def close(self) -> None:
        """Keep what the snapshot lacks, if it is worth a file."""
        total = self.count()
        if self._unsaved and (total < 1000 or 10 * self._unsaved > total):
            self.save()
        self.db.close()

    def save(self) -> None:
        """Write the snapshot; no error, since nothing depends on it."""
        part = self.folder / f".{NAME}.{os.getpid()}-{os.urandom(4).hex()}.part"
        try:
            for old in self.folder.glob(f".{NAME}.*.part"):
                if time.time() - old.stat().st_mtime > 3600:
                    old.unlink(missing_ok=True)
            with contextlib.closing(sqlite3.connect(part)) as target:
                target.execute("PRAGMA journal_mode = OFF")
                target.execute("PRAGMA synchronous = OFF")
                self.db.backup(target)
            with open(part, "r+b") as file:
                digest = hashlib.sha256(file.read()).digest()
                file.write(digest)
            os.replace(part, self.path)
            self._unsaved = 0
        except (OSError, sqlite3.Error):
            pass
        finally:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)

    def read_so_far(self) -> dict[str, tuple[int, bytes]]:
        """By file: the bytes read, and the last of them."""
        return {n: (at, mark) for n, at, mark in self.db.execute("SELECT * FROM files")}

    @contextlib.contextmanager
    def change(self) -> Generator[None]:
        """All of it or nothing."""
        self.db.execute("BEGIN")
        try:
            yield
        except BaseException:
            self.db.execute("ROLLBACK")
            raise
        self.db.execute("COMMIT")

    def add(self, entry: Entry, file: str, at: int) -> None:
        """A record, found in a file at an offset."""
        curves = None if entry.curves is None else dumps(vars(entry.curves))
        values = (entry.id, entry.rerun, entry.time, file, at, entry.spec, entry.result, curves)
        self.db.execute("INSERT OR REPLACE INTO lines VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)
        self._unsaved += 1

    def has_read(self, file: str, to: int, mark: bytes) -> None:
        """How far a file has been read."""
        self.db.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?)", (file, to, mark))

    def count(self) -> int:
        """Lines, reruns included."""
        return self.db.execute("SELECT count(*) FROM lines").fetchone()[0]

    def has(self, run: str) -> bool:
        """Whether there is a record."""
        return self.db.execute("SELECT 1 FROM lines WHERE id = ?", (run,)).fetchone() is not None

    def ids(self, beginning: str = "") -> list[str]:
        """Each run once, in the order of their first records."""
        query = "SELECT id FROM lines WHERE substr(id, 1, ?) = ? GROUP BY id ORDER BY min(time), id"
        return [row[0] for row in self.db.execute(query, (len(beginning), beginning))]

    def latest(self, run: str) -> tuple[Entry, str] | None:
        """A run's record that counts, and the file it is in."""
        history = self.history(run)
        return history[-1] if history else None

    def history(self, run: str) -> list[tuple[Entry, str]]:
        """All records of a run, the one that counts last."""
        query = f"SELECT {_FIELDS}, file FROM lines WHERE id = ? ORDER BY rerun, time, file, at"
        return [(_entry(row), row[6]) for row in self.db.execute(query, (run,))]

    def entries(self) -> list[Entry]:
        """The record that counts of each run, in the order of ``ids``."""
        fields = "id, 0, time, spec, result, curves"
        query = f"SELECT {fields} FROM runs WHERE nth = 1 ORDER BY first, id"
        return [_entry(row) for row in self.db.execute(query)]

    def curves(self) -> list[CurvesFile]:
        """All files of curves that records name, those of superseded ones too."""
        query = "SELECT DISTINCT id, 0, 0, '', '', curves FROM lines WHERE curves IS NOT NULL"
        found = [_entry(row).curves for row in self.db.execute(query)]
        return [file for file in found if file is not None]


def _entry(row: tuple[Any, ...]) -> Entry:
    curves = None
    if row[5] is not None:
        data = loads(row[5])
        curves = CurvesFile(data["file"], data["bytes"], data["sha256"], tuple(data["names"]))
    return Entry(row[0], row[1], row[2], row[3], row[4], curves)
