"""Errors of the user's code: where in their files they arose, and one line that says so."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path

from leadline.errors import cut

_LIBRARIES = tuple(
    {str(Path(sysconfig.get_paths()[k]).resolve()) for k in ("stdlib", "platstdlib", "purelib")}
)
_HERE = str(Path(__file__).resolve().parent)


def place(error: BaseException) -> str:
    """File and line of the innermost frame that is neither a library's nor leadline's; "" if none is.

    >>> place(ValueError("raised nowhere"))
    ''
    """
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not _library(f.filename)]
    if not frames:
        return ""
    last = frames[-1]
    return f"{Path(last.filename).name}, line {last.lineno}, in {last.name}"


def _library(file: str) -> bool:
    if file.startswith("<"):
        return True
    path = Path(file).resolve()
    parts = {"site-packages", "dist-packages"} & set(path.parts)
    return bool(parts) or any(path.is_relative_to(f) for f in (*_LIBRARIES, _HERE))


def failed(what: str, error: BaseException, remedy: str) -> ValueError:
    """An error of the user's code as one line: what failed, with which error, where, and the remedy."""
    where = place(error)
    said = cut(" ".join(str(error).split()), 300)
    at = f" ({where})" if where else ""
    return ValueError(f"{what} failed with {type(error).__name__}: {said}{at}; {remedy}")
