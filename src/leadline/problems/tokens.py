"""Token ids: files of them, which stay on disk, and what tokenizers return."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from leadline.errors import check_choice, shown

ENDINGS = (".npy", ".bin")
DTYPES = ("uint8", "uint16", "uint32", "int32", "int64")
# Beyond this many bytes a digest is that of evenly spaced pieces.
_WHOLE, _PIECES = 1 << 28, 256


def files(path: Path) -> tuple[Path, ...]:
    """One file of token ids, or a folder's two (training, test); none where the path is a text."""
    if path.is_file():
        return (path,) if path.suffix.lower() in ENDINGS else ()
    for ending in ENDINGS:
        for test in ("val", "validation", "test"):
            pair = path / f"train{ending}", path / f"{test}{ending}"
            if all(p.is_file() for p in pair):
                return pair
    return ()


def read(paths: Sequence[Path], fraction: float, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Training and test ids, memory-mapped."""
    arrays = [_mapped(p, dtype) for p in paths]
    if len(arrays) > 1:
        return arrays[0], arrays[1]
    count = min(max(round(fraction * len(arrays[0])), 1), max(len(arrays[0]) - 1, 1))
    return arrays[0][:count], arrays[0][count:]


def _mapped(path: Path, dtype: str) -> np.ndarray:
    check_choice("dtype", dtype, DTYPES)
    if path.suffix.lower() == ".npy":
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError, OSError) as e:
            raise ValueError(
                f"path={str(path)!r} is no .npy file: {e}; write it with numpy.save"
            ) from e
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise ValueError(
                f"path={str(path)!r} holds {array.dtype} of shape {array.shape}: give token ids, one row "
                "of whole numbers"
            )
    else:
        size, item = os.path.getsize(path), np.dtype(dtype).itemsize
        if size % item or not size:
            raise ValueError(
                f"path={str(path)!r} has {size} bytes, which are no whole number of {dtype}: give the "
                f"dtype it was written with, one of {', '.join(DTYPES)}"
            )
        array = np.memmap(path, dtype=dtype, mode="r")
    return array


def largest(array: np.ndarray) -> int:
    """The largest id.

    Raises:
        ValueError: one is negative.
    """
    top, step = -1, 1 << 22
    for i in range(0, len(array), step):
        part = array[i : i + step]
        if part.dtype.kind == "i" and int(part.min()) < 0:
            raise ValueError(
                f"a token id is {int(part.min())}: ids are 0, 1, …; for .bin files give the dtype they "
                "were written with"
            )
        top = max(top, int(part.max()))
    return top


def digest(parts: Sequence[np.ndarray]) -> str:
    """SHA-256 of the ids; those of very long files by their number and evenly spaced pieces."""
    out = hashlib.sha256()
    for array in parts:
        out.update(f"{len(array)}|{array.dtype.str}|".encode())
        if array.nbytes <= _WHOLE:
            out.update(np.ascontiguousarray(array).tobytes())
            continue
        length = _WHOLE // _PIECES // array.itemsize
        for start in np.linspace(0, len(array) - length, _PIECES).astype(int):
            out.update(np.ascontiguousarray(array[start : start + length]).tobytes())
    return out.hexdigest()


def tokenized(text: str, tokenizer: Any) -> tuple[np.ndarray, int | None]:
    """Ids of a text, and the tokenizer's number of ids where it says it.

    Raises:
        TypeError: it cannot be called, or returns no ids.
        ValueError: it fails.
    """
    function: Callable[[str], Any] | None = getattr(tokenizer, "encode_ordinary", None)
    if function is None:
        function = tokenizer if callable(tokenizer) else getattr(tokenizer, "encode", None)
    if function is None:
        raise TypeError(
            f"tokenizer={shown(tokenizer)} cannot be called: give a function text -> token ids"
        )
    try:
        result = function(text)
    except Exception as e:
        raise ValueError(f"tokenizer={shown(tokenizer)} failed with {type(e).__name__}: {e}") from e
    if isinstance(result, Mapping):
        result = result.get("input_ids", ())
    ids = np.asarray(getattr(result, "ids", result))
    if ids.ndim != 1 or ids.dtype.kind not in "iu" or not len(ids):
        raise TypeError(
            f"tokenizer={shown(tokenizer)} returned {shown(result)}: return token ids, a list of integers"
        )
    top = largest(ids)
    return ids.astype(np.min_scalar_type(top)), _vocabulary(tokenizer)


def _vocabulary(tokenizer: Any) -> int | None:
    for name in ("n_vocab", "get_vocab_size", "__len__", "vocab_size"):
        value = getattr(tokenizer, name, None)
        value = value() if callable(value) else value
        if isinstance(value, int):
            return value
    return None
