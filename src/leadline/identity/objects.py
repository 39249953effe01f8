"""The state of an object of any class."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from leadline.identity.plain import Unidentified

_HEAP, _MANAGED_DICT, _MANAGED_WEAKREF = 1 << 9, 1 << 4, 1 << 3
_WORD = object.__basicsize__ // 2
_CONTENTS: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (dict, lambda x: dict(dict.items(x))),
    (list, lambda x: list(list.__iter__(x))),
    (tuple, lambda x: tuple(tuple.__iter__(x))),
    (set, lambda x: set(set.__iter__(x))),
    (frozenset, lambda x: frozenset(frozenset.__iter__(x))),
    (str, lambda x: str.__str__(x)),
    (bytes, lambda x: bytes.__getitem__(x, slice(None))),
    (int, lambda x: int.__int__(x)),
    (float, lambda x: float.__float__(x)),
    (complex, lambda x: complex.__complex__(x)),
)


def state(x: Any, said: Callable[[str, Any], str]) -> list[Any]:
    """Attributes, slots and content of a builtin base; of compiled classes what pickles.

    Raises:
        Unidentified: a compiled class that shows nothing.
    """
    cls = type(x)
    attributes = {k: v for k, v in getattr(x, "__dict__", {}).items() if not _cached(cls, k)}
    slots = {n: getattr(x, n) for n in _slots(cls) if hasattr(x, n)}
    for base, content in _CONTENTS:
        if isinstance(x, base):
            return [attributes, slots, content(x)]
    if _plain(cls):
        return [attributes, slots]
    try:
        made = x.__reduce_ex__(4)
    except Exception as e:
        raise Unidentified(said(f"an object without plain state ({e})", x)) from None
    if isinstance(made, str):
        return [made]
    function, arguments, *rest = made
    inner = rest[0] if rest else None
    items = [list(r) for r in rest[1:3] if r is not None]
    return [function, arguments, inner, items, attributes]


def _cached(cls: type, name: str) -> bool:
    return isinstance(getattr(cls, name, None), functools.cached_property)


def _slots(cls: type) -> list[str]:
    """Names of slots, private ones as they are stored."""
    slots: list[str] = []
    for c in cls.__mro__:
        declared = vars(c).get("__slots__", ())
        for name in (declared,) if isinstance(declared, str) else tuple(declared):
            private = name.startswith("__") and not name.endswith("__")
            stored = f"_{c.__name__.lstrip('_')}{name}" if private else name
            if name not in ("__dict__", "__weakref__"):
                slots.append(stored)
    return slots


def _plain(cls: type) -> bool:
    """Does all of its state lie in ``__dict__`` and slots? Else compiled code has put something beside."""
    flags, size = cls.__flags__, object.__basicsize__ + _WORD * len(_slots(cls))
    if cls.__dictoffset__ and not flags & _MANAGED_DICT:
        size += _WORD
    if cls.__weakrefoffset__ and not flags & _MANAGED_WEAKREF:
        size += _WORD
    return bool(flags & _HEAP) and cls.__itemsize__ == 0 and cls.__basicsize__ <= size
