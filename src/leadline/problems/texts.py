"""Next-byte prediction on text that is there already: Python's own standard library, or a file."""

from __future__ import annotations

import hashlib
import os
import platform
import sysconfig
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from leadline.errors import check_int, check_path, check_real

VOCABULARY = 256
# Third parties' code, and folders that installations may leave out.
_LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3", "__pycache__"}
_BLOCK = 1 << 14


@dataclass(frozen=True, eq=False)
class Text:
    """A byte-level language-model task; every batch is a function of seed and step alone.

    Attributes:
        train, test: (N,) uint8, read-only. Blocks of 16 KiB go to one or the other, never both.
        context: bytes a sequence.
        sha256: of all bytes, in order.
    """

    train: np.ndarray
    test: np.ndarray
    context: int
    name: str
    sha256: str
    vocabulary: int = field(default=VOCABULARY, init=False)

    def batch(self, step: int, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Random sequences: inputs and targets (size, context) int64, targets one byte further."""
        rng = np.random.default_rng(np.random.SeedSequence([seed, step, 2]))
        starts = rng.integers(0, len(self.train) - self.context, size)
        return self._cut(self.train, starts)

    def test_batch(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        """The same evenly spaced test sequences at every call."""
        starts = np.linspace(0, len(self.test) - self.context - 1, size).astype(int)
        return self._cut(self.test, starts)

    def _cut(self, data: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows = starts[:, None] + np.arange(self.context + 1)
        pieces = data[rows].astype(np.int64)
        return pieces[:, :-1], pieces[:, 1:]

    def fingerprint(self) -> str:
        """SHA-256, in hex, of the bytes, their split and the context."""
        text = f"{self.sha256}|{len(self.train)}|{len(self.test)}|{self.context}"
        return hashlib.sha256(text.encode()).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Text) and self.fingerprint() == other.fingerprint()

    def __hash__(self) -> int:
        return hash(self.fingerprint())

    def __repr__(self) -> str:
        return (
            f"Text({self.name!r}, train={len(self.train)}, test={len(self.test)}, "
            f"context={self.context})"
        )


def text(
    path: str | os.PathLike[str] | None = None,
    context: int = 64,
    train_fraction: float = 0.9,
    limit_bytes: int = 4_000_000,
) -> Text:
    """A text to model byte by byte.

    Args:
        path: a file, or a folder whose ``*.py`` and ``*.txt`` files are joined; None is the source of
            this Python's standard library (its version is in the name, its hash in ``sha256``).
        context: bytes a sequence, >= 1.
        train_fraction: share of the 16 KiB blocks that training draws from, in (0, 1).
        limit_bytes: bytes kept, whole files in order of their paths' hashes, so that every part of
            the library is represented.

    Raises:
        ValueError: a text too short for the context, or a bad value.
        OSError: nothing at the path.

    >>> text(context=8, limit_bytes=100_000).batch(0, 2, seed=0)[0].shape
    (2, 8)
    """
    context = check_int("context", context, 1)
    train_fraction = check_real(
        "train_fraction", train_fraction, 0.0, 1.0, open_minimum=True, open_maximum=True
    )
    limit_bytes = check_int("limit_bytes", limit_bytes, 1)
    if path is None:
        root = Path(sysconfig.get_paths()["stdlib"])
        name, files = f"text(python {platform.python_version()})", _sources(root)
    else:
        root = Path(check_path("path", path))
        if not root.exists():
            raise FileNotFoundError(
                f"path={str(path)!r} does not exist: give a text file or a folder"
            )
        if not root.is_file() and not root.is_dir():
            raise OSError(f"path={str(path)!r} is neither a file nor a folder: give a text file")
        name = f"text({root.name})"
        files = [root] if root.is_file() else _sources(root, ("*.py", "*.txt"))
    data = _join(files, root, limit_bytes)
    blocks = [data[i : i + _BLOCK] for i in range(0, len(data), _BLOCK)]
    if len(blocks) < 2:
        half = len(data) // 2
        blocks = [data[:half], data[half:]]
    count = min(max(round(train_fraction * len(blocks)), 1), len(blocks) - 1)
    chosen = np.random.default_rng(0).permutation(len(blocks))
    parts = []
    for rows in (np.sort(chosen[:count]), np.sort(chosen[count:])):
        part = np.concatenate([blocks[i] for i in rows])
        if len(part) < context + 2:
            raise ValueError(
                f"path={str(path)!r} holds {len(data)} bytes, too few for context={context}: give a "
                "longer text or a shorter context"
            )
        part.flags.writeable = False
        parts.append(part)
    return Text(parts[0], parts[1], context, name, hashlib.sha256(data.tobytes()).hexdigest())


def _sources(root: Path, patterns: tuple[str, ...] = ("*.py",)) -> list[Path]:
    paths = {f for p in patterns for f in root.rglob(p)}
    kept = [f for f in paths if not _LEFT_OUT & set(f.relative_to(root).parts[:-1])]
    return sorted(
        kept, key=lambda f: hashlib.sha256(f.relative_to(root).as_posix().encode()).digest()
    )


def _join(files: list[Path], root: Path, limit: int) -> np.ndarray:
    out: list[bytes] = []
    size = 0
    for f in files:
        try:
            with open(f, "rb") as file:
                content = file.read(limit - size)
        except OSError:
            if f == root:
                raise
            continue
        out.append(content)
        size += len(content)
        if size >= limit:
            break
    return np.frombuffer(b"".join(out), dtype=np.uint8)
