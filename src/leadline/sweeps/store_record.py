"""A record of a store, its curves read when they are asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from leadline.sweeps.store_lines import CurvesFile, Entry, StoreError, curves_name
from leadline.sweeps.store_values import decode, has_surrogates, loads

_DTYPES = "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 complex64"


class Curves(Mapping[str, np.ndarray]):
    """Arrays by name, read from their file at the first access and checked against its digest."""

    def __init__(self, folder: Path, file: CurvesFile | None, report: Callable[..., Any]) -> None:
        self._folder, self._file, self._report = folder, file, report
        self._arrays: dict[str, np.ndarray] | None = None

    def __iter__(self) -> Iterator[str]:
        return iter(self._file.names if self._file else ())

    def __len__(self) -> int:
        return len(self._file.names) if self._file else 0

    def __contains__(self, name: object) -> bool:
        return self._file is not None and name in self._file.names

    def __getitem__(self, name: str) -> np.ndarray:
        if self._file is None or name not in self._file.names:
            has = ", ".join(self) or "none"
            raise KeyError(f"{name!r} is no curve of this record: it has {has}")
        if self._arrays is None:
            self._arrays = self._read(self._file)
        return self._arrays[name]

    def __repr__(self) -> str:
        return f"Curves({', '.join(self)})"

    def _read(self, file: CurvesFile) -> dict[str, np.ndarray]:
        from safetensors.numpy import load

        why = curves_problem(self._folder, file, read=True)
        if why is not None:
            self._report(file.file, why)
            raise StoreError(why)
        return load((self._folder / file.file).read_bytes())


def curves_problem(folder: Path, file: CurvesFile, *, read: bool) -> str | None:
    """What is wrong with a file of curves, by its size or by all of it."""
    path = folder / file.file
    rest = "; the record's specification and result are safe: put the run again to restore them"
    try:
        size = path.stat().st_size
        if size == file.bytes and read and _digest(path) != file.sha256:
            return f"{path}: the curves are damaged (another digest){rest}"
    except FileNotFoundError:
        return f"{path}: the curves are missing{rest}"
    except OSError as e:
        return f"{path}: the curves cannot be read ({e.strerror}){rest}"
    if size != file.bytes:
        return f"{path}: the curves are damaged ({size} of {file.bytes} bytes){rest}"
    return None


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Record:
    """One run.

    Attributes:
        id: of the specification, see ``run_id``.
        spec: the specification.
        result: what came of it.
        time: when it was put, in seconds since 1970.
        curves: arrays by name, read at the first access.
    """

    id: str
    spec: dict[str, Any]
    result: dict[str, Any]
    time: float
    curves: Curves = field(compare=False)


def record(entry: Entry, folder: Path, report: Callable[..., Any]) -> Record:
    """The record of a line; ``report(file, why)`` hears of damaged curves."""
    spec, result = decode(loads(entry.spec)), decode(loads(entry.result))
    curves = Curves(folder / "curves", entry.curves, report)
    return Record(entry.id, spec, result, entry.time, curves)


def pack(run: str, curves: Mapping[str, Any] | None) -> tuple[CurvesFile, bytes] | None:
    """The file of a run's curves, and what the line says of it.

    Raises:
        TypeError, ValueError: naming the curve that cannot be stored.
    """
    from safetensors.numpy import save

    if not curves:
        return None
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
    names = tuple(sorted(arrays))
    data = save({n: arrays[n] for n in names}, metadata={"leadline_run": run})
    digest = hashlib.sha256(data).hexdigest()
    return CurvesFile(curves_name(run, digest), len(data), digest, names), data
