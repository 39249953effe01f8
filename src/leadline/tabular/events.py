"""TensorBoard's event files: the last value of every scalar, and the hyperparameters.

Records are a length, a checksum of it, the event and its checksum (TFRecord); events are protocol
buffers, of which only the fields that hold scalars and hyperparameters are read. TensorBoard itself is not
needed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MOST = 2_000_000_000
"""Bytes of an event file."""

_STEP, _SUMMARY, _VALUE = 2, 5, 1
_TAG, _SIMPLE, _TENSOR, _METADATA = 1, 2, 8, 9
_DOUBLES, _FLOATS, _CONTENT, _TYPE = 6, 5, 4, 1
_HPARAMS = b"hparams"


def last_values(path: Path) -> dict[str, Any]:
    """Tag and hyperparameter names with their values, and ``step``, that of the last scalar.

    A record that a killed program left half-written ends the file.

    Raises:
        ValueError: the file is damaged.
    """
    out: dict[str, Any] = {}
    hyperparameters: dict[str, Any] = {}
    last = -1
    for event in _records(path):
        step = 0
        summaries = []
        for field, value in _fields(event, path):
            if field == _STEP and isinstance(value, int):
                step = value
            elif field == _SUMMARY and isinstance(value, bytes):
                summaries.append(value)
        for summary in summaries:
            for field, value in _fields(summary, path):
                if field != _VALUE or not isinstance(value, bytes):
                    continue
                tag, number, hparams = _scalar(value, path)
                hyperparameters |= hparams
                if number is not None:
                    out[tag] = number
                    last = max(last, step)
    steps = {"step": last} if last >= 0 else {}
    return hyperparameters | out | steps


def _scalar(value: bytes, path: Path) -> tuple[str, float | None, dict[str, Any]]:
    tag, number, hparams = "", None, {}
    for field, item in _fields(value, path):
        if field == _TAG and isinstance(item, bytes):
            tag = item.decode("utf-8", "replace")
        elif field == _SIMPLE and isinstance(item, bytes):
            number = float(struct.unpack("<f", item)[0])
        elif field == _TENSOR and isinstance(item, bytes):
            number = _tensor(item, path)
        elif field == _METADATA and isinstance(item, bytes):
            hparams = _hparams(item, path)
    return tag, None if hparams or tag.startswith("_hparams_/") else number, hparams


def _tensor(data: bytes, path: Path) -> float | None:
    """A tensor of one float."""
    kind, raw = 0, b""
    for field, item in _fields(data, path):
        if field == _TYPE and isinstance(item, int):
            kind = item
        elif field in (_FLOATS, _DOUBLES, _CONTENT) and isinstance(item, bytes):
            raw = item
    form = {1: "<f", 2: "<d"}.get(kind)
    return (
        struct.unpack(form, raw)[0]
        if form is not None and len(raw) == struct.calcsize(form)
        else None
    )


def _hparams(metadata: bytes, path: Path) -> dict[str, Any]:
    """SummaryMetadata → plugin data → session start → its hyperparameters."""
    out: dict[str, Any] = {}
    for plugin in _inside(metadata, 1, path):
        if _HPARAMS not in _inside(plugin, 1, path):
            continue
        for content in _inside(plugin, 2, path):
            for start in _inside(content, 3, path):
                for entry in _inside(start, 1, path):
                    names = _inside(entry, 1, path)
                    for value in _inside(entry, 2, path):
                        for field, item in _fields(value, path):
                            if names and field in (2, 3, 4):
                                out[names[0].decode("utf-8", "replace")] = _plain(field, item)
    return out


def _plain(field: int, item: int | bytes) -> Any:
    if isinstance(item, int):
        return bool(item)
    return struct.unpack("<d", item)[0] if field == 2 else item.decode("utf-8", "replace")


def _inside(data: bytes, field: int, path: Path) -> list[bytes]:
    return [v for f, v in _fields(data, path) if f == field and isinstance(v, bytes)]


def _fields(data: bytes, path: Path) -> Iterator[tuple[int, int | bytes]]:
    """Fields of a message: integers, or bytes for all else."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at, path)
        wire = key & 7
        if wire == 0:
            value, at = _varint(data, at, path)
            yield key >> 3, value
            continue
        if wire == 2:
            size, at = _varint(data, at, path)
        else:
            size = {1: 8, 5: 4}.get(wire, -1)
        if size < 0 or at + size > len(data):
            raise ValueError(f"{str(path)!r} is no event file of TensorBoard: give another")
        yield key >> 3, data[at : at + size]
        at += size


def _varint(data: bytes, at: int, path: Path) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        value |= (data[at] & 127) << shift
        at += 1
        if data[at - 1] < 128:
            return value, at
    raise ValueError(f"{str(path)!r} is no event file of TensorBoard: give another")


def _records(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as stream:
        left = MOST
        while len(head := stream.read(12)) == 12:
            size, check = struct.unpack("<QI", head)
            if _crc(head[:8]) != check:
                raise ValueError(f"{str(path)!r} is damaged: give another copy")
            left -= size + 16
            if left < 0:
                raise ValueError(f"{str(path)!r} has more than {MOST:,} bytes: give scalars alone")
            body = stream.read(size + 4)
            if len(body) < size + 4:
                return
            if _crc(body[:-4]) != struct.unpack("<I", body[-4:])[0]:
                raise ValueError(f"{str(path)!r} is damaged: give another copy")
            yield body[:-4]


def _table() -> list[int]:
    out = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
        out.append(byte)
    return out


_TABLE = _table()


def _crc(data: bytes) -> int:
    """CRC-32C, masked as TFRecord does."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 255] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
