"""What a store writes to disk: lines at the end of a file of its own, curves all or nothing."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import socket
from collections.abc import Generator
from pathlib import Path

LINES = re.compile(r"runs-[A-Za-z0-9_.-]+\.jsonl")
_REMEDY = {
    errno.ENOSPC: "the disk is full: free space and put it again",
    errno.EDQUOT: "the quota is used up: free space and put it again",
    errno.EFBIG: "the limit on the size of files is reached (ulimit -f): raise it and put it again",
    errno.EROFS: "the disk is read-only: what is there can be read, put needs a disk to write to",
    errno.EACCES: "writing is not permitted: what is there can be read, put needs the permission",
}


def refused(error: OSError, folder: Path, run: str, safe: int) -> str:
    """What to say of a put that the disk refused."""
    what = _REMEDY.get(error.errno or 0, f"{error.strerror}: see to the disk and put it again")
    return (
        f"put into {str(folder)!r}: {what}; run {run[:12]} is not in the store, "
        f"the {safe} records before it are safe"
    )


def sync_folder(folder: Path) -> None:
    """Make the names in a folder last."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_written(path: Path) -> None:
    """Make a file that another process wrote last; it may not have come to its fsync yet."""
    try:
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        sync_folder(path.parent)
    except OSError as e:
        if e.errno not in (errno.EROFS, errno.EINVAL):
            raise


def make_folder(folder: Path) -> None:
    """The folder and its parents, on disk when this returns."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def write_all(fd: int, data: bytes) -> None:
    """``os.write`` until nothing is left."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def write_durable(target: Path, data: bytes, part: Path) -> None:
    """The file appears whole, by way of ``part``, and is on disk when this returns."""
    try:
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        try:
            write_all(fd, data)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.replace(part, target)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise
    sync_folder(target.parent)


class Writer:
    """The one process that appends to a file of lines: it holds the file's lock.

    Takes the first of this host's files that nobody holds, so that there are never more files than
    there were writers at once.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.pid, self.fd = folder, os.getpid(), -1
        host = re.sub(r"[^A-Za-z0-9_.-]", "_", socket.gethostname())[:60] or "host"
        number = 0
        while self.fd < 0:
            self.name = f"runs-{host}-{number}.jsonl"
            self.fd = self._take(folder / self.name)
            number += 1
        sync_folder(folder)
        # What a killed writer left half-written: nobody else uses this name.
        with contextlib.suppress(OSError):
            for part in (folder / "curves").glob(f"*.{self.name}.part"):
                part.unlink(missing_ok=True)

    def _take(self, path: Path) -> int:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        if _lock(fd, fcntl.LOCK_EX):
            return fd
        os.close(fd)
        return -1

    def append(self, line: bytes) -> int:
        """Write a line so that it lasts; return its offset.

        What a full disk leaves of it is cut off again; where that fails too, the next line starts
        on a fresh one.
        """
        start = os.fstat(self.fd).st_size
        fresh = start == 0 or os.pread(self.fd, 1, start - 1) == b"\n"
        try:
            write_all(self.fd, line if fresh else b"\n" + line)
            os.fsync(self.fd)
        except BaseException:
            with contextlib.suppress(OSError):
                os.ftruncate(self.fd, start)
                os.fsync(self.fd)
            raise
        return start if fresh else start + 1

    def curves(self, name: str, data: bytes) -> None:
        """Write a file of curves, unless it is there already."""
        folder = self.folder / "curves"
        make_folder(folder)
        target = folder / name
        with contextlib.suppress(OSError):
            if target.read_bytes() == data:
                sync_written(target)
                return
        write_durable(target, data, folder / f"{name}.{self.name}.part")

    def close(self) -> None:
        """Give the file back."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __del__(self) -> None:
        if hasattr(self, "fd"):
            self.close()


@contextlib.contextmanager
def unless_written(path: Path) -> Generator[bool]:
    """Whether nobody is writing the file, and hold writers off for as long as this lasts."""
    fd = os.open(path, os.O_RDONLY)
    try:
        yield _lock(fd, fcntl.LOCK_SH)
    finally:
        os.close(fd)


def _lock(fd: int, kind: int) -> bool:
    """Take a file's lock unless it is held; True on disks that have no locks."""
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as e:
        if e.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL):
            raise
    return True
