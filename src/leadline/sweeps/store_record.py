"""What a put says, as the text that is kept, and the record that is read back from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leadline.sweeps.store_file import StoreError, damaged, digest, look, whole
from leadline.sweeps.store_table import Flat
from leadline.sweeps.store_values import (
    decode,
    dumps,
    encode,
    encode_spec,
    encoded_id,
    has_surrogates,
    loads,
    same_json,
)

if TYPE_CHECKING:
    import sqlite3

    import numpy as np

_DTYPES = "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 complex64"


class Curves(dict[str, "np.ndarray"]):
    """Arrays by name."""

    def __missing__(self, name: str) -> np.ndarray:
        has = ", ".join(self) or "none"
        raise KeyError(f"{name!r} is no curve of this record: it has {has}")


@dataclass(frozen=True)
class Record:
    """One run.

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

        data = look(path, lambda db: blob(db, seq))
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
    """What one put says, in the form in which it is kept."""

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
    def key(self) -> bytes:
        """The id as the file has it."""
        return self.id.encode()

    @property
    def checksum(self) -> str | None:
        """Of the curves."""
        return None if self.curves is None else digest(self.curves).hex()

    def line(self, seq: int, previous: int | None, time: float) -> str:
        """The record as JSON; ``read`` takes it apart."""
        numbers = dumps({"run": seq, "previous": previous, "time": time})[1:-1]
        texts = f'"spec":{self.spec},"result":{self.result},"curves":{dumps(self.checksum)}'
        return f'{{"id":"{self.id}",{numbers},{texts}}}'

    def same(self, data: Mapping[str, Any]) -> bool:
        """Whether a record of the same run says the same."""
        result = dumps(data["result"])
        return self.checksum == data["curves"] and same_json(self.result, result)


def read(path: Path, seq: int, line: Any, checksum: Any) -> dict[str, Any]:
    """The members of a record, encoded as ``encode`` does.

    Raises:
        StoreError: it is not whole, or another's.
    """
    data = loads(whole(path, f"run {seq}", line, checksum))
    if data["run"] != seq:
        raise damaged(path, f"run {seq} is another's")
    return data


def record(path: Path, data: Mapping[str, Any]) -> Record:
    """The record of these members."""
    spec, result = decode(data["spec"]), decode(data["result"])
    return Record(data["id"], spec, result, data["time"], (path, data["run"], data["curves"]))


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
