"""What a refusal offers instead is tried before the refusal is shown."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from leadline.errors import AFTER_REMEDY
from leadline.parametrization.schemes import Scheme

T = TypeVar("T")
_ROLES = re.compile(r"roles=(\{[^{}]*\})")
_SCHEME = re.compile(r"(?:give |or |; )scheme='([\w-]+)'")
_TRIES = 4
"""How many refusals in a row are answered with what they offer."""


def offered(message: str) -> dict[str, Any]:
    """The arguments of ``plan`` that a refusal names: roles by name pattern, and the scheme.

    >>> offered("give roles={'a.*': dict(role='hidden', branch=False)} or scheme='mup'")
    {'roles': {'a.*': {'role': 'hidden', 'branch': False}}, 'scheme': 'mup'}
    >>> offered("untie the two"), offered("roles={my own words}")
    ({}, {})
    """
    roles: dict[str, Any] = {}
    for text in _ROLES.findall(message):
        try:
            roles |= _roles(text)
        except (SyntaxError, ValueError):  # Words of the user's own model.
            continue
    # Of several, the one that all of them allow scales the least.
    schemes = sorted(_SCHEME.findall(message), key=lambda s: s != "mup")
    return ({"roles": roles} if roles else {}) | ({"scheme": schemes[0]} if schemes else {})


def _roles(text: str) -> dict[str, Any]:
    """The entries of a dict whose values are constants or ``dict(...)`` of them; dots are no value."""
    each = ast.parse(text, mode="eval").body
    entries = zip(each.keys, each.values, strict=True) if isinstance(each, ast.Dict) else ()
    values = {ast.literal_eval(name): _value(value) for name, value in entries if name is not None}
    return {name: value for name, value in values.items() if value is not ...}


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Call):
        return {str(k.arg): ast.literal_eval(k.value) for k in node.keywords}
    return ast.literal_eval(node)


def with_remedies(
    read: Callable[[str | Scheme, Mapping[str, Any] | None], T],
    scheme: str | Scheme,
    roles: Mapping[str, Any] | None,
) -> T:
    """What ``read(scheme, roles)`` returns.

    Raises:
        ValueError: its refusal; what the arguments named there lead to is said if that is another refusal.
    """
    try:
        return read(scheme, roles)
    except ValueError as e:
        first, refusals = e, [str(e)]
    how: dict[str, Any] = {"scheme": scheme, "roles": dict(roles or {})}
    while len(refusals) < _TRIES:
        more = offered(refusals[-1])
        # One change at a time: roles are the narrower one.
        then = how | {"roles": how["roles"] | more.get("roles", {})}
        if then == how and "scheme" in more:
            then = how | {"scheme": more["scheme"]}
        if then == how:
            break
        how = then
        try:
            read(how["scheme"], how["roles"])
            break
        except (ValueError, TypeError) as e:
            refusals.append(str(e))
    if len(refusals) == 1:  # With its type and its place.
        raise first
    raise ValueError(f"\n{AFTER_REMEDY}\n".join(refusals)) from None
