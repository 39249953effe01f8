"""Functions and objects as text: a name given by the user, a name for people, a digest of what they are."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from leadline.identity.digest import identify
from leadline.identity.plain import Named, Unidentified

UNKNOWN = "?"


def named(name: str, function: Callable[..., Any]) -> Named:
    """A function whose name says what it is, for checkpoints and stores.

    Two functions of one name count as the same one, whatever they do: give another name when the function
    changes. Everything that takes a function takes a named one: an activation, a schedule, a builder.

    Args:
        name: not empty.
        function: any callable.

    Raises:
        ValueError, TypeError: naming the argument, its value and the remedy.

    >>> wave = named("wave-1", lambda h: 2 * h)
    >>> wave(3), wave.name
    (6, 'wave-1')
    """
    if not isinstance(name, str):
        raise TypeError(f"name={name!r} is not a text: give one, such as 'my-activation'")
    if not name.strip():
        raise ValueError(f"name={name!r} is empty: give one, such as 'my-activation'")
    if not callable(function):
        raise TypeError(
            f"function={function!r} cannot be called: give the function that {name!r} names"
        )
    return Named(name, function)


def readable(x: Any) -> str:
    """A short name for people.

    >>> readable(len), readable(lambda h: h), readable(functools.partial(round, ndigits=2))
    ('len', 'lambda', 'partial(round)')
    """
    if isinstance(x, Named):
        return f"named:{x.name}"
    if isinstance(x, functools.partial):
        return f"partial({readable(x.func)})"
    for wrapper in ("_torchdynamo_orig_callable", "_orig_mod"):
        inner = getattr(x, wrapper, None)
        if inner is not None:
            return readable(inner)
    name = getattr(x, "__name__", None)
    return name.strip("<>") if isinstance(name, str) else type(x).__name__


def told(x: Any) -> str:
    """What something is, the same text in every process; what was named goes by its name alone.

    Raises:
        Unidentified: that cannot be told.

    >>> told(Named("wave-1", len)), told(len) == told(len), told(len) == told(print)
    ('named:wave-1', True, False)
    """
    if isinstance(x, Named):
        return readable(x)
    return f"{readable(x)}#{identify(x)[:16]}"


def told_or_not(x: Any) -> str:
    """``told``, or a question mark where that cannot be told: for people, never to compare."""
    try:
        return told(x)
    except Unidentified:
        return f"{readable(x)}#{UNKNOWN}"


def check_told(argument: str, x: Any, what: str) -> str:
    """``told``, or an error that names the argument and the remedy.

    Args:
        what: what would be kept of a computation: "checkpoint" or "store".

    Raises:
        TypeError: it cannot be identified.
    """
    try:
        return told(x)
    except Unidentified as e:
        raise TypeError(
            f"{argument}={readable(x)} cannot be told from others: {e}; a {what} could answer for another "
            f"function: give it a name, leadline.named('my-name', ...), or give no {what}"
        ) from None
