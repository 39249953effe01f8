"""Nameless files mapped into memory, whose space is taken before anything is written to them."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import tempfile
from collections.abc import Generator

import torch

from leadline.disk.write import refused

_ZEROS = bytes(1 << 20)
_DONTNEED = 4


def empty(folder: str, size: int, dtype: torch.dtype, name: str) -> torch.Tensor:
    """A tensor (size,) in a file of its own that goes with the process, however that ends.

    A map of a file with holes kills the process (SIGBUS) when the disk is full; here all of the file is
    there before it is mapped.

    Raises:
        WriteError: the disk has no room, naming the argument ``name``.
    """
    count = size * dtype.itemsize
    try:
        with _nameless(folder) as (fd, path):
            _take(fd, count)
            return torch.from_file(path, shared=True, size=size, dtype=dtype)
    except OSError as error:
        said = refused(name, folder, error)
        raise type(said)(f"{said} ({count:,} bytes more are needed)", said.errno or 0) from None


def leave(rows: torch.Tensor) -> None:
    """Take the pages of a tensor of ``empty`` out of this process's memory; they stay in the file."""
    # This would forget the contents of memory that is no file's: only tensors of ``empty`` may come here.
    start = rows.untyped_storage().data_ptr()
    with contextlib.suppress(AttributeError, OSError):
        libc = ctypes.CDLL(None)
        libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        libc.madvise(start, rows.untyped_storage().nbytes(), _DONTNEED)


@contextlib.contextmanager
def _nameless(folder: str) -> Generator[tuple[int, str]]:
    """A file without a name where the system has such, else one that loses its name at the end."""
    path = ""
    try:
        fd = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except (OSError, AttributeError):
        fd, path = tempfile.mkstemp(prefix="leadline-", dir=folder)
    here = f"/proc/self/fd/{fd}"
    if path and os.path.exists(here):
        os.unlink(path)
        path = ""
    try:
        yield fd, path or here
    finally:
        if path:
            os.unlink(path)
        os.close(fd)


def _take(fd: int, count: int) -> None:
    """Reserve the file's blocks; by writing zeros where the disk cannot do so."""
    try:
        os.posix_fallocate(fd, 0, count)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise
        at = 0
        while at < count:
            at += os.pwrite(fd, memoryview(_ZEROS)[: count - at], at)
        os.fsync(fd)
