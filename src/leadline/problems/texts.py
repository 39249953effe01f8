"""Prediction of the next token on text that is there already: Python's standard library, or the user's."""

from __future__ import annotations

import hashlib
import os
import platform
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from leadline.errors import check_int, check_path, check_real
from leadline.problems import tokens

VOCABULARY = 256
# Third parties' code, and folders that installations may leave out.
_LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3", "__pycache__"}
_BLOCK = 1 << 14


@dataclass(frozen=True, eq=False)
class Text:
    """A language-model task; every batch is a function of seed and step alone.

    Attributes:
        train, test: (N,) token ids, read-only whole numbers. Blocks of 16 Ki go to one or the other.
        context: tokens a sequence.
        sha256: of all bytes or ids, in order.
        vocabulary: number of token ids; 256 for bytes.
    """

    train: np.ndarray
    test: np.ndarray
    context: int
    name: str
    sha256: str
    vocabulary: int = VOCABULARY

    def batch(self, step: int, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Random sequences: inputs and targets (size, context) int64, targets one token further."""
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
            f"context={self.context}, vocabulary={self.vocabulary})"
        )


def text(
    path: str | os.PathLike[str] | None = None,
    context: int = 64,
    train_fraction: float = 0.9,
    limit_bytes: int = 4_000_000,
    *,
    tokenizer: Any = None,
    vocabulary: int | None = None,
    dtype: str = "uint16",
) -> Text:
    """A text whose next token is predicted: its bytes, a tokenizer's tokens, or a file of token ids.

    Args:
        path: a file, or a folder whose ``*.py`` and ``*.txt`` files are joined; None is the source of
            this Python's standard library (its version is in the name, its hash in ``sha256``). A
            ``.npy`` or ``.bin`` file holds token ids and stays on disk (memory-mapped): its first
            part is trained on, the rest is for tests. A folder with ``train.bin`` and ``val.bin`` (or
            ``.npy``) has both.
        context: tokens a sequence, >= 1.
        train_fraction: share of the blocks of 16 Ki tokens that training draws from, in (0, 1).
        limit_bytes: bytes kept of a text, whole files in order of their paths' hashes, so that every
            part of the library is represented.
        tokenizer: text -> token ids: a function, or a tokenizer of transformers, tokenizers or
            tiktoken. None takes the bytes.
        vocabulary: number of token ids; by default the tokenizer's own number, or one more than the
            largest id.
        dtype: whole numbers of a ``.bin`` file.

    Raises:
        ValueError: a text too short for the context, an id outside the vocabulary, or a bad value.
        OSError: nothing at the path.

    >>> text(context=8, limit_bytes=100_000).batch(0, 2, seed=0)[0].shape
    (2, 8)
    """
    context = check_int("context", context, 1)
    train_fraction = check_real(
        "train_fraction", train_fraction, 0.0, 1.0, open_minimum=True, open_maximum=True
    )
    limit_bytes = check_int("limit_bytes", limit_bytes, 1)
    if vocabulary is not None:
        vocabulary = check_int("vocabulary", vocabulary, 1)
    if path is not None:
        path = Path(check_path("path", path))
        if not path.exists():
            raise FileNotFoundError(
                f"path={str(path)!r} does not exist: give a text file or a folder"
            )
        if not path.is_file() and not path.is_dir():
            raise OSError(f"path={str(path)!r} is neither a file nor a folder: give a text file")
        files = tokens.files(path)
        if files:
            if tokenizer is not None:
                raise ValueError(f"path={str(path)!r} holds token ids: leave the tokenizer out")
            parts = tokens.read(files, train_fraction, dtype)
            return _checked(path, parts, context, vocabulary, tokens.digest(parts))
    data = _join(_paths(path), path, limit_bytes)
    if tokenizer is None:
        largest, digest = VOCABULARY, hashlib.sha256(data.tobytes()).hexdigest()
    else:
        data, largest = tokens.tokenized(data.tobytes().decode("utf-8", "replace"), tokenizer)
        digest = hashlib.sha256(b"tokens" + data.tobytes()).hexdigest()
    parts = _split(data, train_fraction)
    return _checked(path, parts, context, vocabulary or largest, digest)


def _paths(path: Path | None) -> list[Path]:
    if path is None:
        return _sources(Path(sysconfig.get_paths()["stdlib"]))
    return [path] if path.is_file() else _sources(path, ("*.py", "*.txt"))


def _split(data: np.ndarray, fraction: float) -> tuple[np.ndarray, np.ndarray]:
    """Training and test blocks, each kept whole."""
    blocks = [data[i : i + _BLOCK] for i in range(0, len(data), _BLOCK)]
    if len(blocks) < 2:
        half = len(data) // 2
        blocks = [data[:half], data[half:]]
    count = min(max(round(fraction * len(blocks)), 1), len(blocks) - 1)
    chosen = np.random.default_rng(0).permutation(len(blocks))
    train, test = (
        np.concatenate([blocks[i] for i in np.sort(rows)])
        for rows in (chosen[:count], chosen[count:])
    )
    train.flags.writeable = test.flags.writeable = False
    return train, test


def _checked(
    path: Path | None,
    parts: tuple[np.ndarray, np.ndarray],
    context: int,
    vocabulary: int | None,
    digest: str,
) -> Text:
    name = f"text(python {platform.python_version()})" if path is None else f"text({path.name})"
    for part in parts:
        if len(part) < context + 2:
            raise ValueError(
                f"path={None if path is None else str(path)!r} holds {sum(map(len, parts))} tokens, too "
                f"few for context={context}: give a longer text or a shorter context"
            )
    largest = max(tokens.largest(part) for part in parts)
    if vocabulary is not None and largest >= vocabulary:
        raise ValueError(
            f"vocabulary={vocabulary} is too small: the text holds the token id {largest}; give "
            f"{largest + 1} or more, or none"
        )
    return Text(*parts, context, name, digest, vocabulary or largest + 1)


def _sources(root: Path, patterns: tuple[str, ...] = ("*.py",)) -> list[Path]:
    paths = {f for p in patterns for f in root.rglob(p)}
    kept = [f for f in paths if not _LEFT_OUT & set(f.relative_to(root).parts[:-1])]
    return sorted(
        kept, key=lambda f: hashlib.sha256(f.relative_to(root).as_posix().encode()).digest()
    )


def _join(files: list[Path], root: Path | None, limit: int) -> np.ndarray:
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
