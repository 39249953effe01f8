"""Results as JSON text, piece by piece: a large array never exists as lists of Python's numbers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import numpy as np

from leadline.disk.plain import plain

# Numbers of a piece.
_PIECE = 4096


def pieces(x: Any) -> Iterator[str]:
    """The text of dicts, lists, arrays and numbers; what is not finite is null.

    >>> "".join(pieces({"a": np.array([[1.0, np.nan], [2.0, 3.0]]), "b": [None, float("inf")]}))
    '{"a": [[1.0, null], [2.0, 3.0]], "b": [null, null]}'
    """
    if isinstance(x, Mapping):
        yield from _joined("{}", ((f"{json.dumps(str(k))}: ", v) for k, v in x.items()))
    elif isinstance(x, np.ndarray) and x.ndim and x.size > _PIECE:
        yield from _joined("[]", (("", row) for row in _parts(x)))
    elif isinstance(x, list | tuple):
        yield from _joined("[]", (("", v) for v in x))
    else:
        yield json.dumps(plain(x))


def _joined(ends: str, items: Any) -> Iterator[str]:
    yield ends[0]
    for i, (before, value) in enumerate(items):
        yield f", {before}" if i else before
        if isinstance(value, _Run):
            yield json.dumps(plain(value.numbers))[1:-1]
        else:
            yield from pieces(value)
    yield ends[1]


class _Run:
    """Part of a long row."""

    def __init__(self, numbers: np.ndarray) -> None:
        self.numbers = numbers


def _parts(x: np.ndarray) -> Iterator[Any]:
    if x.ndim > 1:
        yield from x
        return
    for start in range(0, len(x), _PIECE):
        yield _Run(x[start : start + _PIECE])


def write(file: BinaryIO, x: Any) -> None:
    """The text as bytes."""
    file.writelines(piece.encode() for piece in pieces(x))
