"""How much may be unpacked: what a file says of itself is checked before anything is allocated for it."""

from __future__ import annotations

import contextlib
import contextvars
import io
from collections.abc import Generator
from typing import BinaryIO

from leadline import available

# No data that are meant to be small unpack to more than this, and to more than this many times the file.
_SMALL = 1 << 30
_RATIO = 200
_budget: contextvars.ContextVar[int | None] = contextvars.ContextVar("budget", default=None)


@contextlib.contextmanager
def within(memory: int | None) -> Generator[None]:
    """Let data that are read take at most ``memory`` bytes; None is half of what is available."""
    token = _budget.set(memory)
    try:
        yield
    finally:
        _budget.reset(token)


def check(what: str, count: int, stored: int) -> None:
    """Refuse to unpack too much.

    Args:
        what: names it in the error.
        count: bytes that it takes in memory. stored: bytes of the file.

    Raises:
        TooLargeError: more than the memory budget, or than any data of the file's size take.
    """
    memory = _budget.get()
    most, whose = (
        (available.memory() // 2, "half of what is available")
        if memory is None
        else (memory, "memory= allows")
    )
    if count > most:
        raise TooLargeError(
            f"{what} takes {count:,} bytes in memory, more than {whose} ({most:,}): keep fewer samples"
        )
    if count > max(_SMALL, _RATIO * stored):
        raise TooLargeError(
            f"{what} takes {count:,} bytes in memory and {stored:,} in the file, over {_RATIO} times "
            "less: if that is meant, store it uncompressed"
        )


class TooLargeError(ValueError):
    """Data do not fit into the memory that they may take."""


class Bounded(io.RawIOBase):
    """A stream that gives at most ``most`` bytes, and at most ``once`` of them at a time.

    Raises:
        ValueError: at the read or seek that would go further.
    """

    def __init__(self, stream: BinaryIO, most: int, once: int) -> None:
        self._stream, self._most, self._once = stream, most, once

    def read(self, count: int | None = -1) -> bytes:
        """Read so many bytes; a count is needed."""
        if count is None or not 0 <= count <= self._once:
            raise ValueError(
                f"{count} bytes are to be read at once, at most {self._once} are in order"
            )
        self._check(self.tell() + count)
        return self._stream.read(count)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move to an offset from the start."""
        if whence:
            raise ValueError("only positions from the start are known")
        self._check(offset)
        return self._stream.seek(offset)

    def tell(self) -> int:
        """The present offset from the start."""
        return self._stream.tell()

    def _check(self, position: int) -> None:
        if not 0 <= position <= self._most + self._once:
            raise ValueError(f"it unpacks to more than {self._most:,} bytes")

    def readable(self) -> bool:
        """It can be read."""
        return True

    def seekable(self) -> bool:
        """It can be positioned."""
        return True
