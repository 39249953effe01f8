"""The name that ``parse`` reads back: kind:argument?parameter=value,parameter=value."""

from __future__ import annotations

import inspect
from types import FunctionType
from typing import Any


def _spell(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ";".join(str(v) for v in value)
    return repr(value) if isinstance(value, float) else str(value)


def spec(build: FunctionType, argument: str = "", **values: Any) -> str:
    """The name of ``build``'s problem: its argument, and the values that are not the default.

    A path that holds a "?" gets one more at its end, which ``parse`` splits at.
    """
    defaults = {k: p.default for k, p in inspect.signature(build).parameters.items()}
    given = [f"{k}={_spell(v)}" for k, v in values.items() if v != defaults[k]]
    name = f"{build.__name__}:{argument}" if argument else build.__name__
    return f"{name}?{','.join(given)}" if given or "?" in argument else name
