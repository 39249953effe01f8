"""Checks of arguments: each error names the argument, its value and the remedy."""

from __future__ import annotations

import difflib
import itertools
import math
import operator
import os
from collections.abc import Iterable
from typing import Any

# What NumPy and torch can count with.
LARGEST = 2**63 - 1
# Largest learning rate and weight decay: beyond it every training diverges in its first step.
LARGEST_RATE = 1e30
# Between a refusal and what its remedy leads to.
AFTER_REMEDY = "With that it comes to this:"


class MemoryBudgetError(MemoryError):
    """The memory budget ended during the work; the message says what would suffice.

    Attributes:
        checkpoint: the file that the work resumes from, or None.
    """

    def __init__(self, message: str, checkpoint: str | None = None) -> None:
        super().__init__(message)
        self.checkpoint = checkpoint


class TimeBudgetError(ValueError):
    """The arguments ask for more than the time allowed; the message says for how much."""


class LostProcessError(ConnectionError):
    """Another process of a sharded computation ended or does not answer."""

    REMEDY = (
        "start the job again, with any number of processes: it resumes from its checkpoint, if any"
    )


class CheckpointError(ValueError):
    """A checkpoint is damaged or belongs to another computation."""


class WriteError(OSError):
    """A file cannot be written: the message names the argument, the reason and the remedy.

    Attributes:
        errno: the system's number of the reason.
    """

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.errno = code


class UnwrittenWarning(UserWarning):
    """Something could not be written; the work goes on, and its result is returned."""


def shown(value: Any, most: int = 80) -> str:
    """``repr`` for a message: on one line, cut where it is long."""
    try:
        text = repr(value[: 2 * most]) if isinstance(value, str | bytes) else repr(value)
    except Exception:
        text = f"<{type(value).__name__}>"
    return cut(" ".join(text.split()), most)


def cut(text: str, most: int = 80) -> str:
    """The text, or its beginning where it is longer."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def scalar(value: Any) -> Any:
    """What a NumPy scalar, or an array or tensor without axes, holds; anything else as it is."""
    if getattr(value, "ndim", None) == 0 and callable(getattr(value, "item", None)):
        try:
            return value.item()
        except Exception:
            return value
    return value


def check_int(name: str, value: Any, minimum: int, maximum: int = LARGEST) -> int:
    """Return ``value`` as an int in [minimum, maximum], or raise naming the argument."""
    plain = scalar(value)
    wanted = f"give an integer >= {minimum}"
    if maximum < LARGEST:
        wanted += f" and <= {maximum}"
    try:
        if isinstance(plain, bool) or getattr(plain, "ndim", 0):
            raise TypeError
        result = operator.index(plain)
    except Exception:
        raise TypeError(f"{name}={shown(value)} is not an integer: {wanted}") from None
    if result < minimum:
        raise ValueError(f"{name}={_digits(result)} is too small: {wanted}")
    if result > maximum:
        wanted += " and < 2**63" if maximum == LARGEST else ""
        raise ValueError(f"{name}={_digits(result)} is too large: {wanted}")
    return result


def _digits(value: int) -> str:
    """Python refuses to print integers of thousands of digits."""
    bits = value.bit_length()
    return str(value) if bits < 200 else f"{'-' if value < 0 else ''}<an integer of {bits} bits>"


def check_real(
    name: str,
    value: Any,
    minimum: float = -math.inf,
    maximum: float = math.inf,
    *,
    open_minimum: bool = False,
    open_maximum: bool = False,
) -> float:
    """Return ``value`` as a finite float between the ends, or raise naming the argument."""
    plain = scalar(value)
    try:
        if isinstance(plain, bool | str | bytes | bytearray) or getattr(plain, "ndim", 0):
            raise TypeError
        result = float(plain) + 0.0  # -0.0 is 0
    except OverflowError:
        result = math.inf
    except Exception:
        raise TypeError(f"{name}={shown(value)} is not a number: give a finite number") from None
    ends = []
    if minimum > -math.inf:
        ends.append(f"{'>' if open_minimum else '>='} {minimum:g}")
    if maximum < math.inf:
        ends.append(f"{'<' if open_maximum else '<='} {maximum:g}")
    low = result <= minimum if open_minimum else result < minimum
    high = result >= maximum if open_maximum else result > maximum
    if not math.isfinite(result) or low or high:
        text = _digits(plain) if isinstance(plain, int) else shown(plain)
        wanted = " ".join(["a finite number", " and ".join(ends)]).strip()
        raise ValueError(f"{name}={text} is out of range: give {wanted}")
    return result


def check_bool(name: str, value: Any) -> bool:
    """Return ``value`` as a bool, or raise naming the argument."""
    plain = scalar(value)
    if not isinstance(plain, bool):
        raise TypeError(f"{name}={shown(value)} is not a bool: give True or False")
    return plain


def check_choice(name: str, value: Any, choices: Iterable[str]) -> str:
    """Return ``value`` if it is one of ``choices``, or raise naming the nearest valid one."""
    options = list(choices)
    plain = scalar(value)
    if isinstance(plain, str) and plain in options:
        return str(plain)
    near: list[str] = []
    if isinstance(plain, str):
        near = difflib.get_close_matches(plain[:100], options, n=1, cutoff=0.0)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ValueError(f"{name}={shown(value)} is unknown: {hint}choose from {', '.join(options)}")


def check_progress(value: Any) -> Any:
    """Return a function that is told of progress, or None for None and False."""
    if value is None or value is False:
        return None
    if not callable(value):
        raise TypeError(
            f"progress={shown(value)} is not a function: give one of keyword arguments, such as "
            "lambda **told: print(told), or None for no progress"
        )
    return value


def check_type(name: str, value: Any, kind: type, remedy: str = "") -> None:
    """Refuse what is no instance of ``kind``."""
    if not isinstance(value, kind):
        remedy = remedy or f"give leadline.{kind.__name__}(...)"
        raise TypeError(f"{name}={shown(value)} is not a {kind.__name__}: {remedy}")


def check_path(name: str, value: Any) -> str:
    """Return a path as text, or raise naming the argument where no disk can have it."""
    try:
        path = os.fsdecode(value)
    except (TypeError, UnicodeError):
        raise TypeError(f"{name}={shown(value)} is no path: give text or a Path") from None
    raw = path.encode("utf-8", "surrogatepass")
    if not raw or b"\0" in raw or len(raw) > 4000 or max(map(len, raw.split(b"/"))) > 255:
        why = "too long" if len(raw) > 255 else "empty, or has a character that no path has"
        raise ValueError(f"{name}={shown(path)} is no path ({why}): give another")
    return path


def check_list(name: str, value: Any, most: int, *, what: str = "values") -> list[Any]:
    """The items of a sequence, array or tensor, at least one and at most ``most``."""
    if (
        isinstance(value, str | bytes)
        or not hasattr(value, "__iter__")
        or getattr(value, "ndim", 1) == 0
    ):
        raise TypeError(f"{name}={shown(value)} is not a sequence: give one or more {what}")
    items = list(itertools.islice(iter(value), most + 1))
    if not items:
        raise ValueError(f"{name}={shown(value)} is empty: give one or more {what}")
    if len(items) > most:
        raise ValueError(f"{name} has more than {most} {what}: give at most so many")
    return items
