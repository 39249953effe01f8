"""A store that loses nothing: a folder of lines, one for each training run put into it.

    store.json                  {"leadline_store": 1}
    runs-<host>-<k>.jsonl       one line a record, only ever appended to
    curves/<id>-<digest>.safetensors
    index.sqlite                made from the lines; may be deleted at any time
    damaged.jsonl               lines that are no records, and where they were found

Each writing process appends to a file of its own, whose lock it holds for as long as it lives; a
later process takes over a file that nobody holds. One file for all would need a lock around every
append (a stopped process stops all the others; network disks lock badly, and O_APPEND does not
exist on them), and what a power loss tears could be anybody's. So nothing here waits, a torn end
has one author, and two stores are merged by copying their files together.

The last put of a run counts; earlier ones stay in the lines (``Store.history``). A rerun knows
how many records of its run there were, so that order does not depend on clocks, save between two
processes that put the same run at the same moment.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leadline.disk.write import write_atomic
from leadline.errors import check_path
from leadline.sweeps import store_table
from leadline.sweeps.store_files import Writer, refused, sync_written
from leadline.sweeps.store_index import Index
from leadline.sweeps.store_lines import CurvesFile, Entry, StoreError, write_line
from leadline.sweeps.store_open import open_folder
from leadline.sweeps.store_record import Record, curves_problem, pack, record
from leadline.sweeps.store_scan import Damage, catch_up
from leadline.sweeps.store_values import dumps, encode, run_id

if TYPE_CHECKING:
    import pandas

__all__ = ["Record", "Store", "StoreError", "run_id"]


class Store:
    """Results of training runs in a folder; see the module for what is in it.

    Args:
        path: the folder; made if there is none.
        create: make it; otherwise a missing store is an error.

    Raises:
        StoreError: the folder holds something else, or a store of a later version.

    >>> import tempfile
    >>> with Store(tempfile.mkdtemp()) as store:
    ...     id = store.put({"width": 64, "lr": 0.1}, {"loss": 0.5}, {"loss": [0.9, 0.5]})
    ...     store.get(id).result["loss"], store.get(id).curves["loss"].tolist()
    (0.5, [0.9, 0.5])
    """

    def __init__(self, path: str | os.PathLike[str], *, create: bool = True) -> None:
        self.path = Path(check_path("path", path))
        self._lock = threading.RLock()
        self._bad: dict[str, str] = {}
        self._writer: Writer | None = None
        self._index: Index | None = None
        self._notes = open_folder(self.path, create)
        self._damage = Damage(self.path)
        index = Index(self.path)
        try:
            catch_up(self.path, index, self._damage, thorough=True)
        except BaseException:
            index.db.close()
            raise
        self._index = index

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the writer's file back; what was put is on disk long before."""
        with self._lock:
            if self._index is not None:
                with contextlib.suppress(OSError):
                    self._fresh()
                self._index.close()
                self._index = None
            self._drop_writer()

    def _drop_writer(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _fresh(self) -> Index:
        """The index with what others have put since."""
        if self._index is None:
            raise StoreError(f"the store {str(self.path)!r} is closed: open it again")
        catch_up(self.path, self._index, self._damage)
        return self._index

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
            StoreError: the disk refused; this record is not in the store, all others are safe.
        """
        run = run_id(spec)
        if not isinstance(result, Mapping):
            raise TypeError(f"result={result!r} is not a dict: give numbers by name")
        texts = dumps(encode(spec, "spec")), dumps(encode(result, "result"))
        packed = pack(run, curves)
        with self._lock:
            latest = self._fresh().latest(run)
            rerun = 0 if latest is None else latest[0].rerun + 1
            entry = Entry(run, rerun, time.time(), *texts, packed[0] if packed else None)
            known = latest[1] if latest is not None and latest[0].same(entry) else None
            try:
                self._write(entry, packed, known)
            except OSError as e:
                self._drop_writer()
                safe = self._index.count() if self._index else 0
                raise StoreError(refused(e, self.path, run, safe)) from e
        return run

    def _write(
        self, entry: Entry, packed: tuple[CurvesFile, bytes] | None, known: str | None
    ) -> None:
        if known is not None and (packed is None or self._whole(packed[0])):
            sync_written(self.path / known)
            return
        if self._writer is None or self._writer.pid != os.getpid():
            self._writer = Writer(self.path)
        if packed is not None:
            self._writer.curves(packed[0].file, packed[1])
            self._bad.pop(packed[0].file, None)
        if known is None:
            self._writer.append(write_line(entry))

    def _whole(self, file: CurvesFile) -> bool:
        return curves_problem(self.path / "curves", file, read=True) is None

    def has(self, id: str) -> bool:
        """Whether there is a record of the run."""
        with self._lock:
            return self._fresh().has(id)

    def get(self, id: str) -> Record:
        """The record that counts; the first 8 or more characters of its id will do.

        Raises:
            KeyError: there is none, or there are several.
        """
        return self.history(id)[-1]

    def history(self, id: str) -> list[Record]:
        """All records of a run, the one that counts last."""
        with self._lock:
            index = self._fresh()
            ids = index.ids(id) if 8 <= len(id) < 64 else [id] * index.has(id)
            if len(ids) != 1:
                many = f"is the beginning of {len(ids)}" if ids else "is not in the store"
                raise KeyError(f"id={id!r} {many}: ids() lists the {len(index.ids())} there are")
            return [self._record(entry) for entry, _ in index.history(ids[0])]

    def _record(self, entry: Entry) -> Record:
        return record(entry, self.path, self._bad.__setitem__)

    def ids(self) -> list[str]:
        """Each run once, in the order in which they were first put."""
        with self._lock:
            return self._fresh().ids()

    def __len__(self) -> int:
        return len(self.ids())

    def __bool__(self) -> bool:
        return True

    def missing(self, specs: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """The specifications that have no record yet, each once."""
        with self._lock:
            index = self._fresh()
            wanted: dict[str, Mapping[str, Any]] = {}
            for spec in specs:
                wanted.setdefault(run_id(spec), spec)
            return [spec for run, spec in wanted.items() if not index.has(run)]

    def records(self, where: Mapping[str, Any] | None = None) -> list[Record]:
        """The record that counts of each run, in the order of ``ids``.

        Args:
            where: values, or functions of a value, by the names of ``table``'s columns.
        """
        with self._lock:
            records = [self._record(e) for e in self._fresh().entries()]
        return store_table.chosen(records, where)

    def table(self, where: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """One flat row a run: ``id``, specification, scalars of the result; nested as ``a.b``."""
        return store_table.rows(self.records(where))

    def to_pandas(self) -> pandas.DataFrame:
        """``table`` as a data frame."""
        try:
            import pandas
        except ImportError:
            raise ImportError("to_pandas needs pandas: pip install 'leadline[pandas]'") from None
        return pandas.DataFrame(self.table())

    def to_csv(self, path: str | os.PathLike[str]) -> Path:
        """Write ``table`` as CSV in UTF-8, all or nothing."""
        text = store_table.csv_text(self.table())
        return write_atomic(path, text.encode(errors="backslashreplace"))

    def export_tensorboard(self, folder: str | os.PathLike[str]) -> Path:
        """Write one TensorBoard run a record; needs the extra ``tensorboard``."""
        store_table.export_tensorboard(self.records(), Path(folder))
        return Path(folder)

    @property
    def problems(self) -> tuple[str, ...]:
        """Damaged lines that nobody had seen before this store was opened, curves that fail."""
        with self._lock:
            folder, texts = self.path / "curves", [*self._notes, *self._damage.messages]
            for f in self._fresh().curves():
                why = curves_problem(folder, f, read=False) or self._bad.get(f.file)
                texts += [why] if why else []
            return tuple(texts)

    def damaged(self) -> list[dict[str, Any]]:
        """All lines ever set aside: file, line, why and the text."""
        return self._damage.rows()

    def rebuild(self) -> tuple[str, ...]:
        """Make the index again from the lines and read all curves; return ``problems``."""
        with self._lock:
            index = self._fresh()
            index.clear()
            index = self._fresh()
            index.save()
            for file in index.curves():
                why = curves_problem(self.path / "curves", file, read=True)
                if why is not None:
                    self._bad[file.file] = why
            return self.problems
