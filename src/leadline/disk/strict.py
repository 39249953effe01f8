"""JSON that says each thing once and nothing that JSON has no words for; and its checksum."""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
from collections import Counter
from collections.abc import Mapping
from typing import Any

_KEY = "sha256"
# Reports hold their figures' points; the largest of a full study has some tens of millions of bytes.
_MOST = 1 << 30


def loads(text: str | bytes) -> Any:
    """The value; keys are unique and numbers finite (NaN and infinities are read where they are named).

    Raises:
        ValueError: it is no such text.
    """
    try:
        return json.loads(text, object_pairs_hook=_once, parse_float=_finite)
    except RecursionError:
        raise ValueError("nested too deep") from None


def seal(data: Mapping[str, Any]) -> dict[str, Any]:
    """The data with a checksum, which does not depend on spaces or the order of keys."""
    plain = json.loads(json.dumps(data))
    return plain | {_KEY: _digest(plain)}


def unseal(text: str | bytes) -> dict[str, Any]:
    """What was given to ``seal``.

    Raises:
        ValueError: it is not, or not as it was written.
    """
    data = loads(text)
    if not isinstance(data, dict) or _KEY not in data:
        raise ValueError("it has no checksum")
    if data.pop(_KEY) != _digest(data):
        raise ValueError("its content does not have its checksum")
    return data


def read(path: str | os.PathLike[str], most: int = _MOST) -> bytes:
    """A file's bytes.

    Raises:
        OSError: there is no such file. ValueError: it is larger than a file of this kind.
    """
    with open(path, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("it is no file")
        out = file.read(most + 1)
    if len(out) > most:
        raise ValueError(f"it has more than {most} bytes")
    return out


def _digest(data: Mapping[str, Any]) -> str:
    text = json.dumps(data, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) < len(pairs):
        ((twice, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"{twice!r} is there twice")
    return out


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text} is too large")
    return value
