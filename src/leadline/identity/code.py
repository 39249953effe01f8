"""What compiled Python uses: the names that it looks up, and whether it keeps a state of its own."""

from __future__ import annotations

import dis
from collections.abc import Iterator
from types import CodeType

_GLOBALS = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")
_ATTRIBUTES = ("LOAD_ATTR", "LOAD_METHOD")
# What reaches anything by a text made at run time.
DYNAMIC = frozenset({"eval", "exec", "compile", "globals", "__import__"})

Chain = tuple[str, ...]
"""A global name and the attributes looked up on it: ("torch", "nn", "functional", "gelu")."""


def nested(code: CodeType) -> Iterator[CodeType]:
    """The code and all code within it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from nested(constant)


def chains(code: CodeType) -> list[Chain]:
    """Global names with their attributes, each once, in order of appearance."""
    seen: dict[Chain, None] = {}
    for inner in nested(code):
        chain: list[str] = []
        for step in dis.get_instructions(inner):
            if step.opname in _GLOBALS:
                if chain:
                    seen[tuple(chain)] = None
                chain = [step.argval]
            elif chain and step.opname in _ATTRIBUTES:
                chain.append(step.argval)
            elif chain:
                seen[tuple(chain)] = None
                chain = []
        if chain:
            seen[tuple(chain)] = None
    return list(seen)


def imports(code: CodeType) -> list[tuple[str, int, Chain]]:
    """Imports inside the code: module, level, and the names taken from it (none: the module)."""
    seen: list[tuple[str, int, Chain]] = []
    for inner in nested(code):
        steps = list(dis.get_instructions(inner))
        for i, step in enumerate(steps):
            if step.opname != "IMPORT_NAME":
                continue
            level, names = steps[i - 2].argval, steps[i - 1].argval
            seen.append((step.argval, int(level or 0), tuple(names or ())))
    return seen


def state_kept(code: CodeType) -> str | None:
    """The variable outside of a function that it sets, so that its next call may differ; or None."""
    outside = set(code.co_freevars)
    for inner in nested(code):
        for step in dis.get_instructions(inner):
            if step.opname in ("STORE_GLOBAL", "DELETE_GLOBAL"):
                return step.argval
            set_here = step.opname in ("STORE_DEREF", "DELETE_DEREF") and step.argval in outside
            if set_here and step.argval in inner.co_freevars:
                return step.argval
    return None
