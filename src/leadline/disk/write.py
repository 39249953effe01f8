"""Writing: a file appears whole or not at all, is tried before the work, and is named where it fails.

A file in the making is ``NAME.TOKEN.leadline-part`` beside its target, locked by who writes it: one
that nobody holds is what a killed process left, and goes at the next start.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import warnings
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, BinaryIO

from leadline.errors import UnwrittenWarning, WriteError, shown

SUFFIX = ".leadline-part"
REASONS = {
    errno.ENOSPC: "the disk is full: free space",
    errno.EDQUOT: "the quota is used up: free space",
    errno.EFBIG: "the limit on the size of files is reached (ulimit -f): raise it",
}
_REASONS = REASONS | {
    errno.EROFS: "the disk is read-only: give a path on another",
    errno.EACCES: "writing is not permitted: give a path where it is",
    errno.EPERM: "writing is not permitted: give a path where it is",
    errno.ENAMETOOLONG: "the name is too long: give a shorter one",
    errno.EISDIR: "it is a folder: give a file",
}
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)
_PROBE = 4096
_LONGEST = 400  # of a path in a message


def as_path(name: str, path: Any) -> Path:
    """The path that an argument names.

    Raises:
        TypeError: it is none.
    """
    try:
        return Path(path)
    except TypeError:
        raise TypeError(f"{name}={shown(path)} is no path: give text or a Path") from None


def refused(name: str, path: str | os.PathLike[str], error: OSError) -> WriteError:
    """The error that names the argument, its value, the reason and the remedy."""
    code = error.errno or 0
    why = _REASONS.get(code, f"{error.strerror or error}: give another path")
    if code in REASONS:
        why += ", or give a path elsewhere"
    return WriteError(f"{name}={shown(os.fspath(path), _LONGEST)} cannot be written: {why}", code)


def write_atomic(
    path: str | os.PathLike[str], data: bytes | Callable[[BinaryIO], Any], name: str = "path"
) -> Path:
    """Write, fsync and rename, so that a reader never sees half a file.

    A link is followed; to a device or pipe the bytes go directly.

    Args:
        data: the bytes, or a function that writes them to the binary file it is given.
        name: the argument that errors name.

    Raises:
        WriteError: naming path, reason and remedy; what was at the path before is still there.
    """
    target = as_path(name, path)
    try:
        target = _followed(target)
        if _special(target):
            with open(target, "wb", buffering=0) as file:
                _fill(file, data)
            return Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with _part(target) as (fd, part):
            with open(fd, "wb", closefd=False) as file:
                _fill(file, data)
                file.flush()
            os.fsync(fd)
            os.replace(part, target)
    except OSError as error:
        raise refused(name, path, error) from None
    return Path(path)


def write_new(path: Path, data: bytes) -> bool:
    """Write a file whole unless there is one: then that stays as it is, and this returns False."""
    with _part(path) as (fd, part):
        with open(fd, "wb", closefd=False) as file:
            _fill(file, data)
            file.flush()
        os.fsync(fd)
        try:
            os.link(part, path)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            if path.exists():
                return False
            os.replace(part, path)
    return True


def attempt(write: Callable[[], Any]) -> bool:
    """Write what must not end the work: a failure is an ``UnwrittenWarning``, and False."""
    try:
        write()
    except WriteError as error:
        warnings.warn(str(error), UnwrittenWarning, stacklevel=3)
        return False
    return True


def check_file(name: str, path: str | os.PathLike[str]) -> Path:
    """A file that can be written: tried now by one beside it, which is removed again.

    Raises:
        WriteError, IsADirectoryError, NotADirectoryError: it cannot, and why.
    """
    target = as_path(name, path)
    said = f"{name}={shown(os.fspath(path), _LONGEST)}"
    try:
        os.lstat(target)  # a name that is too long
    except (FileNotFoundError, NotADirectoryError):
        pass
    except ValueError as error:
        raise ValueError(f"{said} is no path ({error}): give another") from None
    except OSError as error:
        raise refused(name, path, error) from None
    if target.is_dir():
        raise IsADirectoryError(f"{said} is a folder: give a file")
    try:
        target = _followed(target)
        if not _special(target):
            _try(target)
    except (NotADirectoryError, FileExistsError):
        raise NotADirectoryError(f"{said} is below a file: give another") from None
    except OSError as error:
        raise refused(name, path, error) from None
    return Path(path)


def check_folder(name: str, path: str | os.PathLike[str], *, make: bool = True) -> Path:
    """A folder that can be written to, made if it is missing (and gone again without ``make``).

    Raises:
        WriteError, NotADirectoryError: it is none and cannot be made, or refuses a file.
    """
    folder = as_path(name, path)
    said = f"{name}={shown(os.fspath(path), _LONGEST)}"
    try:
        if folder.exists() and not folder.is_dir():
            raise NotADirectoryError(f"{said} is a file: give a folder")
        _try(folder / "file")
        if make:
            folder.mkdir(parents=True, exist_ok=True)
    except (NotADirectoryError, FileExistsError) as error:
        if str(error).startswith(name):
            raise
        text = f"{said} is below a file: give another"
        raise NotADirectoryError(text) from None
    except ValueError as error:
        raise ValueError(f"{said} is no path ({error}): give another") from None
    except OSError as error:
        raise refused(name, path, error) from None
    return folder


def clear(folder: Path) -> None:
    """Remove what killed processes left half-written: nobody holds its lock."""
    with contextlib.suppress(OSError):
        for part in folder.glob(f"*{SUFFIX}"):
            with contextlib.suppress(OSError):
                fd = os.open(part, os.O_RDWR | os.O_CLOEXEC)
                try:
                    if _lock(fd, fcntl.LOCK_NB):
                        part.unlink()
                finally:
                    os.close(fd)


def _fill(file: BinaryIO, data: bytes | Callable[[BinaryIO], Any]) -> None:
    if callable(data):
        data(file)
        return
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def _followed(target: Path) -> Path:
    return Path(os.path.realpath(target)) if target.is_symlink() else target


def _special(target: Path) -> bool:
    """A device, pipe or the like: nothing that a renamed file may replace."""
    return target.exists() and not target.is_file()


def _try(target: Path) -> None:
    """Write a block beside the target, in folders that are removed again if they are new."""
    made, folder = [], target.parent
    while not folder.exists() and folder != folder.parent:
        made.append(folder)
        folder = folder.parent
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        clear(target.parent)
        with _part(target) as (fd, _):
            os.write(fd, bytes(_PROBE))
    finally:
        for folder in made:
            with contextlib.suppress(OSError):
                folder.rmdir()


@contextlib.contextmanager
def _part(target: Path) -> Generator[tuple[int, Path]]:
    """A new locked file beside the target; gone when this ends, unless it was renamed."""
    name = target.name if len(os.fsencode(target.name)) <= 200 else target.name[:40]
    while True:
        part = target.with_name(f"{name}.{os.urandom(4).hex()}{SUFFIX}")
        fd = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            _lock(fd)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(fd), os.stat(part)):
                    break
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)  # taken for a dead one's before it was locked
    try:
        yield fd, part
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        os.close(fd)


def _lock(fd: int, how: int = 0) -> bool:
    """Take a file's lock; False where another holds it, or the disk has no locks."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | how)
    except OSError:
        return False
    return True
