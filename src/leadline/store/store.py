"""A store that loses nothing: a folder with one SQLite file, a record for each training run put into it.

    runs       seq, record (JSON: id, run, previous, time, spec, result, curves), its sha256
    curves     seq, the arrays of a record in the format of safetensors
    layouts    which keys records have: the table's columns
    counts     how many records and layouts there are

Records are only ever added. The last put of a run counts, and names the record before it
(``Store.history``). Only whoever calls ``put`` writes: workers of a sweep hand it what they trained.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leadline.disk.write import write_atomic
from leadline.errors import check_path
from leadline.store import records as store_records
from leadline.store.file import (
    DamageError,
    StoreError,
    StoreFile,
    damaged,
    digest,
    open_folder,
    whole,
)
from leadline.store.records import AnyOf, Put, StoredRun, blob, read, stored_run
from leadline.store.values import Flat, Names, csv_text, decode, loads, rows, run_id

if TYPE_CHECKING:
    import sqlite3

    import pandas

__all__ = ["AnyOf", "Store", "StoreError", "StoredRun", "run_id"]


class Store:
    """Results of training runs in a folder; see the module for what is in it.

    Args:
        path: the folder; made if there is none.
        create: make it; otherwise a missing store is an error.

    Raises:
        StoreError: the folder holds something else, or a store that is damaged or of another version.

    >>> import tempfile
    >>> with Store(tempfile.mkdtemp()) as store:
    ...     id = store.put({"width": 64, "lr": 0.1}, {"loss": 0.5}, {"loss": [0.9, 0.5]})
    ...     store.get(id).result["loss"], store.get(id).curves["loss"].tolist()
    (0.5, [0.9, 0.5])
    """

    def __init__(self, path: str | os.PathLike[str], *, create: bool = True) -> None:
        self.path = Path(check_path("path", path))
        self._lock = threading.RLock()
        self._file: StoreFile | None = StoreFile(open_folder(self.path, create))
        self._forget()
        try:
            with self._file.reading() as db:
                self._file.check_header(db)
                self._read_new(db)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __bool__(self) -> bool:
        return True

    def close(self) -> None:
        """Close the file; what was put is on disk already."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None

    def _forget(self) -> None:
        self._count = 0
        self._latest: dict[str, int] = {}  # the records that count, by id, in order of first puts
        self._layouts: dict[bytes, int] = {}

    def _opened(self) -> StoreFile:
        if self._file is None:
            raise StoreError(f"the store {str(self.path)!r} is closed: open it again")
        return self._file

    @contextlib.contextmanager
    def _reading(self) -> Generator[sqlite3.Connection]:
        """A consistent view of the file, with the records that others have put."""
        with self._lock, self._opened().reading() as db:
            if self._counts(db) != (self._count, len(self._layouts)):
                self._read_new(db)
            yield db

    def _counts(self, db: sqlite3.Connection) -> tuple[int, int]:
        return db.execute("SELECT runs, layouts FROM counts").fetchone()

    def _read_new(self, db: sqlite3.Connection) -> None:
        """Read and check the records that are not known yet."""
        path = self._opened().path
        try:
            counts = self._counts(db)
            for number, names, checksum in db.execute("SELECT * FROM layouts ORDER BY number"):
                self._layouts[whole(path, f"layout {number}", names, checksum)] = number
            for id in self._opened().new_ids(db, self._count):
                self._count += 1
                self._latest[id] = self._count
            if counts != (self._count, len(self._layouts)):
                raise damaged(path, f"{self._count} runs where {counts[0]} should be")
        except (TypeError, ValueError, MemoryError) as e:
            raise damaged(path, f"what is no record: {e}") from None

    def _line(self, db: sqlite3.Connection, seq: int) -> dict[str, Any]:
        row = db.execute("SELECT record, sha256 FROM runs WHERE seq = ?", (seq,)).fetchone()
        return read(self._opened().path, seq, *(row or (None, None)))

    def put(
        self,
        spec: Mapping[str, Any],
        result: Mapping[str, Any],
        curves: Mapping[str, Any] | None = None,
    ) -> str:
        """Add a run; when this returns its id, the record is on disk.

        The same again is not added twice. Another result of the same specification counts from
        now on, and the earlier one stays in ``history``.

        Args:
            spec: what the run is: None, bool, int, float, str, lists and dicts of them.
            result: what came of it, of the same types; NaN and infinities come back as they are.
            curves: arrays by name.

        Raises:
            TypeError, ValueError: something that cannot be stored; names it.
            StoreError: the disk refused, or another process held the file for too long; this record
                is not in the store, all others are safe.
        """
        return self.put_many([(spec, result, curves)])[0]

    def put_many(self, runs: Iterable[tuple[Any, Any, Any]]) -> list[str]:
        """``put`` for several (spec, result, curves): all are on disk when this returns, or none."""
        puts = [Put.of(*run) for run in runs]
        with self._lock:
            with self._reading() as db:
                new = [put for put in puts if not self._has(db, put)]
                safe = self._count
            try:
                self._add(new)
            except BaseException as e:
                self._forget()
                if isinstance(e, StoreError) and not isinstance(e, DamageError):
                    what = f"run {new[0].id[:12]} is" if len(new) == 1 else f"{len(new)} runs are"
                    text = f"{e}; {what} not in the store, the {safe} records before are safe"
                    raise StoreError(text) from e
                raise
        return [put.id for put in puts]

    def _add(self, puts: list[Put]) -> None:
        if not puts:
            return
        with self._opened().writing() as db:
            self._read_new(db)
            for put in puts:
                if self._has(db, put):  # another process, or this call twice
                    continue
                seq = self._latest.get(put.id)
                if seq is None or not put.same(self._line(db, seq)):
                    seq = self._append(db, put, seq)
                if put.curves is not None:
                    db.execute("INSERT OR REPLACE INTO curves VALUES (?, ?)", (seq, put.curves))
            counts = self._count, len(self._layouts)
            db.execute("UPDATE counts SET runs = ?, layouts = ?", counts)

    def _append(self, db: sqlite3.Connection, put: Put, previous: int | None) -> int:
        names = put.layout.encode()
        if names not in self._layouts:
            self._layouts[names] = len(self._layouts) + 1
            row = self._layouts[names], put.layout, digest(names)
            db.execute("INSERT INTO layouts VALUES (?, ?, ?)", row)
        seq = self._count + 1
        line = put.line(seq, previous, time.time())
        db.execute("INSERT INTO runs VALUES (?, ?, ?)", (seq, line, digest(line.encode())))
        self._latest[put.id] = self._count = seq
        return seq

    def _has(self, db: sqlite3.Connection, put: Put) -> bool:
        """Whether the store has it already, its curves too."""
        seq = self._latest.get(put.id)
        if seq is None:
            return False
        data = self._line(db, seq)
        return put.same(data) and (put.curves is None or put.curves == blob(db, seq))

    def has(self, id: str) -> bool:
        """Whether there is a record of the run."""
        with self._reading():
            return id in self._latest

    def get(self, id: str) -> StoredRun:
        """The record that counts; the first 8 or more characters of its id will do.

        Raises:
            KeyError: there is none, or there are several.
        """
        with self._reading() as db:
            return self._record(self._line(db, self._latest[self._whole_id(id)]))

    def known(self, ids: Iterable[str]) -> list[StoredRun]:
        """The records that count of these runs, as far as there are any."""
        with self._reading() as db:
            places = [self._latest.get(id) for id in ids]
            return [self._record(self._line(db, seq)) for seq in places if seq is not None]

    def history(self, id: str) -> list[StoredRun]:
        """All records of a run, the one that counts last."""
        out = []
        with self._reading() as db:
            seq = self._latest[self._whole_id(id)]
            while seq is not None:
                data = self._line(db, seq)
                out.append(self._record(data))
                seq = data["previous"]
        return out[::-1]

    def _whole_id(self, id: str) -> str:
        keys = [id] if id in self._latest else []
        if 8 <= len(id) < 64:
            keys = [k for k in self._latest if k.startswith(id)]
        if len(keys) != 1:
            many = f"is the beginning of {len(keys)}" if keys else "is not in the store"
            raise KeyError(f"id={id!r} {many}: ids() lists the {len(self._latest)} there are")
        return keys[0]

    def _record(self, data: Mapping[str, Any]) -> StoredRun:
        return stored_run(self._opened().path, data)

    def ids(self) -> list[str]:
        """Each run once, in the order in which they were first put."""
        with self._reading():
            return list(self._latest)

    def __len__(self) -> int:
        with self._reading():
            return len(self._latest)

    def missing(self, specs: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """The specifications that have no record yet, each once."""
        wanted: dict[str, Mapping[str, Any]] = {}
        for spec in specs:
            wanted.setdefault(run_id(spec), spec)
        with self._reading():
            return [spec for run, spec in wanted.items() if run not in self._latest]

    def records(self, where: Mapping[str, Any] | None = None) -> list[StoredRun]:
        """The record that counts of each run, in the order of ``ids``.

        Args:
            where: values, ``AnyOf`` several, or functions of a value, by the names of the columns
                that ``table`` has without ``where``.
        """
        return [record for record, _ in self._chosen(where)]

    def _chosen(self, where: Mapping[str, Any] | None) -> Iterator[tuple[StoredRun, Flat]]:
        with self._reading() as db:
            path, layouts = self._opened().path, [decode(loads(x)) for x in self._layouts]
            names = Names.of(*zip(*layouts, strict=True)) if layouts else None
            wanted = store_records.conditions(where, names)
            condition, parameters = store_records.sql(wanted)
            query = f"SELECT seq, record, sha256 FROM runs WHERE {condition} ORDER BY seq"
            lines = db.execute(query, parameters).fetchall()
            if self._count > len(self._latest):
                place = {seq: i for i, seq in enumerate(self._latest.values())}
                lines = sorted((x for x in lines if x[0] in place), key=lambda x: place[x[0]])
        lines.reverse()
        while lines:
            r = stored_run(path, read(path, *lines.pop()))
            flat = Flat.of(r.id, r.spec, r.result)
            if all(c.holds(flat) for c in wanted):
                yield r, flat

    def table(self, where: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """One flat row a run: ``id``, specification, scalars of the result; nested as ``a.b``."""
        return rows([flat for _, flat in self._chosen(where)])

    def to_pandas(self) -> pandas.DataFrame:
        """``table`` as a data frame."""
        try:
            import pandas
        except ImportError:
            raise ImportError("to_pandas needs pandas: pip install 'leadline[pandas]'") from None
        return pandas.DataFrame(self.table())

    def to_csv(self, path: str | os.PathLike[str]) -> Path:
        """Write ``table`` as CSV in UTF-8, all or nothing."""
        text = csv_text(self.table())
        return write_atomic(path, text.encode(errors="backslashreplace"))

    def export_tensorboard(self, folder: str | os.PathLike[str]) -> Path:
        """Write one TensorBoard run a record; needs the extra ``tensorboard``."""
        store_records.export_tensorboard(self.records(), Path(folder))
        return Path(folder)

    def check(self) -> tuple[str, ...]:
        """Read everything, history and curves too; a message for each fault."""
        with self._reading() as db:
            path = self._opened().path
            said = [text.decode() for (text,) in db.execute("PRAGMA integrity_check")]
            lines = db.execute("SELECT seq, record, sha256 FROM runs ORDER BY seq").fetchall()
        out = [f"{path}: {text}" for text in said if text != "ok"]
        for line in lines:
            try:
                _ = self._record(read(path, *line)).curves
            except StoreError as e:
                out.append(str(e))
        return tuple(out)
