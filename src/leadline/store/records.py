"""Records: the text that a put keeps, the run that is read back, and ``where``, which selects runs."""

from __future__ import annotations

import contextlib
import json
import math
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leadline.errors import check_choice
from leadline.store.file import StoreError, connect, damaged, digest, read_with, whole
from leadline.store.values import (
    Flat,
    Names,
    canonical,
    canonical_text,
    decode,
    dumps,
    encode,
    encode_spec,
    encoded_id,
    has_surrogates,
    loads,
    rows,
)

if TYPE_CHECKING:
    import numpy as np

_DTYPES = "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 complex64"


class Curves(dict[str, "np.ndarray"]):
    """Arrays by name."""

    def __missing__(self, name: str) -> np.ndarray:
        has = ", ".join(self) or "none"
        raise KeyError(f"{name!r} is no curve of this record: it has {has}")


@dataclass(frozen=True)
class StoredRun:
    """A run as the store has it.

    Attributes:
        id: of the specification, see ``run_id``.
        spec: the specification.
        result: what came of it.
        time: when it was put, in seconds since 1970.
        curves: arrays by name, read from the store and checked at the first access.
    """

    id: str
    spec: dict[str, Any]
    result: dict[str, Any]
    time: float
    _place: tuple[Path, int, str | None] = field(compare=False, repr=False)

    @cached_property
    def curves(self) -> Curves:
        """Arrays by name.

        Raises:
            StoreError: they are not as they were put.
        """
        path, seq, checksum = self._place
        if checksum is None:
            return Curves()
        from safetensors.numpy import load

        data = read_with(path, lambda db: blob(db, seq))
        if data is None or digest(data).hex() != checksum:
            raise StoreError(
                f"{path}: the curves of run {self.id[:12]} are {'damaged' if data else 'missing'}; its "
                "specification and result are safe: put the run again to restore them"
            )
        return Curves(load(data))


def blob(db: sqlite3.Connection, seq: int) -> bytes | None:
    """The bytes of a record's curves."""
    row = db.execute("SELECT data FROM curves WHERE seq = ?", (seq,)).fetchone()
    return row[0] if row and type(row[0]) is bytes else None


@dataclass(frozen=True)
class Put:
    """One put, encoded as the file keeps it."""

    id: str
    spec: str
    result: str
    layout: str
    curves: bytes | None

    @classmethod
    def of(cls, spec: Any, result: Any, curves: Mapping[str, Any] | None = None) -> Put:
        """Check and encode.

        Raises:
            TypeError, ValueError: naming what cannot be stored.
        """
        described = encode_spec(spec)
        if not isinstance(result, Mapping):
            raise TypeError(f"result={result!r} is not a dict: give numbers by name")
        run, came = encoded_id(described), encode(result, "result")
        flat = Flat.of(run, decode(described), decode(came))
        names = _layout(tuple(flat.spec), tuple(flat.result))
        return cls(run, dumps(described), dumps(came), names, _pack(run, curves))

    @property
    def checksum(self) -> str | None:
        """SHA-256 of the curves."""
        return None if self.curves is None else digest(self.curves).hex()

    def line(self, seq: int, previous: int | None, time: float) -> str:
        """The record as JSON; ``read`` takes it apart."""
        numbers = dumps({"run": seq, "previous": previous, "time": time})[1:-1]
        texts = f'"spec":{self.spec},"result":{self.result},"curves":{dumps(self.checksum)}'
        return f'{{"id":"{self.id}",{numbers},{texts}}}'

    def same(self, data: Mapping[str, Any]) -> bool:
        """Whether a record of the same run says the same."""
        result = data["result"]
        same = self.result == dumps(result) or canonical_text(loads(self.result)) == canonical_text(
            result
        )
        return same and self.checksum == data["curves"]


def read(path: Path, seq: int, line: Any, checksum: Any) -> dict[str, Any]:
    """The members of a record, encoded as ``encode`` does.

    Raises:
        StoreError: it is not whole, or another's.
    """
    data = loads(whole(path, f"run {seq}", line, checksum))
    if data["run"] != seq:
        raise damaged(path, f"run {seq} is another's")
    return data


def stored_run(path: Path, data: Mapping[str, Any]) -> StoredRun:
    """The record of these members."""
    spec, result = decode(data["spec"]), decode(data["result"])
    return StoredRun(data["id"], spec, result, data["time"], (path, data["run"], data["curves"]))


@lru_cache(256)
def _layout(*names: tuple[str, ...]) -> str:
    """The columns that a record has, as JSON."""
    return dumps(encode(names, "names"))


def _pack(run: str, curves: Mapping[str, Any] | None) -> bytes | None:
    """A run's curves in the format of safetensors."""
    if not curves:
        return None
    import numpy as np
    from safetensors.numpy import save

    arrays = {}
    for name, value in curves.items():
        if not isinstance(name, str):
            raise TypeError(f"curves has the key {name!r}: keys are text, give {str(name)!r}")
        if name == "__metadata__" or has_surrogates(name):
            raise ValueError(f"curves has the key {name!r}, which safetensors cannot hold: rename")
        array = np.asarray(value, order="C")
        if array.dtype.name not in _DTYPES.split():
            raise TypeError(
                f"curves[{name!r}] has dtype {array.dtype}: give one of {', '.join(_DTYPES.split())}"
            )
        arrays[str.__str__(name)] = array.astype(array.dtype.newbyteorder("="), copy=False)
    return save({n: arrays[n] for n in sorted(arrays)}, metadata={"leadline_run": run})


def whole_runs(file: Path, lost: list[str]) -> Iterator[StoredRun]:
    """Every whole record of a damaged store, in order; a message for each loss is added to ``lost``."""
    with contextlib.closing(connect(file)) as db:
        for seq in range(1, _last(db, file) + 1):
            try:
                query = "SELECT record, sha256 FROM runs WHERE seq = ?"
                row = db.execute(query, (seq,)).fetchone() or (None, None)
                data = read(file, seq, *row)
            except (sqlite3.Error, StoreError) as e:
                lost.append(f"{file}: run {seq} is lost ({e})")
                continue
            yield stored_run(file, data)


def _last(db: sqlite3.Connection, file: Path) -> int:
    """The number of the last record, by any part of the file that says it."""
    said = []
    for query in ("SELECT runs FROM counts", "SELECT max(seq) FROM runs"):
        with contextlib.suppress(sqlite3.Error):
            said += [n for (n,) in db.execute(query) if type(n) is int]
    if not said:
        raise damaged(file, "nothing in it can be read: no run can be rescued")
    return min(max(said), file.stat().st_size)


def export_tensorboard(records: Sequence[StoredRun], folder: Path) -> None:
    """One TensorBoard run a record: curves by step, scalars of the result, the specification."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ImportError(
            "export_tensorboard needs tensorboard: pip install 'leadline[tensorboard]'"
        ) from None
    table = rows([Flat.of(r.id, r.spec, r.result) for r in records])
    for record, row in zip(records, table, strict=True):
        with SummaryWriter(str(folder / record.id[:16])) as writer:
            writer.add_text("spec", f"```\n{canonical(record.spec)}\n```")
            for name, x in row.items():
                number = isinstance(x, int | float) and not isinstance(x, bool)
                if number and name not in record.spec and math.isfinite(x):
                    writer.add_scalar(f"result/{name}", x)
            for name in record.curves:
                curve = record.curves[name]
                if curve.ndim == 1 and curve.dtype.kind in "biuf":
                    for step, x in enumerate(curve.tolist()):
                        writer.add_scalar(f"curves/{name}", x, step)


@dataclass(frozen=True)
class AnyOf:
    """Values of which a column has one, for ``where``."""

    values: tuple[Any, ...]


@dataclass(frozen=True)
class Condition:
    """One column's: where it is in a record, and the test of its value.

    A record is JSON text, in which a number can be written in a few ways only. So SQLite looks for the text
    of key and value, which is quick and may find a few records too many; those are read and tested.

    Attributes:
        part: "id", "spec" or "result".
        key: its name there, nested as ``a.b``.
        test: of the value; None where a record has none.
        texts: how such values are written in JSON; None: in ways that are not listed.
    """

    part: str
    key: str
    test: Callable[[Any], bool]
    texts: tuple[str, ...] | None

    def holds(self, flat: Flat) -> bool:
        """Whether a record meets it."""
        return self.test(flat.id if self.part == "id" else getattr(flat, self.part).get(self.key))

    def sql(self) -> tuple[str, list[str]]:
        """A condition that every such record meets, with its parameters."""
        if self.texts is None:
            return "1", []
        last = json.dumps(self.key.rpartition(".")[2])[1:-1]
        parts, parameters = [], []
        # Most records have no text that begins like this: they are looked through once, not for each.
        for head in self.texts:
            if not any(head != text and head.startswith(text) for text in self.texts):
                whole = [t + end for t in self.texts if t.startswith(head) for end in ",}"]
                some = " OR ".join(["instr(record, ?)"] * len(whole))
                parts.append(f"(instr(record, ?) AND ({some}))")
                parameters += [f'{last}":{text}' for text in (head, *whole)]
        return f"({' OR '.join(parts)})", parameters


def conditions(where: Mapping[str, Any] | None, names: Names | None) -> list[Condition]:
    """The conditions of ``where``.

    Raises:
        ValueError: no record has such a column.
    """
    if names is None or not where:
        return []
    columns = {"id": ("id", "id")}
    tags = any("$" in key or has_surrogates(key) for key in (*names.spec, *names.result))
    for part, keys in (("spec", names.spec), ("result", names.result)):
        columns |= {column: (part, key) for key, column in keys.items()}
    out = []
    for column, wanted in where.items():
        check_choice("where", column, columns)
        if callable(wanted):
            out.append(Condition(*columns[column], wanted, None))
            continue
        values = wanted.values if isinstance(wanted, AnyOf) else (wanted,)
        label = f"where[{column!r}]"
        wanted_texts = frozenset(canonical(v, label) for v in values)
        ways = [_texts(encode(v, label)) for v in values]
        odd = tags or any(way is None for way in ways) or columns[column][1].endswith("'")
        texts = None if odd else tuple(dict.fromkeys(t for way in ways for t in way or ()))
        out.append(Condition(*columns[column], _is_one_of(wanted_texts), texts))
    return out


def _is_one_of(wanted: frozenset[str]) -> Callable[[Any], bool]:
    return lambda value: canonical(value) in wanted


def _texts(value: Any) -> list[str] | None:
    """The ways to write an encoded value in a record, or None where they are not to be listed.

    >>> _texts(64), _texts(0.1), _texts(0.0), _texts("mup")
    (['64', '64.0'], ['0.1'], ['0', '0.0', '-0.0'], ['"mup"'])
    """
    if value is None or isinstance(value, list) or (isinstance(value, str) and value[:1] == "{"):
        return None  # None is what is not there, too; an empty dict is a text in the table
    if isinstance(value, bool) or not isinstance(value, int | float):
        return [dumps(value)]
    if isinstance(value, float) and not value.is_integer():
        return [dumps(value)]
    number = int(value)
    texts = [str(number)]
    with contextlib.suppress(OverflowError):
        texts += [dumps(float(number))] if float(number) == number else []
    return texts + ["-0.0"] * (number == 0)


def sql(wanted: Sequence[Condition]) -> tuple[str, list[str]]:
    """All conditions as one, with parameters."""
    parts = [c.sql() for c in wanted]
    return " AND ".join(text for text, _ in parts) or "1", [p for _, ps in parts for p in ps]
