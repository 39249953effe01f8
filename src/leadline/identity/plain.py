"""Hashes of plain parts, the refusal of what has none, and functions that a user has named."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol


class Unidentified(TypeError):
    """What something is cannot be told from what it holds; the message says why."""


def combined(tag: str, *parts: bytes | str | int) -> bytes:
    """One hash of several, which keeps them apart."""
    h = hashlib.sha256()
    for part in (tag, *parts):
        piece = part if isinstance(part, bytes) else str(part).encode("utf-8", "surrogatepass")
        h.update(len(piece).to_bytes(8, "little"))
        h.update(piece)
    return h.digest()


def of_leaf(x: Any) -> bytes | None:
    """Numbers, texts and constants; None for anything else."""
    kind = type(x)
    if kind is float:
        return combined("float", struct.pack("<d", x))
    if kind is complex:
        return combined("complex", struct.pack("<dd", x.real, x.imag))
    if kind is bytes:
        return combined("bytes", x)
    if kind is bytearray:
        return combined("bytearray", bytes(x))
    if x is None or x is Ellipsis or x is NotImplemented or kind in (bool, int, str, range):
        return combined(kind.__name__, repr(x) if kind is not str else x)
    return None


@dataclass(frozen=True)
class Named:
    """A function under a name; it is called, compared and sent to other processes as the function."""

    name: str
    function: Callable[..., Any]

    @property
    def __name__(self) -> str:
        return self.name

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        """Call the function."""
        return self.function(*arguments, **keywords)


class Digester(Protocol):
    """What hashes the parts of a function or class: ``digest.Walk``."""

    @property
    def code(self) -> bool:
        """Whether classes are known by what they define, not by their names alone."""
        ...

    def of(self, x: Any) -> bytes:
        """The hash of anything."""
        ...

    def at(self, place: str) -> AbstractContextManager[None]:
        """Within this, messages name the place."""
        ...
