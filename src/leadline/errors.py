"""Checks of arguments: each error names the argument, its value and the remedy."""

from __future__ import annotations

import difflib
import math
import operator
from collections.abc import Iterable
from typing import Any


class MemoryBudgetError(MemoryError):
    """The memory budget ended during the work; the message says what would suffice.

    Attributes:
        checkpoint: the file that the work resumes from, or None.
    """

    def __init__(self, message: str, checkpoint: str | None = None) -> None:
        super().__init__(message)
        self.checkpoint = checkpoint


class LostProcessError(ConnectionError):
    """Another process of a sharded computation ended or does not answer."""

    REMEDY = (
        "start the job again, with any number of processes: it resumes from its checkpoint, if any"
    )


class CheckpointError(ValueError):
    """A checkpoint is damaged or belongs to another computation."""


def check_int(name: str, value: Any, minimum: int) -> int:
    """Return ``value`` as an int, or raise naming the argument."""
    if isinstance(value, bool):
        raise TypeError(f"{name}={value!r} is not an integer: give an integer >= {minimum}")
    try:
        result = operator.index(value)
    except TypeError:
        raise TypeError(
            f"{name}={value!r} is not an integer: give an integer >= {minimum}"
        ) from None
    if result < minimum:
        raise ValueError(f"{name}={value!r} is too small: give an integer >= {minimum}")
    return result


def check_real(
    name: str,
    value: Any,
    minimum: float = -math.inf,
    maximum: float = math.inf,
    *,
    open_minimum: bool = False,
) -> float:
    """Return ``value`` as a finite float in [minimum, maximum], or raise naming the argument."""
    if isinstance(value, bool | str):
        raise TypeError(f"{name}={value!r} is not a number: give a finite number")
    try:
        result = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name}={value!r} is not a number: give a finite number") from None
    bound = f"{'>' if open_minimum else '>='} {minimum:g}" if minimum > -math.inf else "finite"
    if maximum < math.inf:
        bound += f" and <= {maximum:g}"
    low = result <= minimum if open_minimum else result < minimum
    if not math.isfinite(result) or low or result > maximum:
        raise ValueError(f"{name}={value!r} is out of range: give a number {bound}")
    return result


def check_choice(name: str, value: Any, choices: Iterable[str]) -> str:
    """Return ``value`` if it is one of ``choices``, or raise naming the nearest valid one."""
    options = list(choices)
    if value in options:
        return value
    near = difflib.get_close_matches(str(value), options, n=1, cutoff=0.0)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ValueError(f"{name}={value!r} is unknown: {hint}choose from {', '.join(options)}")
