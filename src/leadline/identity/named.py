"""A name that stands for what a function is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Named:
    """A function under a name; it is called, compared and sent to other processes as the function."""

    name: str
    function: Callable[..., Any]

    @property
    def __name__(self) -> str:
        return self.name

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        """Call the function."""
        return self.function(*arguments, **keywords)


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
