"""Arrays in a safetensors file with a checksum of every byte.

The metadata holds ``leadline``, a header as JSON, and ``sha256``: that of the whole file with the 64 digits
of the checksum as zeros. A file is checked when it is opened and then read range by range, from the file
that was checked and never through a map of it: one that is cut off meanwhile is an error, not a signal.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from leadline.disk.strict import loads

SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1}
SIZES |= {"U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1}
_NUMPY = {"f": "F", "i": "I", "u": "U"}
_ZEROS = b"0" * 64
_CHECKSUM = re.compile(rb'"sha256": "([0-9a-f]{64})"')
_CHUNK = 1 << 22
_MOST_HEADER = 100_000_000


class DamagedError(ValueError):
    """A file is not what was written, and why."""


@dataclass(frozen=True)
class Array:
    """One array on its way to a file.

    Attributes:
        kind: one of ``SIZES``.
        data: gives its bytes, in C order, when they are to be written.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    data: Callable[[], Any]

    @property
    def bytes(self) -> int:
        """The number of bytes that it takes in the file."""
        return SIZES[self.kind] * int(np.prod(self.shape, dtype=object))


def of_numpy(name: str, array: np.ndarray) -> Array:
    """An array of numbers.

    Raises:
        TypeError: it is of another type.
    """
    kind = "BOOL" if array.dtype.kind == "b" else _NUMPY.get(array.dtype.kind, "")
    kind += "" if kind == "BOOL" else str(8 * array.dtype.itemsize)
    if kind not in SIZES:
        raise TypeError(f"{name} has dtype {array.dtype}: give floats, integers or booleans")
    plain = np.ascontiguousarray(array, array.dtype.newbyteorder("="))
    return Array(name, kind, array.shape, lambda: plain.reshape(-1).view(np.uint8).data)


def numpy_type(kind: str) -> np.dtype:
    """The dtype of a kind that numpy has."""
    return np.dtype(bool if kind == "BOOL" else f"{kind[0].lower()}{SIZES[kind]}")


def write(file: BinaryIO, arrays: Iterable[Array], header: Mapping[str, Any]) -> None:
    """Write the arrays, one after the other."""
    # Widest entries first: every array is then aligned to its own.
    ordered = sorted(arrays, key=lambda a: -SIZES[a.kind])
    metadata = {"leadline": json.dumps(header), "sha256": _ZEROS.decode()}
    head: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for a in ordered:
        start, end = end, end + a.bytes
        head[a.name] = {"dtype": a.kind, "shape": list(a.shape), "data_offsets": [start, end]}
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    digest = hashlib.sha256()

    def put(data: Any) -> None:
        file.write(data)
        digest.update(data)

    put(len(text).to_bytes(8, "little"))
    put(text)
    for a in ordered:
        if a.bytes:
            put(a.data())
    # The header is a text within a text: its quotes have backslashes, and only this one matches.
    (place,) = _CHECKSUM.finditer(text)
    file.seek(8 + place.start(1))
    file.write(digest.hexdigest().encode())


class Sealed:
    """A file of ``write``, checked.

    Attributes:
        header: what was given to ``write``. checksum: SHA-256 in hex.
        kinds, shapes: of the arrays, by name.
        close: closes the file, once; nobody has to.

    Raises:
        DamagedError: it is not, not whole, or not as it was written. OSError: it cannot be read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise DamagedError("it is no file")
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.close = weakref.finalize(self, os.close, self._file)
        try:
            self._check(os.fstat(self._file).st_size)
        except BaseException:
            self.close()
            raise

    def _check(self, size: int) -> None:
        length = int.from_bytes(self._bytes(0, min(8, size)), "little") if size >= 8 else 0
        if not 0 < length <= min(size - 8, _MOST_HEADER):
            raise DamagedError("it is cut off, or no safetensors file")
        text = self._bytes(8, length)
        checksums = _CHECKSUM.findall(text)
        if len(checksums) != 1:
            raise DamagedError("it has no checksum, or more than one")
        digest = hashlib.sha256(length.to_bytes(8, "little"))
        digest.update(text.replace(checksums[0], _ZEROS))
        for start in range(8 + length, size, _CHUNK):
            digest.update(self._bytes(start, min(_CHUNK, size - start)))
        if digest.hexdigest().encode() != checksums[0]:
            raise DamagedError("its bytes do not have its checksum")
        self.checksum = digest.hexdigest()
        try:
            head = loads(text)
            self.header: dict[str, Any] = loads(head.pop("__metadata__")["leadline"])
            self.kinds = {name: e["dtype"] for name, e in head.items()}
            self.shapes = {name: tuple(e["shape"]) for name, e in head.items()}
            self._starts, end = {}, 8 + length
            for name, e in sorted(head.items(), key=lambda item: item[1]["data_offsets"]):
                start, stop = (8 + length + x for x in e["data_offsets"])
                wanted = Array(name, self.kinds[name], self.shapes[name], bytes).bytes
                if start != end or stop != end + wanted:
                    raise ValueError(f"{name} is not where it should be")
                self._starts[name], end = start, stop
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DamagedError(f"its header makes no sense: {error}") from None
        if end != size:
            raise DamagedError("its length is not what its header says")

    def _bytes(self, start: int, count: int) -> bytes:
        out = bytearray(count)
        self._into(memoryview(out), start)
        return bytes(out)

    def _into(self, out: memoryview, start: int) -> None:
        while out:
            got = os.preadv(self._file, [out], start)
            if not got:
                raise DamagedError("it became shorter while it was read")
            out, start = out[got:], start + got

    def read(self, name: str, axis: int = 0, part: slice = slice(None)) -> np.ndarray:
        """The bytes of an array, or of a range along its first or second axis, as flat uint8."""
        shape, start = [*self.shapes[name]] or [1], self._starts[name]
        a, b, _ = part.indices(shape[axis])
        # A range along the first axis, or all of it, is one piece; else there is one in every row.
        rows = shape[0] if axis and b - a < shape[1] else 1
        each = SIZES[self.kinds[name]] * int(np.prod(shape[axis + 1 :]))
        stride, skip = each * shape[axis], each * a
        length = each * (b - a) * (shape[0] if axis and rows == 1 else 1)
        out = np.empty((rows, max(length, 0)), dtype=np.uint8)
        for row, piece in enumerate(out):
            self._into(piece.data, start + row * stride + skip)
        return out.reshape(-1)

    def array(self, name: str) -> np.ndarray:
        """The whole array, of a type that numpy has."""
        return self.read(name).view(numpy_type(self.kinds[name])).reshape(self.shapes[name])


def arrays(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Header and all arrays of a file, by name."""
    sealed = Sealed(path)
    try:
        return sealed.header, {name: sealed.array(name) for name in sealed.shapes}
    finally:
        sealed.close()


def checksum(path: Path) -> str:
    """What a file of ``write`` says of itself; unchecked."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        checksums = _CHECKSUM.findall(file.read(min(length, _MOST_HEADER)))
    return checksums[0].decode() if checksums else ""
