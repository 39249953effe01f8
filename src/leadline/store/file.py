"""The SQLite file of a store: its tables, checksums, locks and errors.

One transaction holds one put, or several that came together; SQLite's rollback journal makes it whole
or undoes it, and ``synchronous = EXTRA`` is FULL that fsyncs the folder too: what is committed outlives
a power loss. SQLite checks no content. So every record stands beside the SHA-256 of all that it says,
curves have theirs in the record, and records are counted and numbered without gaps: whoever opens a
store reads and checks every record.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import resource
import sqlite3
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, TypeVar

from leadline._version import __version__
from leadline.disk.write import check_folder, refused, write_new

NAME = "runs.sqlite"
FORMAT = 2  # 1 was a folder of JSON lines
PATIENCE = 60.0
"""Seconds to wait for another process that holds the file."""
_APPLICATION = 0x6C656164
_SCHEMA = f"""
PRAGMA application_id = {_APPLICATION};
PRAGMA user_version = {FORMAT};
CREATE TABLE runs (seq INTEGER PRIMARY KEY, record TEXT NOT NULL, sha256 BLOB NOT NULL);
CREATE TABLE curves (seq INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE layouts (number INTEGER PRIMARY KEY, names TEXT NOT NULL, sha256 BLOB NOT NULL);
CREATE TABLE counts (runs INTEGER NOT NULL, layouts INTEGER NOT NULL);
INSERT INTO counts VALUES (0, 0);
CREATE VIEW latest AS
    SELECT seq, json_extract(record, '$.id') AS id, json_extract(record, '$.time') AS time,
        json_extract(record, '$.spec') AS spec, json_extract(record, '$.result') AS result
    FROM runs WHERE seq NOT IN (
        SELECT json_extract(record, '$.previous') FROM runs
        WHERE json_extract(record, '$.previous') IS NOT NULL
    );
"""
_ID = slice(7, 71)  # of a record's text: {"id":"...
_OLD = re.compile(r"store\.json|runs-.*\.jsonl")
_forked: list[sqlite3.Connection] = []  # of a parent process: closing them would give up its locks
T = TypeVar("T")


class StoreError(OSError):
    """A store cannot be opened, read or written; the message says what is safe."""


class DamageError(StoreError):
    """The file does not say what was written."""


def damaged(path: Path, why: str) -> DamageError:
    """The error of a file that does not say what was written."""
    return DamageError(
        f"{path} is damaged ({why}): it answers nothing; leadline runs {path.parent} --rescue NEW "
        "copies every whole run into a new store"
    )


def open_folder(folder: Path, create: bool) -> Path:
    """The file of a store, made if the folder is empty or missing.

    Raises:
        StoreError: the folder holds something else, or cannot be made a store.
    """
    shown = f"path={str(folder)!r}"
    if folder.exists() and not folder.is_dir():
        raise StoreError(f"{shown} is a file: give a folder")
    names = sorted(p.name for p in folder.iterdir()) if folder.exists() else []
    names = [n for n in names if not n.startswith((".", NAME + ".")) and n != "lost+found"]
    if NAME in names:
        return folder / NAME
    if any(_OLD.fullmatch(n) and _is_old(folder / n) for n in names):
        raise StoreError(
            f"{shown} is a store of an earlier leadline (JSON lines), which this one does not read: give "
            "a new folder, where its runs train again; nothing was changed"
        )
    if names:
        raise StoreError(
            f"{shown} is not a store (it holds {names[0]!r}): give a new or empty folder"
        )
    if not create:
        raise StoreError(f"{shown} is no store: there is nothing; give the folder of a store")
    try:
        _make_folder(folder)
        with contextlib.closing(sqlite3.connect(":memory:")) as db:
            db.executescript(_SCHEMA)
            write_new(folder / NAME, db.serialize())
        _sync(folder)
    except OSError as e:
        why = os.strerror(e.errno) if e.errno else str(e)
        raise StoreError(f"{shown} cannot be made a store: {why}") from e
    return folder / NAME


def _is_old(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(11) == b'{"leadline_'


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync(folder.parent)


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def connect(path: Path) -> sqlite3.Connection:
    """A connection; where the disk is read-only, one that reads."""
    where = f"{path.absolute().as_uri()}?mode=rw"
    db = sqlite3.connect(where, 0.1, isolation_level=None, check_same_thread=False, uri=True)
    db.text_factory = bytes
    return db


class StoreFile:
    """Transactions on the file; errors of SQLite come out as ``StoreError``."""

    def __init__(self, path: Path, patience: float = PATIENCE) -> None:
        self.path, self.patience = path, patience
        self._pid = os.getpid()
        self._db: sqlite3.Connection | None = None
        self._inode = (0, 0)

    def close(self) -> None:
        """Close the connection."""
        if self._db is not None:
            _forked.append(self._db) if self._pid != os.getpid() else self._db.close()
            self._db = None

    @contextlib.contextmanager
    def reading(self) -> Generator[sqlite3.Connection]:
        """A transaction that reads one consistent state."""
        with self._transaction("BEGIN", "SELECT 1 FROM sqlite_master") as db:
            yield db

    @contextlib.contextmanager
    def writing(self) -> Generator[sqlite3.Connection]:
        """A transaction that writes: all of it lasts when this ends, or nothing of it."""
        with self._transaction("BEGIN IMMEDIATE") as db:
            yield db

    @contextlib.contextmanager
    def _transaction(self, *start: str) -> Generator[sqlite3.Connection]:
        if self._pid != os.getpid():
            self.close()
            self._pid = os.getpid()
        file = self._there()
        try:
            if self._db is None:
                self._db, self._inode = connect(self.path), file
                self._patiently(self._db, "PRAGMA synchronous = EXTRA")
            if file != self._inode:
                raise StoreError(f"{self.path} is another file than before: open the store again")
            db = self._db
            try:
                self._patiently(db, *start)
                yield db
                self._patiently(db, "COMMIT")
            finally:
                if db.in_transaction:
                    with contextlib.suppress(sqlite3.Error):
                        db.execute("ROLLBACK")
        except sqlite3.Error as e:
            raise self._error(e) from e
        except (UnicodeDecodeError, MemoryError) as e:
            # SQLite's own words and lengths, where the file has others.
            raise damaged(self.path, type(e).__name__) from e

    def _there(self) -> tuple[int, int]:
        """Device and inode of the file: SQLite would go on with one that was moved or removed."""
        try:
            stat = os.stat(self.path)
        except OSError as e:
            text = f"{self.path} cannot be opened ({e.strerror}): give the folder where it is"
            raise StoreError(text) from None
        return stat.st_dev, stat.st_ino

    def _patiently(self, db: sqlite3.Connection, *statements: str) -> None:
        """Execute; wait for others where they hold the file, in steps that Ctrl-C ends."""
        ends = time.monotonic() + self.patience
        for statement in statements:
            while True:
                try:
                    db.execute(statement).fetchall()
                    break
                except sqlite3.OperationalError as e:
                    if _code(e) & 255 not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                        raise
                    if time.monotonic() > ends:
                        raise
                    time.sleep(0.01)

    def check_header(self, db: sqlite3.Connection) -> None:
        """The format, and that the file is as long as SQLite takes it to be.

        Raises:
            StoreError: another format or another length.
        """

        def of(name: str) -> Any:
            return db.execute(f"PRAGMA {name}").fetchone()[0]

        if of("application_id") != _APPLICATION or of("user_version") < FORMAT:
            raise damaged(self.path, "its header is no store's")
        if of("user_version") > FORMAT:
            raise StoreError(
                f"path={str(self.path)!r} is of store format {of('user_version')}, and leadline "
                f"{__version__} knows formats up to {FORMAT}: upgrade leadline (pip install -U leadline); "
                "nothing was changed"
            )
        size = of("page_count") * of("page_size")
        if size != os.stat(self.path).st_size:
            raise damaged(self.path, f"{os.stat(self.path).st_size} bytes where {size} should be")
        # A store has hardly any free pages, and writing to one that is not free would destroy it.
        if of("freelist_count") and (said := of("quick_check")) != b"ok":
            raise damaged(self.path, said.decode(errors="replace"))

    def new_ids(self, db: sqlite3.Connection, count: int) -> Iterator[str]:
        """The ids of the records after the first ``count``, in order; each record is checked.

        Raises:
            StoreError: one is missing, changed, or another's.
        """
        sha256 = hashlib.sha256
        query = "SELECT seq, record, sha256 FROM runs WHERE seq > ? ORDER BY seq"
        for expected, (seq, line, checksum) in enumerate(db.execute(query, (count,)), count + 1):
            if seq != expected:
                raise damaged(self.path, f"run {expected} is not there")
            if sha256(line).digest() != checksum:
                raise damaged(self.path, f"run {seq} does not have its checksum")
            if not line.startswith(b'"run":%d,' % seq, _ID.stop + 2):
                raise damaged(self.path, f"run {seq} is another's")
            yield line[_ID].decode()

    def _error(self, error: sqlite3.Error) -> StoreError:
        code, path = _code(error), self.path
        kind = code & 255
        if kind in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return StoreError(
                f"another process has held {path} for {self.patience:.0f} s: let it go on or end it (fuser "
                f"{path} names it), and do this again; if there is none, the disk has no file locks: "
                "give a store on another"
            )
        if code in (sqlite3.SQLITE_READONLY_ROLLBACK, sqlite3.SQLITE_READONLY_CANTLOCK):
            return StoreError(
                f"{path}: a process was killed while it wrote, and undoing its half of a write needs a "
                "disk that can be written: copy the folder to one and give that"
            )
        if kind in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR):
            return StoreError(str(_refusal(path, kind)))
        if kind == sqlite3.SQLITE_CANTOPEN:
            return StoreError(
                f"{path} or its journal cannot be opened: see who may read and write them"
            )
        return damaged(path, str(error))


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", None) or 0


def _refusal(path: Path, kind: int) -> OSError:
    """The reason why a disk refuses, which SQLite does not give."""
    try:
        check_folder("store", path.parent, make=False)
    except OSError as e:
        return e
    limited = resource.getrlimit(resource.RLIMIT_FSIZE)[0] != resource.RLIM_INFINITY
    number = errno.EFBIG if limited else errno.EIO if os.access(path, os.W_OK) else errno.EACCES
    number = errno.ENOSPC if kind == sqlite3.SQLITE_FULL else number
    return refused("store", path, OSError(number, os.strerror(number)))


def digest(data: bytes) -> bytes:
    """The SHA-256 checksum of some bytes."""
    return hashlib.sha256(data).digest()


def whole(path: Path, what: str, data: Any, checksum: Any) -> bytes:
    """Bytes that have their checksum.

    Raises:
        StoreError: they have not.
    """
    if type(data) is not bytes or digest(data) != checksum:
        raise damaged(path, f"{what} does not have its checksum")
    return data


def read_with(
    path: Path, query: Callable[[sqlite3.Connection], T], patience: float = PATIENCE
) -> T:
    """The result of a query, on a new connection."""
    file = StoreFile(path, patience)
    try:
        with file.reading() as db:
            return query(db)
    finally:
        file.close()
